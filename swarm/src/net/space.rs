//! Space on the disk, taken before the first byte is asked for: what does not fit is said at once, not after hours.
//!
//! First all that is to be written is compared with the room that there is, since a file system that is asked for more than it has
//! gives all that it has before it says no. Then the space of larger files is taken. What is here stays as it is, and pieces of zeros
//! that are holes stay holes: only ranges of pieces that are to be fetched are touched.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::api::Trouble;
use super::storage::{Storage, is_full};
use super::store::{RETRY, blocking};
use super::torrent::Torrent;
use super::zeros::Zeros;
use crate::bitfield::Bitfield;

/// A file that lacks less is not made early: its bytes count as needed, and that is all.
const WORTH_TAKING: u64 = 1 << 20;

/// What one file is to hold.
#[derive(Debug, Default)]
struct Want {
    file: usize,
    /// Of pieces that are to be fetched, neighbours as one.
    ranges: Vec<Range<u64>>,
    /// Their bytes.
    lacking: u64,
    /// Bytes of pieces that are here, without those of zeros.
    filled: u64,
}

impl Torrent {
    /// Nothing is asked for until the space of what is missing is taken by [`take`].
    pub fn await_space(&self) {
        let mut core = self.core();
        if !core.is_complete() {
            core.pause(true);
            self.awaits_space.send_replace(true);
        }
    }

    /// Waits until it is; `false` if the torrent stops before.
    pub async fn has_space(&self) -> bool {
        let mut awaits = self.awaits_space.subscribe();
        tokio::select! {
            taken = awaits.wait_for(|awaits| !*awaits) => taken.is_ok(),
            () = self.stop.cancelled() => false,
        }
    }
}

/// Takes the space of what is missing, and lets the torrent ask for it. While there is too little it says so, and tries again.
pub async fn take(torrent: Arc<Torrent>) {
    while *torrent.awaits_space.borrow() {
        let worker = torrent.clone();
        match blocking(move || reserve(&worker)).await {
            Err(error) if is_full(&error) => torrent.set_trouble(Some(Trouble::DiskFull)),
            outcome => {
                match outcome {
                    Ok(unreserved) => torrent.unreserved.store(unreserved, Ordering::Relaxed),
                    // If it is still so when bytes come, that is the trouble.
                    Err(error) => tracing::debug!(%error, "space cannot be taken"),
                }
                torrent.awaits_space.send_replace(false);
                torrent.resume();
                return torrent.bump();
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = torrent.stop.cancelled() => return,
        }
    }
}

/// Answers the bytes for which no space is taken.
fn reserve(torrent: &Torrent) -> io::Result<u64> {
    let storage = &*torrent.storage;
    let Some(room) = storage.room() else { return Ok(u64::MAX) };
    let (lacking, have) = torrent.core().to_be_written();
    let (mut bytes, mut files) = (0, 0);
    each_want(torrent, &lacking, &have, |want| {
        let occupied = storage.occupies(want.file).unwrap_or_default();
        bytes += want.needs(occupied);
        files += u64::from(occupied.is_none());
        Ok(())
    })?;
    if bytes > room.bytes || files > room.files {
        tracing::debug!(torrent = torrent.subject.name(), bytes, files, ?room, "there is too little room");
        return Err(io::ErrorKind::StorageFull.into());
    }
    let mut unreserved = 0;
    each_want(torrent, &lacking, &have, |want| {
        unreserved += want.lacking - want.take(storage)?;
        Ok(())
    })?;
    Ok(unreserved)
}

impl Want {
    /// Bytes that are still to be found, if the file takes so many of the medium now. What it takes and does not hold was reserved for it
    /// before, or is there to be written over.
    fn needs(&self, occupied: Option<u64>) -> u64 {
        self.lacking.saturating_sub(occupied.unwrap_or_default().saturating_sub(self.filled))
    }

    /// Answers the bytes whose space is taken now.
    fn take(&self, storage: &dyn Storage) -> io::Result<u64> {
        if self.lacking < WORTH_TAKING {
            return Ok(0);
        }
        if self.needs(storage.occupies(self.file).unwrap_or_default()) == 0 {
            return Ok(self.lacking);
        }
        self.ranges.iter().try_fold(0, |taken, range| {
            let len = range.end - range.start;
            Ok(if storage.reserve(self.file, range.start, len)? { taken + len } else { taken })
        })
    }

    fn lacks(&mut self, range: Range<u64>) {
        self.lacking += range.end - range.start;
        match self.ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.ranges.push(range),
        }
    }
}

/// Calls `act` for each file that lacks something, one after the other: there may be a million of them.
fn each_want(
    torrent: &Torrent,
    lacking: &Bitfield,
    have: &Bitfield,
    mut act: impl FnMut(&Want) -> io::Result<()>,
) -> io::Result<()> {
    let (map, zeros) = (torrent.subject.pieces(), Zeros::of(torrent));
    let mut want = Want::default();
    for piece in 0..map.count() {
        let (lacks, has) = (lacking.contains(piece), have.contains(piece) && zeros.file(piece).is_none());
        for segment in map.segments(piece) {
            if segment.file != want.file {
                let whole = std::mem::replace(&mut want, Want { file: segment.file, ..Want::default() });
                if whole.lacking > 0 {
                    act(&whole)?;
                }
            }
            if lacks {
                let (from, len) = (segment.offset_in_file, u64::from(segment.len));
                want.lacks(from..from + len);
            } else if has {
                want.filled += u64::from(segment.len);
            }
        }
    }
    if want.lacking > 0 { act(&want) } else { Ok(()) }
}
