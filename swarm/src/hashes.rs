//! Answers to hash requests (BEP 52): from the piece layers, or from the bytes of a piece.
//!
//! A tree has leaves (layer 0), a piece layer, and a root. All that is asked of the piece layer and above is answered from the
//! metainfo; what lies below costs reading the piece. An answer costs a bounded number of hashes, however large the file is: the
//! layers far above the pieces are made once.

use std::collections::BTreeMap;
use std::sync::Arc;

use torrent::merkle::{self, Hash};
use torrent::{File, Metainfo};

use crate::wire::{HashRequest, MAX_HASHES};

/// Layers between two that are kept of a large tree: a node in between costs 2^9 hashes at most. BEP 52 asks for 512 at a time.
const STRIDE: u32 = 9;

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These hashes.
    Hashes(Vec<Hash>),
    /// What [`Trees::answer_from`] says once the leaves of this piece are known.
    OfPiece(u32),
    /// No such file, or nothing that a correct client could ask about it.
    Reject,
}

/// The trees of a torrent's files.
#[derive(Debug)]
pub struct Trees {
    metainfo: Arc<Metainfo>,
    /// Files that are not empty, by their `pieces root`.
    by_root: Vec<u32>,
    /// Of layers with more hashes than a stride has: the layer a stride above the pieces.
    upper: BTreeMap<Hash, Vec<Hash>>,
}

/// One tree: its layers are counted from the leaves.
struct Tree<'a> {
    root: Hash,
    /// Layer of the root.
    height: u32,
    /// Layer of the nodes that stand for a piece each; that of the root in a file of one piece.
    piece_layer: u32,
    /// The nodes of the piece layer.
    pieces: &'a [Hash],
    first_piece: u32,
    /// The nodes a stride above, or none.
    upper: &'a [Hash],
}

impl Trees {
    /// Of a torrent with a v2 side.
    pub fn new(metainfo: Arc<Metainfo>) -> Self {
        let files = metainfo.files();
        let with_root = files.iter().enumerate().filter(|(_, file)| file.pieces_root.is_some());
        let mut by_root: Vec<u32> = with_root.map(|(index, _)| index as u32).collect();
        by_root.sort_by_key(|index| files[*index as usize].pieces_root);
        by_root.dedup_by_key(|index| files[*index as usize].pieces_root);
        let layer = merkle::piece_layer(metainfo.piece_length());
        let layers = by_root.iter().filter_map(|index| {
            let root = files[*index as usize].pieces_root?;
            let nodes = metainfo.layer(&root).filter(|nodes| nodes.len() > 1 << STRIDE)?;
            Some((root, merkle::climb(nodes, layer, layer + STRIDE)))
        });
        let upper = layers.collect();
        Self { metainfo, by_root, upper }
    }

    /// The answer, as far as it is known without reading.
    pub fn answer(&self, request: &HashRequest) -> Answer {
        let Some(tree) = self.tree(&request.root).filter(|tree| tree.contains(request)) else {
            return Answer::Reject;
        };
        if request.base >= tree.piece_layer {
            return Answer::Hashes(tree.hashes(request, &[]));
        }
        let piece = u64::from(request.index) << request.base >> tree.piece_layer;
        let within = u64::from(request.length) << request.base <= 1 << tree.piece_layer;
        if within && piece < tree.pieces.len() as u64 {
            Answer::OfPiece(tree.first_piece + piece as u32)
        } else {
            Answer::Reject
        }
    }

    /// The answer to what lies within one piece, from the leaves of its payload.
    pub fn answer_from(&self, request: &HashRequest, leaves: &[Hash]) -> Vec<Hash> {
        self.tree(&request.root).map(|tree| tree.hashes(request, leaves)).unwrap_or_default()
    }

    /// Asks for the leaves of a piece; `None` if it has only one, or none.
    pub fn leaf_request(&self, piece: u32) -> Option<HashRequest> {
        let map = self.metainfo.pieces();
        let length = map.v2_hash(piece)?.padded_to;
        let file = map.segments(piece).next()?.file;
        let root = self.metainfo.files().get(file)?.pieces_root?;
        let index = (piece - map.of_file(file).start) * length;
        (2..=MAX_HASHES).contains(&length).then_some(HashRequest { root, base: 0, index, length, proofs: 0 })
    }

    /// The leaves of a piece's payload, if the answer to [`Self::leaf_request`] leads to the piece's hash.
    pub fn leaves(&self, piece: u32, hashes: &[u8]) -> Option<Vec<Hash>> {
        let expected = self.metainfo.pieces().v2_hash(piece)?;
        let payload = hashes.get(..32 * expected.blocks as usize)?;
        let leaves: Vec<Hash> = payload.as_chunks().0.to_vec();
        expected.is_of(&leaves).then_some(leaves)
    }

    fn tree(&self, root: &Hash) -> Option<Tree<'_>> {
        let files = self.metainfo.files();
        let at = self.by_root.binary_search_by_key(&Some(*root), |index| files[*index as usize].pieces_root);
        let index = self.by_root[at.ok()?] as usize;
        let File { size, pieces_root, .. } = &files[index];
        let root = pieces_root.as_ref()?;
        let height = merkle::blocks(*size).next_power_of_two().ilog2();
        let long = *size > self.metainfo.piece_length();
        Some(Tree {
            root: *root,
            height,
            piece_layer: if long { merkle::piece_layer(self.metainfo.piece_length()) } else { height },
            pieces: if long { self.metainfo.layer(root)? } else { std::slice::from_ref(root) },
            first_piece: self.metainfo.pieces().of_file(index).start,
            upper: self.upper.get(root).map_or(&[], Vec::as_slice),
        })
    }
}

impl Tree<'_> {
    /// Whether all that is asked for lies in the tree, below its root.
    fn contains(&self, request: &HashRequest) -> bool {
        request.base < self.height
            && u64::from(request.index) + u64::from(request.length) <= 1 << (self.height - request.base)
            && request.proofs < self.height - request.base
    }

    /// The hashes, and above them the siblings that lead to the root. What `length` hashes tell of themselves is not sent: of
    /// the layers of proof that are asked for, the first log2(length) - 1.
    fn hashes(&self, request: &HashRequest, leaves: &[Hash]) -> Vec<Hash> {
        let range = u64::from(request.index)..u64::from(request.index) + u64::from(request.length);
        let mut hashes: Vec<Hash> = range.map(|index| self.node(request.base, index, leaves)).collect();
        let own = request.length.ilog2();
        hashes.extend((own..=request.proofs).map(|up| {
            let sibling = (u64::from(request.index) >> up) ^ 1;
            self.node(request.base + up, sibling, leaves)
        }));
        hashes
    }

    /// A node of any layer; `leaves` of the piece that it lies in, if it lies in one.
    fn node(&self, layer: u32, index: u64, leaves: &[Hash]) -> Hash {
        if layer >= self.height {
            return self.root;
        }
        let stride = self.piece_layer + STRIDE;
        let (known, from) = match layer {
            _ if layer < self.piece_layer => (leaves, 0),
            _ if layer >= stride && !self.upper.is_empty() => (self.upper, stride),
            _ => (self.pieces, self.piece_layer),
        };
        let up = layer - from;
        // Leaves are those of one piece: its first one is none of the file's first ones.
        let index =
            if from < self.piece_layer { index & ((1 << (self.piece_layer - layer)) - 1) } else { index };
        let first = known.len().min((index << up) as usize);
        let last = known.len().min(((index + 1) << up) as usize);
        merkle::subtree_root(&known[first..last], from, up)
    }
}

#[cfg(test)]
mod tests;
