//! `samara seed`: shares files that are here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use daemon::CancellationToken;
use swarm::{AddTorrent, Assume, Engine, EngineConfig, TrackerSpec};
use torrent::{Metainfo, RelPath, Version};

use crate::{
    output,
    progress::Line,
    torrent_command::{layout, metainfo_of, read_metainfo},
    units::parse_bytes,
};

/// Share a file, a folder, or the files of a .torrent.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara seed model.gguf --tracker http://10.0.0.1:6969/announce
  samara seed a.torrent --data downloads/ --upload-limit 16M")]
pub struct SeedArgs {
    /// A file or folder to make a torrent of, or a .torrent whose files are here
    path: PathBuf,
    /// The folder that holds the files of a .torrent
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    data: PathBuf,
    /// Announce URL, besides those of the .torrent; may be given several times
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
    let (metainfo, folder, layout, assume) = what(&args).await?;
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

type What = (Metainfo, PathBuf, Vec<RelPath>, Assume);

/// A .torrent means the files that it names; anything else is hashed, and then known to be complete.
async fn what(args: &SeedArgs) -> Result<What> {
    if args.path.extension().is_some_and(|extension| extension == "torrent") {
        let metainfo = read_metainfo(&args.path)?;
        let layout = layout(&metainfo);
        return Ok((metainfo, args.data.clone(), layout, Assume::Nothing));
    }
    let path = args.path.clone();
    let metainfo =
        tokio::task::spawn_blocking(move || metainfo_of(&path, Version::Hybrid, None, false)).await??;
    if args.path.is_dir() {
        let layout = layout(&metainfo);
        return Ok((metainfo, args.path.clone(), layout, Assume::Complete));
    }
    let name = args.path.file_name().and_then(|name| name.to_str()).context("the path names no file")?;
    let folder = match args.path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((metainfo, folder, vec![RelPath::parse(name)?], Assume::Complete))
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
