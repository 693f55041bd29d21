//! From a verified piece in memory to a durable one on disk.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::api::Trouble;
use super::ledger::Group;
use super::storage::{is_full, write_piece};
use super::torrent::{Piece, Torrent};
use crate::journal::Record;

/// A group is made durable at the latest after so long...
const GROUP_TIME: Duration = Duration::from_secs(1);
/// ...or so many bytes.
const GROUP_BYTES: u64 = 256 << 20;
/// A write that failed is tried again after so long.
const RETRY: Duration = Duration::from_secs(2);

impl Torrent {
    /// Writes a verified piece once, from the buffer it came in, and announces it. While the disk is full the piece waits
    /// in its buffer, and nothing more is asked for: no byte that was received is lost.
    pub async fn store(self: Arc<Self>, piece: Piece) {
        let piece = Arc::new(piece);
        loop {
            match self.write(&piece).await {
                Ok(files) => return self.stored(piece.piece(), files),
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

    async fn write(self: &Arc<Self>, piece: &Arc<Piece>) -> io::Result<BTreeSet<usize>> {
        let _turn = self.engine.disk.acquire().await;
        let (torrent, piece) = (self.clone(), piece.clone());
        blocking(move || {
            let files =
                write_piece(&*torrent.storage, torrent.metainfo.pieces(), piece.piece(), piece.data())?;
            // Without this record the piece would be fetched again after a crash; that is no reason to fail.
            if let Err(error) = torrent.record(&Record::Written(vec![piece.piece()]), false) {
                tracing::debug!(%error, "a written piece could not be noted in the journal");
            }
            Ok(files)
        })
        .await
    }

    /// A piece is written: it counts.
    fn stored(&self, piece: u32, files: BTreeSet<usize>) {
        self.set_trouble(None);
        let bytes = self.payload(piece);
        let (is_new, complete) = {
            let mut core = self.core();
            core.pause(false);
            (core.arrived(piece), core.is_complete())
        };
        if !is_new {
            self.counters.wasted.fetch_add(bytes, Ordering::Relaxed);
            return;
        }
        let waiting = {
            let mut ledger = self.ledger();
            ledger.written(piece, bytes, files);
            ledger.waiting()
        };
        self.bump();
        drop(self.unshelve(piece));
        if complete || waiting >= GROUP_BYTES {
            self.flush_now.notify_one();
        }
    }

    /// Makes groups durable until the torrent stops, and once more then.
    pub async fn flush_loop(self: Arc<Self>) {
        loop {
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
        let torrent = self.clone();
        let (group, synced) = blocking(move || {
            let synced = torrent.storage.sync(&group.files);
            Ok((group, synced))
        })
        .await
        .unwrap_or_else(|error| (Group::default(), Err(error)));
        match synced {
            Ok(()) => self.synced(group).await,
            Err(error) => self.withdraw_group(&group, &error),
        }
    }

    /// The data is on the medium: say so in the journal.
    async fn synced(self: &Arc<Self>, group: Group) {
        let torrent = self.clone();
        let record = Record::Durable(group.pieces.clone());
        match blocking(move || torrent.record(&record, true)).await {
            Ok(()) => {
                let mut ledger = self.ledger();
                for &piece in &group.pieces {
                    // It may have been withdrawn since.
                    if self.core().have().contains(piece) {
                        ledger.proved(piece, self.payload(piece));
                    }
                }
            }
            Err(error) => {
                self.set_trouble(Some(trouble(&error)));
                self.ledger().put_back(group);
            }
        }
        self.stats_now.notify_one();
    }

    /// After a failed fdatasync nobody knows what is on the medium, and a second one would say yes to anything: the
    /// pieces are fetched again (T71).
    fn withdraw_group(&self, group: &Group, error: &io::Error) {
        self.set_trouble(Some(trouble(error)));
        for &piece in &group.pieces {
            self.withdraw(piece);
        }
    }

    /// A piece cannot be read, or was not made durable: it is fetched again.
    pub fn withdraw(&self, piece: u32) {
        let was_here = self.core().withdraw(piece);
        if !was_here {
            return;
        }
        self.ledger().withdrawn(piece, self.payload(piece));
        if let Err(error) = self.record(&Record::Withdrawn(piece), false) {
            tracing::warn!(piece, %error, "a withdrawn piece could not be noted in the journal");
        }
        self.bump();
        self.dial_now.notify_one();
        self.stats_now.notify_one();
    }

    /// Appends to the journal, if there is one; `durable` waits for the medium.
    fn record(&self, record: &Record, durable: bool) -> io::Result<()> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(journal) = journal.as_mut() else { return Ok(()) };
        journal.append(record)?;
        if durable { journal.sync() } else { Ok(()) }
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
