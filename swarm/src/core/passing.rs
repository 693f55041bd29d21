//! Pieces that are passed on while they come in.
//!
//! A seed that serves thirty peers at once gives each a piece at a thirtieth of its rate; until the first pieces are whole the links of
//! all those peers would idle. So one of our own that fetches a piece whose leaves it knows says so to others of our own (`sm_coming`)
//! and serves each block that has come and is right. If it gives the piece up it says that too (`lt_donthave`, BEP 54), and rejects what
//! was asked of it.
//!
//! It serves a few others only, and refuses the rest: those few pass it on as well. Where all asked the one who had it first, its link
//! would be the slowest of a star while theirs idled; so a piece goes down a tree. Over a border between zones it comes once, as
//! all pieces do ([`super::nearness`]).

use std::time::Duration;

use super::{Peer, PeerKey, TorrentCore, Violation};
use crate::download::SNUB_AFTER;

/// Pieces of one peer on their way in that are remembered; more are not asked of it until they are there.
const MAX_COMING: usize = 256;
/// Peers that take a piece which is on its way in, at a time. Decision 014 has what others come to.
const MAX_TAKERS: usize = 4;
/// One that has asked for nothing of it for so long takes it no more: as long as a peer may be silent before it is left alone.
const TAKES_FOR: Duration = SNUB_AFTER;
/// A peer that has everything may lose pieces so often: each time all pieces are counted anew.
const MAX_FALLS: u32 = 16;

/// A piece on its way in that is passed on.
#[derive(Debug)]
pub(super) struct Passed {
    /// The connection that fetches it.
    by: PeerKey,
    /// Who takes it, and when each asked last.
    takers: Vec<(PeerKey, Duration)>,
}

impl Passed {
    /// The peer takes it no more.
    pub fn forget(&mut self, key: PeerKey) {
        self.takers.retain(|(taker, _)| *taker != key);
    }
}

impl TorrentCore {
    /// Whether some other peer of ours would like to get this piece from us while it comes in.
    pub fn is_sought(&self, piece: u32, from: PeerKey) -> bool {
        self.peers
            .iter()
            .any(|(key, peer)| *key != from && peer.passes_on() && !peer.upload_only && !peer.provides(piece))
    }

    /// The connection fetches this piece, and each block is proved as it comes: others may ask for them.
    pub fn pass_on(&mut self, key: PeerKey, piece: u32) {
        if self.peers.get(&key).is_some_and(|peer| peer.holds(piece)) && !self.passing.contains_key(&piece) {
            self.passing.insert(piece, Passed { by: key, takers: Vec::new() });
            self.note_change(piece);
        }
    }

    /// Whether blocks of this piece are served while it comes in.
    pub fn is_passed_on(&self, piece: u32) -> bool {
        self.passing.contains_key(&piece)
    }

    /// Whether a peer that asks for such a piece is one of those that it is passed on to, from now on.
    pub(super) fn takes(&mut self, key: PeerKey, piece: u32, now: Duration) -> bool {
        if !self.peers.get(&key).is_some_and(Peer::passes_on) {
            return false;
        }
        let Some(Passed { takers, .. }) = self.passing.get_mut(&piece) else { return false };
        takers.retain(|(taker, since)| *taker != key && now.saturating_sub(*since) < TAKES_FOR);
        let has_room = takers.len() < MAX_TAKERS;
        if has_room {
            takers.push((key, now));
        }
        has_room
    }

    /// The peer has got the piece, or wants it no more: another may take it.
    pub fn takes_no_more(&mut self, key: PeerKey, piece: u32) {
        if let Some(passed) = self.passing.get_mut(&piece) {
            passed.forget(key);
        }
    }

    /// Whether a request for this piece can be answered, now or when more of it has come.
    pub fn can_serve(&self, piece: u32) -> bool {
        let is_here = self.picker.have().contains(piece) && !self.doubts.contains(piece);
        is_here || self.is_passed_on(piece)
    }

    /// The connection does not fetch the piece any more, and it is not here.
    pub(super) fn stop_passing(&mut self, key: PeerKey, piece: u32) {
        if self.passing.get(&piece).is_some_and(|passed| passed.by == key) {
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
        peer.spoke = true;
        peer.coming.insert(piece);
        peer.offers.insert(piece);
        peer.wanted += u32::from(self.picker.lacking().contains(piece));
        self.picker.peer_has(piece);
        self.near_more(key, piece);
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
        peer.has.remove(piece);
        peer.forget_offer(piece);
        peer.wanted = peer.wanted.saturating_sub(u32::from(self.picker.lacking().contains(piece)));
        self.picker.peer_lost(piece);
        self.near_lost(key, piece);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tests::{PIECES, ZERO, core, core_of, join};
    use crate::core::{Admission, News};
    use crate::near::Place;
    use crate::test_rng::TestRng;
    use crate::wire::Notices;

    /// One of our own that takes all notices.
    fn join_own(core: &mut TorrentCore, id: u8) -> PeerKey {
        let key = join(core, id);
        core.peer_is_own(key, true);
        core.peer_takes(key, Notices { dont_have: Some(7), coming: Some(8), ..Notices::default() });
        key
    }

    #[test]
    fn a_piece_on_its_way_in_is_offered_to_our_own_until_it_is_here_or_given_up() {
        let mut core = core();
        let (from, own, stranger) = (join(&mut core, 1), join_own(&mut core, 2), join(&mut core, 3));
        core.peer_has_all(from, true).unwrap();
        let [here, given_up] = [0, 1].map(|_| {
            let piece = core.reserve_next(&[], from, ZERO, &mut TestRng(1)).unwrap().piece;
            assert!(core.is_sought(piece, from) && !core.can_serve(piece));
            core.pass_on(from, piece);
            piece
        });
        assert_eq!(core.catch_up(own), [News::Coming(8, here), News::Coming(8, given_up)]);
        assert_eq!(core.admit(own, here, ZERO, &mut TestRng(1)), Admission::Serve);
        assert!(core.catch_up(stranger).is_empty());
        assert_eq!(core.admit(stranger, here, ZERO, &mut TestRng(1)), Admission::Reject);
        core.handed_over(from, here, &[], ZERO);
        core.arrived(here);
        core.release(from, given_up);
        assert_eq!(core.catch_up(own), [News::Have(here), News::Lost(7, given_up)]);
        assert_eq!(core.catch_up(stranger), [News::Have(here)]);
        assert!(core.can_serve(here) && !core.can_serve(given_up));
    }

    #[test]
    fn a_piece_on_its_way_in_goes_to_a_few_at_a_time_and_to_another_when_one_needs_it_no_more() {
        let mut core = core();
        let from = join(&mut core, 1);
        core.peer_has_all(from, true).unwrap();
        let own: Vec<PeerKey> = (12..17).map(|id| join_own(&mut core, id)).collect();
        let piece = core.reserve_next(&[], from, ZERO, &mut TestRng(1)).unwrap().piece;
        core.pass_on(from, piece);
        let served = |core: &mut TorrentCore, key: &PeerKey, now| {
            core.admit(*key, piece, now, &mut TestRng(1)) == Admission::Serve
        };
        let all_but_last = |core: &mut TorrentCore, now| {
            assert!(own[..MAX_TAKERS].iter().all(|key| served(core, key, now)));
            assert!(!served(core, &own[MAX_TAKERS], now));
        };
        all_but_last(&mut core, ZERO);
        core.takes_no_more(own[0], piece);
        assert!(served(&mut core, &own[MAX_TAKERS], ZERO) && !served(&mut core, &own[0], ZERO));
        core.peer_has(own[MAX_TAKERS], piece).unwrap();
        all_but_last(&mut core, ZERO);
        core.disconnected(own[1]);
        assert!(served(&mut core, &own[MAX_TAKERS], ZERO), "the place of one that has gone");
        // The others have been silent for too long by then.
        assert!(served(&mut core, &own[0], TAKES_FOR));
        core.handed_over(from, piece, &[], ZERO);
        core.arrived(piece);
        assert!(own.iter().filter(|key| **key != own[1]).all(|key| served(&mut core, key, ZERO)));
    }

    #[test]
    fn over_a_border_what_is_coming_is_asked_for_by_whose_duty_it_is_unless_it_comes_to_this_side() {
        let zone = |name: &str| Place::new("", name, "");
        let (mut asked, mut asked_again) = (vec![0; PIECES as usize], 0);
        for node in 0..4 {
            let mut core = core_of(node);
            core.at(zone("a"));
            let near: Vec<PeerKey> =
                (0..4).filter(|other| *other != node).map(|other| join_own(&mut core, other)).collect();
            let far = join_own(&mut core, 77);
            core.peer_place(far, &zone("b"));
            (0..PIECES).for_each(|piece| core.peer_coming(far, piece).unwrap());
            core.peer_coming(near[0], 0).unwrap();
            while let Some(next) = core.reserve_next(&[], far, ZERO, &mut TestRng(1)) {
                asked[next.piece as usize] += 1;
                core.peers.get_mut(&far).unwrap().held.clear();
            }
            core.peer_lost(near[0], 0).unwrap();
            let next = core.reserve_next(&[], far, ZERO, &mut TestRng(1));
            asked_again += next.map_or(0, |next| u32::from(next.piece == 0));
        }
        assert_eq!(asked[0], 0, "it is on its way to this side");
        assert!(asked[1..].iter().all(|count| *count == 1), "{asked:?}");
        assert_eq!(asked_again, 1, "it does not come to this side after all");
    }

    #[test]
    fn what_is_coming_to_a_peer_is_asked_of_it_when_nothing_else_is() {
        let mut core = core();
        let own = join_own(&mut core, 1);
        core.peer_has(own, 3).unwrap();
        for piece in [4, 5] {
            core.peer_coming(own, piece).unwrap();
        }
        let next = |core: &mut TorrentCore| {
            core.reserve_next(&[], own, ZERO, &mut TestRng(1)).map(|next| next.piece)
        };
        assert_eq!(next(&mut core), Some(3));
        assert_eq!(next(&mut core), None, "one that may take long, while something else is asked for");
        core.release(own, 3);
        core.arrived(3);
        let coming = next(&mut core).unwrap();
        assert!([4, 5].contains(&coming));
        core.peer_has(own, 9 - coming).unwrap();
        assert_eq!(next(&mut core), Some(9 - coming));
    }

    #[test]
    fn a_peer_that_loses_pieces_is_not_asked_for_them_and_does_so_a_few_times_at_most() {
        let mut core = core();
        let own = join_own(&mut core, 1);
        core.peer_coming(own, 4).unwrap();
        core.peer_lost(own, 4).unwrap();
        assert!(!core.is_interesting(own) && core.picker().copies(4) == 0);
        assert_eq!(core.peer_coming(own, PIECES), Err(Violation::NoSuchPiece(PIECES)));
        assert_eq!(core.peer_lost(own, PIECES), Err(Violation::NoSuchPiece(PIECES)));
        core.peer_has_all(own, true).unwrap();
        for _ in 0..16 {
            core.peer_lost(own, 4).unwrap();
            assert_eq!((core.picker().copies(4), core.picker().copies(5)), (0, 1));
            core.peer_has(own, 4).unwrap();
            assert_eq!((core.picker().copies(4), core.picker().copies(5)), (1, 1));
        }
        assert_eq!(core.peer_lost(own, 4), Err(Violation::LosesPieces));
    }

    #[test]
    fn a_stranger_s_word_that_a_piece_is_coming_counts_for_nothing() {
        let mut core = core();
        let stranger = join(&mut core, 1);
        core.peer_takes(stranger, Notices::own());
        core.peer_coming(stranger, 4).unwrap();
        assert!(!core.is_interesting(stranger) && !core.is_sought(4, PeerKey::of(99)));
    }
}
