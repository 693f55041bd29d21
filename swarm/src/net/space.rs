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
        if !*self.awaits_space.borrow() {
            return true;
        }
        let mut awaits = self.awaits_space.subscribe();
        tokio::select! {
            taken = awaits.wait_for(|awaits| !*awaits) => taken.is_ok(),
            () = self.stop.cancelled() => false,
        }
    }
}

/// Takes the space of what is missing, and lets the torrent ask for it. While there is too little it says so, and tries again.
pub async fn take(torrent: Arc<Torrent>) {
    // What the last try needed: a million files are not looked at again before there is so much.
    let mut needed: Option<Needed> = None;
    while *torrent.awaits_space.borrow() {
        let (worker, last) = (torrent.clone(), needed);
        let tried = blocking(move || match last.filter(|last| !last.fits(&*worker.storage)) {
            Some(still) => Ok(Tried::TooLittle(still)),
            None => reserve(&worker),
        });
        match tried.await {
            Ok(Tried::TooLittle(room)) => needed = Some(room),
            // Somebody else has taken it meanwhile.
            Err(error) if is_full(&error) => needed = None,
            outcome => {
                match outcome {
                    Ok(Tried::Taken { unreserved }) => {
                        torrent.unreserved.store(unreserved, Ordering::Relaxed);
                    }
                    // If it is still so when bytes come, that is the trouble.
                    Err(error) => tracing::debug!(%error, "space cannot be taken"),
                    Ok(Tried::TooLittle(_)) => {}
                }
                torrent.awaits_space.send_replace(false);
                torrent.resume();
                return torrent.bump();
            }
        }
        torrent.set_trouble(Some(Trouble::DiskFull));
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = torrent.stop.cancelled() => return,
        }
    }
}

/// What came of a try.
enum Tried {
    /// But for so many bytes, which the file system does not take beforehand.
    Taken { unreserved: u64 },
    /// So much is needed.
    TooLittle(Needed),
}

/// What has to be found on the medium.
#[derive(Clone, Copy, Debug, Default)]
struct Needed {
    bytes: u64,
    files: u64,
}

impl Needed {
    fn fits(&self, storage: &dyn Storage) -> bool {
        storage.room().is_none_or(|room| self.bytes <= room.bytes && self.files <= room.files)
    }
}

fn reserve(torrent: &Torrent) -> io::Result<Tried> {
    let storage = &*torrent.storage;
    if storage.room().is_none() {
        return Ok(Tried::Taken { unreserved: u64::MAX });
    }
    let ((lacking, have), zeros) = (torrent.core().to_be_written(), Zeros::of(torrent));
    let mut needed = Needed::default();
    each_want(torrent, &lacking, &have, &zeros, |want| {
        let occupied = storage.occupies(want.file).unwrap_or_default();
        needed.bytes += want.needs(occupied);
        needed.files += u64::from(occupied.is_none());
        Ok(())
    })?;
    if !needed.fits(storage) {
        tracing::debug!(torrent = torrent.subject.name(), ?needed, "there is too little room");
        return Ok(Tried::TooLittle(needed));
    }
    let mut unreserved = 0;
    each_want(torrent, &lacking, &have, &zeros, |want| {
        let taken = match want.take(storage) {
            Ok(taken) => taken,
            Err(error) if is_full(&error) => return Err(error),
            // Of this file only; when bytes of it come it is said.
            Err(_) => 0,
        };
        unreserved += want.lacking - taken;
        Ok(())
    })?;
    Ok(Tried::Taken { unreserved })
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
    zeros: &Zeros<'_>,
    mut act: impl FnMut(&Want) -> io::Result<()>,
) -> io::Result<()> {
    let map = torrent.subject.pieces();
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
