//! Hashing pieces one by one: files spread over threads as they like, and nothing is read twice.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::merkle::{self, BLOCK, Hash};

/// Zeros to hash padding from, so that none is allocated.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Bytes of the two blocks whose leaves are made together.
const PAIR: usize = 2 * BLOCK as usize;

/// Which hashes to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sides {
    /// SHA-1 of each piece.
    pub v1: bool,
    /// The merkle node of each piece.
    pub v2: bool,
}

impl Sides {
    /// Those that are in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { v1: self.v1 && other.v1, v2: self.v2 && other.v2 }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        !(self.v1 || self.v2)
    }
}

/// The hashes of one piece, of the sides that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PieceHashes {
    /// SHA-1 with the padding that belongs to the piece.
    pub v1: Option<[u8; 20]>,
    /// The node of the piece layer, or the root of a file that is not longer than a piece.
    pub v2: Option<Hash>,
}

/// What a piece is like, as far as its hashes depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Bytes that SHA-1 covers: payload and padding.
    pub padded: u32,
    /// Leaves of the merkle tree of the piece, with missing ones.
    pub leaves: u32,
}

/// Hashes the payload of one piece, its bytes in order, in any portions. Made by [`crate::PieceMap::hasher`].
///
/// What is left out at the end counts as padding: zeros for SHA-1, missing leaves for the merkle tree. A caller that needs to
/// know whether all payload was there counts for itself.
#[derive(Debug, Clone)]
pub struct PieceHasher {
    shape: Shape,
    position: u32,
    v1: Option<Sha1>,
    v2: Option<Leaves>,
}

#[derive(Debug, Clone, Default)]
struct Leaves {
    /// Bytes of the block that is not whole yet.
    filled: usize,
    block: Sha256,
    done: Vec<Hash>,
}

impl PieceHasher {
    pub(crate) fn new(shape: Shape, sides: Sides) -> Self {
        let v2 = sides.v2.then(Leaves::default);
        Self { shape, position: 0, v1: sides.v1.then(Sha1::new), v2 }
    }

    /// The next payload bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.position = self.position.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        // Both hashes go over the same blocks while they are in the nearest cache.
        for blocks in bytes.chunks(PAIR) {
            if let Some(v1) = &mut self.v1 {
                v1.update(blocks);
            }
            if let Some(v2) = &mut self.v2 {
                v2.update(blocks);
            }
        }
    }

    /// The next payload bytes, which are zeros.
    pub fn update_zeros(&mut self, mut count: u32) {
        while count > 0 {
            let now = count.min(ZEROS.len() as u32);
            self.update(&ZEROS[..now as usize]);
            count -= now;
        }
    }

    /// The hashes.
    pub fn finish(mut self) -> PieceHashes {
        let padding = self.shape.padded.saturating_sub(self.position);
        let v2 = self.v2.take().map(|leaves| leaves.root(self.shape.leaves));
        self.update_zeros(padding);
        PieceHashes { v1: self.v1.map(|sha1| sha1.finalize().into()), v2 }
    }
}

impl Leaves {
    fn update(&mut self, mut bytes: &[u8]) {
        if let (0, Some(pair)) = (self.filled, bytes.as_array::<PAIR>()) {
            let (first, second) = pair.split_at(BLOCK as usize);
            self.done.extend(merkle::leaf_pair([first, second]));
            return;
        }
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK as usize - self.filled));
            self.filled += now.len();
            self.block.update(now);
            if self.filled == BLOCK as usize {
                self.close();
            }
            bytes = later;
        }
    }

    fn close(&mut self) {
        self.done.push(self.block.finalize_reset().into());
        self.filled = 0;
    }

    fn root(mut self, leaves: u32) -> Hash {
        if self.filled > 0 {
            self.close();
        }
        merkle::subtree_root(&self.done, 0, leaves.max(1).ilog2())
    }
}
