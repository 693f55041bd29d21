//! What a private torrent does not do (BEP 27). A process of its own: the test looks at all its sockets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]
#![cfg(target_os = "linux")]

mod common;

use std::collections::HashSet;
use std::time::Duration;

use common::udp_tracker::{Manner, UdpTracker};
use common::{PATIENCE, TestTorrent, engine, seed};
use swarm::TrackerSpec;
use torrent::Version;

/// Inodes of the UDP sockets that this process has open.
fn udp_sockets() -> HashSet<String> {
    let mut ours = HashSet::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        // One may be closed meanwhile.
        let Ok(target) = std::fs::read_link(entry.unwrap().path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        ours.extend(target.strip_prefix("socket:[").map(|inode| inode.trim_end_matches(']').to_owned()));
    }
    let tables =
        ["/proc/self/net/udp", "/proc/self/net/udp6"].map(|path| std::fs::read_to_string(path).unwrap());
    let inode = |line: &str| line.split_whitespace().nth(9).map(str::to_owned);
    tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .filter_map(inode)
        .filter(|i| ours.contains(i))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn t061_there_is_no_udp_socket_without_a_udp_tracker() {
    let torrent = TestTorrent::new(Version::Hybrid, 64 * 1024, &[("data", 1 << 18)]);
    let folder = tempfile::tempdir().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let engine = engine().await;
    assert!(torrent.metainfo.is_private());
    let handle = seed(&engine, &torrent, folder.path()).await;
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    handle.set_trackers(vec![TrackerSpec { url, bearer: None, node: None }]);
    let asked = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap();
    assert!(asked.is_ok() && udp_sockets().is_empty(), "{:?}", udp_sockets());

    let tracker = UdpTracker::start("127.0.0.1:0", Manner::Peers(Vec::new())).await;
    let before = udp_sockets().len();
    handle.set_trackers(vec![tracker.spec()]);
    tracker.wait_for("started", |heard| heard.event == 2).await;
    assert!(udp_sockets().len() > before, "the test sees the sockets of a udp tracker");
    handle.set_trackers(Vec::new());
    let started = std::time::Instant::now();
    while udp_sockets().len() > before {
        assert!(started.elapsed() < PATIENCE, "sockets outlive their tracker");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
