//! The second word.

use operator_api::reason;

use super::*;
use crate::failure::Failure;
use crate::grants::Built;

const BYTES: u64 = 100 << 20;

/// One that reads in epoch 0, of these nodes.
fn reading(nodes: &[&str]) -> (Election, String) {
    let mut election = Election::default();
    let fetcher = choose(&mut election, nodes, 0).unwrap();
    election.open(&fetcher, "1".into(), Some(0), at(0)).unwrap();
    (election, fetcher)
}

fn built(digest: &str) -> Built {
    Built {
        torrent: crds::Torrent { info_hash_v1: None, info_hash_v2: Some("b".repeat(64)), bytes: 7 },
        manifest_digest: digest.to_owned(),
    }
}

/// Decides who gives the second word, as the plan does.
fn summon(election: &mut Election, nodes: &[&str], second: i64) -> Option<String> {
    let summons = election.summon("r", None, &candidates(nodes), &election.fetchers(), BYTES, at(second));
    election.appoint(summons.node.as_deref(), at(second));
    summons.node
}

#[test]
fn what_was_built_waits_for_a_node_that_did_not_read() {
    let nodes = ["a", "b", "c"];
    let (mut election, fetcher) = reading(&nodes);
    let witness = summon(&mut election, &nodes, 1).unwrap();
    assert_ne!(witness, fetcher);
    assert_eq!(summon(&mut election, &nodes, 2).as_ref(), Some(&witness), "it stays");
    assert_eq!(election.claim(&fetcher, "1", built("x"), 0.0, at(3)), Ok(false));
    assert_eq!((election.built.clone(), election.claimed(&fetcher)), (None, Some(&built("x"))));
    assert_eq!(election.testify(&fetcher, "x", 0.0, at(4)), Err(Refusal::NotWitness));
    assert_eq!(election.testify(&witness, "x", 0.0, at(4)), Ok(true));
    assert_eq!(election.built, Some(built("x")));
}

#[test]
fn the_word_may_come_before_what_it_confirms() {
    let nodes = ["a", "b"];
    let (mut election, fetcher) = reading(&nodes);
    let witness = summon(&mut election, &nodes, 1).unwrap();
    assert_eq!(election.testify(&witness, "x", 0.0, at(2)), Ok(false));
    assert_eq!(election.claim(&fetcher, "1", built("x"), 0.0, at(3)), Ok(true));
    assert_eq!(election.built, Some(built("x")));
}

#[test]
fn other_digests_have_everything_read_anew() {
    let nodes = ["a", "b", "c"];
    let (mut election, fetcher) = reading(&nodes);
    let witness = summon(&mut election, &nodes, 1).unwrap();
    assert_eq!(election.claim(&fetcher, "1", built("x"), 0.0, at(3)), Ok(false));
    assert_eq!(election.testify(&witness, "y", 0.0, at(4)), Err(Refusal::Anew));
    let doubt = election.doubt(0).unwrap();
    assert_eq!(doubt.failure.reason, reason::DIGEST_MISMATCH);
    assert!(doubt.failure.message.contains(&witness) && doubt.failure.message.contains(&fetcher));
    assert_eq!((election.built.clone(), election.check(&fetcher, "1")), (None, Err(Refusal::Lost)));
    assert!(!election.awaits_witness());
    election.open(&fetcher, "2".into(), Some(1), at(60)).unwrap();
    let third = nodes.into_iter().find(|node| *node != fetcher && *node != witness);
    assert_eq!(summon(&mut election, &nodes, 61).as_deref(), third, "another one is asked now");
    assert_eq!(election.claim(&fetcher, "2", built("z"), 0.0, at(62)), Ok(false), "the old word is gone");
}

#[test]
fn neither_of_two_that_contradict_each_other_is_asked_next() {
    let nodes = ["a", "b", "c", "d"];
    let (mut election, fetcher) = reading(&nodes);
    let witness = summon(&mut election, &nodes, 1).unwrap();
    election.claim(&fetcher, "1", built("x"), 0.0, at(3)).unwrap();
    election.testify(&witness, "y", 0.0, at(4)).unwrap_err();
    let next = choose(&mut election, &nodes, 60).unwrap();
    let other = summon(&mut election, &nodes, 60).unwrap();
    assert!(
        next != fetcher && ![&fetcher, &witness].contains(&&other),
        "{fetcher} {witness}: {next} {other}"
    );
}

#[test]
fn a_contradiction_is_of_its_epoch_also_when_nobody_reads() {
    let (mut election, fetcher) = reading(&["a", "b"]);
    let witness = summon(&mut election, &["a", "b"], 1).unwrap();
    election.fail(&fetcher, "1", failure(reason::ORIGIN_UNAVAILABLE), 0.0, at(2)).unwrap();
    assert_eq!(election.running(), 0);
    election.contradict(&witness, 0, failure(reason::DIGEST_MISMATCH), 0.0, at(3)).unwrap();
    assert!(election.doubt(0).is_some());
}

#[test]
fn a_witness_whose_sidecar_is_replaced_may_come_back() {
    let (mut election, fetcher) = reading(&["a", "b"]);
    let witness = summon(&mut election, &["a", "b"], 1).unwrap();
    election.claim(&fetcher, "1", built("x"), 0.0, at(3)).unwrap();
    assert_eq!(summon(&mut election, &[&fetcher], 20).as_ref(), Some(&witness), "it is gone for a moment");
    assert_eq!(election.built, None);
    assert_eq!(summon(&mut election, &[&fetcher], 33), None, "and now for 30 s");
    assert_eq!(election.built, Some(built("x")));
}

#[test]
fn a_witness_that_sees_wrong_bytes_need_not_wait_for_the_end() {
    let nodes = ["a", "b"];
    let (mut election, _) = reading(&nodes);
    let witness = summon(&mut election, &nodes, 1).unwrap();
    let failure = Failure::new(reason::DIGEST_MISMATCH, "x has sha256 1, declared is 2");
    election.contradict(&witness, 0, failure, 0.0, at(2)).unwrap();
    let message = &election.doubt(0).unwrap().failure.message;
    assert!(message.contains(&witness) && message.ends_with("declared is 2"), "{message}");
}

#[test]
fn any_node_may_say_once_that_fetchers_are_faulty() {
    let nodes = ["a", "b", "c", "d"];
    let (mut election, fetcher) = reading(&nodes);
    let witness = summon(&mut election, &nodes, 1).unwrap();
    let unasked = nodes.into_iter().find(|node| *node != fetcher && *node != witness).unwrap();
    let faulty =
        || failure(reason::FETCHER_FAULTY).accusing(vec![fetcher.clone(), "of another cluster".into()]);
    let wrong = failure(reason::DIGEST_MISMATCH);
    assert_eq!(election.contradict(unasked, 0, wrong, 0.0, at(2)), Err(Refusal::NotWitness));
    assert_eq!(election.contradict(unasked, 0, faulty(), 0.0, at(2)), Ok(()));
    let message = &election.doubt(0).unwrap().failure.message;
    assert!(message.contains(unasked), "{message}");
    let reads = choose(&mut election, &nodes, 8).unwrap();
    assert!(reads != fetcher && reads != unasked, "neither of the two: {reads}");
    assert_eq!(election.contradict(unasked, 1, faulty(), 0.0, at(9)), Err(Refusal::NotWitness));
}

#[test]
fn where_there_are_two_nodes_the_other_one_reads() {
    let (mut election, fetcher) = reading(&["a", "b"]);
    let other = if fetcher == "a" { "b" } else { "a" };
    let faulty = failure(reason::FETCHER_FAULTY).accusing(vec![fetcher]);
    election.contradict(other, 0, faulty, 0.0, at(2)).unwrap();
    assert_eq!(choose(&mut election, &["a", "b"], 8).unwrap(), other);
}

#[test]
fn one_that_says_nothing_makes_room_for_another_and_where_there_is_none_the_fetcher_is_believed() {
    let nodes = ["a", "b", "c"];
    let (mut election, fetcher) = reading(&nodes);
    let first = summon(&mut election, &nodes, 1).unwrap();
    assert_eq!(summon(&mut election, &nodes, 500).as_ref(), Some(&first), "nothing to confirm yet");
    election.claim(&fetcher, "1", built("x"), 0.0, at(500)).unwrap();
    assert_eq!(summon(&mut election, &nodes, 531).as_ref(), Some(&first), "30 s, and 2 s of hashing");
    let second = summon(&mut election, &nodes, 532).unwrap();
    assert!(second != first && second != fetcher);
    assert_eq!(election.testify(&first, "x", 0.0, at(533)), Err(Refusal::NotWitness));
    assert_eq!(summon(&mut election, &nodes, 564), None);
    assert_eq!(election.built, Some(built("x")));
}

#[test]
fn three_that_say_nothing_are_enough() {
    let nodes = ["a", "b", "c", "d", "e", "f", "g"];
    let (mut election, fetcher) = reading(&nodes);
    summon(&mut election, &nodes, 1).unwrap();
    election.claim(&fetcher, "1", built("x"), 0.0, at(2)).unwrap();
    let asked: Vec<_> =
        (1..100).filter_map(|minute| summon(&mut election, &nodes, 2 + 40 * minute)).collect();
    assert_eq!((asked.len(), election.built.clone()), (2, Some(built("x"))), "and the first: {asked:?}");
}

#[test]
fn a_node_alone_is_believed_at_once() {
    let (mut election, fetcher) = reading(&["a"]);
    assert_eq!(summon(&mut election, &["a"], 1), None);
    assert_eq!(election.claim(&fetcher, "1", built("x"), 0.0, at(3)), Ok(false));
    assert_eq!(summon(&mut election, &["a"], 3), None);
    assert_eq!(election.built, Some(built("x")));
}

#[test]
fn who_reads_is_no_witness_any_more() {
    let nodes = ["a", "b"];
    let (mut election, _) = reading(&nodes);
    let witness = summon(&mut election, &nodes, 1).unwrap();
    election.testify(&witness, "x", 0.0, at(2)).unwrap();
    // The fetcher dies, and the witness reads what is left.
    election.elect(std::slice::from_ref(&witness), at(40));
    election.open(&witness, "2".into(), Some(0), at(40)).unwrap();
    assert_eq!(election.claim(&witness, "2", built("x"), 0.0, at(41)), Ok(false), "its own word is none");
    assert_eq!(summon(&mut election, &nodes, 41), None, "and the other one has read too");
    assert_eq!(election.built, Some(built("x")));
}

#[test]
fn a_fetcher_that_waits_for_the_witness_does_not_stand_still() {
    let nodes = ["a", "b", "c"];
    let (mut election, fetcher) = reading(&nodes);
    summon(&mut election, &nodes, 1).unwrap();
    election.claim(&fetcher, "1", built("x"), 0.0, at(2)).unwrap();
    let said = Progress { grant: "1".into(), bytes: 7, origin_bytes: 7, worked: 7 };
    for second in (0..200).step_by(5) {
        election.progress(&fetcher, &said, at(second)).unwrap();
        assert_eq!(choose(&mut election, &nodes, second).as_ref(), Some(&fetcher), "{second}");
    }
}
