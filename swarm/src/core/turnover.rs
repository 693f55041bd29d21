//! Whom to dial, and which connection makes room for another when there are as many as there may be.
//!
//! A torrent dials until it has two fifths of the connections that it may have. As many come from others on average, and the rest is room
//! for those who come later: did the first ones fill up with each other, the last one would find nobody. Whom the user has named is dialled
//! as long as there is any.
//!
//! Crowds whose members have all the connections they may have, to each other, would never hear of what another crowd has. So now and
//! then one connection over which nothing moves is given up for one to somebody new. Which one is a matter of chance among equals, and so
//! is who is dialled: were it a matter of addresses, all would meet at the same few.

use std::net::SocketAddr;
use std::time::Duration;

use super::nearness::lot;
use super::{NewPeer, Peer, PeerKey, TorrentCore};

/// One connection in so long makes room for another.
const EVERY: Duration = Duration::from_secs(30);
/// Somebody new is dialled so often by who has enough, as long as one of its connections may make room.
const TRY_EVERY: Duration = Duration::from_secs(5);
/// Nobody has enough with fewer than these.
const FEWEST: usize = 4;
/// No payload has moved for so long over a connection that makes room.
const STILL: Duration = Duration::from_secs(30);

/// What has been given up.
#[derive(Debug, Default)]
pub(super) struct Turnover {
    /// How many connections: the lots are drawn anew for each.
    count: u32,
    last: Option<Duration>,
    tried: Option<Duration>,
}

impl Turnover {
    fn is_time(&self, now: Duration) -> bool {
        self.last.is_none_or(|last| now.saturating_sub(last) >= EVERY)
    }
}

impl TorrentCore {
    /// Whether the torrent has all the connections that it may have.
    pub fn is_full(&self) -> bool {
        self.connected_peers().count() >= self.max_peers
    }

    /// With so many connections the rest is left to those who come later.
    fn enough(&self) -> usize {
        (self.max_peers * 2 / 5).max(self.max_peers.min(FEWEST))
    }

    /// Whether a new connection takes the place of another: who has enough dials newcomers to meet them, not to have more.
    pub(super) fn is_instead(&self, new: &NewPeer) -> bool {
        self.is_full() || (new.outgoing && self.book.is_newcomer(new.address))
    }

    /// Addresses to dial now, if `under_way` dials are and `most` may be; they count as busy until the book hears of them.
    pub fn to_dial(&mut self, most: usize, under_way: usize, now: Duration) -> Vec<SocketAddr> {
        let (complete, taken) = (self.is_complete(), self.connected_peers().count() + under_way);
        let room = |limit: usize| most.saturating_sub(under_way).min(limit.saturating_sub(taken));
        let mut due = self.book.due_named(room(self.max_peers), complete, now);
        let more = room(self.enough()).saturating_sub(due.len());
        due.extend(self.book.due(more, complete, now));
        if due.is_empty() && under_way == 0 && taken >= self.enough() && self.may_try(now) {
            self.turnover.tried = Some(now);
            due.extend(self.book.newcomer(complete, now));
        }
        due
    }

    /// Whether it is time for somebody new.
    fn may_try(&self, now: Duration) -> bool {
        let tried_lately = self.turnover.tried.is_some_and(|tried| now.saturating_sub(tried) < TRY_EVERY);
        !tried_lately && self.least_useful(now).is_some()
    }

    /// The connection that makes room for a new one, if one may now.
    pub(super) fn make_room(&mut self, now: Duration) -> Option<PeerKey> {
        let key = self.least_useful(now)?;
        self.turnover.last = Some(now);
        self.turnover.count = self.turnover.count.wrapping_add(1);
        self.book.draw_lots(self.turnover.count, &self.own_id);
        Some(key)
    }

    /// Of the connections over which nothing moves, one to whom nobody wants anything of the other before one where one side does, and a
    /// stranger before one of ours.
    fn least_useful(&self, now: Duration) -> Option<PeerKey> {
        if !self.turnover.is_time(now) {
            return None;
        }
        let idle = self.peers.iter().filter(|(_, peer)| self.may_go(peer, now));
        let use_of = |peer: &Peer| {
            (peer.wanted > 0, peer.interested, peer.is_own, lot(self.turnover.count, &peer.source.id))
        };
        idle.min_by_key(|(_, peer)| use_of(peer)).map(|(key, _)| *key)
    }

    /// Whom the user has named stays, and so does each over whose connection something moves.
    fn may_go(&self, peer: &Peer, now: Duration) -> bool {
        let moves = !peer.held.is_empty() || now.saturating_sub(peer.moved) < STILL;
        let address = if peer.outgoing { Some(peer.address) } else { peer.listens };
        let is_named = address.is_some_and(|address| self.book.is_lasting(address));
        !(moves || is_named || peer.doomed || peer.source.is_web_seed())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::core::tests::{PIECES, ZERO, core, join};
    use crate::core::{InnerId, Refusal};
    use crate::test_rng::TestRng;
    use crate::wire::PeerId;
    use torrent::WireId;

    /// What `core` allows.
    const FULL: u8 = 10;

    fn stranger(id: u8) -> NewPeer {
        NewPeer { id: PeerId([id; 20]), address: SocketAddr::from(([10, 0, 0, id], 6881)), outgoing: false }
    }

    /// A torrent with as many connections as it may have, none of which has moved anything.
    fn full() -> (TorrentCore, Vec<PeerKey>) {
        let mut core = core();
        let keys = (0..FULL).map(|id| join(&mut core, 100 + id)).collect();
        (core, keys)
    }

    /// How many are dialled, of twenty that are known.
    fn dials(connected: u8, named: u8, (most, under_way): (usize, usize)) -> usize {
        let mut core = core();
        for id in 0..connected {
            join(&mut core, 100 + id);
        }
        for id in 0..20 {
            let address = SocketAddr::from(([10, 9, 9, id], 6881));
            assert!(if id < named { core.book.add_lasting(address) } else { core.book.add(address) });
        }
        core.to_dial(most, under_way, ZERO).len()
    }

    #[test]
    fn two_fifths_of_the_room_are_dialled_and_dials_under_way_take_of_it() {
        let enough = usize::from(FULL) * 2 / 5;
        let expected = [enough, 3, enough - 2, 0, enough];
        assert_eq!([(8, 0), (3, 0), (8, 2), (8, 8), (16, 0)].map(|dialling| dials(0, 0, dialling)), expected);
        assert_eq!([3, 4, FULL].map(|connected| dials(connected, 0, (16, 0))), [1, 0, 0]);
    }

    #[test]
    fn all_of_the_room_is_there_for_whom_the_user_has_named() {
        assert_eq!([3, 7, 12].map(|named| dials(0, named, (16, 0))), [4, 7, 10]);
        assert_eq!([(16, 0), (16, 3), (4, 0)].map(|dialling| dials(FULL - 5, 20, dialling)), [5, 2, 4]);
    }

    #[test]
    fn one_that_is_still_makes_room_once_in_a_while() {
        let (mut core, keys) = full();
        assert_eq!(core.connected(stranger(1), STILL / 2), Err(Refusal::Full), "they have just come");
        let (_, gone) = core.connected(stranger(1), STILL).unwrap();
        let gone = gone.unwrap();
        assert!(keys.contains(&gone) && core.is_doomed(gone));
        core.disconnected(gone);
        assert_eq!(core.connected(stranger(2), STILL), Err(Refusal::Full), "one was enough");
        assert!(core.connected(stranger(2), STILL + EVERY).is_ok());
    }

    #[test]
    fn who_moves_something_or_was_named_stays_and_who_is_wanted_goes_last() {
        let (mut core, keys) = full();
        for key in &keys {
            core.peer_has_all(*key, true).unwrap();
        }
        // One fetches, two gave or got something lately, one was named; of the others only one is not wanted.
        core.reserve(keys[0], ZERO, &mut TestRng(1)).unwrap();
        core.sent(keys[1], 0, 1, STILL);
        core.handed_over(keys[2], 7, &[], STILL);
        core.book.add_lasting(core.peers()[&keys[3]].address);
        (0..PIECES).for_each(|piece| core.peer_lost(keys[4], piece).unwrap());
        let mut left = Vec::new();
        for round in 0..20 {
            let now = STILL + EVERY * round;
            (1..3).for_each(|key| core.sent(keys[key], 0, 1, now));
            let Some(key) = core.make_room(now) else { continue };
            left.push(key);
            core.disconnected(key);
        }
        assert_eq!(left[0], keys[4], "nobody wants anything of it");
        assert_eq!(left.iter().collect::<BTreeSet<_>>(), keys[4..].iter().collect());
    }

    #[test]
    fn who_has_enough_meets_somebody_new_instead_of_one_that_is_still_and_has_no_more_than_before() {
        let mut core = core();
        for id in 0..FULL / 2 {
            join(&mut core, 100 + id);
        }
        assert!((0..20).all(|id| core.book.add(SocketAddr::from(([10, 9, 9, id], 6881)))));
        assert_eq!(core.to_dial(16, 0, STILL / 2), [], "they have just come");
        let dialled = core.to_dial(16, 0, STILL);
        let dialled = |id| NewPeer { id: PeerId([id; 20]), address: dialled[0], outgoing: true };
        let (_, gone) = core.connected(dialled(1), STILL).unwrap();
        core.disconnected(gone.unwrap());
        assert_eq!(core.connected_peers().count(), usize::from(FULL / 2));
        assert_eq!(core.to_dial(16, 0, STILL + EVERY / 2), [], "one was enough");
        let (_, gone) = core.connected(stranger(3), STILL + EVERY / 2).unwrap();
        assert_eq!(gone, None, "who comes finds room");
        assert_eq!(core.to_dial(16, 0, STILL + EVERY).len(), 1);
    }

    #[test]
    fn everybody_has_room_for_a_few() {
        let most = |max_peers| {
            let mut core =
                TorrentCore::new(InnerId([1; 32]), vec![WireId([2; 20])], PIECES, id(0), max_peers);
            assert!((1..20).all(|node| core.book.add(address(node))));
            core.to_dial(16, 0, ZERO).len()
        };
        assert_eq!([1, 2, 4, 8, 20].map(most), [1, 2, 4, 4, 8]);
    }

    #[test]
    fn while_all_are_busy_nobody_new_is_dialled() {
        let (mut core, keys) = full();
        core.book.add(SocketAddr::from(([10, 9, 9, 9], 6881)));
        for key in &keys {
            core.sent(*key, 0, 1, STILL);
        }
        assert_eq!(core.to_dial(16, 0, STILL), []);
        assert_eq!(core.to_dial(16, 0, STILL * 2).len(), 1);
    }

    /// Nodes that know each other's addresses, connect by their cores, and exchange nothing.
    struct Crowd {
        cores: Vec<TorrentCore>,
        links: BTreeMap<(usize, PeerKey), (usize, PeerKey)>,
    }

    fn address(node: usize) -> SocketAddr {
        SocketAddr::from(([10, 1, (node >> 8) as u8, node as u8], 6881))
    }

    fn id(node: usize) -> PeerId {
        let mut id = [3; 20];
        id[0] = node as u8;
        PeerId(id)
    }

    impl Crowd {
        fn new(nodes: usize, budget: usize) -> Self {
            let mut crowd = Self { cores: Vec::new(), links: BTreeMap::new() };
            (0..nodes).for_each(|_| crowd.join(budget));
            crowd
        }

        /// One more, and all know all.
        fn join(&mut self, budget: usize) {
            let node = self.cores.len();
            let mut core =
                TorrentCore::new(InnerId([1; 32]), vec![WireId([2; 20])], PIECES, id(node), budget);
            for (other, known) in self.cores.iter_mut().enumerate() {
                known.book.add(address(node));
                core.book.add(address(other));
            }
            self.cores.push(core);
        }

        fn connect(&mut self, from: usize, to: usize, now: Duration) {
            let known = |node, outgoing| NewPeer { id: id(node), address: address(node), outgoing };
            // The one that answers decides first.
            let Ok((theirs, gone)) = self.cores[to].connected(known(from, false), now) else {
                return self.cores[from].book.failed(address(to), now);
            };
            self.cores[to].peer_listens(theirs, 6881);
            self.end(to, gone, now);
            let Ok((ours, gone)) = self.cores[from].connected(known(to, true), now) else {
                self.cores[to].disconnected(theirs);
                self.cores[to].book.closed(address(from), false, now);
                return self.cores[from].book.failed(address(to), now);
            };
            self.links.insert((from, ours), (to, theirs));
            self.links.insert((to, theirs), (from, ours));
            self.end(from, gone, now);
        }

        fn end(&mut self, node: usize, key: Option<PeerKey>, now: Duration) {
            let Some(key) = key else { return };
            let Some((other, theirs)) = self.links.remove(&(node, key)) else { return };
            self.links.remove(&(other, theirs));
            for (node, key, peer) in [(node, key, other), (other, theirs, node)] {
                self.cores[node].disconnected(key);
                self.cores[node].book.closed(address(peer), false, now);
            }
        }

        fn run(&mut self, seconds: std::ops::Range<u64>) {
            for now in seconds.map(Duration::from_secs) {
                for node in 0..self.cores.len() {
                    for to in self.cores[node].to_dial(16, 0, now) {
                        let to = (0..self.cores.len()).find(|other| address(*other) == to).unwrap();
                        self.connect(node, to, now);
                    }
                }
            }
        }

        fn is_one(&self) -> bool {
            let mut reached = BTreeSet::from([0]);
            while let Some(next) = self.links.iter().find_map(|((node, _), (other, _))| {
                (reached.contains(node) && !reached.contains(other)).then_some(*other)
            }) {
                reached.insert(next);
            }
            reached.len() == self.cores.len()
        }
    }

    #[test]
    fn who_comes_last_finds_room_among_those_that_came_before() {
        let mut crowd = Crowd::new(0, 10);
        for node in 0..60 {
            crowd.join(10);
            crowd.run(node..node + 1);
            let dialled = crowd.cores[node as usize].connected_peers().count();
            assert!(node == 0 || dialled > 0, "the {node}th finds nobody");
        }
        assert!(crowd.is_one());
        // Nor do they fill up while nothing happens.
        crowd.run(60..3_600);
        let full = crowd.cores.iter().filter(|core| core.is_full()).count();
        assert!(full < crowd.cores.len() / 2, "{full} are full");
    }

    #[test]
    fn two_crowds_that_are_full_of_themselves_become_one() {
        let (size, budget) = (9, 8);
        let mut crowd = Crowd::new(2 * size, budget);
        for first in [0, size] {
            for from in first..first + size {
                (from + 1..first + size).for_each(|to| crowd.connect(from, to, ZERO));
            }
        }
        assert!(crowd.cores.iter().all(TorrentCore::is_full) && !crowd.is_one());
        crowd.run(1..300);
        assert!(crowd.is_one(), "they have not met");
        let most = crowd.cores.iter().map(|core| core.connected_peers().count()).max();
        assert!(most <= Some(budget), "{most:?} connections");
        // It stays so.
        for minute in 5..20 {
            crowd.run(minute * 60..(minute + 1) * 60);
            assert!(crowd.is_one(), "after {minute} minutes");
        }
    }
}
