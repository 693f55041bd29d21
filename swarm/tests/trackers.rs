//! Announces: what is sent, and what answers do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{PATIENCE, TestTorrent, below, complete, engine, percent_decoded, seed};
use swarm::{Assume, Selection, TrackerSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use torrent::{Metainfo, Version};

/// An HTTP server that answers everything alike and remembers the requests.
struct Tracker {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Tracker {
    async fn start(body: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let seen = requests.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                seen.lock().unwrap().push(String::from_utf8(request).unwrap());
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                // The engine may hang up in the middle of a long answer, as it should.
                drop(stream.write_all(&[head.into_bytes(), body.clone()].concat()).await);
            }
        });
        Self { address, requests }
    }

    fn own(&self) -> TrackerSpec {
        let url = format!("http://{}/announce", self.address);
        TrackerSpec { url, bearer: Some("secret".into()), node: Some("node-1".into()) }
    }

    fn foreign(&self) -> TrackerSpec {
        TrackerSpec { url: format!("http://{}/announce?passkey=7", self.address), bearer: None, node: None }
    }

    /// Waits for a request that contains all of these, and returns it.
    async fn wait_for(&self, parts: &[&str]) -> String {
        let started = std::time::Instant::now();
        loop {
            let requests = self.requests.lock().unwrap().clone();
            if let Some(found) =
                requests.iter().find(|request| parts.iter().all(|part| request.contains(part)))
            {
                return found.clone();
            }
            assert!(started.elapsed() < PATIENCE, "no request with {parts:?} among {requests:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn compact(peers: &[SocketAddr]) -> Vec<u8> {
    let mut body = format!("d8:intervali5e5:peers{}:", peers.len() * 6).into_bytes();
    for peer in peers {
        let std::net::IpAddr::V4(ip) = peer.ip() else { panic!("IPv4 only") };
        body.extend_from_slice(&ip.octets());
        body.extend_from_slice(&peer.port().to_be_bytes());
    }
    body.extend_from_slice(b"10:tracker id2:e1e");
    body
}

/// The bytes of `info_hash`, of which letters and digits may stand for themselves.
fn info_hash(request: &str) -> Vec<u8> {
    let value = request.split("info_hash=").nth(1).unwrap().split('&').next().unwrap();
    percent_decoded(value)
}

fn torrent() -> TestTorrent {
    TestTorrent::new(Version::Hybrid, 64 * 1024, &[("data", 1 << 20)])
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_found_and_started_completed_stopped_are_said_to_all() {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (engine().await, engine().await);
    seed(&from, &torrent, &below(&folder, "seed")).await;
    let knows = Tracker::start(compact(&[from.addresses()[0], to.addresses()[0]])).await;
    let empty = Tracker::start(b"d8:intervali5e5:peers0:e".to_vec()).await;
    let mut spec = torrent.spec(&below(&folder, "leech"), Assume::Journal, Vec::new());
    spec.trackers = vec![empty.own(), knows.own()];
    let handle = to.add(spec).await.unwrap();
    complete(&handle).await;
    let port = format!("port={}&", to.addresses()[0].port());
    for tracker in [&knows, &empty] {
        let started = tracker.wait_for(&["event=started", "left=1048576", &port, "&node=node-1 "]).await;
        assert!(started.to_lowercase().contains("authorization: bearer secret\r\n"), "{started}");
        tracker.wait_for(&["event=completed", "left=0"]).await;
    }
    knows.wait_for(&["event=completed", "trackerid=e1"]).await;
    assert_eq!(handle.stats().trackers[1].tracker_id.as_deref(), Some("e1"));
    assert!(handle.stats().trackers.iter().all(|status| status.reached && status.error.is_none()));
    handle.remove().await;
    for tracker in [&knows, &empty] {
        tracker.wait_for(&["event=stopped", "numwant=0"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_trackers_hear_both_ids_of_a_hybrid_and_no_token() {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let tracker = Tracker::start(b"d8:intervali1800e5:peers0:e".to_vec()).await;
    let engine = engine().await;
    let handle = seed(&engine, &torrent, folder.path()).await;
    handle.set_trackers(vec![tracker.foreign()]);
    for id in torrent.metainfo.wire_ids() {
        let announced = |request: &String| info_hash(request) == id.0;
        let started = std::time::Instant::now();
        while !tracker.requests.lock().unwrap().iter().any(announced) {
            assert!(started.elapsed() < PATIENCE, "{id} was not announced");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let request = tracker.wait_for(&["GET /announce?passkey=7&info_hash="]).await;
    assert!(!request.to_lowercase().contains("authorization") && !request.contains("node="), "{request}");
    handle.set_trackers(Vec::new());
    tracker.wait_for(&["event=stopped"]).await;
}

/// Whom to ask is said by who adds the torrent, never by who made it.
#[tokio::test(flavor = "multi_thread")]
async fn t019_urls_inside_a_torrent_are_not_asked() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let mut torrent = torrent();
    let told = Metainfo::clone(&torrent.metainfo)
        .with_trackers(vec![vec![url.clone()]])
        .with_web_seeds(vec![url.clone()])
        .with_http_seeds(vec![url]);
    torrent.metainfo = Arc::new(told);
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (engine().await, engine().await);
    seed(&from, &torrent, &below(&folder, "seed")).await;
    let spec = torrent.spec(&below(&folder, "leech"), Assume::Journal, vec![from.addresses()[0]]);
    let handle = to.add(spec).await.unwrap();
    complete(&handle).await;
    handle.remove().await;
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test(flavor = "multi_thread")]
async fn t054_a_dead_refusing_or_flooding_tracker_shows_in_the_figures_and_hurts_nobody() {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let refusing = Tracker::start(b"d14:failure reason9:not todaye".to_vec()).await;
    let flooding = Tracker::start(vec![b'd'; 3 << 20]).await;
    let dead = TrackerSpec { url: "http://127.0.0.1:1/announce".into(), bearer: None, node: None };
    let unspoken = TrackerSpec { url: "wss://127.0.0.1:1/announce".into(), bearer: None, node: None };
    let engine = engine().await;
    let handle = seed(&engine, &torrent, folder.path()).await;
    handle.set_trackers(vec![refusing.own(), flooding.own(), dead, unspoken]);
    let mut stats = handle.changed();
    let all = |stats: &swarm::Stats| {
        stats.trackers.len() == 4 && stats.trackers.iter().all(|status| status.error.is_some())
    };
    let stats = tokio::time::timeout(PATIENCE, stats.wait_for(all)).await.unwrap().unwrap().clone();
    let errors: Vec<&str> = stats.trackers.iter().filter_map(|status| status.error.as_deref()).collect();
    assert!(errors[0].contains("not today"), "{errors:?}");
    assert!(errors[1].contains("longer than 1 MiB"), "{errors:?}");
    assert!(errors[2].contains("refused"), "{errors:?}");
    assert!(errors[3].contains("wss:// trackers are not spoken to"), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_what_it_wants_and_not_all_says_that_it_is_paused() {
    let torrent = TestTorrent::new(Version::V2, 64 * 1024, &[("no", 100_000), ("yes", 100_000)]);
    let folder = tempfile::tempdir().unwrap();
    let (from, to, again) = (engine().await, engine().await, engine().await);
    seed(&from, &torrent, &below(&folder, "seed")).await;
    let tracker = Tracker::start(compact(&from.addresses()[..1])).await;
    let selection = Selection { files: BTreeSet::from([1]), parts: below(&folder, "parts") };
    let mut spec = torrent.spec(&below(&folder, "leech"), Assume::Nothing, Vec::new());
    spec.trackers = vec![tracker.own()];
    let handle = to.add_selected(spec.clone(), &selection).await.unwrap();
    complete(&handle).await;
    tracker.wait_for(&["event=started", "left=200000"]).await;
    tracker.wait_for(&["event=paused", "left=100000"]).await;
    to.shutdown().await;
    tracker.wait_for(&["event=stopped", "left=100000"]).await;
    // One that starts so is announced as started first.
    tracker.requests.lock().unwrap().clear();
    complete(&again.add_selected(spec, &selection).await.unwrap()).await;
    tracker.wait_for(&["event=started", "left=100000"]).await;
    tracker.wait_for(&["event=paused", "left=100000"]).await;
    assert!(tracker.requests.lock().unwrap().iter().all(|request| !request.contains("event=completed")));
}
