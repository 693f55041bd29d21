//! Who may say what the pieces of an ingest hash to.

use super::keys::SIGNATURE;
use super::{IngestError, PublicKey, SigningKey};
use crate::ids::IngestId;

/// Longest name of a fetcher: a node's name is a DNS name.
pub const MAX_FETCHER_NAME: usize = 253;
/// So that no signature over something else can be taken for one over a warrant.
const DOMAIN: &[u8] = b"samara warrant 1\0";

/// The word of whoever opened an ingest that a node may read its origin, and sign what it has read with a key of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warrant {
    key: PublicKey,
    fetcher: String,
    signature: [u8; SIGNATURE],
}

impl Warrant {
    /// For the fetcher that is called so and signs with `key`. [`IngestError::Malformed`] if the name is too long.
    pub fn new(
        opener: &SigningKey,
        ingest: IngestId,
        fetcher: &str,
        key: PublicKey,
    ) -> Result<Self, IngestError> {
        if fetcher.len() > MAX_FETCHER_NAME {
            return Err(IngestError::Malformed);
        }
        let signature = opener.sign(&signed(ingest, fetcher, key));
        Ok(Self { key, fetcher: fetcher.to_owned(), signature })
    }

    /// The name of the fetcher.
    pub fn fetcher(&self) -> &str {
        &self.fetcher
    }

    /// What the fetcher's hashes are verified with.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// Whether it is for this ingest and signed by who opened it.
    pub fn is_of(&self, ingest: IngestId, opener: PublicKey) -> bool {
        opener.verifies(&signed(ingest, &self.fetcher, self.key), &self.signature)
    }

    /// Key, signature, length of the name, name.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + SIGNATURE + 1 + self.fetcher.len());
        bytes.extend_from_slice(&self.key.0);
        bytes.extend_from_slice(&self.signature);
        bytes.push(self.fetcher.len() as u8);
        bytes.extend_from_slice(self.fetcher.as_bytes());
        bytes
    }

    /// Reads one that fills `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, IngestError> {
        let (warrant, rest) = Self::decode_prefix(bytes).ok_or(IngestError::Malformed)?;
        if rest.is_empty() { Ok(warrant) } else { Err(IngestError::Malformed) }
    }

    /// Reads one at the start of `bytes`; also answers what follows it.
    pub(super) fn decode_prefix(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (key, bytes) = bytes.split_first_chunk::<32>()?;
        let (signature, bytes) = bytes.split_first_chunk::<SIGNATURE>()?;
        let (length, bytes) = bytes.split_first()?;
        let (name, rest) = bytes.split_at_checked(usize::from(*length))?;
        let fetcher =
            std::str::from_utf8(name).ok().filter(|name| name.len() <= MAX_FETCHER_NAME)?.to_owned();
        Some((Self { key: PublicKey(*key), fetcher, signature: *signature }, rest))
    }
}

fn signed(ingest: IngestId, fetcher: &str, key: PublicKey) -> Vec<u8> {
    [DOMAIN, &ingest.0, &key.0, fetcher.as_bytes()].concat()
}
