//! From a link to the files: whole engines over loopback.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::scripted::Connection;
use common::{PATIENCE, TestTorrent, below, complete, engine, seed};
use swarm::lookup::{Progress, Wanted};
use swarm::{Assume, Engine, FindTorrent, Found};
use torrent::{Info, Limits, Metainfo, Version};

const KIB: usize = 1024;
const FILES: [(&str, usize); 4] =
    [("a/large", 20_000 * KIB), ("b", 40 * KIB), ("c/empty", 0), ("d", 70 * KIB)];

fn wanted(metainfo: &Metainfo) -> Wanted {
    Wanted { v1: metainfo.info_hash_v1(), v2: metainfo.info_hash_v2() }
}

fn find(wanted: Wanted, peers: Vec<SocketAddr>) -> FindTorrent {
    FindTorrent { wanted, limits: Limits::OWN, trackers: Vec::new(), peers }
}

async fn found(engine: &Engine, what: FindTorrent) -> Found {
    let lookup = engine.find(what).unwrap();
    tokio::time::timeout(PATIENCE, lookup.found()).await.expect("nothing was found").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_leads_to_the_files_in_every_version() {
    for version in [Version::V1, Version::V2, Version::Hybrid] {
        // 1,250 pieces of the large file: three chunks of hashes.
        let torrent = TestTorrent::new(version, 16 * KIB as u64, &FILES);
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (engine().await, engine().await);
        seed(&from, &torrent, &below(&folder, "seed")).await;
        let found = found(&to, find(wanted(&torrent.metainfo), from.addresses().to_vec())).await;
        assert_eq!(found.metainfo.encode(), torrent.metainfo.encode());
        let there = below(&folder, "leech");
        let metainfo = Arc::new(found.metainfo);
        let spec = swarm::AddTorrent { metainfo, ..torrent.spec(&there, Assume::Journal, found.peers) };
        let leech = to.add(spec).await.unwrap();
        complete(&leech).await;
        torrent.check(&there);
        to.shutdown().await;
        from.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hybrid_is_found_whole_by_either_hash() {
    let torrent = TestTorrent::new(Version::Hybrid, 16 * KIB as u64, &FILES);
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (engine().await, engine().await);
    seed(&from, &torrent, folder.path()).await;
    let both = wanted(&torrent.metainfo);
    for wanted in [Wanted { v1: None, ..both }, Wanted { v2: None, ..both }] {
        let found = found(&to, find(wanted, from.addresses().to_vec())).await;
        assert_eq!(found.metainfo.encode(), torrent.metainfo.encode(), "{wanted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_dials_who_looks_for_the_torrent_is_asked_too() {
    let torrent = TestTorrent::new(Version::V2, 16 * KIB as u64, &FILES);
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (engine().await, engine().await);
    let lookup = to.find(find(wanted(&torrent.metainfo), Vec::new())).unwrap();
    assert_eq!(lookup.status().progress, Progress::Info);
    let source = seed(&from, &torrent, folder.path()).await;
    source.add_peers(to.addresses().to_vec());
    let found = tokio::time::timeout(PATIENCE, lookup.found()).await.expect("nothing was found").unwrap();
    assert_eq!(found.metainfo.encode(), torrent.metainfo.encode());
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_dial_us_and_have_nothing_do_not_keep_us_from_dialling() {
    let torrent = TestTorrent::new(Version::V2, 16 * KIB as u64, &[("x", 10)]);
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (engine().await, engine().await);
    let lookup = to.find(find(wanted(&torrent.metainfo), from.addresses().to_vec())).unwrap();
    let mut useless = Vec::new();
    for id in 0..16 {
        useless.push(Connection::dial_and_name_port(to.addresses()[0], &torrent.metainfo, id, 9).await);
    }
    seed(&from, &torrent, folder.path()).await;
    let found = tokio::time::timeout(Duration::from_secs(10), lookup.found()).await;
    assert!(found.expect("nobody was dialled").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_ends_with_its_handle_or_its_engine() {
    let torrent = TestTorrent::new(Version::V1, 16 * KIB as u64, &[("x", 10)]);
    let to = engine().await;
    let what = || find(wanted(&torrent.metainfo), vec!["127.0.0.1:9".parse().unwrap()]);
    drop(to.find(what()).unwrap());
    let lookup = to.find(what()).unwrap();
    let found = tokio::spawn(async move { lookup.found().await });
    to.shutdown().await;
    assert!(found.await.unwrap().is_err());
    assert!(to.find(what()).is_err(), "the engine has been shut down");
}

/// SHA-1 covers the padding behind a file too.
#[tokio::test(flavor = "multi_thread")]
async fn a_hybrid_whose_layers_nobody_has_is_verified_by_sha_1_and_nobody_is_blamed() {
    let torrent =
        TestTorrent::new(Version::Hybrid, 16 * KIB as u64, &[("a", 100_000), ("b", 100_001), ("c", 7)]);
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (engine().await, engine().await);
    seed(&from, &torrent, &below(&folder, "seed")).await;
    let info = Info::parse(torrent.metainfo.info_bytes(), &Limits::OWN).unwrap();
    let metainfo = Arc::new(info.without_layers().unwrap());
    let there = below(&folder, "leech");
    let peers = from.addresses().to_vec();
    let spec = swarm::AddTorrent { metainfo, ..torrent.spec(&there, Assume::Journal, peers) };
    let leech = to.add(spec).await.unwrap();
    complete(&leech).await;
    torrent.check(&there);
    assert_eq!((leech.stats().banned, leech.stats().wasted), (0, 0));
}
