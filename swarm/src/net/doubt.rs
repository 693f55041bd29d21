//! Looking again at pieces that are here: a disk can flip a bit and say nothing (T73).
//!
//! A piece of which one of ours says that it got it wrong is looked at at once. Beside that, one in [`SAMPLE`] of the pieces that peers
//! ask for is, one a second at most: its bytes are read to be sent in any case, so that it costs hashing and no disk. What is not what
//! it was is withdrawn and fetched again. What is given to others than peers is looked at each time ([`TorrentHandle::recheck`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::handle::TorrentHandle;
use super::open::hash_piece;
use super::storage::is_shortage;
use super::store::blocking;
use super::torrent::Torrent;
use crate::core::PeerKey;

/// Of the pieces that peers ask for one in so many is looked at...
const SAMPLE: u32 = 32;
/// ...but no more than one in so long.
const APART: Duration = Duration::from_secs(1);

/// Turns at looking: one piece of a torrent at a time.
#[derive(Debug)]
pub struct Looking {
    turn: Arc<Semaphore>,
    /// When a piece was sampled last, in milliseconds, and one more; 0: never.
    sampled: AtomicU64,
}

impl Default for Looking {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), sampled: AtomicU64::new(0) }
    }
}

impl TorrentHandle {
    /// Hashes a piece that is here once more, for who is about to give its bytes out by another way than to peers: whoever gets them there
    /// may not be able to say that they are wrong. A piece that is not what it was is withdrawn and fetched again; `false` then, and where
    /// it is not here.
    pub async fn recheck(&self, piece: u32) -> bool {
        self.has(piece) && self.torrent.look(piece, None).await
    }
}

impl Torrent {
    /// A piece is about to be sent: it may be looked at.
    pub fn sample(self: &Arc<Self>, piece: u32) {
        let is_idle = || self.looking.turn.available_permits() > 0;
        if rand::random_range(0..SAMPLE) > 0 || !is_idle() || !self.core().have().contains(piece) {
            return;
        }
        let now = self.engine.clock.now().as_millis() as u64 + 1;
        let before = self.looking.sampled.load(Ordering::Relaxed);
        let is_time = before == 0 || now.saturating_sub(before) >= APART.as_millis() as u64;
        let exchanged =
            || self.looking.sampled.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed);
        if is_time && exchanged().is_ok() {
            self.look_at(piece, None);
        }
    }

    /// Looks at a piece soon. `by` says that it is wrong: then nobody gets it meanwhile.
    pub fn look_at(self: &Arc<Self>, piece: u32, by: Option<PeerKey>) {
        if by.is_some() {
            self.bump();
        }
        let torrent = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                _ = torrent.look(piece, by) => {}
                () = torrent.stop.cancelled() => {}
            }
        });
    }

    /// Whether it is good. Who waits for its turn may go away; what has begun goes on to its end, and keeps its turn so long.
    async fn look(self: &Arc<Self>, piece: u32, by: Option<PeerKey>) -> bool {
        let one = self.looking.turn.clone().acquire_owned().await;
        let turn = self.engine.disk.clone().acquire_owned().await;
        let torrent = self.clone();
        let looked = self.tasks.spawn(async move {
            let _turns = (one, turn);
            torrent.look_now(piece, by).await
        });
        let is_good = looked.await.unwrap_or(false);
        if by.is_some() {
            self.bump();
        }
        is_good
    }

    async fn look_now(self: &Arc<Self>, piece: u32, by: Option<PeerKey>) -> bool {
        if !self.core().have().contains(piece) {
            // Somebody has looked meanwhile: it is fetched again, and what is written now is verified as it comes.
            self.core().leave_doubt(piece);
            return false;
        }
        let worker = self.clone();
        let looked = blocking(move || {
            let good = hash_piece(&worker, piece)?;
            if !good && worker.core().have().contains(piece) {
                tracing::warn!(piece, "a piece on disk is not what it was; it is fetched again");
                worker.withdraw_all([piece]);
            }
            Ok(good)
        });
        let looked = looked.await;
        let is_good = matches!(looked, Ok(true));
        match looked {
            Ok(true) => {
                if let Some(by) = by {
                    self.core().found_good(piece, by, self.engine.clock.now());
                }
            }
            Ok(false) => self.core().leave_doubt(piece),
            Err(error) => {
                self.core().leave_doubt(piece);
                if !is_shortage(&error) {
                    self.unreadable(piece, &error);
                }
            }
        }
        is_good
    }
}
