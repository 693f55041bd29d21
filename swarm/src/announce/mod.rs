//! What is said to trackers and what they answer: over HTTP ([`http`]) and over UDP ([`udp`]).

pub mod http;
pub mod udp;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use torrent::WireId;

use crate::wire::PeerId;

/// Peers that are taken from one answer (T53).
pub const MAX_PEERS: usize = 500;
/// Peers that are asked for.
pub const NUMWANT: u32 = 80;
/// The longest message of a tracker that is kept, in characters.
const MAX_TEXT: usize = 300;
/// Wait if the answer names no interval.
const DEFAULT_INTERVAL: Duration = Duration::from_mins(2);
/// The shortest wait that our own trackers may ask for (T53).
pub const OWN_MIN_INTERVAL: Duration = Duration::from_secs(5);
/// The shortest wait that foreign trackers may ask for (T53).
pub const FOREIGN_MIN_INTERVAL: Duration = Duration::from_mins(1);
/// The longest wait that any tracker may ask for (T53).
pub const MAX_INTERVAL: Duration = Duration::from_hours(1);

/// Why an announce is sent out of turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The first one.
    Started,
    /// The last piece has come.
    Completed,
    /// The last one.
    Stopped,
    /// Everything that is wanted is here, and that is not all (BEP 21): said in each announce that has nothing else to say.
    Paused,
}

/// What is announced.
#[derive(Debug, Clone, Copy)]
pub struct Announce<'a> {
    /// The swarm.
    pub id: WireId,
    /// Ourselves.
    pub peer_id: PeerId,
    /// The same for all announces of a process, so that a tracker knows us when our address changes.
    pub key: u32,
    /// Where peers can connect.
    pub port: u16,
    /// Payload bytes sent since `started`.
    pub uploaded: u64,
    /// Payload bytes received since `started`.
    pub downloaded: u64,
    /// Bytes that are missing.
    pub left: u64,
    /// Why now.
    pub event: Option<Event>,
    /// What the tracker gave us to echo.
    pub tracker_id: Option<&'a [u8]>,
    /// Our node's name, for our own trackers.
    pub node: Option<&'a str>,
}

impl Announce<'_> {
    /// How many peers are asked for: who leaves wants none.
    fn wanted(&self) -> u32 {
        if self.event == Some(Event::Stopped) { 0 } else { NUMWANT }
    }
}

/// What the tracker answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// `interval`, as it came.
    pub interval: Option<Duration>,
    /// `min interval`, as it came.
    pub min_interval: Option<Duration>,
    /// `tracker id`.
    pub tracker_id: Option<Vec<u8>>,
    /// `complete`.
    pub seeders: Option<u64>,
    /// `incomplete`.
    pub leechers: Option<u64>,
    /// Everyone named, of both families.
    pub peers: Vec<SocketAddr>,
    /// `warning message`.
    pub warning: Option<String>,
}

/// Why an answer is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// `failure reason`.
    #[error("the tracker refuses: {0}")]
    Refused(String),
    /// Not a bencoded dictionary within the limits.
    #[error("the tracker's answer is no bencoded dictionary")]
    Malformed,
    /// `peers` or `peers6` is cut off.
    #[error("the tracker's peer list is cut off")]
    PeerList,
}

impl Answer {
    /// How long to wait until the next announce, within bounds.
    pub fn wait(&self, own: bool) -> Duration {
        let least = if own { OWN_MIN_INTERVAL } else { FOREIGN_MIN_INTERVAL };
        let wanted = self.interval.unwrap_or(DEFAULT_INTERVAL).max(self.min_interval.unwrap_or_default());
        wanted.clamp(least, MAX_INTERVAL)
    }
}

/// What a tracker says to people, cut to a length and without what would steer a terminal.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

/// Compact IPv4 peers, 6 bytes each (BEP 23).
fn compact_v4(bytes: &[u8]) -> Result<Vec<SocketAddr>, AnswerError> {
    let (peers, rest) = bytes.as_chunks::<6>();
    let peer = |&[a, b, c, d, high, low]: &[u8; 6]| {
        SocketAddr::from((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])))
    };
    if rest.is_empty() { Ok(peers.iter().map(peer).collect()) } else { Err(AnswerError::PeerList) }
}

/// Compact IPv6 peers, 18 bytes each (BEP 7).
fn compact_v6(bytes: &[u8]) -> Result<Vec<SocketAddr>, AnswerError> {
    let (peers, rest) = bytes.as_chunks::<18>();
    let peer = |peer: &[u8; 18]| {
        let (ip, port) = peer.split_first_chunk::<16>()?;
        Some(SocketAddr::from((Ipv6Addr::from(*ip), u16::from_be_bytes(port.try_into().ok()?))))
    };
    if rest.is_empty() { Ok(peers.iter().filter_map(peer).collect()) } else { Err(AnswerError::PeerList) }
}
