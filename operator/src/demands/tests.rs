use torrent::ingest::SigningKey;

use super::refusals::{LASTING, MAX_REFUSALS, PASSING};
use super::*;

const SIZE: u64 = 3 << 20;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn key() -> PublicKey {
    SigningKey::from_seed(&[1; 32]).public()
}

fn asked(number: u32) -> Asked {
    let mut digest = [0; 32];
    digest[..4].copy_from_slice(&number.to_be_bytes());
    Asked { wanted: Wanted { class: "default".into(), digest }, name: "r.example/a".into() }
}

fn source() -> Source {
    Source { url: "https://r.example/v2/a/blobs/x".into(), size: SIZE, opened: None }
}

/// A table in which this blob has been found.
fn with(asked: &Asked, now: Timestamp) -> Demands {
    let mut demands = Demands::default();
    find(&mut demands, asked, now);
    demands
}

fn find(demands: &mut Demands, asked: &Asked, now: Timestamp) {
    assert_eq!(demands.step(asked, key(), now), Step::Ask);
    assert!(demands.found(asked, source(), key(), now));
    demands.end(asked);
}

fn reads(demands: &mut Demands, asked: &Asked, node: &str, stuck: bool, now: Timestamp) -> bool {
    matches!(demands.part(&asked.wanted, node, stuck, now), Part::Reads(_))
}

fn name(demands: &mut Demands, asked: &Asked, now: Timestamp) -> Name {
    match demands.step(asked, key(), now) {
        Step::Shared(name) => name,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_asks_the_registry_and_the_others_wait_for_that() {
    let (mut demands, blob) = (Demands::default(), asked(1));
    assert_eq!(demands.step(&blob, key(), at(0)), Step::Ask);
    assert_eq!(demands.step(&blob, key(), at(0)), Step::Wait);
    assert!(demands.found(&blob, source(), key(), at(1)), "a new name");
    assert_eq!(demands.step(&blob, key(), at(1)), Step::Wait, "the trackers are still to hear of it");
    demands.end(&blob);
    let first = name(&mut demands, &blob, at(1));
    let again = name(&mut with(&blob, at(99)), &blob, at(99));
    assert_eq!(first, again, "another operator comes to the same name");
    assert_eq!(demands.names("default", at(1)).collect::<Vec<_>>(), [first.id]);
    assert_eq!(demands.names("other", at(1)).count(), 0);
}

#[test]
fn what_is_refused_is_not_asked_again_for_a_while() {
    let (mut demands, blob) = (Demands::default(), asked(1));
    demands.step(&blob, key(), at(0));
    demands.refuse(&blob, Refusal::lasting("private"), at(0));
    demands.end(&blob);
    assert_eq!(demands.step(&blob, key(), at(299)), Step::Refused("private".into()));
    assert_eq!(demands.step(&blob, key(), at(300)), Step::Ask);
    let elsewhere = Asked { name: "r.example/b".into(), ..blob };
    assert_eq!(demands.step(&elsewhere, key(), at(0)), Step::Ask, "another repository may give it");
    let pause = |seconds| Refusal::passing("", Some(SignedDuration::from_secs(seconds))).pause;
    assert_eq!([pause(1), pause(60), pause(9000)], [PASSING, SignedDuration::from_secs(60), LASTING]);
}

#[test]
fn refusals_and_questions_have_an_end() {
    let mut demands = Demands::default();
    for number in 0..MAX_REFUSALS as u32 + 9 {
        demands.refuse(&asked(number), Refusal::lasting("no"), at(i64::from(number)));
    }
    let known =
        (0..MAX_REFUSALS as u32 + 9).filter(|number| demands.refusals.of(&asked(*number), at(0)).is_some());
    assert!(known.count() <= MAX_REFUSALS);
    let mut demands = Demands::default();
    let steps: Vec<Step> =
        (0..=MAX_ASKING as u32).map(|number| demands.step(&asked(number), key(), at(0))).collect();
    assert!(steps[..MAX_ASKING].iter().all(|step| *step == Step::Ask) && steps[MAX_ASKING] == Step::Full);
}

#[test]
fn the_first_who_asks_reads_until_it_shows_no_sign_of_life() {
    let blob = asked(1);
    let mut demands = with(&blob, at(0));
    assert!(reads(&mut demands, &blob, "a", false, at(0)));
    assert!(!reads(&mut demands, &blob, "b", true, at(5)));
    assert!(reads(&mut demands, &blob, "a", false, at(10)), "a sign of life");
    assert!(!reads(&mut demands, &blob, "b", true, at(21)));
    assert!(reads(&mut demands, &blob, "b", true, at(22)), "its lease is over");
    assert!(!reads(&mut demands, &blob, "a", true, at(23)));
}

#[test]
fn what_a_node_holds_is_not_read_again_unless_somebody_is_stuck() {
    let blob = asked(1);
    let mut demands = with(&blob, at(0));
    assert!(reads(&mut demands, &blob, "a", false, at(0)));
    assert!(!demands.held(&blob.wanted, "a", (SIZE, 0), key(), at(10)));
    assert!(!reads(&mut demands, &blob, "b", false, at(99)), "a has it");
    assert!(reads(&mut demands, &blob, "b", true, at(99)), "but cannot be reached");
    assert!(reads(&mut demands, &blob, "c", false, at(111)), "it has said nothing for long");
}

#[test]
fn a_node_that_asks_does_not_hold_it_any_more() {
    let blob = asked(1);
    let mut demands = with(&blob, at(0));
    for node in 0..2 * MAX_HOLDERS {
        demands.held(&blob.wanted, &format!("n{node}"), (SIZE, 0), key(), at(0));
    }
    for node in 1..MAX_HOLDERS {
        assert!(!reads(&mut demands, &blob, &format!("n{node}"), false, at(1)), "others have it");
    }
    assert!(reads(&mut demands, &blob, "n0", false, at(1)), "nobody else is known to have it");
}

#[test]
fn an_operator_that_starts_anew_hears_of_what_there_is() {
    let blob = asked(1);
    let before = name(&mut with(&blob, at(0)), &blob, at(0));
    let mut demands = Demands::default();
    assert!(demands.held(&blob.wanted, "a", (SIZE, 0), key(), at(0)), "the trackers have to hear of it");
    assert!(!demands.held(&blob.wanted, "b", (SIZE, 0), key(), at(0)));
    assert_eq!(demands.names("default", at(0)).collect::<Vec<_>>(), [before.id]);
    assert_eq!(demands.step(&blob, key(), at(1)), Step::Ask, "whether it is public, only the registry tells");
    assert!(!demands.found(&blob, source(), key(), at(1)));
    demands.end(&blob);
    assert!(!reads(&mut demands, &blob, "c", false, at(2)));
    assert!(!demands.held(&blob.wanted, "x", (SIZE + 1, 0), key(), at(3)), "another word changes nothing");
    assert!(
        !demands.held(&asked(2).wanted, "x", (u64::MAX, 0), key(), at(3)),
        "no torrent can be made of that"
    );
    assert_eq!(name(&mut demands, &blob, at(3)), before);
}

#[test]
fn what_was_begun_anew_keeps_its_name_with_another_operator() {
    let (mut demands, blob) = (Demands::default(), asked(1));
    assert!(demands.held(&blob.wanted, "a", (SIZE, 1), key(), at(0)));
    find_again(&mut demands, &blob, at(1));
    assert_eq!(name(&mut demands, &blob, at(1)).epoch, 1, "not under the name that had wrong bytes");

    // The registry was asked before any node had said what it holds.
    let mut demands = with(&blob, at(0));
    assert!(reads(&mut demands, &blob, "b", false, at(0)));
    assert!(!demands.held(&blob.wanted, "a", (SIZE, 1), key(), at(1)), "somebody reads under the known name");
    assert!(demands.held(&blob.wanted, "a", (SIZE, 1), key(), at(60)));
    find_again(&mut demands, &blob, at(61));
    assert_eq!(name(&mut demands, &blob, at(61)).epoch, 1);
    assert!(!demands.held(&blob.wanted, "b", (SIZE, 0), key(), at(600)), "an older one changes nothing");
}

#[test]
fn who_cannot_read_is_passed_over_and_the_registry_is_asked_again() {
    let blob = asked(1);
    let mut demands = with(&blob, at(0));
    let id = name(&mut demands, &blob, at(0)).id.to_string();
    assert!(reads(&mut demands, &blob, "a", false, at(0)));
    demands.fail(&blob.wanted, "b", &id, reason::ORIGIN_UNAVAILABLE, at(1));
    assert!(reads(&mut demands, &blob, "a", false, at(1)), "b has nothing to say");
    demands.fail(&blob.wanted, "a", &id, reason::ORIGIN_UNAVAILABLE, at(2));
    assert_eq!(demands.step(&blob, key(), at(2)), Step::Ask);
    assert!(!demands.found(&blob, source(), key(), at(2)), "its name stays");
    demands.end(&blob);
    assert!(!reads(&mut demands, &blob, "a", true, at(3)));
    assert!(reads(&mut demands, &blob, "b", false, at(3)));
    demands.fail(&blob.wanted, "b", &id, reason::DISK_FULL, at(4));
    find_again(&mut demands, &blob, at(70));
    assert!(reads(&mut demands, &blob, "a", false, at(70)), "after a minute it may try again");
}

fn find_again(demands: &mut Demands, asked: &Asked, now: Timestamp) {
    assert_eq!(demands.step(asked, key(), now), Step::Ask);
    demands.found(asked, source(), key(), now);
    demands.end(asked);
}

#[test]
fn wrong_bytes_are_read_again_under_another_name_after_a_while() {
    let blob = asked(1);
    let mut demands = with(&blob, at(0));
    let first = name(&mut demands, &blob, at(0));
    assert!(!demands.fail(&blob.wanted, "b", "another", reason::DIGEST_MISMATCH, at(1)));
    assert!(demands.fail(&blob.wanted, "b", &first.id.to_string(), reason::DIGEST_MISMATCH, at(1)));
    assert_eq!(demands.names("default", at(1)).count(), 0);
    assert!(matches!(demands.step(&blob, key(), at(300)), Step::Refused(_)));
    assert!(!demands.held(&blob.wanted, "a", (SIZE, 0), key(), at(300)), "not under the old name");
    find(&mut demands, &blob, at(301));
    let second = name(&mut demands, &blob, at(301));
    assert_eq!(second.epoch, 1);
    assert_ne!(first.id, second.id);
}

#[test]
fn there_is_an_end_to_blobs_and_idle_ones_make_room() {
    let mut demands = Demands::default();
    for number in 0..MAX_BLOBS as u32 {
        demands.held(&asked(number).wanted, "a", (SIZE, 0), key(), at(0));
    }
    let more = asked(1_000_000);
    assert_eq!(demands.step(&more, key(), at(0)), Step::Full);
    assert!(!demands.held(&more.wanted, "a", (SIZE, 0), key(), at(0)));
    // Nobody says any more that it holds them.
    assert_eq!(demands.step(&more, key(), at(91)), Step::Ask);
    assert_eq!(demands.names("default", at(91)).count(), MAX_BLOBS - 1);
    assert_eq!(demands.names("default", at(600)).count(), 0, "trackers need not admit what nobody asks for");
    let other = Asked { wanted: Wanted { class: "fast".into(), ..more.wanted }, ..more };
    assert_eq!(demands.step(&other, key(), at(601)), Step::Ask);
    assert!(demands.blobs.is_empty(), "idle for ten minutes");
}

#[test]
fn another_key_makes_another_name() {
    let blob = asked(1);
    let mut demands = with(&blob, at(0));
    let other = SigningKey::from_seed(&[2; 32]).public();
    assert_eq!(demands.step(&blob, other, at(1)), Step::Ask);
    assert!(demands.found(&blob, source(), other, at(1)));
    assert_eq!(demands.names("default", at(1)).count(), 1);
}
