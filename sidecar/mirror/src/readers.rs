//! Who reads growing blobs, how far they are, and where readers were cut off.
//!
//! A runtime that was cut off comes back for the same byte, and is then to be sent upstream at once. One that fetches a layer in several
//! ranges at a time (containerd from 2.1 on, if it is told to) gets over an early end of the first of them only: one of a later range cancels
//! the earlier, and the pull has failed. So a reader is cut only when nobody reads an earlier part of the same blob, nor has just been
//! cut there and may still have bytes to take in.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Duration, Instant};

use crate::name::Digest;

/// Cuts that are remembered; the oldest is forgotten first, and costs its reader one more wait.
const MAX_CUTS: usize = 1024;

/// Those of one mirror. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readers(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    /// Bytes that somebody has waited for in vain.
    cuts: VecDeque<Cut>,
    /// The next byte of each reader. As many as there are answers under way.
    positions: HashMap<Digest, HashMap<u64, u64>>,
    next_id: u64,
}

#[derive(Debug)]
struct Cut {
    digest: Digest,
    at: u64,
    when: Instant,
}

/// A reader of a blob, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    readers: Readers,
    digest: Digest,
    id: u64,
}

impl Readers {
    /// Somebody begins to read at this byte.
    pub(crate) fn enter(&self, digest: Digest, at: u64) -> Reader {
        let mut table = self.lock();
        let id = table.next_id;
        table.next_id += 1;
        table.positions.entry(digest).or_default().insert(id, at);
        Reader { readers: self.clone(), digest, id }
    }

    /// Whether who asks for this byte is to go upstream: somebody has waited for it in vain, and nobody reads before it, nor was cut there
    /// less than `grace` ago.
    pub(crate) fn is_given_up(&self, digest: Digest, at: u64, now: Instant, grace: Duration) -> bool {
        let table = self.lock();
        let is_cut = table.cuts.iter().any(|cut| cut.digest == digest && cut.at == at);
        is_cut && !table.is_behind_others(digest, at, now, grace)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn is_behind_others(&self, digest: Digest, at: u64, now: Instant, grace: Duration) -> bool {
        let just_cut = |cut: &Cut| cut.digest == digest && cut.at < at && now < cut.when + grace;
        let of_blob = self.positions.get(&digest);
        of_blob.is_some_and(|readers| readers.values().any(|position| *position < at))
            || self.cuts.iter().any(just_cut)
    }
}

impl Reader {
    /// It has got everything before this byte.
    pub(crate) fn advance(&self, at: u64) {
        let mut table = self.readers.lock();
        if !table.cuts.is_empty() {
            let digest = self.digest;
            table.cuts.retain(|cut| cut.digest != digest || cut.at >= at);
        }
        if let Some(of_blob) = table.positions.get_mut(&self.digest) {
            of_blob.insert(self.id, at);
        }
    }

    /// Whether anybody else reads before this byte, or was cut there less than `grace` ago.
    pub(crate) fn is_behind_others(&self, at: u64, now: Instant, grace: Duration) -> bool {
        self.readers.lock().is_behind_others(self.digest, at, now, grace)
    }

    /// [`Readers::is_given_up`] of this blob.
    pub(crate) fn is_given_up(&self, at: u64, now: Instant, grace: Duration) -> bool {
        self.readers.is_given_up(self.digest, at, now, grace)
    }

    /// It has waited for this byte for as long as one waits.
    pub(crate) fn cut(&self, at: u64, now: Instant) {
        let mut table = self.readers.lock();
        let digest = self.digest;
        table.cuts.retain(|cut| cut.digest != digest || cut.at != at);
        if table.cuts.len() == MAX_CUTS {
            table.cuts.pop_front();
        }
        table.cuts.push_back(Cut { digest, at, when: now });
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut table = self.readers.lock();
        if let Some(of_blob) = table.positions.get_mut(&self.digest) {
            of_blob.remove(&self.id);
            if of_blob.is_empty() {
                table.positions.remove(&self.digest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(20);

    #[test]
    fn a_cut_is_of_one_byte_and_ends_when_it_comes() {
        let (readers, digest, now) = (Readers::default(), Digest::of(b"x"), Instant::now());
        let reader = readers.enter(digest, 5);
        reader.cut(5, now);
        assert!(readers.is_given_up(digest, 5, now, GRACE));
        assert!(!readers.is_given_up(digest, 6, now, GRACE));
        assert!(!readers.is_given_up(Digest::of(b"y"), 5, now, GRACE));
        reader.advance(6);
        assert!(!readers.is_given_up(digest, 5, now, GRACE));
    }

    #[test]
    fn nothing_is_cut_behind_somebody_who_still_reads() {
        let (readers, digest, now) = (Readers::default(), Digest::of(b"x"), Instant::now());
        let (first, second) = (readers.enter(digest, 0), readers.enter(digest, 7));
        second.cut(7, now);
        assert!(second.is_behind_others(7, now, GRACE) && !readers.is_given_up(digest, 7, now, GRACE));
        assert!(!first.is_behind_others(0, now, GRACE));
        first.advance(7);
        assert!(!second.is_behind_others(7, now, GRACE) && readers.is_given_up(digest, 7, now, GRACE));
        let third = readers.enter(digest, 3);
        assert!(!readers.is_given_up(digest, 7, now, GRACE));
        drop(third);
        assert!(readers.is_given_up(digest, 7, now, GRACE));
    }

    #[test]
    fn nor_behind_somebody_who_has_just_been_cut() {
        let (readers, digest, now) = (Readers::default(), Digest::of(b"x"), Instant::now());
        let (first, second) = (readers.enter(digest, 5), readers.enter(digest, 7));
        first.cut(5, now);
        drop(first);
        assert!(second.is_behind_others(7, now + GRACE / 2, GRACE));
        assert!(!second.is_behind_others(7, now + GRACE, GRACE));
        assert!(!second.is_behind_others(5, now, GRACE), "it is the same byte");
    }

    #[test]
    fn the_table_does_not_grow_for_ever() {
        let (readers, digest, now) = (Readers::default(), Digest::of(b"x"), Instant::now());
        let later = now + GRACE;
        let reader = readers.enter(digest, 0);
        for at in 0..=MAX_CUTS as u64 {
            reader.cut(at, now);
        }
        assert_eq!(readers.lock().cuts.len(), MAX_CUTS);
        drop(reader);
        assert!(!readers.is_given_up(digest, 0, later, GRACE), "the oldest is forgotten");
        assert!(readers.is_given_up(digest, MAX_CUTS as u64, later, GRACE));
        assert!(readers.lock().positions.is_empty());
    }
}
