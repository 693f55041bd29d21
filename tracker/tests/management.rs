//! Registry, store and reports over a real socket.
#![allow(clippy::unwrap_used)] // a failure is the test's failure

mod common;

use common::{Running, TOKEN, closed, node, query, swarm, torrent};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use torrent::Metainfo;
use tracker_api::{
    MANIFESTS_PATH, METAINFO_PATH, REGISTRY_PATH, Registry, SWARMS_PATH, SwarmChange, WATCH_PATH,
};

async fn put(tracker: &Running, path: &str, body: &[u8]) -> u16 {
    tracker.send("PUT", path, Some(TOKEN), body).await.status
}

async fn get(tracker: &Running, path: &str) -> common::Answer {
    tracker.send("GET", path, Some(TOKEN), &[]).await
}

fn names(metainfo: &Metainfo) -> Vec<String> {
    vec![metainfo.info_hash_v1().unwrap().to_string(), metainfo.info_hash_v2().unwrap().to_string()]
}

#[tokio::test]
async fn nothing_but_announces_is_open() {
    let tracker = closed().await;
    let paths = [
        REGISTRY_PATH,
        SWARMS_PATH,
        &format!("{METAINFO_PATH}{}", "1".repeat(40)),
        &format!("{MANIFESTS_PATH}{}", "1".repeat(64)),
    ];
    for path in paths {
        for method in ["GET", "PUT", "HEAD"] {
            for token in [None, Some("wrong"), Some("the-token-of-the-clas")] {
                assert_eq!(tracker.send(method, path, token, b"{}").await.status, 401, "{method} {path}");
            }
        }
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(tracker.get(path).await.status, 200, "{path}");
        assert_eq!(tracker.send("POST", path, Some(TOKEN), &[]).await.status, 405, "{path}");
    }
}

#[tokio::test]
async fn the_registry_is_known_by_its_digest_and_the_start_by_its_epoch() {
    let (tracker, other) = (closed().await, closed().await);
    let empty = get(&tracker, REGISTRY_PATH).await.json();
    assert_eq!(empty["digest"], "");
    let body =
        serde_json::to_vec(&Registry { swarms: vec![swarm("rev", &[])], ..Registry::default() }).unwrap();
    assert_eq!(put(&tracker, REGISTRY_PATH, &body).await, 200);
    let status = get(&tracker, REGISTRY_PATH).await.json();
    assert_eq!(status["digest"], hex::encode(Sha256::digest(&body)));
    assert_eq!(status["epoch"], empty["epoch"]);
    assert_ne!(get(&other, REGISTRY_PATH).await.json()["epoch"], empty["epoch"]);
}

#[tokio::test]
async fn t105_a_registry_that_is_none_changes_nothing() {
    let tracker = closed().await;
    tracker
        .register(&Registry { swarms: vec![swarm("rev", &["11".repeat(20)])], ..Registry::default() })
        .await;
    let before = get(&tracker, REGISTRY_PATH).await.json();
    for bad in [
        &b""[..],
        b"{}",
        b"[]",
        br#"{"swarms":[],"nodes":[],"more":1}"#,
        br#"{"swarms":[{"revisions":[],"infohashes":["xyz"]}],"nodes":[]}"#,
        br#"{"swarms":[],"nodes":[{"name":"a","addresses":["10.0.0.300"]}]}"#,
        &vec![b'['; 1 << 20],
    ] {
        assert_eq!(put(&tracker, REGISTRY_PATH, bad).await, 400);
    }
    assert_eq!(get(&tracker, REGISTRY_PATH).await.json(), before);
}

#[tokio::test]
async fn metainfo_is_checked_kept_and_found_by_every_name() {
    let tracker = closed().await;
    let metainfo = torrent(&vec![7; 100_000]);
    let (bytes, names) = (metainfo.encode(), names(&metainfo));
    let path = format!("{METAINFO_PATH}{}", names[1]);
    assert_eq!(put(&tracker, &path, &bytes).await, 403, "nobody wants it");
    assert_eq!(
        put(&tracker, &format!("{path}?revision=rev"), &bytes).await,
        403,
        "nobody knows that revision"
    );
    tracker.register(&Registry { swarms: vec![swarm("rev", &[])], ..Registry::default() }).await;
    assert_eq!(put(&tracker, &path, &bytes).await, 403, "its infohash is not registered yet");
    assert_eq!(put(&tracker, &format!("{path}?revision=rev"), &bytes).await, 201);
    assert_eq!(put(&tracker, &format!("{path}?revision=rev"), &bytes).await, 200);

    let digest = format!("sha256:{}", hex::encode(metainfo.content_digest().unwrap()));
    let tag = format!("\"{}\"", hex::encode(Sha256::digest(&bytes)));
    for name in [&names[0], &names[1], &names[1][..40].to_owned(), &names[1].to_uppercase(), &digest] {
        let found = get(&tracker, &format!("{METAINFO_PATH}{name}")).await;
        assert_eq!((found.status, &found.body), (200, &bytes), "{name}");
        assert_eq!(found.header("etag"), Some(tag.as_str()));
        assert_eq!(found.header("content-type"), Some("application/x-bittorrent"));
    }
    let head = tracker.send("HEAD", &path, Some(TOKEN), &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(bytes.len().to_string().as_str()));
    let with = |headers: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n");
        let request = format!("{head}{headers}\r\nconnection: close\r\n\r\n");
        let tracker = &tracker;
        async move { tracker.raw([127, 0, 0, 1].into(), request.as_bytes()).await }
    };
    assert_eq!(with(&format!("if-none-match: \"x\", {tag}")).await.status, 304);
    let part = with("range: bytes=7-9").await;
    assert_eq!((part.status, &part.body[..]), (206, &bytes[7..10]));
    assert_eq!(part.header("content-range"), Some(format!("bytes 7-9/{}", bytes.len()).as_str()));
    let rest = with(&format!("range: bytes=100-\r\nif-range: {tag}")).await;
    assert_eq!((rest.status, &rest.body[..]), (206, &bytes[100..]));
    assert_eq!(
        with("range: bytes=100-\r\nif-range: \"other\"").await.body,
        bytes,
        "it has begun with other bytes"
    );
    assert_eq!(with("range: bytes=999999-").await.status, 416);
}

#[tokio::test]
async fn metainfo_of_another_torrent_or_none_is_refused() {
    let tracker = closed().await;
    tracker.register(&Registry { swarms: vec![swarm("rev", &[])], ..Registry::default() }).await;
    let (one, other) = (torrent(b"one"), torrent(b"other"));
    let path = |name: &str| format!("{METAINFO_PATH}{name}?revision=rev");
    let wrong = tracker.send("PUT", &path(&names(&one)[0]), Some(TOKEN), &other.encode()).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text().contains(&names(&other)[1]), "{}", wrong.text());
    assert_eq!(put(&tracker, &path(&names(&one)[0]), b"d4:infod4:name1:aee").await, 400);
    assert_eq!(put(&tracker, &path(&names(&one)[0]), b"").await, 400);
    let mut broken = one.encode();
    let last = broken.len() - 20;
    broken[last] ^= 1;
    assert_eq!(put(&tracker, &path(&names(&one)[1]), &broken).await, 400);
    assert_eq!(put(&tracker, &path("nonsense"), &one.encode()).await, 404);
    assert_eq!(get(&tracker, &format!("{METAINFO_PATH}{}", names(&one)[0])).await.status, 404);
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let tracker = closed().await;
    tracker.register(&Registry { swarms: vec![swarm("rev", &[])], ..Registry::default() }).await;
    for path in [
        format!("{METAINFO_PATH}{}?revision=rev", "1".repeat(40)),
        format!("{MANIFESTS_PATH}{}?revision=rev", "1".repeat(64)),
    ] {
        let head = format!(
            "PUT {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            (128 << 20) + 1
        );
        assert_eq!(tracker.raw([127, 0, 0, 1].into(), head.as_bytes()).await.status, 413);
    }
}

#[tokio::test]
async fn manifests_are_known_by_the_digest_of_their_bytes() {
    let tracker = closed().await;
    let manifest = br#"[{"path":"a"}]"#;
    let path = format!("{MANIFESTS_PATH}{}", hex::encode(Sha256::digest(manifest)));
    assert_eq!(put(&tracker, &format!("{path}?revision=rev"), manifest).await, 403);
    tracker.register(&Registry { swarms: vec![swarm("rev", &[])], ..Registry::default() }).await;
    assert_eq!(put(&tracker, &format!("{path}?revision=rev"), b"[]").await, 400);
    assert_eq!(put(&tracker, &format!("{path}?revision=rev"), manifest).await, 201);
    let found = get(&tracker, &path).await;
    assert_eq!((found.status, found.body.as_slice()), (200, &manifest[..]));
    assert_eq!(found.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn what_leaves_the_registry_is_gone() {
    let tracker = closed().await;
    let metainfo = torrent(b"payload");
    let (v1, path) = (metainfo.info_hash_v1().unwrap(), format!("{METAINFO_PATH}{}", names(&metainfo)[0]));
    tracker
        .register(&Registry { swarms: vec![swarm("rev", &names(&metainfo))], ..Registry::default() })
        .await;
    assert_eq!(put(&tracker, &path, &metainfo.encode()).await, 201);
    tracker.announce("127.0.0.2", &query(&v1.0, 2001)).await;
    tracker.register(&Registry::default()).await;
    assert_eq!(get(&tracker, &path).await.status, 404);
    assert_eq!(get(&tracker, SWARMS_PATH).await.json(), serde_json::json!([]));
    tracker
        .register(&Registry { swarms: vec![swarm("rev", &names(&metainfo))], ..Registry::default() })
        .await;
    assert_eq!(tracker.announce("127.0.0.3", &query(&v1.0, 2002)).await.peers(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_denied_is_gone_and_is_not_taken_in_again() {
    let tracker = closed().await;
    let metainfo = torrent(b"payload");
    let (v1, v2) = (metainfo.info_hash_v1().unwrap(), metainfo.info_hash_v2().unwrap());
    let path = format!("{METAINFO_PATH}{v2}?revision=rev");
    let swarms = vec![swarm("rev", &names(&metainfo)), swarm("other", &["77".repeat(20)])];
    tracker.register(&Registry { swarms, ..Registry::default() }).await;
    assert_eq!(put(&tracker, &path, &metainfo.encode()).await, 201);
    let lists = tracker::lists::parse(format!("{v1} # by one of its names").as_bytes()).unwrap();
    tracker.tracker.restrict(tracker::lists::Lists { denied: lists, ..Default::default() });
    assert_eq!(get(&tracker, &path).await.status, 404);
    assert_eq!(put(&tracker, &path, &metainfo.encode()).await, 403);
    let refused = tracker.announce("127.0.0.2", &query(&v2.truncated().0, 2001)).await.failure();
    assert_eq!(refused, "this tracker does not serve this torrent");
    assert_eq!(get(&tracker, SWARMS_PATH).await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_operator_reads_each_swarm() {
    let tracker = closed().await;
    let metainfo = torrent(b"payload");
    let v1 = metainfo.info_hash_v1().unwrap();
    let nodes = vec![node("a", &["10.1.0.1"])];
    tracker
        .register(&Registry {
            swarms: vec![swarm("rev", &names(&metainfo)), swarm("more", &["33".repeat(20)])],
            nodes,
            networks: vec![],
        })
        .await;
    put(&tracker, &format!("{METAINFO_PATH}{v1}"), &metainfo.encode()).await;
    tracker.announce_as("a", Some(TOKEN), &query(&v1.0, 6881)).await;
    tracker.announce("127.0.0.2", &query(&v1.0, 2001).replace("left=5", "left=0")).await;
    let report = get(&tracker, &format!("{SWARMS_PATH}?infohash={}", names(&metainfo)[1])).await.json();
    assert_eq!(report.as_array().unwrap().len(), 1);
    let report = &report[0];
    assert_eq!(
        (&report["seeders"], &report["leechers"], &report["metainfo"]),
        (&1.into(), &1.into(), &true.into())
    );
    assert_eq!(report["revisions"], serde_json::json!(["rev"]));
    let sidecar = report["peers"].as_array().unwrap().iter().find(|peer| peer["node"] == "a").unwrap();
    assert_eq!((&sidecar["address"], &sidecar["left"]), (&"10.1.0.1:6881".into(), &16384.into()));
    assert_eq!(get(&tracker, SWARMS_PATH).await.json().as_array().unwrap().len(), 2);
    assert_eq!(get(&tracker, &format!("{SWARMS_PATH}?infohash=xyz")).await.status, 400);
}

#[tokio::test]
async fn a_reader_follows_a_swarm_line_by_line() {
    let tracker = closed().await;
    let names = ["33".repeat(20), "44".repeat(32)];
    let nodes = vec![node("a", &["10.1.0.1"])];
    tracker.register(&Registry { swarms: vec![swarm("rev", &names)], nodes, networks: vec![] }).await;
    let wanted = |left: u64| query(&[0x33; 20], 6881).replace("left=5", &format!("left={left}"));
    tracker.announce_as("a", Some(TOKEN), &wanted(3 << 20)).await;
    let mut stream = TcpStream::connect(tracker.address).await.unwrap();
    let path = format!("{WATCH_PATH}?infohash={}", names[1]);
    let request = format!("GET {path} HTTP/1.0\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut next = async || loop {
        let line = lines.next_line().await.unwrap().unwrap();
        if let Ok(change) = serde_json::from_str::<SwarmChange>(&line) {
            return change;
        }
    };
    let first = next().await;
    assert_eq!((first.all, first.leechers, first.left_bytes, first.peers.len()), (true, 1, 3 << 20, 1));
    tracker.announce_as("a", Some(TOKEN), &wanted(1 << 20)).await;
    let second = next().await;
    assert_eq!((second.all, second.fetched_bytes, second.peers[0].left), (false, 2 << 20, 1 << 20));
    tracker.announce_as("a", Some(TOKEN), &format!("{}&event=completed", wanted(0))).await;
    let third = loop {
        let change = next().await;
        if change.seeders == 1 {
            break change;
        }
    };
    assert_eq!((third.downloaded, third.fetched_bytes, third.left_bytes), (1, 3 << 20, 0));
    assert!(third.bytes_per_second > 0);
    for (path, status) in
        [("", 400), ("?infohash=xyz", 400), (&format!("?infohash={}", "55".repeat(20)), 404)]
    {
        assert_eq!(get(&tracker, &format!("{WATCH_PATH}{path}")).await.status, status, "{path}");
    }
    tracker.register(&Registry::default()).await;
    let end = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while lines.next_line().await.unwrap().is_some() {}
    });
    end.await.expect("it ends with the swarm");
}

#[tokio::test]
async fn t106_paths_lead_nowhere_else() {
    let tracker = closed().await;
    for path in [
        "/metainfo/..%2f..%2fetc%2fpasswd",
        "/metainfo/%00",
        "/metainfo/../healthz",
        "/manifests/..%5c..%5c",
        "/announce/x",
        "/",
    ] {
        let answer = get(&tracker, path).await;
        assert_eq!(answer.status, 404, "{path}");
    }
}

#[tokio::test]
async fn t104_metrics_name_no_secret_and_count_refusals() {
    let tracker = closed().await;
    tracker.announce("127.0.0.2", "port=22").await;
    tracker.announce_as("a", Some("wrong-token"), &query(&[1; 20], 6881)).await;
    tracker.announce("127.0.0.2", &query(&[1; 20], 6881)).await;
    let text = tracker.get("/metrics").await.text();
    assert!(!text.contains(TOKEN) && !text.contains("wrong-token"));
    for line in [
        r#"samara_tracker_rejected_total{reason="query"} 1"#,
        r#"samara_tracker_rejected_total{reason="token"} 1"#,
        r#"samara_tracker_rejected_total{reason="torrent"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}
