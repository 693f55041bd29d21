//! How much a parser takes in before it refuses.

use crate::bencode;

/// Smallest piece length of any torrent (BEP 52: 16 KiB).
pub const MIN_PIECE_LENGTH: u64 = 16 * 1024;

/// Largest piece length that is read. Creating ends at 16 MiB, see [`crate::piece_length_for`].
pub const MAX_PIECE_LENGTH: u64 = 64 * 1024 * 1024;

/// Caps for reading one .torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Caps on the encoded form.
    pub bencode: bencode::Limits,
    /// Pieces of one torrent.
    pub pieces: u32,
}

impl Limits {
    /// For input of strangers: what stock clients accept (libtorrent's 10 MB, 3,000,000 tokens, depth 100, 2^21 pieces).
    pub const FOREIGN: Self = Self {
        bencode: bencode::Limits { bytes: 10_000_000, tokens: 3_000_000, depth: bencode::MAX_DEPTH },
        pieces: 1 << 21,
    };

    /// For our own store and for local files: 128 MiB, which is a tree of about 600,000 files as a hybrid.
    pub const OWN: Self = Self {
        bencode: bencode::Limits { bytes: 128 << 20, tokens: 40_000_000, depth: bencode::MAX_DEPTH },
        pieces: 1 << 23,
    };
}
