mod anew;
mod seats;
mod witness;

use operator_api::{Progress, reason};

use super::*;
use crate::failure::Failure;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn candidates(nodes: &[&str]) -> Vec<Candidate> {
    nodes.iter().map(|node| Candidate { node: (*node).to_owned(), electable: true }).collect()
}

fn failure(reason: &str) -> Failure {
    Failure::new(reason, "why")
}

fn said(grant: &str, bytes: u64) -> Progress {
    Progress { grant: grant.to_owned(), bytes, origin_bytes: bytes, worked: bytes }
}

/// An election of revision `r` among `a` and `b`, decided at second 0.
fn elected() -> (Election, String, String) {
    let mut election = Election::default();
    let first = choose(&mut election, &["a", "b"], 0).unwrap();
    let other = if first == "a" { "b" } else { "a" };
    (election, first, other.to_owned())
}

/// Decides and takes note of it.
fn choose(election: &mut Election, nodes: &[&str], seconds: i64) -> Option<String> {
    seat(election, nodes, 1, seconds).into_iter().next()
}

/// The same with so many seats.
fn seat(election: &mut Election, nodes: &[&str], wanted: usize, seconds: i64) -> Vec<String> {
    let decision = election.decide("r", &election.fetchers(), wanted, &candidates(nodes), at(seconds));
    election.elect(&decision.fetchers, at(seconds));
    decision.fetchers
}

#[test]
fn elections_spread_over_the_nodes() {
    let nodes: Vec<String> = (0..10).map(|n| format!("n{n}")).collect();
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    let mut hits = std::collections::BTreeMap::<String, u32>::new();
    for revision in 0..1000 {
        let decision =
            Election::default().decide(&format!("r{revision}"), &[], 1, &candidates(&nodes), at(0));
        *hits.entry(decision.fetchers[0].clone()).or_default() += 1;
    }
    assert!(hits.len() == 10 && hits.values().all(|count| (50..200).contains(count)), "{hits:?}");
}

#[test]
fn silence_for_thirty_seconds_loses_the_election() {
    let (mut election, first, other) = elected();
    assert_eq!(choose(&mut election, &["a", "b"], 29).unwrap(), first);
    assert_eq!(choose(&mut election, &["a", "b"], 30).unwrap(), other, "it never asked for its grant");
    assert_eq!(election.open(&first, "1".into(), None, at(31)), Err(Refusal::NotElected));
    election.open(&other, "2".into(), None, at(31)).unwrap();
    election.progress(&other, &said("2", 10), at(55)).unwrap();
    assert_eq!(choose(&mut election, &["a", "b"], 84).unwrap(), other);
    assert_eq!(
        choose(&mut election, &["a", "b"], 85).unwrap(),
        other,
        "the first is passed over for a minute"
    );
    assert_eq!(choose(&mut election, &["a", "b"], 91).unwrap(), first);
    assert_eq!(election.progress(&other, &said("2", 20), at(92)), Err(Refusal::Lost));
}

#[test]
fn signs_of_life_without_bytes_are_not_enough() {
    let (mut election, first, other) = elected();
    election.open(&first, "1".into(), None, at(0)).unwrap();
    for second in (5..60).step_by(5) {
        election.progress(&first, &said("1", 100), at(second)).unwrap();
        assert_eq!(choose(&mut election, &["a", "b"], second).unwrap(), first);
    }
    election.progress(&first, &said("1", 100), at(64)).unwrap();
    assert_eq!(choose(&mut election, &["a", "b"], 64).unwrap(), first, "they grew at 5 s");
    assert_eq!(choose(&mut election, &["a", "b"], 65).unwrap(), other);
}

#[test]
fn hashing_what_lies_on_the_disk_is_work() {
    let (mut election, first, _) = elected();
    election.open(&first, "1".into(), None, at(0)).unwrap();
    for second in (5..600).step_by(5) {
        let progress = Progress { worked: second as u64, ..said("1", 100) };
        election.progress(&first, &progress, at(second)).unwrap();
        assert_eq!(choose(&mut election, &["a", "b"], second).unwrap(), first, "after {second} s");
    }
}

#[test]
fn the_only_one_keeps_it() {
    let mut election = Election::default();
    choose(&mut election, &["a"], 0);
    assert_eq!(choose(&mut election, &["a"], 500).unwrap(), "a");
    election.open("a", "1".into(), None, at(501)).unwrap();
    assert_eq!(choose(&mut election, &["a"], 900).unwrap(), "a");
    assert!(election.progress("a", &said("1", 1), at(901)).is_ok(), "it was only slow");
    assert_eq!(choose(&mut election, &[], 902), None);
}

#[test]
fn a_node_that_is_gone_loses_it_at_once() {
    let (mut election, first, other) = elected();
    election.open(&first, "1".into(), None, at(0)).unwrap();
    assert_eq!(choose(&mut election, &[&other], 1).unwrap(), other);
}

#[test]
fn a_bad_disk_moves_it_and_a_bad_origin_waits() {
    let (mut election, first, other) = elected();
    election.open(&first, "1".into(), None, at(0)).unwrap();
    let wait = election.fail(&first, "1", failure(reason::ORIGIN_UNAVAILABLE), 0.0, at(1)).unwrap();
    assert_eq!(wait, 1);
    assert_eq!(election.open(&first, "2".into(), None, at(1)), Err(Refusal::Later(1)));
    assert_eq!(choose(&mut election, &["a", "b"], 2).unwrap(), first);
    election.open(&first, "2".into(), None, at(2)).unwrap();
    election.fail(&first, "2", failure(reason::DISK_FULL), 0.0, at(3)).unwrap();
    assert_eq!(choose(&mut election, &["a", "b"], 3).unwrap(), other);
    assert_eq!(election.failure().unwrap().reason, reason::DISK_FULL);
    election.open(&other, "3".into(), None, at(5)).unwrap();
    election.fail(&other, "3", failure(reason::DISK_FULL), 0.0, at(6)).unwrap();
    let back = choose(&mut election, &["a", "b"], 12).unwrap();
    assert!(["a", "b"].contains(&back.as_str()), "all disks are full: someone goes on trying");
}

#[test]
fn a_way_that_fails_again_and_again_is_left() {
    let (mut election, first, other) = elected();
    let mut second = 0;
    for attempt in 0..3 {
        second += 40;
        choose(&mut election, &[&first], second);
        election.open(&first, format!("{attempt}"), None, at(second)).unwrap();
        election
            .fail(&first, &format!("{attempt}"), failure(reason::ORIGIN_UNAVAILABLE), 0.0, at(second))
            .unwrap();
    }
    assert_eq!(choose(&mut election, &["a", "b"], second).unwrap(), other);
}

#[test]
fn an_origin_that_names_a_time_is_no_failure_of_the_node() {
    let (mut election, first, _) = elected();
    for second in [0, 300, 600, 900] {
        election.open(&first, "1".into(), None, at(second)).unwrap();
        election.rest(&first, "1", failure(reason::ORIGIN_UNAVAILABLE), at(second + 300)).unwrap();
        assert_eq!(
            choose(&mut election, &["a", "b"], second + 299).unwrap(),
            first,
            "another would fare no better"
        );
        assert_eq!(election.open(&first, "2".into(), None, at(second + 299)), Err(Refusal::Later(1)));
        assert_eq!(election.failure(), Some(&failure(reason::ORIGIN_UNAVAILABLE)), "the user hears of it");
    }
    election.open(&first, "3".into(), None, at(1200)).unwrap();
    let pause = election.fail(&first, "3", failure(reason::ORIGIN_UNAVAILABLE), 0.0, at(1200));
    assert_eq!(pause, Ok(1), "it is the first");
    assert_eq!(election.rest(&first, "3", failure("x"), at(1300)), Err(Refusal::Lost));
}

#[test]
fn pauses_grow_to_thirty_seconds_and_new_bytes_end_them() {
    let mut election = Election::default();
    choose(&mut election, &["a"], 0);
    let mut waits = Vec::new();
    for attempt in 0..7 {
        let (id, now) = (attempt.to_string(), at(attempt * 100));
        election.open("a", id.clone(), None, now).unwrap();
        election.progress("a", &said(&id, 50), now).unwrap();
        waits.push(election.fail("a", &id, failure(reason::ORIGIN_UNAVAILABLE), 0.0, now).unwrap());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30], "the same 50 bytes every time are no progress");
    election.open("a", "x".into(), None, at(1000)).unwrap();
    assert!(election.failure().is_some(), "still told");
    election.progress("a", &said("x", 51), at(1001)).unwrap();
    assert!(election.failure().is_none());
    assert_eq!(election.fail("a", "x", failure(reason::ORIGIN_UNAVAILABLE), 0.0, at(1002)).unwrap(), 1);
}

#[test]
fn wrong_bytes_are_not_read_over_and_over() {
    let mut election = Election::default();
    choose(&mut election, &["a"], 0);
    let mut last = 0;
    for attempt in 0..12 {
        let (id, now) = (attempt.to_string(), at(attempt * 1000));
        election.open("a", id.clone(), None, now).unwrap();
        last = election.fail("a", &id, failure(reason::DIGEST_MISMATCH), 0.0, now).unwrap();
    }
    assert_eq!(last, 600);
    assert!(election.open("a", "y".into(), None, at(11_100)).is_err());
    election.retry_now();
    election.open("a", "y".into(), None, at(11_100)).unwrap();
}

#[test]
fn an_operator_that_starts_anew_leaves_the_fetcher_alone() {
    let mut election = Election::default();
    let decision = election.decide("r", &["b".to_owned()], 1, &candidates(&["a", "b"]), at(0));
    assert_eq!(decision, Decision { fetchers: vec!["b".into()], wake_at: Some(at(30)) });
    election.elect(&decision.fetchers, at(0));
    assert_eq!(choose(&mut election, &["a", "b"], 29).unwrap(), "b");
    assert_eq!(choose(&mut election, &["a", "b"], 30).unwrap(), "a");
}

#[test]
fn only_the_holder_of_the_grant_can_end_it() {
    let (mut election, first, other) = elected();
    election.open(&first, "1".into(), None, at(0)).unwrap();
    election.open(&first, "2".into(), None, at(1)).unwrap();
    let built = Built {
        torrent: crds::Torrent { info_hash_v1: None, info_hash_v2: None, bytes: 1 },
        manifest_digest: String::new(),
    };
    assert_eq!(election.complete(&other, "2", built.clone()), Err(Refusal::Lost));
    assert_eq!(election.complete(&first, "1", built.clone()), Err(Refusal::Lost), "it asked again since");
    assert_eq!(election.fail(&other, "2", failure("X"), 0.0, at(2)), Err(Refusal::Lost));
    election.complete(&first, "2", built.clone()).unwrap();
    assert_eq!(election.built, Some(built));
}
