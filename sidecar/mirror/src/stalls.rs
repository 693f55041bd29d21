//! Where readers of growing blobs were cut off, so that who comes back for the same bytes is sent upstream at once.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::name::Digest;

/// Cuts that are remembered; the oldest is forgotten first, and costs its reader one more wait.
const MAX_CUTS: usize = 1024;

/// Offsets in blobs that did not come in time.
#[derive(Debug, Default)]
pub(crate) struct Stalls(Mutex<VecDeque<(Digest, u64)>>);

impl Stalls {
    /// A reader has waited for this byte for as long as one waits.
    pub(crate) fn cut(&self, digest: Digest, at: u64) {
        let mut cuts = self.lock();
        if !cuts.contains(&(digest, at)) {
            if cuts.len() == MAX_CUTS {
                cuts.pop_front();
            }
            cuts.push_back((digest, at));
        }
    }

    /// Whether somebody has waited for it in vain.
    pub(crate) fn is_cut(&self, digest: Digest, at: u64) -> bool {
        self.lock().contains(&(digest, at))
    }

    /// The byte is there.
    pub(crate) fn came(&self, digest: Digest, at: u64) {
        let mut cuts = self.lock();
        if !cuts.is_empty() {
            cuts.retain(|cut| *cut != (digest, at));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Digest, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_of_one_byte_and_ends_when_it_comes() {
        let (stalls, digest) = (Stalls::default(), Digest::of(b"x"));
        stalls.cut(digest, 5);
        assert!(stalls.is_cut(digest, 5));
        assert!(!stalls.is_cut(digest, 6));
        assert!(!stalls.is_cut(Digest::of(b"y"), 5));
        stalls.came(digest, 5);
        assert!(!stalls.is_cut(digest, 5));
    }

    #[test]
    fn the_table_does_not_grow_for_ever() {
        let (stalls, digest) = (Stalls::default(), Digest::of(b"x"));
        for at in 0..=MAX_CUTS as u64 {
            stalls.cut(digest, at);
        }
        assert_eq!(stalls.lock().len(), MAX_CUTS);
        assert!(!stalls.is_cut(digest, 0), "the oldest is forgotten");
        assert!(stalls.is_cut(digest, MAX_CUTS as u64));
    }
}
