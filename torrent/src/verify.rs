//! Proving received bytes, while they are hot.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::merkle::{BLOCK, Hash};
use crate::pieces::PieceHash;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Bytes that cannot be taken as they come. Nothing has been hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The bytes reach over the end of the piece.
    #[error("bytes {offset}+{length} lie outside a piece of {piece}")]
    OutOfRange {
        /// Where they start in the piece.
        offset: u32,
        /// How many.
        length: usize,
        /// Bytes of the piece.
        piece: u32,
    },
    /// v2 hashes whole blocks: bytes must start on 16 KiB and end on one or at the end of the piece.
    #[error("bytes {offset}+{length} are not whole blocks of 16 KiB")]
    NotBlocks {
        /// Where they start in the piece.
        offset: u32,
        /// How many.
        length: usize,
    },
    /// v1 hashes in order: bytes must not lie before what was fed already.
    #[error("SHA-1 has come to byte {position}, got byte {offset}")]
    OutOfOrder {
        /// Where they start in the piece.
        offset: u32,
        /// Where the next ones may start.
        position: u32,
    },
}

/// Hashes the bytes of one piece as they come, and says whether they are the right ones.
///
/// With a v2 side: whole blocks of 16 KiB in any order, a block again replaces what was there. v1-only: in order; what is
/// left out counts as zeros, which are the padding files of BEP 47 (a piece that lacks real bytes does not verify).
#[derive(Debug, Clone)]
pub struct PieceVerifier {
    length: u32,
    side: Side,
}

#[derive(Debug, Clone)]
enum Side {
    V2 { expected: PieceHash, leaves: Vec<Option<Hash>> },
    V1 { expected: [u8; 20], sha1: Sha1, position: u32 },
}

impl PieceVerifier {
    /// Against a node of a v2 piece layer (or the root of a file of one piece). `length`: payload bytes.
    pub fn v2(expected: PieceHash, length: u32) -> Self {
        Self { length, side: Side::V2 { expected, leaves: vec![None; expected.blocks as usize] } }
    }

    /// Against a v1 hash. `length`: bytes that the hash covers, with padding.
    pub fn v1(expected: [u8; 20], length: u32) -> Self {
        Self { length, side: Side::V1 { expected, sha1: Sha1::new(), position: 0 } }
    }

    /// Takes bytes at an offset in the piece.
    pub fn feed(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FeedError> {
        let end = offset as u64 + bytes.len() as u64;
        if end > self.length as u64 {
            return Err(FeedError::OutOfRange { offset, length: bytes.len(), piece: self.length });
        }
        match &mut self.side {
            Side::V2 { leaves, .. } => {
                let whole = end.is_multiple_of(BLOCK) || end == self.length as u64;
                if !(offset as u64).is_multiple_of(BLOCK) || !whole {
                    return Err(FeedError::NotBlocks { offset, length: bytes.len() });
                }
                let first = offset as usize / BLOCK as usize;
                for (leaf, block) in leaves.iter_mut().skip(first).zip(bytes.chunks(BLOCK as usize)) {
                    *leaf = Some(Sha256::digest(block).into());
                }
            }
            Side::V1 { sha1, position, .. } => {
                let gap = offset
                    .checked_sub(*position)
                    .ok_or(FeedError::OutOfOrder { offset, position: *position })?;
                zeros(sha1, gap);
                sha1.update(bytes);
                *position = end as u32;
            }
        }
        Ok(())
    }

    /// Whether all bytes were fed and are the right ones.
    pub fn finish(self) -> bool {
        match self.side {
            Side::V2 { expected, leaves } => {
                let Some(leaves) = leaves.into_iter().collect::<Option<Vec<Hash>>>() else { return false };
                expected.is_of(&leaves)
            }
            Side::V1 { expected, mut sha1, position } => {
                zeros(&mut sha1, self.length - position);
                sha1.finalize()[..] == expected
            }
        }
    }
}

fn zeros(sha1: &mut Sha1, mut count: u32) {
    while count > 0 {
        let now = count.min(ZEROS.len() as u32);
        sha1.update(&ZEROS[..now as usize]);
        count -= now;
    }
}
