//! The world: nodes, connections, and what happens to them.

mod meeting;
mod reading;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use swarm::conversation::{Conversation, End as Ending, Host as _, Scene, TICK};
use swarm::wire::{self, BLOCK, Decoded, Message};

use crate::end::{End, Outbox};
use crate::ingest::Origin;
use crate::node::{Mark, Node, Shape};
use crate::queue::{EndId, Event, NodeId, Packet, Queue};
use crate::report::Outcome;
use crate::scenario::Scenario;
use crate::seats::Seats;

/// Between an arrival and the moment at which all connections have heard of it.
const WAKE: Duration = Duration::from_micros(50);
/// To write a piece.
const DISK: Duration = Duration::from_millis(2);
/// One way within a zone, and between zones.
const NEAR: Duration = Duration::from_micros(200);
const FAR: Duration = Duration::from_millis(2);
/// A block of right bytes, and one of wrong ones.
static BYTES: [[u8; BLOCK as usize]; 2] = [[0; BLOCK as usize], [1; BLOCK as usize]];

type Talk = Conversation<Mark>;

/// Runs a scenario to its end: until all nodes that are to be complete are, or its time is over.
pub fn run(scenario: &Scenario) -> Outcome {
    let mut world = World::new(scenario);
    let chaos_ends = scenario.chaos.lasts();
    while let Some((now, event)) = world.queue.pop() {
        if now > scenario.patience() || (world.unfinished == 0 && now >= chaos_ends) {
            break;
        }
        world.now = now;
        world.happen(event);
    }
    Outcome::of(scenario, &world.nodes, world.origin.as_ref(), world.queue.count())
}

struct World {
    now: Duration,
    nodes: Vec<Node>,
    ends: Vec<End>,
    queue: Queue,
    rng: StdRng,
    /// Nodes that have to become complete and are not.
    unfinished: usize,
    partitioned: bool,
    lies: f64,
    /// Where nobody has anything at first.
    origin: Option<Origin>,
    fetcher_deaths: f64,
}

impl World {
    fn new(scenario: &Scenario) -> Self {
        let shape = Shape {
            size: scenario.size,
            piece_length: scenario.piece_length,
            max_peers: scenario.max_peers,
            memory: scenario.memory,
            nodes: scenario.nodes(),
            zones: scenario.zones,
            blind: scenario.blind,
            grows: scenario.grows(),
        };
        let mut rng = StdRng::seed_from_u64(scenario.seed);
        let mut nodes: Vec<Node> =
            (0..scenario.nodes()).map(|id| Node::new(id, shape, scenario.link(id))).collect();
        let mut queue = Queue::default();
        let fetchers = scenario.ingest.fetchers;
        let seats = Seats::new(fetchers, scenario.seed);
        let origin = scenario.grows().then(|| Origin::new(seats, scenario.rate, shape.pieces()));
        if !scenario.grows() {
            nodes[0].make_seed();
        }
        for id in 0..nodes.len() {
            queue.push(scenario.joins(id), Event::Starts(id));
        }
        if scenario.grows() {
            queue.push(Duration::ZERO, Event::Turn);
        }
        scenario.chaos.plan(&mut nodes, &mut queue, &mut rng);
        Self {
            now: Duration::ZERO,
            nodes,
            ends: Vec::new(),
            queue,
            rng,
            unfinished: usize::MAX,
            partitioned: false,
            lies: scenario.chaos.lie_rate,
            origin,
            fetcher_deaths: scenario.ingest.fetcher_deaths,
        }
    }

    fn count_unfinished(&mut self) {
        self.unfinished = self.nodes.iter().filter(|node| node.has_to_finish()).count();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::UplinkFree(node) => {
                self.nodes[node].uplink_busy = false;
                self.send_next(node);
            }
            Event::Deliver(end, packet) => self.deliver(end, &packet),
            Event::News(node) => self.news(node),
            Event::Tick(node, life) => self.tick(node, life),
            Event::Stored(node, piece, life) => self.stored(node, piece, life),
            Event::Announce(node, life, turn) => self.announce(node, life, turn),
            Event::Look(node, life) => self.look(node, life),
            Event::Read(node, piece, life) => self.read(node, piece, life),
            Event::Turn => self.turn(),
            Event::Dies(node) => self.die(node),
            Event::Starts(node) => self.start(node),
            Event::Partition(partitioned) => self.partition(partitioned),
        }
    }

    fn start(&mut self, id: NodeId) {
        if self.nodes[id].alive {
            return;
        }
        self.nodes[id].restart(id);
        let life = self.nodes[id].life;
        self.queue.push(self.now + TICK, Event::Tick(id, life));
        self.announce(id, life, 0);
        self.sit_down(id);
        self.count_unfinished();
    }

    fn die(&mut self, id: NodeId) {
        for end in self.nodes[id].ends.clone() {
            self.close(end);
        }
        self.nodes[id].alive = false;
        self.attend();
        self.count_unfinished();
    }

    fn partition(&mut self, partitioned: bool) {
        self.partitioned = partitioned;
        let far = |end: &End, other: &End| self.nodes[end.node].zone != self.nodes[other.node].zone;
        let cut: Vec<EndId> = self
            .ends
            .chunks(2)
            .enumerate()
            .filter(|(_, pair)| partitioned && pair[0].open && far(&pair[0], &pair[1]))
            .map(|(index, _)| 2 * index)
            .collect();
        for end in cut {
            self.close(end);
        }
    }

    /// One step of a conversation, and what follows from it.
    fn step(
        &mut self,
        end: EndId,
        step: impl FnOnce(&mut Talk, &mut Scene<'_, Node, Outbox>) -> Result<(), Ending>,
    ) {
        let End { node, talk, out, open, .. } = &mut self.ends[end];
        if !*open {
            return;
        }
        let node = *node;
        let mut scene = Scene { host: &self.nodes[node], out, now: self.now, rng: &mut self.rng };
        let ended = step(talk, &mut scene);
        self.after(node);
        self.ready(end);
        if ended.is_err() {
            self.close(end);
        }
    }

    /// What a node has decided meanwhile.
    fn after(&mut self, id: NodeId) {
        let node = &self.nodes[id];
        let life = node.life;
        for piece in node.to_store.borrow_mut().drain(..) {
            self.queue.push(self.now + DISK, Event::Stored(id, piece, life));
        }
        if node.bumped.replace(false) {
            self.queue.push(self.now + WAKE, Event::News(id));
        }
        if node.passed.replace(false) {
            for end in self.nodes[id].ends.clone() {
                self.ready(end);
            }
        }
    }

    fn stored(&mut self, id: NodeId, piece: u32, life: u64) {
        if !self.nodes[id].alive || self.nodes[id].life != life {
            return;
        }
        self.nodes[id].stored(piece);
        if self.nodes[id].is_complete() && self.nodes[id].complete.is_none() {
            self.nodes[id].complete = Some(self.now);
            self.count_unfinished();
        }
        self.after(id);
    }

    /// All connections look again, and say what has come.
    fn news(&mut self, id: NodeId) {
        for end in self.nodes[id].ends.clone() {
            self.step(end, |talk, scene| {
                talk.look_again(scene)?;
                talk.refill(scene)
            });
            let End { key, out, open, .. } = &self.ends[end];
            if *open {
                let news = self.nodes[id].core().catch_up(*key);
                out.tell(&news);
                self.ready(end);
            }
        }
    }

    fn tick(&mut self, id: NodeId, life: u64) {
        if !self.nodes[id].alive || self.nodes[id].life != life {
            return;
        }
        for end in self.nodes[id].ends.clone() {
            self.step(end, |talk, scene| {
                talk.tick(scene)?;
                talk.refill(scene)
            });
        }
        self.dial(id);
        self.queue.push(self.now + TICK, Event::Tick(id, life));
    }

    /// Gives an end its turn at the uplink if it has something to send.
    fn ready(&mut self, end: EndId) {
        let this = &mut self.ends[end];
        if this.queued || !this.can_send() {
            return;
        }
        this.queued = true;
        let node = this.node;
        self.nodes[node].turns.push_back(end);
        if !self.nodes[node].uplink_busy {
            self.send_next(node);
        }
    }

    fn send_next(&mut self, id: NodeId) {
        while let Some(end) = self.nodes[id].turns.pop_front() {
            self.ends[end].queued = false;
            if !self.ends[end].open {
                continue;
            }
            let Some(packet) = self.next_packet(end) else { continue };
            self.transmit(end, packet);
            self.ready(end);
            return;
        }
    }

    fn next_packet(&mut self, end: EndId) -> Option<Packet> {
        if let Some(control) = self.ends[end].take_control() {
            return Some(Packet::Control(control));
        }
        let node = &self.nodes[self.ends[end].node];
        let block = self.ends[end].take_block(|block| node.is_here(block))?;
        node.core().sent(self.ends[end].key, block.piece, block.len, self.now);
        let right = !(node.lies && self.rng.random_bool(self.lies));
        Some(Packet::Block(block, right))
    }

    fn transmit(&mut self, end: EndId, packet: Packet) {
        let (from, to) = (self.ends[end].node, self.ends[end ^ 1].node);
        let bytes = packet.len();
        let far = self.nodes[from].zone != self.nodes[to].zone;
        let node = &mut self.nodes[from];
        node.sent += bytes;
        node.sent_far += if far { bytes } else { 0 };
        node.uplink_busy = true;
        let sent = self.now + time(bytes, node.up);
        self.queue.push(sent, Event::UplinkFree(from));
        let arrives = sent + if far { FAR } else { NEAR };
        let receiver = &mut self.nodes[to];
        receiver.downlink_free = receiver.downlink_free.max(arrives) + time(bytes, receiver.down);
        let there = receiver.downlink_free;
        if let Packet::Block(..) = packet {
            self.ends[end].under_way += bytes;
        }
        self.queue.push(there, Event::Deliver(end ^ 1, packet));
    }

    fn deliver(&mut self, end: EndId, packet: &Packet) {
        if let Packet::Block(..) = packet {
            let sender = &mut self.ends[end ^ 1];
            sender.under_way -= packet.len();
            self.ready(end ^ 1);
        }
        match packet {
            Packet::Control(bytes) => self.step(end, |talk, scene| hear(talk, bytes, scene)),
            Packet::Block(block, right) => self.step(end, |talk, scene| {
                let data = &BYTES[usize::from(!right)][..block.len as usize];
                talk.heard(scene.now);
                talk.handle(Message::Piece { piece: block.piece, begin: block.begin, data }, scene)?;
                talk.refill(scene)
            }),
        }
    }
}

/// All messages of a packet.
fn hear(talk: &mut Talk, mut bytes: &[u8], scene: &mut Scene<'_, Node, Outbox>) -> Result<(), Ending> {
    talk.heard(scene.now);
    while !bytes.is_empty() {
        let Ok(Decoded::Message(message, len)) = wire::decode(bytes) else {
            return Err(Ending::Violation("what is no message"));
        };
        talk.handle(message, scene)?;
        bytes = &bytes[len..];
    }
    talk.refill(scene)
}

/// How long a link is busy with so many bytes.
fn time(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos(bytes * 1_000_000_000 / rate.max(1))
}
