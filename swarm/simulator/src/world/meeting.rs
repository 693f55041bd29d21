//! Who hears of whom, who has a connection with whom, and how it ends.

use std::time::Duration;

use rand::seq::SliceRandom as _;
use swarm::conversation::Host as _;
use swarm::core::{Peer, PeerKey};
use swarm::wire::Capabilities;

use super::{Talk, World};
use crate::end::End;
use crate::node::{known_as, listening_at, source};
use crate::queue::{EndId, Event, NodeId};

/// How long a node waits between announces: after the first, the second, all others.
const ANNOUNCES: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(5), Duration::from_secs(20)];
/// Peers in an answer of the tracker.
const ANSWER: usize = 50;
/// Dials under way at a time.
const DIALS: usize = 16;
const SPEAKS: Capabilities = Capabilities { fast: true, extended: true, v2: true };

impl World {
    /// The tracker names random nodes that are there.
    pub(super) fn announce(&mut self, id: NodeId, life: u64, turn: usize) {
        if !self.nodes[id].alive || self.nodes[id].life != life {
            return;
        }
        let mut known: Vec<NodeId> =
            (0..self.nodes.len()).filter(|other| self.can_meet(id, *other)).collect();
        known.shuffle(&mut self.rng);
        for other in known.into_iter().take(ANSWER) {
            self.nodes[id].core().book.add(known_as(other, true).address);
        }
        self.dial(id);
        let wait = ANNOUNCES[turn.min(ANNOUNCES.len() - 1)];
        self.queue.push(self.now + wait, Event::Announce(id, life, turn + 1));
    }

    fn can_meet(&self, id: NodeId, other: NodeId) -> bool {
        let (a, b) = (&self.nodes[id], &self.nodes[other]);
        let useful = !(a.is_complete() && b.is_complete());
        id != other && b.alive && useful && !(self.partitioned && a.zone != b.zone)
    }

    /// Dials whom the node wants to dial now; there and back takes no time.
    pub(super) fn dial(&mut self, id: NodeId) {
        loop {
            let due = self.nodes[id].core().to_dial(DIALS, 0, self.now);
            if due.is_empty() {
                return;
            }
            for address in due {
                if !self.connect(id, listening_at(address)) {
                    self.nodes[id].core().book.failed(address, self.now);
                }
            }
        }
    }

    /// Whether two nodes have a connection now that they had not.
    fn connect(&mut self, from: NodeId, to: NodeId) -> bool {
        let met = self.nodes[from].ends.iter().any(|end| self.ends[end ^ 1].node == to);
        if met || !self.can_meet(from, to) {
            return false;
        }
        // Who answers decides first.
        let accepted = self.nodes[to].core().connected(known_as(from, false), self.now);
        let Ok((theirs, gone)) = accepted else { return false };
        self.make_room(to, gone);
        let dialled = self.nodes[from].core().connected(known_as(to, true), self.now);
        let Ok((ours, gone)) = dialled else {
            self.nodes[to].core().disconnected(theirs);
            return false;
        };
        self.make_room(from, gone);
        let first = self.ends.len();
        for (node, peer, key) in [(from, to, ours), (to, from, theirs)] {
            self.nodes[node].ends.push(self.ends.len());
            self.ends.push(End::new(node, key, Talk::new(key, source(peer), SPEAKS.fast, self.now)));
        }
        for end in [first, first + 1] {
            self.step(end, |talk, scene| talk.greet(SPEAKS, Some(6881), scene));
        }
        true
    }

    /// A connection was given up for a new one.
    fn make_room(&mut self, node: NodeId, gone: Option<PeerKey>) {
        let end = self.nodes[node].ends.iter().find(|end| Some(self.ends[**end].key) == gone).copied();
        if let Some(end) = end {
            self.close(end);
        }
    }

    pub(super) fn close(&mut self, end: EndId) {
        for end in [end, end ^ 1] {
            if !self.ends[end].open {
                continue;
            }
            self.step(end, |talk, scene| {
                talk.give_up_all(scene);
                Ok(())
            });
            self.ends[end].open = false;
            let (node, key) = (self.ends[end].node, self.ends[end].key);
            let peer = known_as(self.ends[end ^ 1].node, true).address;
            {
                let mut core = self.nodes[node].core();
                let is_seed = core.peers().get(&key).is_some_and(Peer::wants_nothing);
                core.disconnected(key);
                core.book.closed(peer, is_seed, self.now);
            }
            self.nodes[node].ends.retain(|other| *other != end);
            self.nodes[node].bumped.set(true);
            self.after(node);
        }
    }
}
