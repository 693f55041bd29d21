//! The side of a stream that listens.

use std::sync::Arc;
use std::time::Duration;

use daemon::CancellationToken;
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::ALIVE;
use super::clock::Offset;
use super::frame::{Frame, Have, Stored, StoredKind, Told};
use super::publish::digest;
use super::request::{RequestError, Sibling};
use super::stream::{Frames, Sink, StreamError};
use crate::limits::{MAX_MANIFEST_BYTES, MAX_METAINFO_BYTES, MAX_REGISTRY_BYTES};
use crate::registry;
use crate::registry::Registration;
use crate::store::{self, Infohash};
use crate::tracker::{State, register};

/// Between two attempts to reach a sibling.
const RETRY: Duration = Duration::from_millis(500);
/// How often what is known here is held against what a sibling knows.
const COMPARE: Duration = Duration::from_mins(1);
/// Stored things that may wait to be fetched; what finds no room is named again at the next comparison.
const MAX_FETCHES: usize = 1_024;

/// Why there is no stream, or no more.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("it is this tracker itself")]
    Itself,
}

/// Listens to a sibling until `stopped`, and comes back whenever the stream breaks.
pub(crate) async fn subscribe_until(state: Arc<State>, sibling: Sibling, stopped: CancellationToken) {
    let mut said = false;
    loop {
        let mut heard = false;
        let ended = tokio::select! {
            () = stopped.cancelled() => return,
            ended = session(&state, &sibling, &mut heard) => ended,
        };
        if heard {
            state.metrics.replication.connected.dec();
        }
        let Err(error) = ended else { continue };
        if matches!(error, SessionError::Itself) {
            tracing::info!(sibling = sibling.name(), "this is the tracker itself, not a sibling");
            return;
        }
        // Once, not twice a second.
        if heard || !said {
            let error = anyhow::Error::new(error);
            tracing::warn!(
                sibling = sibling.name(),
                error = format!("{error:#}"),
                "a sibling is out of reach"
            );
            said = true;
        }
        let jitter = RETRY.mul_f64(rand::random_range(0.0..0.5));
        tokio::select! {
            () = stopped.cancelled() => return,
            () = sleep(RETRY + jitter) => {}
        }
    }
}

/// One stream. `heard` is set when it stands.
async fn session(state: &Arc<State>, sibling: &Sibling, heard: &mut bool) -> Result<(), SessionError> {
    let stream = sibling.subscribe().await?;
    *heard = true;
    state.metrics.replication.connected.inc();
    tracing::info!(sibling = sibling.name(), "listening to a sibling");
    let (fetches, waiting) = mpsc::channel(MAX_FETCHES);
    let listener = Listener { state, sibling, fetches };
    // What is still to be fetched when the stream ends is named again by the next one.
    tokio::select! {
        ended = listener.listen(stream) => ended,
        () = fetch(state, sibling, waiting) => Err(StreamError::Closed.into()),
    }
}

/// What is to be fetched, in order.
enum Fetch {
    Stored(Stored),
    /// Everything before this is what the sibling had when it was asked.
    Current,
}

struct Listener<'s> {
    state: &'s Arc<State>,
    sibling: &'s Sibling,
    fetches: mpsc::Sender<Fetch>,
}

impl Listener<'_> {
    async fn listen<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) -> Result<(), SessionError> {
        let (reader, writer) = split(stream);
        let metrics = &self.state.metrics.replication;
        let mut frames = Frames::new(reader, Arc::clone(metrics));
        let mut sink = Sink::new(writer, Arc::clone(metrics));
        let Frame::Hello { epoch, now, ready } = frames.next().await? else {
            return Err(StreamError::Unexpected.into());
        };
        if epoch == self.state.epoch {
            return Err(SessionError::Itself);
        }
        let mut offset = Offset::new(now, self.state.now());
        let mut served = self.state.directory.changes();
        let mut compare = Instant::now();
        let mut alive = Instant::now() + ALIVE;
        loop {
            tokio::select! {
                frame = frames.next() => match frame? {
                    Frame::Alive(now) => offset = offset.again(now, self.state.now()),
                    frame => self.take(frame, offset, ready).await?,
                },
                () = sleep_until(compare) => {
                    sink.send(&self.have().await).await?;
                    // Not all siblings at once.
                    compare = Instant::now() + COMPARE.mul_f64(rand::random_range(0.9..1.1));
                }
                // Of swarms that were not served here until now, nothing was taken in.
                changed = served.changed() => {
                    changed.map_err(|_| StreamError::Closed)?;
                    compare = Instant::now();
                }
                () = sleep_until(alive) => {
                    sink.send(&Frame::Alive(self.state.now())).await?;
                    alive = Instant::now() + ALIVE;
                }
            }
        }
    }

    async fn have(&self) -> Frame {
        Frame::Have(Box::new(Have {
            stored: self.state.store.fingerprint(),
            swarms: digest(self.state).await,
        }))
    }

    async fn take(&self, frame: Frame, offset: Offset, ready: bool) -> Result<(), StreamError> {
        match frame {
            Frame::Swarms(told) => told.into_iter().for_each(|told| merge(self.state, told, offset)),
            Frame::Registry(digest) => self.copy_registry(digest).await,
            Frame::Stored(stored) => {
                for stored in stored {
                    drop(self.fetches.try_send(Fetch::Stored(stored)));
                }
            }
            // A sibling that has just started itself has nothing to copy.
            Frame::Current if ready => drop(self.fetches.send(Fetch::Current).await),
            Frame::Current | Frame::Alive(_) => {}
            Frame::Hello { .. } | Frame::Have(_) => return Err(StreamError::Unexpected),
        }
        Ok(())
    }

    /// A tracker that has just started serves what its sibling serves, until it hears from the operator.
    async fn copy_registry(&self, digest: [u8; 32]) {
        if !self.state.directory.status().digest.is_empty() {
            return;
        }
        let copied = async {
            let body = self.sibling.get(tracker_api::REGISTRY_CONTENT_PATH, MAX_REGISTRY_BYTES).await?;
            let state = Arc::clone(self.state);
            tokio::task::spawn_blocking(move || register(&state, &body, Registration::OnlyFirst)).await??;
            anyhow::Ok(())
        };
        match copied.await {
            Ok(()) => tracing::info!(digest = hex::encode(digest), "registry copied from a sibling"),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the registry of a sibling cannot be copied");
            }
        }
    }
}

fn merge(state: &State, told: Told, offset: Offset) {
    let Told { name, downloaded, words } = told;
    let now = state.now();
    state.metrics.replication.words.inc_by(words.len() as u64);
    for mut word in words {
        word.peer.seen = offset.ours(word.peer.seen);
        state.directory.merge(name, word, now);
    }
    state.directory.merge_downloaded(name, downloaded);
}

/// Fetches what is named, one after the other, until the stream has ended.
async fn fetch(state: &Arc<State>, sibling: &Sibling, mut waiting: mpsc::Receiver<Fetch>) {
    while let Some(next) = waiting.recv().await {
        let Fetch::Stored(stored) = next else {
            state.copied.send_replace(true);
            continue;
        };
        let name = stored.name.clone();
        match fetch_one(state, sibling, stored).await {
            Ok(true) => tracing::info!(name, sibling = sibling.name(), "copied from a sibling"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(name, error = format!("{error:#}"), "cannot be copied from a sibling");
            }
        }
    }
}

/// Whether something was copied: not if it is here, or if nothing that is registered here wants it.
async fn fetch_one(state: &Arc<State>, sibling: &Sibling, stored: Stored) -> anyhow::Result<bool> {
    if !store::is_wanted(&**state, &stored)
        || state.store.claim(&stored)
        || !state.store.has_room(stored.bytes)
    {
        return Ok(false);
    }
    let Stored { kind, name, revisions, .. } = stored;
    match kind {
        StoredKind::Metainfo => {
            let Some(infohash) = Infohash::parse(&name) else {
                anyhow::bail!("it has no infohash for a name")
            };
            let path = format!("{}{name}", tracker_api::METAINFO_PATH);
            let body = sibling.get(&path, MAX_METAINFO_BYTES).await?;
            let checked =
                tokio::task::spawn_blocking(move || store::check_metainfo(body, infohash)).await??;
            Ok(state.store.put_metainfo(checked, revisions, state.now())?)
        }
        StoredKind::Manifest => {
            let digest = registry::digest(&name)?;
            let path = format!("{}{name}", tracker_api::MANIFESTS_PATH);
            let body = sibling.get(&path, MAX_MANIFEST_BYTES).await?;
            let checked = tokio::task::spawn_blocking(move || store::check_manifest(body, digest)).await??;
            Ok(state.store.put_manifest(checked, revisions, state.now())?)
        }
    }
}
