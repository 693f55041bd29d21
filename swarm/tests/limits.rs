//! Limits of rates, in all and of one torrent, changed while they hold.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::time::{Duration, Instant};

use common::{TestTorrent, below, complete, config, engine, seed};
use swarm::{Assume, Engine, EngineConfig, TorrentHandle};
use torrent::Version;

const MIB: u64 = 1 << 20;

/// Bytes that came within so long, and the time that it really took.
async fn flow(handle: &TorrentHandle, time: Duration) -> (f64, f64) {
    let (before, since) = (handle.stats().downloaded, Instant::now());
    tokio::time::sleep(time).await;
    let bytes = handle.stats().downloaded - before;
    (bytes as f64, since.elapsed().as_secs_f64())
}

/// Not more than 5 % over the limit. How far below it a busy machine stays is no verdict.
async fn held(what: &str, handle: &TorrentHandle, limit: u64) {
    // What was under way under the limit before.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (bytes, seconds) = flow(handle, Duration::from_secs(2)).await;
    let rate = bytes / seconds;
    assert!(rate <= limit as f64 * 1.05, "{what}: {rate} where {limit} were allowed");
    assert!(bytes > 0.0, "{what}: nothing came");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_a_torrent_and_of_an_engine_hold_and_may_change() {
    let torrent = TestTorrent::new(Version::V2, 64 * 1024, &[("large", 64 << 20)]);
    let folder = tempfile::tempdir().unwrap();
    let from = Engine::start(EngineConfig { upload_limit: Some(2 * MIB), ..config() }).await.unwrap();
    let source = seed(&from, &torrent, &below(&folder, "seed")).await;
    let to = engine().await;
    let there = below(&folder, "leech");
    let leech = to.add(torrent.spec(&there, Assume::Journal, from.addresses().to_vec())).await.unwrap();
    held("upload of all", &leech, 2 * MIB).await;
    from.set_upload_limit(None);
    source.set_upload_limit(Some(4 * MIB));
    held("upload of one", &leech, 4 * MIB).await;
    source.set_upload_limit(None);
    leech.set_download_limit(Some(3 * MIB));
    held("download of one", &leech, 3 * MIB).await;
    leech.set_download_limit(None);
    to.set_download_limit(Some(4 * MIB));
    held("download of all", &leech, 4 * MIB).await;
    to.set_download_limit(None);
    complete(&leech).await;
    torrent.check(&there);
}
