//! What happens when.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use swarm::wire::Block;

/// Index of a node.
pub type NodeId = usize;
/// Index of one side of a connection; the other side is `id ^ 1`.
pub type EndId = usize;

/// What travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// Encoded messages.
    Control(Vec<u8>),
    /// A PIECE message, and whether its bytes are the right ones.
    Block(Block, bool),
}

impl Packet {
    /// Bytes on the wire.
    pub fn len(&self) -> u64 {
        match self {
            Self::Control(bytes) => bytes.len() as u64,
            // Length, kind, piece and offset of PIECE.
            Self::Block(block, _) => 13 + u64::from(block.len),
        }
    }
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A node's uplink is free.
    UplinkFree(NodeId),
    /// A packet is there.
    Deliver(EndId, Packet),
    /// The connections of a node look again.
    News(NodeId),
    /// Time passes for the connections of a node, in which life.
    Tick(NodeId, u64),
    /// A piece has been written, in which life of the node.
    Stored(NodeId, u32, u64),
    /// A node asks the tracker for peers: in which life, for which time.
    Announce(NodeId, u64, usize),
    /// A node looks for something to read at the origin, in which life.
    Look(NodeId, u64),
    /// A piece has come from the origin, in which life of the node.
    Read(NodeId, u32, u64),
    /// Chance decides which fetchers die, and the operator who reads.
    Turn,
    /// A node dies.
    Dies(NodeId),
    /// A node comes back with what it has on disk, or comes at all.
    Starts(NodeId),
    /// Zones cannot reach each other (`true`), or can again.
    Partition(bool),
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    at: Duration,
    /// Ties are broken by who was first, so that a run is the same every time.
    number: u64,
    event: Event,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Events by time.
#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    next: u64,
}

impl Queue {
    /// Something will happen.
    pub fn push(&mut self, at: Duration, event: Event) {
        self.heap.push(Reverse(Entry { at, number: self.next, event }));
        self.next += 1;
    }

    /// What happens next, and when.
    pub fn pop(&mut self) -> Option<(Duration, Event)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }

    /// How many events there were so far.
    pub fn count(&self) -> u64 {
        self.next
    }
}
