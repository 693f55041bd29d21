//! The engine: wire protocol, piece picker, journal, storage, and the drivers around them.
//!
//! The crate has two halves. The **pure** half (everything but [`net`]) has no I/O, no clock and no thread: bytes and the
//! time go in, decisions come out, randomness is an argument. It builds for wasm32. The **net** half (feature `net`, on by
//! default) drives it over TCP sockets, files and HTTP trackers.
//!
//! The way of a block: the connection's reader takes it from the socket ([`wire`]), [`download`] says whether it was asked
//! for, [`assembly`] puts it into the piece's buffer and hashes it while it is hot; the last one proves the piece, which is
//! written once, announced to all peers, and made durable with its group ([`journal`]). Which piece a connection fetches is
//! decided under the torrent's only lock by [`core`], once per piece and never per block.

pub mod announce;
pub mod assembly;
pub mod bitfield;
pub mod core;
pub mod download;
pub mod journal;
pub mod picker;
pub mod rate;
pub mod upload;
pub mod wire;

#[cfg(feature = "net")]
pub mod net;
#[cfg(test)]
mod test_rng;

#[cfg(feature = "net")]
pub use net::{
    AddError, AddTorrent, Assume, Engine, EngineConfig, EngineError, Phase, Stats, TorrentHandle,
    TrackerSpec, TrackerStatus, Trouble,
};
