//! Conformance of the tracker's HTTP over a real socket: what clients of any age send, and what nobody should.
#![allow(clippy::unwrap_used)] // a failure is the test's failure

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::conversation::Conversation;
use common::{Running, TOKEN, encode, node, query, start, start_with, swarm};
use tokio::io::AsyncWriteExt;
use tracker::limits::MAX_SCRAPE;
use tracker_api::Registry;

const HASH: [u8; 20] = [7; 20];

async fn open() -> Running {
    start("127.0.0.1:0", true).await
}

fn announce(port: u16) -> String {
    format!("GET /announce?{} HTTP/1.1\r\nHost: x\r\n\r\n", query(&HASH, port))
}

#[tokio::test]
async fn an_announce_without_event_and_left_counts_as_a_leecher() {
    let tracker = open().await;
    let bare = format!("info_hash={}&peer_id=-XX0001-abcdefghijkl&port=2001", encode(&HASH));
    let answer = tracker.announce("127.0.0.2", &bare).await;
    assert_eq!((answer.status, answer.int("complete"), answer.int("incomplete")), (200, 0, 1));
}

#[tokio::test]
async fn a_key_of_raw_bytes_is_passed_over() {
    let tracker = open().await;
    let aria2 = format!("{}&key=%00%FF%26%3D%25%0D%0A%80&compact=1&supportcrypto=1", query(&HASH, 2001));
    assert_eq!(tracker.announce("127.0.0.2", &aria2).await.status, 200);
    assert_eq!(tracker.announce("127.0.0.3", &query(&HASH, 2002)).await.peers(), ["127.0.0.2:2001"]);
}

#[tokio::test]
async fn numwant_absent_0_minus_1_and_200() {
    let tracker = open().await;
    let mut seeder = Conversation::open(&tracker, "127.0.0.2").await;
    for port in 2000..2250 {
        seeder.send(announce(port).as_bytes()).await;
        seeder.answer().await;
    }
    for (wish, got) in [("", 50), ("&numwant=0", 0), ("&numwant=-1", 50), ("&numwant=200", 200)] {
        let answer = tracker.announce("127.0.0.3", &format!("{}{wish}", query(&HASH, 3000))).await;
        assert_eq!(answer.peers().len(), got, "{wish}");
    }
}

#[tokio::test]
async fn a_new_peer_id_on_the_same_address_replaces_the_old_one() {
    let tracker = open().await;
    let first = query(&HASH, 2001);
    tracker.announce("127.0.0.2", &first).await;
    tracker.announce("127.0.0.2", &first.replace("-XX0001-", "-YY0002-")).await;
    let answer = tracker.announce("127.0.0.3", &query(&HASH, 2002)).await;
    assert_eq!((answer.peers(), answer.int("incomplete")), (vec!["127.0.0.2:2001".to_owned()], 2));
}

#[tokio::test]
async fn left_0_and_then_more_is_a_leecher_again() {
    let tracker = open().await;
    let seeding = query(&HASH, 2001).replace("left=5", "left=0");
    let answer = tracker.announce("127.0.0.2", &seeding).await;
    assert_eq!((answer.int("complete"), answer.int("incomplete")), (1, 0));
    let answer = tracker.announce("127.0.0.2", &query(&HASH, 2001)).await;
    assert_eq!((answer.int("complete"), answer.int("incomplete")), (0, 1));
}

#[tokio::test]
async fn port_0_is_refused_in_words() {
    let answer = open().await.announce("127.0.0.2", &query(&HASH, 2001).replace("2001", "0")).await;
    assert_eq!((answer.status, answer.failure().as_str()), (400, "port must be between 1024 and 65535"));
}

#[tokio::test]
async fn a_scrape_of_74_is_answered_for_all_and_one_of_1000_for_the_first_74() {
    let tracker = open().await;
    let name = |nth: u16| -> [u8; 20] { format!("torrent-number-{nth:05}").into_bytes().try_into().unwrap() };
    let mut client = Conversation::open(&tracker, "127.0.0.2").await;
    for nth in 0..100 {
        let line = format!("GET /announce?{} HTTP/1.1\r\n\r\n", query(&name(nth), 2001));
        client.send(line.as_bytes()).await;
        client.answer().await;
    }
    for asked in [MAX_SCRAPE as u16, 1000] {
        let names: Vec<String> = (0..asked)
            .map(|nth| format!("info_hash={}", String::from_utf8(name(nth).to_vec()).unwrap()))
            .collect();
        client.send(format!("GET /scrape?{} HTTP/1.1\r\n\r\n", names.join("&")).as_bytes()).await;
        let answer = client.answer().await;
        let files = answer.bencode().get("files").unwrap().as_dict().unwrap();
        assert_eq!(files.iter().count(), MAX_SCRAPE, "{asked}");
    }
}

#[tokio::test]
async fn http_1_0_is_closed_unless_it_asks_to_stay() {
    let tracker = open().await;
    let mut client = Conversation::open(&tracker, "127.0.0.2").await;
    let line = format!("GET /announce?{} HTTP/1.0\r\n", query(&HASH, 2001));
    client.send(format!("{line}Connection: keep-alive\r\n\r\n").as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
    client.send(format!("{line}\r\n").as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn libtorrent_closes_after_each_answer_and_would_take_gzip() {
    let tracker = open().await;
    let mut client = Conversation::open(&tracker, "127.0.0.2").await;
    let request = format!(
        "GET /announce?{}&key=5A1B2C3D&event=started&numwant=200 HTTP/1.1\r\nHost: 127.0.0.1:6969\r\n\
         User-Agent: libtorrent/2.0.8.0\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n",
        query(&HASH, 2001)
    );
    client.send(request.as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("content-encoding")), (200, None));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_hundred_pipelined_requests_are_answered_in_order() {
    let tracker = open().await;
    let mut client = Conversation::open(&tracker, "127.0.0.2").await;
    client.send((0..100).map(|nth| announce(2000 + nth)).collect::<String>().as_bytes()).await;
    for nth in 1..=100 {
        assert_eq!(client.answer().await.int("incomplete"), nth, "the swarm grows with each");
    }
}

#[tokio::test]
async fn requests_may_come_byte_by_byte() {
    let tracker = open().await;
    let mut client = Conversation::open(&tracker, "127.0.0.2").await;
    let requests = [announce(2001), announce(2002), "GET /scrape HTTP/1.1\n\n".to_owned()].concat();
    for byte in requests.as_bytes() {
        client.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await.int("incomplete"), 1);
    assert_eq!(client.answer().await.int("incomplete"), 2);
    assert_eq!(client.answer().await.status, 400);
}

#[tokio::test]
async fn requests_may_be_split_anywhere() {
    let tracker = open().await;
    let mut client = Conversation::open(&tracker, "127.0.0.2").await;
    let pair = [announce(2001), announce(2002)].concat();
    for at in 1..pair.len() {
        client.send(&pair.as_bytes()[..at]).await;
        // Without a pause both parts would be read as one; what is asserted does not depend on it.
        tokio::time::sleep(Duration::from_micros(100)).await;
        client.send(&pair.as_bytes()[at..]).await;
        assert_eq!((client.answer().await.status, client.answer().await.status), (200, 200), "{at}");
    }
}

#[tokio::test]
async fn head_has_the_length_of_the_answer_and_no_body() {
    let tracker = open().await;
    let mut client = Conversation::open(&tracker, "127.0.0.2").await;
    client.send(announce(2001).replace("GET", "HEAD").as_bytes()).await;
    let head = client.head().await;
    client.send(announce(2001).as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!(head.header("content-length"), Some(answer.body.len().to_string().as_str()));
    assert_eq!(answer.int("incomplete"), 1, "the next answer begins where the head ended");
}

#[tokio::test]
async fn other_resources_and_announces_share_a_connection() {
    let tracker = open().await;
    let mut client = Conversation::open(&tracker, "127.0.0.2").await;
    let metrics = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
    client.send([announce(2001), announce(2002), metrics.into(), announce(2003)].concat().as_bytes()).await;
    assert_eq!((client.answer().await.int("incomplete"), client.answer().await.int("incomplete")), (1, 2));
    let text = client.answer().await.text();
    assert!(text.contains("samara_tracker_announces_total{kind=\"stranger\"} 2\n"), "{text}");
    assert_eq!(client.answer().await.int("incomplete"), 3, "handed over, and still an announce");
    let put = format!(
        "PUT /v1/registry HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 24\r\n\r\n{{\"swarms\":[],\"nodes\":[]}}"
    );
    client.send(put.as_bytes()).await;
    assert_eq!(client.answer().await.status, 200);
    client.send(announce(2004).replace("/announce", "/token/announce").as_bytes()).await;
    assert_eq!(client.answer().await.status, 200);
    client.send(b"POST /announce HTTP/1.1\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 405);
    client.send(b"GET /elsewhere HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 404);
}

#[tokio::test]
async fn a_body_is_handed_over_with_what_was_read_of_it() {
    let tracker = open().await;
    let body = serde_json::to_vec(&Registry {
        swarms: (0..5000).map(|nth| swarm(&format!("r{nth}"), &[format!("{nth:040x}")])).collect(),
        ..Registry::default()
    })
    .unwrap();
    let mut client = Conversation::open(&tracker, "127.0.0.2").await;
    let head = format!(
        "PUT /v1/registry HTTP/1.1\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client
        .send(&[announce(2001).as_bytes(), head.as_bytes(), &body, announce(2002).as_bytes()].concat())
        .await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.answer().await.status, 200, "{} bytes", body.len());
    assert_eq!(client.answer().await.int("incomplete"), 2);
}

#[tokio::test]
async fn a_sidecar_is_known_by_its_authorization() {
    let tracker = start("127.0.0.1:0", false).await;
    let nodes = vec![node("a", &["10.1.0.1"])];
    tracker
        .register(&Registry { swarms: vec![swarm("r", &[hex::encode(HASH)])], nodes, ..Registry::default() })
        .await;
    let mut client = Conversation::open(&tracker, "127.0.0.2").await;
    let request = |token: &str| {
        format!(
            "GET /announce?{}&node=a HTTP/1.1\r\nAUTHORIZATION: bearer {token}\r\n\r\n",
            query(&HASH, 6881)
        )
    };
    client.send(request(TOKEN).as_bytes()).await;
    assert_eq!(client.answer().await.int("interval"), 5);
    client.send(request("wrong").as_bytes()).await;
    let refused = client.answer().await;
    assert_eq!((refused.status, refused.failure().as_str()), (401, "the token is not the tracker's"));
    client.send(announce(2001).as_bytes()).await;
    assert_eq!(client.answer().await.peers(), ["10.1.0.1:6881"]);
}

#[tokio::test]
async fn targets_may_be_absolute_encoded_or_behind_a_token() {
    let tracker = open().await;
    let mut client = Conversation::open(&tracker, "127.0.0.2").await;
    for path in [
        "/announce",
        "http://tracker.example:6969/announce",
        "/%61nnounce",
        "/s3cret/announce",
        "http://x/s3cret/announce",
    ] {
        client.send(announce(2001).replace("/announce", path).as_bytes()).await;
        assert_eq!(client.answer().await.status, 200, "{path}");
    }
    client.send(format!("GET /s3cret/scrape?info_hash={} HTTP/1.1\r\n\r\n", encode(&HASH)).as_bytes()).await;
    assert!(client.answer().await.bencode().get("files").is_some());
}

#[tokio::test]
async fn duplicate_and_unknown_headers_are_passed_over() {
    let tracker = open().await;
    let mut client = Conversation::open(&tracker, "127.0.0.2").await;
    let headers = "Host: a\r\nHost: b\r\nX-Forwarded-For: 203.0.113.9\r\nUser-Agent: \x01\r\n";
    client.send(announce(2001).replace("Host: x\r\n", &headers.replace('\x01', "\t\u{e9}")).as_bytes()).await;
    let answer = client.answer().await;
    assert_eq!(answer.bencode().get("external ip").unwrap().as_bytes().unwrap(), [127, 0, 0, 2]);
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let tracker = open().await;
    for bad in ["\x16\x03\x01\x02\x00", "GET /announce\r\n\r\n", "GET /announce HTTP/1.1\r\na b: c\r\n\r\n"] {
        let mut client = Conversation::open(&tracker, "127.0.0.2").await;
        client.send(&[announce(2001).as_bytes(), bad.as_bytes()].concat()).await;
        assert_eq!(client.answer().await.status, 200);
        assert_eq!(client.answer().await.status, 400, "{bad:?}");
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn t052_a_head_of_a_megabyte_is_refused() {
    let tracker = open().await;
    for (long, status) in [
        (announce(2001).replace("\r\n\r\n", &format!("\r\nx: {}\r\n\r\n", "a".repeat(1 << 20))), "431"),
        (announce(2001).replace(" HTTP", &format!("&x={} HTTP", "a".repeat(1 << 20))), "4"),
        (announce(2001).replace("\r\n\r\n", &format!("\r\n{}\r\n", "x: y\r\n".repeat(100))), "431"),
    ] {
        let mut client = Conversation::open(&tracker, "127.0.0.2").await;
        client.send(announce(2002).as_bytes()).await;
        assert_eq!(client.answer().await.status, 200);
        client.try_send(long.as_bytes()).await;
        // It may be gone before the client has read why: it does not read what it has refused.
        let rest = client.rest().await;
        assert!(rest.is_empty() || rest.starts_with(&format!("HTTP/1.1 {status}")), "{rest}");
    }
    assert_eq!(tracker.announce("127.0.0.3", &query(&HASH, 2003)).await.peers(), ["127.0.0.2:2002"]);
}

#[tokio::test]
async fn t052_streams_of_http_2_that_are_opened_and_reset_are_nothing_here() {
    const OPENED: u32 = 10_000;
    let tracker = open().await;
    let mut rapid = Conversation::open(&tracker, "127.0.0.2").await;
    rapid.try_send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    for stream in (0..OPENED).map(|nth| (2 * nth + 1).to_be_bytes()) {
        let headers = [&b"\0\0\x01\x01\x05"[..], &stream, b"\x82"].concat();
        let reset = [&b"\0\0\x04\x03\0"[..], &stream, &[0, 0, 0, 8]].concat();
        rapid.try_send(&[headers, reset].concat()).await;
    }
    let rest = rapid.rest().await;
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 4"), "{rest:?}");
    assert_eq!(tracker.announce("127.0.0.3", &query(&HASH, 2003)).await.status, 200);
}

#[tokio::test]
async fn t052_a_slow_head_and_an_idle_connection_are_cut() {
    let tracker = start_with("127.0.0.1:0", true, |serve| {
        serve.header_timeout = Duration::from_millis(300);
    })
    .await;
    let mut idle = Conversation::open(&tracker, "127.0.0.2").await;
    idle.send(announce(2001).as_bytes()).await;
    assert_eq!(idle.answer().await.status, 200);
    assert!(idle.is_closed().await, "after an answer");
    let mut slow = Conversation::open(&tracker, "127.0.0.2").await;
    for byte in announce(2002).as_bytes() {
        slow.try_send(&[*byte]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(slow.is_closed().await, "a byte now and then does not help");
    assert_eq!(tracker.announce("127.0.0.3", &query(&HASH, 2003)).await.peers(), ["127.0.0.2:2001"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn t052_others_are_served_beside_10_000_idle_connections() {
    /// As many as the process may have files for, both ends being in it.
    const IDLE: usize = 10_000;
    daemon::raise_file_limit();
    let tracker = start("127.0.0.1:0", true).await;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let idle = IDLE.min((usize::try_from(limit).unwrap() - 500) / 2);
    let mut held = Vec::with_capacity(idle);
    for nth in 0..idle {
        // No address may have more than 4,096.
        let mut client = Conversation::open(&tracker, &format!("127.0.1.{}", nth % 10)).await;
        client.send(if nth % 2 == 0 { b"GET /announce?" } else { b"" }).await;
        held.push(client);
    }
    for port in 2001..2101 {
        assert_eq!(tracker.announce("127.0.0.2", &query(&HASH, port)).await.status, 200);
    }
    held[0].send(format!("{} HTTP/1.1\r\n\r\n", query(&HASH, 3000)).as_bytes()).await;
    assert_eq!(held[0].answer().await.peers().len(), 50, "of {idle} that are idle the first is still served");
}

#[tokio::test(flavor = "multi_thread")]
async fn t052_a_client_that_pipelines_and_never_reads_is_held_back_and_cut() {
    let tracker =
        start_with("127.0.0.1:0", true, |serve| serve.stall_timeout = Duration::from_millis(500)).await;
    for port in 2000..2200 {
        tracker.announce("127.0.0.2", &query(&HASH, port)).await;
    }
    let long = announce(3000).replace(" HTTP", "&compact=0&numwant=200 HTTP");
    let mut greedy = Conversation::open(&tracker, "127.0.0.4").await;
    let mut sent = 0;
    // Its own requests are no longer taken once its answers lie unread, and then it is cut.
    while greedy.stream.write_all(long.as_bytes()).await.is_ok() {
        sent += 1;
        assert!(sent < 1_000_000, "everything that it sends is taken");
    }
    let answered = tracker.metric("samara_tracker_announces_total{kind=\"stranger\"}").await - 200;
    assert!(answered < 5_000, "{answered} answers of 12 kB for one who read none");
    assert_eq!(tracker.announce("127.0.0.3", &query(&HASH, 2201)).await.status, 200);
}

#[tokio::test]
async fn a_shutdown_lets_a_request_end_that_has_begun() {
    let tracker = open().await;
    let mut idle = Conversation::open(&tracker, "127.0.0.2").await;
    let mut begun = Conversation::open(&tracker, "127.0.0.3").await;
    for client in [&mut idle, &mut begun] {
        client.send(announce(2001).as_bytes()).await;
        assert_eq!(client.answer().await.header("connection"), None);
    }
    let request = announce(2002);
    begun.send(&request.as_bytes()[..10]).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    tracker.stop();
    assert!(idle.is_closed().await);
    begun.send(&request.as_bytes()[10..]).await;
    let answer = begun.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(begun.is_closed().await);
}

#[tokio::test]
async fn both_families_are_served_on_connections_that_stay() {
    let tracker = start("[::]:0", true).await;
    let mut v4 = Conversation::open(&tracker, "127.0.0.2").await;
    let mut v6 = Conversation::open(&tracker, "::1").await;
    for (client, port) in [(&mut v4, 2001), (&mut v6, 2002)] {
        client.send(announce(port).as_bytes()).await;
        client.answer().await;
    }
    v4.send(announce(2001).as_bytes()).await;
    assert_eq!(v4.answer().await.peers(), [SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 2002)).to_string()]);
    v6.send(announce(2002).replace(" HTTP", "&compact=0 HTTP").as_bytes()).await;
    let answer = v6.answer().await;
    let peers = answer.bencode().get("peers").unwrap().as_list().unwrap();
    assert_eq!(
        peers.iter().next().unwrap().as_dict().unwrap().get("ip").unwrap().as_str(),
        Some("127.0.0.2")
    );
}
