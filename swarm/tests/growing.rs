//! Content that is shared while it is still being read: engines on loopback, one or more of which read an "origin".
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{PATIENCE, TestTorrent, below, complete, engine, seed};
use sha2::{Digest as _, Sha256};
use swarm::{Assume, Engine, Fetcher, GraduateError, GrowTorrent, PutError, TorrentHandle, Trouble};
use torrent::Version;
use torrent::ingest::{Outline, SigningKey, Warrant};

const PIECE: u64 = 64 * 1024;

fn opener() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

fn outline(torrent: &TestTorrent) -> Outline {
    let files = torrent.files.iter().map(|file| (file.path.clone(), file.bytes.len() as u64)).collect();
    Outline::new("data/set-1", 0, opener().public(), torrent.metainfo.version(), PIECE, files).unwrap()
}

fn fetcher(outline: &Outline, name: &str) -> Fetcher {
    let mut seed = [2; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    let key = SigningKey::from_seed(&seed);
    let warrant = Warrant::new(&opener(), outline.id(), name, key.public()).unwrap();
    Fetcher { key, warrant }
}

async fn grow(engine: &Engine, outline: &Outline, folder: &Path, peers: Vec<SocketAddr>) -> TorrentHandle {
    std::fs::create_dir_all(folder).unwrap();
    let journal = folder.join("journal");
    let grow = GrowTorrent {
        held: Vec::new(),
        outline: outline.clone(),
        folder: folder.join("data"),
        journal,
        trackers: Vec::new(),
        peers,
    };
    engine.grow(&grow).await.unwrap()
}

/// Several engines that share one ingest; each knows those before it.
struct Nodes {
    engines: Vec<Engine>,
    handles: Vec<TorrentHandle>,
    folders: Vec<PathBuf>,
}

impl Nodes {
    async fn start(count: usize, outline: &Outline, temp: &tempfile::TempDir) -> Self {
        let mut nodes = Self { engines: Vec::new(), handles: Vec::new(), folders: Vec::new() };
        for number in 0..count {
            nodes.join(outline, below(temp, &number.to_string())).await;
        }
        nodes
    }

    async fn join(&mut self, outline: &Outline, folder: PathBuf) -> &TorrentHandle {
        let peers = self.engines.iter().map(|engine| engine.addresses()[0]).collect();
        let engine = engine().await;
        self.handles.push(grow(&engine, outline, &folder, peers).await);
        self.engines.push(engine);
        self.folders.push(folder);
        self.handles.last().unwrap()
    }

    fn data(&self, number: usize) -> PathBuf {
        self.folders[number].join("data")
    }
}

/// The bytes of a piece as the origin has them.
fn piece_of(torrent: &TestTorrent, piece: u32) -> Vec<u8> {
    let mut bytes = vec![0; torrent.metainfo.pieces().len(piece) as usize];
    for segment in torrent.metainfo.pieces().segments(piece) {
        let from =
            &torrent.files[segment.file].bytes[segment.offset_in_file as usize..][..segment.len as usize];
        bytes[segment.offset_in_piece as usize..][..from.len()].copy_from_slice(from);
    }
    bytes
}

async fn put(handle: &TorrentHandle, by: &Fetcher, piece: u32, bytes: &[u8]) -> Result<(), PutError> {
    let mut buffer = handle.buffer(bytes.len() as u32).await.ok_or(PutError::Stopped)?;
    buffer.as_mut().copy_from_slice(bytes);
    handle.put(by, piece, buffer).await
}

/// Reads what has to be read of these pieces, and counts it.
async fn read(
    handle: &TorrentHandle,
    by: &Fetcher,
    torrent: &TestTorrent,
    pieces: std::ops::Range<u32>,
) -> u64 {
    handle.read_origin(true);
    let mut read = 0;
    while let Some(piece) = handle.claim(pieces.clone()) {
        let bytes = piece_of(torrent, piece);
        put(handle, by, piece, &bytes).await.unwrap();
        read += bytes.len() as u64;
    }
    handle.read_origin(false);
    read
}

fn digest(torrent: &TestTorrent) -> Option<[u8; 32]> {
    (torrent.files.len() == 1).then(|| Sha256::digest(&torrent.files[0].bytes).into())
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn one_file(len: usize) -> TestTorrent {
    TestTorrent::new(Version::Hybrid, PIECE, &[("model.bin", len)])
}

fn several() -> TestTorrent {
    TestTorrent::new(
        Version::Hybrid,
        PIECE,
        &[("a/one", 300_000), ("a/two", 5), ("b", 65_536), ("c/empty", 0), ("d", 900_001)],
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_have_what_one_has_read_once_and_find_the_same_torrent() {
    for torrent in [one_file(3_000_000), several()] {
        let temp = tempfile::tempdir().unwrap();
        let outline = outline(&torrent);
        let nodes = Nodes::start(4, &outline, &temp).await;
        let all = outline.plan().pieces().count();
        let origin = read(&nodes.handles[1], &fetcher(&outline, "node-1"), &torrent, 0..all).await;
        assert_eq!(origin, outline.total_size());
        for (number, handle) in nodes.handles.iter().enumerate() {
            complete(handle).await;
            torrent.check(&nodes.data(number));
            let grown = handle.grown(digest(&torrent)).unwrap().unwrap();
            assert_eq!(grown.encode(), torrent.metainfo.encode());
            handle.graduate(torrent.metainfo.clone()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_late_gets_hashes_and_bytes_from_whoever_has_them() {
    let (torrent, temp) = (one_file(2_000_000), tempfile::tempdir().unwrap());
    let outline = outline(&torrent);
    let mut nodes = Nodes::start(2, &outline, &temp).await;
    let all = outline.plan().pieces().count();
    let by = fetcher(&outline, "node-0");
    read(&nodes.handles[0], &by, &torrent, 0..all / 2).await;
    let has_half = |handle: &TorrentHandle| handle.stats().have == u64::from(all / 2) * PIECE;
    until("half is at the second node", || has_half(&nodes.handles[1])).await;
    nodes.engines[0].shutdown().await;
    let late = nodes.join(&outline, below(&temp, "late")).await.clone();
    until("half is at the late node", || has_half(&late)).await;
    // It goes on with what nobody has read.
    let origin = read(&late, &fetcher(&outline, "late"), &torrent, 0..all).await;
    assert_eq!(origin, outline.total_size() - u64::from(all / 2) * PIECE);
    complete(&late).await;
    complete(&nodes.handles[1]).await;
    torrent.check(&nodes.data(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fetchers_read_each_piece_once_between_them() {
    let (torrent, temp) = (several(), tempfile::tempdir().unwrap());
    let outline = outline(&torrent);
    let nodes = Nodes::start(3, &outline, &temp).await;
    let all = outline.plan().pieces().count();
    let (first, second) = (fetcher(&outline, "node-0"), fetcher(&outline, "node-1"));
    let (a, b) = tokio::join!(
        read(&nodes.handles[0], &first, &torrent, 0..all / 2),
        read(&nodes.handles[1], &second, &torrent, all / 2..all),
    );
    assert_eq!(a + b, outline.total_size());
    for (number, handle) in nodes.handles.iter().enumerate() {
        complete(handle).await;
        torrent.check(&nodes.data(number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_durable_is_there_after_a_start_and_the_rest_is_read_on() {
    let (torrent, temp) = (one_file(2_000_000), tempfile::tempdir().unwrap());
    let outline = outline(&torrent);
    let (by, all) = (fetcher(&outline, "node-0"), outline.plan().pieces().count());
    let folder = below(&temp, "node");
    let durable = {
        let engine = engine().await;
        let handle = grow(&engine, &outline, &folder, Vec::new()).await;
        read(&handle, &by, &torrent, 0..all / 2).await;
        until("half is durable", || handle.durable().count() == all / 2).await;
        engine.shutdown().await;
        handle.durable().count()
    };
    let engine = engine().await;
    let handle = grow(&engine, &outline, &folder, Vec::new()).await;
    assert_eq!((handle.stats().have, handle.known_pieces()), (u64::from(durable) * PIECE, durable as usize));
    let origin = read(&handle, &by, &torrent, 0..all).await;
    assert_eq!(origin, outline.total_size() - u64::from(durable) * PIECE);
    complete(&handle).await;
    torrent.check(&folder.join("data"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_whose_hashes_are_lost_are_not_believed() {
    let (torrent, temp) = (one_file(1_000_000), tempfile::tempdir().unwrap());
    let outline = outline(&torrent);
    let (by, all) = (fetcher(&outline, "node-0"), outline.plan().pieces().count());
    let folder = below(&temp, "node");
    {
        let engine = engine().await;
        let handle = grow(&engine, &outline, &folder, Vec::new()).await;
        read(&handle, &by, &torrent, 0..all / 2).await;
        until("half is durable", || handle.durable().count() == all / 2).await;
        engine.shutdown().await;
    }
    std::fs::remove_file(folder.join("journal.hashes")).unwrap();
    let engine = engine().await;
    let handle = grow(&engine, &outline, &folder, Vec::new()).await;
    assert_eq!((handle.stats().have, handle.known_pieces()), (0, 0));
    assert_eq!(read(&handle, &by, &torrent, 0..all).await, outline.total_size());
    complete(&handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_starts_after_it_has_graduated_hashes_nothing_again() {
    let (torrent, temp) = (one_file(1_000_000), tempfile::tempdir().unwrap());
    let outline = outline(&torrent);
    let folder = below(&temp, "node");
    let engine = engine().await;
    let handle = grow(&engine, &outline, &folder, Vec::new()).await;
    read(&handle, &fetcher(&outline, "node-0"), &torrent, 0..outline.plan().pieces().count()).await;
    complete(&handle).await;
    handle.graduate(torrent.metainfo.clone()).await.unwrap();
    engine.shutdown().await;
    let engine = common::engine().await;
    let mut spec = torrent.spec(&folder.join("data"), Assume::Journal, Vec::new());
    spec.journal = Some(folder.join("journal"));
    let handle = engine.add(spec).await.unwrap();
    assert_eq!(handle.stats().durable, outline.total_size());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graduated_torrent_is_open_to_who_knows_it_by_its_infohash() {
    let (torrent, temp) = (several(), tempfile::tempdir().unwrap());
    let outline = outline(&torrent);
    let nodes = Nodes::start(1, &outline, &temp).await;
    let handle = &nodes.handles[0];
    read(handle, &fetcher(&outline, "node-0"), &torrent, 0..outline.plan().pieces().count()).await;
    let other = engine().await;
    let folder = below(&temp, "other");
    let spec = torrent.spec(&folder, Assume::Nothing, vec![nodes.engines[0].addresses()[0]]);
    let joined = other.add(spec).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(joined.stats().have, 0, "it is known under another name");
    handle.graduate(torrent.metainfo.clone()).await.unwrap();
    complete(&joined).await;
    torrent.check(&folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_torrent_does_not_take_the_place_of_the_one_that_grew() {
    let (torrent, temp) = (one_file(500_000), tempfile::tempdir().unwrap());
    let outline = outline(&torrent);
    let nodes = Nodes::start(1, &outline, &temp).await;
    let handle = &nodes.handles[0];
    read(handle, &fetcher(&outline, "node-0"), &torrent, 0..2).await;
    let mut other = one_file(500_000);
    other.files[0].bytes[3] ^= 1;
    let other = other.hashed_anew(Version::Hybrid, PIECE);
    assert_eq!(handle.graduate(other.metainfo.clone()).await, Err(GraduateError::Another));
    // Another process has made the same torrent meanwhile.
    let whole = seed(&nodes.engines[0], &torrent, &below(&temp, "whole")).await;
    assert_eq!(handle.graduate(torrent.metainfo.clone()).await, Err(GraduateError::Duplicate));
    whole.remove().await;
    handle.graduate(torrent.metainfo.clone()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_the_whole_torrent_early_goes_on_without_the_fetchers_hashes() {
    let (torrent, temp) = (one_file(1_500_000), tempfile::tempdir().unwrap());
    let outline = outline(&torrent);
    let mut nodes = Nodes::start(1, &outline, &temp).await;
    let all = outline.plan().pieces().count();
    read(&nodes.handles[0], &fetcher(&outline, "node-0"), &torrent, 0..all).await;
    complete(&nodes.handles[0]).await;
    nodes.handles[0].graduate(torrent.metainfo.clone()).await.unwrap();
    let late = nodes.join(&outline, below(&temp, "late")).await.clone();
    late.graduate(torrent.metainfo.clone()).await.unwrap();
    complete(&late).await;
    torrent.check(&nodes.data(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_differ_from_what_was_read_before_are_refused() {
    let (torrent, temp) = (one_file(500_000), tempfile::tempdir().unwrap());
    let outline = outline(&torrent);
    let nodes = Nodes::start(2, &outline, &temp).await;
    read(&nodes.handles[0], &fetcher(&outline, "node-0"), &torrent, 0..1).await;
    until("the hash is known", || nodes.handles[1].known_pieces() == 1).await;
    let by = fetcher(&outline, "node-1");
    let mut changed = piece_of(&torrent, 0);
    changed[7] ^= 1;
    let refused = put(&nodes.handles[1], &by, 0, &changed).await;
    assert!(
        matches!(&refused, Err(PutError::Changed { piece: 0, before }) if before == "node-0"),
        "{refused:?}"
    );
    put(&nodes.handles[1], &by, 0, &piece_of(&torrent, 0)).await.unwrap();
    let short = put(&nodes.handles[1], &by, 1, &changed[1..]).await;
    assert!(matches!(short, Err(PutError::Length { piece: 1, .. })), "{short:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fetchers_that_contradict_each_other_are_named() {
    let (torrent, temp) = (one_file(500_000), tempfile::tempdir().unwrap());
    let outline = outline(&torrent);
    // They read while they do not know of each other.
    let [first, second] = [engine().await, engine().await];
    let one = grow(&first, &outline, &below(&temp, "1"), Vec::new()).await;
    let other = grow(&second, &outline, &below(&temp, "2"), Vec::new()).await;
    read(&one, &fetcher(&outline, "node-1"), &torrent, 0..1).await;
    let mut changed = piece_of(&torrent, 0);
    changed[7] ^= 1;
    put(&other, &fetcher(&outline, "node-2"), 0, &changed).await.unwrap();
    let witness = engine().await;
    let peers = vec![first.addresses()[0], second.addresses()[0]];
    let seen = grow(&witness, &outline, &below(&temp, "3"), peers).await;
    until("the contradiction is seen", || matches!(seen.stats().trouble, Some(Trouble::Faulty(_)))).await;
    let Some(Trouble::Faulty(mut fault)) = seen.stats().trouble else { unreachable!("it was seen") };
    assert!(fault.what.contains("node-1") && fault.what.contains("node-2"), "{fault:?}");
    fault.fetchers.sort();
    assert_eq!(fault.fetchers, ["node-1", "node-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetcher_without_a_warrant_convinces_nobody() {
    let (torrent, temp) = (one_file(500_000), tempfile::tempdir().unwrap());
    let outline = outline(&torrent);
    let nodes = Nodes::start(2, &outline, &temp).await;
    let mut forged = fetcher(&outline, "node-0");
    forged.warrant = Warrant::new(&forged.key, outline.id(), "node-0", forged.key.public()).unwrap();
    let refused = put(&nodes.handles[0], &forged, 0, &piece_of(&torrent, 0)).await;
    assert!(matches!(refused, Err(PutError::Hashes(_))), "{refused:?}");
    assert_eq!((nodes.handles[0].known_pieces(), nodes.handles[1].known_pieces()), (0, 0));
}

/// A piece that was read is passed on at once, not when all is read.
#[tokio::test(flavor = "multi_thread")]
async fn the_others_have_each_piece_before_the_next_one_is_read() {
    let (torrent, temp) = (one_file(600_000), tempfile::tempdir().unwrap());
    let outline = outline(&torrent);
    let nodes = Nodes::start(3, &outline, &temp).await;
    let by = fetcher(&outline, "node-0");
    nodes.handles[0].read_origin(true);
    for piece in 0..outline.plan().pieces().count() {
        assert_eq!(nodes.handles[0].claim(0..piece + 1), Some(piece));
        put(&nodes.handles[0], &by, piece, &piece_of(&torrent, piece)).await.unwrap();
        for handle in &nodes.handles {
            let arrived = tokio::time::timeout(PATIENCE, handle.arrived(piece)).await;
            assert!(matches!(arrived, Ok(true)), "piece {piece}: {:?}", handle.stats());
        }
    }
    for handle in &nodes.handles {
        complete(handle).await;
    }
}
