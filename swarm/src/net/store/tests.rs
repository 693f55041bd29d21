use std::path::Path;

use torrent::{Builder, RelPath, Version};

use super::*;
use crate::net::journal_file;
use crate::net::open;
use crate::net::storage::Memory;
use crate::{AddTorrent, Assume, Engine, EngineConfig};

const PIECE: usize = 64 * 1024;
const PIECES: u32 = 4;

/// A torrent whose bytes are all there, and of which nothing is known.
pub(in crate::net) async fn to_be_checked(folder: &Path) -> (Arc<Torrent>, Vec<u32>) {
    let bytes = vec![7; PIECE * PIECES as usize];
    let path = RelPath::parse("data").unwrap();
    let builder = Builder::new(Version::V2, PIECE as u64).unwrap();
    let mut hasher = builder.file_hasher(1);
    hasher.update(&bytes);
    let spec = AddTorrent {
        metainfo: Arc::new(builder.build(vec![(path.clone(), hasher.finish())]).unwrap()),
        folder: folder.to_owned(),
        layout: vec![path],
        journal: Some(folder.join("journal")),
        trackers: Vec::new(),
        assume: Assume::Nothing,
        peers: Vec::new(),
        web_seeds: Vec::new(),
    };
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let engine = Engine::start(EngineConfig { listen, ..EngineConfig::default() }).await.unwrap();
    let (torrent, place) = engine.shared.torrent_of(spec.into(), Arc::new(Memory::full(vec![bytes])));
    let torrent = Arc::new(torrent);
    let to_check = open::open(&torrent, place).await.unwrap();
    (torrent, to_check)
}

fn replayed(torrent: &Torrent, folder: &Path) -> crate::journal::Replay {
    let inner = torrent.subject.inner_id();
    journal_file::load(&folder.join("journal"), inner, PIECES).unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn t071_after_a_failed_sync_the_journal_is_made_anew_and_the_trouble_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (torrent, to_check) = to_be_checked(folder.path()).await;
    torrent.journal.lock().unwrap().as_mut().unwrap().lose_medium();
    assert!(open::check(&torrent, to_check).await);
    assert!(matches!(torrent.trouble(), Some(Trouble::Disk(_))), "{:?}", torrent.trouble());
    assert_eq!(torrent.ledger().durable_bytes, 0);

    torrent.flush().await;
    assert_eq!(torrent.trouble(), None);
    assert!(torrent.ledger().is_durable());
    assert!(replayed(&torrent, folder.path()).durable.is_full());
}

#[tokio::test]
async fn a_journal_that_is_made_anew_knows_what_is_still_to_be_hashed() {
    let folder = tempfile::tempdir().unwrap();
    let (torrent, mut to_check) = to_be_checked(folder.path()).await;
    torrent.journal.lock().unwrap().as_mut().unwrap().lose_medium();
    let later = to_check.split_off(1);
    assert!(open::check(&torrent, to_check).await);
    torrent.flush().await;
    let replayed = replayed(&torrent, folder.path());
    assert_eq!(replayed.durable.iter().collect::<Vec<_>>(), [0]);
    assert_eq!(replayed.unproven.into_iter().collect::<Vec<_>>(), later);
}

#[tokio::test]
async fn a_piece_that_was_withdrawn_during_its_sync_is_not_said_to_be_durable() {
    let folder = tempfile::tempdir().unwrap();
    let (torrent, to_check) = to_be_checked(folder.path()).await;
    let files = BTreeSet::from([0]);
    for piece in &to_check {
        assert_eq!(torrent.count(*piece, files.clone(), 0), Counted::New);
    }
    let group = torrent.ledger().take_group();
    torrent.withdraw_all([1]);
    torrent.withdraw_all([2]);
    assert_eq!(torrent.count(2, files, 0), Counted::New);
    torrent.synced(group).await;
    assert_eq!(replayed(&torrent, folder.path()).durable.iter().collect::<Vec<_>>(), [0, 3]);
    assert_eq!(torrent.ledger().durable_bytes, 2 * PIECE as u64);
}

#[tokio::test]
async fn t071_a_failed_fdatasync_costs_all_that_was_written_before() {
    let folder = tempfile::tempdir().unwrap();
    let (torrent, _) = to_be_checked(folder.path()).await;
    let files = BTreeSet::from([0]);
    assert_eq!(torrent.count(0, files.clone(), 0), Counted::New);
    let group = torrent.ledger().take_group();
    assert_eq!(torrent.count(1, files.clone(), 0), Counted::New);
    torrent.sync_failed(group, &io::Error::from_raw_os_error(5)).await;
    assert_eq!(torrent.count(2, files.clone(), 0), Counted::Doubtful);
    assert_eq!(torrent.core().have().count(), 0);
    assert_eq!(torrent.count(2, files, 1), Counted::New);
}

#[tokio::test]
async fn a_piece_that_comes_and_goes_for_ever_fills_no_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (torrent, _) = to_be_checked(folder.path()).await;
    assert_eq!(torrent.count(3, BTreeSet::from([0]), 0), Counted::New);
    torrent.flush().await;
    for _ in 0..10_000 {
        torrent.record(&Record::Written(vec![1])).unwrap();
        torrent.record(&Record::Withdrawn(1)).unwrap();
    }
    assert!(std::fs::metadata(folder.path().join("journal")).unwrap().len() < 100_000);
    assert!(replayed(&torrent, folder.path()).durable.contains(3));
}
