//! `samara seed`: shares files that are here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use daemon::CancellationToken;
use swarm::{AddTorrent, Assume, Engine, EngineConfig, TrackerSpec};
use torrent::{Metainfo, RelPath, Version};

use crate::{
    output,
    progress::Line,
    torrent_command::{canonical, check, layout, places, read_metainfo, sources},
    units::{bytes, parse_bytes},
};

/// Share a file, a folder, or the files of a .torrent.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara seed model.gguf --tracker http://10.0.0.1:6969/announce
  samara seed a.torrent --data downloads/ --upload-limit 16M
  samara seed model.torrent --data model.gguf")]
pub struct SeedArgs {
    /// A file or folder to make a torrent of, or a .torrent whose files are here
    path: PathBuf,
    /// The folder that holds the files of a .torrent, or its one file whatever it is called
    #[arg(short, long, value_name = "PATH", default_value = ".")]
    data: PathBuf,
    /// Announce URL (http, https or udp), besides those of the .torrent; may be given several times
    #[arg(short, long, value_name = "URL")]
    tracker: Vec<String>,
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    bind: std::net::IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 6881)]
    port: u16,
    /// Bytes per second to all peers together
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    upload_limit: Option<u64>,
    /// Write the .torrent that was made there
    #[arg(long, value_name = "FILE")]
    write_torrent: Option<PathBuf>,
}

/// Seeds until it is stopped.
pub async fn run(args: SeedArgs, shutdown: CancellationToken) -> Result<()> {
    let (metainfo, folder, layout) = what(&args).await?;
    if let Some(path) = &args.write_torrent {
        let tiers = args.tracker.iter().map(|url| vec![url.clone()]).collect();
        let bytes = metainfo.clone().with_trackers(tiers).encode();
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let config = EngineConfig {
        listen: vec![SocketAddr::new(args.bind, args.port)],
        upload_limit: args.upload_limit,
        ..EngineConfig::default()
    };
    let engine = Engine::start(config).await?;
    announce(&metainfo, &engine)?;
    let trackers = trackers(&metainfo, &args.tracker);
    let metainfo = Arc::new(metainfo);
    let assume = Assume::Complete;
    let spec = AddTorrent { metainfo, folder, layout, journal: None, trackers, assume, peers: Vec::new() };
    let handle = engine.add(spec).await?;
    let (mut stats, mut line) = (handle.changed(), Line::new());
    loop {
        line.show(&stats.borrow_and_update().clone());
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = stats.changed() => changed.context("the torrent ended")?,
        }
    }
    line.finish();
    engine.shutdown().await;
    Ok(())
}

/// A torrent, and where each of its files lies below a folder.
type What = (Metainfo, PathBuf, Vec<RelPath>);

/// A .torrent means the files that it names, which are checked first; anything else is hashed, and then known to be whole.
async fn what(args: &SeedArgs) -> Result<What> {
    let (path, data) = (args.path.clone(), args.data.clone());
    tokio::task::spawn_blocking(move || {
        if path.extension().is_some_and(|extension| extension == "torrent") {
            return of_torrent(&path, &data);
        }
        let metainfo = canonical(&path, Version::Hybrid)?;
        if path.is_dir() {
            // The only file of a folder is named after its bytes in the torrent, but not on the disk.
            let layout = sources(&path)?.into_iter().map(|source| source.path).collect();
            return Ok((metainfo, path, layout));
        }
        let (folder, name) = split(&path)?;
        Ok((metainfo, folder, vec![name]))
    })
    .await?
}

fn of_torrent(path: &Path, data: &Path) -> Result<What> {
    let metainfo = read_metainfo(path)?;
    output::say(&format!("checking {} of {}", bytes(metainfo.total_size()), data.display()));
    if !check(&metainfo, data)?.is_whole() {
        bail!(
            "{} does not hold all that {} names: `samara torrent verify` says what, `samara get` downloads it",
            data.display(),
            path.display()
        );
    }
    if let ([file], true) = (&places(&metainfo, data)[..], data.is_file()) {
        let (folder, name) = split(file)?;
        return Ok((metainfo, folder, vec![name]));
    }
    let layout = layout(&metainfo);
    Ok((metainfo, data.to_owned(), layout))
}

/// The folder and the name of a file.
fn split(file: &Path) -> Result<(PathBuf, RelPath)> {
    let name = file.file_name().and_then(|name| name.to_str()).context("the path names no file")?;
    let folder = match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((folder, RelPath::parse(name)?))
}

fn announce(metainfo: &Metainfo, engine: &Engine) -> Result<()> {
    if let Some(hash) = metainfo.info_hash_v1() {
        output::result(&format!("infohash v1 {hash}"))?;
    }
    if let Some(hash) = metainfo.info_hash_v2() {
        output::result(&format!("infohash v2 {hash}"))?;
    }
    for address in engine.addresses() {
        output::result(&format!("listening {address}"))?;
    }
    Ok(())
}

/// The trackers of the torrent and those of the command line, each once.
pub fn trackers(metainfo: &Metainfo, more: &[String]) -> Vec<TrackerSpec> {
    let mut urls: Vec<&String> = metainfo.trackers().iter().flatten().chain(more).collect();
    let mut seen = std::collections::HashSet::new();
    urls.retain(|url| seen.insert(*url));
    urls.into_iter().map(|url| TrackerSpec { url: url.clone(), bearer: None, node: None }).collect()
}
