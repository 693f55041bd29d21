//! The flash crowd: one seed behind a link, many leechers that all begin at once.
//!
//! *Time* is until the last leecher has verified everything, over that of one plain GET of the same bytes over the same link in the
//! same round. *Copies* are bytes that the seed's link sent over those of that GET: what the seed had to send again.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use torrent::{Builder, Metainfo, RelPath, Version};

use super::report::{Report, Run};
use super::swarm::{Payload, Peer, System};
use crate::cluster::process::{Daemon, output};
use crate::cluster::{Hosts, until};
use crate::origin::{Content, Origin};

/// The tracker's host, the seed's, and the first leecher's.
const TRACKER: usize = 0;
const SEED: usize = 1;
const LEECHERS: usize = 2;
/// The same for all systems.
const PIECE: u64 = 1 << 20;

/// How it is to be.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct FlashCrowd {
    /// How many leechers.
    #[arg(long, default_value_t = 8)]
    pub leechers: usize,
    /// The seed's link, in bytes per second each way.
    #[arg(long, default_value_t = 16_000_000)]
    pub rate: u64,
    /// Give the leechers links of the same rate instead of links without limit.
    #[arg(long)]
    pub equal: bool,
    /// The payload, in MiB.
    #[arg(long, default_value_t = 256)]
    pub size: u64,
    /// Rounds; in each, every system runs once.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
}

/// The programs that take part.
struct Programs {
    origin: PathBuf,
    tracker: PathBuf,
    systems: [System; 2],
}

impl Programs {
    fn build() -> Result<Option<Self>> {
        let bins = ["--bin", "samara", "--bin", "samara-tracker"];
        let args = [&["build", "--quiet", "--locked", "--release", "--workspace"], &bins[..]].concat();
        xtask::tools::run(&mut xtask::tools::cargo(&args))?;
        let folder = xtask::tools::target().join("release");
        let Some(python) = crate::python::libtorrent("flash crowd", &xtask::tools::target().join("tmp"))?
        else {
            return Ok(None);
        };
        Ok(Some(Self {
            origin: crate::origin::binary()?,
            tracker: folder.join("samara-tracker"),
            systems: [System::Samara(folder.join("samara")), System::Libtorrent(python)],
        }))
    }
}

/// Runs it; `None` if this machine has no libtorrent to compare with.
pub async fn flash_crowd(shape: FlashCrowd) -> Result<Option<Report>> {
    let Some(programs) = tokio::task::spawn_blocking(Programs::build).await?? else { return Ok(None) };
    let hosts = Hosts::start(LEECHERS + shape.leechers).await?;
    hosts.host(SEED).0.limit(Some(shape.rate), Some(shape.rate)).await?;
    for index in (LEECHERS..LEECHERS + shape.leechers).filter(|_| shape.equal) {
        hosts.host(index).0.limit(Some(shape.rate), Some(shape.rate)).await?;
    }
    let url = format!("http://{}:6969/announce", hosts.host(TRACKER).1);
    let folder = hosts.dir().join("seed");
    let metainfo = make_payload(&folder, shape.size << 20)?.with_trackers(vec![vec![url.clone()]]);
    let torrent = hosts.dir().join("it.torrent");
    std::fs::write(&torrent, metainfo.encode())?;
    let payload = Payload { torrent: &torrent, tracker: &url, folder: &folder };

    let mut report = Report {
        what: format!(
            "{} MiB, one seed at {:.0} MB/s, {} leechers {}",
            shape.size,
            shape.rate as f64 / 1e6,
            shape.leechers,
            if shape.equal { "with the same links" } else { "without limit" }
        ),
        plain_get: Vec::new(),
        systems: programs.systems.iter().map(|system| (system.name(), Vec::new())).collect(),
    };
    for round in 0..shape.runs {
        let (seconds, sent) = plain_get(&programs, &hosts, shape.size << 20).await?;
        report.plain_get.push(seconds);
        for (system, (name, runs)) in programs.systems.iter().zip(&mut report.systems) {
            let crowd = crowd(system, &programs, &hosts, &payload, shape.leechers);
            let (time, bytes) = crowd.await.with_context(|| format!("{name}, round {}", round + 1))?;
            runs.push(Run { seconds: time, over_get: time / seconds, copies: bytes as f64 / sent as f64 });
            eprintln!("round {}: {name}: {time:.1} s, plain GET {seconds:.1} s", round + 1);
        }
    }
    Ok(Some(report))
}

/// The payload on the seed's disk, and its torrent.
fn make_payload(folder: &Path, size: u64) -> Result<Metainfo> {
    std::fs::create_dir_all(folder)?;
    let builder = Builder::new(Version::Hybrid, PIECE)?;
    let mut hasher = builder.file_hasher(1);
    let path = folder.join("payload");
    let mut file = std::fs::File::create(&path)?;
    crate::payload::generate(1, size, |chunk| {
        hasher.update(chunk);
        Ok(file.write_all(chunk)?)
    })?;
    let metainfo = builder.build(vec![(RelPath::parse("payload")?, hasher.finish())])?;
    std::fs::rename(&path, folder.join(metainfo.name()))?;
    Ok(metainfo)
}

/// Seconds of one GET from the seed's host, and the bytes that its link sent for it.
async fn plain_get(programs: &Programs, hosts: &Hosts, size: u64) -> Result<(f64, u64)> {
    let (host, address) = hosts.host(SEED);
    // On the seed's link as it is.
    let origin = Origin::start(host.clone(), address, hosts.dir()).await?;
    origin.put("payload", Content::Random { seed: 1, size }).await?;
    let before = host.traffic().await?.sent;
    let mut get = hosts.host(LEECHERS).0.command(&programs.origin);
    get.args(["get", &origin.url("payload")]);
    let start = Instant::now();
    output(get, Duration::from_mins(10)).await?.ok("plain GET")?;
    Ok((start.elapsed().as_secs_f64(), host.traffic().await?.sent - before))
}

/// One system's run: seconds, and the bytes that the seed's link sent.
async fn crowd(
    system: &System,
    programs: &Programs,
    hosts: &Hosts,
    payload: &Payload<'_>,
    leechers: usize,
) -> Result<(f64, u64)> {
    // A new one each time: it is to know nobody of the last round.
    let mut tracker = start_tracker(programs, hosts).await?;
    let _seed = Peer::seed(system, hosts, SEED, payload).await?;
    let folders: Vec<PathBuf> = (0..leechers).map(|n| hosts.dir().join(format!("leecher{n}"))).collect();
    let mut peers = Vec::new();
    for (index, folder) in folders.iter().enumerate() {
        std::fs::create_dir_all(folder)?;
        peers.push(Peer::leech(system, hosts, LEECHERS + index, payload, folder).await?);
    }
    let before = hosts.host(SEED).0.traffic().await?.sent;
    let start = Instant::now();
    for peer in &mut peers {
        peer.go().await?;
    }
    futures::future::try_join_all(peers.iter_mut().map(Peer::done)).await?;
    let seconds = start.elapsed().as_secs_f64();
    let sent = hosts.host(SEED).0.traffic().await?.sent - before;
    drop(peers);
    tracker.kill();
    for folder in folders {
        check(payload, &folder).await?;
        std::fs::remove_dir_all(folder)?;
    }
    Ok((seconds, sent))
}

async fn start_tracker(programs: &Programs, hosts: &Hosts) -> Result<Daemon> {
    let (host, address) = hosts.host(TRACKER);
    let mut command = host.command(&programs.tracker);
    command.args(["--public", "--listen", &format!("{address}:6969")]);
    let mut daemon = Daemon::spawn(command, &hosts.dir().join("tracker.log"))?;
    let url = format!("{address}:6969");
    until("the tracker", Duration::from_secs(10), || {
        let state = daemon.check();
        let (host, url) = (host.clone(), url.clone());
        async move {
            state?;
            let mut probe = host.command("curl");
            probe.args(["--silent", "--fail", &format!("http://{url}/healthz")]);
            Ok(output(probe, Duration::from_secs(5)).await?.success.then_some(()))
        }
    })
    .await?;
    Ok(daemon)
}

/// What the leecher says that it has, it has.
async fn check(payload: &Payload<'_>, folder: &Path) -> Result<()> {
    let name = payload.folder.read_dir()?.next().context("the seed has a file")??.file_name();
    let file = folder.join(&name);
    let found = tokio::task::spawn_blocking(move || crate::payload::sha256_file(&file)).await??;
    ensure!(name.to_string_lossy() == format!("sha256-{found}"), "a leecher has other bytes: {found}");
    Ok(())
}
