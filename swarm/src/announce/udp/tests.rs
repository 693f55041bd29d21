use proptest::prelude::*;
use torrent::WireId;

use super::*;
use crate::announce::{Announce, Event, FOREIGN_MIN_INTERVAL, MAX_INTERVAL, MAX_PEERS};
use crate::test_rng::TestRng;
use crate::wire::PeerId;

const START: Duration = Duration::from_secs(100);

fn announce() -> Announce<'static> {
    Announce {
        id: WireId(*b"\x00\xff&= %+abcdefghijklm"),
        peer_id: PeerId(*b"-SM0001-abcdefghijkl"),
        key: 0x0102_0304,
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        event: Some(Event::Started),
        tracker_id: None,
        node: None,
    }
}

fn request(family: Family) -> Request {
    Request::new(&announce(), &UrlData::default(), family)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The transaction of a datagram that we send; all have it in the same place.
fn transaction(sent: &[u8]) -> [u8; 4] {
    sent[12..16].try_into().unwrap()
}

fn is_connect(sent: &[u8]) -> bool {
    sent.len() == 16 && sent[..12] == *b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0"
}

/// A tracker's datagram that answers `sent`.
fn answer(action: u8, sent: &[u8], rest: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, action][..], &transaction(sent), rest].concat()
}

/// Interval 1,800 s, 5 leechers, 7 seeders.
fn announced(sent: &[u8], peers: &[u8]) -> Vec<u8> {
    answer(1, sent, &[b"\0\0\x07\x08\0\0\0\x05\0\0\0\x07", peers].concat())
}

fn sent(action: Action) -> Vec<u8> {
    match action {
        Action::Send(datagram) => datagram,
        other => panic!("to be sent: {other:?}"),
    }
}

/// An exchange that has its connection id, and its announce.
fn connected(family: Family, rng: &mut TestRng) -> (Exchange, Vec<u8>) {
    let (mut exchange, first) = Exchange::start(request(family), None, START, rng);
    assert!(is_connect(&first));
    let datagram = sent(exchange.handle(&answer(0, &first, b"12345678"), START, rng));
    assert_eq!(datagram[..8], *b"12345678");
    (exchange, datagram)
}

#[test]
fn an_announce_is_the_bytes_of_bep_15() {
    let rng = &mut TestRng(1);
    let (_, datagram) = connected(Family::V4, rng);
    let expected = [
        &b"12345678\0\0\0\x01"[..],
        &transaction(&datagram),
        b"\x00\xff&= %+abcdefghijklm-SM0001-abcdefghijkl",
        b"\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x01",
        b"\0\0\0\x02\0\0\0\0\x01\x02\x03\x04\0\0\0\x50\x1a\xe1",
    ]
    .concat();
    assert_eq!(datagram, expected);
    assert_eq!(datagram.len(), 98);
    let codes = [(None, 0), (Some(Event::Completed), 1), (Some(Event::Stopped), 3), (Some(Event::Paused), 0)];
    for (event, code) in codes {
        let request =
            Request::new(&Announce { event, ..announce() }, &UrlData::default(), Family::V4).encode(1, 2);
        assert_eq!(request[83], code);
        // Who leaves wants no peers.
        assert_eq!(request[95] == 0, event == Some(Event::Stopped));
    }
}

#[test]
fn path_and_query_go_out_as_options_of_bep_41_behind_byte_98() {
    let options = |url: &str| {
        let url = UrlData::new(url)?;
        Some(Request::new(&announce(), &url, Family::V4).encode(1, 2)[98..].to_vec())
    };
    assert_eq!(options(""), Some(vec![]));
    assert_eq!(options("/announce?key=1"), Some(b"\x02\x0f/announce?key=1".to_vec()));
    let long = "a".repeat(255) + &"b".repeat(255) + "c";
    let expected = format!("\x02\u{7f}{}\x02\u{7f}{}\x02\x01c", "a".repeat(255), "b".repeat(255));
    let expected: Vec<u8> = expected.bytes().map(|byte| if byte == 0x7f { 0xff } else { byte }).collect();
    assert_eq!(options(&long), Some(expected));
    assert_eq!(options(&"a".repeat(MAX_URL_DATA)).map(|o| 98 + o.len()), Some(1126));
    assert_eq!(options(&"a".repeat(MAX_URL_DATA + 1)), None);
}

#[test]
fn peers_have_6_or_18_bytes_by_the_family_of_the_packet() {
    let rng = &mut TestRng(2);
    let (mut exchange, request) = connected(Family::V4, rng);
    let reply = announced(&request, b"\x0a\0\0\x01\x1a\xe1\x0a\0\0\x02\x1a\xe2");
    let Action::Done(Ok(found)) = exchange.handle(&reply, START, rng) else { panic!("an answer") };
    assert_eq!(found.peers, ["10.0.0.1:6881".parse().unwrap(), "10.0.0.2:6882".parse().unwrap()]);
    assert_eq!((found.seeders, found.leechers), (Some(7), Some(5)));
    assert_eq!(found.wait(false), seconds(1800));

    let (mut exchange, request) = connected(Family::V6, rng);
    let reply = announced(&request, b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1");
    let Action::Done(Ok(found)) = exchange.handle(&reply, START, rng) else { panic!("an answer") };
    assert_eq!(found.peers, ["[2001:db8::1]:6881".parse().unwrap()]);
}

#[test]
fn t053_nonsense_is_bounded() {
    let rng = &mut TestRng(3);
    for (interval, wait) in [
        (*b"\0\0\0\0", FOREIGN_MIN_INTERVAL),
        (*b"\x7f\xff\xff\xff", MAX_INTERVAL),
        (*b"\xff\xff\xff\xff", seconds(120)),
    ] {
        let (mut exchange, request) = connected(Family::V4, rng);
        let reply = answer(1, &request, &[&interval[..], b"\xff\xff\xff\xff\0\0\0\0"].concat());
        let Action::Done(Ok(found)) = exchange.handle(&reply, START, rng) else { panic!("an answer") };
        assert_eq!((found.wait(false), found.leechers, found.seeders), (wait, None, Some(0)));
    }
    let (mut exchange, request) = connected(Family::V4, rng);
    let cut_off = Action::Done(Err(AnswerError::PeerList.into()));
    assert_eq!(exchange.handle(&announced(&request, b"\x0a\0\0\x01\x1a"), START, rng), cut_off);
    let (mut exchange, request) = connected(Family::V4, rng);
    let mut reply = announced(&request, &vec![1; 60_000]);
    let Action::Done(Ok(found)) = exchange.handle(&reply, START, rng) else { panic!("an answer") };
    assert_eq!(found.peers.len(), MAX_PEERS);
    // A socket reads no more of it, which is still a list of whole peers.
    reply.truncate(MAX_DATAGRAM);
    let (mut exchange, request) = connected(Family::V4, rng);
    reply[4..8].copy_from_slice(&transaction(&request));
    assert!(matches!(exchange.handle(&reply, START, rng), Action::Done(Ok(_))));
}

#[test]
fn t057_short_foreign_and_unasked_datagrams_are_ignored() {
    let rng = &mut TestRng(4);
    let (mut exchange, first) = Exchange::start(request(Family::V4), None, START, rng);
    let genuine = answer(0, &first, b"12345678");
    let mut foreign = genuine.clone();
    foreign[7] ^= 1;
    // Not even an error counts if it is not about our request.
    let error = answer(3, &[0; 16], b"go away");
    for stray in
        [&genuine[..15], &[], &foreign, &announced(&first, &[]), &answer(2, &first, &[0; 12]), &error]
    {
        assert_eq!(exchange.handle(stray, START, rng), Action::Wait, "{stray:?}");
    }
    let second = sent(exchange.handle(&genuine, START, rng));
    assert_ne!(transaction(&first), transaction(&second));

    let genuine = announced(&second, &[]);
    let late = answer(0, &first, b"87654321");
    let again = answer(0, &second, b"87654321");
    for stray in [&genuine[..19], &announced(&first, &[]), &late, &again, &answer(4, &second, &[0; 12])] {
        assert_eq!(exchange.handle(stray, START, rng), Action::Wait, "{stray:?}");
    }
    assert!(matches!(exchange.handle(&genuine, START, rng), Action::Done(Ok(_))));
}

#[test]
fn an_error_packet_is_a_refusal_in_the_trackers_words_and_ends_the_use_of_the_id() {
    let rng = &mut TestRng(5);
    let refused = || Action::Done(Err(AnswerError::Refused("not today".into()).into()));
    let (mut exchange, first) = Exchange::start(request(Family::V4), None, START, rng);
    assert_eq!(exchange.handle(&answer(3, &first, b"not\x1b today\0"), START, rng), refused());
    let (mut exchange, second) = connected(Family::V4, rng);
    assert!(exchange.connection().is_some());
    assert_eq!(exchange.handle(&answer(3, &second, b"not today"), START, rng), refused());
    assert_eq!(exchange.connection(), None);
}

/// A tracker that loses the datagrams with these numbers, and answers all others at once.
fn with_loss(lost: &[usize]) -> (Vec<(u64, bool)>, Result<Answer, ExchangeError>) {
    let rng = &mut TestRng(6);
    let (mut exchange, mut datagram) = Exchange::start(request(Family::V4), None, START, rng);
    let (mut now, mut log) = (START, Vec::new());
    loop {
        log.push((now.saturating_sub(START).as_secs(), is_connect(&datagram)));
        let action = if lost.contains(&(log.len() - 1)) {
            let early = exchange.deadline().saturating_sub(seconds(1));
            assert_eq!(exchange.handle_timeout(early, rng), Action::Wait);
            now = exchange.deadline();
            exchange.handle_timeout(now, rng)
        } else if is_connect(&datagram) {
            exchange.handle(&answer(0, &datagram, b"12345678"), now, rng)
        } else {
            exchange.handle(&announced(&datagram, &[]), now, rng)
        };
        match action {
            Action::Send(next) => datagram = next,
            Action::Done(outcome) => return (log, outcome),
            Action::Wait => panic!("neither sent nor done"),
        }
    }
}

#[test]
fn a_lost_datagram_is_sent_again_after_15_seconds_and_a_silent_tracker_given_up_after_30_more() {
    assert!(matches!(with_loss(&[]), (log, Ok(_)) if log == [(0, true), (0, false)]));
    assert!(matches!(with_loss(&[0]), (log, Ok(_)) if log == [(0, true), (15, true), (15, false)]));
    assert!(matches!(with_loss(&[1]), (log, Ok(_)) if log == [(0, true), (0, false), (15, false)]));
    let (log, outcome) = with_loss(&[0, 1, 2]);
    assert_eq!((log, outcome), (vec![(0, true), (15, true)], Err(ExchangeError::Silent)));
}

#[test]
fn an_answer_to_the_first_of_two_datagrams_counts() {
    let rng = &mut TestRng(7);
    let (mut exchange, first) = connected(Family::V4, rng);
    let again = sent(exchange.handle_timeout(START + seconds(15), rng));
    assert_eq!(first, again);
    let late = announced(&first, &[]);
    assert!(matches!(exchange.handle(&late, START + seconds(16), rng), Action::Done(Ok(_))));
}

#[test]
fn a_connection_id_serves_other_exchanges_for_a_minute() {
    let rng = &mut TestRng(8);
    let (exchange, _) = connected(Family::V4, rng);
    let kept = exchange.connection();
    let next =
        |after: Duration, rng: &mut TestRng| Exchange::start(request(Family::V4), kept, START + after, rng);
    let (_, datagram) = next(seconds(59), rng);
    assert_eq!(datagram[..8], *b"12345678");
    assert!(is_connect(&next(seconds(60), rng).1));
    // It may be that the tracker was restarted and does not know the id: a new one is asked for.
    let (mut exchange, _) = next(seconds(1), rng);
    assert!(is_connect(&sent(exchange.handle_timeout(START + seconds(16), rng))));
}

#[test]
fn answers_of_both_families_are_one() {
    let of = |peer: &str, interval: u64, seeders: u64| Answer {
        interval: Some(seconds(interval)),
        seeders: Some(seeders),
        peers: vec![peer.parse().unwrap()],
        ..Answer::default()
    };
    let both = merge(of("10.0.0.1:1", 90, 3), of("[::1]:2", 60, 4));
    assert_eq!((both.interval, both.seeders), (Some(seconds(90)), Some(4)));
    assert_eq!(both.peers, ["10.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()]);
}

proptest! {
    /// Whatever comes, an exchange ends in time, and sends only on request or when something was lost.
    #[test]
    fn no_bytes_panic(
        datagrams in proptest::collection::vec((0..5u8, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..20),
        v6: bool,
    ) {
        let rng = &mut TestRng(9);
        let family = if v6 { Family::V6 } else { Family::V4 };
        let (mut exchange, mut last) = Exchange::start(request(family), None, START, rng);
        for (action, genuine, bytes) in datagrams {
            let datagram = if genuine { answer(action, &last, &bytes) } else { bytes };
            match exchange.handle(&datagram, START, rng) {
                Action::Send(next) => last = next,
                Action::Wait => {}
                Action::Done(_) => return Ok(()),
            }
        }
        let mut timeouts = 0;
        while !matches!(exchange.handle_timeout(exchange.deadline(), rng), Action::Done(_)) {
            timeouts += 1;
            prop_assert!(timeouts <= MAX_RETRANSMISSIONS);
        }
        prop_assert!(exchange.deadline() <= START + CONNECTION_TIME);
    }
}
