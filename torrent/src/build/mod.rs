//! Making canonical torrents: same bytes, same infohash.

use crate::bencode::{DictWriter, Writer};
use crate::hash::{FileHasher, FileHashes, V1Hasher, V1Mode};
use crate::limits::{Limits, MAX_PIECE_LENGTH, MIN_PIECE_LENGTH};
use crate::merkle;
pub use crate::metainfo::Version;
use crate::metainfo::{Metainfo, MetainfoError, tree_digest, write_tree};
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

/// Why no torrent can be made of what was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Not a power of two from 16 KiB to 64 MiB.
    #[error("piece length {0} is not a power of two from 16 KiB to 64 MiB")]
    PieceLength(u64),
    /// No files were given.
    #[error("a torrent needs at least one file")]
    NoFiles,
    /// A file was hashed for another torrent: [`Builder::file_hasher`] makes the hasher that fits.
    #[error("{path:?} was hashed with {problem}")]
    HashedOtherwise {
        /// The file.
        path: RelPath,
        /// What does not fit.
        problem: &'static str,
    },
    /// A v1-only torrent of several files has pieces that run across files: feed all files in ascending order of their paths
    /// to one [`V1Hasher`] and hand over the result with [`Builder::v1_pieces`].
    #[error(
        "a v1-only torrent of several files needs the SHA-1 pieces over their concatenation ({expected} bytes)"
    )]
    V1Pieces {
        /// Bytes that the hashes of all pieces have.
        expected: u64,
    },
    /// The result would not be readable, for example because of its paths or its size.
    #[error(transparent)]
    Metainfo(#[from] MetainfoError),
}

/// Makes canonical torrents of hashed files: sorted paths, no dates, and a name that depends on the bytes alone.
///
/// One file becomes a single-file torrent named `sha256-<hex of its bytes>`; the path it was given does not enter. Several
/// files become a tree named `sha256-<hex of the SHA-256 of its bencoded v2 file tree>`, in every version. Hybrids of several
/// files have a padding file (BEP 47) behind every file that does not end on a piece, the last one too, as libtorrent makes
/// them.
#[derive(Debug, Clone)]
pub struct Builder {
    version: Version,
    piece_length: u64,
    private: bool,
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
        Ok(Self { version, piece_length, private: true, v1_pieces: None })
    }

    /// Whether peers come from the trackers only (BEP 27). Canonical torrents are private, which is the default; the key is
    /// part of `info`, so another choice makes another torrent.
    #[must_use]
    pub fn private(mut self, private: bool) -> Self {
        self.private = private;
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
        match (self.version, files > 1) {
            (Version::V2, _) | (Version::V1, true) => V1Mode::Skip,
            (_, false) => V1Mode::Alone,
            (Version::Hybrid, true) => V1Mode::Padded,
        }
    }

    /// The torrent of these files, in any order. It has no trackers yet ([`Metainfo::with_trackers`]).
    pub fn build(&self, mut files: Vec<(RelPath, FileHashes)>) -> Result<Metainfo, BuildError> {
        files.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (path, hashes) in &files {
            self.check(path, hashes, files.len())?;
        }
        let single = files.len() == 1;
        let name = match files.as_mut_slice() {
            [] => return Err(BuildError::NoFiles),
            [(path, hashes)] => {
                let name = format!("sha256-{}", hex::encode(hashes.sha256));
                *path = RelPath::parse(&name).expect("hexadecimal digits make a path");
                name
            }
            files => format!("sha256-{}", hex::encode(tree_digest(tree_of(files)))),
        };
        let pieces = self.collect_v1(&files)?;
        let mut writer = Writer::new();
        writer.dict(|top| {
            top.entry("info").dict(|info| self.write_info(info, &name, &files, single, pieces.as_deref()));
            if self.version.has_v2() {
                top.entry("piece layers").dict(|layers| write_layers(layers, &files));
            }
        });
        Ok(Metainfo::parse(&writer.into_bytes(), &Limits::OWN)?)
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

    /// `info` as it is frozen: any other key or order would change every infohash.
    fn write_info(
        &self,
        info: &mut DictWriter<'_>,
        name: &str,
        files: &[(RelPath, FileHashes)],
        single: bool,
        v1_pieces: Option<&[u8]>,
    ) {
        if self.version.has_v2() {
            write_tree(info.entry("file tree"), tree_of(files));
        }
        if self.version.has_v1() && !single {
            info.entry("files").list(|list| self.write_v1_files(list, files));
        }
        if self.version.has_v1() && single {
            info.entry("length").uint(files.iter().map(|(_, hashes)| hashes.size).sum());
        }
        if self.version.has_v2() {
            info.entry("meta version").int(2);
        }
        info.entry("name").bytes(name);
        info.entry("piece length").uint(self.piece_length);
        if let Some(pieces) = v1_pieces {
            info.entry("pieces").bytes(pieces);
        }
        if self.private {
            info.entry("private").int(1);
        }
    }

    fn write_v1_files(&self, list: &mut Writer, files: &[(RelPath, FileHashes)]) {
        for (path, hashes) in files {
            list.dict(|file| {
                file.entry("length").uint(hashes.size);
                file.entry("path").list(|list| path.components().for_each(|component| list.bytes(component)));
            });
            let padding = hashes.size.next_multiple_of(self.piece_length) - hashes.size;
            if self.version == Version::Hybrid && padding > 0 {
                list.dict(|file| {
                    file.entry("attr").bytes("p");
                    file.entry("length").uint(padding);
                    file.entry("path").list(|list| {
                        list.bytes(".pad");
                        list.bytes(padding.to_string());
                    });
                });
            }
        }
    }
}

fn tree_of(files: &[(RelPath, FileHashes)]) -> impl Iterator<Item = (&RelPath, u64, Option<merkle::Hash>)> {
    files.iter().map(|(path, hashes)| (path, hashes.size, hashes.pieces_root))
}

/// Files with the same bytes share a layer.
fn write_layers(layers: &mut DictWriter<'_>, files: &[(RelPath, FileHashes)]) {
    let mut sorted: Vec<(merkle::Hash, &FileHashes)> = files
        .iter()
        .filter(|(_, hashes)| !hashes.layer.is_empty())
        .filter_map(|(_, hashes)| Some((hashes.pieces_root?, hashes)))
        .collect();
    sorted.sort_unstable_by_key(|(root, _)| *root);
    sorted.dedup_by_key(|(root, _)| *root);
    for (root, hashes) in sorted {
        layers.entry(root).bytes(hashes.layer.as_flattened());
    }
}
