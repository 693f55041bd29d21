//! What one connection owes its peer: the queue of requests that will be answered.

use std::collections::{BTreeSet, VecDeque};

use crate::wire::{Block, MAX_REQUEST, REQQ};

/// A request that no correct client sends (T26): the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("request {0:?} is outside the piece or of a wrong length")]
pub struct BadRequest(pub Block);

/// The queue of one connection.
#[derive(Debug, Default)]
pub struct UploadQueue {
    queue: VecDeque<Block>,
}

impl UploadQueue {
    /// Checks a request against the length of its piece; `piece_len` is 0 for a piece that does not exist.
    pub fn check(block: Block, piece_len: u32) -> Result<(), BadRequest> {
        let end = u64::from(block.begin) + u64::from(block.len);
        let fits = block.len > 0 && block.len <= MAX_REQUEST && end <= u64::from(piece_len);
        if fits { Ok(()) } else { Err(BadRequest(block)) }
    }

    /// Takes a checked request; `false` if the queue is full and it must be rejected (T27). One that waits already is taken
    /// again: BEP 6 owes an answer to each.
    pub fn push(&mut self, block: Block) -> bool {
        if self.queue.len() >= REQQ as usize {
            return false;
        }
        self.queue.push_back(block);
        true
    }

    /// The peer takes a request back; says whether it was still waiting.
    pub fn cancel(&mut self, block: Block) -> bool {
        let before = self.queue.len();
        if let Some(at) = self.queue.iter().position(|b| *b == block) {
            self.queue.remove(at);
        }
        self.queue.len() < before
    }

    /// The next requests that can be answered now and lie one behind the other in one piece, at most `max` bytes (at least one
    /// request): they are read at once. Those whose blocks are still to come are passed over.
    pub fn next_run(&mut self, max: u32, run: &mut Vec<Block>, is_here: impl Fn(&Block) -> bool) {
        run.clear();
        let mut bytes = 0;
        let Some(first) = self.queue.iter().position(&is_here) else { return };
        while let Some(&block) = self.queue.get(first) {
            let follows = run.last().is_none_or(|last: &Block| {
                let is_next = last.piece == block.piece && last.begin + last.len == block.begin;
                is_next && bytes + block.len <= max && is_here(&block)
            });
            if !follows {
                break;
            }
            bytes += block.len;
            run.push(block);
            self.queue.remove(first);
        }
    }

    /// The pieces of which something is owed, each once.
    pub fn pieces(&self) -> BTreeSet<u32> {
        self.queue.iter().map(|block| block.piece).collect()
    }

    /// Nothing of these pieces will be answered any more; gives the requests back.
    pub fn forget(&mut self, pieces: &BTreeSet<u32>) -> Vec<Block> {
        let (gone, kept): (Vec<Block>, Vec<Block>) =
            self.queue.drain(..).partition(|block| pieces.contains(&block.piece));
        self.queue = kept.into();
        gone
    }

    /// Nothing will be answered any more; gives the requests back.
    pub fn clear(&mut self) -> Vec<Block> {
        self.queue.drain(..).collect()
    }

    /// Whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(piece: u32, begin: u32, len: u32) -> Block {
        Block { piece, begin, len }
    }

    #[test]
    fn t026_requests_outside_the_piece() {
        assert!(UploadQueue::check(block(0, 0, 16384), 20_000).is_ok());
        assert!(UploadQueue::check(block(0, 16384, 3616), 20_000).is_ok());
        for bad in [
            block(0, 0, 0),
            block(0, 0, 16385),
            block(0, 16384, 3617),
            block(0, u32::MAX, 16384),
            block(0, u32::MAX - 16383, 16384),
        ] {
            assert_eq!(UploadQueue::check(bad, 20_000), Err(BadRequest(bad)));
        }
        assert!(UploadQueue::check(block(9, 0, 1), 0).is_err());
    }

    #[test]
    fn t027_a_flood_is_cut_at_the_limit() {
        let mut queue = UploadQueue::default();
        let taken = (0..1_000_000).filter(|i| queue.push(block(0, *i, 1))).count();
        assert_eq!(taken, REQQ as usize);
    }

    #[test]
    fn neighbours_are_read_together() {
        let mut queue = UploadQueue::default();
        let blocks = [block(1, 0, 10), block(1, 10, 10), block(1, 20, 10), block(2, 30, 10)];
        assert!(blocks.iter().all(|b| queue.push(*b)));
        let mut run = Vec::new();
        queue.next_run(20, &mut run, |_| true);
        assert_eq!(run, blocks[..2]);
        queue.next_run(20, &mut run, |_| true);
        assert_eq!(run, blocks[2..3]);
        assert!(queue.cancel(blocks[3]));
        assert!(!queue.cancel(blocks[3]));
        assert!(queue.is_empty());
    }
}
