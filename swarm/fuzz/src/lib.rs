//! A torrent of three pieces for conversations without sockets, and the way out of them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::DerefMut;
use std::rc::Rc;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use swarm::assembly::{Keep, Leaf};
use swarm::conversation::{Host, Outlet, Piece};
use swarm::core::{InnerId, NewPeer, PeerKey, Source, TorrentCore};
use swarm::hashes::Answer;
use swarm::wire::{BLOCK, Block, HashRequest, Message, PeerId, REQQ};
use torrent::WireId;

/// Bytes of the pieces: two of two blocks, and a last one that a fuzzer can fill.
const LENS: [u32; 3] = [32 * 1024, 32 * 1024, 100];
/// Bytes of what a link leads to: two parts.
const INFO: usize = 20 * 1024;
/// All bytes of the torrent.
const RIGHT: u8 = 7;
/// Parts of pieces that are kept, as the engine does.
const MAX_SHELVED: usize = 8;

/// One torrent.
pub struct Torrent {
    /// Who has what, who fetches what.
    pub core: RefCell<TorrentCore>,
    shelf: RefCell<Vec<Piece<Self>>>,
    to_store: RefCell<Vec<Piece<Self>>>,
    passing: RefCell<BTreeMap<u32, Bytes>>,
}

/// The bytes of a piece under way, and of what is passed on of it.
#[derive(Clone)]
pub struct Bytes(Rc<RefCell<Vec<u8>>>);

impl Bytes {
    fn are_right(&self) -> bool {
        self.0.borrow().iter().all(|byte| *byte == RIGHT)
    }
}

impl Keep for Bytes {
    fn keep(&mut self, begin: u32, block: &[u8]) -> Leaf {
        self.0.borrow_mut().keep(begin, block)
    }
}

impl Torrent {
    /// Has nothing (0), the first piece (1), everything (2), or the first and the last (3).
    pub fn new(has: u8) -> Self {
        let (inner, wire, us) = (InnerId([7; 32]), vec![WireId([7; 20])], PeerId([1; 20]));
        let mut core = TorrentCore::new(inner, wire, LENS.len() as u32, us, 10);
        let pieces: &[u32] = match has {
            0 => &[],
            1 => &[0],
            2 => &[0, 1, 2],
            _ => &[0, 2],
        };
        for piece in pieces {
            core.arrived(*piece);
        }
        let (shelf, to_store, passing) = Default::default();
        Self { core: RefCell::new(core), shelf, to_store, passing }
    }

    /// The disk has taken what was handed over, all of which must be right.
    pub fn write_what_came(&self) {
        for piece in self.to_store.take() {
            assert!(piece.buffer().are_right(), "piece {} is wrong", piece.piece());
            self.core.borrow_mut().arrived(piece.piece());
            self.shelf.borrow_mut().retain(|kept| kept.piece() != piece.piece());
        }
    }
}

impl Host for Torrent {
    type Buffer = Bytes;

    fn core(&self) -> impl DerefMut<Target = TorrentCore> {
        self.core.borrow_mut()
    }

    fn len(&self, piece: u32) -> u32 {
        LENS.get(piece as usize).copied().unwrap_or_default()
    }

    fn padded_len(&self, piece: u32) -> u32 {
        self.len(piece)
    }

    fn buffer(&self, len: u32) -> Option<Bytes> {
        Some(Bytes(Rc::new(RefCell::new(vec![0; len as usize]))))
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
        if kept.len() < MAX_SHELVED {
            kept.push(piece);
        }
    }

    fn is_genuine(&self, piece: &Piece<Self>, _from: Source) -> bool {
        piece.buffer().are_right()
    }

    fn snubbed(&self, _by: Source) {}

    fn store(&self, piece: Piece<Self>) {
        self.to_store.borrow_mut().push(piece);
    }

    fn wasted(&self, _bytes: u64) {}

    fn bump(&self) {}

    fn info(&self) -> Option<Arc<[u8]>> {
        Some(Arc::from([b'i'; INFO]))
    }

    /// What is behind an answer has a target of its own.
    fn take_hashes(&self, batch: &[u8], _from: PeerKey) -> bool {
        batch.first() != Some(&0)
    }

    fn hashes(&self, request: &HashRequest) -> Answer {
        match request.base {
            0 => Answer::OfPiece(request.index % LENS.len() as u32),
            1 => Answer::Reject,
            _ => Answer::Hashes(vec![[5; 32]; request.length as usize]),
        }
    }

    fn leaf_request(&self, piece: u32) -> Option<HashRequest> {
        let length = self.len(piece).div_ceil(BLOCK).next_power_of_two();
        (length > 1).then_some(HashRequest {
            root: [9; 32],
            base: 0,
            index: piece * length,
            length,
            proofs: 0,
        })
    }

    fn leaves(&self, piece: u32, hashes: &[u8]) -> Option<Arc<[Leaf]>> {
        let right =
            |begin| Leaf::from(Sha256::digest(vec![RIGHT; BLOCK.min(self.len(piece) - begin) as usize]));
        let leaves: Vec<Leaf> = (0..self.len(piece)).step_by(BLOCK as usize).map(right).collect();
        hashes.starts_with(leaves.as_flattened()).then(|| leaves.into())
    }

    fn pass_on(&self, piece: &Piece<Self>, _leaves: Arc<[Leaf]>) -> bool {
        assert!(piece.is_proved());
        self.passing.borrow_mut().insert(piece.piece(), piece.buffer().clone());
        true
    }

    fn pass_block(&self, piece: u32, begin: u32) {
        let passing = self.passing.borrow();
        let Some(bytes) = passing.get(&piece) else { return };
        let bytes = bytes.0.borrow();
        let block = bytes[begin as usize..].iter().take(BLOCK as usize);
        assert!(block.copied().all(|byte| byte == RIGHT), "what is passed on is right");
    }

    fn stop_passing(&self, piece: u32) -> bool {
        self.passing.borrow_mut().remove(&piece).is_some()
    }
}

/// Where messages go.
#[derive(Default)]
pub struct Way {
    /// Requests that wait.
    owed: RefCell<Vec<Block>>,
    /// Answers to requests: blocks owed, refusals, hashes.
    pub answers: Cell<usize>,
}

impl Way {
    /// Whether the last request was for this piece and will be answered.
    pub fn owes(&self, block: Block) -> bool {
        self.owed.borrow().last() == Some(&block)
    }

    fn count_answer(&self) {
        self.answers.set(self.answers.get() + 1);
    }
}

impl Outlet for Way {
    fn send<'a>(&self, messages: impl IntoIterator<Item = Message<'a>>) -> bool {
        for message in messages {
            match message {
                Message::Request(block) => inside(block),
                Message::Choke => assert!(self.owed.borrow().is_empty(), "owed to a choked peer"),
                Message::Reject(_) | Message::HashReject(_) | Message::Hashes { .. } => self.count_answer(),
                _ => {}
            }
        }
        true
    }

    fn owe(&self, block: Block) -> bool {
        inside(block);
        let mut owed = self.owed.borrow_mut();
        if owed.len() >= REQQ as usize {
            return false;
        }
        owed.push(block);
        self.count_answer();
        true
    }

    fn owe_hashes(&self, _request: HashRequest, piece: u32) -> bool {
        assert!((piece as usize) < LENS.len());
        self.count_answer();
        true
    }

    fn forgive(&self, block: Block) -> bool {
        let mut owed = self.owed.borrow_mut();
        let at = owed.iter().position(|one| *one == block);
        at.map(|at| owed.remove(at)).is_some()
    }

    fn owed(&self) -> BTreeSet<u32> {
        self.owed.borrow().iter().map(|block| block.piece).collect()
    }

    fn forgive_pieces(&self, pieces: &BTreeSet<u32>) -> Vec<Block> {
        let (gone, kept) = self.owed.take().into_iter().partition(|block| pieces.contains(&block.piece));
        self.owed.replace(kept);
        gone
    }

    fn forgive_all(&self) -> Vec<Block> {
        self.owed.take()
    }
}

fn inside(block: Block) {
    let end = u64::from(block.begin) + u64::from(block.len);
    assert!(block.len > 0 && end <= u64::from(LENS[block.piece as usize]), "{block:?}");
}

/// The other side.
pub fn peer() -> NewPeer {
    NewPeer { id: PeerId([2; 20]), address: SocketAddr::from((Ipv4Addr::LOCALHOST, 6881)), outgoing: false }
}
