//! What a user of the engine says and sees.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use torrent::ingest::{IngestError, Outline};
use torrent::{Metainfo, RelPath};

/// How an [`super::Engine`] works; [`Default`] is right for a node of a cluster.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Where peers connect to. An address that is not a wildcard is also where connections to others start from. Port 0
    /// takes a free one ([`super::Engine::addresses`] tells which).
    pub listen: Vec<SocketAddr>,
    /// First bytes of the peer id, in the customary form `-SM0001-`.
    pub peer_id_prefix: [u8; 8],
    /// Payload bytes per second to all peers together.
    pub upload_limit: Option<u64>,
    /// Payload bytes per second from all peers and web seeds together.
    pub download_limit: Option<u64>,
    /// Connections per torrent.
    pub max_peers: usize,
    /// Bytes of pieces that may be in memory at a time, of all torrents together. At least one piece is always allowed.
    pub buffer_budget: u64,
    /// Whether the space of what is to be fetched is taken before a byte of it is asked for, where the file system can: what does not fit
    /// is [`Trouble::DiskFull`] from the start. Without it files are sparse until they are filled.
    pub preallocate: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 6881))],
            peer_id_prefix: *b"-SM0001-",
            upload_limit: None,
            download_limit: None,
            max_peers: 200,
            buffer_budget: 256 << 20,
            preallocate: true,
        }
    }
}

/// A torrent to share.
#[derive(Debug, Clone)]
pub struct AddTorrent {
    /// What to share.
    pub metainfo: Arc<Metainfo>,
    /// The folder that the layout is relative to; made if it does not exist.
    pub folder: PathBuf,
    /// Where each payload file of the metainfo lies below `folder`, in the order of [`Metainfo::files`].
    pub layout: Vec<RelPath>,
    /// Where the torrent's journal is kept; its folder must exist. `None`: a start after this one re-hashes.
    pub journal: Option<PathBuf>,
    /// All are announced to, each on its own schedule.
    pub trackers: Vec<TrackerSpec>,
    /// What to believe about the files that are there.
    pub assume: Assume,
    /// Peers that are known without a tracker.
    pub peers: Vec<SocketAddr>,
    /// Web seeds (BEP 19), `http://` or `https://`. Those inside the metainfo are asked only if they are named here too (T19).
    pub web_seeds: Vec<String>,
}

/// Content to share while it is still being read ([`torrent::ingest`]).
#[derive(Debug, Clone)]
pub struct GrowTorrent {
    /// What is known of it. Its files lie below `folder` under the paths that it names.
    pub outline: Outline,
    /// The folder; made if it does not exist.
    pub folder: PathBuf,
    /// Where the journal is kept, and beside it, under the same name with `.hashes`, the hashes; the folder around it must exist.
    pub journal: PathBuf,
    /// All are announced to, each on its own schedule.
    pub trackers: Vec<TrackerSpec>,
    /// Peers that are known without a tracker.
    pub peers: Vec<SocketAddr>,
    /// Pieces of files that are about to be put where they belong, as links to the same bytes elsewhere: they are asked of no peer, read
    /// at no origin and never written, until [`TorrentHandle::adopt`](super::TorrentHandle::adopt) or
    /// [`TorrentHandle::unhold`](super::TorrentHandle::unhold). Of those that prove to be here nothing is held.
    pub held: Vec<Range<u32>>,
}

/// A tracker, spoken to over HTTP (BEP 3) or UDP (BEP 15) as its URL says. Another scheme is an error in its [`TrackerStatus`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TrackerSpec {
    /// The announce URL: `http://host:port/announce`, `https://` or `udp://host:port/announce`.
    pub url: String,
    /// Token for our own trackers, sent as `Authorization: Bearer`; over HTTP only.
    pub bearer: Option<String>,
    /// Name of the node for our own trackers, sent as the parameter `node`; over HTTP only.
    pub node: Option<String>,
}

/// Without the token: it must not get into a log.
impl std::fmt::Debug for TrackerSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrackerSpec")
            .field("url", &self.url)
            .field("bearer", &self.bearer.is_some())
            .field("node", &self.node)
            .finish()
    }
}

/// What to believe about the files that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assume {
    /// What the journal says is durable; what it says was written later is hashed; nothing else.
    Journal,
    /// Everything: the files were verified and published, and are only read. Sizes are checked.
    Complete,
    /// Nothing: whatever is there is hashed.
    Nothing,
}

/// Why an engine cannot start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A listen address is taken or not ours.
    #[error("cannot listen on {address}: {source}; is another process using the port?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The HTTP client for trackers cannot be made.
    #[error("cannot set up the HTTP client for trackers: {0}")]
    Http(#[from] reqwest::Error),
}

/// Why a torrent cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// The layout does not name each payload file once.
    #[error("the layout has {found} paths for {wanted} files")]
    Layout {
        /// Paths given.
        found: usize,
        /// Payload files of the torrent.
        wanted: usize,
    },
    /// A selection names a file that the torrent does not have.
    #[error("file {index} is selected, and the torrent has {files} (counted from 0)")]
    Selection {
        /// The index.
        index: usize,
        /// Payload files of the torrent.
        files: usize,
    },
    /// The engine shares a torrent with one of these infohashes already.
    #[error("the torrent is already being shared")]
    Duplicate,
    /// The engine has been shut down.
    #[error("the engine has been shut down")]
    ShutDown,
    /// The folder or a file in it cannot be used.
    #[error("cannot use {path}: {source}")]
    Storage {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The journal cannot be read or written.
    #[error("cannot use the journal {path}: {source}")]
    Journal {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The journal is being written by another engine (T77), which may be in another process.
    #[error(
        "the journal {path} is in use: the torrent is already being shared from there; end the other process first"
    )]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// [`Assume::Complete`], but a file is missing or has another size.
    #[error("{path} was to be complete, but it is missing or has another size")]
    Incomplete {
        /// Which, below the folder.
        path: RelPath,
    },
}

/// What a torrent is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Hashing what is on disk.
    Checking,
    /// Fetching what is missing.
    Leeching,
    /// Everything that is wanted is here, verified and durable.
    Complete,
}

/// Why a torrent does not get on, for as long as that is so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No space or no inodes left, or less than what is missing takes: nothing more is asked for until there is; seeding goes on.
    #[error("the disk is full; the download goes on by itself when there is space")]
    DiskFull,
    /// Another error of the disk.
    #[error("the disk reports an error: {0}")]
    Disk(String),
    /// What was read at the origin cannot be right: nothing of it should be used.
    #[error("what was read at the origin cannot be right: {}", .0.what)]
    Faulty(Fault),
}

/// What fetchers have signed and cannot be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong, and with which piece.
    pub what: String,
    /// Those that have signed it: one, or the two that contradict each other; nobody where it may be anybody.
    pub fetchers: Vec<String>,
}

impl From<&IngestError> for Fault {
    fn from(error: &IngestError) -> Self {
        let fetchers = match error {
            IngestError::Contradiction { before, now, .. } => vec![before.clone(), now.clone()],
            _ => Vec::new(),
        };
        Self { what: error.to_string(), fetchers }
    }
}

/// A torrent's figures at one moment. Bytes are payload bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// What it is doing.
    pub phase: Phase,
    /// Bytes of all files.
    pub total: u64,
    /// Bytes of the pieces that are wanted: with a selection, also the bytes of other files in them.
    pub wanted: u64,
    /// Bytes of those that are not here yet.
    pub lacking: u64,
    /// Of those, at most so many for which space has still to be found on the disk.
    pub ahead: u64,
    /// Bytes that are here and verified, wanted or not.
    pub have: u64,
    /// Bytes of those in `have` that a power cut cannot take.
    pub durable: u64,
    /// Bytes received from peers and web seeds since the start, wasted ones included.
    pub downloaded: u64,
    /// Of those, about so many that came from another zone or region and were good.
    pub downloaded_far: u64,
    /// Bytes sent to peers since the start.
    pub uploaded: u64,
    /// Bytes received for nothing: duplicates, late, or bad.
    pub wasted: u64,
    /// Bytes per second coming in.
    pub download_rate: u64,
    /// Bytes per second going out.
    pub upload_rate: u64,
    /// Connected peers.
    pub peers: usize,
    /// Connected peers that have everything.
    pub seeds: usize,
    /// Peers cut off for bad data.
    pub banned: usize,
    /// What is wrong now.
    pub trouble: Option<Trouble>,
    /// One entry per tracker, in the order given.
    pub trackers: Vec<TrackerStatus>,
    /// One entry per web seed that is used, in the order given: the first 16.
    pub web_seeds: Vec<WebSeedStatus>,
}

/// How it goes with one web seed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebSeedStatus {
    /// Its URL without what may be secret: user, password and query.
    pub url: String,
    /// Payload bytes that it has sent since the start, wasted ones included.
    pub downloaded: u64,
    /// What went wrong last, until it sends again.
    pub error: Option<String>,
    /// How long after that it is asked again; `None` with an error: never.
    pub retry_in: Option<Duration>,
}

/// How it goes with one tracker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrackerStatus {
    /// Its announce URL.
    pub url: String,
    /// Its `tracker id`, which for our own trackers is the epoch: it changes when the tracker has forgotten everything.
    pub tracker_id: Option<String>,
    /// How long until the next announce; zero if there will be none.
    pub next_in: Duration,
    /// Seeders and leechers as it says.
    pub seeders: Option<u64>,
    /// Leechers as it says.
    pub leechers: Option<u64>,
    /// Whether an announce has succeeded since the start.
    pub reached: bool,
    /// How many addresses its first answer named: with none, whoever announces later finds us there.
    pub named_first: usize,
    /// What went wrong last, until an announce succeeds.
    pub error: Option<String>,
}
