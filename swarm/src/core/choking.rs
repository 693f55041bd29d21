//! Who may ask us for pieces.

use std::time::Duration;

use rand_core::RngCore;

use super::{PeerKey, TorrentCore};
use crate::choker::{Candidate, SLOTS};

impl TorrentCore {
    /// INTERESTED or NOT INTERESTED.
    pub fn peer_interested(&mut self, key: PeerKey, interested: bool) {
        let served =
            self.peers.values().filter(|peer| !peer.is_own && peer.served && peer.interested).count();
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.interested = interested;
        // Nobody has to wait for the end of the round while there is room.
        peer.served |= interested && served < SLOTS;
    }

    /// Whether a connection's requests are not served. Our own are never choked.
    pub fn chokes(&self, key: PeerKey) -> bool {
        self.peers.get(&key).is_some_and(|peer| !peer.is_own && !peer.served)
    }

    /// Decides anew whom of the strangers to serve, if a round is over. Says whether anything has changed.
    pub fn rechoke(&mut self, now: Duration, rng: &mut impl RngCore) -> bool {
        if !self.choker.is_due(now) {
            return false;
        }
        let complete = self.is_complete();
        let wanting = self.peers.iter().filter(|(_, peer)| !peer.is_own && peer.interested);
        let candidates = wanting.map(|(key, peer)| Candidate {
            key: *key,
            payload: if complete { peer.given } else { peer.taken },
        });
        let candidates: Vec<Candidate> = candidates.collect();
        let room = candidates.len() <= SLOTS;
        let chosen = self.choker.choose(candidates, now, rng);
        let mut changed = false;
        for (key, peer) in &mut self.peers {
            (peer.given, peer.taken) = (0, 0);
            // Who wants nothing takes nothing, and keeps its place as long as there is room.
            let served = chosen.contains(key) || (room && peer.served && !peer.interested);
            changed |= served != peer.served && !peer.is_own;
            peer.served = served;
        }
        changed
    }
}
