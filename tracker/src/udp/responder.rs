//! One packet in, at most one out. Pure: time and randomness come in with each call.

use std::net::{IpAddr, SocketAddr};

use rand::Rng;

use super::connection_id::Key;
use super::packet::{self, Asked, Request, Transaction};
use crate::access;
use crate::directory::{Claim, Directory, Refusal};
use crate::query::{Announce, QueryError};
use crate::tick::Tick;

/// The time as a tracker over UDP needs it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Seconds since 1970, for connection ids: replicas share it.
    pub unix: u64,
    /// As the swarms know it.
    pub now: Tick,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Too short, or nothing that BEP 15 knows; not answered (T56).
    Malformed,
    /// With a connection id that is not valid for its source; not answered (T57).
    Unproven,
    /// Answered with a connection id.
    Connected,
    /// Answered with peers.
    Announced {
        /// False if there was no room to list the peer itself.
        listed: bool,
    },
    /// Answered with counts.
    Scraped,
    /// Answered with an error: the request makes no sense.
    Rejected,
    /// Answered with an error: the tracker will not.
    Refused(Refusal),
}

/// Answers packets.
#[derive(Clone, Copy, Debug)]
pub struct Responder<'t> {
    /// Issues connection ids, and knows them again.
    pub key: &'t Key,
    /// The swarms.
    pub directory: &'t Directory,
}

impl Responder<'_> {
    /// Takes in a packet, and writes the answer into `out`, of which the old content is lost. It stays empty if there is none.
    ///
    /// Never more bytes out than in unless a connection id proves the source (T58), and never more than
    /// [`MAX_UDP_ANSWER`](crate::limits::MAX_UDP_ANSWER).
    pub fn answer(
        &self,
        packet: &[u8],
        source: SocketAddr,
        clock: Clock,
        rng: &mut impl Rng,
        out: &mut Vec<u8>,
    ) -> Outcome {
        out.clear();
        let address = packet::canonical(source);
        match packet::read(packet) {
            // Nobody can be answered on port 0.
            None => Outcome::Malformed,
            Some(_) if source.port() == 0 => Outcome::Malformed,
            Some(Request::Connect(transaction)) => {
                packet::write_connected(out, transaction, self.key.issue(address, clock.unix));
                Outcome::Connected
            }
            Some(Request::Proven(id, ..)) if !self.key.accepts(id, address, clock.unix) => Outcome::Unproven,
            Some(Request::Proven(_, transaction, Asked::Announce(body))) => {
                self.announce(transaction, packet::announce(body, address), address, clock.now, rng, out)
            }
            Some(Request::Proven(_, transaction, Asked::Scrape(hashes))) => {
                self.scrape(transaction, hashes, out)
            }
        }
    }

    fn announce(
        &self,
        transaction: Transaction,
        asked: Option<Announce>,
        source: IpAddr,
        now: Tick,
        rng: &mut impl Rng,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let Some(asked) = asked else {
            packet::write_error(out, transaction, &QueryError::Port);
            return Outcome::Rejected;
        };
        let reply = self.directory.announce(Claim::Stranger(source), &asked, now, rng);
        access::announced(source, &asked, &reply);
        match reply {
            Ok(reply) => {
                packet::write_announced(out, transaction, &reply, source);
                Outcome::Announced { listed: reply.listed }
            }
            Err(refusal) => {
                packet::write_error(out, transaction, &refusal);
                Outcome::Refused(refusal)
            }
        }
    }

    fn scrape(&self, transaction: Transaction, hashes: &[[u8; 20]], out: &mut Vec<u8>) -> Outcome {
        if hashes.is_empty() {
            packet::write_error(out, transaction, &QueryError::FullScrape);
            return Outcome::Rejected;
        }
        let hashes = packet::scraped(hashes);
        packet::write_scraped(out, transaction, &hashes, &self.directory.scrape(&hashes));
        Outcome::Scraped
    }
}

#[cfg(test)]
mod tests;
