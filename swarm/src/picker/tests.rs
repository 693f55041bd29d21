use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::test_rng::TestRng;

fn set(pieces: &[u32], len: u32) -> Bitfield {
    let mut set = Bitfield::new(len);
    for &piece in pieces {
        set.insert(piece);
    }
    set
}

#[test]
fn the_rarest_piece_comes_first() {
    let mut picker = Picker::new(4);
    for piece in [0, 1, 2, 0, 1, 0] {
        picker.peer_has(piece);
    }
    let all = set(&[0, 1, 2], 4);
    let order: Vec<_> = std::iter::from_fn(|| picker.reserve(&all, &mut TestRng(1))).collect();
    assert_eq!(order, [2, 1, 0]);
    assert_eq!(picker.state(3), PieceState::NobodyHas);
    assert_eq!(picker.state(2), PieceState::Reserved(1));
}

#[test]
fn ties_are_broken_at_random() {
    let mut first = std::collections::BTreeSet::new();
    for seed in 0..64 {
        let mut picker = Picker::new(1000);
        picker.seed_came();
        first.insert(picker.reserve(&Bitfield::full(1000), &mut TestRng(seed)).unwrap());
    }
    assert!(first.len() > 50, "64 leechers asked for only {} different pieces", first.len());
}

#[test]
fn a_peer_with_one_piece_of_many_is_found_by_the_pass() {
    let mut picker = Picker::new(100_000);
    picker.peer_has(77_777);
    for piece in 0..70_000 {
        picker.peer_has(piece);
    }
    assert_eq!(picker.reserve(&set(&[77_777], 100_000), &mut TestRng(3)), Some(77_777));
    assert_eq!(picker.reserve(&set(&[77_777], 100_000), &mut TestRng(3)), None);
}

#[test]
fn unknown_hashes_are_asked_of_nobody() {
    let mut picker = Picker::growing(3);
    picker.seed_came();
    let all = Bitfield::full(3);
    assert_eq!(picker.state(1), PieceState::HashUnknown);
    assert_eq!(picker.reserve(&all, &mut TestRng(1)), None);
    picker.hash_known(1);
    assert_eq!(picker.reserve(&all, &mut TestRng(1)), Some(1));
    assert!(picker.in_end_game());
}

#[test]
fn pieces_that_nobody_has_do_not_keep_the_end_game_away() {
    let mut picker = Picker::new(3);
    picker.peer_has(0);
    picker.peer_has(1);
    assert!(picker.reserve_piece(0));
    assert!(!picker.in_end_game(), "1 is to be had");
    assert!(picker.reserve_piece(1));
    assert!(picker.in_end_game());
    picker.seed_came();
    assert!(!picker.in_end_game(), "2 is to be had");
}

#[test]
fn only_what_is_wanted_is_reserved_and_ends_the_game() {
    let mut picker = Picker::new(3);
    picker.seed_came();
    picker.want_only(&set(&[1], 3));
    assert_eq!(picker.state(0), PieceState::NotWanted);
    assert!(!picker.reserve_piece(0));
    assert_eq!(picker.reserve(&Bitfield::full(3), &mut TestRng(1)), Some(1));
    assert_eq!(picker.reserve(&Bitfield::full(3), &mut TestRng(1)), None);
    assert!(picker.in_end_game());
    picker.complete(1);
    assert_eq!(picker.lacking().count(), 0);
    assert!(picker.complete(0), "what is found is here all the same");
}

#[test]
fn a_withdrawn_piece_is_fetched_again() {
    let mut picker = Picker::new(2);
    assert!(picker.complete(0));
    assert!(!picker.complete(0));
    assert!(picker.withdraw(0));
    assert!(!picker.withdraw(0));
    assert!(picker.reserve_piece(0));
    assert!(!picker.reserve_piece(0));
}

#[derive(Debug, Clone)]
enum Step {
    PeerHas(u32),
    PeerLost(u32),
    Reserve(Vec<u32>, u64),
    Again(u32),
    Release(u32),
    Complete(u32),
    Withdraw(u32),
    Want(Vec<u32>),
}

const LEN: u32 = 40;

fn step() -> impl Strategy<Value = Step> {
    let piece = 0..LEN;
    prop_oneof![
        piece.clone().prop_map(Step::PeerHas),
        piece.clone().prop_map(Step::PeerLost),
        (proptest::collection::vec(piece.clone(), 0..20), any::<u64>())
            .prop_map(|(p, s)| Step::Reserve(p, s)),
        piece.clone().prop_map(Step::Again),
        piece.clone().prop_map(Step::Release),
        piece.clone().prop_map(Step::Complete),
        piece.clone().prop_map(Step::Withdraw),
        proptest::collection::vec(piece, 0..40).prop_map(Step::Want),
    ]
}

/// The slow and obvious picker, of one piece.
#[derive(Default, Clone, Copy)]
struct Naive {
    copies: u16,
    holders: u8,
    have: bool,
    unwanted: bool,
}

proptest! {
    #[test]
    fn agrees_with_the_obvious_picker(steps in proptest::collection::vec(step(), 0..300)) {
        let mut picker = Picker::new(LEN);
        let mut model: BTreeMap<u32, Naive> = (0..LEN).map(|p| (p, Naive::default())).collect();
        for step in steps {
            match step {
                Step::PeerHas(p) => {
                    picker.peer_has(p);
                    model.get_mut(&p).unwrap().copies += 1;
                }
                Step::PeerLost(p) => {
                    picker.peer_lost(p);
                    let naive = model.get_mut(&p).unwrap();
                    naive.copies = naive.copies.saturating_sub(1);
                }
                Step::Reserve(pieces, seed) => {
                    let wanted: Vec<_> = pieces.iter().filter(|p| !model[p].have && !model[p].unwanted && model[p].holders == 0).collect();
                    let fewest = wanted.iter().map(|p| model[p].copies).min();
                    let got = picker.reserve(&set(&pieces, LEN), &mut TestRng(seed));
                    prop_assert_eq!(got.map(|p| model[&p].copies), fewest);
                    if let Some(p) = got {
                        prop_assert!(wanted.contains(&&p));
                        model.get_mut(&p).unwrap().holders = 1;
                    }
                }
                Step::Again(p) => {
                    picker.reserve_again(p);
                    let naive = model.get_mut(&p).unwrap();
                    if naive.holders > 0 { naive.holders += 1; }
                }
                Step::Release(p) => {
                    picker.release(p);
                    let naive = model.get_mut(&p).unwrap();
                    naive.holders = naive.holders.saturating_sub(1);
                }
                Step::Complete(p) => {
                    let naive = model.get_mut(&p).unwrap();
                    prop_assert_eq!(picker.complete(p), !naive.have);
                    *naive = Naive { have: true, holders: 0, ..*naive };
                }
                Step::Withdraw(p) => {
                    let naive = model.get_mut(&p).unwrap();
                    prop_assert_eq!(picker.withdraw(p), naive.have);
                    naive.have = false;
                }
                Step::Want(pieces) => {
                    picker.want_only(&set(&pieces, LEN));
                    for (p, naive) in &mut model {
                        naive.unwanted = !pieces.contains(p);
                    }
                }
            }
            for (&p, naive) in &model {
                let expected = match naive {
                    Naive { have: true, .. } => PieceState::Have,
                    Naive { holders: 1.., .. } => PieceState::Reserved(naive.holders),
                    Naive { unwanted: true, .. } => PieceState::NotWanted,
                    Naive { copies: 0, .. } => PieceState::NobodyHas,
                    _ => PieceState::Missing,
                };
                prop_assert_eq!(picker.state(p), expected);
            }
            let lacking = model.iter().filter(|(_, n)| !n.have && !n.unwanted).map(|(p, _)| *p);
            prop_assert!(picker.lacking().iter().eq(lacking));
            prop_assert_eq!(picker.reserved() as usize, model.values().filter(|n| n.holders > 0).count());
        }
    }
}
