//! The piece layers of a torrent, asked for in chunks, each proved by itself.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use torrent::Info;
use torrent::merkle::{self, Hash};

use super::InquiryId;
use crate::wire::HashRequest;

/// Hashes asked for at a time (BEP 52).
const CHUNK: u64 = 512;
/// A chunk that has not come for so long is asked of another peer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which chunk: the root of its tree, and its first hash.
type Chunk = (Hash, u32);

/// A layer on its way in.
#[derive(Debug)]
struct Layer {
    /// Of the pieces that the file has.
    hashes: Vec<Hash>,
    /// By chunk.
    here: Vec<bool>,
}

/// All layers.
#[derive(Debug)]
pub struct Layers {
    /// Of the nodes that are asked for, counted from the leaves.
    height: u32,
    by_root: BTreeMap<Hash, Layer>,
    open: VecDeque<Chunk>,
    out: BTreeMap<Chunk, (InquiryId, Duration)>,
    found: u64,
    total: u64,
}

impl Layers {
    /// Of a torrent of which no layer is there.
    pub fn new(info: &Info) -> Self {
        let shapes = info.layers();
        let chunks = |pieces: u64| (0..pieces).step_by(CHUNK as usize).map(|first| first as u32);
        let open = shapes.iter().flat_map(|shape| chunks(shape.pieces).map(|first| (shape.root, first)));
        let layers = shapes.iter().map(|shape| {
            let here = vec![false; shape.pieces.div_ceil(CHUNK) as usize];
            (shape.root, Layer { hashes: vec![[0; 32]; shape.pieces as usize], here })
        });
        Self {
            height: merkle::piece_layer(info.piece_length()),
            open: open.collect(),
            by_root: layers.collect(),
            out: BTreeMap::new(),
            found: 0,
            total: shapes.iter().map(|shape| shape.pieces).sum(),
        }
    }

    /// Hashes that have come.
    pub fn found(&self) -> u64 {
        self.found
    }

    /// Hashes that there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The layers, when all have come.
    pub fn into_layers(self) -> BTreeMap<Hash, Vec<Hash>> {
        self.by_root.into_iter().map(|(root, layer)| (root, layer.hashes)).collect()
    }

    /// A chunk that nobody is asked for, or that somebody else is too slow with.
    pub fn next(&mut self, id: InquiryId, now: Duration) -> Option<HashRequest> {
        let late = |(_, (other, since)): &(&Chunk, &(InquiryId, Duration))| {
            *other != id && now.saturating_sub(*since) > PATIENCE
        };
        let chunk = self.open.pop_front().or_else(|| self.out.iter().find(late).map(|(chunk, _)| *chunk))?;
        self.out.insert(chunk, (id, now));
        self.request(chunk)
    }

    /// With the proof that leads to the root.
    fn request(&self, (root, index): Chunk) -> Option<HashRequest> {
        let pieces = self.by_root.get(&root)?.hashes.len() as u64;
        let width = pieces.next_power_of_two();
        let length = width.min(CHUNK) as u32;
        Some(HashRequest { root, base: self.height, index, length, proofs: width.ilog2() - 1 })
    }

    /// Hashes have come; `false` if they do not lead to the root. Those of a chunk that is there already are of no use, and no lie.
    pub fn came(&mut self, request: &HashRequest, hashes: &[Hash]) -> bool {
        let chunk = (request.root, request.index);
        if self.request(chunk).as_ref() != Some(request) {
            return false;
        }
        let Some(layer) = self.by_root.get_mut(&request.root) else { return false };
        let number = (u64::from(request.index) / CHUNK) as usize;
        match layer.here.get_mut(number) {
            Some(here) if !*here => {
                if !leads_to_root(request, hashes) {
                    return false;
                }
                *here = true;
            }
            here => return here.is_some(),
        }
        let first = request.index as usize;
        let last = layer.hashes.len().min(first + request.length as usize);
        layer.hashes[first..last].copy_from_slice(&hashes[..last - first]);
        self.found += (last - first) as u64;
        self.out.remove(&chunk);
        self.open.retain(|open| *open != chunk);
        true
    }

    /// The peer has not got this chunk.
    pub fn rejected(&mut self, id: InquiryId, request: &HashRequest) {
        let chunk = (request.root, request.index);
        if self.out.get(&chunk).is_some_and(|(asked, _)| *asked == id) {
            self.out.remove(&chunk);
            self.open.push_back(chunk);
        }
    }

    /// What this connection was asked for is asked of others.
    pub fn gone(&mut self, id: InquiryId) {
        let open = &mut self.open;
        self.out.retain(|chunk, (asked, _)| {
            let stays = *asked != id;
            if !stays {
                open.push_back(*chunk);
            }
            stays
        });
    }
}

/// Whether `length` hashes and the siblings behind them lead to the root.
fn leads_to_root(request: &HashRequest, hashes: &[Hash]) -> bool {
    let own = request.length.ilog2();
    let siblings = (request.proofs + 1).saturating_sub(own);
    if hashes.len() != request.length as usize + siblings as usize {
        return false;
    }
    let (own_hashes, proof) = hashes.split_at(request.length as usize);
    let node = merkle::subtree_root(own_hashes, request.base, own);
    merkle::root_from_proof(&node, (request.index / request.length) as usize, proof) == request.root
}
