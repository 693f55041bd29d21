//! Which pieces of a torrent are verified, and which of those are durable.

use std::collections::BTreeSet;

use crate::bitfield::Bitfield;

/// Written pieces that no fdatasync has covered yet.
#[derive(Debug, Default)]
pub struct Group {
    /// Which.
    pub pieces: BTreeSet<u32>,
    /// The files they lie in.
    pub files: BTreeSet<usize>,
    /// Their bytes.
    pub bytes: u64,
}

/// The accounts of one torrent.
#[derive(Debug)]
pub struct Ledger {
    durable: Bitfield,
    /// On disk as far as anyone said, and not durable: written since the last fdatasync, or found at the start and not yet
    /// hashed.
    unproven: Bitfield,
    /// Payload bytes that are verified.
    pub have_bytes: u64,
    /// Payload bytes that are durable.
    pub durable_bytes: u64,
    /// Payload bytes of the pieces that are wanted and verified.
    pub have_wanted_bytes: u64,
    wanted: Bitfield,
    /// Wanted pieces that are not durable.
    undurable: u32,
    group: Group,
    /// How often an fdatasync has failed.
    failures: u64,
}

impl Ledger {
    /// Nothing is here, and these pieces are wanted.
    pub fn new(wanted: Bitfield) -> Self {
        let pieces = wanted.len();
        Self {
            durable: Bitfield::new(pieces),
            unproven: Bitfield::new(pieces),
            have_bytes: 0,
            durable_bytes: 0,
            have_wanted_bytes: 0,
            undurable: wanted.count(),
            wanted,
            group: Group::default(),
            failures: 0,
        }
    }

    /// The pieces that are wanted.
    pub fn wanted(&self) -> &Bitfield {
        &self.wanted
    }

    /// Whether everything that is wanted is durable.
    pub fn is_durable(&self) -> bool {
        self.undurable == 0
    }

    /// What a journal has to say: the pieces that are durable, and those to hash after a crash.
    pub fn journal(&self) -> (Bitfield, Vec<u32>) {
        (self.durable.clone(), self.unproven.iter().collect())
    }

    /// How often an fdatasync has failed: what was written before and is found after such a failure may be lost.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Bytes that wait for the next fdatasync.
    pub fn waiting(&self) -> u64 {
        self.group.bytes
    }

    /// Whether a piece waits for the next fdatasync.
    pub fn waits(&self, piece: u32) -> bool {
        self.group.pieces.contains(&piece)
    }

    /// A piece may be on disk, and is not hashed yet.
    pub fn doubted(&mut self, piece: u32) {
        self.unproven.insert(piece);
    }

    /// A piece is not on disk after all.
    pub fn refuted(&mut self, piece: u32) {
        self.unproven.remove(piece);
    }

    /// A piece is here and durable from the start.
    pub fn found(&mut self, piece: u32, bytes: u64) {
        self.came(piece, bytes);
        self.proved(piece, bytes);
    }

    fn came(&mut self, piece: u32, bytes: u64) {
        self.have_bytes += bytes;
        if self.wanted.contains(piece) {
            self.have_wanted_bytes += bytes;
        }
    }

    /// A verified piece was written; its bytes wait for the next fdatasync.
    pub fn written(&mut self, piece: u32, bytes: u64, files: BTreeSet<usize>) {
        self.came(piece, bytes);
        self.unproven.insert(piece);
        self.group.pieces.insert(piece);
        self.group.files.extend(files);
        self.group.bytes += bytes;
    }

    /// A piece is durable (again).
    pub fn proved(&mut self, piece: u32, bytes: u64) {
        self.unproven.remove(piece);
        if self.durable.insert(piece) {
            self.durable_bytes += bytes;
            self.undurable -= u32::from(self.wanted.contains(piece));
        }
    }

    /// A piece that counted as here does not any more.
    pub fn withdrawn(&mut self, piece: u32, bytes: u64) {
        self.have_bytes = self.have_bytes.saturating_sub(bytes);
        if self.wanted.contains(piece) {
            self.have_wanted_bytes = self.have_wanted_bytes.saturating_sub(bytes);
        }
        self.unproven.remove(piece);
        if self.group.pieces.remove(&piece) {
            self.group.bytes = self.group.bytes.saturating_sub(bytes);
        }
        if self.durable.remove(piece) {
            self.durable_bytes = self.durable_bytes.saturating_sub(bytes);
            self.undurable += u32::from(self.wanted.contains(piece));
        }
    }

    /// The group, to be synced now.
    pub fn take_group(&mut self) -> Group {
        std::mem::take(&mut self.group)
    }

    /// An fdatasync has failed. It may have been the only one to hear of it: what waits for the next one is lost with `group`.
    /// Returns all of it.
    pub fn sync_failed(&mut self, group: Group) -> BTreeSet<u32> {
        self.failures += 1;
        let mut pieces = group.pieces;
        pieces.extend(self.take_group().pieces);
        pieces
    }

    /// A group that could not be recorded waits again.
    pub fn put_back(&mut self, group: Group) {
        self.group.pieces.extend(group.pieces);
        self.group.files.extend(group.files);
        self.group.bytes += group.bytes;
    }
}
