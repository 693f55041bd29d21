//! Some files of a torrent.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::path::Path;

use common::scripted::Connection;
use common::{TestTorrent, below, complete, engine, seed};
use swarm::wire::{ExtensionHandshake, Message};
use swarm::{AddTorrent, Assume, Engine, Phase, Selection, TorrentHandle};
use tempfile::TempDir;
use torrent::Version;

const PIECE: u64 = 32 << 10;
/// In a v1 torrent `b` shares a piece with `a` and another with `c`.
const FILES: &[(&str, usize)] = &[("a", 100_000), ("b", 120_000), ("c", 500_000), ("empty", 0)];

fn only(files: &[usize], folder: &Path) -> Selection {
    Selection { files: files.iter().copied().collect(), parts: folder.join(".parts") }
}

fn spec(torrent: &TestTorrent, folder: &Path, assume: Assume, from: &Engine) -> AddTorrent {
    let journal = Some(folder.join(".journal"));
    std::fs::create_dir_all(folder).unwrap();
    AddTorrent { journal, ..torrent.spec(folder, assume, from.addresses().to_vec()) }
}

async fn get(
    engine: &Engine,
    torrent: &TestTorrent,
    folder: &Path,
    selection: &Selection,
    from: &Engine,
) -> TorrentHandle {
    let assume = if folder.join(".journal").exists() { Assume::Journal } else { Assume::Nothing };
    let handle = engine.add_selected(spec(torrent, folder, assume, from), selection).await.unwrap();
    complete(&handle).await;
    handle
}

fn same(torrent: &TestTorrent, folder: &Path, file: usize) -> bool {
    let file = &torrent.files[file];
    std::fs::read(folder.join(file.path.as_str())).is_ok_and(|found| found == file.bytes)
}

#[tokio::test]
async fn only_the_pieces_of_selected_files_are_fetched() {
    for (version, pieces) in [(Version::V1, 4), (Version::Hybrid, 4)] {
        let temp = TempDir::new().unwrap();
        let torrent = TestTorrent::new(version, PIECE, FILES);
        let (from, to, folder) = (engine().await, engine().await, below(&temp, "to"));
        seed(&from, &torrent, &below(&temp, "from")).await;
        let handle = get(&to, &torrent, &folder, &only(&[1], &folder), &from).await;
        let stats = handle.stats();
        assert!(same(&torrent, &folder, 1), "{version:?}");
        assert!(stats.downloaded <= pieces * PIECE, "{version:?}: {}", stats.downloaded);
        assert_eq!((stats.lacking, stats.total, stats.wanted), (0, 720_000, stats.have), "{version:?}");
        for name in ["a", "c", "empty"] {
            assert!(!folder.join(name).exists(), "{version:?}: nobody asked for {name}");
        }
    }
}

#[tokio::test]
async fn a_shared_piece_is_served_and_survives_a_restart() {
    let temp = TempDir::new().unwrap();
    let torrent = TestTorrent::new(Version::V1, PIECE, FILES);
    let (from, middle, folder) = (engine().await, engine().await, below(&temp, "middle"));
    seed(&from, &torrent, &below(&temp, "from")).await;
    get(&middle, &torrent, &folder, &only(&[1], &folder), &from).await;
    middle.shutdown().await;
    from.shutdown().await;

    let middle = engine().await;
    let again = get(&middle, &torrent, &folder, &only(&[1], &folder), &from).await;
    assert_eq!(again.stats().downloaded, 0);
    let (last, there) = (engine().await, below(&temp, "last"));
    get(&last, &torrent, &there, &only(&[1], &there), &middle).await;
    assert!(same(&torrent, &there, 1));
}

#[tokio::test]
async fn a_selection_that_grows_fetches_the_rest() {
    let temp = TempDir::new().unwrap();
    let torrent = TestTorrent::new(Version::V1, PIECE, FILES);
    let (from, folder) = (engine().await, below(&temp, "to"));
    seed(&from, &torrent, &below(&temp, "from")).await;
    for (selected, at_most) in [(&[1][..], 4), (&[0, 1, 3], 5), (&[1], 0), (&[0, 1, 2, 3], 17)] {
        let to = engine().await;
        let stats = get(&to, &torrent, &folder, &only(selected, &folder), &from).await.stats();
        assert!(selected.iter().all(|file| same(&torrent, &folder, *file)), "{selected:?}");
        assert!(stats.downloaded <= at_most * PIECE, "{selected:?}: {}", stats.downloaded);
        to.shutdown().await;
    }
}

#[tokio::test]
async fn who_has_a_selection_is_no_seed_for_others() {
    let temp = TempDir::new().unwrap();
    let torrent = TestTorrent::new(Version::V1, PIECE, FILES);
    let (from, middle, folder) = (engine().await, engine().await, below(&temp, "middle"));
    seed(&from, &torrent, &below(&temp, "from")).await;
    get(&middle, &torrent, &folder, &only(&[1], &folder), &from).await;
    from.shutdown().await;
    let (last, there) = (engine().await, below(&temp, "last"));
    let handle = last.add(spec(&torrent, &there, Assume::Nothing, &middle)).await.unwrap();
    let mut stats = handle.changed();
    let got = stats.wait_for(|stats| stats.have >= 120_000);
    tokio::time::timeout(common::PATIENCE, got).await.expect("what the other has comes").unwrap();
    let stats = handle.stats();
    assert_eq!((stats.phase, stats.seeds), (Phase::Leeching, 0));
}

#[tokio::test]
async fn zeros_at_the_border_of_a_selection_make_no_parts_file() {
    let temp = TempDir::new().unwrap();
    let files = [("a", 2 * PIECE as usize + 100), ("b", 2 * PIECE as usize)];
    let mut torrent = TestTorrent::new(Version::V1, PIECE, &files);
    torrent.files.iter_mut().for_each(|file| file.bytes.fill(0));
    let torrent = torrent.hashed_anew(Version::V1, PIECE);
    let engine = engine().await;
    let handle = engine
        .add_selected(torrent.spec(temp.path(), Assume::Journal, Vec::new()), &only(&[0], temp.path()))
        .await
        .unwrap();
    let mut stats = handle.changed();
    let known = stats.wait_for(|stats| stats.have == 2 * PIECE);
    tokio::time::timeout(common::PATIENCE, known).await.expect("the pieces of zeros are known").unwrap();
    assert!(!temp.path().join(".parts").exists(), "nothing lies in it");
}

#[tokio::test]
async fn a_file_that_is_not_there_cannot_be_selected() {
    let temp = TempDir::new().unwrap();
    let torrent = TestTorrent::new(Version::V1, PIECE, FILES);
    let engine = engine().await;
    let spec = spec(&torrent, temp.path(), Assume::Nothing, &engine);
    let refused = engine.add_selected(spec, &only(&[4], temp.path())).await.unwrap_err();
    assert!(refused.to_string().contains("file 4"), "{refused}");
}

/// What a peer says next of whether it wants anything.
async fn upload_only(peer: &mut Connection) -> bool {
    let said = |message: Message<'_>| match message {
        Message::Extended { id: 0, payload } => ExtensionHandshake::decode(payload).unwrap().upload_only,
        _ => None,
    };
    let waited = tokio::time::timeout(common::PATIENCE, async {
        loop {
            if let Some(said) = peer.next(said).await.expect("it stays connected") {
                return said;
            }
        }
    });
    waited.await.expect("it says so")
}

#[tokio::test]
async fn who_has_what_it_selected_says_that_it_wants_nothing_more() {
    let temp = TempDir::new().unwrap();
    let torrent = TestTorrent::new(Version::V2, PIECE, FILES);
    let (from, to, folder) = (engine().await, engine().await, below(&temp, "to"));
    let spec = spec(&torrent, &folder, Assume::Nothing, &from);
    let handle = to.add_selected(spec, &only(&[1], &folder)).await.unwrap();
    handle.changed().wait_for(|stats| stats.phase == Phase::Leeching).await.unwrap();
    let dial = async |id| Connection::dial_and_name_port(to.addresses()[0], &torrent.metainfo, id, 7).await;
    let mut early = dial(b'e').await;
    early.send(Message::HaveNone).await;
    seed(&from, &torrent, &below(&temp, "from")).await;
    handle.add_peers(from.addresses().to_vec());
    complete(&handle).await;
    assert!(upload_only(&mut early).await, "when it is so");
    assert!(upload_only(&mut dial(b'l').await).await, "and to who comes later");
}

#[tokio::test]
async fn two_who_want_nothing_of_each_other_part_and_do_not_meet_again() {
    let temp = TempDir::new().unwrap();
    let torrent = TestTorrent::new(Version::V2, PIECE, FILES);
    let from = engine().await;
    seed(&from, &torrent, &below(&temp, "from")).await;
    let (one, other) = (engine().await, engine().await);
    let (here, there) = (below(&temp, "one"), below(&temp, "other"));
    let first = get(&one, &torrent, &here, &only(&[1], &here), &from).await;
    let second = get(&other, &torrent, &there, &only(&[2], &there), &from).await;
    from.shutdown().await;
    first.add_peers(other.addresses().to_vec());
    second.add_peers(one.addresses().to_vec());
    let mut together = 0;
    for _ in 0..80 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        together += first.stats().peers;
    }
    assert!(together < 20, "they were connected for {together} tenths of 8 seconds");
    assert_eq!(first.stats().peers, 0);
    // One who lacks something is welcome to both.
    let (last, folder) = (engine().await, below(&temp, "last"));
    let handle = get(&last, &torrent, &folder, &only(&[1], &folder), &one).await;
    assert_eq!(handle.stats().lacking, 0);
}
