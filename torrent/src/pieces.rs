//! Where pieces lie in files, and what they must hash to.

use std::ops::Range;
use std::sync::Arc;

use crate::merkle::{self, Hash};
use crate::piece_hash::{PieceHasher, PieceHashes, Shape, Sides};
use crate::verify::PieceVerifier;

/// A run of payload bytes of one piece in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Index into [`crate::Metainfo::files`].
    pub file: usize,
    /// Where it starts in the file.
    pub offset_in_file: u64,
    /// Where it starts in the piece; what lies between segments is padding, zeros.
    pub offset_in_piece: u32,
    /// Bytes.
    pub len: u32,
}

/// What a piece must hash to on the v2 side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceHash {
    /// Node of the piece layer, or the `pieces root` of a file of one piece.
    pub root: Hash,
    /// Leaves that stand for payload.
    pub blocks: u32,
    /// Leaves of the subtree, a power of two: those after `blocks` are 32 zero bytes each.
    pub padded_to: u32,
}

impl PieceHash {
    /// Whether these leaves of the payload, padded, lead to the hash (BEP 52).
    pub fn is_of(&self, leaves: &[Hash]) -> bool {
        leaves.len() == self.blocks as usize
            && merkle::subtree_root(leaves, 0, self.padded_to.max(1).ilog2()) == self.root
    }
}

/// A non-empty payload file in piece space.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    pub file: usize,
    pub start: u64,
    pub size: u64,
    /// Boxed, since v1-only torrents of many files have none.
    pub tree: Option<Box<Tree>>,
}

/// The v2 side of a file; `layer` is there if it is longer than a piece.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub root: Hash,
    pub layer: Option<Arc<[Hash]>>,
}

/// The v1 side: a part of the raw `info`.
#[derive(Debug, Clone)]
pub(crate) struct V1Side {
    pub info: Arc<[u8]>,
    pub hashes: Range<usize>,
}

impl V1Side {
    fn hash(&self, piece: u32) -> Option<[u8; 20]> {
        self.info[self.hashes.clone()].as_chunks::<20>().0.get(piece as usize).copied()
    }
}

/// The pieces of a torrent. Methods that take a piece answer 0, `None` or nothing for one that does not exist.
#[derive(Debug, Clone)]
pub struct PieceMap {
    pub(crate) piece_length: u64,
    /// End of piece space, with the padding files behind the last file if v1 has any.
    pub(crate) end: u64,
    pub(crate) extents: Vec<Extent>,
    pub(crate) v1: Option<V1Side>,
    pub(crate) v2: bool,
}

impl PieceMap {
    /// The pieces of a torrent that is still to be hashed, of files with these lengths in the order of their paths.
    /// `padded`: v1 has padding files behind all files that do not end on a piece. `None` if they do not fit 63 bits.
    pub(crate) fn to_be_hashed(
        sides: Sides,
        padded: bool,
        piece_length: u64,
        lengths: &[u64],
    ) -> Option<Self> {
        let (mut end, mut extents) = (0u64, Vec::with_capacity(lengths.len()));
        for (file, size) in lengths.iter().copied().enumerate().filter(|(_, size)| *size > 0) {
            let start = if sides.v2 { end.checked_next_multiple_of(piece_length)? } else { end };
            end = start.checked_add(size).filter(|end| i64::try_from(*end).is_ok())?;
            extents.push(Extent { file, start, size, tree: None });
        }
        if padded {
            end = end.checked_next_multiple_of(piece_length)?;
        }
        let nothing = V1Side { info: Arc::from([]), hashes: 0..0 };
        Some(Self { piece_length, end, extents, v1: sides.v1.then_some(nothing), v2: sides.v2 })
    }

    /// Which hashes the torrent has.
    pub fn sides(&self) -> Sides {
        Sides { v1: self.v1.is_some(), v2: self.v2 }
    }

    /// Hashes a piece: all `sides` of it that the torrent has. Feed it the bytes of [`PieceMap::segments`].
    pub fn hasher(&self, piece: u32, sides: Sides) -> PieceHasher {
        let shape = Shape { padded: self.padded_len(piece), leaves: self.leaves(piece).1 };
        PieceHasher::new(shape, sides.and(self.sides()))
    }

    /// Leaves of a piece's tree that stand for payload, and all of them.
    fn leaves(&self, piece: u32) -> (u32, u32) {
        let longer = self.extent_at(self.start(piece)).is_some_and(|extent| extent.size > self.piece_length);
        let blocks = merkle::blocks(self.len(piece).into()) as u32;
        (blocks, if longer { (self.piece_length / merkle::BLOCK) as u32 } else { blocks.next_power_of_two() })
    }

    /// What a piece must hash to on the v2 side if `root` is its node. `None` if there is no such piece.
    pub fn piece_hash(&self, piece: u32, root: Hash) -> Option<PieceHash> {
        let (blocks, padded_to) = self.leaves(piece);
        (blocks > 0).then_some(PieceHash { root, blocks, padded_to })
    }

    /// What a piece is to hash to, of these sides.
    pub fn expected(&self, piece: u32, sides: Sides) -> PieceHashes {
        PieceHashes {
            v1: sides.v1.then(|| self.v1_hash(piece)).flatten(),
            v2: sides.v2.then(|| self.v2_hash(piece)).flatten().map(|hash| hash.root),
        }
    }

    /// Pieces of the torrent: 0 if all files are empty.
    pub fn count(&self) -> u32 {
        // The parser caps the number of pieces far below 2^32.
        self.end.div_ceil(self.piece_length) as u32
    }

    /// Bytes of a piece, of every piece but the short ones.
    pub fn piece_length(&self) -> u64 {
        self.piece_length
    }

    /// Payload bytes of a piece: what must be downloaded and verified. With a v2 side that is the part of the one file that
    /// lies there; v1-only counts padding files in, since v1 peers exchange them.
    pub fn len(&self, piece: u32) -> u32 {
        if !self.v2 {
            return self.space_len(piece);
        }
        let start = self.start(piece);
        self.extent_at(start)
            .map_or(0, |extent| (extent.start + extent.size - start).min(self.piece_length) as u32)
    }

    /// Whether the torrent has no pieces.
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Bytes of a piece as far as foreign peers may ask for them: what SHA-1 covers, or without a v1 side the payload. In a
    /// hybrid of several files libtorrent asks for the whole block in which a file ends, and wants zeros behind the file;
    /// blocks of nothing but padding it never asks for. In a v2-only torrent it stops where the file does.
    pub fn padded_len(&self, piece: u32) -> u32 {
        if self.v1.is_some() { self.space_len(piece) } else { self.len(piece) }
    }

    /// Bytes of piece space.
    fn space_len(&self, piece: u32) -> u32 {
        self.end.saturating_sub(self.start(piece)).min(self.piece_length) as u32
    }

    /// Where a piece starts in piece space.
    pub fn start(&self, piece: u32) -> u64 {
        u64::from(piece) * self.piece_length
    }

    /// The payload of a piece in order of its offset; with a v2 side exactly one segment.
    pub fn segments(&self, piece: u32) -> impl Iterator<Item = Segment> + '_ {
        let start = self.start(piece);
        let end = start + u64::from(self.space_len(piece));
        let first = self.extents.partition_point(|extent| extent.start + extent.size <= start);
        self.extents[first..].iter().take_while(move |extent| extent.start < end).map(move |extent| {
            let from = extent.start.max(start);
            let to = (extent.start + extent.size).min(end);
            Segment {
                file: extent.file,
                offset_in_file: from - extent.start,
                offset_in_piece: (from - start) as u32,
                len: (to - from) as u32,
            }
        })
    }

    /// The pieces that hold bytes of a file (index into [`crate::Metainfo::files`]); empty for an empty file.
    pub fn of_file(&self, file: usize) -> Range<u32> {
        let Ok(index) = self.extents.binary_search_by_key(&file, |extent| extent.file) else { return 0..0 };
        let extent = &self.extents[index];
        let first = extent.start / self.piece_length;
        let last = (extent.start + extent.size).div_ceil(self.piece_length);
        first as u32..last as u32
    }

    /// The SHA-1 of a piece, padding included ([`PieceMap::padded_len`] bytes). `None` without a v1 side.
    pub fn v1_hash(&self, piece: u32) -> Option<[u8; 20]> {
        self.v1.as_ref()?.hash(piece)
    }

    /// The node of a piece. `None` without a v2 side.
    pub fn v2_hash(&self, piece: u32) -> Option<PieceHash> {
        let start = self.start(piece);
        let extent = self.extent_at(start)?;
        let tree = extent.tree.as_ref()?;
        let root = match &tree.layer {
            Some(layer) => *layer.get(((start - extent.start) / self.piece_length) as usize)?,
            None => tree.root,
        };
        self.piece_hash(piece, root)
    }

    /// Verifies a piece by its v2 side if there is one, else by v1.
    pub fn verifier(&self, piece: u32) -> Option<PieceVerifier> {
        match self.v2_hash(piece) {
            Some(expected) => Some(PieceVerifier::v2(expected, self.len(piece))),
            None => self.v1_verifier(piece),
        }
    }

    /// Verifies a piece by SHA-1, also in a hybrid: the padding behind its file need not be fed.
    pub fn v1_verifier(&self, piece: u32) -> Option<PieceVerifier> {
        Some(PieceVerifier::v1(self.v1_hash(piece)?, self.padded_len(piece)))
    }

    /// The file that a byte of piece space belongs to.
    fn extent_at(&self, offset: u64) -> Option<&Extent> {
        let index = self.extents.partition_point(|extent| extent.start + extent.size <= offset);
        self.extents.get(index).filter(|extent| extent.start <= offset)
    }
}
