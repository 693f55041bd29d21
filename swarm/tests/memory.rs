//! The budget for pieces under way: who holds memory, and for how long.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::scripted::{self, Answer, Connection};
use common::{PATIENCE, TestTorrent, below, complete, config, engine, seed};
use swarm::wire::Message;
use swarm::{Assume, Engine, EngineConfig, TorrentHandle};
use tokio::net::TcpListener;
use torrent::Version;

const BLOCK: usize = 16 * 1024;
const SMALL: usize = 4 * BLOCK;
/// The budget of the tests: two small pieces or one big one.
const BIG: usize = 2 * SMALL;

async fn tight() -> Engine {
    Engine::start(EngineConfig { buffer_budget: BIG as u64, ..config() }).await.unwrap()
}

fn small() -> TestTorrent {
    TestTorrent::new(Version::V2, SMALL as u64, &[("small", 4 * SMALL)])
}

fn big() -> TestTorrent {
    TestTorrent::new(Version::V2, BIG as u64, &[("big", 2 * BIG)])
}

/// A seed that never sends the last block of a piece.
async fn stingy(torrent: &TestTorrent) -> SocketAddr {
    let answer: Answer =
        Arc::new(|block, bytes| (block.begin as usize + BLOCK < SMALL).then(|| bytes.to_vec()));
    scripted::seed(torrent.metainfo.clone(), torrent.files[0].bytes.clone(), b's', answer).await
}

/// Waits until all but the last block of a piece is here.
async fn downloaded_most_of_a_piece(handle: &TorrentHandle) {
    let started = Instant::now();
    while handle.stats().downloaded < (SMALL - BLOCK) as u64 {
        assert!(started.elapsed() < PATIENCE, "{:?}", handle.stats());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A torrent that needs the whole budget completes.
async fn the_whole_budget_is_free(to: &Engine, folder: &tempfile::TempDir) {
    let torrent = big();
    let from = engine().await;
    seed(&from, &torrent, &below(folder, "big-seed")).await;
    let spec = torrent.spec(&below(folder, "big"), Assume::Journal, from.addresses().to_vec());
    complete(&to.add(spec).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_torrent_holds_no_memory() {
    let (torrent, folder) = (small(), tempfile::tempdir().unwrap());
    let to = tight().await;
    let spec = torrent.spec(&below(&folder, "small"), Assume::Journal, vec![stingy(&torrent).await]);
    let handle = to.add(spec).await.unwrap();
    downloaded_most_of_a_piece(&handle).await;
    let from = engine().await;
    seed(&from, &torrent, &below(&folder, "small-seed")).await;
    handle.add_peers(from.addresses().to_vec());
    complete(&handle).await;
    the_whole_budget_is_free(&to, &folder).await;
}

#[test]
fn what_a_dead_seed_began_makes_room_for_another_torrent() {
    let (torrent, folder) = (small(), tempfile::tempdir().unwrap());
    let theirs = tokio::runtime::Runtime::new().unwrap();
    let stingy = theirs.block_on(stingy(&torrent));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let to = tight().await;
        let handle =
            to.add(torrent.spec(&below(&folder, "small"), Assume::Journal, vec![stingy])).await.unwrap();
        downloaded_most_of_a_piece(&handle).await;
        theirs.shutdown_background();
        the_whole_budget_is_free(&to, &folder).await;
        assert_eq!(handle.stats().wasted, (SMALL - BLOCK) as u64);
    });
}

#[test]
fn what_a_dead_seed_began_is_finished_by_the_next() {
    let (torrent, folder) = (small(), tempfile::tempdir().unwrap());
    let theirs = tokio::runtime::Runtime::new().unwrap();
    let stingy = theirs.block_on(stingy(&torrent));
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let to = tight().await;
        let spec = torrent.spec(&below(&folder, "small"), Assume::Journal, vec![stingy]);
        let handle = to.add(spec).await.unwrap();
        downloaded_most_of_a_piece(&handle).await;
        theirs.shutdown_background();
        let from = engine().await;
        seed(&from, &torrent, &below(&folder, "small-seed")).await;
        handle.add_peers(from.addresses().to_vec());
        complete(&handle).await;
        let stats = handle.stats();
        assert_eq!((stats.downloaded, stats.wasted), (stats.total, 0));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn who_chokes_without_the_fast_extension_keeps_no_memory() {
    let (torrent, folder) = (small(), tempfile::tempdir().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let one_piece = EngineConfig { buffer_budget: SMALL as u64, ..config() };
    let to = Engine::start(one_piece).await.unwrap();
    let peers = vec![listener.local_addr().unwrap()];
    let handle = to.add(torrent.spec(&below(&folder, "small"), Assume::Journal, peers)).await.unwrap();
    let mut choker = Connection::accept_without_fast(&listener, &torrent.metainfo, b'c').await;
    choker.send(Message::Bitfield(&[0b1111_0000])).await;
    choker.send(Message::Unchoke).await;
    let block = choker.request().await.unwrap();
    let data = &torrent.files[0].bytes[block.piece as usize * SMALL + block.begin as usize..][..BLOCK];
    choker.send(Message::Piece { piece: block.piece, begin: block.begin, data }).await;
    choker.send(Message::Choke).await;
    let from = engine().await;
    seed(&from, &torrent, &below(&folder, "small-seed")).await;
    handle.add_peers(from.addresses().to_vec());
    complete(&handle).await;
    let stats = handle.stats();
    assert_eq!((stats.downloaded, stats.wasted), (stats.total, 0));
}
