//! Signed hashes of a run of pieces.

use super::keys::SIGNATURE;
use super::{IngestError, PublicKey, SigningKey, Warrant};
use crate::ids::IngestId;
use crate::piece_hash::{PieceHashes, Sides};

/// Pieces that one batch tells of at most: 53 KB of a hybrid.
pub const MAX_BATCH: usize = 1024;
/// So that no signature over something else can be taken for one over hashes.
const DOMAIN: &[u8] = b"samara hashes 1\0";

/// What a fetcher says that a run of pieces hashes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    warrant: Warrant,
    first: u32,
    hashes: Vec<PieceHashes>,
    signature: [u8; SIGNATURE],
}

impl Batch {
    /// Signs the hashes of the pieces from `first` on. `key` is the one that the warrant names.
    pub fn sign(
        key: &SigningKey,
        warrant: &Warrant,
        ingest: IngestId,
        first: u32,
        hashes: Vec<PieceHashes>,
    ) -> Result<Self, IngestError> {
        let fits =
            (1..=MAX_BATCH).contains(&hashes.len()) && first.checked_add(hashes.len() as u32).is_some();
        if !fits {
            return Err(IngestError::Malformed);
        }
        let signature = key.sign(&signed(ingest, first, &hashes));
        Ok(Self { warrant: warrant.clone(), first, hashes, signature })
    }

    /// The number of the first piece.
    pub fn first(&self) -> u32 {
        self.first
    }

    /// The hashes, piece by piece.
    pub fn hashes(&self) -> &[PieceHashes] {
        &self.hashes
    }

    /// Each piece with its hashes.
    pub fn pieces(&self) -> impl Iterator<Item = (u32, PieceHashes)> + '_ {
        (self.first..).zip(self.hashes.iter().copied())
    }

    /// Who signed it.
    pub fn fetcher(&self) -> &str {
        self.warrant.fetcher()
    }

    /// Whether its signature, and that of its warrant, are good. This takes a fifth of a millisecond.
    pub fn is_of(&self, ingest: IngestId, opener: PublicKey) -> bool {
        self.warrant.is_of(ingest, opener)
            && self.warrant.key().verifies(&signed(ingest, self.first, &self.hashes), &self.signature)
    }

    /// Warrant, number of the first piece, how many (both 4 bytes, big-endian), signature, hashes: of each piece the v2 node
    /// and then the SHA-1, as far as there are such.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.warrant.encode();
        bytes.extend_from_slice(&self.first.to_be_bytes());
        bytes.extend_from_slice(&(self.hashes.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&self.signature);
        append(&mut bytes, &self.hashes);
        bytes
    }

    /// Reads one that fills `bytes`, with hashes of these sides. It is not verified yet.
    pub fn decode(bytes: &[u8], sides: Sides) -> Result<Self, IngestError> {
        Self::read(bytes, sides).ok_or(IngestError::Malformed)
    }

    fn read(bytes: &[u8], sides: Sides) -> Option<Self> {
        let (warrant, bytes) = Warrant::decode_prefix(bytes)?;
        let (first, bytes) = bytes.split_first_chunk()?;
        let (count, bytes) = bytes.split_first_chunk()?;
        let (signature, bytes) = bytes.split_first_chunk()?;
        let (first, count) = (u32::from_be_bytes(*first), u32::from_be_bytes(*count) as usize);
        let each = 32 * usize::from(sides.v2) + 20 * usize::from(sides.v1);
        let fits = (1..=MAX_BATCH).contains(&count) && bytes.len() == count * each;
        if !fits || sides.is_empty() || first.checked_add(count as u32).is_none() {
            return None;
        }
        let hashes =
            bytes.chunks_exact(each).map(|bytes| read_hashes(bytes, sides)).collect::<Option<_>>()?;
        Some(Self { warrant, first, hashes, signature: *signature })
    }
}

fn append(bytes: &mut Vec<u8>, hashes: &[PieceHashes]) {
    for hash in hashes {
        bytes.extend(hash.v2.iter().flatten());
        bytes.extend(hash.v1.iter().flatten());
    }
}

fn read_hashes(bytes: &[u8], sides: Sides) -> Option<PieceHashes> {
    let (v2, v1) = bytes.split_at_checked(if sides.v2 { 32 } else { 0 })?;
    Some(PieceHashes {
        v1: v1.try_into().ok().filter(|_| sides.v1),
        v2: v2.try_into().ok().filter(|_| sides.v2),
    })
}

fn signed(ingest: IngestId, first: u32, hashes: &[PieceHashes]) -> Vec<u8> {
    let mut bytes = [DOMAIN, &ingest.0, &first.to_be_bytes()].concat();
    append(&mut bytes, hashes);
    bytes
}
