//! What siblings tell each other of the swarms, as far as it touches them.

use std::hash::Hasher;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use torrent::WireId;

use super::news::{Due, Item};
use super::shard::{Entry, SHARDS, Shard, Slot};
use super::{At, Directory, lock};
use crate::fnv::Fnv;
use crate::peer::{Peer, Place, State};
use crate::registry::Node;
use crate::replication::frame::{Swarms, Word};
use crate::swarm::{AHEAD, Shelf, Swarm};
use crate::tick::Tick;

/// What stands in the parts of a directory: the same at two trackers if their swarms have the same peers in the same states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub [u64; SHARDS]);

impl Default for Digest {
    /// Of a tracker that knows nobody.
    fn default() -> Self {
        Digest([0; SHARDS])
    }
}

impl Digest {
    /// The parts that differ.
    pub fn differing(&self, other: &Digest) -> impl Iterator<Item = usize> {
        self.0
            .iter()
            .zip(&other.0)
            .enumerate()
            .filter(|(_, (ours, theirs))| ours != theirs)
            .map(|(nth, _)| nth)
    }
}

impl Directory {
    /// Says how many siblings there are whose peers are to find room here beside our own.
    pub fn siblings(&self, siblings: u32) {
        self.siblings.store(siblings, Ordering::Relaxed);
    }

    /// Says whether anybody wants to hear of news. While nobody does, none is noted, and who leaves is not remembered.
    pub fn replicate(&self, replicated: bool) {
        self.replicated.store(replicated, Ordering::Relaxed);
    }

    /// Writes what has changed since the last call, as it stands now.
    pub fn write_news(&self, swarms: &mut Swarms) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            match shard.news.take() {
                Due::Nothing => {}
                Due::Everything => write_all(&shard, swarms),
                Due::Items(items) => {
                    for item in items {
                        write_item(&mut shard, item, swarms);
                    }
                }
            }
        }
    }

    /// Writes all of one part.
    pub fn write_part(&self, number: usize, swarms: &mut Swarms) {
        write_all(&lock(&self.shards[number]), swarms);
    }

    /// Takes in how often peers of this swarm became complete, as far as a sibling knows.
    pub fn merge_downloaded(&self, name: WireId, downloaded: u32) {
        let (mut shard, canonical) = self.find(name);
        if let Some(slot) = shard.slot(canonical) {
            slot.swarm.merge_downloaded(downloaded);
        }
    }

    /// Takes in what a sibling says of a peer. What is not served here, or has no room, is passed over.
    pub fn merge(&self, name: WireId, word: Word, now: Tick) {
        let Word { at, mut peer, completed } = word;
        // A sibling's clock is known only to a few milliseconds, and two words in one tick are a tick apart.
        peer.seen = peer.seen.min(Tick(now.0.saturating_add(AHEAD)));
        let (mut shard, canonical) = self.find(name);
        if peer.state() != State::Gone && shard.get(canonical).is_none() && self.opens(canonical) {
            let room = usize::try_from(self.public_swarms.load(Ordering::Relaxed)).unwrap_or(0);
            if room >= self.room.public_swarms || peer.expires() <= now {
                return;
            }
            self.count_public(1);
            drop(shard.insert(canonical, Entry::Swarm(Box::<Slot>::default())));
        }
        let Some(slot) = shard.slot(canonical) else { return };
        // A sibling has kept to its own limits. Who was refused here and listed there would be a difference for ever.
        let times = 1 + self.siblings.load(Ordering::Relaxed);
        let room_in_swarm = slot.swarm.strangers() < self.room.per_swarm.saturating_mul(times as usize);
        let room = |address| room_in_swarm && self.sources.enter_times(address, times);
        let admitted = self.admitted.load();
        let admission = &admitted.admission;
        let zone = |address| admission.networks.zone(address);
        match at {
            At::V4(v4) => {
                let peer = peer.at(v4);
                slot.swarm.merge(zone(v4.into()).as_ref(), peer, completed, now, || room(v4.into()));
            }
            At::V6(v6) => {
                let peer = peer.at(v6);
                slot.swarm.merge(zone(v6.into()).as_ref(), peer, completed, now, || room(v6.into()));
            }
            At::Node(name) => {
                let Some(node) = admission.nodes.get(&name) else { return };
                let peer = peer.at(Arc::clone(node));
                slot.swarm.merge(node.zone.as_ref(), peer, completed, now, || true);
            }
        }
    }

    /// The digest of all parts.
    pub fn digest(&self) -> Digest {
        let mut digest = Digest::default();
        for (sum, shard) in digest.0.iter_mut().zip(&self.shards) {
            for (name, slot) in lock(shard).slots() {
                let mut add = |at: &[u8], port: u16, state: State| {
                    let mut hasher = Fnv::default();
                    hasher.write(&name.0);
                    hasher.write(at);
                    hasher.write(&port.to_be_bytes());
                    hasher.write(&[u8::from(state == State::Seeding)]);
                    // Added, since there is no order.
                    *sum = sum.wrapping_add(hasher.finish());
                };
                let v4 = slot.swarm.peers::<Ipv4Addr>().filter(|peer| peer.state() != State::Gone);
                v4.for_each(|peer| add(&peer.place().octets(), peer.port, peer.state()));
                let v6 = slot.swarm.peers::<Ipv6Addr>().filter(|peer| peer.state() != State::Gone);
                v6.for_each(|peer| add(&peer.place().octets(), peer.port, peer.state()));
                let nodes = slot.swarm.peers::<Arc<Node>>().filter(|peer| peer.state() != State::Gone);
                nodes.for_each(|peer| add(peer.place().name.as_bytes(), peer.port, peer.state()));
            }
        }
        digest
    }
}

fn write_all(shard: &Shard, swarms: &mut Swarms) {
    for (name, slot) in shard.slots() {
        swarms.open(name, slot.swarm.downloaded());
        write_peers::<Ipv4Addr>(&slot.swarm, |place| At::V4(*place), swarms);
        write_peers::<Ipv6Addr>(&slot.swarm, |place| At::V6(*place), swarms);
        write_peers::<Arc<Node>>(&slot.swarm, |node| At::Node(Arc::clone(&node.name)), swarms);
    }
}

fn write_item(shard: &mut Shard, item: Item, swarms: &mut Swarms) {
    let Some(slot) = shard.slot(item.swarm) else { return };
    let swarm = &slot.swarm;
    let found = match &item.at {
        At::V4(address) => find::<Ipv4Addr>(swarm, &address.key(item.port)),
        At::V6(address) => find::<Ipv6Addr>(swarm, &address.key(item.port)),
        At::Node(name) => find::<Arc<Node>>(swarm, name),
    };
    if let Some(peer) = found {
        // Who has completed is said of each; the sum of them would count the same ones again.
        swarms.open(item.swarm, 0);
        swarms.push(&Word { at: item.at, peer, completed: item.completed });
    }
}

fn find<P: Shelf>(swarm: &Swarm, key: &P::Key) -> Option<Peer<()>> {
    P::book(swarm)?.find(key).map(Peer::nowhere)
}

fn write_peers<P: Shelf + 'static>(swarm: &Swarm, at: impl Fn(&P) -> At, swarms: &mut Swarms) {
    for peer in swarm.peers::<P>() {
        swarms.push(&Word { at: at(peer.place()), peer: peer.nowhere(), completed: false });
    }
}
