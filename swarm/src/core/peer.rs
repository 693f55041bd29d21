//! What a torrent knows about one connection.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::blame::Source;
use super::{NewPeer, PeerKey, TorrentCore};
use crate::bitfield::Bitfield;
use crate::near::Border;
use crate::wire::Notices;

/// A piece that the peer refused is not asked of it again for so long.
const HIDE_FOR: Duration = Duration::from_secs(2);
/// Suggestions that are kept; later ones push earlier ones out.
const MAX_SUGGESTIONS: usize = 8;
/// Pieces of which a peer was sent something last: more than one of ours asks for at a time.
const MAX_SENT: usize = 64;

/// A piece that a connection has reserved.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// Which.
    pub piece: u32,
    /// Since when.
    pub since: Duration,
    /// The peer did not have it then: it takes as long as the peer itself has to wait.
    pub coming: bool,
}

/// One connection.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own; any combination of them occurs"
)]
pub struct Peer {
    /// Who is behind it.
    pub source: Source,
    /// Where it leads.
    pub address: std::net::SocketAddr,
    /// Whether we dialled.
    pub outgoing: bool,
    /// When it was made.
    pub since: Duration,
    /// When payload last went one way or the other; at first, when it was made.
    pub(super) moved: Duration,
    /// What the peer has.
    pub has: Bitfield,
    /// What is on its way to it, and is passed on meanwhile ([`super::passing`]).
    pub(super) coming: BTreeSet<u32>,
    /// Whether it has everything.
    pub is_seed: bool,
    /// Whether it says that it wants nothing more (BEP 21).
    pub upload_only: bool,
    /// What lies between it and us.
    pub border: Option<Border>,
    /// Whether it has said where it is.
    pub(super) placed: bool,
    /// Whether it calls itself one of ours.
    pub is_own: bool,
    /// Under which ids it takes notices about pieces.
    pub(super) takes: Notices,
    /// How often it had everything and lost a piece.
    pub(super) falls: u32,
    /// Pieces from it that verified.
    pub verified: u32,
    /// Pieces that it has and we want and lack.
    pub(super) wanted: u32,
    /// What may be asked of it now: what it has without what it refused a moment ago.
    pub(super) offers: Bitfield,
    pub(super) held: Vec<Held>,
    /// Where it listens, if it connected to us and says so.
    pub listens: Option<std::net::SocketAddr>,
    pub(super) doomed: bool,
    /// How many of the torrent's arrivals the peer has been told of.
    pub(super) caught_up: usize,
    /// How many batches of hashes it has been told of.
    pub(super) relayed: usize,
    /// Whether it has said anything about its pieces: then BITFIELD comes too late.
    pub(super) spoke: bool,
    /// Whether it wants something that we have.
    pub(super) interested: bool,
    /// Whether it has one of the slots of strangers ([`crate::choker`]).
    pub(super) served: bool,
    /// Payload sent to it in this round of the choker.
    pub(super) given: u64,
    /// Blocks that it sent in this round and that verified.
    pub(super) taken: u64,
    /// The pieces of which it was sent something last.
    sent: VecDeque<u32>,
    /// Wrong pieces of which it has sent all that is wrong, and was not told.
    pub(super) bad: Vec<u32>,
    /// How often it said that a piece of ours is wrong that is not.
    pub(super) false_alarms: u32,
    hidden: Vec<(u32, Duration)>,
    suggested: Vec<u32>,
}

impl Peer {
    pub(super) fn new(new: NewPeer, pieces: u32, now: Duration) -> Self {
        Self {
            source: Source { id: new.id, ip: new.address.ip() },
            address: new.address,
            outgoing: new.outgoing,
            since: now,
            moved: now,
            has: Bitfield::new(pieces),
            coming: BTreeSet::new(),
            is_seed: false,
            upload_only: false,
            border: None,
            placed: false,
            is_own: false,
            takes: Notices::default(),
            falls: 0,
            verified: 0,
            wanted: 0,
            offers: Bitfield::new(pieces),
            held: Vec::new(),
            listens: None,
            doomed: false,
            caught_up: 0,
            relayed: 0,
            spoke: false,
            interested: false,
            served: false,
            given: 0,
            taken: 0,
            sent: VecDeque::new(),
            bad: Vec::new(),
            false_alarms: 0,
            hidden: Vec::new(),
            suggested: Vec::new(),
        }
    }

    /// Whether it has all that it wants.
    pub fn wants_nothing(&self) -> bool {
        self.is_seed || self.upload_only
    }

    /// Whether it passes pieces on while they come in, and knows their leaves.
    pub fn passes_on(&self) -> bool {
        self.takes_coming().is_some()
    }

    /// The id under which it takes `sm_coming`. A stranger's word that it does counts for nothing: it may serve what it has not proved.
    pub(super) fn takes_coming(&self) -> Option<u8> {
        self.takes.coming.filter(|_| self.is_own)
    }

    /// Whether a piece can be had of it, now or soon.
    pub(super) fn provides(&self, piece: u32) -> bool {
        self.is_seed || self.has.contains(piece) || self.coming.contains(&piece)
    }

    /// The pieces that it provides.
    pub(super) fn provided(&self) -> impl Iterator<Item = u32> + '_ {
        self.has.iter().chain(self.coming.iter().copied())
    }

    /// What may be asked of it: what is here there, and what is coming.
    pub(super) fn offers_apart(&self) -> (Bitfield, Bitfield) {
        let (mut here, mut coming) = (self.offers.clone(), Bitfield::new(self.offers.len()));
        for &piece in &self.coming {
            if here.remove(piece) {
                coming.insert(piece);
            }
        }
        (here, coming)
    }

    /// It is not asked for this piece any more.
    pub(super) fn forget_offer(&mut self, piece: u32) {
        self.offers.remove(piece);
        self.hidden.retain(|(hidden, _)| *hidden != piece);
    }

    pub(super) fn holds(&self, piece: u32) -> bool {
        self.held.iter().any(|held| held.piece == piece)
    }

    /// Forgets a reservation, and answers it if there was one.
    pub(super) fn take_held(&mut self, piece: u32) -> Option<Held> {
        let at = self.held.iter().position(|held| held.piece == piece)?;
        Some(self.held.remove(at))
    }

    pub(super) fn hide(&mut self, piece: u32, now: Duration) {
        if self.offers.remove(piece) {
            self.hidden.push((piece, now + HIDE_FOR));
        }
    }

    pub(super) fn unhide(&mut self, now: Duration) {
        let offers = &mut self.offers;
        self.hidden.retain(|(piece, until)| {
            let over = *until <= now;
            if over {
                offers.insert(*piece);
            }
            !over
        });
    }

    /// It is sent a part of a piece.
    pub(super) fn was_sent(&mut self, piece: u32) {
        if self.sent.contains(&piece) {
            return;
        }
        if self.sent.len() >= MAX_SENT {
            self.sent.pop_front();
        }
        self.sent.push_back(piece);
    }

    /// Whether it was sent a part of a piece, not long ago.
    pub(super) fn has_been_sent(&self, piece: u32) -> bool {
        self.sent.contains(&piece)
    }

    pub(super) fn suggest(&mut self, piece: u32) {
        if self.suggested.len() >= MAX_SUGGESTIONS {
            self.suggested.remove(0);
        }
        self.suggested.push(piece);
    }

    /// The suggestions that the peer can keep; they are used once.
    pub(super) fn suggestions(&mut self) -> Vec<u32> {
        let mut suggested = std::mem::take(&mut self.suggested);
        suggested.retain(|piece| self.has.contains(*piece));
        suggested
    }
}

impl TorrentCore {
    /// The peer named itself in its extension handshake.
    pub fn peer_is_own(&mut self, key: PeerKey, own: bool) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.is_own = own;
        }
    }

    /// Those of ours that are connected.
    pub fn own_peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values().filter(|peer| peer.is_own && !peer.doomed)
    }

    /// Whether one of ours is here that lacks pieces which those that lack some have not between them. As long as nobody leaves while
    /// this is so, no piece is lost: who lacks some stays.
    pub fn is_needed(&self) -> bool {
        let mut missing = None;
        for peer in self.own_peers().filter(|peer| !peer.is_seed && !peer.has.is_full()) {
            let before = missing.take().unwrap_or_else(|| Bitfield::full(peer.has.len()));
            missing = Some(before.without(&peer.has));
        }
        missing.is_some_and(|missing| missing.count() > 0)
    }

    /// The peer said under which ids it takes notices about pieces.
    pub fn peer_takes(&mut self, key: PeerKey, notices: Notices) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.takes = notices;
        }
    }

    /// Whether it takes several blocks in one PIECE message.
    pub fn takes_runs(&self, key: PeerKey) -> bool {
        self.peers.get(&key).is_some_and(|peer| peer.takes.run.is_some())
    }

    /// The peer named the port that it listens on: where it has dialled us, it can be dialled when the connection is lost. Only the first
    /// one counts: each is busy in the address book until the connection ends.
    pub fn peer_listens(&mut self, key: PeerKey, port: u16) {
        let incoming = self.peers.get_mut(&key).filter(|peer| !peer.outgoing && peer.listens.is_none());
        if let Some(peer) = incoming {
            let address = std::net::SocketAddr::new(peer.source.ip, port);
            peer.listens = Some(address);
            self.book.connected(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::core::tests::{PIECES, core, join};

    #[test]
    fn who_has_all_may_leave_when_those_that_stay_have_it_between_them() {
        let mut core = core();
        assert!(!core.is_needed(), "nobody is there");
        let [one, other, stranger] = [1, 2, 3].map(|id| join(&mut core, id));
        core.peer_is_own(one, true);
        core.peer_is_own(other, true);
        (0..PIECES).for_each(|piece| core.peer_has(stranger, piece).unwrap());
        assert!(core.is_needed());
        (0..PIECES / 2).for_each(|piece| core.peer_has(one, piece).unwrap());
        (PIECES / 2..PIECES - 1).for_each(|piece| core.peer_has(other, piece).unwrap());
        assert!(core.is_needed(), "the last piece is with those only who have all");
        core.peer_has(other, PIECES - 1).unwrap();
        assert!(!core.is_needed());
        (0..PIECES / 2).for_each(|piece| core.peer_has(other, piece).unwrap());
        assert!(core.is_needed(), "who has all may leave, and the other half goes with it");
        core.disconnected(one);
        assert!(!core.is_needed());
    }
}
