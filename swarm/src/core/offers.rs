//! What peers say that they have.

use super::{PeerKey, TorrentCore, Violation};
use crate::bitfield::Bitfield;

impl TorrentCore {
    /// HAVE.
    pub fn peer_has(&mut self, key: PeerKey, piece: u32) -> Result<(), Violation> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        if piece >= peer.has.len() {
            return Err(Violation::NoSuchPiece(piece));
        }
        peer.spoke = true;
        if peer.is_seed || !peer.has.insert(piece) {
            return Ok(());
        }
        let was_coming = peer.coming.remove(&piece);
        if !was_coming {
            peer.wanted += u32::from(self.picker.lacking().contains(piece));
            self.picker.peer_has(piece);
        }
        peer.offers.insert(piece);
        peer.is_seed = peer.has.is_full();
        let became_seed = peer.is_seed;
        if !was_coming {
            self.near_more(key, piece);
        }
        if became_seed {
            (0..self.picker.have().len()).for_each(|piece| self.picker.peer_lost(piece));
            self.picker.seed_came();
            self.near_seed(key);
        }
        self.takes_no_more(key, piece);
        Ok(())
    }

    /// BITFIELD.
    pub fn peer_bitfield(&mut self, key: PeerKey, bytes: &[u8]) -> Result<(), Violation> {
        self.peer_pieces(key, Bitfield::from_wire(bytes, self.picker.have().len())?)
    }

    /// HAVE ALL or HAVE NONE. A late HAVE NONE says nothing that could be of use, and no client needs it (BEP 6, T24).
    pub fn peer_has_all(&mut self, key: PeerKey, all: bool) -> Result<(), Violation> {
        if !all && self.peers.get(&key).is_some_and(|peer| peer.spoke) {
            return Err(Violation::LateBitfield);
        }
        let pieces = self.picker.have().len();
        self.peer_pieces(key, if all { Bitfield::full(pieces) } else { Bitfield::new(pieces) })
    }

    /// All that the peer has. A later message that only adds pieces is taken for as many HAVEs: aria2 sends BITFIELD when several
    /// pieces have come at once, and HAVE ALL when the last ones have. One that takes pieces away comes from no correct client (T24).
    fn peer_pieces(&mut self, key: PeerKey, has: Bitfield) -> Result<(), Violation> {
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        if peer.spoke {
            if peer.has.count_missing_in(&has) > 0 {
                return Err(Violation::LateBitfield);
            }
            let more: Vec<u32> = has.iter().filter(|piece| !peer.has.contains(*piece)).collect();
            return more.into_iter().try_for_each(|piece| self.peer_has(key, piece));
        }
        peer.spoke = true;
        peer.is_seed = has.is_full();
        if peer.is_seed {
            self.picker.seed_came();
        } else {
            has.iter().for_each(|piece| self.picker.peer_has(piece));
        }
        peer.wanted = has.count_common(self.picker.lacking());
        peer.offers = has.clone();
        peer.has = has;
        self.near_came(key);
        Ok(())
    }

    /// Whether the peer has something that we want and lack.
    pub fn is_interesting(&self, key: PeerKey) -> bool {
        self.peers.get(&key).is_some_and(|peer| peer.wanted > 0)
    }
}
