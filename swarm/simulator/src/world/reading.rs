//! Content that nobody has at first: who reads it at the origin, and who dies over it.

use std::time::Duration;

use rand::seq::IndexedRandom as _;
use swarm::conversation::Host as _;

use super::{DISK, World};
use crate::ingest::{BACK, GRANT, LOOK, TURN};
use crate::queue::{Event, NodeId, Queue};

/// All seats are given at the start.
pub(super) fn plan(queue: &mut Queue, seats: usize) {
    (0..seats).for_each(|seat| queue.push(Duration::ZERO, Event::Seat(seat)));
    if seats > 0 {
        queue.push(TURN, Event::Fate);
    }
}

impl World {
    /// Somebody who is there and lacks something gets a seat at the origin.
    pub(super) fn seat(&mut self, seat: usize) {
        let Some(origin) = &self.origin else { return };
        let free = |id: &NodeId| {
            let node = &self.nodes[*id];
            node.alive && !node.is_complete() && !origin.is_read_by(*id)
        };
        let free: Vec<NodeId> = (0..self.nodes.len()).filter(free).collect();
        let Some(&node) = free.choose(&mut self.rng) else { return };
        if let Some(origin) = &mut self.origin {
            origin.seats[seat] = Some(node);
        }
        self.nodes[node].core().reads_origin(true);
        let life = self.nodes[node].life;
        self.look(node, life);
    }

    pub(super) fn look(&mut self, id: NodeId, life: u64) {
        let node = &self.nodes[id];
        let Some(origin) = self.origin.as_mut().filter(|_| node.alive && node.life == life) else { return };
        if node.is_complete() {
            return;
        }
        let claimed =
            origin.stripes(id, self.now).into_iter().find_map(|stripe| node.core().claim(stripe, self.now));
        match claimed {
            Some(piece) => {
                let there = origin.read(id, piece, node.len(piece), self.now);
                self.queue.push(there, Event::Read(id, piece, life));
            }
            None => self.queue.push(self.now + LOOK, Event::Look(id, life)),
        }
    }

    /// It is signed, told, and written.
    pub(super) fn read(&mut self, id: NodeId, piece: u32, life: u64) {
        if !self.nodes[id].alive || self.nodes[id].life != life {
            return;
        }
        if let Some(origin) = &mut self.origin {
            origin.touch(id, piece, self.now);
        }
        self.nodes[id].vouch(piece);
        self.queue.push(self.now + DISK, Event::Stored(id, piece, life));
        self.after(id);
        self.look(id, life);
    }

    pub(super) fn fate(&mut self) {
        let Some(origin) = &self.origin else { return };
        let mut dying = origin.dying(self.fetcher_deaths, &mut self.rng);
        dying.retain(|(_, node)| self.nodes[*node].alive);
        for (seat, node) in dying {
            self.die(node);
            self.queue.push(self.now + GRANT, Event::Seat(seat));
            self.queue.push(self.now + BACK, Event::Starts(node));
        }
        self.queue.push(self.now + TURN, Event::Fate);
    }
}
