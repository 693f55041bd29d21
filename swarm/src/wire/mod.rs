//! What goes over a connection between two peers: handshake, messages, extension handshake. Bytes in, values out.

mod extension;
mod handshake;
mod hashes;
mod message;
pub mod metadata;
mod notice;

pub use extension::{ExtensionError, ExtensionHandshake, REQQ, UT_METADATA};
pub use handshake::{Capabilities, HANDSHAKE_LEN, Handshake, NotAHandshake, PeerId};
pub use hashes::{HashRequest, MAX_HASHES};
pub use message::{
    BLOCK, Block, Decoded, MAX_EXTENDED, MAX_FRAME, MAX_REQUEST, MAX_RUN, Message, PIECE_HEADER, WireError,
    decode, piece_header,
};
pub use notice::{LT_DONTHAVE, Notices, PieceNotice, SM_BAD, SM_COMING, SM_HASHES};
