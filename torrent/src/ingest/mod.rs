//! Torrents that are shared while their content is still being read.
//!
//! An infohash exists only when the last byte has been hashed. Until then a swarm goes by the id of an [`Outline`]: the
//! files and their lengths, how they become a torrent, and the key of whoever says which nodes may read the origin. Those
//! nodes, the *fetchers*, sign the hashes of the pieces that they have read ([`Batch`]), each with a [`Warrant`] that the
//! holder of the outline's key has signed for it. Everyone else only relays batches and believes none that does not lead
//! back to the outline, whose id they know from elsewhere: so a piece can be verified as soon as its hash is there, whoever
//! brought either. [`HashTable`] collects the hashes; with the last one it makes the same [`crate::Metainfo`] as
//! [`crate::Builder`] would.
//!
//! v1-only torrents are not shared in this way: the pieces of several files run across them, and nothing in them is
//! attributable.

mod batch;
mod blob;
mod keys;
mod outline;
mod table;
#[cfg(test)]
mod tests;
mod warrant;

pub use batch::{Batch, MAX_BATCH};
pub use keys::{PublicKey, SigningKey};
pub use outline::{Outline, OutlineError};
pub use table::{HashTable, News};
pub use warrant::{MAX_FETCHER_NAME, Warrant};

/// Why hashes are not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// Not the bytes of a batch or warrant.
    #[error("malformed hashes or warrant")]
    Malformed,
    /// For other content, or for pieces that it does not have.
    #[error("hashes of pieces that the content does not have")]
    NoSuchPiece,
    /// Not signed by whom it says, or that one not by the outline's key.
    #[error("hashes without a valid signature")]
    Signature,
    /// Two fetchers, or one at two times, say different things about the same piece: the source has changed between two
    /// reads, or one of them lies.
    #[error(
        "the fetchers {before} and {now} read different bytes for piece {piece}: the source has changed, or one of them is faulty"
    )]
    Contradiction {
        /// Which piece.
        piece: u32,
        /// Who signed what was known.
        before: String,
        /// Who signed what has come now.
        now: String,
    },
    /// More fetchers than an ingest ever has.
    #[error("more than {} fetchers have signed hashes", table::MAX_FETCHERS)]
    TooManyFetchers,
}
