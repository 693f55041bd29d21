//! Which pieces are to be had nearby, and which of a far peer's may be asked for.
//!
//! What nobody nearby has, one of those nearby is to fetch, not all at once: each node knows its neighbours and draws the same lots for
//! every piece (rendezvous hashing), so that all agree without a word about whose duty a piece is, but for neighbours that only some of
//! them know. What goes wrong with that the budget makes good.

use std::time::Duration;

use rand_core::RngCore;

use super::{Peer, PeerKey, TorrentCore};
use crate::bitfield::Bitfield;
use crate::near::{Border, Nearness, Place};
use crate::wire::PeerId;

/// Pieces share this many lots: drawing one for each of a million pieces would take a while at each coming and going.
const LOTS: u32 = 1024;
/// Where nothing comes for so long, or for as long as a piece takes on this node's link, one more piece is fetched over a border.
const STANDSTILL: Duration = Duration::from_millis(300);

/// So many leechers one seed can serve as fast as they are served by each other.
const LEECHERS_PER_SEED: usize = 4;

/// What is fetched over borders.
#[derive(Debug, Default)]
pub(super) struct Crossing {
    /// Pieces that were reserved over each border or a further one, although they were to be had on this side or were another's duty.
    crossed: [u64; 3],
    /// Pieces that have come, from anywhere.
    arrived: u64,
    /// Blocks that have come from another zone or region.
    blocks: u64,
    /// When a piece came last, or was reserved over a border; at first, when one was asked for.
    last_move: Option<Duration>,
    /// Our duties on this side of each border, until somebody there comes or goes.
    duties: [Option<Bitfield>; 3],
}

impl TorrentCore {
    /// Where we are. Before the first peer.
    pub fn at(&mut self, place: Place) {
        self.near = (!place.is_unknown()).then(|| Nearness::new(self.picker.have().len()));
        self.place = place;
    }

    /// Where we are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The peer says where it is. It proves nothing, and decides only whom we ask first. It says so once: each change is counted anew for
    /// all that it has.
    pub fn peer_place(&mut self, key: PeerKey, place: &Place) {
        let border = self.place.border(place);
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.placed) else { return };
        peer.placed = !place.is_unknown();
        if peer.border == border {
            return;
        }
        if let Some(near) = &mut self.near {
            count(near, peer, false);
            peer.border = border;
            count(near, peer, true);
            self.crossing.duties = Default::default();
        }
    }

    /// The peer says whether it wants anything (BEP 21): one that does not has no duties.
    pub fn peer_upload_only(&mut self, key: PeerKey, upload_only: bool) {
        if let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.upload_only != upload_only) {
            peer.upload_only = upload_only;
            self.crossing.duties = Default::default();
        }
    }

    /// A peer is gone.
    pub(super) fn near_went(&mut self, peer: &Peer) {
        if let Some(near) = &mut self.near {
            count(near, peer, false);
            self.crossing.duties = Default::default();
        }
    }

    /// A peer has said what it has.
    pub(super) fn near_came(&mut self, key: PeerKey) {
        if let (Some(near), Some(peer)) = (&mut self.near, self.peers.get(&key)) {
            count(near, peer, true);
            self.crossing.duties = Default::default();
        }
    }

    /// A peer has one piece less, or gets it no more.
    pub(super) fn near_lost(&mut self, key: PeerKey, piece: u32) {
        if let (Some(near), Some(peer)) = (&mut self.near, self.peers.get(&key)) {
            near.peer_lost(peer.border, piece);
        }
    }

    /// A peer has one piece more, or gets it: those on its side of a border need not fetch it a second time.
    pub(super) fn near_more(&mut self, key: PeerKey, piece: u32) {
        if let (Some(near), Some(peer)) = (&mut self.near, self.peers.get(&key)) {
            near.peer_has(peer.border, piece);
        }
    }

    /// A peer has got all pieces, each of which counts. It is no rival any more.
    pub(super) fn near_seed(&mut self, key: PeerKey) {
        if let (Some(near), Some(peer)) = (&mut self.near, self.peers.get(&key)) {
            (0..peer.has.len()).for_each(|piece| near.peer_lost(peer.border, piece));
            self.crossing.duties = Default::default();
        }
    }

    /// Blocks that came from another zone or region.
    pub fn blocks_from_afar(&self) -> u64 {
        self.crossing.blocks
    }

    /// A piece of so many blocks has come.
    pub(super) fn near_arrived(&mut self, from: PeerKey, blocks: usize, now: Duration) {
        let border = self.peers.get(&from).and_then(|peer| peer.border);
        if border.is_some_and(|border| border >= Border::Zone) {
            self.crossing.blocks += blocks as u64;
        }
        self.crossing.arrived += 1;
        self.crossing.last_move = Some(now);
    }

    /// Reserves the rarest of what a peer has, or else, if nothing else is asked of it, of what is coming to it.
    pub(super) fn pick(&mut self, key: PeerKey, now: Duration, rng: &mut impl RngCore) -> Option<u32> {
        let peer = self.peers.get_mut(&key)?;
        let (border, is_idle) = (peer.border, peer.held.is_empty());
        if !peer.coming.is_empty() {
            let (here, coming) = peer.offers_apart();
            let found = self.pick_here(&here, border, now, rng);
            return if is_idle { found.or_else(|| self.pick_coming(&coming, border, rng)) } else { found };
        }
        let offers = std::mem::replace(&mut peer.offers, Bitfield::new(0));
        let found = self.pick_here(&offers, border, now, rng);
        self.peers.get_mut(&key)?.offers = offers;
        found
    }

    /// Reserves one of these pieces of a peer: from behind a border first what it is our duty to fetch, then, within the budget of that
    /// border, anything.
    fn pick_here(
        &mut self,
        offers: &Bitfield,
        border: Option<Border>,
        now: Duration,
        rng: &mut impl RngCore,
    ) -> Option<u32> {
        let (Some(border), Some(near)) = (border, &self.near) else {
            return self.picker.reserve(offers, rng);
        };
        let (seeds_suffice, may_cross) =
            (self.seeds_suffice(border), self.crossing.may_cross(border, self.pace.mean(), now));
        if seeds_suffice && !may_cross {
            return None;
        }
        let beyond =
            if seeds_suffice { Bitfield::new(offers.len()) } else { offers.without(near.here(border)) };
        let found = self.pick_duty(&beyond, border, rng);
        if found.is_some() || !may_cross {
            return found;
        }
        let found = self.picker.reserve(&beyond, rng).or_else(|| self.picker.reserve(offers, rng));
        if found.is_some() {
            self.crossing.cross(border, now);
        }
        found
    }

    /// Reserves one of the pieces that are on their way to a peer: from behind a border only what it is our duty to fetch, and what
    /// is not on its way to this side already.
    fn pick_coming(
        &mut self,
        coming: &Bitfield,
        border: Option<Border>,
        rng: &mut impl RngCore,
    ) -> Option<u32> {
        let (Some(border), Some(near)) = (border, &self.near) else {
            return self.picker.reserve(coming, rng);
        };
        if self.seeds_suffice(border) {
            return None;
        }
        let beyond = coming.without(near.here(border));
        self.pick_duty(&beyond, border, rng)
    }

    /// Reserves one of these pieces that it is our duty to fetch over a border.
    fn pick_duty(&mut self, beyond: &Bitfield, border: Border, rng: &mut impl RngCore) -> Option<u32> {
        let duty = match self.crossing.duties[border as usize].take() {
            Some(duty) => duty,
            None => self.duty(border),
        };
        let found = self.picker.reserve(&beyond.common(&duty), rng);
        self.crossing.duties[border as usize] = Some(duty);
        found
    }

    /// Whether the seeds on this side of a border can serve all on this side. One that has just begun to fill a swarm cannot: it is as fast
    /// to get from afar what it has given there.
    fn seeds_suffice(&self, border: Border) -> bool {
        // A web seed says nothing about where it is.
        let peers = self.connected_peers();
        let here = peers.filter(|peer| peer.border.is_none_or(|other| other < border));
        // Who has some of it and wants no more serves, and is served by nobody; yet it cannot serve all.
        let (seeds, leechers): (Vec<_>, Vec<_>) =
            here.filter(|peer| !peer.upload_only).partition(|peer| peer.is_seed);
        seeds.len() * LEECHERS_PER_SEED > leechers.len()
    }

    /// The pieces for which we have the best lot of all leechers on this side of a border.
    fn duty(&self, border: Border) -> Bitfield {
        let rivals: Vec<PeerId> = self
            .peers
            .values()
            .filter(|peer| {
                !peer.wants_nothing() && peer.is_own && peer.border.is_none_or(|other| other < border)
            })
            .map(|peer| peer.source.id)
            .collect();
        let ours: Vec<bool> = (0..LOTS)
            .map(|number| {
                let own = lot(number, &self.own_id);
                rivals.iter().all(|rival| lot(number, rival) <= own)
            })
            .collect();
        let mut duty = Bitfield::new(self.picker.have().len());
        for piece in (0..duty.len()).filter(|piece| ours[(piece % LOTS) as usize]) {
            duty.insert(piece);
        }
        duty
    }
}

impl Crossing {
    /// Whether a piece may come over a border for no better reason than that it is missing.
    fn may_cross(&mut self, border: Border, pace: Duration, now: Duration) -> bool {
        let last_move = *self.last_move.get_or_insert(now);
        self.crossed[border as usize] < self.arrived * border.budget() / 100
            || now.saturating_sub(last_move) >= STANDSTILL.max(pace)
    }

    /// It comes.
    fn cross(&mut self, border: Border, now: Duration) {
        self.crossed[..=border as usize].iter_mut().for_each(|crossed| *crossed += 1);
        self.last_move = Some(now);
    }
}

/// The lot of a peer: the same wherever it is drawn (FNV-1a, and a last stir so that neighbours differ in the high bits).
pub(super) fn lot(number: u32, peer: &PeerId) -> u64 {
    stirred(number.to_be_bytes().into_iter().chain(peer.0))
}

/// A number that bytes give, and that no neighbour of them gives.
pub(super) fn stirred(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let hash = bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Counts what a leecher has or gets, or takes it out of the counts.
fn count(near: &mut Nearness, peer: &Peer, add: bool) {
    if peer.is_seed {
        return;
    }
    for piece in peer.provided() {
        if add {
            near.peer_has(peer.border, piece);
        } else {
            near.peer_lost(peer.border, piece);
        }
    }
}
