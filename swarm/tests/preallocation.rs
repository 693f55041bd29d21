//! Space that is taken before the first byte is asked for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::watched::Watched;
use common::{PATIENCE, TestTorrent, below, bytes, complete, config, engine, seed};
use rustix::fs::FallocateFlags;
use swarm::{Assume, Engine, EngineConfig, GrowTorrent, Selection, TorrentHandle, Trouble};
use torrent::Version;
use torrent::ingest::{Outline, SigningKey};

const MIB: usize = 1 << 20;

/// Whether the file system of temporary files takes space for files; if not, the test named `what` is skipped.
fn reserves(what: &str, folder: &tempfile::TempDir) -> bool {
    let file = std::fs::File::create(below(folder, "probe")).unwrap();
    let Err(error) = rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, MIB as u64) else {
        return true;
    };
    common::skip(what, &format!("no fallocate here: {error}"));
    false
}

fn on_disk(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}

async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

async fn is_full(handle: &TorrentHandle) {
    let mut stats = handle.changed();
    let full = stats.wait_for(|stats| stats.trouble == Some(Trouble::DiskFull));
    tokio::time::timeout(PATIENCE, full).await.expect("it says that it does not fit").unwrap();
}

/// What does not fit is not begun, goes on by itself, and has cost nothing.
async fn waits_for_room(files: &[(&str, usize)], too_little: (u64, u64), enough: (u64, u64)) {
    let torrent = TestTorrent::new(Version::V2, 64 * 1024, files);
    let folder = tempfile::tempdir().unwrap();
    let (from, to, there) = (engine().await, engine().await, below(&folder, "to"));
    seed(&from, &torrent, &below(&folder, "from")).await;
    let storage = Watched::new(&torrent, &there, Some(too_little));
    let spec = torrent.spec(&there, Assume::Journal, from.addresses().to_vec());
    let handle = to.add_with(spec, storage.clone()).await.unwrap();
    is_full(&handle).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let stats = handle.stats();
    assert_eq!((stats.downloaded, stats.trouble), (0, Some(Trouble::DiskFull)), "a byte was asked for");
    assert_eq!(std::fs::read_dir(&there).unwrap().count(), 0, "a file was made");
    storage.has_room(enough);
    complete(&handle).await;
    let stats = handle.stats();
    assert_eq!((stats.downloaded, stats.wasted, stats.trouble), (stats.total, 0, None));
    torrent.check(&there);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_not_begun_and_goes_on_when_there_is_room() {
    let total = 5 * MIB as u64 + 7;
    waits_for_room(&[("a", 3 * MIB), ("b", 2 * MIB + 7)], (total - 1, 9), (total, 9)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_files_that_do_not_fit_are_not_begun() {
    waits_for_room(&[("a", 90_000), ("b", 90_000), ("c", 90_000)], (200_000, 9), (270_000, 9)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_files_than_there_may_be_are_not_begun() {
    waits_for_room(&[("a", 90_000), ("b", 90_000), ("c", 90_000)], (MIB as u64, 2), (MIB as u64, 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_larger_than_the_disk_is_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let stat = rustix::fs::statvfs(folder.path()).unwrap();
    let (size, piece) = (2 * stat.f_blocks * stat.f_frsize, 64 << 20);
    // Whatever it hashes to: none of it comes.
    let pieces = size.div_ceil(piece);
    let mut raw =
        format!("d4:infod6:lengthi{size}e4:name4:huge12:piece lengthi{piece}e6:pieces{}:", pieces * 20)
            .into_bytes();
    raw.resize(raw.len() + pieces as usize * 20, 1);
    raw.extend_from_slice(b"ee");
    let metainfo = Arc::new(torrent::Metainfo::parse(&raw, &torrent::Limits::FOREIGN).unwrap());
    let layout = vec![metainfo.files()[0].path.clone()];
    let to = engine().await;
    let there = below(&folder, "to");
    let spec = swarm::AddTorrent {
        metainfo,
        folder: there.clone(),
        layout,
        journal: None,
        trackers: Vec::new(),
        assume: Assume::Journal,
        peers: Vec::new(),
        web_seeds: Vec::new(),
    };
    let handle = to.add(spec).await.unwrap();
    is_full(&handle).await;
    let after = rustix::fs::statvfs(folder.path()).unwrap();
    assert!(after.f_bavail * 2 > stat.f_bavail, "the disk was filled to find out");
    assert_eq!(std::fs::read_dir(&there).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn space_is_taken_before_a_byte_has_come() {
    let folder = tempfile::tempdir().unwrap();
    if !reserves("taking space", &folder) {
        return;
    }
    let files = [("big", 5 * MIB), ("small", 100_000)];
    let torrent = TestTorrent::new(Version::Hybrid, 64 * 1024, &files);
    let (to, there) = (engine().await, below(&folder, "to"));
    let handle = to.add(torrent.spec(&there, Assume::Journal, Vec::new())).await.unwrap();
    eventually("the space is taken", || on_disk(&there.join("big")) >= 5 * MIB as u64).await;
    assert!(!there.join("small").exists(), "it is made when something of it comes");
    eventually("the figures say so", || handle.stats().ahead == 100_000).await;
    let from = engine().await;
    seed(&from, &torrent, &below(&folder, "from")).await;
    handle.add_peers(from.addresses().to_vec());
    complete(&handle).await;
    torrent.check(&there);
    assert_eq!(handle.stats().ahead, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_want_that_has_sparse_files() {
    let folder = tempfile::tempdir().unwrap();
    let torrent = TestTorrent::new(Version::V2, 64 * 1024, &[("big", 5 * MIB)]);
    let from = engine().await;
    seed(&from, &torrent, &below(&folder, "from")).await;
    let to = Engine::start(EngineConfig { preallocate: false, ..config() }).await.unwrap();
    let there = below(&folder, "to");
    let storage = Watched::new(&torrent, &there, Some((0, 0)));
    let spec = torrent.spec(&there, Assume::Journal, Vec::new());
    let handle = to.add_with(spec, storage).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!there.join("big").exists());
    assert_eq!(handle.stats().ahead, 5 * MIB as u64);
    handle.add_peers(from.addresses().to_vec());
    complete(&handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_a_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    if !reserves("taking space around what lies there", &folder) {
        return;
    }
    let torrent = TestTorrent::new(Version::V2, 64 * 1024, &[("long", 4 * MIB), ("short", 4 * MIB)]);
    let there = below(&folder, "to");
    std::fs::create_dir(&there).unwrap();
    let (long, short) = (bytes(5 * MIB, 91), bytes(MIB, 92));
    std::fs::write(there.join("long"), &long).unwrap();
    std::fs::write(there.join("short"), &short).unwrap();
    let to = engine().await;
    let _handle = to.add(torrent.spec(&there, Assume::Journal, Vec::new())).await.unwrap();
    eventually("the space is taken", || on_disk(&there.join("short")) >= 4 * MIB as u64).await;
    assert!(std::fs::read(there.join("long")).unwrap() == long, "a file that is too long was cut");
    let found = std::fs::read(there.join("short")).unwrap();
    assert!(found[..MIB] == short[..] && found[MIB..].iter().all(|byte| *byte == 0));
}

/// A torrent of data, much nothing, and data.
fn sparse(version: Version) -> TestTorrent {
    let mut torrent = TestTorrent::new(version, 64 * 1024, &[("image", 24 * MIB)]);
    torrent.files[0].bytes[2 * MIB..22 * MIB].fill(0);
    torrent.hashed_anew(version, 64 * 1024)
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_are_holes_and_take_no_space() {
    let folder = tempfile::tempdir().unwrap();
    if !reserves("taking space around holes", &folder) {
        return;
    }
    for version in [Version::V1, Version::V2, Version::Hybrid] {
        let torrent = sparse(version);
        let (from, to) = (engine().await, engine().await);
        let there = below(&folder, &format!("{version:?}"));
        // The zeros need no room.
        let storage = Watched::new(&torrent, &there, Some((4 * MIB as u64, 9)));
        let handle = to.add_with(torrent.spec(&there, Assume::Journal, Vec::new()), storage).await.unwrap();
        let image = there.join("image");
        eventually("the space is taken", || on_disk(&image) >= 4 * MIB as u64).await;
        assert!(on_disk(&image) < 5 * MIB as u64, "{version:?}: {} bytes", on_disk(&image));
        seed(&from, &torrent, &below(&folder, "from")).await;
        handle.add_peers(from.addresses().to_vec());
        complete(&handle).await;
        assert!(on_disk(&image) < 5 * MIB as u64, "{version:?}: {} bytes", on_disk(&image));
        torrent.check(&there);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_before_is_not_asked_for_twice() {
    let folder = tempfile::tempdir().unwrap();
    if !reserves("taking space once", &folder) {
        return;
    }
    let torrent = sparse(Version::Hybrid);
    let there = below(&folder, "to");
    let journal = Some(below(&folder, "journal"));
    for room in [4 * MIB as u64, 0] {
        let to = engine().await;
        let spec = swarm::AddTorrent {
            journal: journal.clone(),
            ..torrent.spec(&there, Assume::Journal, Vec::new())
        };
        let handle = to.add_with(spec, Watched::new(&torrent, &there, Some((room, 9)))).await.unwrap();
        eventually("the space is taken", || on_disk(&there.join("image")) >= 4 * MIB as u64).await;
        let mut stats = handle.changed();
        let zeros = stats.wait_for(|stats| stats.have == 20 * MIB as u64);
        tokio::time::timeout(PATIENCE, zeros).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(handle.stats().trouble, None, "with {room} bytes of room");
        to.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn space_is_taken_for_what_is_selected() {
    let folder = tempfile::tempdir().unwrap();
    if !reserves("taking space for a selection", &folder) {
        return;
    }
    let torrent = TestTorrent::new(Version::V1, 64 * 1024, &[("no", 3 * MIB + 9), ("yes", 3 * MIB)]);
    let (to, there) = (engine().await, below(&folder, "to"));
    let selection = Selection { files: BTreeSet::from([1]), parts: below(&folder, "parts") };
    let spec = torrent.spec(&there, Assume::Journal, Vec::new());
    let _handle = to.add_selected(spec, &selection).await.unwrap();
    eventually("the space is taken", || on_disk(&there.join("yes")) >= 3 * MIB as u64).await;
    assert!(!there.join("no").exists() && !selection.parts.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torrent_that_grows_takes_its_space_but_for_what_is_held_back() {
    let folder = tempfile::tempdir().unwrap();
    if !reserves("taking space for a torrent that grows", &folder) {
        return;
    }
    let torrent = TestTorrent::new(Version::Hybrid, 64 * 1024, &[("held", 2 * MIB), ("read", 2 * MIB)]);
    let files = torrent.files.iter().map(|file| (file.path.clone(), file.bytes.len() as u64)).collect();
    let key = SigningKey::from_seed(&[1; 32]).public();
    let outline = Outline::new("data/set-1", 0, key, Version::Hybrid, 64 * 1024, files).unwrap();
    let (to, there) = (engine().await, below(&folder, "to"));
    let grow = GrowTorrent {
        outline,
        folder: there.clone(),
        journal: below(&folder, "journal"),
        trackers: Vec::new(),
        peers: Vec::new(),
        held: Vec::from([std::ops::Range { start: 0, end: 32 }]),
    };
    let _handle = to.grow(&grow).await.unwrap();
    eventually("the space is taken", || on_disk(&there.join("read")) >= 2 * MIB as u64).await;
    assert!(!there.join("held").exists(), "a link is to be put there");
}
