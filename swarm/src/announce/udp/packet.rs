//! The datagrams: connect, announce, error (BEP 15), and the option that carries the URL (BEP 41). Numbers are big-endian.

use std::net::SocketAddr;
use std::time::Duration;

use crate::announce::{Announce, Answer, AnswerError, Event, MAX_PEERS, compact_v4, compact_v6, text};

/// What a client says in the place of an id when it asks for one.
const PROTOCOL_ID: u64 = 0x0417_2710_1980;
const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const ERROR: u32 = 3;

/// The option of BEP 41 for path and query; it may come several times, and the parts are joined.
const URL_DATA: u8 = 2;
/// What one option can hold.
const OPTION_LEN: usize = 255;
/// The longest path and query that is sent: with four options an announce has 1,126 bytes, and so passes every IPv6 link (1,280
/// less the headers) in one part.
pub const MAX_URL_DATA: usize = 4 * OPTION_LEN;
/// What is read of a datagram: [`MAX_PEERS`] of the larger kind. The cut is between two peers in either family.
pub const MAX_DATAGRAM: usize = 20 + 18 * MAX_PEERS;

/// The family of the packets, which is that of the peers in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// 6 bytes for a peer.
    V4,
    /// 18 bytes for a peer.
    V6,
}

impl Family {
    /// That of a tracker's address.
    pub fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Path and query of an announce URL as options (BEP 41).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UrlData(Vec<u8>);

impl UrlData {
    /// Of `/announce?key=1`; nothing for an empty path. `None`: it is longer than [`MAX_URL_DATA`].
    pub fn new(path_and_query: &str) -> Option<Self> {
        let bytes = path_and_query.as_bytes();
        let option = |part: &[u8]| {
            let len = u8::try_from(part.len()).expect("parts are as long as an option, at most");
            [&[URL_DATA, len], part].concat()
        };
        (bytes.len() <= MAX_URL_DATA).then(|| Self(bytes.chunks(OPTION_LEN).flat_map(option).collect()))
    }
}

/// An announce as it goes out to one family, without the two ids that the exchange puts in.
#[derive(Debug, Clone)]
pub struct Request {
    family: Family,
    /// From byte 16 on.
    body: Vec<u8>,
}

impl Request {
    /// The announce, 82 bytes, and the options. The tracker takes our address from the packet.
    pub fn new(announce: &Announce<'_>, url: &UrlData, family: Family) -> Self {
        let event: u32 = match announce.event {
            // BEP 15 has no number for it.
            None | Some(Event::Paused) => 0,
            Some(Event::Completed) => 1,
            Some(Event::Started) => 2,
            Some(Event::Stopped) => 3,
        };
        let address = [0; 4];
        let body = [
            &announce.id.0[..],
            &announce.peer_id.0,
            &announce.downloaded.to_be_bytes(),
            &announce.left.to_be_bytes(),
            &announce.uploaded.to_be_bytes(),
            &event.to_be_bytes(),
            &address,
            &announce.key.to_be_bytes(),
            &announce.wanted().to_be_bytes(),
            &announce.port.to_be_bytes(),
            &url.0,
        ]
        .concat();
        Self { family, body }
    }

    /// The datagram.
    pub(super) fn encode(&self, connection: u64, transaction: u32) -> Vec<u8> {
        [&connection.to_be_bytes()[..], &ANNOUNCE.to_be_bytes(), &transaction.to_be_bytes(), &self.body]
            .concat()
    }

    /// What the tracker answered it, read by the family it came in.
    pub(super) fn answer(&self, announced: &Announced<'_>) -> Result<Answer, AnswerError> {
        let mut peers = match self.family {
            Family::V4 => compact_v4(announced.peers)?,
            Family::V6 => compact_v6(announced.peers)?,
        };
        peers.truncate(MAX_PEERS);
        // The numbers are signed. A negative one says nothing.
        let number = |n: i32| u64::try_from(n).ok();
        Ok(Answer {
            interval: number(announced.interval).map(Duration::from_secs),
            leechers: number(announced.leechers),
            seeders: number(announced.seeders),
            peers,
            ..Answer::default()
        })
    }
}

/// The datagram that asks for a connection id.
pub(super) fn connect(transaction: u32) -> Vec<u8> {
    [&PROTOCOL_ID.to_be_bytes()[..], &CONNECT.to_be_bytes(), &transaction.to_be_bytes()].concat()
}

/// What a tracker sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// A connection id.
    Connected(u64),
    /// The answer to an announce.
    Announced(Announced<'a>),
    /// An error, in its words.
    Refused(String),
}

/// The answer to an announce.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Announced<'a> {
    interval: i32,
    leechers: i32,
    seeders: i32,
    peers: &'a [u8],
}

/// Reads the reply to a transaction. `None`: the datagram is none, and to be ignored.
pub(super) fn reply(datagram: &[u8], transaction: u32) -> Option<Reply<'_>> {
    let (action, rest) = number(datagram)?;
    let (answered, rest) = number(rest)?;
    if answered != transaction {
        return None;
    }
    match action {
        CONNECT => Some(Reply::Connected(u64::from_be_bytes(*rest.first_chunk()?))),
        ANNOUNCE => {
            let (interval, rest) = number(rest)?;
            let (leechers, rest) = number(rest)?;
            let (seeders, peers) = number(rest)?;
            let [interval, leechers, seeders] = [interval, leechers, seeders].map(u32::cast_signed);
            Some(Reply::Announced(Announced { interval, leechers, seeders, peers }))
        }
        ERROR => Some(Reply::Refused(text(rest))),
        _ => None,
    }
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}
