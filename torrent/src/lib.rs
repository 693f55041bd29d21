//! The BitTorrent file format: bencode, metainfo v1, v2 and hybrid, merkle trees, identity.
//!
//! The crate is pure: bytes in, values out. It opens no file, knows no clock and starts no thread, so the same code runs in
//! the daemons, in the simulator, under the fuzzer and on wasm32.
//!
//! # The model
//!
//! A [`Metainfo`] is a parsed and checked .torrent: a list of payload [`File`]s, laid out in *piece space* by a
//! [`PieceMap`]. Piece `i` covers the bytes `[i * piece_length, (i + 1) * piece_length)` of that space. With a v2 side (v2 and
//! hybrid) every non-empty file starts on a piece; a v1-only torrent puts its files one behind the other. Padding exists only
//! in piece space: it is zeros, it is never a file.
//!
//! What a download has received is proved by a [`PieceVerifier`]; what a fetcher has read is hashed in one pass by a
//! [`FileHasher`] and turned into a canonical torrent by a [`Builder`]: the same bytes give the same infohashes, whoever
//! builds it and whatever the files are called on the user's side.
//!
//! ```
//! use torrent::{Builder, FileHasher, Limits, Metainfo, RelPath, Version, piece_length_for};
//!
//! let bytes = b"what the origin sent";
//! let builder = Builder::new(Version::Hybrid, piece_length_for(bytes.len() as u64))?;
//! let mut hasher: FileHasher = builder.file_hasher(1);
//! hasher.update(bytes);
//! let metainfo = builder.build(vec![(RelPath::parse("greeting.txt")?, hasher.finish())])?;
//!
//! let read = Metainfo::parse(&metainfo.encode(), &Limits::FOREIGN)?;
//! assert_eq!(read.info_hash_v2(), metainfo.info_hash_v2());
//! let mut piece = read.pieces().verifier(0).expect("a torrent of 20 bytes has one piece");
//! piece.feed(0, bytes)?;
//! assert!(piece.finish());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bencode;
mod build;
mod hash;
mod ids;
pub mod ingest;
mod limits;
mod magnet;
pub mod manifest;
pub mod merkle;
mod metainfo;
mod path;
mod piece_hash;
mod pieces;
mod verify;

pub use build::{BuildError, Builder, Plan, Version, piece_length_for};
pub use hash::{FileHasher, FileHashes, V1Hasher, V1Mode, V1Pieces};
pub use ids::{InfoHashV1, InfoHashV2, IngestId, ParseHashError, WireId};
pub use limits::{Limits, MAX_PIECE_LENGTH, MIN_PIECE_LENGTH};
pub use magnet::{Magnet, MagnetError};
pub use metainfo::{File, Info, LayerShape, Metainfo, MetainfoError};
pub use path::{PathConflict, PathError, RelPath, check_paths};
pub use piece_hash::{PieceHasher, PieceHashes, Sides};
pub use pieces::{PieceHash, PieceMap, Segment};
pub use verify::{FeedError, PieceVerifier};
