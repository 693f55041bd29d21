//! Pieces that are passed on while they come in.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::scripted::{Answer, own_seed};
use common::{PATIENCE, TestTorrent, below, complete, config, engine, seed};
use swarm::wire::BLOCK;
use swarm::{Assume, Engine, EngineConfig, TorrentHandle};
use tempfile::TempDir;
use torrent::Version;

const PIECE: usize = 16 << 20;

fn torrent(version: Version) -> TestTorrent {
    TestTorrent::new(version, PIECE as u64, &[("file", 2 * PIECE + 12_345)])
}

/// An engine that sends so many bytes per second.
async fn slow_engine(rate: u64) -> Engine {
    Engine::start(EngineConfig { upload_limit: Some(rate), ..config() }).await.unwrap()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waited).await.is_ok(), "never: {what}");
}

/// One node, and behind it another that knows only it.
struct Chain {
    _engines: [Engine; 2],
    first: TorrentHandle,
    second: TorrentHandle,
}

impl Chain {
    async fn new(torrent: &TestTorrent, folder: &TempDir) -> Self {
        let engines = [engine().await, engine().await];
        let first = torrent.spec(&below(folder, "first"), Assume::Journal, Vec::new());
        let first = engines[0].add(first).await.unwrap();
        let second = torrent.spec(&below(folder, "second"), Assume::Journal, engines[0].addresses().to_vec());
        let second = engines[1].add(second).await.unwrap();
        until("the two are connected", || first.stats().peers == 1).await;
        // What they say of themselves follows the handshake.
        tokio::time::sleep(Duration::from_millis(300)).await;
        Self { _engines: engines, first, second }
    }

    /// The second has got what the first has no whole piece of.
    async fn passes_on(&self) {
        until("the second has got a part", || self.second.stats().downloaded > u64::from(8 * BLOCK)).await;
        assert!(self.first.stats().have < PIECE as u64, "the first has the whole piece already");
    }

    async fn complete(&self, torrent: &TestTorrent, folder: &TempDir) {
        for (handle, name) in [(&self.first, "first"), (&self.second, "second")] {
            complete(handle).await;
            torrent.check(&below(folder, name));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_piece_gets_the_blocks_that_have_come() {
    for version in [Version::Hybrid, Version::V2] {
        let (torrent, folder) = (torrent(version), tempfile::tempdir().unwrap());
        let from = slow_engine(8_000_000).await;
        seed(&from, &torrent, &below(&folder, "seed")).await;
        let chain = Chain::new(&torrent, &folder).await;
        chain.first.add_peers(from.addresses().to_vec());
        chain.passes_on().await;
        chain.complete(&torrent, &folder).await;
        assert_eq!(chain.second.stats().wasted, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_tree_whole_pieces_are_passed_on() {
    let (torrent, folder) = (torrent(Version::V1), tempfile::tempdir().unwrap());
    let from = engine().await;
    seed(&from, &torrent, &below(&folder, "seed")).await;
    let chain = Chain::new(&torrent, &folder).await;
    chain.first.add_peers(from.addresses().to_vec());
    chain.complete(&torrent, &folder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_piece_whose_source_is_gone_is_waited_for_no_more_and_comes_from_another() {
    let (torrent, folder) = (torrent(Version::Hybrid), tempfile::tempdir().unwrap());
    let (from, other) = (slow_engine(4_000_000).await, engine().await);
    seed(&from, &torrent, &below(&folder, "seed")).await;
    let chain = Chain::new(&torrent, &folder).await;
    chain.first.add_peers(from.addresses().to_vec());
    chain.passes_on().await;
    from.shutdown().await;
    seed(&other, &torrent, &below(&folder, "other")).await;
    chain.second.add_peers(other.addresses().to_vec());
    chain.complete(&torrent, &folder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t030_who_lies_about_a_piece_that_is_passed_on_is_found_at_the_block() {
    let (torrent, folder) = (torrent(Version::Hybrid), tempfile::tempdir().unwrap());
    let chain = Chain::new(&torrent, &folder).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let flips_each_fifth: Answer = Arc::new(move |_, honest| {
        let mut bytes = honest.to_vec();
        bytes[100] ^= u8::from(count.fetch_add(1, Ordering::Relaxed) % 5 == 4);
        Some(bytes)
    });
    let liar =
        own_seed(torrent.metainfo.clone(), torrent.files[0].bytes.clone(), b'x', flips_each_fifth).await;
    chain.first.add_peers(vec![liar]);
    until("the liar is banned", || chain.first.stats().banned == 1).await;
    // One of our own may be honest and its disk bad: only the second time it is banned.
    let stats = chain.first.stats();
    assert!(stats.wasted <= u64::from(2 * BLOCK), "{} bytes for nothing", stats.wasted);
    let from = engine().await;
    seed(&from, &torrent, &below(&folder, "seed")).await;
    chain.first.add_peers(from.addresses().to_vec());
    chain.complete(&torrent, &folder).await;
    assert_eq!(chain.second.stats().wasted, 0, "what is wrong is not passed on");
}
