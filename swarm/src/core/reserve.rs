//! Which connection fetches which piece.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_core::RngCore;

use super::{Held, PeerKey, TorrentCore, Violation};

/// Pieces that one connection may hold at a time.
const MAX_HELD: usize = 32;
/// Connections that may fetch the same piece in the end game.
const MAX_HOLDERS: usize = 2;
/// A piece is fetched a second time only if the first has taken so long, and twice as long as pieces take here.
const END_GAME_AFTER: Duration = Duration::from_millis(1500);

/// A piece that a connection is to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reservation {
    /// Which.
    pub piece: u32,
    /// Another connection is at it too: end game.
    pub again: bool,
}

impl TorrentCore {
    /// The piece that this connection should fetch next: what the peer has suggested, else the rarest it has, else in the
    /// end game one that another connection is too slow with.
    pub fn reserve(&mut self, key: PeerKey, now: Duration, rng: &mut impl RngCore) -> Option<Reservation> {
        self.reserve_first(&[], key, now, rng)
    }

    /// As [`Self::reserve`], but before all else one of these pieces: parts of them are here and occupy memory. Then come those that
    /// somebody waits for.
    pub fn reserve_first(
        &mut self,
        begun: &[u32],
        key: PeerKey,
        now: Duration,
        rng: &mut impl RngCore,
    ) -> Option<Reservation> {
        let peer = self.peers.get(&key)?;
        // A peer that has not proved itself yet may spoil one piece, not a window of them (T31).
        let limit = if peer.verified == 0 { 1 } else { MAX_HELD };
        if peer.held.len() >= limit { None } else { self.reserve_next(begun, key, now, rng) }
    }

    /// As [`Self::reserve_first`], however many pieces the connection holds.
    pub(super) fn reserve_next(
        &mut self,
        begun: &[u32],
        key: PeerKey,
        now: Duration,
        rng: &mut impl RngCore,
    ) -> Option<Reservation> {
        let paused = self.paused;
        let peer = self.peers.get_mut(&key)?;
        if paused || peer.doomed {
            return None;
        }
        peer.unhide(now);
        // What is coming to it may be coming from us.
        let is_there = |piece: &u32| peer.offers.contains(*piece) && !peer.coming.contains(piece);
        // Over a border only what near first gives out: all nodes of a zone may wait for the same.
        let is_near = peer.border.is_none();
        let urgent = self.urgent.pieces().filter(|_| is_near);
        let piece = {
            let mut first = begun.iter().copied().chain(urgent).filter(is_there);
            first.find(|piece| self.picker.reserve_piece(*piece))
        };
        let piece =
            piece.or_else(|| peer.suggestions().into_iter().find(|piece| self.picker.reserve_piece(*piece)));
        let reservation = match piece.or_else(|| self.pick(key, now, rng)) {
            Some(piece) => Reservation { piece, again: false },
            None => Reservation { piece: self.slowest(key, now)?, again: true },
        };
        if reservation.again {
            self.picker.reserve_again(reservation.piece);
        }
        let (peer, piece) = (self.peers.get_mut(&key)?, reservation.piece);
        let coming = peer.coming.contains(&piece);
        peer.held.push(Held { piece, since: now, coming });
        Some(reservation)
    }

    /// End game: the piece in flight for longest at one other connection only.
    fn slowest(&self, key: PeerKey, now: Duration) -> Option<u32> {
        if !self.picker.in_end_game() {
            return None;
        }
        let me = self.peers.get(&key)?;
        let mut holders: BTreeMap<u32, (usize, Duration)> = BTreeMap::new();
        for held in self.peers.values().flat_map(|peer| &peer.held) {
            let entry = holders.entry(held.piece).or_insert((0, held.since));
            *entry = (entry.0 + 1, entry.1.max(held.since));
        }
        holders
            .into_iter()
            .filter(|(piece, (count, since))| {
                *count < MAX_HOLDERS
                    && now.saturating_sub(*since) > END_GAME_AFTER.max(self.pace.mean() * 2)
                    && me.offers.contains(*piece)
                    // One that gets it itself would be no faster.
                    && !me.coming.contains(piece)
                    && !me.holds(*piece)
            })
            .min_by_key(|(_, (_, since))| *since)
            .map(|(piece, _)| piece)
    }

    /// A connection gives a piece back.
    pub fn release(&mut self, key: PeerKey, piece: u32) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.take_held(piece).is_some() {
            self.picker.release(piece);
            self.stop_passing(key, piece);
        }
    }

    /// The peer refuses a piece that it has: it is not asked for it again for a while.
    pub fn refused(&mut self, key: PeerKey, piece: u32, now: Duration) {
        self.release(key, piece);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.hide(piece, now);
        }
    }

    /// The peer suggests a piece (BEP 6).
    pub fn suggested(&mut self, key: PeerKey, piece: u32) -> Result<(), Violation> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        if piece >= peer.has.len() {
            return Err(Violation::NoSuchPiece(piece));
        }
        peer.suggest(piece);
        Ok(())
    }

    /// Pieces that this connection is at and that have come from elsewhere.
    pub fn superseded(&self, key: PeerKey) -> Vec<u32> {
        let held = self.peers.get(&key).map(|peer| &peer.held);
        held.into_iter()
            .flatten()
            .map(|held| held.piece)
            .filter(|p| self.picker.have().contains(*p))
            .collect()
    }
}
