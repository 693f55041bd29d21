//! Announces and scrapes over UDP (BEP 15, 41), over real sockets.
#![allow(clippy::unwrap_used)] // a failure is the test's failure

mod common;
#[path = "common/udp.rs"]
mod udp;

use std::time::{SystemTime, UNIX_EPOCH};

use common::{Running, TOKEN, query, swarm};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tracker::udp::connection_id::Key;
use tracker::{Config, Token};
use tracker_api::Registry;
use udp::{Announce, Client, MAGIC, connect, request, start, start_with};

const HASH: [u8; 20] = [0xaa; 20];
const OTHER: [u8; 20] = [0xbb; 20];

async fn serving(listen: &str) -> Running {
    let tracker = start(listen, false).await;
    let swarms = vec![swarm("rev", &[hex::encode(HASH)])];
    tracker.register(&Registry { swarms, ..Registry::default() }).await;
    tracker
}

fn ids_of_the_class(from: &str, seconds_ago: u64) -> [u8; 8] {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let key = Key::of_token(&Token::new(TOKEN).unwrap());
    key.issue(from.parse().unwrap(), unix - seconds_ago).0.to_be_bytes()
}

#[tokio::test]
async fn clients_find_each_other() {
    let tracker = serving("127.0.0.1:0").await;
    let first = Client::new(&tracker, "127.0.0.2").await.announce(&Announce::new(HASH, 2001)).await;
    assert_eq!((first.peers.len(), first.complete, first.incomplete), (0, 0, 1));
    assert!(
        (270..=330).contains(&first.interval),
        "300 s, and up to a tenth more or less: {}",
        first.interval
    );
    let second = Client::new(&tracker, "127.0.0.3").await.announce(&Announce::new(HASH, 2002)).await;
    assert_eq!((second.peers, second.incomplete), (vec!["127.0.0.2:2001".to_owned()], 2));
}

#[tokio::test]
async fn http_and_udp_are_one_tracker_on_one_port() {
    let tracker = serving("[::]:0").await;
    tracker.announce("127.0.0.2", &query(&HASH, 2001)).await;
    let udp = Client::new(&tracker, "127.0.0.3").await.announce(&Announce::new(HASH, 2002)).await;
    assert_eq!(udp.peers, ["127.0.0.2:2001"]);
    let http = tracker.announce("127.0.0.4", &query(&HASH, 2003)).await;
    assert_eq!(http.peers(), ["127.0.0.2:2001", "127.0.0.3:2002"]);
}

#[tokio::test]
async fn the_family_of_the_packet_decides_that_of_the_peers() {
    let tracker = serving("[::]:0").await;
    let (v4, v6) = (Client::new(&tracker, "127.0.0.2").await, Client::new(&tracker, "::1").await);
    v4.announce(&Announce::new(HASH, 2001)).await;
    v6.announce(&Announce::new(HASH, 2002)).await;
    let v6 = v6.announce(&Announce::new(HASH, 2003)).await;
    assert_eq!((v6.peers, v6.incomplete), (vec!["[::1]:2002".to_owned()], 3));
    let v4 = Client::new(&tracker, "127.0.0.3").await.announce(&Announce::new(HASH, 2004)).await;
    assert_eq!((v4.peers, v4.incomplete), (vec!["127.0.0.2:2001".to_owned()], 4));
}

#[tokio::test]
async fn a_tracker_may_listen_on_ipv6_alone() {
    let tracker = start("[::1]:0", true).await;
    let client = Client::new(&tracker, "::1").await;
    client.announce(&Announce::new(HASH, 2001)).await;
    assert_eq!(client.announce(&Announce::new(HASH, 2002)).await.peers, ["[::1]:2001"]);
}

#[tokio::test]
async fn t046_the_address_is_that_of_the_packet() {
    let tracker = serving("127.0.0.1:0").await;
    let victim = Announce { ip: [203, 0, 113, 9], ..Announce::new(HASH, 2001) };
    Client::new(&tracker, "127.0.0.2").await.announce(&victim).await;
    let peers = Client::new(&tracker, "127.0.0.3").await.announce(&Announce::new(HASH, 2002)).await.peers;
    assert_eq!(peers, ["127.0.0.2:2001"]);
}

#[tokio::test]
async fn t047_ports_of_other_services_are_refused_in_words() {
    let tracker = serving("127.0.0.1:0").await;
    let client = Client::new(&tracker, "127.0.0.2").await;
    for port in [0, 22, 1023] {
        let words = client.refused(1, &Announce::new(HASH, port).body()).await;
        assert_eq!(words, "port must be between 1024 and 65535");
    }
    assert_eq!(client.scrape(&[HASH]).await, [[0, 0, 0]]);
}

#[tokio::test]
async fn t048_numwant_is_heeded_and_capped() {
    let tracker = serving("[::]:0").await;
    let v4 = Client::new(&tracker, "127.0.0.2").await;
    for port in 2000..2250 {
        v4.announce(&Announce { num_want: 0, ..Announce::new(HASH, port) }).await;
    }
    let wanting = |num_want| Announce { num_want, ..Announce::new(HASH, 3000) };
    for (num_want, got) in [(0, 0), (7, 7), (-1, 50), (i32::MIN, 50), (200, 200), (i32::MAX, 200)] {
        assert_eq!(v4.announce(&wanting(num_want)).await.peers.len(), got, "{num_want}");
    }
    // In another swarm: where all have IPv6, all that are chosen can be told.
    let tracker = serving("[::]:0").await;
    let v6 = Client::new(&tracker, "::1").await;
    for port in 2000..2100 {
        v6.announce(&Announce { num_want: 0, ..Announce::new(HASH, port) }).await;
    }
    for (num_want, got) in [(0, 0), (7, 7), (-1, 50), (i32::MAX, 74)] {
        assert_eq!(v6.announce(&wanting(num_want)).await.peers.len(), got, "{num_want}");
    }
}

#[tokio::test]
async fn t049_a_torrent_that_is_not_served_is_refused_in_words() {
    let tracker = serving("127.0.0.1:0").await;
    let client = Client::new(&tracker, "127.0.0.2").await;
    let words = client.refused(1, &Announce::new(OTHER, 2001).body()).await;
    assert_eq!(words, "this tracker does not serve this torrent");
    let open = start("127.0.0.1:0", true).await;
    assert_eq!(
        Client::new(&open, "127.0.0.2").await.announce(&Announce::new(OTHER, 2001)).await.incomplete,
        1
    );
}

#[tokio::test]
async fn t055_a_scrape_of_74_is_answered_and_one_of_75_is_cut() {
    let tracker = serving("127.0.0.1:0").await;
    let client = Client::new(&tracker, "127.0.0.2").await;
    client.announce(&Announce { left: 0, ..Announce::new(HASH, 2001) }).await;
    let mut hashes = vec![OTHER; 73];
    hashes.push(HASH);
    let said = client.scrape(&hashes).await;
    assert_eq!((said.len(), said[0], said[73]), (74, [0, 0, 0], [1, 0, 0]), "in the order of the request");
    hashes.push(HASH);
    assert_eq!(client.scrape(&hashes).await.len(), 74);
    assert_eq!(client.scrape(&[HASH, HASH]).await, [[1, 0, 0]; 2]);
    // Not whole hashes: what is there of one more is passed over.
    assert_eq!(client.ask(2, &[&HASH[..], &[1; 19]].concat()).await.len(), 12);
    assert!(client.refused(2, &[]).await.contains("name the torrents"));
}

#[tokio::test]
async fn t056_short_and_foreign_packets_get_no_answer() {
    let tracker = serving("127.0.0.1:0").await;
    let client = Client::new(&tracker, "127.0.0.2").await;
    let whole = connect(*b"tran");
    for length in 0..16 {
        assert!(!client.is_answered(&whole[..length]).await, "{length} bytes");
    }
    assert!(client.is_answered(&whole).await, "the test can fail");
    assert!(client.is_answered(&[&whole[..], &[0; 100]].concat()).await, "BEP 15: at least 16 bytes");
    let mut wrong = whole.clone();
    wrong[7] ^= 1;
    assert!(!client.is_answered(&wrong).await, "another number than the magic one");
    let id = client.connect().await;
    let announce = request(id, 1, &Announce::new(HASH, 2001).body());
    assert!(client.is_answered(&announce).await);
    assert!(!client.is_answered(&announce[..97]).await, "a short announce");
    assert!(!client.is_answered(&request(id, 4, &announce[16..])).await, "an action that nobody knows");
    assert!(!client.is_answered(&request(id, 3, &announce[16..])).await, "an error");
    assert!(!client.is_answered(&[0xff; 9_000]).await, "a long one");
}

#[tokio::test]
async fn t057_wrong_connection_ids_get_no_answer() {
    let tracker = serving("127.0.0.1:0").await;
    let (client, other) =
        (Client::new(&tracker, "127.0.0.2").await, Client::new(&tracker, "127.0.0.3").await);
    let right = client.connect().await;
    let body = Announce::new(HASH, 2001).body();
    let guessed = right.map(|byte| byte ^ 0x55);
    for (what, id) in [
        ("guessed", guessed),
        ("zero", [0; 8]),
        ("the magic number", MAGIC),
        ("of another source", other.connect().await),
        ("121 s old", ids_of_the_class("127.0.0.2", 121)),
    ] {
        assert!(!client.is_answered(&request(id, 1, &body)).await, "{what}");
        assert!(!client.is_answered(&request(id, 2, &HASH)).await, "{what}");
        assert!(!client.is_answered(&request(id, 1, &body[..10])).await, "{what}");
    }
    assert_eq!(client.scrape(&[HASH]).await, [[0, 0, 0]], "and nothing was stored");
    assert!(client.is_answered(&request(right, 1, &body)).await);
}

#[tokio::test]
async fn t057_an_id_of_one_replica_is_good_for_the_other_until_it_is_old() {
    let (a, b) = (serving("127.0.0.1:0").await, serving("127.0.0.1:0").await);
    let (at_a, at_b) = (Client::new(&a, "127.0.0.2").await, Client::new(&b, "127.0.0.2").await);
    let body = Announce::new(HASH, 2001).body();
    assert!(at_b.is_answered(&request(at_a.connect().await, 1, &body)).await);
    assert!(at_b.is_answered(&request(ids_of_the_class("127.0.0.2", 119), 1, &body)).await, "119 s");
    assert!(!at_b.is_answered(&request(ids_of_the_class("127.0.0.2", 121), 1, &body)).await, "121 s");
}

#[tokio::test]
async fn t059_ids_change_on_restart_where_there_is_no_token() {
    let public = || Config { public: true, ..Config::default() };
    let (a, b) = (start_with("127.0.0.1:0", public()).await, start_with("127.0.0.1:0", public()).await);
    let (at_a, at_b) = (Client::new(&a, "127.0.0.2").await, Client::new(&b, "127.0.0.2").await);
    let body = Announce::new(HASH, 2001).body();
    let id = at_a.connect().await;
    assert!(at_a.is_answered(&request(id, 1, &body)).await);
    assert!(!at_b.is_answered(&request(id, 1, &body)).await);
}

/// Of any length, and with a first part that often is nearly right.
fn random_packet(rng: &mut impl Rng) -> Vec<u8> {
    let mut packet = vec![0; rng.random_range(0..200)];
    rng.fill(&mut packet[..]);
    if packet.len() >= 12 {
        packet[8..12].copy_from_slice(&rng.random_range(0u32..4).to_be_bytes());
        if rng.random_bool(0.3) {
            packet[..8].copy_from_slice(&MAGIC);
        }
    }
    packet
}

#[tokio::test]
async fn t058_no_more_bytes_go_out_than_came_in_for_unproven_sources() {
    // A release build can afford ten times as many.
    let rounds = if cfg!(debug_assertions) { 2_000 } else { 20_000 };
    let tracker = serving("127.0.0.1:0").await;
    let client = Client::new(&tracker, "127.0.0.2").await;
    let mut rng = SmallRng::seed_from_u64(58);
    let (mut bytes_in, mut bytes_out, mut connects, mut answers) = (0, 0, 0, 0);
    for _ in 0..rounds {
        // Few enough at a time that no buffer overflows.
        for _ in 0..49 {
            let packet = random_packet(&mut rng);
            bytes_in += packet.len();
            connects += usize::from(packet.len() >= 16 && packet[..8] == MAGIC && packet[8..12] == [0; 4]);
            client.send(&packet).await;
        }
        client.send(&connect(*b"last")).await;
        loop {
            let answer = client.receive().await;
            if answer[4..8] == *b"last" {
                break;
            }
            answers += 1;
            bytes_out += answer.len();
        }
    }
    assert_eq!((answers, bytes_out), (connects, 16 * connects), "16 for 16, and for nothing else");
    assert!(connects > 0 && bytes_out <= bytes_in, "{bytes_out} for {bytes_in}");
}

#[tokio::test]
async fn t060_the_transaction_is_echoed_and_no_answer_is_larger_than_a_frame() {
    let tracker = start("[::]:0", true).await;
    for (from, size) in [("127.0.0.2", 20 + 200 * 6), ("::1", 20 + 74 * 18)] {
        let client = Client::new(&tracker, from).await;
        let id = client.connect().await;
        let mut hash = HASH;
        hash[0] = from.as_bytes()[0];
        let mut last = 0;
        for port in 2000..2250 {
            let announce = Announce { num_want: i32::MAX, ..Announce::new(hash, port) };
            let mut packet = request(id, 1, &announce.body());
            packet[12..16].copy_from_slice(&[0xff, 0, port as u8, 0x80]);
            client.send(&packet).await;
            let answer = client.receive().await;
            assert_eq!(answer[..8], [0, 0, 0, 1, 0xff, 0, port as u8, 0x80]);
            last = answer.len();
        }
        assert_eq!(last, size);
        let mut packet = request(id, 2, &[9; 20 * 100]);
        packet[12..16].copy_from_slice(&[0; 4]);
        client.send(&packet).await;
        let answer = client.receive().await;
        assert_eq!((answer.len(), &answer[..8]), (8 + 74 * 12, &[0, 0, 0, 2, 0, 0, 0, 0][..]));
    }
}

#[tokio::test]
async fn options_of_bep_41_change_nothing_known_or_unknown_whole_or_not() {
    let tracker = serving("127.0.0.1:0").await;
    let client = Client::new(&tracker, "127.0.0.2").await;
    let announce = Announce::new(HASH, 2001);
    let ignoring_interval = |announced| udp::Announced { interval: 0, ..announced };
    let plain = ignoring_interval(client.announce(&announce).await);
    let options: [&[u8]; 8] = [
        &[0],
        &[1, 1, 1],
        b"\x02\x09/announce\0",
        b"\x02\xff/announce",
        &[2],
        &[0x77, 3, 1, 2, 3],
        &[0x77, 200, 1],
        &[0xff; 1_000],
    ];
    for options in options {
        let answer = ignoring_interval(client.announce_with(&announce, options).await);
        assert_eq!(answer, plain, "{options:?}");
    }
}

#[tokio::test]
async fn a_new_peer_id_on_the_same_address_and_port_replaces_the_old_one() {
    let tracker = serving("127.0.0.1:0").await;
    let client = Client::new(&tracker, "127.0.0.2").await;
    client.announce(&Announce::new(HASH, 2001)).await;
    let renamed = Announce { peer_id: *b"-YY0001-abcdefghijkl", ..Announce::new(HASH, 2001) };
    assert_eq!(client.announce(&renamed).await.incomplete, 1);
    assert_eq!(client.scrape(&[HASH]).await, [[0, 0, 1]]);
}

#[tokio::test]
async fn started_completed_and_stopped_are_counted() {
    let tracker = serving("127.0.0.1:0").await;
    let client = Client::new(&tracker, "127.0.0.2").await;
    let with = |event, left| Announce { left, event, ..Announce::new(HASH, 2001) };
    for (event, left, counts) in [
        (2, 5, [0, 0, 1]),
        (0, u64::MAX, [0, 0, 1]),
        (1, 0, [1, 1, 0]),
        (1, 0, [1, 1, 0]),
        (9, 5, [0, 1, 1]),
        (3, 5, [0, 1, 0]),
    ] {
        client.announce(&with(event, left)).await;
        assert_eq!(client.scrape(&[HASH]).await, [counts], "event {event}, left {left}");
    }
}

#[tokio::test]
async fn both_names_of_a_hybrid_are_one_swarm() {
    let tracker = start("127.0.0.1:0", false).await;
    let (v1, v2) = ([0x11; 20], [0x22; 32]);
    let swarms = vec![swarm("rev", &[hex::encode(v1), hex::encode(v2)])];
    tracker.register(&Registry { swarms, ..Registry::default() }).await;
    let cut: [u8; 20] = v2[..20].try_into().unwrap();
    Client::new(&tracker, "127.0.0.2").await.announce(&Announce::new(cut, 2001)).await;
    let other = Client::new(&tracker, "127.0.0.3").await;
    assert_eq!(other.announce(&Announce::new(v1, 2002)).await.peers, ["127.0.0.2:2001"]);
    assert_eq!(other.scrape(&[v1, cut]).await, [[0, 0, 2]; 2]);
}

#[tokio::test]
async fn what_is_answered_and_what_is_not_is_counted() {
    let tracker = serving("127.0.0.1:0").await;
    let client = Client::new(&tracker, "127.0.0.2").await;
    client.announce(&Announce::new(HASH, 2001)).await;
    client.refused(1, &Announce::new(OTHER, 2001).body()).await;
    client.refused(1, &Announce::new(HASH, 1).body()).await;
    client.scrape(&[HASH]).await;
    client.is_answered(&[0; 3]).await;
    client.is_answered(&request([0; 8], 2, &HASH)).await;
    let wanted = [
        "announces_total{kind=\"stranger\"} 1",
        "scrapes_total 1",
        "rejected_total{reason=\"torrent\"} 1",
        "rejected_total{reason=\"query\"} 1",
        "udp_answers_total{answer=\"announce\"} 1",
        "udp_answers_total{answer=\"scrape\"} 1",
        "udp_answers_total{answer=\"error\"} 2",
        "udp_answers_total{answer=\"connect\"} 6",
        "udp_dropped_total{reason=\"malformed\"} 1",
        "udp_dropped_total{reason=\"connection_id\"} 1",
        "udp_dropped_total{reason=\"send\"} 0",
    ];
    let mut metrics = String::new();
    let missing = |metrics: &str| {
        let lines = wanted.iter().map(|line| format!("samara_tracker_{line}\n"));
        lines.filter(|line| !metrics.contains(line)).collect::<Vec<_>>()
    };
    // An answer is sent before it is counted, so the last one may be missing at first.
    for _ in 0..500 {
        metrics = tracker.get("/metrics").await.text();
        if missing(&metrics).is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(missing(&metrics), Vec::<String>::new(), "{metrics}");
}
