//! Pieces that are passed on while they come in.
//!
//! A seed that serves thirty peers at once gives each a piece at a thirtieth of its rate; until the first pieces are whole the links of
//! all those peers would idle. So one of our own that fetches a piece whose leaves it knows says so to others of our own (`sm_coming`)
//! and serves each block that has come and is right. If it gives the piece up it says that too (`lt_donthave`, BEP 54), and rejects what
//! was asked of it.
//!
//! Not where zones are known: each piece comes into a zone once there ([`super::nearness`]), and whoever waits for that one node would
//! be bound to it (simulated, 99 nodes in 3 zones: 1.16 x ideal with it, 1.03 without).

use super::{PeerKey, TorrentCore, Violation};

/// Pieces of one peer on their way in that are remembered; more are not asked of it until they are there.
const MAX_COMING: usize = 256;
/// A peer that has everything may lose pieces so often: each time all pieces are counted anew.
const MAX_FALLS: u32 = 16;

impl TorrentCore {
    /// Whether some other peer of ours would like to get this piece from us while it comes in.
    pub fn is_sought(&self, piece: u32, from: PeerKey) -> bool {
        !self.has_borders()
            && self.peers.iter().any(|(key, peer)| *key != from && peer.passes_on() && !peer.provides(piece))
    }

    /// The connection fetches this piece, and each block is proved as it comes: others may ask for them.
    pub fn pass_on(&mut self, key: PeerKey, piece: u32) {
        if self.peers.get(&key).is_some_and(|peer| peer.holds(piece)) && !self.passing.contains_key(&piece) {
            self.passing.insert(piece, key);
            self.note_change(piece);
        }
    }

    /// Whether blocks of this piece are served while it comes in.
    pub fn is_passed_on(&self, piece: u32) -> bool {
        self.passing.contains_key(&piece)
    }

    /// Whether a request for this piece can be answered, now or when more of it has come.
    pub fn can_serve(&self, piece: u32) -> bool {
        self.picker.have().contains(piece) || self.is_passed_on(piece)
    }

    /// The connection does not fetch the piece any more, and it is not here.
    pub(super) fn stop_passing(&mut self, key: PeerKey, piece: u32) {
        if self.passing.get(&piece) == Some(&key) {
            self.passing.remove(&piece);
            self.note_change(piece);
        }
    }

    /// `sm_coming`: the peer fetches this piece and passes it on.
    pub fn peer_coming(&mut self, key: PeerKey, piece: u32) -> Result<(), Violation> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        if piece >= peer.has.len() {
            return Err(Violation::NoSuchPiece(piece));
        }
        if !peer.is_own || peer.provides(piece) || peer.coming.len() >= MAX_COMING {
            return Ok(());
        }
        peer.coming.insert(piece);
        peer.offers.insert(piece);
        peer.wanted += u32::from(self.picker.lacking().contains(piece));
        self.picker.peer_has(piece);
        Ok(())
    }

    /// `lt_donthave` (BEP 54): the peer has this piece no more, or gets it no more.
    pub fn peer_lost(&mut self, key: PeerKey, piece: u32) -> Result<(), Violation> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        if piece >= peer.has.len() {
            return Err(Violation::NoSuchPiece(piece));
        }
        if !peer.provides(piece) {
            return Ok(());
        }
        if peer.is_seed {
            self.peer_falls(key)?;
        }
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        peer.coming.remove(&piece);
        let had = peer.has.remove(piece);
        peer.forget_offer(piece);
        peer.wanted = peer.wanted.saturating_sub(u32::from(self.picker.lacking().contains(piece)));
        self.picker.peer_lost(piece);
        if had {
            self.near_lost(key, piece);
        }
        Ok(())
    }

    /// A seed is one no more: its pieces count one by one again.
    fn peer_falls(&mut self, key: PeerKey) -> Result<(), Violation> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        peer.falls += 1;
        if peer.falls > MAX_FALLS {
            return Err(Violation::LosesPieces);
        }
        peer.is_seed = false;
        self.picker.seed_went();
        (0..peer.has.len()).for_each(|piece| self.picker.peer_has(piece));
        self.near_came(key);
        Ok(())
    }
}
