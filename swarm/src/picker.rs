//! Which piece to ask a peer for: rarest first, ties broken at random.
//!
//! Ties broken by index make every leecher of a fresh swarm ask the seed for the same piece; random ties over fresh
//! HAVEs spread them. Peers that have everything do not count towards rarity: they raise every piece alike, and
//! counting them apart makes their coming and going cost nothing.
//!
//! Pieces that can be reserved lie in buckets by availability, so that a reservation from a peer that has most of
//! them costs a few probes whatever the size of the torrent. Where probes fail (a peer with few pieces), one pass over
//! the peer's bitfield, 64 pieces a step, decides.
//!
//! Pieces that are not *wanted* are asked of nobody. They may be here all the same, and are served then.

use rand_core::RngCore;

use crate::bitfield::Bitfield;

/// Probes of the buckets before the picker turns to the peer's bitfield.
const PROBES: usize = 128;

/// What is known about a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceState {
    /// Its hash is not known yet, so it can be asked of nobody (a torrent that is still growing).
    HashUnknown,
    /// It is not to be fetched.
    NotWanted,
    /// Its hash is known, and no connected peer has it.
    NobodyHas,
    /// Some peer has it, and nobody is fetching it.
    Missing,
    /// Its bytes lie here, from elsewhere, and are still to be compared with its hash: it is asked of nobody.
    Held,
    /// So many connections are fetching it.
    Reserved(u8),
    /// Here and verified.
    Have,
}

/// The picker's own mark per piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    HashUnknown,
    Open,
    /// Whether its hash is known.
    Held(bool),
    Reserved(u8),
    Have,
}

/// Where a piece lies among the buckets, for pieces that are open.
const NOWHERE: u32 = u32::MAX;

/// The picker of one torrent.
#[derive(Debug, Clone)]
pub struct Picker {
    marks: Vec<Mark>,
    /// How many connected peers that lack something have it.
    availability: Vec<u16>,
    /// Position of an open piece in its bucket.
    position: Vec<u32>,
    /// Open pieces by availability.
    buckets: Vec<Vec<u32>>,
    /// The open pieces that are wanted, for the pass over a bitfield.
    open: Bitfield,
    have: Bitfield,
    wanted: Bitfield,
    /// The pieces that are wanted and not here.
    lacking: Bitfield,
    /// Connected peers that have everything.
    seeds: u32,
    reserved: u32,
}

impl Picker {
    /// A picker for pieces that are all wanted and missing, and whose hashes are all known.
    pub fn new(pieces: u32) -> Self {
        Self {
            marks: vec![Mark::Open; pieces as usize],
            availability: vec![0; pieces as usize],
            position: (0..pieces).collect(),
            buckets: vec![(0..pieces).collect()],
            open: Bitfield::full(pieces),
            have: Bitfield::new(pieces),
            wanted: Bitfield::full(pieces),
            lacking: Bitfield::full(pieces),
            seeds: 0,
            reserved: 0,
        }
    }

    /// A picker for a torrent that grows: no hash is known yet.
    pub fn growing(pieces: u32) -> Self {
        let mut picker = Self::new(pieces);
        for piece in 0..pieces {
            picker.close(piece);
            picker.marks[piece as usize] = Mark::HashUnknown;
        }
        picker
    }

    /// Fetches only these pieces. What is being fetched already is not stopped; it is not begun again.
    pub fn want_only(&mut self, wanted: &Bitfield) {
        for piece in 0..self.have.len() {
            if wanted.contains(piece) {
                self.want(piece);
            } else {
                self.unwant(piece);
            }
        }
    }

    fn want(&mut self, piece: u32) {
        if !self.wanted.insert(piece) || self.have.contains(piece) {
            return;
        }
        self.lacking.insert(piece);
        if self.marks[piece as usize] == Mark::Open {
            self.put(piece);
        }
    }

    fn unwant(&mut self, piece: u32) {
        self.wanted.remove(piece);
        self.lacking.remove(piece);
        if self.open.contains(piece) {
            self.close(piece);
        }
    }

    /// The pieces that are here.
    pub fn have(&self) -> &Bitfield {
        &self.have
    }

    /// The pieces that are wanted and not here.
    pub fn lacking(&self) -> &Bitfield {
        &self.lacking
    }

    /// What is known about `piece`.
    pub fn state(&self, piece: u32) -> PieceState {
        match self.marks[piece as usize] {
            Mark::HashUnknown => PieceState::HashUnknown,
            Mark::Have => PieceState::Have,
            Mark::Held(_) => PieceState::Held,
            Mark::Reserved(holders) => PieceState::Reserved(holders),
            Mark::Open if !self.wanted.contains(piece) => PieceState::NotWanted,
            Mark::Open if self.copies(piece) == 0 => PieceState::NobodyHas,
            Mark::Open => PieceState::Missing,
        }
    }

    /// How many connected peers have `piece`.
    pub fn copies(&self, piece: u32) -> u32 {
        self.seeds + u32::from(self.availability[piece as usize])
    }

    /// How many pieces are being fetched.
    pub fn reserved(&self) -> u32 {
        self.reserved
    }

    /// Whether no piece is left to reserve: what is missing is being fetched, or nobody has it.
    pub fn in_end_game(&self) -> bool {
        let out_of_reach = if self.seeds > 0 { 0 } else { self.buckets.first().map_or(0, Vec::len) };
        self.open.count() as usize == out_of_reach && self.reserved > 0
    }

    /// The hash of `piece` has become known.
    pub fn hash_known(&mut self, piece: u32) {
        match &mut self.marks[piece as usize] {
            mark @ Mark::HashUnknown => {
                *mark = Mark::Open;
                self.put(piece);
            }
            Mark::Held(known) => *known = true,
            Mark::Open | Mark::Reserved(_) | Mark::Have => {}
        }
    }

    /// The bytes of `piece` lie here already; `false` if it is here or being fetched.
    pub fn hold(&mut self, piece: u32) -> bool {
        let known = match self.marks[piece as usize] {
            Mark::HashUnknown => false,
            Mark::Open => true,
            Mark::Held(_) | Mark::Reserved(_) | Mark::Have => return false,
        };
        if self.open.contains(piece) {
            self.close(piece);
        }
        self.marks[piece as usize] = Mark::Held(known);
        true
    }

    /// They do not, or are not what they should be: it is fetched like any other.
    pub fn unhold(&mut self, piece: u32) {
        let Mark::Held(known) = self.marks[piece as usize] else { return };
        self.marks[piece as usize] = Mark::HashUnknown;
        if known {
            self.hash_known(piece);
        }
    }

    /// A peer that has everything came.
    pub fn seed_came(&mut self) {
        self.seeds += 1;
    }

    /// A peer that has everything went (or turns out to be counted piece by piece).
    pub fn seed_went(&mut self) {
        self.seeds = self.seeds.saturating_sub(1);
    }

    /// One more peer has `piece`.
    pub fn peer_has(&mut self, piece: u32) {
        self.shift(piece, self.availability[piece as usize].saturating_add(1));
    }

    /// One peer fewer has `piece`.
    pub fn peer_lost(&mut self, piece: u32) {
        self.shift(piece, self.availability[piece as usize].saturating_sub(1));
    }

    /// Reserves a piece that `peer` has, the rarest first; `None` if it has none that is open.
    pub fn reserve(&mut self, peer: &Bitfield, rng: &mut impl RngCore) -> Option<u32> {
        let piece = self.probe(peer, rng).or_else(|| self.scan(peer, rng))?;
        self.take(piece);
        Some(piece)
    }

    /// Reserves this very piece if it is open.
    pub fn reserve_piece(&mut self, piece: u32) -> bool {
        let open = self.open.contains(piece);
        if open {
            self.take(piece);
        }
        open
    }

    /// End game: one more connection fetches a piece that is already being fetched.
    pub fn reserve_again(&mut self, piece: u32) {
        if let Mark::Reserved(holders) = &mut self.marks[piece as usize] {
            *holders = holders.saturating_add(1);
        }
    }

    /// A connection gives a reservation back.
    pub fn release(&mut self, piece: u32) {
        match self.marks[piece as usize] {
            Mark::Reserved(0 | 1) => {
                self.reserved -= 1;
                self.marks[piece as usize] = Mark::Open;
                self.put(piece);
            }
            Mark::Reserved(holders) => self.marks[piece as usize] = Mark::Reserved(holders - 1),
            Mark::HashUnknown | Mark::Open | Mark::Held(_) | Mark::Have => {}
        }
    }

    /// `piece` is here and verified; says whether that is new.
    pub fn complete(&mut self, piece: u32) -> bool {
        match self.marks[piece as usize] {
            Mark::Have => return false,
            Mark::Reserved(_) => self.reserved -= 1,
            Mark::Open if self.open.contains(piece) => self.close(piece),
            Mark::Open | Mark::Held(_) | Mark::HashUnknown => {}
        }
        self.marks[piece as usize] = Mark::Have;
        self.have.insert(piece);
        self.lacking.remove(piece);
        true
    }

    /// `piece` was here and is not any more (a read error, a failed barrier).
    pub fn withdraw(&mut self, piece: u32) -> bool {
        if !self.have.remove(piece) {
            return false;
        }
        self.marks[piece as usize] = Mark::Open;
        if self.wanted.contains(piece) {
            self.lacking.insert(piece);
        }
        self.put(piece);
        true
    }

    fn take(&mut self, piece: u32) {
        self.close(piece);
        self.marks[piece as usize] = Mark::Reserved(1);
        self.reserved += 1;
    }

    /// Looks into the buckets, rarest first, each from a random place.
    fn probe(&self, peer: &Bitfield, rng: &mut impl RngCore) -> Option<u32> {
        let mut probes = PROBES;
        for bucket in self.buckets.iter().filter(|bucket| !bucket.is_empty()) {
            let start = rng.next_u32() as usize % bucket.len();
            let steps = bucket.len().min(probes);
            let found = (0..steps).map(|i| bucket[(start + i) % bucket.len()]).find(|p| peer.contains(*p));
            if found.is_some() {
                return found;
            }
            if steps < bucket.len() {
                return None;
            }
            probes -= steps;
        }
        None
    }

    /// One pass over all open pieces of the peer; a reservoir of one keeps the tie random.
    fn scan(&self, peer: &Bitfield, rng: &mut impl RngCore) -> Option<u32> {
        let mut best: Option<(u16, u32)> = None;
        let mut ties = 0;
        for piece in self.open.iter_common(peer) {
            let copies = self.availability[piece as usize];
            match best {
                Some((fewest, _)) if copies > fewest => {}
                Some((fewest, _)) if copies == fewest => {
                    ties += 1;
                    if rng.next_u32().is_multiple_of(ties) {
                        best = Some((copies, piece));
                    }
                }
                _ => {
                    best = Some((copies, piece));
                    ties = 1;
                }
            }
        }
        best.map(|(_, piece)| piece)
    }

    fn shift(&mut self, piece: u32, copies: u16) {
        let open = self.open.contains(piece);
        if open {
            self.close(piece);
        }
        self.availability[piece as usize] = copies;
        if open {
            self.put(piece);
        }
    }

    /// Puts an open piece into its bucket, if it is wanted.
    fn put(&mut self, piece: u32) {
        if !self.wanted.contains(piece) {
            return;
        }
        let bucket = self.availability[piece as usize] as usize;
        if self.buckets.len() <= bucket {
            self.buckets.resize_with(bucket + 1, Vec::new);
        }
        self.position[piece as usize] = self.buckets[bucket].len() as u32;
        self.buckets[bucket].push(piece);
        self.open.insert(piece);
    }

    /// Takes an open piece out of its bucket.
    fn close(&mut self, piece: u32) {
        let bucket = &mut self.buckets[self.availability[piece as usize] as usize];
        let at = self.position[piece as usize] as usize;
        bucket.swap_remove(at);
        if let Some(&moved) = bucket.get(at) {
            self.position[moved as usize] = at as u32;
        }
        self.position[piece as usize] = NOWHERE;
        self.open.remove(piece);
    }
}

#[cfg(test)]
mod tests;
