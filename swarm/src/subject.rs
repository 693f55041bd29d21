//! What a torrent is: known whole from the start, or growing while its content is still being read somewhere.
//!
//! Where pieces lie is known in both cases. What they hash to is known of a growing torrent as far as its fetchers have read;
//! with the last hash it *graduates*: it has an `info` then, and ids under which anyone can join.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use torrent::ingest::{Batch, HashTable, IngestError, News, Outline, PublicKey};
use torrent::merkle::{self, Hash};
use torrent::{IngestId, Metainfo, PieceHash, PieceHashes, PieceMap, PieceVerifier, Plan, Sides, WireId};

use crate::core::InnerId;
use crate::hashes::{Answer, Trees};
use crate::wire::{HashRequest, MAX_HASHES};

/// One torrent's content.
#[derive(Debug)]
pub struct Subject {
    known: Known,
    /// Made when a peer asks for hashes.
    trees: OnceLock<Trees>,
}

#[derive(Debug)]
enum Known {
    Whole(Arc<Metainfo>),
    Growing(Box<Growth>),
}

/// What is known of content that is, or was, still being read.
#[derive(Debug)]
pub struct Growth {
    id: IngestId,
    opener: PublicKey,
    about: String,
    plan: Arc<Plan>,
    table: RwLock<HashTable>,
    /// The pieces by their v2 nodes.
    nodes: RwLock<HashMap<Hash, u32>>,
    graduated: OnceLock<Arc<Metainfo>>,
}

impl Subject {
    /// Of a torrent that is known whole.
    pub fn whole(metainfo: Arc<Metainfo>) -> Self {
        Self { known: Known::Whole(metainfo), trees: OnceLock::new() }
    }

    /// Of content that is still being read.
    pub fn growing(outline: &Outline) -> Self {
        let plan = Arc::clone(outline.plan());
        let growth = Growth {
            id: outline.id(),
            opener: outline.key(),
            about: outline.about().to_owned(),
            table: RwLock::new(HashTable::new(plan.clone())),
            plan,
            nodes: RwLock::default(),
            graduated: OnceLock::new(),
        };
        Self { known: Known::Growing(Box::new(growth)), trees: OnceLock::new() }
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        match &self.known {
            Known::Whole(metainfo) => metainfo.name(),
            Known::Growing(growth) => &growth.about,
        }
    }

    /// How many payload files there are.
    pub fn files(&self) -> usize {
        match &self.known {
            Known::Whole(metainfo) => metainfo.files().len(),
            Known::Growing(growth) => growth.plan.files().len(),
        }
    }

    /// Bytes of a payload file, by its number in the torrent; 0 if there is none.
    pub fn size(&self, file: usize) -> u64 {
        match &self.known {
            Known::Whole(metainfo) => metainfo.files().get(file).map_or(0, |file| file.size),
            Known::Growing(growth) => growth.plan.files().get(file).map_or(0, |(_, size)| *size),
        }
    }

    /// Bytes of all payload files.
    pub fn total_size(&self) -> u64 {
        (0..self.files()).map(|file| self.size(file)).sum()
    }

    /// Where pieces lie. What they hash to it does not know while the torrent grows: ask [`Self::v2_hash`] and
    /// [`Self::verifier`].
    pub fn pieces(&self) -> &PieceMap {
        match &self.known {
            Known::Whole(metainfo) => metainfo.pieces(),
            Known::Growing(growth) => growth.plan.pieces(),
        }
    }

    /// The torrent, once it is known whole.
    pub fn metainfo(&self) -> Option<&Arc<Metainfo>> {
        match &self.known {
            Known::Whole(metainfo) => Some(metainfo),
            Known::Growing(growth) => growth.graduated.get(),
        }
    }

    /// The torrent, else what is known of it so far.
    fn known_whole(&self) -> Result<&Arc<Metainfo>, &Growth> {
        match &self.known {
            Known::Whole(metainfo) => Ok(metainfo),
            Known::Growing(growth) => growth.graduated.get().ok_or(growth),
        }
    }

    /// What it is called on disk, whatever becomes of it.
    pub fn inner_id(&self) -> InnerId {
        match &self.known {
            Known::Whole(metainfo) => InnerId::of(metainfo),
            Known::Growing(growth) => InnerId(growth.id.0),
        }
    }

    /// The ids under which peers may ask for it, the preferred one first.
    pub fn wire_ids(&self) -> Vec<WireId> {
        let known = self.metainfo().into_iter().flat_map(|metainfo| metainfo.wire_ids());
        known.chain(self.growth().map(|growth| growth.id.into())).collect()
    }

    /// The id of the v2 side, if there is one and it is known.
    pub fn v2_id(&self) -> Option<WireId> {
        self.metainfo()?.info_hash_v2().map(WireId::from)
    }

    /// What is known of it as of content that is, or was, still being read.
    pub fn growth(&self) -> Option<&Growth> {
        match &self.known {
            Known::Whole(_) => None,
            Known::Growing(growth) => Some(growth),
        }
    }

    /// What a piece must hash to on the v2 side, if that is known.
    pub fn v2_hash(&self, piece: u32) -> Option<PieceHash> {
        match self.known_whole() {
            Ok(metainfo) => metainfo.pieces().v2_hash(piece),
            Err(growth) => growth.read(|table| table.v2_hash(piece)),
        }
    }

    /// What a piece hashes to, of these sides, as far as it is known.
    pub fn expected(&self, piece: u32, sides: Sides) -> PieceHashes {
        match self.known_whole() {
            Ok(metainfo) => metainfo.pieces().expected(piece, sides),
            Err(growth) => {
                let known = growth.read(|table| table.get(piece)).unwrap_or_default();
                PieceHashes { v1: known.v1.filter(|_| sides.v1), v2: known.v2.filter(|_| sides.v2) }
            }
        }
    }

    /// Verifies a piece by its v2 side if there is one, else by v1; `None` if its hash is not known.
    pub fn verifier(&self, piece: u32) -> Option<PieceVerifier> {
        match self.known_whole() {
            Ok(metainfo) => metainfo.pieces().verifier(piece),
            Err(_) => Some(PieceVerifier::v2(self.v2_hash(piece)?, self.pieces().len(piece))),
        }
    }

    /// Verifies a piece by SHA-1, if that is known.
    pub fn v1_verifier(&self, piece: u32) -> Option<PieceVerifier> {
        let sha1 = self.expected(piece, Sides { v1: true, v2: false }).v1?;
        Some(PieceVerifier::v1(sha1, self.pieces().padded_len(piece)))
    }

    /// What answers hash requests (BEP 52); `None` while the torrent grows.
    fn trees(&self) -> Option<&Trees> {
        let metainfo = self.metainfo().filter(|metainfo| metainfo.info_hash_v2().is_some())?;
        Some(self.trees.get_or_init(|| Trees::new(metainfo.clone())))
    }

    /// The answer to a hash request (BEP 52), as far as it is known without reading.
    pub fn answer(&self, request: &HashRequest) -> Answer {
        match (self.by_node(request), self.trees()) {
            (Some(piece), _) => Answer::OfPiece(piece),
            (None, Some(trees)) => trees.answer(request),
            (None, None) => Answer::Reject,
        }
    }

    /// The answer to what lies within one piece, from the leaves of its payload.
    pub fn answer_from(&self, request: &HashRequest, leaves: &[Hash]) -> Vec<Hash> {
        if self.by_node(request).is_some() {
            let mut all = leaves.to_vec();
            all.resize(request.length as usize, merkle::pad(0));
            return all;
        }
        self.trees().map(|trees| trees.answer_from(request, leaves)).unwrap_or_default()
    }

    /// Asks for the leaves of a piece; `None` if it has only one, or none, or its hash is not known. The roots of files are not
    /// known while a torrent grows: there each piece is asked for as if it were a file.
    pub fn leaf_request(&self, piece: u32) -> Option<HashRequest> {
        if self.growth().is_none() {
            return self.trees()?.leaf_request(piece);
        }
        let PieceHash { root, padded_to: length, .. } = self.v2_hash(piece)?;
        (2..=MAX_HASHES).contains(&length).then_some(HashRequest {
            root,
            base: 0,
            index: 0,
            length,
            proofs: 0,
        })
    }

    /// The leaves of a piece's payload, if the answer to [`Self::leaf_request`] leads to the piece's hash.
    pub fn leaves(&self, piece: u32, hashes: &[u8]) -> Option<Vec<Hash>> {
        let expected = self.v2_hash(piece)?;
        let leaves: Vec<Hash> = hashes.get(..32 * expected.blocks as usize)?.as_chunks().0.to_vec();
        expected.is_of(&leaves).then_some(leaves)
    }

    /// The piece whose leaves a request of another node of a growing torrent asks for.
    fn by_node(&self, request: &HashRequest) -> Option<u32> {
        let piece = self.growth()?.piece_of(&request.root)?;
        (self.leaf_request(piece).as_ref() == Some(request)).then_some(piece)
    }

    /// The torrent is known whole now. `false` if it is another one than has grown here, and nothing is changed then.
    pub fn graduate(&self, metainfo: &Arc<Metainfo>) -> bool {
        let Known::Growing(growth) = &self.known else { return false };
        growth.read(|table| table.agrees(metainfo))
            && growth.graduated.get_or_init(|| metainfo.clone()).info_bytes() == metainfo.info_bytes()
    }
}

impl Growth {
    /// Takes in signed hashes, whoever has brought them; answers the pieces that can be verified now and could not before.
    pub fn learn(&self, batch: &[u8]) -> Result<Vec<u32>, IngestError> {
        let batch = Batch::decode(batch, self.plan.pieces().sides())?;
        let news = self.read(|table| table.news(&batch));
        if news == News::Nothing {
            return Ok(Vec::new());
        }
        // Outside of the lock: it takes longer than all else.
        if !batch.is_of(self.id, self.opener) {
            return Err(IngestError::Signature);
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if news == News::Echo {
            table.repeats(&batch)?;
            return Ok(Vec::new());
        }
        let fresh = table.accept(&batch)?;
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        let known = fresh.iter().filter_map(|piece| Some((table.get(*piece)?.v2?, *piece)));
        nodes.extend(known);
        drop(nodes);
        Ok(fresh)
    }

    fn piece_of(&self, node: &Hash) -> Option<u32> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).get(node).copied()
    }

    /// The name of its swarm.
    pub fn id(&self) -> IngestId {
        self.id
    }

    /// Looks something up among the hashes.
    pub fn read<T>(&self, look: impl FnOnce(&HashTable) -> T) -> T {
        look(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }
}
