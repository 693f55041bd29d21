//! Announces and scrapes over a real socket, as bytes.
#![allow(clippy::unwrap_used)] // a failure is the test's failure

mod common;

use common::{Running, TOKEN, closed, encode, node, query, start, swarm};
use tracker_api::Registry;

/// Every byte that a query, a log or UTF-8 could stumble over.
const HASH: [u8; 20] = [
    0x00, 0xff, b'&', b'=', b'%', b'+', b' ', b'#', b'?', b'/', 0x80, 0xc3, 0x28, 0xed, 0xa0, 0x80, b'\r',
    b'\n', b'"', 0x7f,
];

async fn serving(listen: &str) -> Running {
    let tracker = start(listen, false).await;
    let nodes = vec![node("a", &["10.1.0.1", "fd00::1"]), node("b", &["10.1.0.2"]), node("none", &[])];
    tracker
        .register(&Registry { swarms: vec![swarm("rev", &[hex::encode(HASH)])], nodes, networks: vec![] })
        .await;
    tracker
}

#[tokio::test]
async fn clients_find_each_other_by_twenty_binary_bytes() {
    let tracker = serving("127.0.0.1:0").await;
    let first = tracker.announce("127.0.0.2", &query(&HASH, 2001)).await;
    assert_eq!((first.status, first.peers()), (200, vec![]));
    let second = tracker.announce("127.0.0.3", &query(&HASH, 2002)).await;
    assert_eq!(second.peers(), ["127.0.0.2:2001"]);
    let dict = second.bencode();
    let int = |key| dict.get(key).unwrap().as_int().unwrap();
    assert_eq!((int("complete"), int("incomplete")), (0, 2));
    assert!((270..=330).contains(&int("interval")), "{}", int("interval"));
    assert_eq!(int("min interval"), int("interval") / 2);
    assert_eq!(dict.get("external ip").unwrap().as_bytes().unwrap(), [127, 0, 0, 3]);
    let epoch =
        tracker.send("GET", tracker_api::REGISTRY_PATH, Some(TOKEN), &[]).await.json()["epoch"].clone();
    assert_eq!(dict.get("tracker id").unwrap().as_str().unwrap(), epoch.as_str().unwrap());
}

#[tokio::test]
async fn both_families_are_answered() {
    let tracker = serving("[::]:0").await;
    tracker.announce("127.0.0.2", &query(&HASH, 2001)).await;
    let answer = tracker.announce("::1", &query(&HASH, 2002)).await;
    assert_eq!(answer.peers(), ["127.0.0.2:2001"]);
    assert_eq!(answer.bencode().get("external ip").unwrap().as_bytes().unwrap().len(), 16);
    let answer = tracker.announce("127.0.0.3", &query(&HASH, 2003)).await;
    assert_eq!(answer.peers(), ["127.0.0.2:2001", "[::1]:2002"]);
}

#[tokio::test]
async fn the_long_form_is_answered_when_asked_for() {
    let tracker = serving("127.0.0.1:0").await;
    tracker.announce("127.0.0.2", &query(&HASH, 2001)).await;
    let answer = tracker.announce("127.0.0.3", &format!("{}&compact=0", query(&HASH, 2002))).await;
    let peers = answer.bencode().get("peers").unwrap().as_list().unwrap();
    let peer = peers.iter().next().unwrap().as_dict().unwrap();
    assert_eq!(peer.get("ip").unwrap().as_str().unwrap(), "127.0.0.2");
    assert_eq!(peer.get("port").unwrap().as_int().unwrap(), 2001);
}

#[tokio::test]
async fn old_clients_and_connections_that_stay_are_served() {
    let tracker = serving("127.0.0.1:0").await;
    let old = format!("GET /announce?{} HTTP/1.0\r\n\r\n", query(&HASH, 2001));
    assert_eq!(tracker.raw([127, 0, 0, 2].into(), old.as_bytes()).await.status, 200);
    let line = format!("GET /announce?{} HTTP/1.1\r\nhost: x\r\n", query(&HASH, 2002));
    let twice = format!("{line}\r\n{line}connection: close\r\n\r\n");
    let answer = tracker.raw([127, 0, 0, 3].into(), twice.as_bytes()).await;
    assert_eq!(
        answer.body.windows(15).filter(|part| part == b"HTTP/1.1 200 OK").count(),
        1,
        "the second on the same connection"
    );
}

#[tokio::test]
async fn t045_malformed_ids_get_a_failure_reason_and_leave_nothing() {
    let tracker = serving("127.0.0.1:0").await;
    for id in [
        String::new(),
        encode(&[1; 19]),
        encode(&[1; 21]),
        encode(&[1; 10_000]),
        "%zz".to_owned(),
        "%".to_owned(),
    ] {
        let answer = tracker
            .announce("127.0.0.2", &format!("info_hash={id}&peer_id=-XX0001-abcdefghijkl&port=2001&left=1"))
            .await;
        assert_eq!(answer.status, 400);
        assert!(answer.failure().contains("info_hash"), "{}", answer.failure());
    }
    let twice =
        tracker.announce("127.0.0.2", &format!("{}&info_hash={}", query(&HASH, 2001), encode(&HASH))).await;
    assert_eq!((twice.status, twice.failure().as_str()), (400, "info_hash is given more than once"));
    assert_eq!(tracker.announce("127.0.0.2", "").await.status, 400);
    assert_eq!(tracker.announce("127.0.0.3", &query(&HASH, 2002)).await.peers(), Vec::<String>::new());
}

#[tokio::test]
async fn t046_the_address_is_that_of_the_connection() {
    let tracker = serving("127.0.0.1:0").await;
    tracker
        .announce(
            "127.0.0.2",
            &format!("{}&ip=203.0.113.9&ipv4=203.0.113.9&ipv6=2001:db8::9", query(&HASH, 2001)),
        )
        .await;
    assert_eq!(tracker.announce("127.0.0.3", &query(&HASH, 2002)).await.peers(), ["127.0.0.2:2001"]);
}

#[tokio::test]
async fn t047_ports_of_other_services_are_never_handed_out() {
    let tracker = serving("127.0.0.1:0").await;
    for port in ["0", "22", "1023", "65536", "-1"] {
        let answer = tracker
            .announce("127.0.0.2", &query(&HASH, 2001).replace("port=2001", &format!("port={port}")))
            .await;
        assert_eq!(answer.status, 400);
        assert!(answer.failure().contains("port"), "{}", answer.failure());
    }
    assert_eq!(tracker.announce("127.0.0.3", &query(&HASH, 2002)).await.peers(), Vec::<String>::new());
}

#[tokio::test]
async fn t048_numwant_is_capped() {
    let tracker = serving("127.0.0.1:0").await;
    for port in 2000..2250 {
        tracker.announce("127.0.0.2", &format!("{}&numwant=0", query(&HASH, port))).await;
    }
    for (wanted, got) in
        [("numwant=2147483648", 200), ("numwant=-1", 50), ("x=1", 50), ("numwant=0", 0), ("numwant=7", 7)]
    {
        let answer = tracker.announce("127.0.0.3", &format!("{}&{wanted}", query(&HASH, 3000))).await;
        assert_eq!(answer.peers().len(), got, "{wanted}");
    }
}

#[tokio::test]
async fn t049_an_infohash_that_nobody_registered_is_refused_in_words() {
    let tracker = serving("127.0.0.1:0").await;
    let answer = tracker.announce("127.0.0.2", &query(&[9; 20], 2001)).await;
    assert_eq!((answer.status, answer.failure().as_str()), (200, "this tracker does not serve this torrent"));
    let open = start("127.0.0.1:0", true).await;
    open.announce("127.0.0.2", &query(&[9; 20], 2001)).await;
    assert_eq!(open.announce("127.0.0.3", &query(&[9; 20], 2002)).await.peers(), ["127.0.0.2:2001"]);
}

#[tokio::test]
async fn t055_a_scrape_names_torrents_and_not_too_many() {
    let tracker = serving("127.0.0.1:0").await;
    tracker.announce("127.0.0.2", &query(&HASH, 2001)).await;
    assert_eq!(tracker.get("/scrape").await.status, 400);
    let answer =
        tracker.get(&format!("/scrape?info_hash={}&info_hash={}", encode(&HASH), encode(&[9; 20]))).await;
    let files = answer.bencode().get("files").unwrap().as_dict().unwrap();
    assert_eq!(files.iter().count(), 1, "what is not served is left out");
    assert_eq!(files.get(HASH).unwrap().as_dict().unwrap().get("incomplete").unwrap().as_int(), Some(1));
    let many = (0..75).map(|_| format!("info_hash={}", encode(&[9; 20]))).collect::<Vec<_>>().join("&");
    let answer = tracker.get(&format!("/scrape?{many}&info_hash={}", encode(&HASH))).await;
    assert_eq!(answer.bencode().get("files").unwrap().as_dict().unwrap().iter().count(), 0, "cut after 74");
    let huge = vec!["info_hash=aaaaaaaaaaaaaaaaaaaa"; 10_000].join("&");
    let answer = tracker.get(&format!("/scrape?{huge}")).await;
    assert!([400, 414, 431].contains(&answer.status), "{}", answer.status);
}

#[tokio::test]
async fn a_node_is_reached_where_it_is_registered() {
    let tracker = serving("127.0.0.1:0").await;
    let answer = tracker.announce_as("a", Some(TOKEN), &query(&HASH, 6881)).await;
    assert_eq!(answer.bencode().get("interval").unwrap().as_int(), Some(5));
    let answer = tracker.announce("127.0.0.2", &query(&HASH, 2001)).await;
    assert_eq!(answer.peers(), ["10.1.0.1:6881", "[fd00::1]:6881"]);
    let answer = tracker.announce_as("b", Some(TOKEN), &query(&HASH, 6882)).await;
    assert_eq!(answer.peers(), ["10.1.0.1:6881", "127.0.0.2:2001", "[fd00::1]:6881"]);
}

#[tokio::test]
async fn a_node_is_believed_only_with_the_token() {
    let tracker = serving("127.0.0.1:0").await;
    for token in [None, Some("wrong"), Some("")] {
        let answer = tracker.announce_as("a", token, &query(&HASH, 6881)).await;
        assert_eq!((answer.status, answer.failure().as_str()), (401, "the token is not the tracker's"));
    }
    let unknown = tracker.announce_as("elsewhere", Some(TOKEN), &query(&HASH, 6881)).await;
    assert_eq!((unknown.status, unknown.failure().as_str()), (200, "this tracker does not know this node"));
    let nowhere = tracker.announce_as("none", Some(TOKEN), &query(&HASH, 6881)).await;
    assert_eq!(nowhere.failure(), "the node has no address yet");
    assert_eq!(tracker.announce("127.0.0.3", &query(&HASH, 2002)).await.peers(), Vec::<String>::new());
}

#[tokio::test]
async fn both_names_of_a_hybrid_are_one_swarm() {
    let tracker = closed().await;
    let (v1, v2) = ([0x11; 20], [0x22; 32]);
    let cut: [u8; 20] = v2[..20].try_into().unwrap();
    let swarms = vec![swarm("rev", &[hex::encode(v1), hex::encode(v2)])];
    tracker.register(&Registry { swarms, ..Registry::default() }).await;
    tracker.announce("127.0.0.2", &query(&cut, 2001)).await;
    assert_eq!(tracker.announce("127.0.0.3", &query(&v1, 2002)).await.peers(), ["127.0.0.2:2001"]);
}
