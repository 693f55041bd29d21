use crate::metainfo::MetainfoError;
use crate::path::{PathError, RelPath};

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
    /// A name that is no single path component, see [`RelPath`].
    #[error("name {name:?}: {error}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        error: PathError,
    },
    /// The canonical name of a single file is made of the SHA-256 of its bytes, which was not given.
    #[error("a canonical name needs the SHA-256 of the file")]
    NoDigest,
    /// [`Plan::finish`] was not given all hashes of all pieces.
    #[error("the hashes of all {pieces} pieces are needed")]
    PiecesMissing {
        /// How many pieces the plan has.
        pieces: usize,
    },
    /// The result would not be readable, for example because of its paths or its size.
    #[error(transparent)]
    Metainfo(#[from] MetainfoError),
}
