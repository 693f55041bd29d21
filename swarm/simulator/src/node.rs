//! A node: its torrent, its links, what it has sent.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::DerefMut;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use swarm::assembly::{Keep, Leaf};
use swarm::conversation::{Host, Piece};
use swarm::core::{InnerId, NewPeer, PeerKey, Source, TorrentCore};
use swarm::hashes::Answer;
use swarm::near::Place;
use swarm::picker::PieceState;
use swarm::wire::{BLOCK, Block, HashRequest, PeerId};
use torrent::WireId;

use crate::queue::{EndId, NodeId};

/// Parts of pieces that a node keeps, as the engine does.
const MAX_SHELVED: usize = 8;

/// Bytes of the signed hashes of one piece.
const BATCH: usize = 256;

/// Blocks that come before those who wait for them are woken, as the engine does.
const TOGETHER: usize = 4;

/// A piece without bytes: a block's leaf is its first byte, 0 for right ones.
#[derive(Debug)]
pub struct Mark {
    len: u64,
    used: Rc<Cell<u64>>,
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.used.set(self.used.get() - self.len);
    }
}

impl Keep for Mark {
    fn keep(&mut self, _begin: u32, block: &[u8]) -> Leaf {
        [block[0]; 32]
    }
}

/// What all nodes are told of the torrent.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub size: u64,
    pub piece_length: u32,
    pub max_peers: usize,
    /// Bytes of pieces on their way in that a node holds.
    pub memory: u64,
    /// How many there are.
    pub nodes: usize,
    /// Nodes belong to so many zones in turn.
    pub zones: usize,
    /// They do not say to which.
    pub blind: bool,
    /// Nobody knows what the pieces hash to before they are read.
    pub grows: bool,
}

impl Shape {
    pub fn pieces(&self) -> u32 {
        self.size.div_ceil(self.piece_length.into()) as u32
    }

    pub fn len(&self, piece: u32) -> u32 {
        let start = u64::from(piece) * u64::from(self.piece_length);
        self.size.saturating_sub(start).min(self.piece_length.into()) as u32
    }

    /// Leaves of a piece's tree.
    fn leaves(&self) -> u32 {
        self.piece_length.div_ceil(BLOCK).next_power_of_two()
    }

    /// The zone of a node.
    pub fn zone(&self, node: NodeId) -> usize {
        node % self.zones.max(1)
    }

    fn core(&self, node: NodeId) -> TorrentCore {
        let (inner, wire) = (InnerId([7; 32]), vec![WireId([7; 20])]);
        let mut core = TorrentCore::new(inner, wire, self.pieces(), peer_id(node), self.max_peers);
        if !self.blind && self.zones > 1 {
            core.at(Place::new("", &self.zone(node).to_string(), ""));
        }
        if self.grows {
            core.grows();
        }
        core
    }
}

/// One node.
#[derive(Debug)]
pub struct Node {
    shape: Shape,
    core: RefCell<TorrentCore>,
    shelf: RefCell<Vec<Piece<Self>>>,
    /// Which blocks are there of pieces that are passed on.
    passing: RefCell<BTreeMap<u32, Vec<bool>>>,
    /// More blocks of pieces that are passed on have come.
    pub passed: Cell<bool>,
    /// Genuine pieces that are to be written.
    pub to_store: RefCell<Vec<u32>>,
    /// Connections should look again.
    pub bumped: Cell<bool>,
    wasted: Cell<u64>,
    /// Bytes of pieces on their way in.
    used: Rc<Cell<u64>>,
    pub zone: usize,
    /// Bytes per second each way.
    pub up: u64,
    pub down: u64,
    /// Sends wrong bytes.
    pub lies: bool,
    pub alive: bool,
    bans_of_earlier_lives: Vec<NodeId>,
    /// How often it has started: what belongs to an earlier life is void.
    pub life: u64,
    pub uplink_busy: bool,
    pub downlink_free: Duration,
    /// Its open connections, in the order in which they were made.
    pub ends: Vec<EndId>,
    /// Those that have something to send, in turn.
    pub turns: VecDeque<EndId>,
    pub sent: u64,
    pub sent_far: u64,
    pub complete: Option<Duration>,
}

impl Node {
    pub fn new(id: NodeId, shape: Shape, (up, down): (u64, u64)) -> Self {
        Self {
            shape,
            core: RefCell::new(shape.core(id)),
            shelf: RefCell::default(),
            passing: RefCell::default(),
            passed: Cell::default(),
            to_store: RefCell::default(),
            bumped: Cell::default(),
            wasted: Cell::default(),
            used: Rc::default(),
            zone: shape.zone(id),
            up,
            down,
            lies: false,
            alive: false,
            bans_of_earlier_lives: Vec::new(),
            life: 0,
            uplink_busy: false,
            downlink_free: Duration::ZERO,
            ends: Vec::new(),
            turns: VecDeque::new(),
            sent: 0,
            sent_far: 0,
            complete: None,
        }
    }

    /// Has everything from the start.
    pub fn make_seed(&mut self) {
        let core = self.core.get_mut();
        for piece in 0..self.shape.pieces() {
            core.arrived(piece);
        }
        self.complete = Some(Duration::ZERO);
    }

    /// Starts anew with what was written.
    pub fn restart(&mut self, id: NodeId) {
        self.bans_of_earlier_lives.append(&mut self.bans());
        let had: Vec<u32> = self.core.borrow().have().iter().collect();
        let mut core = self.shape.core(id);
        for piece in had {
            if self.shape.grows {
                core.hashes_known(&[piece], batch(piece), None);
            }
            core.arrived(piece);
        }
        self.core = RefCell::new(core);
        self.shelf.borrow_mut().clear();
        self.to_store.borrow_mut().clear();
        self.passing.borrow_mut().clear();
        self.ends.clear();
        self.turns.clear();
        (self.alive, self.life) = (true, self.life + 1);
    }

    /// It has read a piece at the origin, and says what it hashes to.
    pub fn vouch(&self, piece: u32) {
        if self.is_unknown(piece) {
            self.core().hashes_known(&[piece], batch(piece), None);
        }
        self.bumped.set(true);
    }

    fn is_unknown(&self, piece: u32) -> bool {
        self.core().picker().state(piece) == PieceState::HashUnknown
    }

    /// A piece is on the disk.
    pub fn stored(&self, piece: u32) {
        self.core.borrow_mut().arrived(piece);
        self.passing.borrow_mut().remove(&piece);
        self.passed.set(true);
        self.shelf.borrow_mut().retain(|kept| kept.piece() != piece);
        self.bumped.set(true);
    }

    pub fn is_complete(&self) -> bool {
        self.core.borrow().is_complete()
    }

    /// Bytes that are on its disk.
    pub fn bytes(&self) -> u64 {
        let core = self.core.borrow();
        core.have().iter().map(|piece| u64::from(self.shape.len(piece))).sum()
    }

    /// Whether a block can be sent now.
    pub fn is_here(&self, block: &Block) -> bool {
        let passing = self.passing.borrow();
        let coming = || passing.get(&block.piece).is_some_and(|there| there[(block.begin / BLOCK) as usize]);
        self.core.borrow().have().contains(block.piece) || coming()
    }

    /// Whether the swarm has to make it complete: it is there, or still to come, and honest.
    pub fn has_to_finish(&self) -> bool {
        self.complete.is_none() && !self.lies && (self.alive || self.life == 0)
    }

    /// The nodes that it has cut off, now or in an earlier life.
    pub fn bans(&self) -> Vec<NodeId> {
        let core = self.core.borrow();
        let now = (0..self.shape.nodes).filter(|id| core.is_banned(source(*id)));
        now.chain(self.bans_of_earlier_lives.iter().copied()).collect()
    }

    pub fn wasted_bytes(&self) -> u64 {
        self.wasted.get()
    }
}

/// Hashes of a piece, as many bytes as a signed batch of one has.
fn batch(piece: u32) -> Arc<[u8]> {
    let mut bytes = [0; BATCH];
    bytes[..4].copy_from_slice(&piece.to_be_bytes());
    Arc::from(bytes)
}

fn peer_id(node: NodeId) -> PeerId {
    let mut id = [0; 20];
    id[12..].copy_from_slice(&(node as u64).to_be_bytes());
    PeerId(id)
}

/// The address before that of the first node.
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 0);

/// How a node is known to another.
pub fn known_as(node: NodeId, outgoing: bool) -> NewPeer {
    let ip = Ipv4Addr::from_bits(NETWORK.to_bits() + node as u32 + 1);
    NewPeer { id: peer_id(node), address: SocketAddr::new(ip.into(), 6881), outgoing }
}

/// The node that is known under an address.
pub fn listening_at(address: SocketAddr) -> NodeId {
    let IpAddr::V4(ip) = address.ip() else { unreachable!("all nodes have IPv4 addresses") };
    (ip.to_bits() - NETWORK.to_bits() - 1) as NodeId
}

/// Who sends what a node sends.
pub fn source(node: NodeId) -> Source {
    let known = known_as(node, true);
    Source { id: known.id, ip: known.address.ip() }
}

impl Host for Node {
    type Buffer = Mark;

    fn core(&self) -> impl DerefMut<Target = TorrentCore> {
        self.core.borrow_mut()
    }

    fn len(&self, piece: u32) -> u32 {
        self.shape.len(piece)
    }

    fn padded_len(&self, piece: u32) -> u32 {
        self.shape.len(piece)
    }

    fn buffer(&self, len: u32) -> Option<Mark> {
        let (len, used) = (u64::from(len), self.used.get());
        if used > 0 && used + len > self.shape.memory {
            return None;
        }
        self.used.set(used + len);
        Some(Mark { len, used: self.used.clone() })
    }

    fn shelved(&self) -> Vec<u32> {
        self.shelf.borrow().iter().map(Piece::<Self>::piece).collect()
    }

    fn unshelve(&self, piece: u32) -> Option<Piece<Self>> {
        let mut kept = self.shelf.borrow_mut();
        let at = kept.iter().position(|one| one.piece() == piece)?;
        Some(kept.swap_remove(at))
    }

    fn shelve(&self, piece: Piece<Self>) {
        let mut kept = self.shelf.borrow_mut();
        let is_wanted = !self.core.borrow().have().contains(piece.piece());
        if is_wanted && piece.received() > 0 && kept.len() < MAX_SHELVED {
            kept.push(piece);
        } else {
            self.wasted(piece.received().into());
        }
    }

    fn is_genuine(&self, piece: &Piece<Self>, _from: Source) -> bool {
        piece.leaves().iter().all(|leaf| leaf[0] == 0)
    }

    fn snubbed(&self, _by: Source) {}

    fn store(&self, piece: Piece<Self>) {
        self.to_store.borrow_mut().push(piece.piece());
    }

    fn wasted(&self, bytes: u64) {
        self.wasted.set(self.wasted.get() + bytes);
    }

    fn bump(&self) {
        self.bumped.set(true);
    }

    fn info(&self) -> Option<Arc<[u8]>> {
        None
    }

    fn take_hashes(&self, batch: &[u8], from: PeerKey) -> bool {
        let piece = batch.first_chunk().map(|piece| u32::from_be_bytes(*piece));
        if let Some(piece) = piece.filter(|piece| self.is_unknown(*piece)) {
            self.core().hashes_known(&[piece], batch.into(), Some(from));
            self.bumped.set(true);
        }
        piece.is_some()
    }

    fn hashes(&self, request: &HashRequest) -> Answer {
        let piece = request.index / self.shape.leaves();
        let known = self.core.borrow().have().contains(piece) || self.passing.borrow().contains_key(&piece);
        if known { Answer::Hashes(vec![[0; 32]; request.length as usize]) } else { Answer::Reject }
    }

    fn leaf_request(&self, piece: u32) -> Option<HashRequest> {
        let length = self.shape.leaves();
        (length > 1).then_some(HashRequest {
            root: [7; 32],
            base: 0,
            index: piece * length,
            length,
            proofs: 0,
        })
    }

    fn leaves(&self, _piece: u32, hashes: &[u8]) -> Option<Arc<[Leaf]>> {
        Some(hashes.chunks(32).map(|_| [0; 32]).collect())
    }

    fn pass_on(&self, piece: &Piece<Self>, _leaves: Arc<[Leaf]>) -> bool {
        let there = (0..piece.block_count()).map(|block| piece.has(block)).collect();
        self.passing.borrow_mut().insert(piece.piece(), there);
        true
    }

    fn pass_block(&self, piece: u32, begin: u32) {
        if let Some(there) = self.passing.borrow_mut().get_mut(&piece) {
            there[(begin / BLOCK) as usize] = true;
            let count = there.iter().filter(|there| **there).count();
            self.passed.set(self.passed.get() || count % TOGETHER == 0);
        }
    }

    fn stop_passing(&self, piece: u32) -> bool {
        self.passing.borrow_mut().remove(&piece).is_some()
    }
}
