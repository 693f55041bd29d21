//! What the reading and the writing half of one connection have in common.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::conversation::Outlet;
use crate::upload::UploadQueue;
use crate::wire::{Block, HashRequest, Message};

/// Control bytes that may wait for a peer that does not read; then the connection ends. A full bitfield and a full queue of
/// requests fit many times.
const MAX_CONTROL: usize = 2 << 20;
/// Hash requests that may wait to be answered from the bytes of a piece: each costs reading a piece.
const MAX_HASHING: usize = 4;

/// What is to be sent.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Encoded control messages.
    pub control: Vec<u8>,
    /// Requests to be answered.
    pub uploads: UploadQueue,
    /// Hash requests, each with the piece that answers it.
    pub hashing: VecDeque<(HashRequest, u32)>,
}

/// The middle of a connection. Its lock is the connection's own.
#[derive(Debug, Default)]
pub struct Link {
    outbox: Mutex<Outbox>,
    /// The writer has something to do.
    pub wake: Notify,
}

impl Link {
    /// What is to be sent.
    pub fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outlet for Link {
    fn send<'a>(&self, messages: impl IntoIterator<Item = Message<'a>>) -> bool {
        let mut outbox = self.outbox();
        for message in messages {
            message.encode(&mut outbox.control);
        }
        let fits = outbox.control.len() <= MAX_CONTROL;
        drop(outbox);
        self.wake.notify_one();
        fits
    }

    fn owe(&self, block: Block) -> bool {
        let taken = self.outbox().uploads.push(block);
        if taken {
            self.wake.notify_one();
        }
        taken
    }

    fn forgive(&self, block: Block) -> bool {
        self.outbox().uploads.cancel(block)
    }

    fn owed(&self) -> BTreeSet<u32> {
        self.outbox().uploads.pieces()
    }

    fn forgive_pieces(&self, pieces: &BTreeSet<u32>) -> Vec<Block> {
        self.outbox().uploads.forget(pieces)
    }

    fn forgive_all(&self) -> Vec<Block> {
        self.outbox().uploads.clear()
    }

    fn owe_hashes(&self, request: HashRequest, piece: u32) -> bool {
        let mut outbox = self.outbox();
        let fits = outbox.hashing.len() < MAX_HASHING;
        if fits {
            outbox.hashing.push_back((request, piece));
        }
        drop(outbox);
        self.wake.notify_one();
        fits
    }
}
