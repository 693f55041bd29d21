//! What was read proves wrong.

use super::*;

/// Two fetchers that share, each with 1000 bytes.
fn two() -> (Election, Vec<String>) {
    let mut election = Election::default();
    let seats = seat(&mut election, &["a", "b"], 2, 0);
    for node in &seats {
        election.open(node, node.clone(), Some(4), at(0)).unwrap();
        election.progress(node, &said(node, 1000), at(1)).unwrap();
    }
    (election, seats)
}

#[test]
fn nobody_goes_on_with_wrong_bytes() {
    for (reason, pause) in
        [(reason::DIGEST_MISMATCH, 4), (reason::FETCHER_FAULTY, 4), (reason::SOURCE_CHANGED, 1)]
    {
        let (mut election, seats) = two();
        assert_eq!(election.doubt(4), None);
        assert_eq!(election.fail(&seats[1], &seats[1], failure(reason), 0.0, at(2)), Ok(pause));
        assert_eq!(election.running(), 0, "{reason}");
        assert_eq!(election.progress(&seats[0], &said(&seats[0], 1001), at(2)), Err(Refusal::Lost));
        assert_eq!(election.failure().unwrap().message, "reading anew: why");
        let asks = |election: &mut Election, epoch, second| {
            election.open(&seats[0], "2".into(), Some(epoch), at(second)).map(|_| ())
        };
        assert_eq!(asks(&mut election, 5, 2), Err(Refusal::Later(pause)));
        let over = 2 + pause.cast_signed();
        assert_eq!(election.doubt(4).unwrap().until, Some(at(over)));
        assert_eq!(asks(&mut election, 4, over), Err(Refusal::Anew), "not under the old name");
        assert_eq!(asks(&mut election, 5, over), Ok(()));
        assert_eq!(election.doubt(5), None, "it is the next epoch by now");
        assert_eq!(seat(&mut election, &["a", "b"], 2, over + 29), seats, "nobody is to blame");
    }
}

#[test]
fn it_is_told_until_it_was_read_beyond_that() {
    let (mut election, seats) = two();
    election.fail(&seats[0], &seats[0], failure(reason::FETCHER_FAULTY), 0.0, at(2)).unwrap();
    election.open(&seats[0], "2".into(), Some(5), at(6)).unwrap();
    election.progress(&seats[0], &said("2", 1000), at(7)).unwrap();
    assert_eq!(election.failure().unwrap().reason, reason::FETCHER_FAULTY);
    election.progress(&seats[0], &said("2", 1001), at(8)).unwrap();
    assert_eq!(election.failure(), None);

    election.fail(&seats[0], "2", failure(reason::DIGEST_MISMATCH), 0.0, at(9)).unwrap();
    election.open(&seats[0], "3".into(), Some(6), at(20)).unwrap();
    election.progress(&seats[0], &said("3", 5000), at(21)).unwrap();
    assert!(election.failure().is_some(), "a digest shows at the end");
    assert_eq!(election.fail(&seats[0], "3", failure(reason::DIGEST_MISMATCH), 0.0, at(22)), Ok(8));
}

#[test]
fn whoever_has_signed_what_is_wrong_reads_no_more_while_others_can() {
    let nodes = ["a", "b", "c", "d"];
    let mut election = Election::default();
    let seats = seat(&mut election, &nodes, 2, 0);
    for node in &seats {
        election.open(node, node.clone(), Some(4), at(0)).unwrap();
    }
    let faulty = failure(reason::FETCHER_FAULTY).accusing(seats.clone());
    election.fail(&seats[1], &seats[1], faulty, 0.0, at(2)).unwrap();
    let heirs = seat(&mut election, &nodes, 2, 7);
    assert!(heirs.iter().all(|node| !seats.contains(node)), "{seats:?} {heirs:?}");
    assert_eq!(election.open(&seats[0], "2".into(), Some(5), at(7)), Err(Refusal::NotElected));
    // Long after that, too.
    let mut left: Vec<&str> = seats.iter().map(String::as_str).collect();
    left.push("e");
    assert_eq!(seat(&mut election, &left, 1, 500), ["e"]);
    // Where nobody else can, they may.
    assert_eq!(seat(&mut election, &left[..2], 1, 600).len(), 1);
}
