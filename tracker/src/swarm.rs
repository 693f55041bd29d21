//! The peers of one torrent. Pure: the time comes in with each call, and so does randomness.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use rand::Rng;

use crate::limits::{
    INTERVAL_LEECHING, INTERVAL_SEEDING, INTERVAL_STRANGER, INTERVALS_AT_FIRST, MAX_STRANGERS_PER_SWARM,
    MIN_KEPT, STRANGER_KEPT,
};
use crate::policy::{Asker, Group, choose};
use crate::query::{Announce, Event};
use crate::registry::Node;

/// Seconds since the tracker's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub u32);

/// What a peer of unknown `left` counts as: not complete.
const UNKNOWN_LEFT: u64 = 1;
/// A leecher whose `left` came the same so often in a row gets one list without regard to zones.
const STALLED_AFTER: u8 = 2;

/// Who announces.
#[derive(Clone, Debug)]
pub enum Who {
    /// A sidecar that has shown the token, with what the operator registered for its node.
    Node(Arc<Node>),
    /// Any other client, by the address of its connection.
    Stranger(IpAddr),
}

/// Under which of its torrent's names a client announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// One that all clients of the torrent know: its only one, or the v1 infohash of a hybrid.
    Common,
    /// The v2 infohash of a hybrid. A client that knows only v1 closes connections that come under it, and libtorrent dials under
    /// the name that it was told of a peer by.
    V2OfHybrid,
}

/// What makes a peer one peer: a node's name and port, or an address and port. A new peer id replaces the old one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Node(Arc<str>),
    Stranger(SocketAddr),
}

/// One peer.
#[derive(Clone, Debug)]
pub struct Peer {
    who: Who,
    /// Its name for itself.
    id: [u8; 20],
    port: u16,
    left: u64,
    seen: Seconds,
    expires: Seconds,
    /// Whether it takes connections under the v2 name: it has announced under it, or is a sidecar.
    v2: bool,
    /// Announces so far, as far as they are counted.
    announces: u8,
    /// Announces in a row in which `left` was the same.
    still: u8,
}

/// A peer as it is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Its port, for both.
    pub port: u16,
    /// Its name for itself.
    pub peer_id: [u8; 20],
}

/// The answer to an announce.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Seconds until the next announce.
    pub interval: u32,
    /// Peers that have everything.
    pub complete: usize,
    /// Peers that do not.
    pub incomplete: usize,
    /// Others to connect to, never the one that asks.
    pub peers: Vec<Contact>,
    /// False if the swarm has no room for one more stranger: it got peers, but is not handed out.
    pub listed: bool,
}

/// Peers of one zone that are alike in being complete or not, and in taking connections under the v2 name or not.
#[derive(Debug)]
struct Bucket {
    zone: Option<Arc<str>>,
    seeding: bool,
    v2: bool,
    peers: Vec<Peer>,
}

/// The peers of one torrent, whichever of its names they announce.
#[derive(Debug, Default)]
pub struct Swarm {
    buckets: Vec<Bucket>,
    /// Bucket, and position in it.
    index: HashMap<Key, (usize, usize)>,
    strangers: usize,
    downloaded: u32,
}

impl Swarm {
    /// Takes in an announce and answers it. A stranger that is new is listed only if `room` says that there is room.
    pub fn announce(
        &mut self,
        who: Who,
        announce: &Announce,
        name: Name,
        room: bool,
        now: Seconds,
        rng: &mut impl Rng,
    ) -> Reply {
        let key = key(&who, announce.port);
        let before = self.take(&key);
        let peer = next(who, announce, name, before.as_ref(), now);
        let interval = peer.interval();
        if announce.event == Event::Completed
            && before.as_ref().is_some_and(|before| before.left > 0)
            && peer.left == 0
        {
            self.downloaded += 1;
        }
        let stays = announce.event != Event::Stopped;
        let asker = Asker {
            zone: peer.zone(),
            seeding: peer.left == 0,
            stalled: peer.still == STALLED_AFTER,
            want: if stays { announce.num_want } else { 0 },
        };
        // Sidecars try both names themselves.
        let only_v2 = name == Name::V2OfHybrid && peer.is_stranger();
        let peers = choose(&self.groups(only_v2), asker, rng).into_iter().map(Peer::contact).collect();
        let listed = stays && (before.is_some() || self.admits(&peer, room));
        if listed {
            self.insert(key, peer);
        }
        Reply {
            interval,
            complete: self.complete(),
            incomplete: self.len() - self.complete(),
            peers,
            listed: listed || !stays,
        }
    }

    /// Whether this peer is listed.
    pub fn lists(&self, who: &Who, port: u16) -> bool {
        self.index.contains_key(&key(who, port))
    }

    /// Takes out all that have not announced in time, and answers the addresses of the strangers among them.
    pub fn expire(&mut self, now: Seconds) -> Vec<IpAddr> {
        self.retain(|peer| peer.expires > now)
    }

    /// Takes out the nodes that `registered` does not know.
    pub fn retain_nodes(&mut self, registered: impl Fn(&str) -> bool) {
        self.retain(|peer| match &peer.who {
            Who::Node(node) => registered(&node.name),
            Who::Stranger(_) => true,
        });
    }

    /// Peers with `left` = 0.
    pub fn complete(&self) -> usize {
        self.buckets.iter().filter(|bucket| bucket.seeding).map(|bucket| bucket.peers.len()).sum()
    }

    /// All peers.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Those among them that are no nodes.
    pub fn strangers(&self) -> impl Iterator<Item = IpAddr> {
        self.peers().filter_map(|peer| match peer.who {
            Who::Stranger(address) => Some(address),
            Who::Node(_) => None,
        })
    }

    /// How often a peer said that it has just become complete.
    pub fn downloaded(&self) -> u32 {
        self.downloaded
    }

    /// All peers.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.buckets.iter().flat_map(|bucket| &bucket.peers)
    }

    fn groups(&self, only_v2: bool) -> Vec<Group<'_, Peer>> {
        self.buckets
            .iter()
            .filter(|bucket| bucket.v2 || !only_v2)
            .map(|bucket| Group {
                zone: bucket.zone.as_deref(),
                seeding: bucket.seeding,
                peers: &bucket.peers,
            })
            .collect()
    }

    fn admits(&self, peer: &Peer, room: bool) -> bool {
        match peer.who {
            Who::Node(_) => true,
            Who::Stranger(_) => room && self.strangers < MAX_STRANGERS_PER_SWARM,
        }
    }

    fn insert(&mut self, key: Key, peer: Peer) {
        let seeding = peer.left == 0;
        let zone = peer.zone();
        let found = self.buckets.iter().position(|bucket| {
            (bucket.seeding, bucket.v2, bucket.zone.as_deref()) == (seeding, peer.v2, zone)
        });
        let place = found.unwrap_or_else(|| {
            let zone = zone.map(Arc::from);
            self.buckets.push(Bucket { zone, seeding, v2: peer.v2, peers: Vec::new() });
            self.buckets.len() - 1
        });
        self.strangers += usize::from(peer.is_stranger());
        self.index.insert(key, (place, self.buckets[place].peers.len()));
        self.buckets[place].peers.push(peer);
    }

    fn take(&mut self, key: &Key) -> Option<Peer> {
        let (bucket, position) = self.index.remove(key)?;
        let peers = &mut self.buckets[bucket].peers;
        let peer = peers.swap_remove(position);
        if let Some(moved) = peers.get(position) {
            self.index.insert(moved.key(), (bucket, position));
        }
        self.strangers -= usize::from(peer.is_stranger());
        Some(peer)
    }

    fn retain(&mut self, keep: impl Fn(&Peer) -> bool) -> Vec<IpAddr> {
        let before = self.len();
        let mut gone = Vec::new();
        let mut left = 0;
        for bucket in &mut self.buckets {
            bucket.peers.retain(|peer| {
                let kept = keep(peer);
                if let (false, Who::Stranger(address)) = (kept, &peer.who) {
                    gone.push(*address);
                }
                kept
            });
            left += bucket.peers.len();
        }
        if left < before {
            self.buckets.retain(|bucket| !bucket.peers.is_empty());
            self.strangers -= gone.len();
            self.index = self.places().collect();
        }
        gone
    }

    fn places(&self) -> impl Iterator<Item = (Key, (usize, usize))> {
        let numbered = |(nth, bucket): (usize, &Bucket)| {
            let keys: Vec<Key> = bucket.peers.iter().map(Peer::key).collect();
            keys.into_iter().enumerate().map(move |(position, key)| (key, (nth, position)))
        };
        self.buckets.iter().enumerate().flat_map(numbered)
    }
}

impl Peer {
    /// The node, for a sidecar.
    pub fn node(&self) -> Option<&Node> {
        match &self.who {
            Who::Node(node) => Some(node),
            Who::Stranger(_) => None,
        }
    }

    /// Bytes it still wants.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// When it announced last.
    pub fn seen(&self) -> Seconds {
        self.seen
    }

    /// Where it is reached.
    pub fn contact(&self) -> Contact {
        let (v4, v6) = match &self.who {
            Who::Node(node) => (node.v4, node.v6),
            Who::Stranger(IpAddr::V4(v4)) => (Some(*v4), None),
            Who::Stranger(IpAddr::V6(v6)) => (None, Some(*v6)),
        };
        Contact { v4, v6, port: self.port, peer_id: self.id }
    }

    fn zone(&self) -> Option<&str> {
        self.node().and_then(|node| node.zone.as_deref())
    }

    fn is_stranger(&self) -> bool {
        self.node().is_none()
    }

    fn key(&self) -> Key {
        key(&self.who, self.port)
    }

    fn interval(&self) -> u32 {
        if self.is_stranger() {
            return INTERVAL_STRANGER;
        }
        if self.left == 0 {
            return INTERVAL_SEEDING;
        }
        INTERVALS_AT_FIRST.get(usize::from(self.announces) - 1).copied().unwrap_or(INTERVAL_LEECHING)
    }
}

impl Contact {
    /// Its addresses with the port, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        let (v4, v6, port) = (self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6), self.port);
        v4.into_iter().chain(v6).map(move |address| SocketAddr::new(address, port))
    }
}

/// A node has one entry whatever port it names (T51); it listens on one.
fn key(who: &Who, port: u16) -> Key {
    match who {
        Who::Node(node) => Key::Node(Arc::clone(&node.name)),
        Who::Stranger(address) => Key::Stranger(SocketAddr::new(*address, port)),
    }
}

/// The record of a peer after `announce`, given the one `before` it.
fn next(who: Who, announce: &Announce, name: Name, before: Option<&Peer>, now: Seconds) -> Peer {
    let unknown = if announce.event == Event::Completed {
        0
    } else {
        before.map_or(UNKNOWN_LEFT, |before| before.left)
    };
    let left = announce.left.unwrap_or(unknown);
    let still = before
        .filter(|before| left > 0 && before.left == left)
        .map_or(0, |before| before.still.saturating_add(1));
    let v2 =
        name == Name::V2OfHybrid || before.is_some_and(|before| before.v2) || matches!(who, Who::Node(_));
    let mut peer = Peer {
        who,
        id: announce.peer_id,
        port: announce.port,
        left,
        seen: now,
        expires: now,
        v2,
        announces: before.map_or(0, |before| before.announces).saturating_add(1),
        still,
    };
    let kept = if peer.is_stranger() { STRANGER_KEPT } else { MIN_KEPT.max(peer.interval() * 5 / 2) };
    peer.expires = Seconds(now.0.saturating_add(kept));
    peer
}

#[cfg(test)]
mod tests;
