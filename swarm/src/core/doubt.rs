//! Pieces that were good when they came, and of which one of ours says that they are not what it got.
//!
//! A disk can flip a bit and say nothing. Who gets such a piece finds out, cuts the sender off and tells it why (`sm_bad`): the sender
//! looks at the piece, and gives it to nobody until it has. The word of a peer costs reading one piece: it counts for what the peer was
//! just sent, once in a while for each piece, and not from one that was wrong about it before.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{PeerKey, TorrentCore};

/// Pieces that wait to be looked at; while there are so many, no further ones are doubted.
const MAX_DOUBTED: usize = 64;
/// A piece that was found good is not doubted again for so long.
const CLEAR_FOR: Duration = Duration::from_mins(10);
/// Pieces that were found good and are remembered; while there are so many, no further ones are doubted.
const MAX_CLEAR: usize = 1024;
/// A connection that was wrong so often is not heard any more.
const MAX_FALSE_ALARMS: u32 = 3;

/// Wrong pieces of which one peer is told.
pub(super) const MAX_BAD: usize = 16;

/// The doubts of one torrent.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    open: BTreeSet<u32>,
    clear: BTreeMap<u32, Duration>,
}

impl Doubts {
    pub fn contains(&self, piece: u32) -> bool {
        self.open.contains(&piece)
    }

    /// It was looked at, or is not here any more.
    pub fn settle(&mut self, piece: u32) {
        self.open.remove(&piece);
    }

    fn may_open(&mut self, piece: u32, now: Duration) -> bool {
        self.clear.retain(|_, since| now.saturating_sub(*since) < CLEAR_FOR);
        let is_news = !self.open.contains(&piece) && !self.clear.contains_key(&piece);
        is_news && self.open.len() < MAX_DOUBTED && self.clear.len() < MAX_CLEAR
    }
}

impl TorrentCore {
    /// `sm_bad`: what a peer got of a piece from us is wrong. Says whether to look at it; it is served to nobody until
    /// [`Self::found_good`] or [`Self::withdraw`].
    pub fn doubt(&mut self, key: PeerKey, piece: u32, now: Duration) -> bool {
        let Some(peer) = self.peers.get(&key) else { return false };
        let is_heard = peer.is_own && peer.false_alarms < MAX_FALSE_ALARMS && peer.has_been_sent(piece);
        let doubted = is_heard && self.picker.have().contains(piece) && self.doubts.may_open(piece, now);
        doubted && self.doubts.open.insert(piece)
    }

    /// A piece was looked at, and is what it has to be. `by` has said that it is not.
    pub fn found_good(&mut self, piece: u32, by: PeerKey, now: Duration) {
        self.doubts.settle(piece);
        self.doubts.clear.insert(piece, now);
        if let Some(peer) = self.peers.get_mut(&by) {
            peer.false_alarms += 1;
        }
    }

    /// The piece could not be looked at.
    pub fn leave_doubt(&mut self, piece: u32) {
        self.doubts.settle(piece);
    }

    /// The wrong pieces that a peer of ours is to be told of before it is cut off, and the id under which it takes that.
    pub fn reproaches(&mut self, key: PeerKey) -> Vec<(u8, u32)> {
        let Some(peer) = self.peers.get_mut(&key) else { return Vec::new() };
        let Some(id) = peer.takes.bad.filter(|_| peer.is_own) else { return Vec::new() };
        std::mem::take(&mut peer.bad).into_iter().map(|piece| (id, piece)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Admission;
    use crate::core::tests::{PIECES, ZERO, core, join};
    use crate::test_rng::TestRng;
    use crate::wire::Notices;

    /// A seed of ours with one peer of ours, which was sent pieces 0 to 3.
    fn seed() -> (TorrentCore, PeerKey) {
        let mut core = core();
        (0..PIECES).for_each(|piece| assert!(core.arrived(piece)));
        let key = join(&mut core, 9);
        core.peer_is_own(key, true);
        (0..4).for_each(|piece| core.sent(key, piece, 1, ZERO));
        (core, key)
    }

    #[test]
    fn t073_a_doubted_piece_is_given_to_nobody_until_it_was_looked_at() {
        let (mut core, key) = seed();
        let other = join(&mut core, 8);
        assert!(core.doubt(key, 2, ZERO));
        assert!(!core.doubt(key, 2, ZERO), "it is being looked at");
        assert!(!core.can_serve(2) && core.can_serve(1));
        assert_eq!(core.admit(other, 2, ZERO, &mut TestRng(1)), Admission::Reject);
        core.found_good(2, key, ZERO);
        assert!(core.can_serve(2));
        assert!(core.doubt(key, 3, ZERO));
        core.withdraw(3);
        assert!(!core.can_serve(3));
        assert!(core.arrived(3));
        assert!(core.can_serve(3), "it came anew");
    }

    #[test]
    fn t073_the_word_of_a_peer_is_worth_little() {
        let (mut core, key) = seed();
        let stranger = join(&mut core, 8);
        core.sent(stranger, 0, 1, ZERO);
        assert!(!core.doubt(stranger, 0, ZERO), "a stranger's is worth nothing");
        assert!(!core.doubt(key, 5, ZERO), "it got nothing of that piece");
        assert!(core.doubt(key, 0, ZERO));
        core.found_good(0, key, ZERO);
        assert!(!core.doubt(key, 0, CLEAR_FOR / 2), "it was just looked at");
        assert!(core.doubt(key, 0, CLEAR_FOR));
        core.found_good(0, key, CLEAR_FOR);
        assert!(core.doubt(key, 1, CLEAR_FOR));
        core.found_good(1, key, CLEAR_FOR);
        assert!(!core.doubt(key, 2, CLEAR_FOR), "it was wrong three times");
    }

    #[test]
    fn t073_who_sent_a_wrong_piece_is_told_if_it_is_one_of_ours() {
        let mut core = core();
        let keys = [1, 2].map(|id| join(&mut core, id));
        core.peer_is_own(keys[0], true);
        for key in keys {
            core.peer_takes(key, Notices { bad: Some(9), ..Notices::default() });
            core.peer_has_all(key, true).unwrap();
            let piece = core.reserve(key, ZERO, &mut TestRng(1)).unwrap().piece;
            core.failed(key, piece, vec![(core.peers()[&key].source, [0; 32])]);
            assert!(core.is_doomed(key));
            let expected = if key == keys[0] { vec![(9, piece)] } else { Vec::new() };
            assert_eq!(core.reproaches(key), expected);
            assert_eq!(core.reproaches(key), []);
        }
    }
}
