//! From a verified piece in memory to a durable one on disk.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::api::Trouble;
use super::budget::Filling;
use super::ledger::Group;
use super::storage::{is_full, lacks_descriptors, write_piece};
use super::torrent::Torrent;
use crate::journal::Record;

/// A group is made durable at the latest after so long...
const GROUP_TIME: Duration = Duration::from_secs(1);
/// ...or so many bytes.
const GROUP_BYTES: u64 = 256 << 20;
/// A write that failed is tried again after so long.
pub const RETRY: Duration = Duration::from_secs(2);

/// What became of a piece that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// It is here now.
    New,
    /// It was here already.
    Again,
    /// An fdatasync failed meanwhile: nobody knows whether it is on the medium.
    Doubtful,
}

impl Torrent {
    /// Writes a verified piece once, from the buffer it came in, and announces it. While the disk is full the piece waits
    /// in its buffer, and nothing more is asked for: no byte that was received is lost.
    pub async fn store(self: Arc<Self>, number: u32, piece: Filling) {
        if !self.has_space().await {
            return;
        }
        loop {
            let failures = self.ledger().failures();
            match self.write(number, &piece).await {
                Ok(files) => {
                    let counted = self.count(number, files, failures);
                    if counted != Counted::Doubtful {
                        // Before the others look again: they find its memory free.
                        drop(piece);
                        return self.stored(number, counted == Counted::New);
                    }
                }
                Err(error) => {
                    self.set_trouble(Some(trouble(&error)));
                    self.core().pause(true);
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => {}
                        () = self.stop.cancelled() => return,
                    }
                }
            }
        }
    }

    async fn write(self: &Arc<Self>, number: u32, piece: &Filling) -> io::Result<BTreeSet<usize>> {
        let _turn = self.engine.disk.acquire().await;
        let (torrent, piece) = (self.clone(), piece.clone());
        blocking(move || {
            let map = torrent.subject.pieces();
            let files = write_piece(&*torrent.storage, map, number, piece.bytes().as_ref())?;
            // Without this record the piece would be fetched again after a crash; that is no reason to fail.
            if let Err(error) = torrent.record(&Record::Written(vec![number])) {
                tracing::debug!(%error, "a written piece could not be noted in the journal");
            }
            Ok(files)
        })
        .await
    }

    /// A piece is on disk as far as the kernel says, and was put or found there when [`super::ledger::Ledger::failures`] was
    /// `failures`: it counts, and waits for the next fdatasync.
    pub fn count(&self, piece: u32, files: BTreeSet<usize>, failures: u64) -> Counted {
        let bytes = self.payload(piece);
        // Held to the end, so that the piece is in the group before another fdatasync can fail.
        let mut ledger = self.ledger();
        if ledger.failures() != failures {
            return Counted::Doubtful;
        }
        if !self.core().arrived(piece) {
            return Counted::Again;
        }
        ledger.written(piece, bytes, files);
        self.group_begun.notify_one();
        Counted::New
    }

    /// A piece is here: who waits for it looks again.
    pub fn stored(&self, piece: u32, is_new: bool) {
        self.resume();
        self.passed_whole(piece);
        if !is_new {
            self.counters.wasted.fetch_add(self.payload(piece), Ordering::Relaxed);
            return;
        }
        drop(self.unshelve(piece));
        let complete = self.core().is_complete();
        if complete {
            self.clear_shelf();
        }
        self.bump();
        if complete || self.ledger().waiting() >= GROUP_BYTES {
            self.flush_now.notify_one();
        }
    }

    /// Pieces can be written (again).
    pub fn resume(&self) {
        if *self.awaits_space.borrow() {
            return;
        }
        let was_paused = {
            let mut core = self.core();
            let was_paused = core.is_paused();
            core.pause(false);
            was_paused
        };
        if was_paused {
            self.set_trouble(None);
        }
    }

    /// Makes groups durable until the torrent stops, and once more then.
    pub async fn flush_loop(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.group_begun.notified() => {}
                () = self.stop.cancelled() => break,
            }
            tokio::select! {
                () = tokio::time::sleep(GROUP_TIME) => {}
                () = self.flush_now.notified() => {}
                () = self.stop.cancelled() => break,
            }
            self.flush().await;
        }
        self.flush().await;
    }

    /// fdatasync of the data, then the record, then fdatasync of the record.
    pub async fn flush(self: &Arc<Self>) {
        let group = self.ledger().take_group();
        if group.pieces.is_empty() {
            return;
        }
        let (torrent, files) = (self.clone(), group.files.clone());
        match blocking(move || torrent.storage.sync(&files)).await {
            Ok(()) => self.synced(group).await,
            // No fdatasync has failed: the next one hears of all that went wrong (T76).
            Err(error) if lacks_descriptors(&error) => self.not_synced(group, &error),
            Err(error) => self.sync_failed(group, &error).await,
        }
        self.stats_now.notify_one();
    }

    /// The data is on the medium: say so in the journal.
    async fn synced(self: &Arc<Self>, group: Group) {
        let (torrent, pieces) = (self.clone(), group.pieces.clone());
        let record = move || {
            torrent.log_hashes()?;
            torrent.record_durable(&pieces)
        };
        match blocking(record).await {
            Ok(recorded) => {
                self.prove(&recorded);
                // While pieces cannot be written, that is the trouble.
                if !self.core().is_paused() {
                    self.set_trouble(None);
                }
            }
            Err(error) => self.not_synced(group, &error),
        }
    }

    /// The group waits for the next time.
    fn not_synced(&self, group: Group, error: &io::Error) {
        self.set_trouble(Some(trouble(error)));
        self.ledger().put_back(group);
        self.group_begun.notify_one();
    }

    fn prove(&self, pieces: &[u32]) {
        let mut ledger = self.ledger();
        for &piece in pieces {
            // It may have been withdrawn since, or even written anew.
            if self.core().have().contains(piece) && !ledger.waits(piece) {
                ledger.proved(piece, self.payload(piece));
            }
        }
    }

    /// After a failed fdatasync nobody knows what is on the medium, and a second one would say yes to anything: all pieces that
    /// were written before are fetched again (T71).
    async fn sync_failed(self: &Arc<Self>, group: Group, error: &io::Error) {
        self.set_trouble(Some(trouble(error)));
        let pieces = self.ledger().sync_failed(group);
        let torrent = self.clone();
        let withdrawn = blocking(move || {
            torrent.withdraw_all(pieces);
            Ok(())
        });
        if let Err(error) = withdrawn.await {
            tracing::warn!(%error, "pieces could not be withdrawn");
        }
    }
}

fn trouble(error: &io::Error) -> Trouble {
    if is_full(error) { Trouble::DiskFull } else { Trouble::Disk(error.to_string()) }
}

/// Runs what may wait for a disk where waiting is allowed.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
pub(super) mod tests;
