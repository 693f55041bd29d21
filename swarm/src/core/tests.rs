use std::net::SocketAddr;

use super::*;
use crate::near::{Border, Place};
use crate::test_rng::TestRng;

pub(super) const PIECES: u32 = 8;
const OWN: PeerId = PeerId([5; 20]);
pub(super) const ZERO: Duration = Duration::ZERO;

pub(super) fn core() -> TorrentCore {
    core_of(5)
}

/// Of the node with this number.
pub(super) fn core_of(node: u8) -> TorrentCore {
    TorrentCore::new(InnerId([1; 32]), vec![WireId([2; 20])], PIECES, PeerId([node; 20]), 10)
}

fn peer(id: u8, outgoing: bool) -> NewPeer {
    NewPeer { id: PeerId([id; 20]), address: SocketAddr::from(([10, 0, 0, id], 6881)), outgoing }
}

pub(super) fn join(core: &mut TorrentCore, id: u8) -> PeerKey {
    core.connected(peer(id, true), ZERO).unwrap().0
}

/// A leech with a peer that has everything and has proved itself.
fn with_seed(id: u8) -> (TorrentCore, PeerKey) {
    let mut core = core();
    let key = join(&mut core, id);
    core.peer_has_all(key, true).unwrap();
    core.handed_over(key, 0, &[], ZERO);
    (core, key)
}

#[test]
fn t039_of_two_connections_both_sides_keep_the_same() {
    // We are 5. Towards 9, theirs is kept; towards 1, ours.
    for (other, ours_is_kept) in [(9, false), (1, true)] {
        for ours_first in [true, false] {
            let mut core = core();
            let (first, _) = core.connected(peer(other, ours_first), ZERO).unwrap();
            let second = core.connected(peer(other, !ours_first), ZERO);
            if ours_first == ours_is_kept {
                assert_eq!(second, Err(Refusal::Duplicate));
                assert!(!core.is_doomed(first));
            } else {
                assert_eq!(second.unwrap().1, Some(first));
                assert!(core.is_doomed(first));
            }
        }
    }
    assert_eq!(core().connected(peer(5, true), ZERO), Err(Refusal::OneSelf));
}

#[test]
fn t039_who_borrows_a_peer_id_harms_the_connection_of_nobody() {
    let mut core = core();
    let honest = join(&mut core, 9);
    let address = SocketAddr::from(([10, 9, 9, 9], 6881));
    let thief = NewPeer { address, ..peer(9, false) };
    assert_eq!(core.connected(thief, ZERO), Err(Refusal::Duplicate));
    assert!(!core.is_doomed(honest));
    core.disconnected(honest);
    let (key, _) = core.connected(thief, ZERO).unwrap();
    core.failed(key, 3, vec![(core.peers()[&key].source, [0; 32])]);
    core.disconnected(key);
    assert_eq!(core.connected(thief, ZERO), Err(Refusal::Banned));
    assert!(core.connected(peer(9, true), ZERO).is_ok());
}

#[test]
fn t031_a_newcomer_gets_one_piece_until_it_has_proved_itself() {
    let mut core = core();
    let key = join(&mut core, 1);
    core.peer_has_all(key, true).unwrap();
    let first = core.reserve(key, ZERO, &mut TestRng(1)).unwrap();
    assert_eq!(core.reserve(key, ZERO, &mut TestRng(1)), None);
    core.handed_over(key, first.piece, &[], ZERO);
    core.arrived(first.piece);
    assert!(core.reserve(key, ZERO, &mut TestRng(1)).is_some());
    assert!(core.reserve(key, ZERO, &mut TestRng(1)).is_some());
}

#[test]
fn what_a_lost_connection_held_is_free_again() {
    let (mut core, key) = with_seed(1);
    while core.reserve(key, ZERO, &mut TestRng(1)).is_some() {}
    assert_eq!(core.picker().reserved(), PIECES);
    core.disconnected(key);
    assert_eq!(core.picker().reserved(), 0);
    assert_eq!(core.picker().copies(0), 0);
}

#[test]
fn in_the_end_game_a_piece_goes_to_two_at_most_and_only_when_it_is_late() {
    let (mut core, slow) = with_seed(1);
    while core.reserve(slow, ZERO, &mut TestRng(1)).is_some() {}
    let others: Vec<_> = [2, 3].map(|id| join(&mut core, id)).into();
    for key in &others {
        core.peer_has_all(*key, true).unwrap();
        core.handed_over(*key, 0, &[], ZERO);
    }
    assert_eq!(core.reserve(others[0], Duration::from_secs(1), &mut TestRng(1)), None);
    let late = Duration::from_secs(2);
    let mut again = std::collections::BTreeSet::new();
    while let Some(reservation) = core.reserve(others[0], late, &mut TestRng(1)) {
        assert!(reservation.again);
        assert!(again.insert(reservation.piece));
    }
    assert_eq!(again.len(), PIECES as usize);
    assert_eq!(core.reserve(others[1], late * 2, &mut TestRng(1)), None);
    let piece = *again.first().unwrap();
    core.handed_over(others[0], piece, &[], ZERO);
    core.arrived(piece);
    assert_eq!(core.superseded(slow), [piece]);
    core.release(slow, piece);
    assert_eq!(core.picker().state(piece), crate::picker::PieceState::Have);
}

#[test]
fn where_pieces_take_long_the_end_game_waits_as_long() {
    let second = Duration::from_secs(1);
    let (mut core, slow) = with_seed(1);
    let reserved = core.reserve(slow, ZERO, &mut TestRng(1)).unwrap();
    core.handed_over(slow, reserved.piece, &[], 4 * second);
    core.arrived(reserved.piece);
    while core.reserve(slow, 4 * second, &mut TestRng(1)).is_some() {}
    let other = join(&mut core, 2);
    core.peer_has_all(other, true).unwrap();
    assert_eq!(core.reserve(other, 11 * second, &mut TestRng(1)), None);
    assert!(core.reserve(other, 13 * second, &mut TestRng(1)).is_some_and(|reservation| reservation.again));
}

#[test]
fn interest_follows_what_is_missing() {
    let mut core = core();
    let key = join(&mut core, 1);
    core.peer_has(key, 3).unwrap();
    assert!(core.is_interesting(key));
    core.arrived(3);
    assert!(!core.is_interesting(key));
    core.withdraw(3);
    assert!(core.is_interesting(key));
}

#[test]
fn pieces_that_come_and_go_lengthen_no_list_and_every_connection_hears_of_the_last_time() {
    let mut core = core();
    let early = join(&mut core, 1);
    (0..PIECES).for_each(|piece| assert!(core.arrived(piece)));
    assert_eq!(core.catch_up(early), (0..PIECES).map(News::Have).collect::<Vec<_>>());
    for _ in 0..100 {
        core.withdraw(3);
        core.arrived(3);
    }
    core.withdraw(5);
    // Greeted with a bitfield that lacks 5.
    let late = join(&mut core, 2);
    core.withdraw(6);
    core.arrived(6);
    core.arrived(5);
    assert!(core.haves.len() <= 2 * PIECES as usize);
    assert_eq!(core.catch_up(early), [3, 6, 5].map(News::Have));
    assert_eq!(core.catch_up(late), [6, 5].map(News::Have));
    core.withdraw(1);
    core.arrived(1);
    core.withdraw(1);
    assert!(core.catch_up(early).is_empty(), "it is not here");
}

#[test]
fn a_peer_that_gets_the_last_piece_counts_as_a_seed() {
    let mut core = core();
    let key = join(&mut core, 1);
    for piece in 0..PIECES {
        core.peer_has(key, piece).unwrap();
    }
    assert!(core.peers()[&key].is_seed);
    assert_eq!(core.picker().copies(2), 1);
    core.disconnected(key);
    assert_eq!(core.picker().copies(2), 0);
}

#[test]
fn a_refused_piece_is_asked_for_again_later() {
    let mut core = core();
    let key = join(&mut core, 1);
    core.peer_has(key, 3).unwrap();
    assert_eq!(core.reserve(key, ZERO, &mut TestRng(1)).unwrap().piece, 3);
    core.refused(key, 3, ZERO);
    assert_eq!(core.reserve(key, ZERO, &mut TestRng(1)), None);
    assert_eq!(core.reserve(key, Duration::from_secs(3), &mut TestRng(1)).unwrap().piece, 3);
}

#[test]
fn a_suggestion_comes_first() {
    for seed in 0..20 {
        let (mut core, key) = with_seed(1);
        core.suggested(key, 6).unwrap();
        assert_eq!(core.reserve(key, ZERO, &mut TestRng(seed)).unwrap().piece, 6);
    }
    let (mut core, key) = with_seed(1);
    assert_eq!(core.suggested(key, PIECES), Err(Violation::NoSuchPiece(PIECES)));
}

#[test]
fn a_piece_that_was_begun_comes_before_suggestions_and_only_from_who_has_it() {
    for seed in 0..20 {
        let (mut core, key) = with_seed(1);
        core.suggested(key, 6).unwrap();
        let mut next = || core.reserve_first(&[2], key, ZERO, &mut TestRng(seed)).unwrap().piece;
        assert_eq!((next(), next()), (2, 6));
    }
    let mut core = core();
    let key = join(&mut core, 1);
    core.peer_has(key, 3).unwrap();
    assert_eq!(core.reserve_first(&[2], key, ZERO, &mut TestRng(1)).unwrap().piece, 3);
}

#[test]
fn t030_one_source_is_banned_at_once_and_an_own_peer_at_the_second_time() {
    let mut core = core();
    let (stranger, own) = (join(&mut core, 1), join(&mut core, 2));
    core.peer_is_own(own, true);
    for (key, banned) in [(stranger, 1), (own, 1)] {
        let source = core.peers()[&key].source;
        core.failed(key, 3, vec![(source, [0; 32])]);
        assert!(core.is_doomed(key));
        assert_eq!(core.banned(), banned);
        core.disconnected(key);
    }
    assert_eq!(core.connected(peer(1, true), ZERO), Err(Refusal::Banned));
    let own = join(&mut core, 2);
    core.peer_is_own(own, true);
    let source = core.peers()[&own].source;
    core.failed(own, 3, vec![(source, [0; 32])]);
    assert_eq!(core.banned(), 2);
}

#[test]
fn among_several_sources_the_good_copy_tells() {
    let mut core = core();
    let keys: Vec<_> = (1..=3).map(|id| join(&mut core, id)).collect();
    let sources: Vec<_> = keys.iter().map(|key| core.peers()[key].source).collect();
    core.failed(keys[0], 3, vec![(sources[0], [0; 32]), (sources[1], [66; 32])]);
    assert_eq!(core.banned(), 0);
    core.handed_over(keys[2], 3, &[[0; 32], [1; 32]], ZERO);
    assert!(core.is_doomed(keys[1]));
    assert!(!core.is_doomed(keys[0]));
}

/// A seed with leechers of our own.
fn seed_with(leechers: u8) -> (TorrentCore, Vec<PeerKey>) {
    let mut core = core();
    (0..PIECES).for_each(|piece| assert!(core.arrived(piece)));
    let keys: Vec<_> = (10..10 + leechers).map(|id| join(&mut core, id)).collect();
    for key in &keys {
        core.peer_is_own(*key, true);
    }
    (core, keys)
}

#[test]
fn a_cold_swarm_gets_each_piece_once_before_any_twice() {
    let (mut core, keys) = seed_with(2);
    assert_eq!(core.admit(keys[0], 3, ZERO, &mut TestRng(1)), Admission::Serve);
    assert_eq!(core.admit(keys[0], 3, ZERO, &mut TestRng(1)), Admission::Serve);
    let mut given = std::collections::BTreeSet::from([3]);
    for _ in 1..PIECES {
        let Admission::Redirect(other) = core.admit(keys[1], 3, ZERO, &mut TestRng(2)) else {
            panic!("there are pieces that nobody has got");
        };
        assert!(given.insert(other), "{other} was given twice");
        assert_eq!(core.admit(keys[1], other, ZERO, &mut TestRng(2)), Admission::Serve);
    }
    // All are out. What is under way to another is not sent twice; what is late or elsewhere is.
    assert_eq!(core.admit(keys[1], 3, ZERO, &mut TestRng(2)), Admission::Reject);
    assert_eq!(core.admit(keys[1], 3, Duration::from_secs(6), &mut TestRng(2)), Admission::Serve);
    core.peer_has(keys[1], 5).unwrap();
    assert_eq!(core.admit(keys[0], 5, ZERO, &mut TestRng(2)), Admission::Serve);
}

#[test]
fn what_a_peer_passes_on_while_it_gets_it_is_not_sent_to_another_as_long_as_it_gets_on() {
    let (mut core, keys) = all_but_one_out();
    core.peer_coming(keys[0], 3).unwrap();
    let at = |seconds| Duration::from_secs(seconds);
    assert_eq!(core.admit(keys[1], 3, at(6), &mut TestRng(2)), Admission::Reject);
    core.sent(keys[0], 3, 1, at(10));
    assert_eq!(core.admit(keys[1], 3, at(14), &mut TestRng(2)), Admission::Reject);
    assert_eq!(core.admit(keys[1], 3, at(16), &mut TestRng(2)), Admission::Serve);
}

#[test]
fn what_went_to_a_peer_that_left_is_given_to_another() {
    let (mut core, keys) = seed_with(2);
    assert_eq!(core.admit(keys[0], 3, ZERO, &mut TestRng(1)), Admission::Serve);
    core.disconnected(keys[0]);
    assert_eq!(core.admit(keys[1], 3, ZERO, &mut TestRng(1)), Admission::Serve);
}

/// A seed of whose pieces only 3 is at nobody else; piece 2 took six seconds to the first peer, who is sent 3 since then.
fn all_but_one_out() -> (TorrentCore, Vec<PeerKey>) {
    let (mut core, keys) = seed_with(3);
    let six = Duration::from_secs(6);
    assert_eq!(core.admit(keys[0], 2, ZERO, &mut TestRng(1)), Admission::Serve);
    core.sent(keys[0], 2, 0, six);
    for piece in (0..PIECES).filter(|piece| *piece != 3) {
        core.peer_has(keys[2], piece).unwrap();
    }
    assert_eq!(core.admit(keys[0], 3, six, &mut TestRng(1)), Admission::Serve);
    (core, keys)
}

#[test]
fn what_a_peer_is_sent_is_given_to_another_once_it_stands_still() {
    let (mut core, keys) = all_but_one_out();
    let second = Duration::from_secs(1);
    core.sent(keys[0], 3, 0, 10 * second);
    core.sent(keys[1], 3, 0, 14 * second); // not to whom it was given
    assert_eq!(core.admit(keys[1], 3, 14 * second, &mut TestRng(1)), Admission::Reject);
    assert_eq!(core.admit(keys[1], 3, 16 * second, &mut TestRng(1)), Admission::Serve);
}

#[test]
fn t044_what_a_slow_peer_is_sent_is_given_to_another_after_three_times_the_usual_time() {
    let (mut core, keys) = all_but_one_out();
    for seconds in 6..40 {
        let now = Duration::from_secs(seconds);
        core.sent(keys[0], 3, 0, now);
        let admission = core.admit(keys[1], 3, now, &mut TestRng(1));
        if admission == Admission::Serve {
            assert_eq!(seconds, 6 + 3 * 6 + 1);
            return;
        }
        assert_eq!(admission, Admission::Reject);
    }
    panic!("the slow peer keeps everyone waiting");
}

#[test]
fn strangers_are_served_what_they_ask_for_and_nobody_what_is_not_here() {
    let (mut core, keys) = seed_with(1);
    let stranger = join(&mut core, 1);
    assert_eq!(core.admit(keys[0], 3, ZERO, &mut TestRng(1)), Admission::Serve);
    assert_eq!(core.admit(stranger, 3, ZERO, &mut TestRng(1)), Admission::Serve);
    core.withdraw(3);
    assert_eq!(core.admit(stranger, 3, ZERO, &mut TestRng(1)), Admission::Reject);
}

#[test]
fn wire_ids_grow_and_the_inner_id_stays() {
    let mut core = core();
    core.set_wire_ids(vec![WireId([3; 20]), WireId([2; 20])]);
    assert_eq!(core.wire_ids(), [WireId([3; 20]), WireId([2; 20])]);
    assert_eq!(core.inner_id(), InnerId([1; 32]));
}

#[test]
fn a_paused_torrent_asks_for_nothing() {
    let (mut core, key) = with_seed(1);
    core.pause(true);
    assert_eq!(core.reserve(key, ZERO, &mut TestRng(1)), None);
    core.pause(false);
    assert!(core.reserve(key, ZERO, &mut TestRng(1)).is_some());
}

#[test]
fn t024_late_news_of_all_pieces_may_add_some_and_not_take_any_away() {
    let mut core = core();
    let key = join(&mut core, 1);
    core.peer_has(key, 0).unwrap();
    core.peer_bitfield(key, &[0b1100_0001]).unwrap();
    assert_eq!(core.peers()[&key].has.iter().collect::<Vec<_>>(), [0, 1, 7]);
    assert_eq!(core.picker().copies(7), 1);
    assert_eq!(core.peer_bitfield(key, &[0b1000_0001]), Err(Violation::LateBitfield));
    assert_eq!(core.peer_has_all(key, false), Err(Violation::LateBitfield));
    // aria2 says so when its last pieces have come.
    core.peer_has_all(key, true).unwrap();
    assert!(core.peers()[&key].is_seed);
    assert_eq!((core.picker().copies(0), core.picker().copies(5)), (1, 1));
    assert_eq!(core.peer_bitfield(key, &[0b1000_0001]), Err(Violation::LateBitfield));
}

#[test]
fn strangers_are_served_by_what_they_give_and_our_own_always() {
    let mut core = TorrentCore::new(InnerId([1; 32]), vec![WireId([2; 20])], PIECES, OWN, 20);
    let mut rng = TestRng(5);
    let keys: Vec<PeerKey> = (21..=32).map(|peer| join(&mut core, peer)).collect();
    core.peer_is_own(keys[11], true);
    for key in &keys {
        core.peer_interested(*key, true);
    }
    let served = |core: &TorrentCore| keys.iter().filter(|key| !core.chokes(**key)).count();
    assert_eq!(served(&core), 9, "eight strangers, and our own");
    for key in &keys[3..11] {
        core.handed_over(*key, 0, &[[0; 32]; 4], Duration::ZERO);
    }
    assert!(core.rechoke(Duration::from_secs(1), &mut rng));
    assert_eq!(served(&core), 9);
    assert!(!core.chokes(keys[11]));
    assert!(keys[3..11].iter().filter(|key| !core.chokes(**key)).count() >= 7, "those that gave");
    assert!(!core.rechoke(Duration::from_secs(2), &mut rng), "a round takes ten seconds");
    // One goes, and whoever wants something next has its place.
    let gone = *keys[..11].iter().find(|key| !core.chokes(**key)).unwrap();
    core.disconnected(gone);
    let waiting = *keys[..11].iter().find(|key| **key != gone && core.chokes(**key)).unwrap();
    core.peer_interested(waiting, true);
    assert!(!core.chokes(waiting));
}

#[test]
fn of_what_nobody_nearby_has_each_piece_is_the_duty_of_one_and_the_rest_waits_for_a_standstill() {
    let zone = |name: &str| Place::new("", name, "");
    let mut cores: Vec<TorrentCore> = (0..4)
        .map(|node| {
            let mut core =
                TorrentCore::new(InnerId([1; 32]), vec![WireId([2; 20])], 64, PeerId([node; 20]), 20);
            core.at(zone("a"));
            core
        })
        .collect();
    let mut taken = vec![0; 64];
    for (node, core) in cores.iter_mut().enumerate() {
        for other in (0..4).filter(|other| *other != node) {
            let key = join(core, other as u8);
            core.peer_is_own(key, true);
            core.peer_place(key, &zone("a"));
            core.peer_has_all(key, false).unwrap();
        }
        let far = join(core, 77);
        core.peer_place(far, &zone("b"));
        core.peer_has_all(far, true).unwrap();
        core.peers.get_mut(&far).unwrap().verified = 1;
        while let Some(reservation) = core.reserve(far, ZERO, &mut TestRng(1)) {
            taken[reservation.piece as usize] += 1;
            core.release(far, reservation.piece);
            core.handed_over(far, reservation.piece, &[], ZERO);
            core.arrived(reservation.piece);
            if core.have().count() > 40 {
                break;
            }
        }
        // Nothing has come for a while: one more piece, whoever's duty it is.
        assert!(core.reserve(far, Duration::from_secs(1), &mut TestRng(1)).is_some());
    }
    let once = taken.iter().filter(|count| **count == 1).count();
    assert!(once >= 56 && !taken.contains(&0), "{taken:?}");
}

#[test]
fn the_duties_of_a_neighbour_that_never_gets_on_are_done_at_every_standstill() {
    let zone = |name: &str| Place::new("", name, "");
    let mut core = TorrentCore::new(InnerId([1; 32]), vec![WireId([2; 20])], 64, OWN, 20);
    core.at(zone("a"));
    let neighbour = join(&mut core, 1);
    core.peer_is_own(neighbour, true);
    core.peer_has_all(neighbour, false).unwrap();
    let far = join(&mut core, 77);
    core.peer_place(far, &zone("b"));
    core.peer_has_all(far, true).unwrap();
    // The engine has run for an hour when the torrent is added.
    let mut now = Duration::from_hours(1);
    let mut waits = 0;
    while !core.is_complete() {
        if let Some(Reservation { piece, .. }) = core.reserve(far, now, &mut TestRng(1)) {
            core.handed_over(far, piece, &[], now);
            core.arrived(piece);
        } else {
            now += Duration::from_millis(300);
            waits += 1;
        }
    }
    assert!((20..=44).contains(&waits), "a piece at each standstill: {waits}");
}

#[test]
fn of_the_ports_that_a_connection_names_the_first_counts() {
    let mut core = core();
    let (key, _) = core.connected(peer(1, false), ZERO).unwrap();
    core.peer_listens(key, 1000);
    core.peer_listens(key, 2000);
    let listens = core.peers()[&key].listens.unwrap();
    assert_eq!(listens.port(), 1000);
    core.disconnected(key);
    core.book.closed(listens, false, ZERO);
    assert_eq!(core.book.good().collect::<Vec<_>>(), [listens]);
}

#[test]
fn of_the_places_that_a_connection_names_the_first_counts() {
    let zone = |name: &str| Place::new("", name, "");
    for (places, border) in
        [(["b", "a"], Some(Border::Zone)), (["a", "b"], None), (["", "b"], Some(Border::Zone))]
    {
        let mut core = core();
        core.at(zone("a"));
        let key = join(&mut core, 1);
        for place in places {
            core.peer_place(key, &zone(place));
        }
        assert_eq!(core.peers()[&key].border, border, "{places:?}");
    }
}
