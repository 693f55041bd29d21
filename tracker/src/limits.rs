//! Every bound of the tracker in one place. Together they bound its memory: what the registry admits, times what a swarm may
//! hold, plus the store.

use std::time::Duration;

/// Peers in an answer when the client names no number (rtorrent never does).
pub const DEFAULT_NUM_WANT: usize = 50;
/// Peers in an answer at most, whatever the client asks for (T48).
pub const MAX_NUM_WANT: usize = 200;
/// Infohashes that one scrape is answered for; further ones are passed over (BEP 15's number, T55).
pub const MAX_SCRAPE: usize = 74;
/// Ports below belong to other services and are never handed out (T47).
pub const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// Headers of an announce or a scrape; with more a request is left to the general server, which refuses it.
pub const MAX_REQUEST_HEADERS: usize = 64;
/// Bytes that are read from a connection at a time: a scrape of [`MAX_SCRAPE`] torrents, or dozens of pipelined announces.
pub const READ_BYTES: usize = 16 << 10;
/// Bytes of answers that are written at a time. With as much waiting, pipelined requests wait too, so a client that does not read
/// costs this, one answer and [`READ_BYTES`].
pub const ANSWER_BYTES: usize = 16 << 10;

/// Strangers that one swarm lists, unless the options say otherwise; further ones get peers but are not listed.
pub const MAX_STRANGERS_PER_SWARM: usize = 100_000;
/// Strangers that all swarms list together, unless the options say otherwise.
pub const MAX_STRANGERS: usize = 1_000_000;
/// Strangers from one address (IPv4) or network (IPv6, /64) in all swarms together, unless the options say otherwise: a NAT
/// full of clients, not a flood.
pub const MAX_STRANGERS_PER_SOURCE: u32 = 1_024;
/// Swarms of infohashes that nobody registered, when the tracker is public, unless the options say otherwise.
pub const MAX_PUBLIC_SWARMS: usize = 100_000;

/// A configuration file: twenty options and many words about them.
pub const MAX_CONFIG_BYTES: u64 = 64 << 10;

/// Infohashes in a list of what is served, or never served: in memory, 20 bytes of each.
pub const MAX_LISTED: usize = 1_000_000;
/// The file of such a list: 64 digits for each, and as many bytes of comments.
pub const MAX_LIST_BYTES: u64 = 128 << 20;

/// Swarms in a registry.
pub const MAX_REGISTERED_SWARMS: usize = 100_000;
/// Nodes in a registry.
pub const MAX_REGISTERED_NODES: usize = 10_000;
/// Networks in a registry: each announce of a stranger is looked for in all of them.
pub const MAX_NETWORKS: usize = 256;
/// Addresses of a registered node.
pub const MAX_NODE_ADDRESSES: usize = 8;
/// Names (infohashes or revisions) of a registered swarm.
pub const MAX_NAMES: usize = 256;
/// JSON of a registry: both maxima above with room to spare.
pub const MAX_REGISTRY_BYTES: usize = 64 << 20;

/// One metainfo.
pub const MAX_METAINFO_BYTES: usize = 128 << 20;
/// One content manifest.
pub const MAX_MANIFEST_BYTES: usize = 128 << 20;
/// Metainfo and manifests together, unless the options say otherwise.
pub const DEFAULT_STORE_BYTES: u64 = 1 << 30;
/// Uploads that are being received or checked at a time; further ones wait.
pub const MAX_UPLOADS: usize = 4;
/// Stored things of which siblings have not been told yet.
pub const MAX_FRESH: usize = 1_024;
/// Siblings that listen to a tracker at a time.
pub const MAX_SUBSCRIBERS: usize = 16;
/// Readers that follow swarms at a time.
pub const MAX_WATCHERS: usize = 256;
/// How long a tracker that has siblings waits at its start until it has copied one; then it is ready with what it has.
pub const COPY_PATIENCE: Duration = Duration::from_secs(5);
/// How long a manifest that names no revision may lie here before something registered names it.
pub const UNCLAIMED: Duration = Duration::from_mins(10);

/// Seconds between announces of a sidecar while it leeches, from its third announce on.
pub const INTERVAL_LEECHING: u32 = 30;
/// Its first two: a swarm that has just begun changes fast.
pub const INTERVALS_AT_FIRST: [u32; 2] = [5, 10];
/// Seconds between announces of a sidecar that seeds.
pub const INTERVAL_SEEDING: u32 = 120;
/// Seconds between announces of any other client. libtorrent raises what is less to this.
pub const INTERVAL_STRANGER: u32 = 300;
/// Seconds between announces of who seeds what nobody has wanted for [`COLD_AFTER`].
pub const INTERVAL_COLD: u32 = 600;
/// Seconds after which a torrent that nobody wants is cold.
pub const COLD_AFTER: u32 = 3_600;
/// Intervals are at most so many times longer when the tracker is busy.
pub const MAX_STRETCH: u32 = 4;
/// Announces a second that are wanted for each core, unless the options say otherwise: about what one answers over HTTP on
/// connections that stay open, and less than over UDP.
pub const BUSY_PER_CORE: u32 = 50_000;
/// Minutes after which a client that was refused because the tracker is busy shall come again: the interval of one that was not.
pub const RETRY_MINUTES: u32 = INTERVAL_STRANGER * MAX_STRETCH / 60;
/// No interval is longer, in seconds: two and a half of it are what the record of a peer can say.
pub const MAX_INTERVAL: u32 = 1_500;
/// How long a peer that has left is remembered, in seconds: two intervals, so that no late word brings it back.
pub const GONE_KEPT: u32 = 2 * INTERVAL_STRANGER;
/// How long a sidecar is kept at least after an announce, in seconds; else 2.5 intervals.
pub const MIN_KEPT: u32 = 75;
/// How long any other client is kept, in seconds: rtorrent announces every 600 s at most.
pub const STRANGER_KEPT: u32 = 1_260;
/// Seconds that a tracker lingers at most after SIGTERM: as long as slow load balancers take to notice.
pub const MAX_LINGER: u16 = 600;
/// How often expired peers are taken out.
pub const SWEEP: Duration = Duration::from_secs(5);

/// How long a connection id of UDP is valid, in seconds (BEP 15 asks for two minutes). Below 256 less the allowed skew, since an
/// id has room for so much of the time.
pub const CONNECTION_ID_SECONDS: u8 = 120;
/// How many seconds the clock of a replica may be ahead, so that an id of one is taken by the other at once.
pub const CLOCK_SKEW_SECONDS: u8 = 5;
/// Bytes of a UDP answer at most: an Ethernet frame less IPv6 and UDP headers, and 20 to spare for a tunnel (T60).
pub const MAX_UDP_ANSWER: usize = 1_432;
/// Peers in a UDP answer over IPv6 at most: 18 bytes each.
pub const MAX_UDP_V6_PEERS: usize = 74;
/// Bytes of a UDP packet that are looked at: a scrape of [`MAX_SCRAPE`] torrents, rounded up. The rest is cut off.
pub const MAX_UDP_PACKET: usize = 1_536;
/// UDP packets that are taken from the kernel, or given to it, with one call.
pub const UDP_BATCH: usize = 64;
/// Bytes that a UDP socket may have waiting each way, as far as the system allows it (`net.core.rmem_max`).
pub const UDP_SOCKET_BYTES: usize = 4 << 20;
/// Threads that answer UDP, whatever the options say.
pub const MAX_UDP_WORKERS: u16 = 256;
/// How often such a thread looks whether it is to end.
pub const UDP_STOP_CHECK: Duration = Duration::from_millis(100);
