//! libtorrent 2.1.1 downloads from our engine and uploads to it, in every version, single files and trees.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use swarm::{AddTorrent, Assume, Engine, EngineConfig, FindTorrent};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use torrent::{Builder, Limits, Magnet, Metainfo, RelPath, Version};

const PATIENCE: Duration = Duration::from_mins(1);
const PIECE: u64 = 1 << 18;
const VERSIONS: [Version; 3] = [Version::Hybrid, Version::V2, Version::V1];

/// A torrent and its bytes.
struct Payload {
    metainfo: Arc<Metainfo>,
    files: Vec<(RelPath, Vec<u8>)>,
}

impl Payload {
    fn new(version: Version, files: &[(&str, usize)]) -> Result<Self> {
        Self::built(Builder::new(version, PIECE)?, files)
    }

    /// libtorrent keeps the `info` of a private torrent to itself.
    fn public(version: Version, files: &[(&str, usize)]) -> Result<Self> {
        Self::built(Builder::new(version, PIECE)?.named("payload")?.private(false), files)
    }

    fn built(builder: Builder, files: &[(&str, usize)]) -> Result<Self> {
        let filled = |(seed, (path, size)): (usize, &(&str, usize))| {
            Ok((RelPath::parse(path)?, e2e::payload::bytes(seed as u64, *size)))
        };
        let mut made = files.iter().enumerate().map(filled).collect::<Result<Vec<_>>>()?;
        made.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Self { metainfo: Arc::new(e2e::payload::torrent(builder, &made)?), files: made })
    }

    /// Where other clients put the files: below the torrent's name, or under it.
    fn layout(&self) -> Result<Vec<RelPath>> {
        let name = self.metainfo.name();
        self.metainfo
            .files()
            .iter()
            .map(|file| match self.files.len() {
                1 => Ok(RelPath::parse(name)?),
                _ => Ok(RelPath::parse(&format!("{name}/{}", file.path))?),
            })
            .collect()
    }

    fn write(&self, folder: &Path) -> Result<()> {
        for (place, (_, bytes)) in self.layout()?.iter().zip(&self.files) {
            let path = folder.join(place.as_str());
            std::fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
            std::fs::write(path, bytes)?;
        }
        Ok(())
    }

    fn check(&self, folder: &Path) -> Result<()> {
        for (place, (_, bytes)) in self.layout()?.iter().zip(&self.files) {
            ensure!(&std::fs::read(folder.join(place.as_str()))? == bytes, "{place} differs");
        }
        Ok(())
    }

    fn spec(&self, folder: PathBuf, assume: Assume, peers: Vec<SocketAddr>) -> Result<AddTorrent> {
        let (metainfo, layout) = (self.metainfo.clone(), self.layout()?);
        let (trackers, web_seeds) = (Vec::new(), Vec::new());
        Ok(AddTorrent { metainfo, folder, layout, journal: None, trackers, assume, peers, web_seeds })
    }
}

/// A libtorrent peer in a process of its own.
struct Libtorrent {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Libtorrent {
    const ADDRESS: &str = "127.0.0.5";

    async fn start(python: &Path, torrent: &Path, folder: &Path, peers: &[SocketAddr]) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let peers: Vec<_> = peers.iter().map(|peer| json!([peer.ip().to_string(), peer.port()])).collect();
        let job = json!({"listen": Self::ADDRESS, "torrent": torrent, "folder": folder, "peers": peers});
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/interop/peer.py"))
            .arg(job.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        let mut started = Self { child, lines: BufReader::new(stdout).lines(), port: 0 };
        started.port = started.wait_for("listening").await?.parse()?;
        Ok(started)
    }

    /// Waits for a line that starts so, and returns its rest.
    async fn wait_for(&mut self, word: &str) -> Result<String> {
        let line = async {
            while let Some(line) = self.lines.next_line().await? {
                let (first, rest) = line.split_once(' ').unwrap_or((&line, ""));
                if first == word {
                    return Ok(rest.to_owned());
                }
                ensure!(first != "failed", "libtorrent: {rest}");
            }
            bail!("libtorrent ended")
        };
        tokio::time::timeout(PATIENCE, line).await.with_context(|| format!("libtorrent never said {word}"))?
    }

    fn address(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::new(Self::ADDRESS.parse()?, self.port))
    }

    /// Ends it and returns its totals.
    async fn totals(mut self) -> Result<serde_json::Value> {
        drop(self.child.stdin.take());
        let totals = serde_json::from_str(&self.wait_for("totals").await?)?;
        // What it says that it has may still be in its memory.
        tokio::time::timeout(PATIENCE, self.child.wait()).await??;
        Ok(totals)
    }
}

async fn engine() -> Result<Engine> {
    let listen = vec!["127.0.0.1:0".parse()?];
    Ok(Engine::start(EngineConfig { listen, ..EngineConfig::default() }).await?)
}

/// A libtorrent seed that has everything in a folder below `scratch`.
async fn seeding(python: &Path, payload: &Payload, scratch: &Path) -> Result<Libtorrent> {
    let (file, theirs) = (scratch.join("it.torrent"), scratch.join("theirs"));
    std::fs::write(&file, payload.metainfo.encode())?;
    payload.write(&theirs)?;
    let mut seed = Libtorrent::start(python, &file, &theirs, &[]).await?;
    seed.wait_for("complete").await?;
    Ok(seed)
}

/// libtorrent has it, we fetch it.
async fn download(python: &Path, payload: &Payload) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let seed = seeding(python, payload, scratch.path()).await?;
    let engine = engine().await?;
    let ours = scratch.path().join("ours");
    let spec = payload.spec(ours.clone(), Assume::Journal, vec![seed.address()?])?;
    let handle = engine.add(spec).await?;
    let complete = tokio::time::timeout(PATIENCE, handle.wait_complete()).await;
    ensure!(complete == Ok(true), "not complete: {:?}", handle.stats());
    payload.check(&ours)?;
    ensure!(handle.stats().wasted == 0, "wasted {} bytes", handle.stats().wasted);
    engine.shutdown().await;
    seed.totals().await?;
    Ok(())
}

/// libtorrent has it, and we know its hash.
async fn look_up(python: &Path, payload: &Payload, link: &Magnet) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let seed = seeding(python, payload, scratch.path()).await?;
    let engine = engine().await?;
    let (wanted, peers) = (link.into(), vec![seed.address()?]);
    let lookup = engine.find(FindTorrent { wanted, limits: Limits::OWN, trackers: Vec::new(), peers })?;
    let found = tokio::time::timeout(PATIENCE, lookup.found()).await.context("nothing was found")??;
    ensure!(found.metainfo.encode() == payload.metainfo.encode(), "another torrent was found");
    engine.shutdown().await;
    seed.totals().await?;
    Ok(())
}

/// We have it, libtorrent fetches it: by its .torrent, or knowing no more than a link.
async fn upload(python: &Path, payload: &Payload, link: Option<&Magnet>) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("it.torrent");
    std::fs::write(&file, payload.metainfo.encode())?;
    let what = link.map_or(file, |link| PathBuf::from(link.to_string()));
    let (ours, theirs) = (scratch.path().join("ours"), scratch.path().join("theirs"));
    payload.write(&ours)?;
    let engine = engine().await?;
    let handle = engine.add(payload.spec(ours, Assume::Complete, Vec::new())?).await?;
    let mut leech = Libtorrent::start(python, &what, &theirs, engine.addresses()).await?;
    leech.wait_for("complete").await.with_context(|| format!("{:?}", handle.stats()))?;
    let totals = leech.totals().await?;
    payload.check(&theirs)?;
    ensure!(totals["failed"] == 0, "libtorrent found bad bytes: {totals}");
    engine.shutdown().await;
    Ok(())
}

/// What a link may say of a torrent: both hashes, or one.
fn links(metainfo: &Metainfo) -> Vec<Magnet> {
    let (v1, v2) = (metainfo.info_hash_v1(), metainfo.info_hash_v2());
    let link = |v1, v2| Magnet { v1, v2, ..Magnet::default() };
    let mut links = vec![link(v1, v2)];
    if v1.is_some() && v2.is_some() {
        links.extend([link(v1, None), link(None, v2)]);
    }
    links
}

async fn both_ways(what: &str, files: &[(&str, usize)]) -> Result<()> {
    let Some(python) = e2e::python::libtorrent(what, Path::new(env!("CARGO_TARGET_TMPDIR")))? else {
        return Ok(());
    };
    for version in VERSIONS {
        let payload = Payload::new(version, files)?;
        download(&python, &payload)
            .await
            .with_context(|| format!("{version:?}: downloading from libtorrent"))?;
        upload(&python, &payload, None)
            .await
            .with_context(|| format!("{version:?}: uploading to libtorrent"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn single_files_go_both_ways() -> Result<()> {
    both_ways("swarm_libtorrent::single_files", &[("blob", 20 * (1 << 20) + 17)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_go_both_ways() -> Result<()> {
    let files = [
        ("a/empty", 0),
        ("a/one byte", 1),
        ("b/ünïcode.bin", 300_000),
        ("b/deep/er", 5_000_000),
        ("c", PIECE as usize),
        ("d", 3 * PIECE as usize + 1),
    ];
    both_ways("swarm_libtorrent::trees", &files).await
}

#[tokio::test(flavor = "multi_thread")]
async fn links_lead_both_ways() -> Result<()> {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Some(python) = e2e::python::libtorrent("swarm_libtorrent::links", scratch)? else { return Ok(()) };
    // More than one chunk of hashes, and more than one part of `info`.
    let files = [("a/large", 600 * PIECE as usize + 5), ("b", 1), ("c", 2 * PIECE as usize)];
    for version in VERSIONS {
        let payload = Payload::public(version, &files)?;
        for link in links(&payload.metainfo) {
            look_up(&python, &payload, &link).await.with_context(|| format!("{link}: asking libtorrent"))?;
            upload(&python, &payload, Some(&link))
                .await
                .with_context(|| format!("{link}: telling libtorrent"))?;
        }
    }
    Ok(())
}
