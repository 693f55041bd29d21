//! `samara get`: downloads the files of a torrent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use daemon::CancellationToken;
use swarm::{AddTorrent, Assume, Engine, EngineConfig, Phase};

use crate::{
    output,
    progress::Line,
    seed::trackers,
    torrent_command::{layout, read_metainfo},
    units::parse_bytes,
};

/// Download the files of a .torrent.
///
/// Every piece is verified before it counts, and a download that was interrupted goes on where it was. The paths of the files go to
/// standard output when all of them are there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara get a.torrent -o downloads/
  samara get a.torrent -o . --peer 10.0.0.1:6881")]
pub struct GetArgs {
    /// The .torrent
    torrent: PathBuf,
    /// The folder to put its files into
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    /// A peer that is known to have it; may be given several times
    #[arg(long, value_name = "IP:PORT")]
    peer: Vec<SocketAddr>,
    /// Announce URL (http, https or udp), besides those of the .torrent; may be given several times
    #[arg(short, long, value_name = "URL")]
    tracker: Vec<String>,
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    bind: std::net::IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Bytes per second from all peers together
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    download_limit: Option<u64>,
    /// Bytes per second to all peers together
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    upload_limit: Option<u64>,
    /// Go on sharing when it is complete
    #[arg(long)]
    seed: bool,
}

/// Downloads, and returns when everything is verified and on disk.
pub async fn run(args: GetArgs, shutdown: CancellationToken) -> Result<()> {
    let metainfo = read_metainfo(&args.torrent)?;
    std::fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot make {}", args.output.display()))?;
    let layout = layout(&metainfo);
    let trackers = trackers(&metainfo, &args.tracker);
    if trackers.is_empty() && args.peer.is_empty() {
        bail!("{} names no tracker: name one with --tracker, or a peer with --peer", args.torrent.display());
    }
    let config = EngineConfig {
        listen: vec![SocketAddr::new(args.bind, args.port)],
        download_limit: args.download_limit,
        upload_limit: args.upload_limit,
        ..EngineConfig::default()
    };
    let id = metainfo.wire_ids().first().map_or_else(String::new, |id| hex::encode(id.0));
    let journal = args.output.join(format!(".{id}.samara-journal"));
    let assume = if journal.exists() { Assume::Journal } else { Assume::Nothing };
    let engine = Engine::start(config).await?;
    let handle = engine
        .add(AddTorrent {
            metainfo: Arc::new(metainfo),
            folder: args.output.clone(),
            layout: layout.clone(),
            journal: Some(journal.clone()),
            trackers,
            assume,
            peers: args.peer,
        })
        .await?;
    let (mut stats, mut line) = (handle.changed(), Line::new());
    let mut complete = false;
    loop {
        let now = stats.borrow_and_update().clone();
        line.show(&now);
        if now.phase == Phase::Complete && !complete {
            complete = true;
            for path in &layout {
                output::result(&args.output.join(path.as_str()).display().to_string())?;
            }
        }
        if complete && !args.seed {
            break;
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            changed = stats.changed() => changed.context("the torrent ended")?,
        }
    }
    line.finish();
    engine.shutdown().await;
    if !complete {
        bail!("interrupted; the same command goes on where it was");
    }
    std::fs::remove_file(&journal).with_context(|| format!("cannot remove {}", journal.display()))
}
