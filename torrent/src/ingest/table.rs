//! The hashes of an ingest, as they come.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Batch, IngestError};
use crate::build::{BuildError, Plan};
use crate::metainfo::Metainfo;
use crate::piece_hash::PieceHashes;
use crate::pieces::PieceHash;

/// Fetchers whose hashes are taken: eight at a time, and those that took the place of others.
pub(super) const MAX_FETCHERS: usize = 256;
/// Repetitions that are remembered. They are few: who sees that another reads the same stops.
const MAX_REPEATED: usize = 4096;

/// What a batch tells beyond what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Hashes.
    Hashes,
    /// That its fetcher has read this too. It is not passed on: whoever else reads the same hears of it from the fetcher itself.
    Echo,
    /// Nothing.
    Nothing,
}

/// What the pieces hash to, as far as it is known, and who said so. It holds 55 bytes for each piece.
#[derive(Debug, Clone)]
pub struct HashTable {
    plan: Arc<Plan>,
    hashes: Vec<Option<PieceHashes>>,
    /// Index into `fetchers` for each piece that is known.
    signers: Vec<u8>,
    fetchers: Vec<String>,
    /// Pieces that each of them has told of.
    told: Vec<u32>,
    /// Pieces that somebody has told of after another had, and who.
    repeated: BTreeSet<(u32, u8)>,
    known: usize,
}

impl HashTable {
    /// Without any hash.
    pub fn new(plan: Arc<Plan>) -> Self {
        let pieces = plan.pieces().count() as usize;
        Self {
            plan,
            hashes: vec![None; pieces],
            signers: vec![0; pieces],
            fetchers: Vec::new(),
            told: Vec::new(),
            repeated: BTreeSet::new(),
            known: 0,
        }
    }

    /// The files, and the pieces that they make.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What a piece hashes to, if that is known.
    pub fn get(&self, piece: u32) -> Option<PieceHashes> {
        self.hashes.get(piece as usize).copied().flatten()
    }

    /// What a piece must hash to on the v2 side, if that is known.
    pub fn v2_hash(&self, piece: u32) -> Option<PieceHash> {
        self.plan.pieces().piece_hash(piece, self.get(piece)?.v2?)
    }

    /// Who signed the hashes of a piece.
    pub fn signer(&self, piece: u32) -> Option<&str> {
        self.get(piece)?;
        self.fetchers.get(usize::from(self.signers[piece as usize])).map(String::as_str)
    }

    /// Who has signed hashes, in the order in which that was seen, and of how many pieces. What was known by then counts too
    /// ([`Self::repeats`]): two that read the same in step would else not see each other.
    pub fn fetchers(&self) -> impl Iterator<Item = (&str, u32)> {
        self.fetchers.iter().map(String::as_str).zip(self.told.iter().copied())
    }

    /// How many pieces are known.
    pub fn known(&self) -> usize {
        self.known
    }

    /// Whether all are.
    pub fn is_complete(&self) -> bool {
        self.known == self.hashes.len()
    }

    /// Whether all hashes of a batch are known.
    pub fn knows(&self, batch: &Batch) -> bool {
        batch.pieces().all(|(piece, hashes)| self.get(piece) == Some(hashes))
    }

    /// Takes in a batch whose signatures are good ([`Batch::is_of`]); answers the pieces that have become known. One that
    /// contradicts what is known changes nothing.
    pub fn accept(&mut self, batch: &Batch) -> Result<Vec<u32>, IngestError> {
        for (piece, hashes) in batch.pieces() {
            let known = self.hashes.get(piece as usize).ok_or(IngestError::NoSuchPiece)?;
            if known.is_some_and(|known| known != hashes) {
                let before = self.signer(piece).unwrap_or_default().to_owned();
                return Err(IngestError::Contradiction { piece, before, now: batch.fetcher().to_owned() });
            }
        }
        let signer = self.fetcher(batch.fetcher())?;
        let mut fresh = Vec::new();
        for (piece, hashes) in batch.pieces() {
            let known = &mut self.hashes[piece as usize];
            if known.is_none() {
                *known = Some(hashes);
                self.signers[piece as usize] = signer;
                fresh.push(piece);
            }
        }
        self.told[usize::from(signer)] += fresh.len() as u32;
        self.known += fresh.len();
        Ok(fresh)
    }

    /// What a batch tells.
    pub fn news(&self, batch: &Batch) -> News {
        match self.knows(batch) {
            false => News::Hashes,
            true if self.is_echo(batch) => News::Echo,
            true => News::Nothing,
        }
    }

    fn is_echo(&self, batch: &Batch) -> bool {
        if self.repeated.len() >= MAX_REPEATED {
            return false;
        }
        let Some(signer) = self.fetchers.iter().position(|known| known == batch.fetcher()) else {
            return self.fetchers.len() < MAX_FETCHERS;
        };
        let is_new = |piece: u32| {
            usize::from(self.signers[piece as usize]) != signer
                && !self.repeated.contains(&(piece, signer as u8))
        };
        batch.pieces().any(|(piece, _)| is_new(piece))
    }

    /// Takes note of an [echo](News::Echo) whose signatures are good, once for each piece and fetcher.
    pub fn repeats(&mut self, batch: &Batch) -> Result<(), IngestError> {
        let signer = self.fetcher(batch.fetcher())?;
        for (piece, hashes) in batch.pieces() {
            if self.repeated.len() < MAX_REPEATED
                && self.get(piece) == Some(hashes)
                && self.signers[piece as usize] != signer
                && self.repeated.insert((piece, signer))
            {
                self.told[usize::from(signer)] += 1;
            }
        }
        Ok(())
    }

    fn fetcher(&mut self, name: &str) -> Result<u8, IngestError> {
        let at = self.fetchers.iter().position(|known| known == name).unwrap_or(self.fetchers.len());
        if at == MAX_FETCHERS {
            return Err(IngestError::TooManyFetchers);
        }
        if at == self.fetchers.len() {
            self.fetchers.push(name.to_owned());
            self.told.push(0);
        }
        Ok(at as u8)
    }

    /// The torrent. `digest`: SHA-256 of the bytes, where the content is one file. [`BuildError::PiecesMissing`] until all
    /// hashes are known.
    pub fn finish(&self, digest: Option<[u8; 32]>) -> Result<Metainfo, BuildError> {
        let pieces = self.hashes.len();
        let hashes: Vec<PieceHashes> = self.hashes.iter().copied().flatten().collect();
        if hashes.len() < pieces {
            return Err(BuildError::PiecesMissing { pieces });
        }
        Plan::clone(&self.plan).finish(&hashes, digest)
    }

    /// Whether a torrent is what the hashes make: the same pieces of the same files, each as it is known here.
    pub fn agrees(&self, metainfo: &Metainfo) -> bool {
        let (ours, theirs) = (self.plan.pieces(), metainfo.pieces());
        let same_files =
            metainfo.files().iter().map(|file| file.size).eq(self.plan.files().iter().map(|(_, size)| *size));
        let sides = ours.sides();
        same_files
            && (ours.count(), ours.piece_length()) == (theirs.count(), theirs.piece_length())
            && sides == theirs.sides()
            && (0..ours.count())
                .all(|piece| self.get(piece).is_none_or(|known| known == theirs.expected(piece, sides)))
    }
}
