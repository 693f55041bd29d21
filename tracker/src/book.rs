//! A packed table of the peers of one kind, in groups that are alike to the peer policy. Pure.
//!
//! A few peers are looked for one by one; where there are more, there is an index. Peers of a group lie side by side, so that one
//! can be drawn by its number.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::peer::{Peer, Place, State};
use crate::rows::Rows;

/// A book with more peers than this has an index: below it, looking at all of them is as fast and costs no memory.
const INDEXED: usize = 32;

/// Peers that are alike to the peer policy.
#[derive(Debug)]
pub struct Group<P> {
    kind: Kind,
    peers: Rows<Peer<P>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kind {
    zone: Option<Arc<str>>,
    state: State,
    v2: bool,
}

impl<P> Group<P> {
    /// Their zone; none if it is not known.
    pub fn zone(&self) -> Option<&str> {
        self.kind.zone.as_deref()
    }

    /// How far they are.
    pub fn state(&self) -> State {
        self.kind.state
    }

    /// Whether they take connections under the v2 name of a hybrid.
    pub fn knows_v2(&self) -> bool {
        self.kind.v2
    }

    /// In any order.
    pub fn peers(&self) -> &Rows<Peer<P>> {
        &self.peers
    }

    fn is_for(&self, zone: Option<&Arc<str>>, peer: &Peer<P>) -> bool {
        (self.kind.state, self.kind.v2) == (peer.state(), peer.knows_v2())
            && self.zone() == zone.map(AsRef::as_ref)
    }
}

/// Where a peer stands, until its book changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The number of its group.
    pub group: u32,
    /// Its number in the group.
    pub position: u32,
}

#[derive(Debug, Default)]
struct Index {
    spots: HashTable<Spot>,
    /// Random per index: nobody can choose addresses that collide.
    hasher: DefaultHashBuilder,
}

/// The peers of one kind of one torrent.
#[derive(Debug)]
pub struct Book<P: Place> {
    groups: Vec<Group<P>>,
    index: Option<Box<Index>>,
    len: u32,
}

/// Why there is a peer: spots are made here, and do not outlive a change.
const A_SPOT: &str = "a peer stands at each spot until its book changes";

fn peer_at<P>(groups: &[Group<P>], spot: Spot) -> &Peer<P> {
    groups[spot.group as usize].peers.get(spot.position as usize).expect(A_SPOT)
}

impl<P: Place> Default for Book<P> {
    fn default() -> Self {
        Book { groups: Vec::new(), index: None, len: 0 }
    }
}

impl<P: Place> Book<P> {
    /// Its groups; some may be empty.
    pub fn groups(&self) -> &[Group<P>] {
        &self.groups
    }

    /// All peers, those that are gone too.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All peers, those that are gone too.
    pub fn peers(&self) -> impl Iterator<Item = &Peer<P>> {
        self.groups.iter().flat_map(|group| group.peers.iter())
    }

    /// How many are in this state.
    pub fn count(&self, state: State) -> usize {
        self.groups.iter().filter(|group| group.kind.state == state).map(|group| group.peers.len()).sum()
    }

    /// The peer with this key.
    pub fn find(&self, key: &P::Key) -> Option<&Peer<P>> {
        self.spot(key).map(|spot| self.at(spot))
    }

    /// Where the peer with this key stands.
    pub fn spot(&self, key: &P::Key) -> Option<Spot> {
        if let Some(index) = &self.index {
            let hash = index.hasher.hash_one(key);
            return index.spots.find(hash, |spot| self.at(*spot).key() == *key).copied();
        }
        self.groups.iter().enumerate().find_map(|(group, found)| {
            let position = found.peers.iter().position(|peer| peer.key() == *key)?;
            Some(Spot { group: group as u32, position: position as u32 })
        })
    }

    /// The peer that stands there.
    pub fn at(&self, spot: Spot) -> &Peer<P> {
        peer_at(&self.groups, spot)
    }

    /// Takes the peer that stands there out.
    pub fn take(&mut self, spot: Spot) -> Peer<P> {
        let key = self.at(spot).key();
        self.leave(&key, spot);
        let peers = &mut self.groups[spot.group as usize].peers;
        let peer = peers.swap_remove(spot.position as usize).expect(A_SPOT);
        self.len -= 1;
        // The last of the group has moved to the place that became free.
        if let Some(moved) = peers.get(spot.position as usize) {
            let (key, before) = (moved.key(), Spot { position: peers.len() as u32, ..spot });
            self.move_to(&key, before, spot);
        }
        peer
    }

    /// Puts a peer in, among those of its zone that are alike. `spot`: where the peer with its key stands, if there is one, which it
    /// replaces.
    pub fn put(&mut self, spot: Option<Spot>, zone: Option<&Arc<str>>, peer: Peer<P>) {
        let Some(spot) = spot else { return self.insert(zone, peer) };
        let group = &mut self.groups[spot.group as usize];
        if group.is_for(zone, &peer) {
            // Most announces: the index stays as it is.
            *group.peers.get_mut(spot.position as usize).expect(A_SPOT) = peer;
        } else {
            drop(self.take(spot));
            self.insert(zone, peer);
        }
    }

    fn insert(&mut self, zone: Option<&Arc<str>>, peer: Peer<P>) {
        let group = self.groups.iter().position(|group| group.is_for(zone, &peer)).unwrap_or_else(|| {
            // One by one: most torrents have one group or two.
            self.groups.reserve_exact(1);
            let kind = Kind { zone: zone.cloned(), state: peer.state(), v2: peer.knows_v2() };
            self.groups.push(Group { kind, peers: Rows::default() });
            self.groups.len() - 1
        });
        let key = peer.key();
        let peers = &mut self.groups[group].peers;
        peers.push(peer);
        let spot = Spot { group: group as u32, position: (peers.len() - 1) as u32 };
        self.len += 1;
        if self.index.is_some() {
            self.enter(&key, spot);
        } else if self.len() > INDEXED {
            self.build_index();
        }
    }

    /// Takes out all for which `keep` is false, and hands each to `gone`.
    pub fn retain(&mut self, keep: impl Fn(&Peer<P>) -> bool, mut gone: impl FnMut(Peer<P>)) {
        for group in 0..self.groups.len() {
            for position in (0..self.groups[group].peers.len()).rev() {
                let spot = Spot { group: group as u32, position: position as u32 };
                if !keep(self.at(spot)) {
                    gone(self.take(spot));
                }
            }
            self.groups[group].peers.trim();
        }
        if self.is_empty() {
            *self = Self::default();
        } else if self.len() < INDEXED / 2 {
            self.index = None;
        }
    }

    fn leave(&mut self, key: &P::Key, spot: Spot) {
        if let Some(index) = &mut self.index {
            let hash = index.hasher.hash_one(key);
            if let Ok(entry) = index.spots.find_entry(hash, |found| *found == spot) {
                entry.remove();
            }
        }
    }

    fn move_to(&mut self, key: &P::Key, before: Spot, after: Spot) {
        if let Some(index) = &mut self.index {
            let hash = index.hasher.hash_one(key);
            if let Some(spot) = index.spots.find_mut(hash, |found| *found == before) {
                *spot = after;
            }
        }
    }

    fn enter(&mut self, key: &P::Key, spot: Spot) {
        let Book { groups, index, .. } = self;
        if let Some(index) = index {
            let Index { spots, hasher } = &mut **index;
            let rehash = |spot: &Spot| hasher.hash_one(peer_at(groups, *spot).key());
            spots.insert_unique(hasher.hash_one(key), spot, rehash);
        }
    }

    fn build_index(&mut self) {
        self.index = Some(Box::default());
        let keyed = |(group, found): (usize, &Group<P>)| {
            let keys: Vec<P::Key> = found.peers.iter().map(Peer::key).collect();
            keys.into_iter()
                .enumerate()
                .map(move |(position, key)| (key, Spot { group: group as u32, position: position as u32 }))
        };
        let spots: Vec<_> = self.groups.iter().enumerate().flat_map(keyed).collect();
        for (key, spot) in spots {
            self.enter(&key, spot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::peer::Status;
    use crate::tick::Tick;

    fn peer(last: u8, port: u16, state: State) -> Peer<Ipv4Addr> {
        let status = Status { state, left: 0, v2: false, announces: 1, still: 0, kept: 15 };
        Peer::new(Ipv4Addr::new(10, 0, 0, last), port, Tick(u32::from(port)), status)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, u16, State),
        Take(u8, u16),
        Expire(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let state = prop_oneof![Just(State::Leeching), Just(State::Seeding), Just(State::Gone)];
        let step = prop_oneof![
            8 => (0..8u8, 0..16u16, state).prop_map(|(last, port, state)| Step::Put(last, port, state)),
            3 => (0..8u8, 0..16u16).prop_map(|(last, port)| Step::Take(last, port)),
            1 => (0..4u16).prop_map(Step::Expire),
        ];
        prop::collection::vec(step, 0..300)
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_would_hold(steps in steps()) {
            let (mut book, mut map) = (Book::default(), BTreeMap::new());
            let zones: Vec<Arc<str>> = ["a", "b"].map(Arc::from).to_vec();
            for step in steps {
                match step {
                    Step::Put(last, port, state) => {
                        let peer = peer(last, port, state);
                        let spot = book.spot(&peer.key());
                        prop_assert_eq!(spot.is_some(), map.insert(peer.key(), peer.clone()).is_some());
                        // Some move to another zone with another state.
                        let zone = if state == State::Gone { port } else { last.into() };
                        book.put(spot, zones.get(usize::from(zone % 3)), peer);
                    }
                    Step::Take(last, port) => {
                        let key = peer(last, port, State::Gone).key();
                        let spot = book.spot(&key);
                        prop_assert_eq!(spot.map(|spot| book.take(spot)), map.remove(&key));
                    }
                    Step::Expire(port) => {
                        let mut gone = 0;
                        book.retain(|peer| peer.port != port, |_| gone += 1);
                        let before = map.len();
                        map.retain(|_, peer| peer.port != port);
                        prop_assert_eq!(gone, before - map.len());
                    }
                }
                prop_assert_eq!(book.len(), map.len());
                for (key, peer) in &map {
                    prop_assert_eq!(book.find(key), Some(peer));
                }
                prop_assert_eq!(book.peers().count(), map.len());
            }
        }
    }

    #[test]
    fn a_group_is_of_one_zone_and_state() {
        let mut book = Book::default();
        let zone: Arc<str> = "a".into();
        for port in 0..100 {
            let state = if port % 2 == 0 { State::Seeding } else { State::Leeching };
            book.put(None, (port % 3 == 0).then_some(&zone), peer(1, port, state));
        }
        assert_eq!(book.groups().len(), 4);
        assert_eq!((book.count(State::Seeding), book.count(State::Gone)), (50, 0));
        for group in book.groups() {
            assert!(group.peers().iter().all(|peer| {
                peer.state() == group.state() && (peer.port % 3 == 0) == group.zone().is_some()
            }));
        }
    }
}
