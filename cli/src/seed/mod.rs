//! `samara seed`: shares files that are here.

mod known;
mod prepare;
mod tracker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;
use swarm::net::storage::{Disk, ReadOnly};
use swarm::{AddError, AddTorrent, Assume, Engine, TorrentHandle};
use torrent::Metainfo;

use crate::share::{NetworkArgs, Report, Signals, Written, link, torrent_event};
use known::Known;
use prepare::{Ready, Wanted, prepare};
use tracker::{Tracker, TrackerAt};

/// How often figures are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Share files, folders, and the files of .torrents.
///
/// The files stay where they are and are never written to. Each torrent's magnet link goes to standard output. What was hashed once is not
/// hashed again at the next start, as long as nothing about the files has changed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara seed model.gguf --tracker http://10.0.0.1:6969/announce
  samara seed model.gguf dataset/ --run-tracker --write-torrent .
  samara seed a.torrent b.torrent --data downloads/ --upload-limit 16M
  samara seed model.torrent --data model.gguf

Exit codes:
  0  SIGINT or SIGTERM ended it
  1  it cannot go on; standard error says why
  2  the command line asks for what cannot be")]
pub struct SeedArgs {
    /// Files and folders to make torrents of, and .torrents whose files are here
    #[arg(required = true, value_name = "PATH|TORRENT")]
    paths: Vec<PathBuf>,
    /// The folder that holds the files of the .torrents, or the one file of one, whatever it is called [default: here, else
    /// where the .torrent lies]
    #[arg(short, long, value_name = "PATH")]
    data: Option<PathBuf>,
    #[command(flatten)]
    network: NetworkArgs,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 6881)]
    port: u16,
    /// Run a tracker for any torrent, and name it in what is printed and written [default: port 6969 of the address of --bind]
    #[arg(long, value_name = "IP:PORT", num_args = 0..=1, require_equals = true,
        default_missing_value = CUSTOMARY, value_parser = parse_tracker)]
    run_tracker: Option<TrackerAt>,
    /// Make the torrents that a cluster makes of the same bytes, whatever they are called
    #[arg(long)]
    canonical: bool,
    /// Write the .torrents there, with all trackers: a file for one, a folder for any number
    #[arg(long, value_name = "OUT")]
    write_torrent: Option<PathBuf>,
    /// Hash the files even if they are known
    #[arg(long)]
    check: bool,
    /// Where to remember what was hashed [default: $XDG_STATE_HOME/samara or ~/.local/state/samara]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// One JSON event a line on standard output: torrent, listening, progress, error
    #[arg(long)]
    pub json: bool,
}

/// What `--run-tracker` means without an address.
const CUSTOMARY: &str = "customary";

fn parse_tracker(text: &str) -> Result<TrackerAt, String> {
    if text == CUSTOMARY {
        return Ok(TrackerAt::Customary);
    }
    let address = text.parse().map(TrackerAt::Address);
    address.map_err(|_| format!("`{text}` is no IP:PORT; examples: 10.0.0.1:6969, [::]:6969"))
}

/// Seeds until it is stopped.
pub async fn run(args: SeedArgs) -> Result<()> {
    let written = Written::to(args.write_torrent.as_deref(), args.paths.len())?;
    let mut signals = Signals::listen()?;
    let tracker = match args.run_tracker {
        Some(at) => Some(Tracker::start(at, args.network.bind)?),
        None => None,
    };
    let engine = Engine::start(args.network.config(args.port)).await?;
    let outcome = tokio::select! {
        outcome = seed(&args, &engine, tracker.as_ref(), written) => outcome,
        _ = signals.first() => Ok(()),
    };
    engine.shutdown().await;
    if let Some(tracker) = tracker {
        tracker.stop().await;
    }
    outcome
}

async fn seed(
    args: &SeedArgs,
    engine: &Engine,
    tracker: Option<&Tracker>,
    written: Written<'_>,
) -> Result<()> {
    let mut report = Report::new(args.json);
    let url = tracker.map(Tracker::url);
    for address in engine.addresses() {
        report.result(
            &format!("listening {address}"),
            &json!({ "event": "listening", "address": address, "tracker": url }),
        )?;
    }
    let known = Known::open(args.state.as_deref());
    let mut start = Start { args, known, engine, own_tracker: url, written };
    let mut handles = Vec::with_capacity(args.paths.len());
    for path in &args.paths {
        handles.push(start.add(path, &mut report).await?);
    }
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        for (handle, index) in &handles {
            report.show(*index, &handle.stats())?;
        }
    }
}

/// What the torrents of a start have in common.
struct Start<'a> {
    args: &'a SeedArgs,
    known: Known,
    engine: &'a Engine,
    own_tracker: Option<&'a str>,
    written: Written<'a>,
}

impl Start<'_> {
    /// Makes one torrent known to the engine and to the user.
    async fn add(&mut self, path: &Path, report: &mut Report) -> Result<(TorrentHandle, usize)> {
        let args = self.args;
        let wanted = Wanted {
            path: path.to_owned(),
            data: args.data.clone(),
            canonical: args.canonical,
            check: args.check,
        };
        let known = self.known.clone();
        let mut ready = tokio::task::spawn_blocking(move || prepare(&wanted, &known)).await??;
        ready.metainfo = with_trackers(ready.metainfo, args, self.own_tracker);
        let metainfo = ready.metainfo.clone();
        let written = self.written.write(&metainfo)?;
        let link = link(&metainfo, self.engine).to_string();
        let hashed = ready.hashed;
        let handle = share(ready, args, self.engine)
            .await
            .with_context(|| format!("cannot share {}", path.display()))?;
        let mut event = torrent_event(&metainfo);
        event["path"] = json!(path);
        event["magnet"] = json!(link);
        event["hashed"] = json!(hashed);
        event["torrent"] = json!(written);
        report.result(&link, &event)?;
        Ok((handle, report.watch_torrent(&metainfo)))
    }
}

/// Lets the engine share a torrent from files that it does not write to.
async fn share(ready: Ready, args: &SeedArgs, engine: &Engine) -> Result<TorrentHandle> {
    let disk = Disk::open(&ready.folder, ready.metainfo.files().iter().map(|file| file.size), &ready.layout)?;
    let spec = AddTorrent {
        trackers: args.network.trackers(ready.metainfo.trackers()),
        metainfo: Arc::new(ready.metainfo),
        folder: ready.folder,
        layout: ready.layout,
        journal: None,
        assume: Assume::Complete,
        peers: args.network.peer.clone(),
        web_seeds: Vec::new(),
    };
    match engine.add_with(spec, Arc::new(ReadOnly(disk))).await {
        Err(AddError::Duplicate) => bail!("it is the same torrent as another one that is named"),
        added => Ok(added?),
    }
}

/// The torrent with the trackers of the command line behind its own, each in a tier of its own (BEP 12).
fn with_trackers(metainfo: Metainfo, args: &SeedArgs, own: Option<&str>) -> Metainfo {
    let mut tiers = metainfo.trackers().to_vec();
    for url in args.network.tracker.iter().map(String::as_str).chain(own) {
        if !tiers.iter().flatten().any(|known| known == url) {
            tiers.push(vec![url.to_owned()]);
        }
    }
    metainfo.with_trackers(tiers)
}
