//! `samara get URL` of a file that is no torrent: several machines read it once between them, and share it while they read.

mod args;
mod auto;
mod name;
mod place;
mod reading;
mod spoilt;
mod tries;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use sidecar::fetch::{FetchError, Seat, file_digests};
use swarm::{Engine, Fetcher, GrowTorrent, Phase, Stats, TorrentHandle, Trouble};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use torrent::Metainfo;
use torrent::ingest::{Outline, SigningKey, Warrant};

use crate::share::{
    End, NetworkArgs, Remote, Report, Sharing, Signals, Written, link, plainly, torrent_event,
};

use args::Fetchers;
pub use args::IngestArgs;
use place::Before;
pub use place::Place;
use reading::{Next, Reading, Task, fetcher_name, machine};
use spoilt::{Spoilt, check};
use tries::MOST_FAILURES;

/// How often it is looked whose turn it is.
const LOOK: Duration = Duration::from_millis(100);
/// Peers that need something from here are seen off, unless nothing has gone to them for so long.
const SEEN_OFF: Duration = Duration::from_secs(10);
/// What an error says of what is here.
const RESUMES: &str = "what has come is kept, and the same command goes on where it was";

/// What is asked for.
pub struct Order<'a> {
    /// The file.
    pub remote: Remote,
    /// What was said of it.
    pub args: &'a IngestArgs,
    /// Whom to talk to.
    pub network: &'a NetworkArgs,
    /// The folder to put it into.
    pub output: &'a std::path::Path,
    /// How long to go on sharing.
    pub sharing: Sharing,
    /// Where a .torrent goes.
    pub written: Written<'a>,
}

/// Downloads the file, and returns when it is verified, where it belongs, and was shared for as long as asked. What is left to
/// remove then, when nothing is shared any more, it hands back.
pub async fn get(
    order: Order<'_>,
    engine: &Engine,
    report: &mut Report,
    signals: &mut Signals,
) -> Result<Place> {
    let secret = order.args.secret()?;
    let Remote { url, name, validator, .. } = &order.remote;
    let authority = name::authority(secret.as_deref(), url, validator);
    let outline = Arc::new(name::outline(name, validator, authority.public())?);
    let place = Place::new(order.output, name, outline.id());
    let (opening, size, sha256) = (place.clone(), validator.size, order.args.sha256);
    let before = tokio::task::spawn_blocking(move || opening.open(size, sha256)).await??;
    for other in place.others() {
        report.say(&format!(
            "{} holds a part of {name} as another version or URL of it: remove it, unless another `samara get` is at it",
            other.display()
        ));
    }
    if before == Before::Whole && order.sharing.is_wanted() {
        let file = place.file().display();
        bail!(
            "{file} is there already, and `get` shares only what it gets: `samara seed --canonical {file}` shares it"
        );
    }
    if before == Before::Whole || size == 0 {
        if before == Before::Open {
            if let Err(error) = check(sha256, sha2_of_nothing(), &url_of(url)) {
                place.tidy()?;
                return Err(error.into());
            }
            place.publish_empty()?;
        }
        complete(report, &place, 0)?;
        return Ok(place);
    }
    report.event(&json!({
        "event": "ingest", "ingest": outline.id().to_string(), "name": name.as_str(), "size": size,
        "url": url_of(url), "secret": secret.is_some(),
    }))?;
    report.event(&json!({ "event": "listening", "addresses": engine.addresses() }))?;
    let mut download = Download::start(order, outline, &authority, place, engine, report).await?;
    let outcome = download.run(engine, report, signals).await;
    download.reading.stop().await;
    download.over.cancel();
    if let Err(error) = &outcome
        && error.is::<Spoilt>()
    {
        download.handle.remove().await;
        download.place.tidy()?;
    }
    outcome.map(|()| download.place)
}

fn sha2_of_nothing() -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest([]).into()
}

/// Whether parts of a file can be asked for: the server gives them, and something tells its versions apart.
fn has_parts(remote: &Remote, args: &IngestArgs) -> bool {
    remote.parts && (remote.validator.is_telling() || args.sha256.is_some())
}

fn url_of(url: &str) -> String {
    origin::redact(url)
}

fn complete(report: &Report, place: &Place, origin_bytes: u64) -> Result<()> {
    let path = place.file().display().to_string();
    let event = json!({ "event": "complete", "files": [path], "originBytes": origin_bytes });
    Ok(report.result(&path, &event)?)
}

/// One download.
struct Download<'a> {
    url: String,
    name: String,
    outline: Arc<Outline>,
    handle: TorrentHandle,
    place: Place,
    network: &'a NetworkArgs,
    sharing: Sharing,
    written: Written<'a>,
    sha256: Option<[u8; 32]>,
    reading: Reading,
    /// What was said last of whose turn it is.
    told: Option<Seat>,
    digest: JoinHandle<Result<Vec<[u8; 32]>, FetchError>>,
    over: CancellationToken,
}

impl<'a> Download<'a> {
    async fn start(
        order: Order<'a>,
        outline: Arc<Outline>,
        authority: &SigningKey,
        place: Place,
        engine: &Engine,
        report: &Report,
    ) -> Result<Self> {
        let Order { remote, args, network, sharing, written, .. } = order;
        let grow = GrowTorrent {
            held: Vec::new(),
            outline: Outline::clone(&outline),
            folder: place.data(),
            journal: place.journal(),
            trackers: network.trackers(&[]),
            peers: network.peer.clone(),
        };
        let handle = engine.grow(&grow).await?;
        let me = machine(engine.peer_id());
        let key = SigningKey::from_seed(&rand::random());
        let name = fetcher_name(&me);
        let warrant = Warrant::new(authority, outline.id(), &name, key.public())?;
        let parts = has_parts(&remote, args);
        let fetchers = if parts { args.fetchers() } else { Fetchers::Exactly(1) };
        if matches!(args.fetchers(), Fetchers::Exactly(2..)) && fetchers != args.fetchers() {
            report.say(&format!(
                "{}: the server gives no parts of it, so that one machine reads it",
                remote.name
            ));
        }
        let over = CancellationToken::new();
        let digest = {
            let (handle, outline, data, over) = (handle.clone(), outline.clone(), place.data(), over.clone());
            tokio::spawn(async move { file_digests(&handle, &outline, &data, &Arc::default(), &over).await })
        };
        Ok(Self {
            url: url_of(&remote.url),
            name: remote.name.as_str().to_owned(),
            reading: Reading::new(Task {
                handle: handle.clone(),
                outline: outline.clone(),
                remote,
                fetcher: Fetcher { key, warrant },
                me,
                fetchers,
                parts,
                trackers: network.peer.is_empty().then_some(grow.trackers.len()),
                sha256: args.sha256,
            }),
            outline,
            handle,
            place,
            network,
            sharing,
            written,
            sha256: args.sha256,
            told: None,
            digest,
            over,
        })
    }

    async fn run(&mut self, engine: &Engine, report: &mut Report, signals: &mut Signals) -> Result<()> {
        let index = report.watch(&self.name, &self.outline.id().to_string());
        let metainfo = tokio::select! {
            metainfo = self.until_whole(report, index) => metainfo?,
            signal = signals.first() => return Err(End::Interrupted(signal).into()),
        };
        self.graduate(metainfo, engine, report).await?;
        tokio::select! {
            shared = self.until_shared(report, index) => shared,
            _ = signals.first() => Ok(()),
        }
    }

    /// Reads and shares until everything is here, durable, and has the declared digest.
    async fn until_whole(&mut self, report: &mut Report, index: usize) -> Result<Metainfo> {
        let mut stats = self.handle.changed();
        let mut ticks = tokio::time::interval(LOOK);
        let mut digest = None;
        loop {
            let now = stats.borrow_and_update().clone();
            report.show(index, &now)?;
            if let Some(Trouble::Faulty(fault)) = &now.trouble {
                return Err(Spoilt::Faulty { url: self.url.clone(), what: fault.what.clone() }.into());
            }
            if let Some(digest) = digest.filter(|_| now.phase == Phase::Complete) {
                let grown = self.handle.grown(Some(digest)).context("the torrent has grown")?;
                return Ok(grown?);
            }
            tokio::select! {
                changed = stats.changed() => changed.context("the torrent ended")?,
                _ = ticks.tick() => self.turn(report).await?,
                found = &mut self.digest, if digest.is_none() => {
                    let found = found.context("the digest was not computed")?.map_err(|error| self.failure(error))?;
                    let found = *found.first().context("a file has a digest")?;
                    check(self.sha256, found, &self.url)?;
                    digest = Some(found);
                }
                error = self.reading.failed() => self.reading_failed(error, report)?,
            }
        }
    }

    async fn turn(&mut self, report: &Report) -> Result<()> {
        self.reading.turn().await;
        let seat = self.reading.seat();
        if seat != self.told {
            self.told = seat;
            let (index, of) = (seat.map(|seat| seat.index), seat.map(|seat| seat.of));
            let bytes = self.reading.origin_bytes();
            report.event(&json!({
                "event": "origin", "reads": seat.is_some(), "index": index, "of": of, "originBytes": bytes,
            }))?;
        }
        Ok(())
    }

    /// What others may still be able to read is left to them; without others it cannot go on.
    fn reading_failed(&mut self, error: FetchError, report: &Report) -> Result<()> {
        let asked = match &error {
            FetchError::Origin(origin::OriginError::Changed { .. }) => return Err(self.failure(error)),
            FetchError::Origin(error) => error.retry_after(),
            _ => return Err(self.failure(error)),
        };
        let failure = self.failure(error);
        let next = match self.reading.sit_out(asked) {
            Next::Others => "others read on".to_owned(),
            Next::Later(pause) => format!("it is asked again in {} s", pause.as_secs()),
            Next::Alone => bail!("{failure:#}; {RESUMES}"),
            Next::GivenUp => bail!(
                "{failure:#}; given up after {MOST_FAILURES} tries in a row that brought nothing new, from there or from others; {RESUMES}"
            ),
        };
        let message = format!("{failure:#}; {next}");
        Ok(report.complain(&self.name, &self.outline.id().to_string(), vec![message])?)
    }

    fn failure(&self, error: FetchError) -> anyhow::Error {
        let url = self.url.clone();
        match error {
            FetchError::Origin(origin::OriginError::Changed { what, .. }) => {
                Spoilt::Changed { url, what }.into()
            }
            FetchError::Origin(error) => plainly(error),
            FetchError::Put(swarm::PutError::Changed { .. }) => {
                Spoilt::Differs { url, what: error.to_string() }.into()
            }
            other => other.into(),
        }
    }

    /// It has an infohash now: any client can join. The file goes where it belongs.
    async fn graduate(&mut self, metainfo: Metainfo, engine: &Engine, report: &Report) -> Result<()> {
        let tiers = self.network.tracker.iter().map(|url| vec![url.clone()]).collect();
        let metainfo = Arc::new(metainfo.with_trackers(tiers));
        self.handle.graduate(metainfo.clone()).await?;
        let place = self.place.clone();
        tokio::task::spawn_blocking(move || place.publish()).await??;
        let written = self.written.write(&metainfo)?;
        let mut link = link(&metainfo, engine);
        link.name = Some(self.name.clone());
        let mut event = torrent_event(&metainfo);
        event["ingest"] = json!(self.outline.id().to_string());
        event["magnet"] = json!(link.to_string());
        event["torrent"] = json!(written);
        report.event(&event)?;
        complete(report, &self.place, self.reading.origin_bytes())?;
        if !report.is_json() {
            report.say(&format!("any client can join now: {link}"));
        }
        Ok(())
    }

    /// Shares on for as long as asked, and as long as a peer needs what only those have that could leave.
    async fn until_shared(&mut self, report: &mut Report, index: usize) -> Result<()> {
        let (since, mut sent) = (Instant::now(), (Instant::now(), 0));
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            let now: Stats = self.handle.stats();
            report.show(index, &now)?;
            if now.uploaded != sent.1 {
                sent = (Instant::now(), now.uploaded);
            }
            let needed = self.handle.is_needed() && sent.0.elapsed() < SEEN_OFF;
            if !needed && self.sharing.is_over(since.elapsed(), &now) {
                return Ok(());
            }
            ticks.tick().await;
        }
    }
}
