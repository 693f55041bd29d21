//! The leaves of pieces that peers asked for last: a seed hashes each piece once, not once for every peer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::assembly::Leaf;

/// Leaves that one torrent keeps: 2 MiB of them, those of 1 GiB.
const MAX_KEPT: usize = 65_536;

/// What is kept, the oldest first.
#[derive(Debug, Default)]
pub struct Leaves(Mutex<VecDeque<(u32, Arc<[Leaf]>)>>);

impl Leaves {
    /// Those of a piece.
    pub fn of(&self, piece: u32) -> Option<Arc<[Leaf]>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(number, _)| *number == piece).map(|(_, leaves)| leaves.clone())
    }

    /// Keeps those of a piece.
    pub fn keep(&self, piece: u32, leaves: Arc<[Leaf]>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(number, _)| *number != piece);
        kept.push_back((piece, leaves));
        while kept.len() > 1 && kept.iter().map(|(_, leaves)| leaves.len()).sum::<usize>() > MAX_KEPT {
            kept.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let leaves = Leaves::default();
        let some = |count: usize| Arc::from(vec![[1; 32]; count]);
        leaves.keep(1, some(MAX_KEPT / 2));
        leaves.keep(2, some(MAX_KEPT / 2));
        leaves.keep(1, some(MAX_KEPT / 2));
        assert!(leaves.of(1).is_some() && leaves.of(2).is_some());
        leaves.keep(3, some(1));
        assert!(leaves.of(1).is_some() && leaves.of(2).is_none() && leaves.of(3).is_some());
    }
}
