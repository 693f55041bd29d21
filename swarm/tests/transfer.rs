//! Whole engines over loopback: single files and trees, every version, one leecher and many.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::Ordering;

use common::scripted::Connection;
use common::watched::Watched;
use common::{TestTorrent, below, complete, config, engine, seed};
use swarm::wire::{BLOCK, Block, MAX_RUN, Message};
use swarm::{Assume, Engine, EngineConfig, Phase};
use torrent::Version;

const KIB: usize = 1024;

async fn one_to_one(version: Version, piece_length: u64, files: &[(&str, usize)]) {
    let torrent = TestTorrent::new(version, piece_length, files);
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (engine().await, engine().await);
    let source = seed(&from, &torrent, &below(&folder, "seed")).await;
    assert_eq!(source.stats().phase, Phase::Complete);
    let there = below(&folder, "leech");
    let leech = to.add(torrent.spec(&there, Assume::Journal, from.addresses().to_vec())).await.unwrap();
    complete(&leech).await;
    torrent.check(&there);
    let stats = leech.stats();
    assert_eq!((stats.have, stats.durable, stats.wasted), (stats.total, stats.total, 0));
    to.shutdown().await;
    from.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_file_in_every_version() {
    for version in [Version::Hybrid, Version::V2, Version::V1] {
        for size in [1, 16 * KIB, 64 * KIB, 64 * KIB + 1, 3000 * KIB + 7] {
            one_to_one(version, 64 * KIB as u64, &[("one file.bin", size)]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_in_every_version() {
    let files = [
        ("a/empty", 0),
        ("a/one byte", 1),
        ("b/ünïcode", 40 * KIB + 3),
        ("b/deep/er/file", 500 * KIB),
        ("c", 64 * KIB),
        ("d", 3 * 64 * KIB + 1),
        ("e/none", 0),
    ];
    for version in [Version::Hybrid, Version::V2, Version::V1] {
        one_to_one(version, 64 * KIB as u64, &files).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_is_complete_at_once() {
    let torrent = TestTorrent::new(Version::Hybrid, 1 << 20, &[("nothing", 0)]);
    let folder = tempfile::tempdir().unwrap();
    let alone = engine().await;
    let handle = alone.add(torrent.spec(folder.path(), Assume::Journal, Vec::new())).await.unwrap();
    complete(&handle).await;
    torrent.check(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_does_not_read_what_lies_in_the_page_cache_and_goes_to_its_own() {
    let torrent = TestTorrent::new(Version::Hybrid, 64 * KIB as u64, &[("data", 16 * 1024 * KIB + 7)]);
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (engine().await, engine().await);
    torrent.write(&below(&folder, "seed"));
    let spec = torrent.spec(&below(&folder, "seed"), Assume::Nothing, Vec::new());
    let storage = Watched::new(&torrent, &spec.folder, None);
    complete(&from.add_with(spec, storage.clone()).await.unwrap()).await;
    let hashed = storage.read.load(Ordering::Relaxed);
    let there = below(&folder, "leech");
    let leech = to.add(torrent.spec(&there, Assume::Journal, from.addresses().to_vec())).await.unwrap();
    complete(&leech).await;
    torrent.check(&there);
    // A piece a second may be looked at, whether it is still what it was.
    let read = storage.read.load(Ordering::Relaxed) - hashed;
    assert!(read < leech.stats().total / 8, "{read} bytes");
    to.shutdown().await;
    from.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_that_it_takes_runs_gets_several_blocks_in_one_message_and_no_other_does() {
    let torrent = TestTorrent::new(Version::Hybrid, 512 * KIB as u64, &[("data", 300 * KIB)]);
    let folder = tempfile::tempdir().unwrap();
    let from = engine().await;
    let source = seed(&from, &torrent, &below(&folder, "seed")).await;
    assert_eq!(source.stats().phase, Phase::Complete);
    let address = from.addresses()[0];
    let stranger = Connection::dial(address, &torrent.metainfo, b's').await;
    let own = Connection::dial_and_name_port(address, &torrent.metainfo, b'o', 9).await;
    for (mut peer, is_own) in [(stranger, false), (own, true)] {
        peer.send(Message::Interested).await;
        while !peer.next(|message| message == Message::Unchoke).await.unwrap() {}
        let mut requests = Vec::new();
        for at in 0..(300 * KIB as u32).div_ceil(BLOCK) {
            let (begin, len) = (at * BLOCK, BLOCK.min(300 * KIB as u32 - at * BLOCK));
            Message::Request(Block { piece: 0, begin, len }).encode(&mut requests);
        }
        peer.send_raw(&requests).await;
        let lengths = peer.piece_lengths(300 * KIB).await;
        let longest = lengths.iter().copied().max();
        let most = if is_own { MAX_RUN } else { BLOCK };
        assert_eq!(longest, Some(most as usize), "own: {is_own}, {lengths:?}");
    }
    from.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leechers_share_what_a_slow_seed_gives_and_it_gives_little_twice() {
    const LEECHERS: usize = 4;
    let torrent = TestTorrent::new(Version::Hybrid, 64 * KIB as u64, &[("data", 8 << 20)]);
    let folder = tempfile::tempdir().unwrap();
    let from = Engine::start(EngineConfig { upload_limit: Some(4 << 20), ..config() }).await.unwrap();
    let mut all = vec![from.addresses()[0]];
    let mut engines = Vec::new();
    for _ in 0..LEECHERS {
        let engine = engine().await;
        all.push(engine.addresses()[0]);
        engines.push(engine);
    }
    let started = std::time::Instant::now();
    let mut handles = Vec::new();
    for (index, engine) in engines.iter().enumerate() {
        let folder = below(&folder, &format!("leech-{index}"));
        handles.push(engine.add(torrent.spec(&folder, Assume::Journal, all.clone())).await.unwrap());
    }
    let source = seed(&from, &torrent, &below(&folder, "seed")).await;
    for (index, handle) in handles.iter().enumerate() {
        complete(handle).await;
        torrent.check(&below(&folder, &format!("leech-{index}")));
    }
    let copies = source.stats().uploaded as f64 / source.stats().total as f64;
    eprintln!("{LEECHERS} leechers: {:?}, {copies:.3} copies from the seed", started.elapsed());
    assert!(copies < 1.3, "the seed sent {copies:.2} copies");
    for handle in &handles {
        assert!(handle.stats().wasted <= 4 << 20, "{:?}", handle.stats());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_engines_that_dial_each_other_keep_one_connection() {
    let torrent = TestTorrent::new(Version::V2, 64 * KIB as u64, &[("data", 16 << 20)]);
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (
        Engine::start(EngineConfig { upload_limit: Some(8 << 20), ..config() }).await.unwrap(),
        engine().await,
    );
    let there = below(&folder, "leech");
    let mut peers = from.addresses().to_vec();
    peers.extend(to.addresses());
    let leech = to.add(torrent.spec(&there, Assume::Journal, peers)).await.unwrap();
    let source = seed(&from, &torrent, &below(&folder, "seed")).await;
    source.add_peers(to.addresses().to_vec());
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    assert_eq!((leech.stats().peers, source.stats().peers), (1, 1));
    complete(&leech).await;
    torrent.check(&there);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_of_the_folder_does_not_disturb() {
    let torrent = TestTorrent::new(Version::V2, 64 * KIB as u64, &[("a/data", 4 << 20), ("b", 4 << 20)]);
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (
        Engine::start(EngineConfig { upload_limit: Some(8 << 20), ..config() }).await.unwrap(),
        engine().await,
    );
    seed(&from, &torrent, &below(&folder, "seed")).await;
    let (before, after) = (below(&folder, "incoming"), below(&folder, "store"));
    let leech = to.add(torrent.spec(&before, Assume::Journal, from.addresses().to_vec())).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    std::fs::rename(&before, &after).unwrap();
    leech.moved(after.clone());
    complete(&leech).await;
    torrent.check(&after);
    assert!(!before.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn adding_twice_and_adding_what_is_not_there_are_refused() {
    let torrent = TestTorrent::new(Version::Hybrid, 64 * KIB as u64, &[("data", 100 * KIB)]);
    let folder = tempfile::tempdir().unwrap();
    let engine = engine().await;
    let missing = engine.add(torrent.spec(&below(&folder, "no"), Assume::Complete, Vec::new())).await;
    assert!(matches!(missing, Err(swarm::AddError::Incomplete { .. })), "{missing:?}");
    let handle = seed(&engine, &torrent, &below(&folder, "yes")).await;
    let twice = engine.add(torrent.spec(&below(&folder, "yes"), Assume::Complete, Vec::new())).await;
    assert!(matches!(twice, Err(swarm::AddError::Duplicate)), "{twice:?}");
    handle.remove().await;
    seed(&engine, &torrent, &below(&folder, "yes")).await;
    engine.shutdown().await;
    let late = engine.add(torrent.spec(&below(&folder, "yes"), Assume::Complete, Vec::new())).await;
    assert!(matches!(late, Err(swarm::AddError::ShutDown)), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_of_zeros_are_holes_and_are_not_transferred() {
    for version in [Version::Hybrid, Version::V2, Version::V1] {
        let mut torrent = TestTorrent::new(version, 64 * KIB as u64, &[("sparse", 3000 * KIB), ("b", 10)]);
        let sparse = torrent.files.iter().position(|file| file.path.as_str() == "sparse").unwrap();
        torrent.files[sparse].bytes[64 * KIB..2900 * KIB].fill(0);
        let torrent = torrent.hashed_anew(version, 64 * KIB as u64);
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (engine().await, engine().await);
        seed(&from, &torrent, &below(&folder, "seed")).await;
        let there = below(&folder, "leech");
        // What lies there already is not taken for zeros.
        std::fs::create_dir(&there).unwrap();
        std::fs::write(there.join("sparse"), vec![7; 200 * KIB]).unwrap();
        let leech = to.add(torrent.spec(&there, Assume::Journal, from.addresses().to_vec())).await.unwrap();
        complete(&leech).await;
        torrent.check(&there);
        let downloaded = leech.stats().downloaded;
        assert!(downloaded < 700 * KIB as u64, "{version:?}: {downloaded} bytes");
        let on_disk = std::fs::metadata(there.join("sparse")).unwrap().blocks() * 512;
        assert!(on_disk < 700 * KIB as u64, "{version:?}: {on_disk} bytes on disk");
        to.shutdown().await;
        from.shutdown().await;
    }
}
