//! `samara get`: downloads the files of a torrent.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;
use swarm::{AddTorrent, Assume, Engine, EngineConfig, Phase, Selection, TorrentHandle};
use tokio::time::Instant;
use torrent::Metainfo;

use crate::ingest::{self, IngestArgs, Order};
use crate::share::{
    End, LookedUp, NetworkArgs, Remote, Report, Resolved, SelectArgs, Sharing, Signals, WebSeedArgs, Written,
    look_up, parse_limit, resolve, torrent_event,
};
use crate::torrent_command::layout;

/// Download the files of a .torrent or a magnet link, or a file of a web server, by several machines at once.
///
/// Every piece is verified before it counts, and a download that was interrupted goes on where it was. The paths of the files go to
/// standard output when all of them are there.
///
/// Of a file at an http(s) URL that is no .torrent each piece is read once, by one of the machines that run the same command with the same
/// --tracker, and they share it while it is read. Whoever knows the URL and reaches the tracker is trusted to say what the
/// pieces hash to, unless the machines have a secret in common (--secret-file); what the file must be, --sha256 says.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara get a.torrent -o downloads/
  samara get https://example.com/a.torrent -o downloads/ --select '*.safetensors' --select config.json
  samara get 'magnet:?xt=urn:btmh:1220...&tr=http://10.0.0.1:6969/announce' -o downloads/
  samara get a.torrent -o . --peer 10.0.0.1:6881
  samara get a.torrent -o . --web-seed https://example.com/files/
  samara get a.torrent --seed-after=2h --seed-ratio 2

A file of a web server: a tracker on one machine, here 10.0.0.1, and the same `get` on each. It is read once, and all have it:
  samara tracker --public
  samara get https://example.com/model.gguf \\
    --tracker http://10.0.0.1:6969/announce

Nothing else than this digest is kept, whoever said what the pieces hash to (`sha256sum` prints it):
  samara get https://example.com/model.gguf \\
    --tracker http://10.0.0.1:6969/announce \\
    --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

Four of the machines read, each another part, because the server gives each connection a share only:
  samara get https://example.com/model.gguf \\
    --tracker http://10.0.0.1:6969/announce --fetchers 4

Only who has the secret may say what the pieces hash to, and each machine may have a URL of its own, for example a signed one. Make
the secret once, and copy it to all of them (`head -c 32 /dev/urandom > secret`):
  samara get https://example.com/model.gguf \\
    --tracker http://10.0.0.1:6969/announce --secret-file secret

Exit codes:
  0    everything is here, or nobody reads standard output any more, which ends it where it is
  1    it cannot go on; standard error says why, and whether the same command goes on where it was
  2    the command line asks for what cannot be
  130  interrupted by SIGINT: the same command goes on where it was
  143  the same by SIGTERM")]
pub struct GetArgs {
    /// The .torrent: a file, `-` for standard input, an http(s) URL; or a magnet link; or the http(s) URL of any other file
    torrent: String,
    /// The folder to put its files into
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    output: PathBuf,
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// Bytes per second from all peers and web seeds together; from the web server of a file that is no torrent as many again
    #[arg(long, value_name = "BYTES", value_parser = parse_limit)]
    download_limit: Option<u64>,
    #[command(flatten)]
    web_seeds: WebSeedArgs,
    /// Let files take space as they fill, instead of taking it before a byte is asked for
    #[arg(long)]
    sparse: bool,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Hash all that is there already, also what an interrupted download has noted as good
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    sharing: Sharing,
    /// Write the .torrent there when it is known: into a folder, or as that file
    #[arg(long, value_name = "OUT")]
    write_torrent: Option<PathBuf>,
    #[command(flatten)]
    ingest: IngestArgs,
    /// One JSON event a line on standard output: torrent, listening, progress, complete, error
    #[arg(long)]
    pub json: bool,
}

/// Downloads, and returns when everything is verified and on disk, and was shared for as long as asked.
pub async fn run(args: GetArgs) -> Result<()> {
    let mut signals = Signals::listen()?;
    // Standard output has the paths.
    let written = Written::to(args.write_torrent.as_deref(), 1)?;
    let resolved = tokio::select! {
        resolved = resolve(&args.torrent) => resolved?,
        signal = signals.first() => return Err(End::Interrupted(signal).into()),
    };
    // Before anything is opened: what cannot be is said at once.
    args.check_for(&resolved)?;
    let config = EngineConfig {
        download_limit: args.download_limit,
        preallocate: !args.sparse,
        ..args.network.config(args.port)
    };
    let engine = Engine::start(config).await?;
    let mut report = Report::new(args.json);
    let outcome = match resolved {
        Resolved::File(remote) => read(&args, *remote, written, &engine, &mut report, &mut signals).await,
        resolved => download(&args, resolved, written, &engine, &mut report, &mut signals).await,
    };
    report.finish();
    engine.shutdown().await;
    outcome?.remove()
}

impl GetArgs {
    /// Refuses options that mean nothing for what is to be downloaded.
    fn check_for(&self, resolved: &Resolved) -> Result<()> {
        let why = match resolved {
            Resolved::File(_) => self.torrents_only().map(|option| {
                format!("{option} is for torrents, and {} is none", origin::redact(&self.torrent))
            }),
            _ => self
                .ingest
                .given()
                .map(|option| format!("{option} is for files of a web server that are no torrents")),
        };
        if let Some(why) = why {
            return Err(End::Usage(why).into());
        }
        let Resolved::Torrent(metainfo) = resolved else { return Ok(()) };
        self.select.files(metainfo, &[])?;
        let has_trackers = !self.network.trackers(metainfo.trackers()).is_empty();
        if !has_trackers && self.network.peer.is_empty() && self.web_seeds.urls(metainfo).is_empty() {
            let why = "the torrent names no tracker and no web seed: name one with --tracker or --web-seed, or a peer with --peer";
            return Err(End::Usage(why.to_owned()).into());
        }
        Ok(())
    }

    /// An option that was given and means something for torrents only.
    fn torrents_only(&self) -> Option<&'static str> {
        let check = self.check.then_some("--check");
        check.or_else(|| self.select.given()).or_else(|| self.web_seeds.given())
    }
}

/// A file of a web server, by all machines that are told the same.
async fn read(
    args: &GetArgs,
    remote: Remote,
    written: Written<'_>,
    engine: &Engine,
    report: &mut Report,
    signals: &mut Signals,
) -> Result<Leftovers> {
    remote.pace.set(args.download_limit);
    let order = Order {
        remote,
        args: &args.ingest,
        network: &args.network,
        output: &args.output,
        sharing: args.sharing,
        written,
    };
    ingest::get(order, engine, report, signals).await.map(Leftovers::OfFile)
}

/// Finds the torrent, if it is not known, downloads it, and shares it for as long as asked.
async fn download(
    args: &GetArgs,
    resolved: Resolved,
    mut written: Written<'_>,
    engine: &Engine,
    report: &mut Report,
    signals: &mut Signals,
) -> Result<Leftovers> {
    let (LookedUp { metainfo, named, found }, selected) = match resolved {
        Resolved::Torrent(metainfo) => {
            let named = args.network.peer.clone();
            (LookedUp { metainfo: *metainfo, named, found: Vec::new() }, Vec::new())
        }
        Resolved::Link(link) => tokio::select! {
            found = look_up(&link, &args.network, engine, report) => (found?, link.select),
            signal = signals.first() => return Err(End::Interrupted(signal).into()),
        },
        Resolved::File(_) => unreachable!("files are read"),
    };
    written.write(&metainfo)?;
    let metainfo = Arc::new(metainfo);
    let files = args.select.files(&metainfo, &selected)?;
    let leftovers = OfTorrent::of(&metainfo, &args.output);
    let paths = paths(&args.output, &metainfo, files.as_ref());
    report.event(&torrent_event(&metainfo))?;
    report.event(&json!({ "event": "listening", "addresses": engine.addresses() }))?;
    let handle = start(args, engine, &metainfo, named, files, &leftovers).await?;
    handle.suggest_peers(found);
    let index = report.watch_torrent(&metainfo);
    follow(&handle, report, index, signals, &args.sharing, &paths).await?;
    Ok(Leftovers::OfTorrent(leftovers))
}

/// Puts the torrent to work, from what is here already.
async fn start(
    args: &GetArgs,
    engine: &Engine,
    metainfo: &Arc<Metainfo>,
    peers: Vec<SocketAddr>,
    files: Option<BTreeSet<usize>>,
    leftovers: &OfTorrent,
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

/// Where the files will lie that are wanted.
fn paths(output: &Path, metainfo: &Metainfo, files: Option<&BTreeSet<usize>>) -> Vec<String> {
    let layout = layout(metainfo);
    let wanted = |index: &usize| files.is_none_or(|files| files.contains(index));
    let all = layout.iter().enumerate().filter(|(index, _)| wanted(index));
    all.map(|(_, path)| output.join(path.as_str()).display().to_string()).collect()
}

/// What lies in the folder while the download is not done.
enum Leftovers {
    OfTorrent(OfTorrent),
    OfFile(ingest::Place),
}

impl Leftovers {
    fn remove(&self) -> Result<()> {
        match self {
            Self::OfTorrent(leftovers) => leftovers.remove(),
            Self::OfFile(place) => place.tidy(),
        }
    }
}

/// Hidden and named after the torrent.
struct OfTorrent {
    journal: PathBuf,
    parts: PathBuf,
}

impl OfTorrent {
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
