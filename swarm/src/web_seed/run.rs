//! A run of pieces on its way in from a web seed.

use std::collections::VecDeque;
use std::time::Duration;

use rand_core::RngCore;
use torrent::PieceMap;

use super::{Failure, Step, ranges};
use crate::assembly::Put;
use crate::conversation::{Host, Piece};
use crate::core::{PeerKey, Source, WantedRun};
use crate::wire::BLOCK;

/// Reserved pieces, in ascending order, and the bytes of the first of them. What is left when it is dropped is given back:
/// the half-fetched piece to whoever comes next.
pub struct Run<H: Host> {
    host: H,
    key: PeerKey,
    source: Source,
    /// Another connection is at the piece too: what is kept of it belongs to that one.
    again: bool,
    pieces: VecDeque<u32>,
    /// The first piece, once there is memory for it.
    assembly: Option<Piece<H>>,
    /// Where the next block starts in the first piece.
    begin: u32,
    /// The part of that block that has come.
    staged: Vec<u8>,
}

impl<H: Host> Run<H> {
    /// Reserves a run; `None` if there is nothing to fetch, or no memory now.
    pub fn reserve(
        host: H,
        (key, source): (PeerKey, Source),
        wanted: WantedRun,
        now: Duration,
        rng: &mut impl RngCore,
    ) -> Option<Self> {
        let shelved = host.shelved();
        let reserved = host.core().reserve_run(&shelved, key, wanted, now, rng)?;
        let pieces = reserved.pieces.into();
        let again = reserved.again;
        let mut run = Self { host, key, source, again, pieces, assembly: None, begin: 0, staged: Vec::new() };
        if run.open(now) {
            return Some(run);
        }
        // Without a word to the others: they would find no memory either.
        run.give_back();
        None
    }

    /// Sees to it that there is memory for the first piece; `false` if there is none now.
    pub fn open(&mut self, now: Duration) -> bool {
        let Some(&piece) = self.pieces.front().filter(|_| self.assembly.is_none()) else { return true };
        let kept = if self.again { None } else { self.host.unshelve(piece) };
        let len = self.host.len(piece);
        let fresh = || Some(Piece::<H>::new(piece, len, self.host.buffer(len)?));
        let Some(mut assembly) = kept.or_else(fresh) else { return false };
        // A server is judged by whole pieces.
        assembly.forget_proof();
        let first = (0..assembly.block_count()).find(|index| !assembly.has(*index));
        self.begin = first.unwrap_or_default() * BLOCK;
        self.assembly = Some(assembly);
        self.host.core().begun(self.key, piece, now);
        true
    }

    /// What comes next; `None` when all is here.
    pub fn step(&self, map: &PieceMap) -> Option<Step> {
        ranges::step(map, self.pieces.iter().copied(), self.inside())
    }

    /// Where the next byte lies in piece space; `None` when all is here.
    pub fn position(&self, map: &PieceMap) -> Option<u64> {
        self.pieces.front().map(|piece| map.start(*piece) + u64::from(self.inside()))
    }

    fn inside(&self) -> u32 {
        self.begin + self.staged.len() as u32
    }

    /// Takes the next bytes in, of the first piece only, and answers how many; 0 if it is not [`Self::open`].
    pub fn feed(&mut self, bytes: &[u8], now: Duration) -> Result<usize, Failure> {
        let Some(assembly) = &mut self.assembly else { return Ok(0) };
        let block = assembly.block(self.begin / BLOCK);
        let part = &bytes[..bytes.len().min(block.len as usize - self.staged.len())];
        // A block that comes in one piece needs no place to wait for its rest.
        let mut whole = part;
        if part.len() < block.len as usize {
            self.staged.extend_from_slice(part);
            whole = &self.staged;
        }
        if whole.len() < block.len as usize {
            return Ok(part.len());
        }
        if assembly.put(block.begin, whole, self.source) == Put::Duplicate {
            self.host.wasted(u64::from(block.len));
        }
        self.staged.clear();
        self.begin += block.len;
        let complete = assembly.is_complete();
        if complete {
            self.complete(now)?;
        }
        Ok(part.len())
    }

    /// All blocks of the first piece are here: as in a conversation, they prove themselves, or someone lied.
    fn complete(&mut self, now: Duration) -> Result<(), Failure> {
        self.begin = 0;
        let (Some(assembly), Some(piece)) = (self.assembly.take(), self.pieces.pop_front()) else {
            return Ok(());
        };
        if self.host.is_genuine(&assembly, self.source) {
            self.host.core().handed_over(self.key, piece, &assembly.leaves(), now);
            self.host.store(assembly);
            return Ok(());
        }
        self.host.wasted(assembly.received().into());
        let doomed = {
            let mut core = self.host.core();
            core.failed(self.key, piece, assembly.evidence());
            core.is_doomed(self.key)
        };
        self.host.bump();
        if doomed { Err(Failure::BadData) } else { Ok(()) }
    }

    /// Lets go of pieces that have come from elsewhere.
    pub fn drop_superseded(&mut self) {
        let superseded = self.host.core().superseded(self.key);
        for piece in superseded {
            let Some(at) = self.pieces.iter().position(|held| *held == piece) else { continue };
            if at == 0 {
                self.waste_staged();
                self.begin = 0;
                let received = self.assembly.take().map_or(0, |assembly| assembly.received());
                self.host.wasted(received.into());
            }
            self.pieces.remove(at);
            self.host.core().release(self.key, piece);
        }
    }

    /// Says whether there was anything.
    fn give_back(&mut self) -> bool {
        self.waste_staged();
        if let Some(assembly) = self.assembly.take() {
            self.host.shelve(assembly);
        }
        let pieces = std::mem::take(&mut self.pieces);
        for piece in &pieces {
            self.host.core().release(self.key, *piece);
        }
        !pieces.is_empty()
    }

    fn waste_staged(&mut self) {
        self.host.wasted(self.staged.len() as u64);
        self.staged.clear();
    }
}

impl<H: Host> Drop for Run<H> {
    fn drop(&mut self) {
        if self.give_back() {
            self.host.bump();
        }
    }
}
