//! Content that nobody has at first: who reads it at the origin, and who dies over it.

use swarm::conversation::Host as _;

use super::{DISK, World};
use crate::ingest::{BACK, LOOK, TURN};
use crate::queue::{Event, NodeId};

impl World {
    /// Chance decides who dies; those that live show themselves; the operator decides who reads.
    pub(super) fn turn(&mut self) {
        let Some(origin) = &self.origin else { return };
        let mut dying = origin.dying(self.fetcher_deaths, &mut self.rng);
        dying.retain(|node| self.nodes[*node].alive);
        for node in dying {
            self.die(node);
            self.queue.push(self.now + BACK, Event::Starts(node));
            if let Some(origin) = &mut self.origin {
                origin.deaths += 1;
            }
        }
        self.decide();
        self.queue.push(self.now + TURN, Event::Turn);
    }

    fn decide(&mut self) {
        let Some(origin) = &mut self.origin else { return };
        for node in origin.seats.held().to_vec() {
            if self.nodes[node].alive {
                origin.seats.show(node, self.nodes[node].bytes(), self.now);
            }
        }
        // A pod that was there once is not forgotten while its node is away for a minute.
        let known = self.nodes.iter().enumerate().filter(|(_, node)| node.life > 0);
        let (got, lost) = origin.seats.decide(known.map(|(id, node)| (id, node.alive)), self.now);
        for node in lost.into_iter().filter(|node| self.nodes[*node].alive) {
            self.nodes[node].core().reads_origin(false);
        }
        for node in got {
            self.sit_down(node);
        }
        self.attend();
    }

    /// A node that lives and has a seat reads from now on.
    pub(super) fn sit_down(&mut self, node: NodeId) {
        let Some(origin) = &mut self.origin else { return };
        let seated = self.nodes[node].alive && origin.seats.of(node).is_some();
        if seated && origin.seats.begin(node, self.now).is_ok() {
            self.nodes[node].core().reads_origin(true);
            let life = self.nodes[node].life;
            self.look(node, life);
        }
        self.attend();
    }

    pub(super) fn attend(&mut self) {
        let Some(origin) = &mut self.origin else { return };
        let attended = origin.seats.held().iter().any(|node| self.nodes[*node].alive);
        origin.seats.attend(attended, self.now);
    }

    pub(super) fn look(&mut self, id: NodeId, life: u64) {
        let node = &self.nodes[id];
        let Some(origin) = self.origin.as_mut().filter(|_| node.alive && node.life == life) else { return };
        if node.is_complete() || origin.seats.of(id).is_none() {
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
}
