//! One side of a connection.

use std::cell::RefCell;
use std::collections::BTreeSet;

use swarm::conversation::{Conversation, Outlet};
use swarm::core::{News, PeerKey};
use swarm::upload::UploadQueue;
use swarm::wire::{Block, HashRequest, Message};

use crate::node::Mark;
use crate::queue::NodeId;

/// Bytes of blocks that one side may have under way: what the buffers of two sockets hold.
const WINDOW: u64 = 256 * 1024;

/// What one side has to say.
#[derive(Debug, Default)]
pub struct Outbox {
    control: RefCell<Vec<u8>>,
    uploads: RefCell<UploadQueue>,
}

impl Outbox {
    /// Says what has changed.
    pub fn tell(&self, news: &[News]) {
        let mut control = self.control.borrow_mut();
        for one in news {
            one.encode(&mut control);
        }
    }
}

impl Outlet for Outbox {
    fn send<'a>(&self, messages: impl IntoIterator<Item = Message<'a>>) -> bool {
        let mut control = self.control.borrow_mut();
        messages.into_iter().for_each(|message| message.encode(&mut control));
        true
    }

    fn owe(&self, block: Block) -> bool {
        self.uploads.borrow_mut().push(block)
    }

    fn forgive(&self, block: Block) -> bool {
        self.uploads.borrow_mut().cancel(block)
    }

    fn owed(&self) -> BTreeSet<u32> {
        self.uploads.borrow().pieces()
    }

    fn forgive_pieces(&self, pieces: &BTreeSet<u32>) -> Vec<Block> {
        self.uploads.borrow_mut().forget(pieces)
    }

    fn forgive_all(&self) -> Vec<Block> {
        self.uploads.borrow_mut().clear()
    }

    fn owe_hashes(&self, _request: HashRequest, _piece: u32) -> bool {
        false
    }
}

/// One side of a connection.
#[derive(Debug)]
pub struct End {
    pub node: NodeId,
    pub key: PeerKey,
    pub talk: Conversation<Mark>,
    pub out: Outbox,
    pub open: bool,
    /// Waits for its turn at the node's uplink.
    pub queued: bool,
    /// Bytes of blocks that the other side has not got yet.
    pub under_way: u64,
}

impl End {
    pub fn new(node: NodeId, key: PeerKey, talk: Conversation<Mark>) -> Self {
        let out = Outbox::default();
        Self { node, key, talk, out, open: true, queued: false, under_way: 0 }
    }

    /// Whether there is something that may be sent now.
    pub fn can_send(&self) -> bool {
        let control = !self.out.control.borrow().is_empty();
        self.open && (control || (self.under_way < WINDOW && !self.out.uploads.borrow().is_empty()))
    }

    /// All control messages that wait.
    pub fn take_control(&self) -> Option<Vec<u8>> {
        let control = std::mem::take(&mut *self.out.control.borrow_mut());
        (!control.is_empty()).then_some(control)
    }

    /// The next block, if the window has room for it.
    pub fn take_block(&self, is_here: impl Fn(&Block) -> bool) -> Option<Block> {
        if self.under_way >= WINDOW {
            return None;
        }
        let mut run = Vec::new();
        self.out.uploads.borrow_mut().next_run(1, &mut run, is_here);
        run.pop()
    }
}
