//! The engine: wire protocol, piece picker, journal, storage, and the drivers around them.
//!
//! The crate has two halves. The **pure** half (everything but [`net`]) has no I/O, no clock and no thread: bytes and the
//! time go in, decisions come out, randomness is an argument. It builds for wasm32. The **net** half (feature `net`, on by
//! default) drives it over TCP sockets, files, HTTP and UDP trackers, and web seeds.
//!
//! The way of a block: the connection's reader takes it from the socket ([`wire`]) and tells the [`conversation`], whose
//! [`download`] says whether it was asked for; [`assembly`] puts it into the piece's buffer and hashes it while it is hot; the
//! last one proves the piece, which is written once, announced to all peers, and made durable with its group ([`journal`]).
//! Which piece a connection fetches is decided under the torrent's only lock by [`core`], once per piece and never per block.
//!
//! # Memory
//!
//! Whatever peers and trackers do, an engine holds no more than this:
//!
//! * **Pieces** under way, half-fetched ones (`MAX_SHELVED` of each torrent) and those that wait for the disk: together
//!   `EngineConfig::buffer_budget` for all torrents, or one piece if that is more. Spare buffers (`MAX_SPARE`) count too, and
//!   the copies of pieces that are passed on. Beside each 16 KiB block lie its hash and its sender, 0.5 %.
//! * **Bookkeeping**: some 70 bytes for each piece of a torrent: 13 for [`picker`], 40 for what a seed gave to whom, 8 for the order of
//!   arrival (no piece is in it more than twice), 7 for what is nearby and whose duty it is (only where the node knows where it is), and a few bits
//!   for what is durable; the lists among them may have room for twice what they hold. Two bits for each piece and connection.
//! * **Hashes** for others ([`hashes`]), once a peer has asked for some: 4 bytes for each file, and 1/256 of the piece layers. An answer
//!   from the bytes of a piece takes 1/512 of the piece, one at a time for each connection (`MAX_HASHING` wait); one that is ready is a
//!   control message. The leaves of 1 GiB are kept (`MAX_KEPT`, 2 MiB). Of each peer, 256 pieces on their way to it (`MAX_COMING`)
//!   and 64 that it was sent last (`MAX_SENT`); of each torrent, 64 pieces in doubt (`MAX_DOUBTED`) and 1,024 that were cleared of it (`MAX_CLEAR`).
//! * **Growing torrents**: some 250 bytes for each piece, with the signatures, and 36 more to answer for its leaves; each connection is told of
//!   hashes 256 KiB at a time (`MAX_RELAYED`). What is read at the origin lies in buffers of the budget.
//! * **Connections**: `EngineConfig::max_peers` for each torrent, and `MAX_PENDING` that have not shaken hands. One has a buffer
//!   to read (`READ`; a longer frame than the codec's limits is refused), a run of blocks to send (`HELPING`), control messages
//!   (`MAX_CONTROL`; more, and it ends), `REQQ` requests of the peer and `MAX_OUTSTANDING` of ours.
//! * **Addresses and verdicts** for each torrent: `MAX_ADDRESSES`, `MAX_CASES` of blame (the hashes of one piece each),
//!   `MAX_VERDICTS`. A tracker's answer is read up to `MAX_RESPONSE`, over UDP `MAX_DATAGRAM` through `MAX_UDP_SOCKETS`.
//! * **Magnet links** being looked up, for each: 16 connections that read 64 KiB at a time, up to a frame (`MAX_FRAME`), three of which may
//!   bring `info` at a time (`MAX_METADATA` each); 32 bytes for each hash of the layers; `MAX_ADDRESSES`. How many lookups there are is
//!   up to who calls for them.
//! * **Web seeds**: `MAX_WEB_SEEDS` of each torrent, with two runs under way each; of a run one piece is in memory, and it counts as
//!   one under way. Each run has a block of which parts have come, and what its connection reads: up to some 400 KiB.
//! * **Journal**: on disk, `MAX_LEN` and `MAX_LEN_PER_PIECE`; in memory only while a start reads it.

pub mod announce;
pub mod assembly;
pub mod bitfield;
pub mod choker;
pub mod conversation;
pub mod core;
pub mod download;
pub mod hashes;
pub mod journal;
pub mod lookup;
pub mod near;
pub mod picker;
pub mod rate;
pub mod subject;
pub mod upload;
pub mod web_seed;
pub mod wire;

#[cfg(feature = "net")]
pub mod net;
#[cfg(test)]
mod test_rng;
#[cfg(test)]
mod test_torrent;

#[cfg(feature = "net")]
pub use net::{
    AddError, AddTorrent, Assume, Buffer, Engine, EngineConfig, EngineError, Fault, Fetcher, FindTorrent,
    Found, GraduateError, GrowTorrent, Hurry, LookupHandle, LookupStatus, Phase, PutError, Selection, Stats,
    TorrentHandle, TrackerSpec, TrackerStatus, Trouble, WebSeedStatus, written,
};
