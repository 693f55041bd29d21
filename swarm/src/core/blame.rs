//! Who sent bad data, and what follows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::doubt::MAX_BAD;
use super::{PeerKey, TorrentCore};
use crate::assembly::{Assembly, Leaf};
use crate::wire::PeerId;

/// Pieces for which the blocks of a failed attempt are remembered; beyond, the oldest piece number goes.
const MAX_CASES: usize = 64;
/// An address behind which so many peers were banned is banned itself: peer ids are free.
const PEERS_PER_ADDRESS: u32 = 3;
/// Strikes after which one of our own is banned: the first may be honest bit rot, and it is only disconnected.
const OWN_STRIKES: u32 = 2;

/// Peers with strikes, and banned ones, that are remembered: a liar costs us a piece, so that so many are an attack.
const MAX_VERDICTS: usize = 10_000;

/// A peer as the sender of data: it stays the same when the connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// From its handshake.
    pub id: PeerId,
    /// Where it was.
    pub ip: IpAddr,
}

/// Open cases and verdicts.
#[derive(Debug, Default)]
pub(super) struct Blame {
    /// For pieces that failed with blocks of several peers: who sent which leaf.
    cases: BTreeMap<u32, Vec<(Source, Leaf)>>,
    strikes: BTreeMap<Source, u32>,
    banned: BTreeSet<Source>,
    addresses: BTreeMap<IpAddr, u32>,
}

impl Blame {
    /// A piece did not verify: who did it, if that is certain already.
    pub fn failed(&mut self, piece: u32, evidence: Vec<(Source, Leaf)>) -> Option<Source> {
        let (first, _) = *evidence.first()?;
        if evidence.iter().all(|(source, _)| *source == first) {
            return Some(first);
        }
        self.cases.insert(piece, evidence);
        if self.cases.len() > MAX_CASES {
            self.cases.pop_first();
        }
        None
    }

    /// A piece did verify: who had sent other blocks before.
    pub fn verified(&mut self, piece: u32, truth: &[Leaf]) -> Vec<Source> {
        let evidence = self.cases.remove(&piece).unwrap_or_default();
        Assembly::<Vec<u8>, Source>::liars(&evidence, truth)
    }

    /// One strike against a peer.
    pub fn strike(&mut self, liar: Source, own: bool) {
        let strikes = self.strikes.entry(liar).or_default();
        *strikes += 1;
        let enough = !own || *strikes >= OWN_STRIKES;
        if self.strikes.len() > MAX_VERDICTS {
            self.strikes.pop_first();
        }
        if enough && self.banned.len() < MAX_VERDICTS && self.banned.insert(liar) {
            *self.addresses.entry(liar.ip).or_default() += 1;
        }
    }

    pub fn is_banned(&self, source: Source) -> bool {
        self.banned.contains(&source) || self.is_banned_address(source.ip)
    }

    pub fn is_banned_address(&self, ip: IpAddr) -> bool {
        self.addresses.get(&ip).is_some_and(|banned| *banned >= PEERS_PER_ADDRESS)
    }

    /// Web seeds say for themselves how it goes with them.
    pub fn banned_peers(&self) -> usize {
        self.banned.iter().filter(|source| !source.is_web_seed()).count()
    }
}

impl TorrentCore {
    /// A piece did not verify. If one peer sent all of it, it is cut off; else the next good copy tells who lied.
    pub fn failed(&mut self, key: PeerKey, piece: u32, evidence: Vec<(Source, Leaf)>) {
        self.release(key, piece);
        if let Some(liar) = self.blame.failed(piece, evidence) {
            self.punish(liar, piece);
        }
    }

    /// A strike for each connection of a peer, and its end.
    pub(super) fn punish(&mut self, liar: Source, piece: u32) {
        let own = self.peers.values().any(|peer| peer.source == liar && peer.is_own);
        self.blame.strike(liar, own);
        for peer in self.peers.values_mut().filter(|peer| peer.source == liar) {
            peer.doomed = true;
            if peer.bad.len() < MAX_BAD {
                peer.bad.push(piece);
            }
        }
    }

    /// Whether this peer was cut off.
    pub fn is_banned(&self, source: Source) -> bool {
        self.blame.is_banned(source)
    }

    /// Whether a peer at this address was cut off.
    pub fn is_banned_address(&self, ip: IpAddr) -> bool {
        self.blame.is_banned_address(ip)
    }

    /// How many peers were cut off for bad data.
    pub fn banned(&self) -> usize {
        self.blame.banned_peers()
    }
}
