//! The bytes of pieces that are passed on while they come in ([`crate::core`] says which and why).
//!
//! They lie in the buffer of the connection that fetches the piece: what it says is there does not change any more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::budget::Filling;
use super::link::Link;
use super::torrent::{Piece, Torrent};
use crate::assembly::Leaf;
use crate::wire::{BLOCK, Block};

/// So many blocks have to come before those who wait for them are woken: 64 KiB.
const TOGETHER: usize = 4;

/// The pieces of one torrent that are passed on.
#[derive(Debug, Default)]
pub struct Passing {
    pieces: Mutex<BTreeMap<u32, Passed>>,
    /// How many there are, so that it costs nothing to know that there are none.
    count: AtomicUsize,
}

/// Where bytes that are owed are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The piece is not passed on: it is on the disk.
    Disk,
    /// They have been copied.
    Memory,
    /// The piece was given up.
    Nowhere,
}

/// One piece. When it is given up it stays, empty, until it arrives after all: what is owed of it must not be read from the disk.
#[derive(Debug)]
struct Passed {
    leaves: Arc<[Leaf]>,
    buffer: Option<Filling>,
    there: Vec<bool>,
    /// Connections that owe blocks which are still to come.
    waiting: Vec<Arc<Link>>,
}

impl Passing {
    fn pieces(&self) -> MutexGuard<'_, BTreeMap<u32, Passed>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is passed on.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Says of a block whether it can be read now; if it cannot, `link` is woken when there is more of its piece.
    pub fn is_here(&self, block: &Block, link: &Arc<Link>) -> bool {
        let mut pieces = self.pieces();
        let Some(passed) = pieces.get_mut(&block.piece) else { return true };
        let is_here = passed.has(block.begin, block.len);
        if !is_here && !passed.waiting.iter().any(|waiting| Arc::ptr_eq(waiting, link)) {
            passed.waiting.push(link.clone());
        }
        is_here
    }

    /// Copies bytes of a piece.
    pub fn read(&self, piece: u32, begin: u32, into: &mut [u8]) -> Source {
        if self.is_empty() {
            return Source::Disk;
        }
        let buffer = {
            let pieces = self.pieces();
            let Some(passed) = pieces.get(&piece) else { return Source::Disk };
            passed.buffer.clone().filter(|_| passed.has(begin, into.len() as u32))
        };
        let Some(buffer) = buffer else { return Source::Nowhere };
        let bytes = buffer.bytes();
        let Some(bytes) = bytes.as_ref().get(begin as usize..begin as usize + into.len()) else {
            return Source::Nowhere;
        };
        into.copy_from_slice(bytes);
        Source::Memory
    }

    /// The leaves of a piece that is passed on.
    pub fn leaves(&self, piece: u32) -> Option<Arc<[Leaf]>> {
        self.pieces().get(&piece).filter(|passed| passed.buffer.is_some()).map(|passed| passed.leaves.clone())
    }

    fn insert(&self, piece: u32, passed: Passed) {
        let mut pieces = self.pieces();
        let before = pieces.insert(piece, passed);
        self.count.store(pieces.len(), Ordering::Release);
        drop(pieces);
        before.into_iter().for_each(Passed::wake);
    }

    fn remove(&self, piece: u32) {
        let mut pieces = self.pieces();
        let before = pieces.remove(&piece);
        self.count.store(pieces.len(), Ordering::Release);
        drop(pieces);
        before.into_iter().for_each(Passed::wake);
    }
}

impl Passed {
    fn has(&self, begin: u32, len: u32) -> bool {
        let blocks = begin / BLOCK..(begin + len).div_ceil(BLOCK);
        self.buffer.is_some() && blocks.into_iter().all(|block| self.there.get(block as usize) == Some(&true))
    }

    fn wake(self) {
        wake(&self.waiting);
    }
}

fn wake(waiting: &[Arc<Link>]) {
    for link in waiting {
        link.wake.notify_one();
    }
}

impl Torrent {
    /// Begins to pass a piece on; `false` if another connection does.
    pub fn pass_on(&self, piece: &Piece, leaves: Arc<[Leaf]>) -> bool {
        if self.passing.leaves(piece.piece()).is_some() {
            return false;
        }
        let there = (0..piece.block_count()).map(|block| piece.has(block)).collect();
        let buffer = Some(piece.buffer().clone());
        self.passing.insert(piece.piece(), Passed { leaves, buffer, there, waiting: Vec::new() });
        true
    }

    /// A block of such a piece has come, and is right.
    pub fn pass_block(&self, piece: u32, begin: u32) {
        let mut pieces = self.passing.pieces();
        let Some(passed) = pieces.get_mut(&piece) else { return };
        let Some(there) = passed.there.get_mut((begin / BLOCK) as usize) else { return };
        *there = true;
        let count = passed.there.iter().filter(|there| **there).count();
        if count.is_multiple_of(TOGETHER) || count == passed.there.len() {
            let waiting = std::mem::take(&mut passed.waiting);
            drop(pieces);
            wake(&waiting);
        }
    }

    /// The piece is given up. What is owed of it is refused by the conversations. Says whether it was passed on.
    pub fn stop_passing(&self, piece: u32) -> bool {
        let mut pieces = self.passing.pieces();
        let Some(passed) = pieces.get_mut(&piece).filter(|passed| passed.buffer.is_some()) else {
            return false;
        };
        *passed = Passed { leaves: Arc::new([]), buffer: None, there: Vec::new(), waiting: Vec::new() };
        true
    }

    /// The piece is here: what is owed of it is read from the disk.
    pub fn passed_whole(&self, piece: u32) {
        if !self.passing.is_empty() {
            self.passing.remove(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::budget::Budget;

    fn block(begin: u32) -> Block {
        Block { piece: 7, begin, len: BLOCK }
    }

    fn passed(budget: &Budget, there: Vec<bool>) -> Passed {
        let buffer = budget.take(2 * BLOCK as usize).map(Filling::from);
        Passed { leaves: Arc::new([]), buffer, there, waiting: Vec::new() }
    }

    #[test]
    fn what_has_come_is_read_and_what_has_not_is_waited_for() {
        let (passing, budget, link) = (Passing::default(), Budget::new(1 << 20), Arc::new(Link::default()));
        assert!(passing.is_here(&block(0), &link), "it is not passed on: it is on the disk");
        passing.insert(7, passed(&budget, vec![true, false]));
        assert!(passing.is_here(&block(0), &link));
        assert!(!passing.is_here(&block(BLOCK), &link));
        assert!(!passing.is_here(&block(BLOCK), &link));
        assert_eq!(passing.pieces()[&7].waiting.len(), 1);
        let mut bytes = vec![1; BLOCK as usize];
        assert_eq!(passing.read(7, 0, &mut bytes), Source::Memory);
        assert_eq!(passing.read(7, BLOCK, &mut bytes), Source::Nowhere);
        assert_eq!(passing.read(8, 0, &mut bytes), Source::Disk);
        passing.remove(7);
        assert!(passing.is_here(&block(BLOCK), &link) && passing.is_empty());
    }

    #[test]
    fn nothing_is_read_of_a_piece_that_was_given_up() {
        let (passing, budget, link) = (Passing::default(), Budget::new(1 << 20), Arc::new(Link::default()));
        passing.insert(7, Passed { buffer: None, ..passed(&budget, vec![true, true]) });
        assert!(!passing.is_here(&block(0), &link));
        assert_eq!(passing.read(7, 0, &mut [0; 16]), Source::Nowhere);
        assert!(passing.leaves(7).is_none());
    }
}
