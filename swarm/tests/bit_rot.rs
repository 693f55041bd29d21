//! Disks that flip a bit of what was good, and say nothing (T73).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use common::scripted::Connection;
use common::{PATIENCE, TestTorrent, below, complete, engine, seed};
use swarm::wire::{Block, Message};
use swarm::{Assume, TorrentHandle};
use torrent::Version;

const PIECE: usize = 64 * 1024;
/// Where a bit is flipped.
const ROTTEN: u32 = 5;

fn torrent(version: Version) -> TestTorrent {
    TestTorrent::new(version, PIECE as u64, &[("data", 32 * PIECE)])
}

fn flip_a_bit(folder: &Path) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(folder.join("data")).unwrap();
    let mut byte = [0];
    let at = u64::from(ROTTEN) * PIECE as u64 + 20_000;
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

async fn is_withdrawn(handle: &TorrentHandle) {
    let mut stats = handle.changed();
    let withdrawn = stats.wait_for(|stats| stats.have == stats.total - PIECE as u64);
    tokio::time::timeout(PATIENCE, withdrawn).await.expect("the seed finds out").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn t073_a_flipped_bit_is_served_once_found_and_healed() {
    for version in [Version::V1, Version::V2, Version::Hybrid] {
        let (torrent, folder) = (torrent(version), tempfile::tempdir().unwrap());
        let (rotten, first, second, good) = (engine().await, engine().await, engine().await, engine().await);
        let there = below(&folder, "rotten");
        let seeding = seed(&rotten, &torrent, &there).await;
        flip_a_bit(&there);
        let spec = torrent.spec(&below(&folder, "first"), Assume::Journal, rotten.addresses().to_vec());
        let one = first.add(spec).await.unwrap();
        is_withdrawn(&seeding).await;
        let spec = torrent.spec(&below(&folder, "second"), Assume::Journal, rotten.addresses().to_vec());
        let other = second.add(spec).await.unwrap();
        let mut stats = other.changed();
        let got = stats.wait_for(|stats| stats.have == stats.total - PIECE as u64);
        tokio::time::timeout(PATIENCE, got).await.expect("the rest is served").unwrap();
        seed(&good, &torrent, &below(&folder, "good")).await;
        for handle in [&one, &other, &seeding] {
            handle.add_peers(good.addresses().to_vec());
        }
        for handle in [&one, &other, &seeding] {
            complete(handle).await;
        }
        torrent.check(&there);
        assert_eq!(one.stats().wasted, PIECE as u64, "{version:?}: the first has got it once");
        assert_eq!((other.stats().wasted, other.stats().banned), (0, 0), "{version:?}: the second never");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t073_who_gives_out_a_piece_by_another_way_finds_a_flipped_bit_before() {
    let (torrent, folder) = (torrent(Version::Hybrid), tempfile::tempdir().unwrap());
    let (rotten, good) = (engine().await, engine().await);
    let there = below(&folder, "rotten");
    let seeding = seed(&rotten, &torrent, &there).await;
    assert!(seeding.recheck(ROTTEN).await);
    flip_a_bit(&there);
    assert!(!seeding.recheck(ROTTEN).await && seeding.recheck(ROTTEN + 1).await);
    is_withdrawn(&seeding).await;
    assert!(!seeding.recheck(ROTTEN).await, "it is not here");
    seed(&good, &torrent, &below(&folder, "good")).await;
    seeding.add_peers(good.addresses().to_vec());
    complete(&seeding).await;
    torrent.check(&there);
    assert!(seeding.recheck(ROTTEN).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn t073_what_strangers_ask_for_is_looked_at_now_and_then() {
    let (torrent, folder) = (torrent(Version::V2), tempfile::tempdir().unwrap());
    let from = engine().await;
    let seeding = seed(&from, &torrent, folder.path()).await;
    flip_a_bit(folder.path());
    let mut peer = Connection::dial(from.addresses()[0], &torrent.metainfo, b'p').await;
    peer.send(Message::Interested).await;
    while !peer.next(|message| message == Message::Unchoke).await.unwrap() {}
    let asking = async {
        loop {
            for piece in [ROTTEN, ROTTEN + 1] {
                peer.send(Message::Request(Block { piece, begin: 0, len: 16384 })).await;
                let is_answer = |message: Message<'_>| match message {
                    Message::Piece { .. } => Some(true),
                    Message::Reject(_) => Some(false),
                    _ => None,
                };
                let answer = loop {
                    if let Some(answer) = peer.next(is_answer).await.unwrap() {
                        break answer;
                    }
                };
                if !answer {
                    return piece;
                }
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, asking).await.expect("it is found by chance");
    assert_eq!(refused, ROTTEN);
    is_withdrawn(&seeding).await;
}
