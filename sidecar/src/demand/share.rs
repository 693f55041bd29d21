//! One blob: shared while it arrives, proved when all of it is here, seeded then.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use mirror::Blob;
use operator_api::{DemandGrant, reason};
use rand::Rng;
use swarm::{GrowTorrent, TorrentHandle};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use torrent::ingest::Outline;

use super::State;
use super::claim::{Claim, ask, tell_ended, tell_failed};
use super::reading::Reading;
use super::withheld::Withheld;
use crate::contents::hex;
use crate::fetch::{FetchError, file_digests};
use crate::images::Arriving;
use crate::jobs::Context;
use crate::store::{Folder, StoreError, remove_tree};

/// How often it is looked whether a blob gets on, and how often who reads it shows itself: three times within its lease, and so that another
/// node goes on before a container runtime stops to wait.
const LOOK: Duration = Duration::from_secs(3);
/// One that has not got on for so long is read by this node if nobody else reads it, though others are said to have it: a node that is new
/// finds them in less.
const STUCK: Duration = Duration::from_secs(9);
/// A blob that does not get on for so long is given up.
const STANDSTILL: Duration = Duration::from_mins(1);
/// One that failed is not asked for again for so long.
const FAILED: Duration = Duration::from_mins(5);
/// One that did not get on.
const STOOD_STILL: Duration = Duration::from_mins(1);

/// How it ended.
#[derive(Debug)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// By itself; nobody is to ask for it before this.
    Failed(Duration),
}

/// Why it ended.
enum Trouble {
    Stopped,
    /// The bytes, or those who say what they are, are wrong.
    Wrong(FetchError),
    /// Something of this node's.
    Here(String),
    StandsStill,
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Here(error.to_string())
    }
}

/// A blob being shared.
pub struct Share {
    /// The world.
    pub context: Arc<Context>,
    /// What it goes by.
    pub claim: Claim,
    /// What the mirror sees of it.
    pub state: watch::Sender<State>,
    /// Ends it.
    pub stop: CancellationToken,
}

impl Share {
    /// Shares it until it is told to stop, or fails. Nothing of it is on the disk then.
    pub async fn run(mut self) -> Ended {
        let folder = self.context.layout.demanded(&hex(self.claim.digest.as_bytes()));
        let Err(trouble) = self.share(&folder).await;
        self.state.send_replace(State::Gone);
        let gone = tokio::task::spawn_blocking(move || remove_tree(folder.path())).await;
        if let Ok(Err(error)) = gone {
            tracing::warn!(blob = %self.claim.digest, %error, "left behind until the next start");
        }
        match trouble {
            Trouble::Stopped => Ended::Stopped,
            Trouble::Wrong(error) => {
                tell_failed(&self.context, &self.claim, &error).await;
                Ended::Failed(FAILED)
            }
            Trouble::Here(why) => {
                tell_ended(&self.context, &self.claim, reason::DISK_ERROR, why).await;
                Ended::Failed(STOOD_STILL)
            }
            Trouble::StandsStill => {
                tracing::info!(blob = %self.claim.digest, "a blob on demand does not get on, and is given up");
                Ended::Failed(STOOD_STILL)
            }
        }
    }

    async fn share(&mut self, folder: &Folder) -> Result<Infallible, Trouble> {
        let handle = self.open(folder).await?;
        let shared = self.grow(folder, &handle).await;
        // Whoever reads it now gets an early end, and goes on upstream.
        self.state.send_replace(State::Gone);
        handle.remove().await;
        shared
    }

    async fn open(&self, folder: &Folder) -> Result<TorrentHandle, Trouble> {
        let made = folder.clone();
        let making = tokio::task::spawn_blocking(move || {
            remove_tree(made.path())?;
            std::fs::create_dir_all(made.data()).map_err(StoreError::io("make", made.path()))
        });
        making.await.map_err(|_| Trouble::Stopped)??;
        let grow = GrowTorrent {
            outline: self.claim.outline.clone(),
            folder: folder.data(),
            journal: folder.journal(),
            trackers: self.context.tracker_specs(),
            peers: Vec::new(),
            held: Vec::new(),
        };
        self.context.engine.grow(&grow).await.map_err(|error| Trouble::Here(error.to_string()))
    }

    async fn grow(&mut self, folder: &Folder, handle: &TorrentHandle) -> Result<Infallible, Trouble> {
        let plan = self.claim.outline.plan().clone();
        let files = plan.files().iter().map(|(path, size)| (path, *size));
        let arriving = Arriving::among(handle, plan.pieces(), files).pop();
        let (_, arriving) = arriving.ok_or_else(|| Trouble::Here("it is no blob".to_owned()))?;
        let (proof, proved) = watch::channel(false);
        let withheld = Withheld::new(arriving.clone(), proved);
        self.state.send_replace(State::Coming(Blob::Growing(Arc::new(withheld))));
        let (mut reading, grant, stop) = (None, self.claim.read.take(), self.stop.clone());
        let arrived = tokio::select! {
            arrived = prove(handle, &self.claim.outline, folder, &self.stop) => arrived,
            Err(trouble) = self.follow(handle, grant, &mut reading) => Err(trouble),
            () = stop.cancelled() => Err(Trouble::Stopped),
        };
        if let Some(reading) = reading {
            reading.end().await;
        }
        arrived?;
        proof.send_replace(true);
        self.state.send_replace(State::Here(arriving));
        let bytes = self.claim.outline.total_size();
        tracing::info!(blob = %self.claim.digest, repository = %self.claim.repository, bytes, "here on demand");
        self.seed(handle).await
    }

    /// Sees to it that somebody reads what nobody has.
    async fn follow(
        &self,
        handle: &TorrentHandle,
        grant: Option<DemandGrant>,
        reading: &mut Option<Reading>,
    ) -> Result<Infallible, Trouble> {
        if let Some(grant) = grant {
            self.read(handle, &grant, reading).await;
        }
        let (mut class, mut token) = (self.context.class.clone(), self.context.session.watch());
        let (mut best, mut since, mut next) = (0, Instant::now(), Instant::now() + LOOK);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                result = result_of(reading.as_mut()) => {
                    if let Err(error) = result {
                        self.read_failed(error, reading).await?;
                    }
                    continue;
                }
                Ok(()) = class.changed() => { handle.set_trackers(self.context.tracker_specs()); continue; }
                Ok(()) = token.changed() => { handle.set_trackers(self.context.tracker_specs()); continue; }
            }
            next = Instant::now() + LOOK + rand::rng().random_range(Duration::ZERO..LOOK / 10);
            let stats = handle.stats();
            if let Some(trouble) = stats.trouble {
                return Err(trouble_of(trouble));
            }
            let grows = stats.have > best;
            (best, since) = if grows { (stats.have, Instant::now()) } else { (best, since) };
            if since.elapsed() >= STANDSTILL {
                return Err(Trouble::StandsStill);
            }
            if reading.is_some() || !grows {
                self.show_life(handle, since.elapsed() >= STUCK, reading).await?;
            }
        }
    }

    /// Asks the operator again: a sign of life of who reads, and the way for another to take its place.
    async fn show_life(
        &self,
        handle: &TorrentHandle,
        stuck: bool,
        reading: &mut Option<Reading>,
    ) -> Result<(), Trouble> {
        match ask(&self.context, &self.claim.repository, &self.claim.digest, stuck).await {
            // What is here was read under a name that counts no more.
            Ok(demanded) if demanded.ingest != self.claim.outline.id().to_string() => {
                return Err(Trouble::StandsStill);
            }
            Ok(demanded) => match (demanded.read, reading.as_mut()) {
                (Some(grant), Some(reading)) => reading.renew(&grant),
                (Some(grant), None) => self.read(handle, &grant, reading).await,
                (None, _) => end(reading).await,
            },
            // Its bytes have proved wrong, or it is not everyone's any more.
            Err(error) if error.is_lost() => return Err(Trouble::StandsStill),
            Err(_) if reading.as_ref().is_some_and(Reading::is_over) => end(reading).await,
            Err(_) => {}
        }
        Ok(())
    }

    async fn read(&self, handle: &TorrentHandle, grant: &DemandGrant, reading: &mut Option<Reading>) {
        match Reading::begin(&self.context, &self.claim, handle, grant, &self.stop) {
            Ok(begun) => *reading = Some(begun),
            Err(error) => tell_failed(&self.context, &self.claim, &error).await,
        }
    }

    /// What one node cannot read, another may; what is wrong is wrong for all.
    async fn read_failed(&self, error: FetchError, reading: &mut Option<Reading>) -> Result<(), Trouble> {
        end(reading).await;
        match error {
            FetchError::Stopped => Ok(()),
            FetchError::Put(swarm::PutError::Stopped) => Err(Trouble::Stopped),
            error @ FetchError::Put(swarm::PutError::Changed { .. } | swarm::PutError::Hashes(_)) => {
                Err(Trouble::Wrong(error))
            }
            error => {
                tell_failed(&self.context, &self.claim, &error).await;
                Ok(())
            }
        }
    }

    async fn seed(&self, handle: &TorrentHandle) -> Result<Infallible, Trouble> {
        let (mut class, mut token) = (self.context.class.clone(), self.context.session.watch());
        let mut stats = handle.changed();
        // A piece that proved wrong comes from others, or not at all.
        let mut lacking: Option<Instant> = None;
        loop {
            let now = stats.borrow_and_update().clone();
            if let Some(trouble) = now.trouble {
                return Err(trouble_of(trouble));
            }
            lacking = (now.have < now.total).then(|| lacking.unwrap_or_else(Instant::now));
            let until = lacking.map(|since| since + STANDSTILL);
            tokio::select! {
                () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                    return Err(Trouble::StandsStill);
                }
                () = self.stop.cancelled() => return Err(Trouble::Stopped),
                Ok(()) = class.changed() => handle.set_trackers(self.context.tracker_specs()),
                Ok(()) = token.changed() => handle.set_trackers(self.context.tracker_specs()),
                changed = stats.changed() => changed.map_err(|_| Trouble::Stopped)?,
            }
        }
    }
}

/// Waits until all of a blob is here, and holds it against its digest.
async fn prove(
    handle: &TorrentHandle,
    outline: &Outline,
    folder: &Folder,
    stop: &CancellationToken,
) -> Result<(), Trouble> {
    let digested = Arc::new(AtomicU64::new(0));
    let found = file_digests(handle, outline, &folder.data(), &digested, stop).await;
    let found = found.map_err(|error| match error {
        FetchError::Stopped => Trouble::Stopped,
        error => Trouble::Here(error.to_string()),
    })?;
    let (found, expected) = (found.first().copied(), outline.digest(0));
    if found == expected {
        return Ok(());
    }
    let text = |digest: Option<[u8; 32]>| digest.map(|digest| hex(&digest)).unwrap_or_default();
    let what = "what the registry gave for the blob".to_owned();
    Err(Trouble::Wrong(FetchError::Digest { what, expected: text(expected), found: text(found) }))
}

fn trouble_of(trouble: swarm::Trouble) -> Trouble {
    match trouble {
        swarm::Trouble::Faulty(fault) => Trouble::Wrong(FetchError::Faulty(fault)),
        other => Trouble::Here(other.to_string()),
    }
}

async fn end(reading: &mut Option<Reading>) {
    if let Some(reading) = reading.take() {
        reading.end().await;
    }
}

async fn result_of(reading: Option<&mut Reading>) -> Result<(), FetchError> {
    match reading {
        Some(reading) => reading.result().await,
        None => std::future::pending().await,
    }
}
