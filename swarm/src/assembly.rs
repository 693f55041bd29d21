//! A piece on its way in: its buffer, which blocks are there, their leaf hashes and who sent them.
//!
//! Blocks are hashed when they arrive, while they are in the cache; when the last one is there, the piece's merkle
//! root costs a few hashes more. Who sent which block is kept until the piece is verified, so that a bad piece can be
//! laid at the right door.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::wire::{BLOCK, Block};

/// SHA-256 of one block: a leaf of BEP 52's tree.
pub type Leaf = [u8; 32];

/// Where the bytes of a piece under way are kept.
pub trait Keep {
    /// Takes a block in at an offset, both within the piece, and answers its hash.
    fn keep(&mut self, begin: u32, block: &[u8]) -> Leaf;
}

impl Keep for Vec<u8> {
    fn keep(&mut self, begin: u32, block: &[u8]) -> Leaf {
        self[begin as usize..begin as usize + block.len()].copy_from_slice(block);
        Sha256::digest(block).into()
    }
}

/// A piece that is being put together in a buffer of type `B`, from peers named by `P`.
#[derive(Debug)]
pub struct Assembly<B, P> {
    piece: u32,
    len: u32,
    buffer: B,
    blocks: Vec<Option<(P, Leaf)>>,
    missing: u32,
    /// What the leaves have to be, once that is known: then each block is proved as it comes.
    proof: Option<Arc<[Leaf]>>,
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is in, and blocks are still missing.
    Accepted,
    /// It is in, and it was the last.
    Complete,
    /// It was there already.
    Duplicate,
    /// It is not a block of this piece (T28).
    NotABlock,
    /// It is not what its proof says, and was not taken.
    Wrong(Leaf),
}

impl<B: Keep, P: Copy + PartialEq> Assembly<B, P> {
    /// An empty piece of `len` bytes, for which `buffer` has room.
    pub fn new(piece: u32, len: u32, buffer: B) -> Self {
        let count = len.div_ceil(BLOCK);
        Self { piece, len, buffer, blocks: vec![None; count as usize], missing: count, proof: None }
    }

    /// Piece number.
    pub fn piece(&self) -> u32 {
        self.piece
    }

    /// Bytes of the piece.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether the piece has no bytes; none does.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes of the piece; those of missing blocks are arbitrary. A block that is [there](Self::has) does not change any more.
    pub fn buffer(&self) -> &B {
        &self.buffer
    }

    /// How many blocks the piece has.
    pub fn block_count(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// Whether block number `index` is there.
    pub fn has(&self, index: u32) -> bool {
        self.blocks.get(index as usize).is_some_and(Option::is_some)
    }

    /// Block number `index` as a request.
    pub fn block(&self, index: u32) -> Block {
        let begin = index * BLOCK;
        Block { piece: self.piece, begin, len: BLOCK.min(self.len - begin) }
    }

    /// Takes a block in and hashes it.
    pub fn put(&mut self, begin: u32, data: &[u8], from: P) -> Put {
        let index = begin / BLOCK;
        let fits = begin.is_multiple_of(BLOCK)
            && (index as usize) < self.blocks.len()
            && data.len() == self.block(index).len as usize;
        if !fits {
            return Put::NotABlock;
        }
        if self.has(index) {
            return Put::Duplicate;
        }
        let leaf = self.buffer.keep(begin, data);
        if self.proof.as_ref().is_some_and(|proof| proof[index as usize] != leaf) {
            return Put::Wrong(leaf);
        }
        self.blocks[index as usize] = Some((from, leaf));
        self.missing -= 1;
        if self.missing == 0 { Put::Complete } else { Put::Accepted }
    }

    /// The right leaves of all blocks have become known. Answers who sent what is there and wrong.
    pub fn prove(&mut self, proof: Arc<[Leaf]>) -> Vec<(P, Leaf)> {
        let there =
            self.blocks.iter().zip(&*proof).filter_map(|(block, right)| Some((block.as_ref()?, right)));
        let wrong = there.filter(|((_, leaf), right)| leaf != *right).map(|(block, _)| *block).collect();
        self.proof = Some(proof);
        wrong
    }

    /// Blocks are taken as they come from now on, and proved when all are there.
    pub fn forget_proof(&mut self) {
        self.proof = None;
    }

    /// Whether each block is proved as it comes.
    pub fn is_proved(&self) -> bool {
        self.proof.is_some()
    }

    /// Whether all blocks are there.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Bytes that are there.
    pub fn received(&self) -> u32 {
        (0..self.block_count()).filter(|i| self.has(*i)).map(|i| self.block(i).len).sum()
    }

    /// The leaves of the blocks that are there, in order.
    pub fn leaves(&self) -> Vec<Leaf> {
        self.blocks.iter().flatten().map(|(_, leaf)| *leaf).collect()
    }

    /// The only peer that sent blocks, if it was one.
    pub fn only_source(&self) -> Option<P> {
        let mut sources = self.blocks.iter().flatten().map(|(from, _)| *from);
        let first = sources.next()?;
        sources.all(|from| from == first).then_some(first)
    }

    /// Who sent which leaf, for the record of a piece that failed.
    pub fn evidence(&self) -> Vec<(P, Leaf)> {
        self.blocks.iter().flatten().copied().collect()
    }

    /// Given the evidence of an earlier attempt and the leaves of one that verified: who lied.
    pub fn liars(evidence: &[(P, Leaf)], truth: &[Leaf]) -> Vec<P> {
        let mut liars: Vec<P> = Vec::new();
        for ((from, leaf), good) in evidence.iter().zip(truth) {
            if leaf != good && !liars.contains(from) {
                liars.push(*from);
            }
        }
        liars
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: u32 = 2 * BLOCK + 100;

    fn assembly() -> Assembly<Vec<u8>, u8> {
        Assembly::new(7, LEN, vec![0; LEN as usize])
    }

    #[test]
    fn blocks_in_any_order_make_the_piece() {
        let mut piece = assembly();
        assert_eq!(piece.put(2 * BLOCK, &[3; 100], 1), Put::Accepted);
        assert_eq!(piece.put(0, &[1; BLOCK as usize], 1), Put::Accepted);
        assert_eq!(piece.put(0, &[9; BLOCK as usize], 2), Put::Duplicate);
        assert_eq!(piece.put(BLOCK, &[2; BLOCK as usize], 1), Put::Complete);
        assert_eq!(piece.only_source(), Some(1));
        assert_eq!(piece.buffer()[..4], [1; 4]);
        assert_eq!(piece.leaves()[2], <Leaf>::from(Sha256::digest([3; 100])));
    }

    #[test]
    fn t028_what_is_no_block_is_not_written() {
        let mut piece = assembly();
        assert_eq!(piece.put(1, &[1; BLOCK as usize], 1), Put::NotABlock);
        assert_eq!(piece.put(0, &[1; 5], 1), Put::NotABlock);
        assert_eq!(piece.put(2 * BLOCK, &[1; BLOCK as usize], 1), Put::NotABlock);
        assert_eq!(piece.put(3 * BLOCK, &[1; BLOCK as usize], 1), Put::NotABlock);
        assert_eq!(piece.put(u32::MAX / BLOCK * BLOCK, &[1; 100], 1), Put::NotABlock);
        assert_eq!(piece.received(), 0);
    }

    #[test]
    fn a_proved_piece_takes_right_blocks_only_and_says_who_sent_wrong_ones_before() {
        let block = [1; BLOCK as usize];
        let leaf = |bytes: &[u8]| Leaf::from(Sha256::digest(bytes));
        let proof: Arc<[Leaf]> = Arc::new([leaf(&block), leaf(&block), leaf(&[3; 100])]);
        let mut piece = assembly();
        piece.put(0, &block, 1);
        assert_eq!(piece.prove(proof.clone()), []);
        let wrong = [66; BLOCK as usize];
        assert_eq!(piece.put(BLOCK, &wrong, 2), Put::Wrong(leaf(&wrong)));
        assert!(!piece.has(1));
        assert_eq!(piece.put(BLOCK, &block, 3), Put::Accepted);
        piece.forget_proof();
        assert_eq!(piece.put(2 * BLOCK, &[4; 100], 3), Put::Complete);
        assert_eq!(piece.prove(proof), [(3, leaf(&[4; 100]))]);
    }

    #[test]
    fn t030_the_liar_among_several_is_found_by_its_block() {
        let mut bad = assembly();
        bad.put(0, &[1; BLOCK as usize], 1);
        bad.put(BLOCK, &[66; BLOCK as usize], 2);
        bad.put(2 * BLOCK, &[3; 100], 3);
        assert_eq!(bad.only_source(), None);
        let mut good = assembly();
        good.put(0, &[1; BLOCK as usize], 4);
        good.put(BLOCK, &[2; BLOCK as usize], 4);
        good.put(2 * BLOCK, &[3; 100], 4);
        assert_eq!(Assembly::<Vec<u8>, u8>::liars(&bad.evidence(), &good.leaves()), [2]);
    }
}
