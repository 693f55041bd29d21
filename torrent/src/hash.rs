//! Hashing payload in one pass, while its bytes are hot.

use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::merkle::{self, BLOCK, Hash, TreeHasher};

/// Zeros to hash padding from, so that none is allocated.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Whether, and how, a file's SHA-1 pieces are computed together with the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum V1Mode {
    /// Not at all: v2-only torrents, and v1-only ones of several files, whose pieces run across files ([`V1Hasher`]).
    Skip,
    /// The file is alone in its torrent: the last piece is as short as it is.
    Alone,
    /// The file is one of several in a hybrid: it is padded with zeros to a whole piece (BEP 47), which costs the hashing
    /// of those zeros.
    Padded,
}

/// SHA-1 of pieces over bytes that come in order: of one file, or of the files of a v1-only torrent one after the other.
#[derive(Debug, Clone)]
pub struct V1Hasher {
    piece_length: u64,
    /// Bytes of the current piece.
    filled: u64,
    sha1: Sha1,
    pieces: Vec<u8>,
}

impl V1Hasher {
    /// Without bytes yet. `piece_length` in bytes, at least 1.
    pub fn new(piece_length: u64) -> Self {
        Self { piece_length: piece_length.max(1), filled: 0, sha1: Sha1::new(), pieces: Vec::new() }
    }

    /// The next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.piece_length - self.filled;
            let (now, later) = bytes.split_at(bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            self.sha1.update(now);
            self.filled += now.len() as u64;
            if self.filled == self.piece_length {
                self.close();
            }
            bytes = later;
        }
    }

    /// That many zero bytes.
    pub fn update_zeros(&mut self, mut count: u64) {
        while count > 0 {
            let now = count.min(ZEROS.len() as u64);
            self.update(&ZEROS[..now as usize]);
            count -= now;
        }
    }

    /// The hashes, 20 bytes each; the last piece is as short as it is.
    pub fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.close();
        }
        self.pieces
    }

    /// The hashes, the last piece filled up with zeros.
    pub fn finish_padded(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.update_zeros(self.piece_length - self.filled);
        }
        self.finish()
    }

    fn close(&mut self) {
        self.pieces.extend_from_slice(&self.sha1.finalize_reset());
        self.filled = 0;
    }
}

/// The SHA-1 pieces of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1Pieces {
    /// 20 bytes for each piece.
    pub hashes: Vec<u8>,
    /// Whether the last piece was filled up with zeros ([`V1Mode::Padded`]).
    pub padded: bool,
}

/// What one pass over a file finds out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHashes {
    /// Bytes.
    pub size: u64,
    /// Piece length that `layer` and `v1` were made with.
    pub piece_length: u64,
    /// SHA-256 of the bytes.
    pub sha256: [u8; 32],
    /// Root of the merkle tree: the identity of the file across torrents, whatever the piece length. `None` if it is empty.
    pub pieces_root: Option<Hash>,
    /// One node for each piece; empty if the file is not longer than one piece.
    pub layer: Vec<Hash>,
    /// SHA-1 of the pieces, unless [`V1Mode::Skip`].
    pub v1: Option<V1Pieces>,
}

/// Hashes one file in one pass: SHA-256 of the file, the merkle tree, the pieces of v1. Bytes are read where they lie and
/// not kept; memory is 32 (v2) and 20 (v1) bytes for each piece. Files are independent: spread them over threads.
#[derive(Debug, Clone)]
pub struct FileHasher {
    piece_length: u64,
    size: u64,
    sha256: Sha256,
    block: Sha256,
    tree: TreeHasher,
    v1: Option<(V1Hasher, V1Mode)>,
}

impl FileHasher {
    /// Without bytes yet. `piece_length` is a power of two of at least 16 KiB; [`crate::Builder::file_hasher`] makes
    /// the hasher that fits its torrent.
    pub fn new(piece_length: u64, v1: V1Mode) -> Self {
        Self {
            piece_length,
            size: 0,
            sha256: Sha256::new(),
            block: Sha256::new(),
            tree: TreeHasher::new(merkle::piece_layer(piece_length)),
            v1: (v1 != V1Mode::Skip).then(|| (V1Hasher::new(piece_length), v1)),
        }
    }

    /// Bytes so far: where to go on reading.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes of the file. Cut into blocks here, so that each is still in the cache when the next hash reads it.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = (BLOCK - self.size % BLOCK) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.sha256.update(now);
            self.block.update(now);
            if let Some((v1, _)) = &mut self.v1 {
                v1.update(now);
            }
            self.size += now.len() as u64;
            if self.size.is_multiple_of(BLOCK) {
                self.tree.push(self.block.finalize_reset().into());
            }
            bytes = later;
        }
    }

    /// The hashes of all bytes.
    pub fn finish(mut self) -> FileHashes {
        if !self.size.is_multiple_of(BLOCK) {
            self.tree.push(self.block.finalize_reset().into());
        }
        let (pieces_root, layer) =
            self.tree.finish().map_or((None, Vec::new()), |(root, layer)| (Some(root), layer));
        let v1 = self.v1.map(|(hasher, mode)| {
            let padded = mode == V1Mode::Padded;
            V1Pieces { hashes: if padded { hasher.finish_padded() } else { hasher.finish() }, padded }
        });
        FileHashes {
            size: self.size,
            piece_length: self.piece_length,
            sha256: self.sha256.finalize().into(),
            pieces_root,
            layer,
            v1,
        }
    }
}
