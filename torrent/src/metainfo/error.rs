use crate::bencode::DecodeError;
use crate::path::{PathConflict, PathError, RelPath};

/// Why a .torrent is refused. Nothing is repaired: the whole file counts, or none of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetainfoError {
    /// Not canonical bencode, or over a limit.
    #[error("not valid bencode: {0}")]
    Bencode(#[from] DecodeError),
    /// A key that must be there is not.
    #[error("the key {key:?} is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A key whose value has the wrong type or is out of range.
    #[error("the key {key:?} has a value of the wrong kind")]
    Invalid {
        /// The key.
        key: &'static str,
    },
    /// More entries outside `info` than any torrent has use for.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// `meta version` is not 2: a torrent of the future (BEP 52).
    #[error("meta version {0} is not known, only 1 (absent) and 2 are")]
    MetaVersion(i64),
    /// Not a power of two from 16 KiB to 64 MiB.
    #[error("piece length {0} is not a power of two from 16 KiB to 64 MiB")]
    PieceLength(i64),
    /// The sizes of the files add up to more than 2^63 bytes.
    #[error("the files are larger than 2^63 bytes together")]
    TooLarge,
    /// More pieces than the limit.
    #[error("{pieces} pieces are more than the limit of {limit}")]
    TooManyPieces {
        /// Pieces that the sizes make.
        pieces: u64,
        /// The limit.
        limit: u32,
    },
    /// `pieces` does not hold one hash for each piece.
    #[error("`pieces` has {found} bytes where {expected} belong")]
    PiecesLength {
        /// 20 for each piece.
        expected: u64,
        /// Bytes there are.
        found: usize,
    },
    /// A path is not acceptable.
    #[error("path {path:?}: {error}")]
    Path {
        /// The path, as far as it can be shown.
        path: String,
        /// What is wrong with it.
        error: PathError,
    },
    /// Two paths do not fit together.
    #[error(transparent)]
    Conflict(#[from] PathConflict),
    /// A symbolic link (BEP 47).
    #[error("{path:?} is a symbolic link; torrents with links are refused")]
    Symlink {
        /// The path, as far as it can be shown.
        path: String,
    },
    /// A padding file that is no padding: as long as a piece, or in a v2 file tree.
    #[error("bad padding file of {size} bytes")]
    PadFile {
        /// Its size.
        size: u64,
    },
    /// No files.
    #[error("a torrent without files")]
    NoFiles,
    /// A node of the v2 file tree is neither a directory with entries nor exactly one file.
    #[error("bad node {path:?} in the file tree")]
    FileTree {
        /// The path, as far as it can be shown.
        path: String,
    },
    /// `pieces root` is missing, no hash or all zeros; or an empty file has one.
    #[error("bad pieces root of {0:?}")]
    PiecesRoot(RelPath),
    /// A file longer than a piece has no piece layer.
    #[error("no piece layer of {0:?}")]
    LayerMissing(RelPath),
    /// A piece layer has not one hash for each piece, or does not lead to its root.
    #[error("wrong piece layer of pieces root {0}")]
    LayerWrong(String),
    /// A piece layer that belongs to no file.
    #[error("a piece layer of no file: pieces root {0}")]
    LayerExtra(String),
    /// The v1 and the v2 side of a hybrid describe different files.
    #[error("the v1 and v2 sides differ: {0}")]
    SidesDiffer(String),
}

/// A path of untrusted bytes for a message, cut to a length that a log line can bear.
pub(super) fn shown(components: &[&[u8]]) -> String {
    const SHOWN_CHARS: usize = 200;
    let bytes = components.join(&b'/');
    String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SHOWN_CHARS)]).chars().take(SHOWN_CHARS).collect()
}
