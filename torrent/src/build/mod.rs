//! Making canonical torrents: same bytes, same infohash.

mod error;
mod info;
mod plan;

pub use error::BuildError;
use info::Hashed;
pub use plan::Plan;

use crate::hash::{FileHasher, FileHashes, V1Hasher, V1Mode};
use crate::limits::{MAX_PIECE_LENGTH, MIN_PIECE_LENGTH};
use crate::metainfo::Metainfo;
pub use crate::metainfo::Version;
use crate::path::RelPath;

/// Piece lengths that are chosen, and pieces a torrent has at most until the length reaches its cap.
const SMALLEST_CHOSEN: u64 = 1 << 20;
const LARGEST_CHOSEN: u64 = 16 << 20;
const PIECES_WANTED: u64 = 4096;

/// The canonical piece length of a payload: the smallest power of two from 1 MiB on that makes at most 4,096 pieces, capped
/// at 16 MiB.
pub fn piece_length_for(size: u64) -> u64 {
    let mut length = SMALLEST_CHOSEN;
    while length < LARGEST_CHOSEN && size > PIECES_WANTED * length {
        length *= 2;
    }
    length
}

/// Makes torrents of hashed files: sorted paths, no dates. Unless told otherwise they are *canonical*: private, without
/// source, and with a name that depends on the bytes alone.
///
/// One file becomes a single-file torrent named `sha256-<hex of its bytes>`; the path it was given does not enter. Several
/// files become a tree named `sha256-<hex of the SHA-256 of its bencoded v2 file tree>`, in every version. Hybrids of several
/// files have a padding file (BEP 47) behind every file that does not end on a piece, the last one too, as libtorrent makes
/// them.
///
/// There are two ways to the hashes: file by file, in order, as they arrive ([`Builder::file_hasher`], [`Builder::build`]), or
/// piece by piece, in any order, on many threads ([`Builder::plan`]).
#[derive(Debug, Clone)]
pub struct Builder {
    version: Version,
    piece_length: u64,
    private: bool,
    name: Option<RelPath>,
    folder: bool,
    source: Option<String>,
    v1_pieces: Option<Vec<u8>>,
}

impl Builder {
    /// For one torrent. `piece_length` comes from [`piece_length_for`] the size of all files, unless the user says otherwise.
    pub fn new(version: Version, piece_length: u64) -> Result<Self, BuildError> {
        let fits =
            piece_length.is_power_of_two() && (MIN_PIECE_LENGTH..=MAX_PIECE_LENGTH).contains(&piece_length);
        if !fits {
            return Err(BuildError::PieceLength(piece_length));
        }
        Ok(Self {
            version,
            piece_length,
            private: true,
            name: None,
            folder: false,
            source: None,
            v1_pieces: None,
        })
    }

    /// Whether peers come from the trackers only (BEP 27). Canonical torrents are private, which is the default; the key is
    /// part of `info`, so another choice makes another torrent.
    #[must_use]
    pub fn private(mut self, private: bool) -> Self {
        self.private = private;
        self
    }

    /// Another name than the canonical one: of the file, if it is one, else of the folder. It is part of `info`.
    pub fn named(mut self, name: &str) -> Result<Self, BuildError> {
        let checked = RelPath::from_components([name.as_bytes()]);
        self.name = Some(checked.map_err(|error| BuildError::Name { name: name.to_owned(), error })?);
        Ok(self)
    }

    /// A folder even if there is only one file to put in it. Only for torrents with a name of their own.
    #[must_use]
    pub fn folder(mut self, folder: bool) -> Self {
        self.folder = folder;
        self
    }

    /// Text in `info` that makes the infohash another one than that of the same files elsewhere.
    #[must_use]
    pub fn source(mut self, source: Option<String>) -> Self {
        self.source = source;
        self
    }

    /// SHA-1 of the pieces over all files in ascending order of their paths, from [`V1Hasher::finish`]. Needed, and used, only
    /// where [`Builder::needs_v1_pass`] says so.
    #[must_use]
    pub fn v1_pieces(mut self, hashes: Vec<u8>) -> Self {
        self.v1_pieces = Some(hashes);
        self
    }

    /// Whether a torrent of that many files needs a pass over their concatenation ([`Builder::v1_hasher`]): v1-only, several
    /// files.
    pub fn needs_v1_pass(&self, files: usize) -> bool {
        self.version == Version::V1 && files > 1
    }

    /// A hasher for the concatenation of all files, see [`Builder::v1_pieces`].
    pub fn v1_hasher(&self) -> V1Hasher {
        V1Hasher::new(self.piece_length)
    }

    /// A hasher for one of `files` files.
    pub fn file_hasher(&self, files: usize) -> FileHasher {
        FileHasher::new(self.piece_length, self.v1_mode(files))
    }

    /// Bytes of a piece.
    pub fn piece_length(&self) -> u64 {
        self.piece_length
    }

    /// Which sides the torrent gets.
    pub fn version(&self) -> Version {
        self.version
    }

    fn v1_mode(&self, files: usize) -> V1Mode {
        match self.version {
            Version::V2 => V1Mode::Skip,
            Version::V1 if files > 1 => V1Mode::Skip,
            Version::Hybrid if self.is_tree(files) => V1Mode::Padded,
            Version::V1 | Version::Hybrid => V1Mode::Alone,
        }
    }

    fn is_tree(&self, files: usize) -> bool {
        files > 1 || (self.folder && self.name.is_some())
    }

    /// The torrent of these files, in any order. It has no trackers yet ([`Metainfo::with_trackers`]).
    pub fn build(&self, mut files: Vec<(RelPath, FileHashes)>) -> Result<Metainfo, BuildError> {
        files.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (path, hashes) in &files {
            self.check(path, hashes, files.len())?;
        }
        let pieces = self.collect_v1(&files)?;
        let digest = files.first().map(|(_, hashes)| hashes.sha256);
        let files = files.into_iter().map(|(path, hashes)| Hashed::new(path, hashes)).collect();
        self.write(files, pieces.as_deref(), digest)
    }

    fn check(&self, path: &RelPath, hashes: &FileHashes, files: usize) -> Result<(), BuildError> {
        let problem = |problem| Err(BuildError::HashedOtherwise { path: path.clone(), problem });
        if hashes.piece_length != self.piece_length {
            return problem("another piece length");
        }
        // Padding or not is the same for a file that ends on a piece.
        let padding_counts = !hashes.size.is_multiple_of(self.piece_length);
        match (self.v1_mode(files), &hashes.v1) {
            (V1Mode::Skip, _) => Ok(()),
            (_, None) => problem("no SHA-1 pieces"),
            (mode, Some(v1)) if padding_counts && v1.padded != (mode == V1Mode::Padded) => {
                problem("the padding of another number of files")
            }
            _ => Ok(()),
        }
    }

    /// The SHA-1 hashes of all pieces, if there is a v1 side.
    fn collect_v1(&self, files: &[(RelPath, FileHashes)]) -> Result<Option<Vec<u8>>, BuildError> {
        if !self.version.has_v1() {
            return Ok(None);
        }
        if !self.needs_v1_pass(files.len()) {
            let hashes = files.iter().filter_map(|(_, hashes)| hashes.v1.as_ref());
            return Ok(Some(hashes.flat_map(|v1| v1.hashes.iter().copied()).collect()));
        }
        let size: u64 = files.iter().map(|(_, hashes)| hashes.size).sum();
        let expected = 20 * size.div_ceil(self.piece_length);
        let given = self.v1_pieces.clone().filter(|hashes| hashes.len() as u64 == expected);
        given.map(Some).ok_or(BuildError::V1Pieces { expected })
    }
}
