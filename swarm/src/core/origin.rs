//! What this node reads at the origin, where it has been told to.
//!
//! A piece comes from the origin if nobody knows its hash: then nobody has read it. One whose hash is known and that no connected
//! peer has is read again when nothing else is left: who had it may come back sooner. As long as this node reads, it deals with its
//! pieces as a seed does in a cold swarm ([`super::handout`]): each goes to one peer first.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use super::TorrentCore;
use crate::picker::PieceState;

/// A piece whose hash is known has been nowhere for so long before it is read again.
const LOST_AFTER: Duration = Duration::from_secs(3);

/// The pieces that are being read.
#[derive(Debug, Default)]
pub(super) struct Origin {
    read: bool,
    claimed: BTreeSet<u32>,
    /// Pieces whose hashes are known and that nobody has, and since when that is seen.
    lost: BTreeMap<u32, Duration>,
}

impl Origin {
    /// Whether this node reads.
    pub fn is_read(&self) -> bool {
        self.read
    }

    /// Whether a piece is being read by this node.
    pub fn has_claimed(&self, piece: u32) -> bool {
        self.claimed.contains(&piece)
    }
}

impl TorrentCore {
    /// This node begins or ceases to read at the origin.
    pub fn reads_origin(&mut self, reads: bool) {
        if reads && !self.origin.read && !self.is_seed() {
            self.handout.begin_empty();
        }
        self.origin.read = reads;
        if !reads {
            let claimed = std::mem::take(&mut self.origin.claimed);
            for piece in claimed {
                self.unreserve(piece);
            }
        }
    }

    /// Takes the first piece of a range that has to be read and that no other reader of this node has taken.
    pub fn claim(&mut self, pieces: Range<u32>, now: Duration) -> Option<u32> {
        let unread = pieces.clone().find(|piece| self.is_unread(*piece));
        let piece = unread.or_else(|| pieces.into_iter().find(|piece| self.is_lost(*piece, now)))?;
        // Of one that was lost nobody of this node may ask a peer now.
        self.picker.reserve_piece(piece);
        self.origin.claimed.insert(piece);
        Some(piece)
    }

    /// How many of these pieces have to be read, those that have been taken not among them.
    pub fn unread(&mut self, pieces: Range<u32>, now: Duration) -> u32 {
        pieces.filter(|piece| self.is_unread(*piece) || self.is_lost(*piece, now)).count() as u32
    }

    fn is_unread(&self, piece: u32) -> bool {
        self.picker.state(piece) == PieceState::HashUnknown && !self.origin.claimed.contains(&piece)
    }

    fn is_lost(&mut self, piece: u32, now: Duration) -> bool {
        if self.picker.state(piece) != PieceState::NobodyHas {
            self.origin.lost.remove(&piece);
            return false;
        }
        now.saturating_sub(*self.origin.lost.entry(piece).or_insert(now)) >= LOST_AFTER
    }

    /// A piece was taken and is not read after all.
    pub fn unclaim(&mut self, piece: u32) {
        if self.origin.claimed.remove(&piece) {
            self.unreserve(piece);
        }
    }

    fn unreserve(&mut self, piece: u32) {
        if matches!(self.picker.state(piece), PieceState::Reserved(_)) {
            self.picker.release(piece);
        }
    }

    /// A piece is here: if this node reads the origin and it came from no peer, nobody else has it.
    pub(super) fn was_read(&mut self, piece: u32) {
        let was_held = self.held.remove(&piece) && self.origin.read;
        if self.origin.claimed.remove(&piece) || was_held {
            self.handout.offer(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Admission;
    use crate::core::tests::{PIECES, ZERO, core, join};
    use crate::test_rng::TestRng;
    use std::sync::Arc;

    fn reading() -> TorrentCore {
        let mut core = core();
        core.grows();
        core.reads_origin(true);
        core
    }

    fn read(core: &mut TorrentCore, piece: u32) {
        core.hashes_known(&[piece], Arc::from([0]), None);
        core.arrived(piece);
    }

    #[test]
    fn what_nobody_has_read_is_read_once_and_in_order() {
        let mut core = reading();
        assert_eq!(core.claim(0..PIECES, ZERO), Some(0));
        assert_eq!(core.claim(0..PIECES, ZERO), Some(1));
        read(&mut core, 0);
        core.unclaim(1);
        assert_eq!(core.claim(0..PIECES, ZERO), Some(1));
        assert_eq!([core.claim(3..4, ZERO), core.claim(3..4, ZERO)], [Some(3), None]);
        assert_eq!(core.claim(2..PIECES, ZERO), Some(2));
        assert_eq!(core.claim(2..4, ZERO), None);
    }

    #[test]
    fn what_peers_have_is_left_to_them_and_what_is_lost_is_read_again_after_a_while() {
        let mut core = reading();
        let peer = join(&mut core, 1);
        core.hashes_known(&(0..PIECES).collect::<Vec<_>>(), Arc::from([0]), Some(peer));
        (1..PIECES).for_each(|piece| core.peer_has(peer, piece).unwrap());
        assert_eq!(core.claim(0..PIECES, ZERO), None);
        assert_eq!(core.claim(0..PIECES, LOST_AFTER / 2), None);
        assert_eq!((core.unread(0..PIECES, ZERO), core.unread(0..PIECES, LOST_AFTER)), (0, 1));
        assert_eq!(core.claim(0..PIECES, LOST_AFTER), Some(0));
        assert_eq!(core.unread(0..PIECES, LOST_AFTER), 0);
        core.unclaim(0);
        assert_eq!(core.picker().state(0), PieceState::NobodyHas);
        core.disconnected(peer);
        // Its time begins anew, since it was on its way.
        assert_eq!(core.claim(0..PIECES, LOST_AFTER), None);
        assert_eq!(core.claim(0..PIECES, LOST_AFTER * 2), Some(0));
    }

    #[test]
    fn each_piece_that_was_read_goes_to_one_peer_first() {
        let mut core = reading();
        let [first, second] = [1, 2].map(|id| {
            let key = join(&mut core, id);
            core.peer_is_own(key, true);
            key
        });
        let mut rng = TestRng(1);
        core.claim(0..2, ZERO);
        read(&mut core, 0);
        assert_eq!(core.admit(first, 0, ZERO, &mut rng), Admission::Serve);
        assert_eq!(core.admit(second, 0, ZERO, &mut rng), Admission::Reject);
        core.claim(0..2, ZERO);
        read(&mut core, 1);
        assert_eq!(core.admit(second, 0, ZERO, &mut rng), Admission::Redirect(1));
        core.peer_has(first, 0).unwrap();
        assert_eq!(core.admit(second, 0, Duration::from_secs(9), &mut rng), Admission::Serve);
    }

    #[test]
    fn who_ceases_to_read_lets_go_of_what_it_had_taken() {
        let mut core = reading();
        let all: Vec<u32> = (0..PIECES).collect();
        core.hashes_known(&all, Arc::from([0]), None);
        core.claim(0..1, ZERO);
        assert_eq!(core.claim(0..1, LOST_AFTER), Some(0));
        core.reads_origin(false);
        assert_eq!(core.picker().state(0), PieceState::NobodyHas);
    }
}
