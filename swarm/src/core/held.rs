//! Pieces whose bytes lie here from elsewhere before this torrent has them: in a file of another torrent that is said to be the same.
//!
//! They are asked of no peer and read at no origin. Each counts when its hash is known and the bytes have it.

use std::ops::Range;

use super::TorrentCore;
use crate::bitfield::Bitfield;
use crate::picker::PieceState;

impl TorrentCore {
    /// Holds those of these pieces that are neither here nor on their way.
    pub fn hold(&mut self, pieces: Range<u32>) {
        for piece in pieces {
            if self.is_free(piece) && self.picker.hold(piece) {
                self.held.insert(piece);
            }
        }
    }

    fn is_free(&self, piece: u32) -> bool {
        let state = self.picker.state(piece);
        let here = matches!(state, PieceState::Have | PieceState::Held | PieceState::Reserved(_));
        !here && !self.origin.has_claimed(piece)
    }

    /// A piece is fetched after all.
    pub fn unhold(&mut self, piece: u32) {
        if self.held.remove(&piece) {
            self.picker.unhold(piece);
        }
    }

    /// The pieces that this torrent is to write, which held ones are not, and those that it has.
    pub fn to_be_written(&self) -> (Bitfield, Bitfield) {
        let mut lacking = self.picker.lacking().clone();
        for piece in &self.held {
            lacking.remove(*piece);
        }
        (lacking, self.picker.have().clone())
    }

    /// Those of these pieces that are held.
    pub fn held(&self, among: Range<u32>) -> Vec<u32> {
        self.held.range(among).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::tests::{PIECES, ZERO, core, join};

    #[test]
    fn what_is_held_is_asked_of_nobody_and_read_nowhere() {
        let mut core = core();
        core.grows();
        core.reads_origin(true);
        let peer = join(&mut core, 1);
        core.hold(0..2);
        core.hashes_known(&(0..PIECES).collect::<Vec<_>>(), Arc::from([0]), Some(peer));
        (0..PIECES).for_each(|piece| core.peer_has(peer, piece).unwrap());
        assert_eq!(core.picker().state(0), PieceState::Held);
        assert_eq!((core.unread(0..2, ZERO), core.claim(0..2, ZERO)), (0, None));
        assert!(core.arrived(0));
        core.unhold(1);
        assert_eq!([0, 1].map(|piece| core.picker().state(piece)), [PieceState::Have, PieceState::Missing]);
        assert!(core.held(0..PIECES).is_empty());
    }

    #[test]
    fn what_is_here_or_on_its_way_is_not_held() {
        let mut core = core();
        core.grows();
        core.reads_origin(true);
        assert_eq!(core.claim(1..2, ZERO), Some(1));
        core.hold(0..3);
        assert_eq!((core.held(0..3), core.held(1..2)), (vec![0, 2], vec![]));
        core.unhold(0);
        assert_eq!(core.claim(0..3, ZERO), Some(0), "nobody knows its hash: it has to be read");
    }
}
