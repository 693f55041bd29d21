//! Announces over UDP, of both families: what is sent, and what answers do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::time::Duration;

use common::udp_tracker::{Manner, UdpTracker};
use common::{PATIENCE, TestTorrent, below, complete, config, engine, has_ipv6, seed};
use swarm::{Assume, Engine, EngineConfig, TrackerSpec};
use torrent::Version;

fn torrent() -> TestTorrent {
    TestTorrent::new(Version::Hybrid, 64 * 1024, &[("data", 1 << 20)])
}

async fn engine_at(address: &str) -> Engine {
    Engine::start(EngineConfig { listen: vec![address.parse().unwrap()], ..config() }).await.unwrap()
}

/// A leecher that knows nobody but the tracker downloads; both of the hybrid's ids are announced, from where it listens.
async fn finds_its_seed(tracker_at: &str, seed_at: &str, leech_at: &str) {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (engine_at(seed_at).await, engine_at(leech_at).await);
    seed(&from, &torrent, &below(&folder, "seed")).await;
    let peers = vec![from.addresses()[0], to.addresses()[0]];
    let tracker = UdpTracker::start(tracker_at, Manner::Peers(peers)).await;
    let mut spec = torrent.spec(&below(&folder, "leech"), Assume::Journal, Vec::new());
    spec.trackers = vec![tracker.spec()];
    let handle = to.add(spec).await.unwrap();
    complete(&handle).await;
    let ids = torrent.metainfo.wire_ids();
    for id in &ids {
        let of = |announced: &common::udp_tracker::Announced| announced.info_hash == id.0;
        let started = tracker.wait_for("started", |heard| of(heard) && heard.event == 2).await;
        assert_eq!((started.port, started.num_want), (to.addresses()[0].port(), 80));
        assert_eq!(started.from.ip(), to.addresses()[0].ip());
        assert_eq!(started.options, b"\x02\x0f/announce?key=1");
        assert!(started.left > 0);
        tracker.wait_for("completed", |heard| of(heard) && heard.event == 1 && heard.left == 0).await;
    }
    let found = handle.stats().trackers[0].clone();
    assert!(found.reached && found.error.is_none() && found.seeders == Some(1), "{found:?}");
    handle.remove().await;
    for id in &ids {
        let gone = |heard: &common::udp_tracker::Announced| heard.info_hash == id.0 && heard.event == 3;
        assert_eq!(tracker.wait_for("stopped", gone).await.num_want, 0);
    }
    // All within the minute in which an id may be used again.
    assert_eq!(tracker.heard.lock().unwrap().connections.len(), ids.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_found_and_started_completed_stopped_are_said_over_ipv4() {
    finds_its_seed("127.0.0.1:0", "127.0.0.1:0", "127.0.0.2:0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_found_and_started_completed_stopped_are_said_over_ipv6() {
    if has_ipv6("peers_are_found_and_started_completed_stopped_are_said_over_ipv6") {
        finds_its_seed("[::1]:0", "[::1]:0", "[::1]:0").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_announced_to_in_every_family_that_it_has() {
    if !has_ipv6("a_name_is_announced_to_in_every_family_that_it_has") {
        return;
    }
    let four = UdpTracker::start("127.0.0.1:0", Manner::Peers(Vec::new())).await;
    let port = four.address.port();
    let six = UdpTracker::start(&format!("[::1]:{port}"), Manner::Peers(Vec::new())).await;
    let folder = tempfile::tempdir().unwrap();
    let engine = engine_at("0.0.0.0:0").await;
    let handle = seed(&engine, &torrent(), folder.path()).await;
    let url = format!("udp://localhost:{port}");
    handle.set_trackers(vec![TrackerSpec { url, bearer: None, node: None }]);
    for address in tokio::net::lookup_host(("localhost", port)).await.unwrap() {
        let tracker = if address.is_ipv4() { &four } else { &six };
        let started = tracker.wait_for("started", |heard| heard.event == 2).await;
        assert_eq!(started.options, b"", "a URL without path has no option");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t054_a_refusing_dead_or_nameless_tracker_shows_in_the_figures_and_hurts_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let refusing = UdpTracker::start("127.0.0.1:0", Manner::Refuse("not today")).await;
    let working = UdpTracker::start("127.0.0.1:0", Manner::Peers(Vec::new())).await;
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let named = |url: String| TrackerSpec { url, bearer: None, node: None };
    let silent_one = named(format!("udp://{}", silent.local_addr().unwrap()));
    let dead = named("udp://127.0.0.1:1".into());
    let other_family = named("udp://[::1]:1".into());
    let with_token = TrackerSpec { bearer: Some("secret".into()), ..working.spec() };
    let engine = engine().await;
    let handle = seed(&engine, &torrent(), folder.path()).await;
    handle.set_trackers(vec![silent_one, refusing.spec(), dead, other_family, with_token]);
    let mut stats = handle.changed();
    let said = |stats: &swarm::Stats| {
        stats.trackers.len() == 5 && stats.trackers[1..].iter().all(|status| status.error.is_some())
    };
    let stats = tokio::time::timeout(PATIENCE, stats.wait_for(said)).await.unwrap().unwrap().clone();
    let errors: Vec<&str> = stats.trackers[1..].iter().filter_map(|status| status.error.as_deref()).collect();
    for (error, part) in errors.iter().zip(["refuses: not today", "refused", "no address", "token"]) {
        assert!(error.contains(part), "{errors:?}");
    }
    // The silent one does not hold up the others.
    handle.set_trackers(vec![named(format!("udp://{}", silent.local_addr().unwrap())), working.spec()]);
    working.wait_for("started", |heard| heard.event == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracker_that_has_fallen_silent_does_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let tracker = UdpTracker::start("127.0.0.1:0", Manner::FallSilent).await;
    let engine = engine().await;
    let torrent = torrent();
    let handle = seed(&engine, &torrent, folder.path()).await;
    handle.set_trackers(vec![tracker.spec()]);
    for id in torrent.metainfo.wire_ids() {
        tracker.wait_for("started", |heard| heard.info_hash == id.0).await;
    }
    let mut stats = handle.changed();
    let reached = stats.wait_for(|stats| stats.trackers.iter().any(|status| status.reached));
    tokio::time::timeout(PATIENCE, reached).await.unwrap().unwrap();
    // An exchange takes 45 s to give up.
    tokio::time::timeout(Duration::from_secs(20), engine.shutdown()).await.unwrap();
    tracker.wait_for("stopped", |heard| heard.event == 3).await;
}
