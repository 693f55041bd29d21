//! What a seed gives to whom while the swarm is cold.
//!
//! Every byte that a seed sends twice before each byte was sent once makes the whole swarm wait. So a seed remembers which
//! piece it has given out, and answers a request of one of our own for such a piece with REJECT and SUGGEST (both BEP 6) of
//! one that it has given to nobody. When all are out, everything is served again but what is under way to another and nowhere
//! whole.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_core::RngCore;

use super::PeerKey;
use super::pace::Pace;
use crate::bitfield::Bitfield;
use crate::picker::Picker;

/// A piece counts as under way to a peer for so long after the peer has asked for it, or was sent a part of it...
const UNDER_WAY: Duration = Duration::from_secs(5);
/// ...but not for longer than so many times what pieces take from the seed to a peer: a slow peer keeps nobody waiting.
const SLOW: u32 = 3;
/// Pieces tried at random before the whole set is searched.
const PROBES: u32 = 16;

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Serve it.
    Serve,
    /// Reject it.
    Reject,
    /// Reject it, and suggest this piece.
    Redirect(u32),
}

/// To whom a piece went first.
#[derive(Debug, Clone, Copy)]
struct Given {
    to: PeerKey,
    since: Duration,
    last: Duration,
}

/// The seed's memory.
#[derive(Debug)]
pub(super) struct Handout {
    given: Vec<Option<Given>>,
    fresh: Bitfield,
    /// What was suggested to a peer and not yet asked for by it.
    suggested: BTreeMap<PeerKey, (u32, Duration)>,
    /// What was given to a peer last.
    latest: BTreeMap<PeerKey, u32>,
    /// Of a piece, until it is at a peer.
    pace: Pace,
}

impl Handout {
    pub fn new(pieces: u32) -> Self {
        Self {
            given: vec![None; pieces as usize],
            fresh: Bitfield::full(pieces),
            suggested: BTreeMap::new(),
            latest: BTreeMap::new(),
            pace: Pace::default(),
        }
    }

    /// Nothing is to be given out yet: it comes bit by bit ([`Self::offer`]).
    pub fn begin_empty(&mut self) {
        self.fresh = Bitfield::new(self.fresh.len());
    }

    /// A piece that nobody else has is here now.
    pub fn offer(&mut self, piece: u32) {
        if self.given.get(piece as usize).is_some_and(Option::is_none) {
            self.fresh.insert(piece);
        }
    }

    /// A peer is gone. What was under way to it, and is nowhere else, is given to another.
    pub fn gone(&mut self, key: PeerKey) {
        self.suggested.remove(&key);
        self.latest.remove(&key);
        for (piece, given) in self.given.iter_mut().enumerate() {
            if given.is_some_and(|given| given.to == key) {
                *given = None;
                self.fresh.insert(piece as u32);
            }
        }
    }

    /// Decides about a request of one of our own.
    pub fn admit(
        &mut self,
        (key, has): (PeerKey, &Bitfield),
        piece: u32,
        (picker, is_whole): (&Picker, impl FnOnce() -> bool),
        now: Duration,
        rng: &mut impl RngCore,
    ) -> Admission {
        if self.suggested.get(&key).is_some_and(|(suggested, _)| *suggested == piece) {
            self.suggested.remove(&key);
        }
        let elsewhere = picker.copies(piece) > 0;
        let given = self.given[piece as usize];
        let is_theirs = given.is_some_and(|given| given.to == key);
        if is_theirs || (!elsewhere && given.is_none()) {
            self.give(key, piece, now);
            return Admission::Serve;
        }
        // One suggestion at a time: the other blocks of the same refused piece bring no further ones.
        if self.suggested.get(&key).is_some_and(|(_, since)| now.saturating_sub(*since) < UNDER_WAY) {
            return Admission::Reject;
        }
        match self.pick_fresh(has, picker, rng) {
            Some(other) => {
                self.give(key, other, now);
                self.suggested.insert(key, (other, now));
                Admission::Redirect(other)
            }
            // It is on its way to another, who passes it on sooner than a second copy could arrive.
            None if given.is_some_and(|given| !self.is_late(given, now)) && !is_whole() => Admission::Reject,
            None => {
                if !elsewhere {
                    self.give(key, piece, now);
                }
                Admission::Serve
            }
        }
    }

    fn is_late(&self, given: Given, now: Duration) -> bool {
        let stands_still = now.saturating_sub(given.last) > UNDER_WAY;
        stands_still || now.saturating_sub(given.since) > UNDER_WAY.max(self.pace.mean() * SLOW)
    }

    /// A peer is being sent a part of a piece.
    pub fn sent(&mut self, key: PeerKey, piece: u32, now: Duration) {
        let given = self.given.get_mut(piece as usize).and_then(Option::as_mut);
        if let Some(given) = given.filter(|given| given.to == key) {
            given.last = now;
        }
    }

    fn give(&mut self, key: PeerKey, piece: u32, now: Duration) {
        let given = &mut self.given[piece as usize];
        if let Some(again) = given.as_mut().filter(|given| given.to == key) {
            again.last = now;
            return;
        }
        *given = Some(Given { to: key, since: now, last: now });
        let before = self.latest.insert(key, piece).and_then(|before| self.given[before as usize]);
        if let Some(before) = before.filter(|before| before.to == key) {
            self.pace.note(before.last.saturating_sub(before.since));
        }
        self.fresh.remove(piece);
    }

    /// A piece that was given to nobody and that nobody has.
    fn pick_fresh(&mut self, has: &Bitfield, picker: &Picker, rng: &mut impl RngCore) -> Option<u32> {
        for _ in 0..PROBES.min(self.fresh.len()) {
            let piece = rng.next_u32() % self.fresh.len();
            if self.fresh.contains(piece) && picker.copies(piece) == 0 && !has.contains(piece) {
                return Some(piece);
            }
        }
        // What others have got from elsewhere is fresh no more: the set only shrinks, so that this search ends.
        let seen: Vec<u32> = self.fresh.iter().filter(|piece| picker.copies(*piece) > 0).collect();
        for piece in seen {
            self.fresh.remove(piece);
        }
        let left = self.fresh.count();
        (left > 0).then(|| self.fresh.iter().nth((rng.next_u32() % left) as usize)).flatten()
    }
}
