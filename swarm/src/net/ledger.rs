//! Which pieces of a torrent are verified, and which of those are durable.

use std::collections::BTreeSet;

use crate::bitfield::Bitfield;

/// Written pieces that no fdatasync has covered yet.
#[derive(Debug, Default)]
pub struct Group {
    /// Which.
    pub pieces: Vec<u32>,
    /// The files they lie in.
    pub files: BTreeSet<usize>,
    /// Their bytes.
    pub bytes: u64,
}

/// The accounts of one torrent.
#[derive(Debug)]
pub struct Ledger {
    durable: Bitfield,
    /// Payload bytes that are verified.
    pub have_bytes: u64,
    /// Payload bytes that are durable.
    pub durable_bytes: u64,
    group: Group,
}

impl Ledger {
    /// Nothing is here.
    pub fn new(pieces: u32) -> Self {
        Self { durable: Bitfield::new(pieces), have_bytes: 0, durable_bytes: 0, group: Group::default() }
    }

    /// Whether everything is durable.
    pub fn is_durable(&self) -> bool {
        self.durable.is_full()
    }

    /// Bytes that wait for the next fdatasync.
    pub fn waiting(&self) -> u64 {
        self.group.bytes
    }

    /// A verified piece was written; its bytes wait for the next fdatasync.
    pub fn written(&mut self, piece: u32, bytes: u64, files: BTreeSet<usize>) {
        self.have_bytes += bytes;
        self.group.pieces.push(piece);
        self.group.files.extend(files);
        self.group.bytes += bytes;
    }

    /// A piece is durable (again).
    pub fn proved(&mut self, piece: u32, bytes: u64) {
        if self.durable.insert(piece) {
            self.durable_bytes += bytes;
        }
    }

    /// A piece that counted as here does not any more.
    pub fn withdrawn(&mut self, piece: u32, bytes: u64) {
        self.have_bytes = self.have_bytes.saturating_sub(bytes);
        if self.durable.remove(piece) {
            self.durable_bytes = self.durable_bytes.saturating_sub(bytes);
        }
    }

    /// The group, to be synced now.
    pub fn take_group(&mut self) -> Group {
        std::mem::take(&mut self.group)
    }

    /// A group that could not be recorded waits again.
    pub fn put_back(&mut self, group: Group) {
        self.group.pieces.extend(group.pieces);
        self.group.files.extend(group.files);
        self.group.bytes += group.bytes;
    }
}
