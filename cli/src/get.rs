//! `samara get`: downloads the files of a torrent.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;
use swarm::{AddTorrent, Assume, Engine, EngineConfig, Phase, Selection, Stats, TorrentHandle};
use tokio::time::Instant;
use torrent::Metainfo;

use crate::share::{
    End, NetworkArgs, Report, Resolved, SelectArgs, Signals, WebSeedArgs, look_up, parse_limit, resolve,
    torrent_event,
};
use crate::torrent_command::layout;
use crate::units::parse_duration;

/// Download the files of a .torrent or a magnet link.
///
/// Every piece is verified before it counts, and a download that was interrupted goes on where it was. The paths of the files go to
/// standard output when all of them are there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara get a.torrent -o downloads/
  samara get https://example.com/a.torrent -o downloads/ --select '*.safetensors' --select config.json
  samara get 'magnet:?xt=urn:btmh:1220...&tr=http://10.0.0.1:6969/announce' -o downloads/
  samara get a.torrent -o . --peer 10.0.0.1:6881
  samara get a.torrent -o . --web-seed https://example.com/files/
  samara get a.torrent --seed-after=2h --seed-ratio 2

Exit codes:
  0    everything is here, or nobody reads standard output any more, which ends it where it is
  1    it cannot go on; standard error says why
  2    the command line asks for what cannot be
  130  interrupted by SIGINT: the same command goes on where it was
  143  the same by SIGTERM")]
pub struct GetArgs {
    /// The .torrent: a file, `-` for standard input, an http(s) URL; or a magnet link
    torrent: String,
    /// The folder to put its files into
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// Bytes per second from all peers and web seeds together
    #[arg(long, value_name = "BYTES", value_parser = parse_limit)]
    download_limit: Option<u64>,
    #[command(flatten)]
    web_seeds: WebSeedArgs,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Hash all that is there already, also what an interrupted download has noted as good
    #[arg(long)]
    check: bool,
    /// Go on sharing when it is complete: until it is interrupted, or for so long (90s, 10m, 2h, 1d)
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true,
        default_missing_value = FOREVER, value_parser = parse_share_time)]
    seed_after: Option<ShareTime>,
    /// Go on sharing until R times as much was sent as was to be downloaded; with --seed-after what comes first
    #[arg(long, value_name = "R", value_parser = parse_ratio)]
    seed_ratio: Option<f64>,
    /// One JSON event a line on standard output: torrent, listening, progress, complete, error
    #[arg(long)]
    pub json: bool,
}

/// What `--seed-after` means without a time.
const FOREVER: &str = "forever";

/// How long to go on sharing.
#[derive(Clone, Copy, Debug)]
enum ShareTime {
    Forever,
    For(Duration),
}

fn parse_share_time(text: &str) -> Result<ShareTime, String> {
    if text == FOREVER { Ok(ShareTime::Forever) } else { parse_duration(text).map(ShareTime::For) }
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio: &f64| ratio.is_finite() && *ratio >= 0.0);
    ratio.ok_or_else(|| format!("`{text}` is no ratio; examples: 1, 1.5"))
}

/// Downloads, and returns when everything is verified and on disk, and was shared for as long as asked.
pub async fn run(args: GetArgs) -> Result<()> {
    let mut signals = Signals::listen()?;
    let resolved = tokio::select! {
        resolved = resolve(&args.torrent) => resolved?,
        signal = signals.first() => return Err(End::Interrupted(signal).into()),
    };
    if let Resolved::Torrent(metainfo) = &resolved {
        // Before anything is opened: what cannot be is said at once.
        args.select.files(metainfo, &[])?;
        let has_trackers = !args.network.trackers(metainfo.trackers()).is_empty();
        if !has_trackers && args.network.peer.is_empty() && args.web_seeds.urls(metainfo).is_empty() {
            let why = "the torrent names no tracker and no web seed: name one with --tracker or --web-seed, or a peer with --peer";
            return Err(End::Usage(why.to_owned()).into());
        }
    }
    let config = EngineConfig { download_limit: args.download_limit, ..args.network.config(args.port) };
    let engine = Engine::start(config).await?;
    let mut report = Report::new(args.json);
    let outcome = download(&args, resolved, &engine, &mut report, &mut signals).await;
    report.finish();
    engine.shutdown().await;
    outcome?.remove()
}

/// Finds the torrent, if it is not known, downloads it, and shares it for as long as asked.
async fn download(
    args: &GetArgs,
    resolved: Resolved,
    engine: &Engine,
    report: &mut Report,
    signals: &mut Signals,
) -> Result<Leftovers> {
    let (metainfo, peers, selected) = match resolved {
        Resolved::Torrent(metainfo) => (*metainfo, args.network.peer.clone(), Vec::new()),
        Resolved::Link(link) => tokio::select! {
            found = look_up(&link, &args.network, engine, report) => {
                let (metainfo, peers) = found?;
                (metainfo, peers, link.select)
            }
            signal = signals.first() => return Err(End::Interrupted(signal).into()),
        },
    };
    let metainfo = Arc::new(metainfo);
    let files = args.select.files(&metainfo, &selected)?;
    let leftovers = Leftovers::of(&metainfo, &args.output);
    let paths = paths(&args.output, &metainfo, files.as_ref());
    report.event(&torrent_event(&metainfo))?;
    report.event(&json!({ "event": "listening", "addresses": engine.addresses() }))?;
    let handle = start(args, engine, &metainfo, peers, files, &leftovers).await?;
    let index = report.watch(&metainfo);
    let sharing = Sharing { time: args.seed_after, ratio: args.seed_ratio };
    follow(&handle, report, index, signals, &sharing, &paths).await?;
    Ok(leftovers)
}

/// Puts the torrent to work, from what is here already.
async fn start(
    args: &GetArgs,
    engine: &Engine,
    metainfo: &Arc<Metainfo>,
    peers: Vec<SocketAddr>,
    files: Option<BTreeSet<usize>>,
    leftovers: &Leftovers,
) -> Result<TorrentHandle> {
    std::fs::create_dir_all(&args.output)
        .with_context(|| format!("cannot make {}", args.output.display()))?;
    let torrent = AddTorrent {
        metainfo: metainfo.clone(),
        folder: args.output.clone(),
        layout: layout(metainfo),
        journal: Some(leftovers.journal.clone()),
        trackers: args.network.trackers(metainfo.trackers()),
        assume: if !args.check && leftovers.journal.exists() { Assume::Journal } else { Assume::Nothing },
        peers,
        web_seeds: args.web_seeds.urls(metainfo),
    };
    Ok(match files {
        None => engine.add(torrent).await?,
        Some(files) => {
            let selection = Selection { files, parts: leftovers.parts.clone() };
            engine.add_selected(torrent, &selection).await?
        }
    })
}

/// Shows how it goes until it is complete and was shared for long enough.
async fn follow(
    handle: &TorrentHandle,
    report: &mut Report,
    index: usize,
    signals: &mut Signals,
    sharing: &Sharing,
    paths: &[String],
) -> Result<()> {
    let mut stats = handle.changed();
    let mut complete: Option<Instant> = None;
    loop {
        let now = stats.borrow_and_update().clone();
        report.show(index, &now)?;
        if now.phase == Phase::Complete && complete.is_none() {
            complete = Some(Instant::now());
            let event = json!({ "event": "complete", "files": paths });
            report.result(&paths.join("\n"), &event)?;
        }
        if complete.is_some_and(|since| sharing.is_over(since.elapsed(), &now)) {
            return Ok(());
        }
        tokio::select! {
            signal = signals.first() => return match complete {
                Some(_) => Ok(()),
                None => Err(End::Interrupted(signal).into()),
            },
            changed = stats.changed() => changed.context("the torrent ended")?,
            () = sharing.end(complete) => {}
        }
    }
}

/// What happens when everything is here.
struct Sharing {
    /// `--seed-after`.
    time: Option<ShareTime>,
    /// `--seed-ratio`.
    ratio: Option<f64>,
}

impl Sharing {
    /// Whether it has gone on for long enough.
    fn is_over(&self, shared: Duration, stats: &Stats) -> bool {
        if self.time.is_none() && self.ratio.is_none() {
            return true;
        }
        let long_enough = matches!(self.time, Some(ShareTime::For(time)) if shared >= time);
        let sent_enough =
            self.ratio.is_some_and(|ratio| stats.uploaded as f64 >= ratio * stats.wanted as f64);
        long_enough || sent_enough
    }

    /// Waits for the end of the time.
    async fn end(&self, complete: Option<Instant>) {
        match (complete, self.time) {
            (Some(since), Some(ShareTime::For(time))) => tokio::time::sleep_until(since + time).await,
            _ => std::future::pending().await,
        }
    }
}

/// Where the files will lie that are wanted.
fn paths(output: &Path, metainfo: &Metainfo, files: Option<&BTreeSet<usize>>) -> Vec<String> {
    let layout = layout(metainfo);
    let wanted = |index: &usize| files.is_none_or(|files| files.contains(index));
    let all = layout.iter().enumerate().filter(|(index, _)| wanted(index));
    all.map(|(_, path)| output.join(path.as_str()).display().to_string()).collect()
}

/// What lies in the folder while the download is not done, hidden and named after the torrent.
struct Leftovers {
    journal: PathBuf,
    parts: PathBuf,
}

impl Leftovers {
    fn of(metainfo: &Metainfo, folder: &Path) -> Self {
        let id = metainfo.wire_ids().first().map_or_else(String::new, |id| hex::encode(id.0));
        let named = |what: &str| folder.join(format!(".{id}.samara-{what}"));
        Self { journal: named("journal"), parts: named("parts") }
    }

    fn remove(&self) -> Result<()> {
        for file in [&self.journal, &self.parts] {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", file.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_numbers_that_can_be_reached() {
        assert_eq!(parse_ratio("1.5"), Ok(1.5));
        for wrong in ["", "x", "-1", "inf", "NaN"] {
            assert!(parse_ratio(wrong).is_err(), "{wrong}");
        }
    }
}
