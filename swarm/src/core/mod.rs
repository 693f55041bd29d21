//! One torrent as its connections see it: who is there, who has what, who fetches what, what is here.
//!
//! Connections call in under the torrent's lock once per piece or per control message, never per block. Nothing here
//! waits, reads a clock or makes randomness.
//!
//! A torrent has an inner id for its whole life and a set of wire ids under which peers may ask for it; the set can grow
//! while the torrent runs, as can the set of known hashes ([`crate::picker::PieceState::HashUnknown`]).

mod blame;
mod book;
mod choking;
mod doubt;
mod handout;
mod haves;
mod held;
mod nearness;
mod offers;
mod origin;
mod pace;
mod passing;
mod peer;
mod relay;
mod reserve;
mod turnover;
mod urgent;
mod web_seed;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use rand_core::RngCore;
use torrent::{Metainfo, WireId};

pub use blame::Source;
pub use book::AddressBook;
pub use handout::Admission;
pub use haves::News;
pub use peer::{Held, Peer};
pub use reserve::Reservation;
pub use web_seed::{ReservedRun, WantedRun};

use crate::assembly::Leaf;
use crate::bitfield::{Bitfield, BitfieldError};
use crate::choker::{Choker, SLOTS};
use crate::near::{Nearness, Place};
use crate::picker::Picker;
use crate::wire::PeerId;
use blame::Blame;
use doubt::Doubts;
use handout::Handout;
use haves::Haves;
use nearness::Crossing;
use origin::Origin;
use pace::Pace;
use relay::Relay;
use turnover::Turnover;
use urgent::Urgent;

/// Names a connection of a torrent; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(u64);

#[cfg(test)]
impl PeerKey {
    pub(crate) fn of(number: u64) -> Self {
        Self(number)
    }
}

/// The name that a torrent keeps while its infohashes come to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InnerId(pub [u8; 32]);

impl InnerId {
    /// For a torrent that is known whole: its v2 infohash, or the v1 infohash followed by zeros.
    pub fn of(metainfo: &Metainfo) -> Self {
        let mut id = [0; 32];
        match (metainfo.info_hash_v2(), metainfo.info_hash_v1()) {
            (Some(v2), _) => id = v2.0,
            (None, Some(v1)) => id[..20].copy_from_slice(&v1.0),
            (None, None) => {}
        }
        Self(id)
    }
}

/// Why a connection is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is ourselves (T39).
    #[error("this is ourselves")]
    OneSelf,
    /// We have a connection to this peer, and that one is kept (T39).
    #[error("already connected to this peer")]
    Duplicate,
    /// It sent bad data before.
    #[error("the peer is banned")]
    Banned,
    /// The torrent has all the connections it may have.
    #[error("the torrent has as many connections as it may have")]
    Full,
}

/// A message that no correct client sends here; the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A piece number behind the end (T25).
    #[error("piece {0} does not exist")]
    NoSuchPiece(u32),
    /// BITFIELD, HAVE ALL or HAVE NONE after another message about pieces, that takes some away (T24).
    #[error("bitfield twice or too late")]
    LateBitfield,
    /// A seed that loses pieces again and again.
    #[error("has everything and loses it, again and again")]
    LosesPieces,
    /// Not a bitfield of this torrent (T24).
    #[error(transparent)]
    Bitfield(#[from] BitfieldError),
}

/// What a new connection is known by.
#[derive(Debug, Clone, Copy)]
pub struct NewPeer {
    /// From its handshake.
    pub id: PeerId,
    /// Where the connection leads.
    pub address: SocketAddr,
    /// Whether we dialled.
    pub outgoing: bool,
}

/// One torrent.
#[derive(Debug)]
pub struct TorrentCore {
    inner: InnerId,
    wire_ids: Vec<WireId>,
    own_id: PeerId,
    max_peers: usize,
    picker: Picker,
    peers: BTreeMap<PeerKey, Peer>,
    next_key: u64,
    haves: Haves,
    /// Signed hashes, for those of our own that do not have them.
    relay: Relay,
    /// What this node reads at the origin.
    origin: Origin,
    /// See [`held`].
    held: BTreeSet<u32>,
    /// Pieces that are passed on while they come in.
    passing: BTreeMap<u32, passing::Passed>,
    blame: Blame,
    doubts: Doubts,
    handout: Handout,
    choker: Choker,
    place: Place,
    /// What is to be had nearby, if we know where we are.
    near: Option<Nearness>,
    crossing: Crossing,
    turnover: Turnover,
    paused: bool,
    urgent: Urgent,
    /// Of a piece, from its reservation to its last block.
    pace: Pace,
    /// Addresses that may be dialled.
    pub book: AddressBook,
}

impl TorrentCore {
    /// A torrent of which nothing is here, with all hashes known.
    pub fn new(inner: InnerId, wire_ids: Vec<WireId>, pieces: u32, own_id: PeerId, max_peers: usize) -> Self {
        Self {
            inner,
            wire_ids,
            own_id,
            max_peers,
            picker: Picker::new(pieces),
            peers: BTreeMap::new(),
            next_key: 0,
            haves: Haves::default(),
            relay: Relay::default(),
            origin: Origin::default(),
            held: BTreeSet::new(),
            passing: BTreeMap::new(),
            blame: Blame::default(),
            doubts: Doubts::default(),
            handout: Handout::new(pieces),
            choker: Choker::default(),
            place: Place::default(),
            near: None,
            crossing: Crossing::default(),
            turnover: Turnover::default(),
            paused: false,
            urgent: Urgent::default(),
            pace: Pace::default(),
            book: AddressBook::new(&own_id),
        }
    }

    /// No hash is known yet ([`Self::hashes_known`]).
    pub fn grows(&mut self) {
        self.picker = Picker::growing(self.picker.have().len());
    }

    /// The name that never changes.
    pub fn inner_id(&self) -> InnerId {
        self.inner
    }

    /// The ids under which peers may ask for the torrent, the preferred one first.
    pub fn wire_ids(&self) -> &[WireId] {
        &self.wire_ids
    }

    /// More ids have become known: these are all of them.
    pub fn set_wire_ids(&mut self, ids: Vec<WireId>) {
        self.wire_ids = ids;
    }

    /// Who fetches what, and what is here.
    pub fn picker(&self) -> &Picker {
        &self.picker
    }

    /// Fetches only these pieces from now on.
    pub fn want_only(&mut self, wanted: &Bitfield) {
        self.picker.want_only(wanted);
        for peer in self.peers.values_mut() {
            peer.wanted =
                peer.provided().filter(|piece| self.picker.lacking().contains(*piece)).count() as u32;
        }
    }

    /// The pieces that are here.
    pub fn have(&self) -> &Bitfield {
        self.picker.have()
    }

    /// Whether all wanted pieces are here.
    pub fn is_complete(&self) -> bool {
        self.picker.lacking().count() == 0
    }

    /// Whether all pieces are here, wanted or not.
    pub fn is_seed(&self) -> bool {
        self.picker.have().is_full()
    }

    /// Whether everything that is wanted is here, and that is not all (BEP 21).
    pub fn is_partial_seed(&self) -> bool {
        self.is_complete() && !self.is_seed()
    }

    /// Whether neither side wants anything of the other.
    pub fn is_useless(&self, key: PeerKey) -> bool {
        self.is_complete() && self.peers.get(&key).is_some_and(Peer::wants_nothing)
    }

    /// The connections.
    pub fn peers(&self) -> &BTreeMap<PeerKey, Peer> {
        &self.peers
    }

    /// Stops (or resumes) reservations: no piece can be stored now.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Whether reservations are stopped.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// A connection has shaken hands. With it goes the key of an older connection that has to yield: its twin, or, now and then, one
    /// that is of no use when there are as many as there may be ([`turnover`]).
    ///
    /// Of two connections between the same two peers, both sides keep the one that the greater peer id has opened. A peer id
    /// proves nothing: who comes under that of a connected peer from another address has to wait until that one is gone.
    pub fn connected(&mut self, new: NewPeer, now: Duration) -> Result<(PeerKey, Option<PeerKey>), Refusal> {
        if new.id == self.own_id {
            return Err(Refusal::OneSelf);
        }
        let source = Source { id: new.id, ip: new.address.ip() };
        if self.blame.is_banned(source) {
            return Err(Refusal::Banned);
        }
        let twin = self
            .peers
            .iter()
            .find(|(_, peer)| peer.source.id == new.id)
            .map(|(key, peer)| (*key, peer.source, peer.outgoing));
        let yields = match twin {
            Some((_, other, _)) if other != source => return Err(Refusal::Duplicate),
            Some((_, _, outgoing)) if outgoing == new.outgoing => return Err(Refusal::Duplicate),
            Some(_) if new.outgoing != (self.own_id > new.id) => return Err(Refusal::Duplicate),
            Some((key, ..)) => Some(key),
            None if self.is_instead(&new) => Some(self.make_room(now).ok_or(Refusal::Full)?),
            None => None,
        };
        let served = self.peers.values().filter(|peer| !peer.is_own && peer.served).count() < SLOTS;
        let key = self.admit_peer(new, now);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.served = served;
        }
        if let Some(old) = yields.and_then(|old| self.peers.get_mut(&old)) {
            old.doomed = true;
        }
        Ok((key, yields))
    }

    fn admit_peer(&mut self, new: NewPeer, now: Duration) -> PeerKey {
        let key = PeerKey(self.next_key);
        self.next_key += 1;
        let mut peer = Peer::new(new, self.picker.have().len(), now);
        peer.caught_up = self.haves.len();
        self.peers.insert(key, peer);
        key
    }

    /// A connection is gone; its reservations are free again.
    pub fn disconnected(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.remove(&key) else { return };
        self.near_went(&peer);
        for held in &peer.held {
            self.picker.release(held.piece);
            self.stop_passing(key, held.piece);
        }
        if peer.is_seed {
            self.picker.seed_went();
        } else {
            peer.provided().for_each(|piece| self.picker.peer_lost(piece));
        }
        self.handout.gone(key);
        self.passing.values_mut().for_each(|passed| passed.forget(key));
    }

    /// Whether the connection has to end: its twin was kept, or its peer has been banned.
    pub fn is_doomed(&self, key: PeerKey) -> bool {
        self.peers.get(&key).is_none_or(|peer| peer.doomed)
    }

    /// A connection has fetched a piece that verifies, and hands it over to be stored: it stays reserved until
    /// [`Self::arrived`]. Its leaves tell who lied about it before.
    pub fn handed_over(&mut self, key: PeerKey, piece: u32, leaves: &[Leaf], now: Duration) {
        self.near_arrived(key, leaves.len(), now);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.verified += 1;
            peer.moved = now;
            peer.taken += leaves.len() as u64;
            if let Some(held) = peer.take_held(piece).filter(|held| !held.coming) {
                self.pace.note(now.saturating_sub(held.since));
            }
        }
        for liar in self.blame.verified(piece, leaves) {
            self.punish(liar, piece);
        }
    }

    /// A piece is verified and written: it counts from now on. Says whether that is new.
    pub fn arrived(&mut self, piece: u32) -> bool {
        let was_lacking = self.picker.lacking().contains(piece);
        if !self.picker.complete(piece) {
            return false;
        }
        self.passing.remove(&piece);
        self.was_read(piece);
        self.note_change(piece);
        if !was_lacking {
            return true;
        }
        for peer in self.peers.values_mut().filter(|peer| peer.provides(piece)) {
            peer.wanted = peer.wanted.saturating_sub(1);
        }
        true
    }

    /// A piece that was here cannot be read or was not made durable: it is fetched again.
    pub fn withdraw(&mut self, piece: u32) -> bool {
        let was_here = self.picker.withdraw(piece);
        self.doubts.settle(piece);
        if was_here {
            self.note_change(piece);
        }
        if was_here && self.picker.lacking().contains(piece) {
            for peer in self.peers.values_mut().filter(|peer| peer.provides(piece)) {
                peer.wanted += 1;
            }
        }
        was_here
    }

    /// Whether a request for `piece` is served, or the peer is sent to another piece ([`Admission`]).
    pub fn admit(&mut self, key: PeerKey, piece: u32, now: Duration, rng: &mut impl RngCore) -> Admission {
        let is_here = self.picker.have().contains(piece) && !self.doubts.contains(piece);
        if !is_here && !self.takes(key, piece, now) {
            return Admission::Reject;
        }
        match self.peers.get(&key) {
            Some(peer) if peer.is_own && (self.is_seed() || self.origin.is_read()) => {
                let is_whole = || self.peers.values().any(|other| other.has.contains(piece));
                self.handout.admit((key, &peer.has), piece, (&self.picker, is_whole), now, rng)
            }
            _ => Admission::Serve,
        }
    }

    /// So many bytes of a piece have gone out to a peer, or are about to (0).
    pub fn sent(&mut self, key: PeerKey, piece: u32, bytes: u32, now: Duration) {
        self.handout.sent(key, piece, now);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.given += u64::from(bytes);
            peer.moved = now;
            peer.was_sent(piece);
        }
    }
}

#[cfg(test)]
mod tests;
