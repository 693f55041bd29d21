//! The drivers: sockets, files, trackers.
//!
//! One task per connection ([`connection`]), one per tracker and id ([`announcer`]), one per web seed
//! ([`web_seeds`]), and per torrent one that dials
//! ([`dial`]), one that makes groups of pieces durable ([`store`]) and one that makes figures ([`handle`]). The only lock of a
//! torrent that connections share is that of its [`crate::core::TorrentCore`], taken once per piece, per run of blocks sent, and per control message.

mod announced;
mod announcer;
mod api;
mod budget;
mod clock;
mod company;
mod connection;
mod dial;
mod doubt;
mod engine;
mod growth;
mod handle;
mod hash_log;
mod host;
mod inbox;
mod journal_file;
mod leaves;
mod ledger;
mod limiter;
mod link;
mod listen;
mod lookup;
mod lull;
mod open;
mod passing;
mod reader;
mod record;
mod selection;
mod share;
mod shelf;
mod space;
pub mod storage;
mod store;
mod tls;
mod torrent;
mod transport;
mod web_seeds;
mod writer;
mod zeros;

pub use api::{
    AddError, AddTorrent, Assume, EngineConfig, EngineError, Fault, GrowTorrent, Phase, Stats, TrackerSpec,
    TrackerStatus, Trouble, WebSeedStatus,
};
pub use budget::Buffer;
pub use engine::Engine;
pub use growth::{Fetcher, GraduateError, PutError};
pub use handle::{Hurry, TorrentHandle};
pub use lookup::{FindTorrent, Found, LookupHandle, LookupStatus};
pub use selection::Selection;
pub use storage::written;
