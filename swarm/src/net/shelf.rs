//! Half-fetched pieces of connections that gave them up, kept for the next that fetches them.
//!
//! What lies here counts against the budget of all torrents, so it lies here only while it is of use: a piece that has come
//! from elsewhere goes, and when memory runs short everything goes.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::torrent::{Piece, Torrent};

/// Pieces that one torrent keeps.
const MAX_SHELVED: usize = 8;

/// The shelf of one torrent.
#[derive(Debug, Default)]
pub struct Shelf(Mutex<Vec<Piece>>);

impl Shelf {
    fn kept(&self) -> MutexGuard<'_, Vec<Piece>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Torrent {
    /// Keeps a half-fetched piece for whoever fetches it next.
    pub fn shelve(&self, piece: Piece) {
        let mut kept = self.shelf.kept();
        // Under the shelf's lock: what arrives later finds the piece here and takes it away.
        let is_wanted = !self.core().have().contains(piece.piece());
        if is_wanted && piece.received() > 0 && kept.len() < MAX_SHELVED {
            kept.push(piece);
        } else {
            self.wasted(&piece);
        }
    }

    /// What was kept of a piece.
    pub fn unshelve(&self, piece: u32) -> Option<Piece> {
        let mut kept = self.shelf.kept();
        let at = kept.iter().position(|one| one.piece() == piece)?;
        Some(kept.swap_remove(at))
    }

    /// The pieces of which something is kept.
    pub fn shelved(&self) -> Vec<u32> {
        self.shelf.kept().iter().map(Piece::piece).collect()
    }

    /// Drops all that is kept.
    pub fn clear_shelf(&self) {
        for piece in self.shelf.kept().drain(..) {
            self.wasted(&piece);
        }
    }

    /// What was received of a piece is of no use.
    pub fn wasted(&self, piece: &Piece) {
        self.counters.wasted.fetch_add(u64::from(piece.received()), Ordering::Relaxed);
    }
}
