//! Packets of BEP 15: reading requests, writing answers. All numbers are big-endian.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};

use torrent::WireId;

use super::connection_id::ConnectionId;
use crate::directory::ScrapeEntry;
use crate::limits::{DEFAULT_NUM_WANT, FIRST_UNPRIVILEGED_PORT, MAX_NUM_WANT, MAX_SCRAPE, MAX_UDP_V6_PEERS};
use crate::query::{Announce, Event, Family};
use crate::swarm::Reply;

/// What stands in place of a connection id in a request for one.
const MAGIC: u64 = 0x0417_2710_1980;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// Bytes of an announce; what follows are the options of BEP 41, of which none changes an answer of this tracker.
const ANNOUNCE_BYTES: usize = 98;
/// Bytes before the infohashes of a scrape, and of what all requests begin with.
const HEAD_BYTES: usize = 16;

/// A number that the client chose to know the answer by; only echoed (T60).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction(pub [u8; 4]);

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'p> {
    /// For a connection id.
    Connect(Transaction),
    /// Anything else, with the connection id that it shows.
    Proven(ConnectionId, Transaction, Asked<'p>),
}

/// What is asked for with a connection id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked<'p> {
    /// See [`announce`].
    Announce(&'p [u8; ANNOUNCE_BYTES]),
    /// The infohashes, as many as came.
    Scrape(&'p [[u8; 20]]),
}

/// Reads a request; none if it is too short, or nothing that BEP 15 knows (T56).
pub fn read(packet: &[u8]) -> Option<Request<'_>> {
    let (head, rest) = packet.split_first_chunk::<HEAD_BYTES>()?;
    let connection = u64::from_be_bytes(field(head, 0));
    let transaction = Transaction(field(head, 12));
    let asked = match (u32::from_be_bytes(field(head, 8)), connection) {
        (CONNECT, MAGIC) => return Some(Request::Connect(transaction)),
        (ANNOUNCE, _) => Asked::Announce(packet.first_chunk()?),
        (SCRAPE, _) => Asked::Scrape(rest.as_chunks().0),
        _ => return None,
    };
    Some(Request::Proven(ConnectionId(connection), transaction, asked))
}

/// Reads an announce; none if nobody may listen on its port (T47). Its address is passed over: that of the packet counts (T46).
///
/// `num_want` is capped to what fits into an answer over the family of `source`.
pub fn announce(packet: &[u8; ANNOUNCE_BYTES], source: IpAddr) -> Option<Announce> {
    let port = u16::from_be_bytes(field(packet, 96));
    if port < FIRST_UNPRIVILEGED_PORT {
        return None;
    }
    let num_want = i32::from_be_bytes(field(packet, 92));
    Some(Announce {
        info_hash: WireId(field(packet, 16)),
        peer_id: field(packet, 36),
        port,
        // Clients that do not know it yet, as with a magnet link, say -1.
        left: u64::try_from(i64::from_be_bytes(field(packet, 64))).ok(),
        event: event(u32::from_be_bytes(field(packet, 80))),
        num_want: usize::try_from(num_want).unwrap_or(DEFAULT_NUM_WANT).min(most_peers(source)),
        compact: true,
        only: Some(if source.is_ipv4() { Family::V4 } else { Family::V6 }),
        node: None,
    })
}

/// Writes the answer to a request for a connection id.
pub fn write_connected(out: &mut Vec<u8>, transaction: Transaction, id: ConnectionId) {
    head(out, CONNECT, transaction);
    out.extend_from_slice(&id.0.to_be_bytes());
}

/// Writes the answer to an announce from `source`, whose family decides about that of the peers.
pub fn write_announced(out: &mut Vec<u8>, transaction: Transaction, reply: &Reply, source: IpAddr) {
    head(out, ANNOUNCE, transaction);
    number(out, reply.interval as usize);
    number(out, reply.incomplete);
    number(out, reply.complete);
    let most = most_peers(source);
    if source.is_ipv4() {
        for (address, port) in reply.peers.iter().filter_map(|peer| Some((peer.v4?, peer.port))).take(most) {
            out.extend_from_slice(&address.octets());
            out.extend_from_slice(&port.to_be_bytes());
        }
    } else {
        for (address, port) in reply.peers.iter().filter_map(|peer| Some((peer.v6?, peer.port))).take(most) {
            out.extend_from_slice(&address.octets());
            out.extend_from_slice(&port.to_be_bytes());
        }
    }
}

/// The torrents that a scrape is answered for.
pub fn scraped(hashes: &[[u8; 20]]) -> Vec<WireId> {
    hashes.iter().take(MAX_SCRAPE).map(|&hash| WireId(hash)).collect()
}

/// Writes the answer to a scrape: its place says which torrent is meant, so one that is not served has zeros.
pub fn write_scraped(
    out: &mut Vec<u8>,
    transaction: Transaction,
    hashes: &[WireId],
    entries: &[ScrapeEntry],
) {
    head(out, SCRAPE, transaction);
    for hash in hashes {
        let entry = entries.iter().find(|entry| entry.info_hash == *hash);
        number(out, entry.map_or(0, |entry| entry.complete));
        number(out, entry.map_or(0, |entry| entry.downloaded as usize));
        number(out, entry.map_or(0, |entry| entry.incomplete));
    }
}

/// Writes a refusal, in words for the client's user.
pub fn write_error(out: &mut Vec<u8>, transaction: Transaction, why: &impl Error) {
    head(out, ERROR, transaction);
    out.extend_from_slice(why.to_string().as_bytes());
}

/// Where a packet came from: an IPv4 address that a socket of both families shows as `::ffff:192.0.2.7` is one.
pub fn canonical(source: SocketAddr) -> IpAddr {
    source.ip().to_canonical()
}

fn most_peers(source: IpAddr) -> usize {
    if source.is_ipv4() { MAX_NUM_WANT } else { MAX_UDP_V6_PEERS }
}

fn event(number: u32) -> Event {
    match number {
        1 => Event::Completed,
        2 => Event::Started,
        3 => Event::Stopped,
        _ => Event::None,
    }
}

fn head(out: &mut Vec<u8>, action: u32, transaction: Transaction) {
    out.extend_from_slice(&action.to_be_bytes());
    out.extend_from_slice(&transaction.0);
}

fn number(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
}

/// The bytes from `at` on; the compiler sees that they are there.
fn field<const N: usize, const ALL: usize>(bytes: &[u8; ALL], at: usize) -> [u8; N] {
    std::array::from_fn(|nth| bytes[at + nth])
}

#[cfg(test)]
mod tests;
