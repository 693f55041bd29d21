//! The side of a stream that tells.

use std::sync::Arc;

use bytes::Bytes;
use daemon::CancellationToken;
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};

use super::frame::{Frame, Have, Swarms, stored_frames};
use super::stream::{Frames, Sink, StreamError};
use super::{ALIVE, FLUSH};
use crate::directory::{Digest, SHARDS};
use crate::tracker::State;

/// Batches that may wait for a subscriber. One that is further behind is cut off, and gets everything when it comes back.
const MAX_WAITING: usize = 1_024;

/// What is told to all subscribers alike.
#[derive(Clone, Debug)]
pub(crate) struct News(broadcast::Sender<Arc<[Bytes]>>);

impl Default for News {
    fn default() -> Self {
        News(broadcast::channel(MAX_WAITING).0)
    }
}

impl News {
    /// Subscribers at the moment.
    pub fn listeners(&self) -> usize {
        self.0.receiver_count()
    }

    fn tell(&self, frames: Vec<Bytes>) {
        if !frames.is_empty() {
            // Nobody listens: then nobody misses it.
            drop(self.0.send(frames.into()));
        }
    }
}

/// Tells subscribers every [`FLUSH`] what has changed, and once more at the end.
pub(crate) async fn publish_until(state: Arc<State>, stopped: CancellationToken) {
    let mut ticks = interval(FLUSH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let ends = tokio::select! {
            () = stopped.cancelled() => true,
            _ = ticks.tick() => false,
        };
        // Who leaves is remembered as long as there is a sibling that must not bring it back.
        let heard = state.news.listeners() > 0;
        state.directory.replicate(heard || !state.config.siblings.is_empty());
        let mut swarms = Swarms::default();
        state.directory.write_news(&mut swarms);
        let mut frames = swarms.finish();
        frames.extend(stored_frames(&state.store.take_fresh()));
        state.news.tell(frames);
        if ends {
            // The streams to subscribers end after what they were told last.
            state.told.cancel();
            return;
        }
    }
}

/// Tells one subscriber all that there is, and then what changes, until it goes or the tracker has told its last.
pub(crate) async fn publish<S>(state: Arc<State>, stream: S) -> Result<(), StreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (reader, writer) = split(stream);
    let metrics = &state.metrics.replication;
    let (mut frames, mut sink) =
        (Frames::new(reader, Arc::clone(metrics)), Sink::new(writer, Arc::clone(metrics)));
    let ready = state.health.readiness().is_ready();
    sink.send(&Frame::Hello { epoch: state.epoch, now: state.now(), ready }).await?;
    // Before anything is looked at, so that nothing falls between.
    let mut news = state.news.0.subscribe();
    state.directory.replicate(true);
    let mut registry = state.directory.changes();
    let mut has_all = false;
    let mut alive = interval(ALIVE);
    loop {
        tokio::select! {
            () = state.told.cancelled() => break,
            frame = frames.next() => match frame? {
                Frame::Have(have) => {
                    send_differing(&state, &have, !has_all, &mut sink).await?;
                    has_all = true;
                }
                Frame::Alive(_) => {}
                _ => return Err(StreamError::Unexpected),
            },
            batch = news.recv() => match batch {
                Ok(batch) => sink.send_all(&batch).await?,
                Err(RecvError::Lagged(_)) => return Err(StreamError::Stalled),
                Err(RecvError::Closed) => break,
            },
            changed = registry.changed() => {
                if changed.is_err() {
                    break;
                }
                send_registry(&state, &mut sink).await?;
            }
            _ = alive.tick() => sink.send(&Frame::Alive(state.now())).await?,
        }
    }
    // The last that was heard: what stops here goes on there.
    while let Ok(batch) = news.try_recv() {
        sink.send_all(&batch).await?;
    }
    Ok(())
}

/// Sends what differs from what a subscriber has; on a new stream all swarms, since a digest does not tell when peers announced.
async fn send_differing<W: AsyncWrite + Unpin>(
    state: &Arc<State>,
    have: &Have,
    all: bool,
    sink: &mut Sink<W>,
) -> Result<(), StreamError> {
    send_registry(state, sink).await?;
    let ours = digest(state).await;
    let differing: Vec<usize> =
        if all { (0..SHARDS).collect() } else { ours.differing(&have.swarms).collect() };
    for &part in &differing {
        let mut swarms = Swarms::default();
        state.directory.write_part(part, &mut swarms);
        sink.send_all(&swarms.finish()).await?;
    }
    if !all && !differing.is_empty() {
        state.metrics.replication.parts_sent_again.inc_by(differing.len() as u64);
    }
    if state.store.fingerprint() != have.stored {
        sink.send_all(&stored_frames(&state.store.stored())).await?;
    }
    sink.send(&Frame::Current).await
}

async fn send_registry<W: AsyncWrite + Unpin>(state: &State, sink: &mut Sink<W>) -> Result<(), StreamError> {
    let mut digest = [0; 32];
    match hex::decode_to_slice(state.directory.status().digest, &mut digest) {
        Ok(()) => sink.send(&Frame::Registry(digest)).await,
        // There is none yet.
        Err(_) => Ok(()),
    }
}

/// The digest of everything, which takes a moment where there are many peers.
pub(super) async fn digest(state: &Arc<State>) -> Digest {
    let state = Arc::clone(state);
    // It fails only if it panics: then everything differs, and is sent.
    tokio::task::spawn_blocking(move || state.directory.digest()).await.unwrap_or_default()
}
