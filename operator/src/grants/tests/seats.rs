//! Several fetchers of one revision.

use super::*;

const NODES: [&str; 4] = ["a", "b", "c", "d"];

/// Three seats among four nodes, decided at second 0; all read, the last with most bytes. Also answers who is left over.
fn three() -> (Election, Vec<String>, String) {
    let mut election = Election::default();
    let seats = seat(&mut election, &NODES, 3, 0);
    assert_eq!(seats.len(), 3);
    let spare = NODES.iter().find(|node| !seats.contains(&(**node).to_owned())).unwrap();
    for node in &seats {
        election.open(node, node.clone(), Some(0), at(0)).unwrap();
    }
    alive(&mut election, &seats, 1);
    (election, seats, (*spare).to_owned())
}

/// Each shows itself, each later one with a byte more.
fn alive(election: &mut Election, nodes: &[String], second: i64) {
    for (more, node) in nodes.iter().enumerate() {
        let said = said(node, 100 * second as u64 + more as u64);
        election.progress(node, &said, at(second)).unwrap();
    }
}

fn place(index: u32, of: u32) -> Place {
    Place { index, of }
}

#[test]
fn no_node_has_two_seats_and_each_knows_its_own() {
    let (election, seats, spare) = three();
    assert_eq!(election.fetchers(), seats);
    for (index, node) in seats.iter().enumerate() {
        assert_eq!(election.place(node), Some(place(index as u32, 3)));
    }
    assert_eq!(election.place(&spare), None);
    assert_eq!(seat(&mut Election::default(), &["a", "b"], 8, 0).len(), 2, "there are no more nodes");
}

#[test]
fn the_seat_of_a_dead_helper_moves_and_the_others_go_on() {
    let (mut election, seats, spare) = three();
    let living = [seats[0].clone(), seats[2].clone()];
    for second in [6, 11, 16, 21, 26] {
        alive(&mut election, &living, second);
        assert_eq!(seat(&mut election, &NODES, 3, second), seats);
    }
    let moved = seat(&mut election, &NODES, 3, 31);
    assert_eq!(moved, [seats[0].clone(), spare.clone(), seats[2].clone()], "30 s after its last word");
    assert_eq!(election.progress(&seats[1], &said(&seats[1], 5000), at(31)), Err(Refusal::Lost));
    assert_eq!(election.progress(&seats[2], &said(&seats[2], 5000), at(31)), Ok(place(2, 3)));
    election.open(&spare, "new".into(), Some(0), at(31)).unwrap();
    assert_eq!(election.running(), 3);
}

#[test]
fn the_seat_of_a_helper_that_is_gone_waits_for_someone_new() {
    let (mut election, seats, _) = three();
    let left = [seats[0].as_str(), seats[2].as_str()];
    assert_eq!(seat(&mut election, &left, 3, 2), left, "there is nobody else");
    assert_eq!(election.place(&seats[2]), Some(place(1, 2)), "its part is now larger");
    assert_eq!(seat(&mut election, &[left[0], left[1], "z"], 3, 3), [left[0], left[1], "z"]);
}

#[test]
fn who_has_most_takes_the_place_of_the_first() {
    let (mut election, seats, spare) = three();
    let candidates = [seats[1].as_str(), seats[2].as_str(), spare.as_str()];
    let moved = seat(&mut election, &candidates, 3, 2);
    assert_eq!(moved, [seats[2].clone(), seats[1].clone(), spare]);
    let lease = election.progress(&seats[2], &said(&seats[2], 500), at(2));
    assert_eq!(lease, Ok(place(0, 3)), "under the grant that it had");
}

#[test]
fn a_silent_first_is_followed_by_one_that_reads() {
    let (mut election, seats, spare) = three();
    for second in [6, 11, 16, 21, 26] {
        alive(&mut election, &seats[1..], second);
    }
    assert_eq!(seat(&mut election, &NODES, 3, 31), [seats[2].clone(), seats[1].clone(), spare]);
}

#[test]
fn when_all_die_others_begin_and_the_dead_come_back() {
    let (mut election, seats, spare) = three();
    let moved = seat(&mut election, &NODES, 3, 31);
    assert_eq!(moved, std::slice::from_ref(&spare), "whoever was silent is passed over");
    election.open(&spare, "new".into(), Some(0), at(31)).unwrap();
    for second in [40, 50, 60, 70, 80, 90] {
        election.progress(&spare, &said("new", second as u64), at(second)).unwrap();
    }
    assert_eq!(seat(&mut election, &NODES, 3, 90).len(), 1);
    let back = seat(&mut election, &NODES, 3, 92);
    assert!(back.len() == 3 && back[0] == spare, "{back:?}");
    assert_eq!(seat(&mut election, &[], 3, 93), Vec::<String>::new());
    assert_eq!(seat(&mut election, &[&seats[0]], 3, 94), [seats[0].clone()]);
}

#[test]
fn fewer_seats_cost_the_last_and_nobody_is_passed_over_for_it() {
    let (mut election, seats, _) = three();
    assert_eq!(seat(&mut election, &NODES, 1, 2), seats[..1]);
    assert_eq!(seat(&mut election, &NODES, 3, 3), seats, "the same again, since it did nothing wrong");
}

#[test]
fn what_fails_at_one_seat_is_no_failure_of_all() {
    let (mut election, seats, spare) = three();
    let bad = &seats[1];
    election.fail(bad, bad, failure(reason::ORIGIN_UNAVAILABLE), 0.0, at(2)).unwrap();
    assert_eq!(election.failure(), None, "the others read");
    assert_eq!(seat(&mut election, &NODES, 3, 2), seats);
    assert_eq!(election.open(bad, "again".into(), Some(0), at(2)), Err(Refusal::Later(1)));
    election.open(bad, "again".into(), Some(0), at(3)).unwrap();
    election.fail(bad, "again", failure(reason::DISK_FULL), 0.0, at(4)).unwrap();
    assert_eq!(seat(&mut election, &NODES, 3, 4), [seats[0].clone(), spare, seats[2].clone()]);
}

#[test]
fn an_operator_that_starts_anew_leaves_all_fetchers_alone() {
    let written = ["c".to_owned(), "a".to_owned(), "gone".to_owned()];
    let mut election = Election::default();
    assert_eq!(election.worth(written.len()), 3);
    let decision = election.decide("r", &written, 3, &candidates(&NODES), at(0));
    assert_eq!(decision, Decision { fetchers: vec!["c".into(), "a".into()], wake_at: Some(at(30)) });
    election.elect(&decision.fetchers, at(0));
    assert_eq!(election.worth(2), 2, "it goes on from those that are there");
    assert_eq!(seat(&mut election, &NODES, 2, 29), ["c", "a"]);
}

#[test]
fn a_helper_has_to_share() {
    let mut election = Election::default();
    let seats = seat(&mut election, &NODES, 2, 0);
    election.open(&seats[0], "1".into(), None, at(0)).unwrap();
    assert_eq!(election.open(&seats[1], "2".into(), None, at(0)), Err(Refusal::CannotShare));
    election.open(&seats[1], "2".into(), Some(0), at(0)).unwrap();
}

/// One look every 5 s at an origin that gives so much to each and so much to all; answers how many read at the end.
fn read_on(election: &mut Election, seconds: std::ops::Range<i64>, each: u64, all: u64) -> usize {
    for second in seconds.step_by(5) {
        let wanted = election.worth(0);
        let fetchers = seat(election, &NODES, wanted, second);
        let rate = each.min(all / fetchers.len() as u64);
        for node in &fetchers {
            if election.grant(node).is_none() {
                election.open(node, node.clone(), Some(0), at(second)).unwrap();
            } else {
                let origin_bytes = election.grant(node).unwrap().origin_bytes + 5 * rate;
                // With what it has from the others, and had before.
                let bytes = all * second as u64;
                let said = Progress { grant: node.clone(), bytes, origin_bytes, worked: bytes };
                election.progress(node, &said, at(second)).unwrap();
            }
        }
    }
    election.fetchers().len()
}

#[test]
fn fetchers_come_as_long_as_the_origin_gives_more() {
    let mut election = Election::default();
    assert_eq!(read_on(&mut election, 0..60, 4_000_000, 12_000_000), 3, "a fourth was tried");
    assert_eq!(read_on(&mut election, 60..90, 4_000_000, 12_000_000), 3);
    let node = election.fetchers().remove(0);
    election.fail(&node, &node, failure(reason::ORIGIN_UNAVAILABLE), 0.0, at(91)).unwrap();
    assert_eq!(read_on(&mut election, 95..140, 4_000_000, 16_000_000), 3, "not so soon after a failure");
    assert_eq!(read_on(&mut election, 140..180, 4_000_000, 16_000_000), 4);
}
