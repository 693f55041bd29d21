//! What a start after an end believes: clean, killed, damaged.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::watched::Watched;
use common::{PATIENCE, TestTorrent, below, complete, config, engine, seed};
use swarm::{AddTorrent, Assume, Engine, EngineConfig};
use torrent::Version;

const MIB: usize = 1 << 20;

fn torrent() -> TestTorrent {
    TestTorrent::new(Version::Hybrid, 64 * 1024, &[("a", 5 * MIB + 11), ("b/c", 3 * MIB)])
}

fn leech(torrent: &TestTorrent, folder: &Path, from: &Engine) -> AddTorrent {
    AddTorrent {
        journal: Some(folder.join("journal")),
        ..torrent.spec(&folder.join("data"), Assume::Journal, from.addresses().to_vec())
    }
}

async fn slow_seed(torrent: &TestTorrent, folder: &Path) -> Engine {
    let from = Engine::start(EngineConfig { upload_limit: Some(4 << 20), ..config() }).await.unwrap();
    seed(&from, torrent, folder).await;
    from
}

/// Leeches in a runtime of its own for a while, then ends it as `kill -9` would: no task gets another turn. Returns what
/// was said to be durable.
fn leech_and_be_killed(torrent: &TestTorrent, folder: &Path, from: &Engine, after: Duration) -> u64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let durable = runtime.block_on(async {
        let to = engine().await;
        let handle = to.add(leech(torrent, folder, from)).await.unwrap();
        tokio::time::sleep(after).await;
        handle.stats().durable
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    // A lock goes with its process, and this one lives on: so the journal goes to where nobody holds it.
    let (journal, copy) = (folder.join("journal"), folder.join("copy"));
    std::fs::copy(&journal, &copy).unwrap();
    std::fs::rename(&copy, &journal).unwrap();
    durable
}

#[test]
fn a_killed_leecher_fetches_nothing_again_that_was_durable() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let torrent = torrent();
    let from = runtime.block_on(slow_seed(&torrent, &below(&folder, "seed")));
    let mut known = 0;
    for milliseconds in [300, 1200, 700] {
        let durable =
            leech_and_be_killed(&torrent, folder.path(), &from, Duration::from_millis(milliseconds));
        assert!(durable >= known, "{durable} bytes durable after {known}");
        known = durable;
    }
    assert!(known > 0);
    runtime.block_on(async {
        let to = engine().await;
        let handle = to.add(leech(&torrent, folder.path(), &from)).await.unwrap();
        complete(&handle).await;
        let stats = handle.stats();
        assert!(stats.downloaded <= stats.total - known, "{} of {} again", stats.downloaded, stats.total);
        torrent.check(&below(&folder, "data"));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_clean_end_a_few_samples_are_hashed_and_nothing_is_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let torrent = torrent();
    let from = engine().await;
    seed(&from, &torrent, &below(&folder, "seed")).await;
    let to = engine().await;
    let handle = to.add(leech(&torrent, folder.path(), &from)).await.unwrap();
    complete(&handle).await;
    to.shutdown().await;
    from.shutdown().await;
    let again = engine().await;
    let spec = leech(&torrent, folder.path(), &from);
    let storage = Watched::new(&torrent, &spec.folder, None);
    let handle = again.add_with(spec, storage.clone()).await.unwrap();
    complete(&handle).await;
    assert_eq!(handle.stats().downloaded, 0);
    let read = storage.read.load(Ordering::Relaxed);
    assert!((1..handle.stats().total / 4).contains(&read), "{read} bytes read to be hashed");
}

/// Completes a leecher, damages its files, and starts it again: it must notice and heal.
async fn damaged(damage: impl FnOnce(&Path)) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let torrent = torrent();
    let from = engine().await;
    seed(&from, &torrent, &below(&folder, "seed")).await;
    let to = engine().await;
    complete(&to.add(leech(&torrent, folder.path(), &from)).await.unwrap()).await;
    to.shutdown().await;
    damage(folder.path());
    let again = engine().await;
    let handle = again.add(leech(&torrent, folder.path(), &from)).await.unwrap();
    complete(&handle).await;
    torrent.check(&below(&folder, "data"));
    handle.stats().downloaded
}

#[tokio::test(flavor = "multi_thread")]
async fn t077_of_two_engines_on_one_journal_the_second_is_refused_until_the_first_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let torrent = torrent();
    let from = slow_seed(&torrent, &below(&folder, "seed")).await;
    let (first, second) = (engine().await, engine().await);
    let handle = first.add(leech(&torrent, folder.path(), &from)).await.unwrap();
    let refused = second.add(leech(&torrent, folder.path(), &from)).await;
    assert!(matches!(refused, Err(swarm::AddError::InUse { .. })), "{refused:?}");
    handle.remove().await;
    complete(&second.add(leech(&torrent, folder.path(), &from)).await.unwrap()).await;
    torrent.check(&below(&folder, "data"));
}

#[tokio::test(flavor = "multi_thread")]
async fn t074_a_truncated_file_is_noticed() {
    let fetched = damaged(|folder| {
        let file = std::fs::OpenOptions::new().write(true).open(folder.join("data/a")).unwrap();
        file.set_len(2 * MIB as u64).unwrap();
    })
    .await;
    assert!((3 * MIB as u64..4 * MIB as u64).contains(&fetched), "{fetched}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zeroed_file_is_noticed() {
    damaged(|folder| std::fs::write(folder.join("data/a"), vec![0; 5 * MIB + 11]).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_file_is_noticed() {
    let fetched = damaged(|folder| std::fs::remove_file(folder.join("data/b/c")).unwrap()).await;
    assert_eq!(fetched, 3 * MIB as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_costs_hashing_not_fetching() {
    let fetched = damaged(|folder| std::fs::write(folder.join("journal"), b"not a journal").unwrap()).await;
    assert_eq!(fetched, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_files_are_hashed_costs_no_fetching() {
    let folder = tempfile::tempdir().unwrap();
    let torrent = torrent();
    let from = engine().await;
    seed(&from, &torrent, &below(&folder, "seed")).await;
    let to = engine().await;
    complete(&to.add(leech(&torrent, folder.path(), &from)).await.unwrap()).await;
    to.shutdown().await;
    std::fs::write(folder.path().join("journal"), b"not a journal").unwrap();
    let interrupted = engine().await;
    let handle = interrupted.add(leech(&torrent, folder.path(), &from)).await.unwrap();
    interrupted.shutdown().await;
    let stats = handle.stats();
    assert!(stats.have < stats.total, "it had hashed everything before it was stopped");
    let again = engine().await;
    let handle = again.add(leech(&torrent, folder.path(), &from)).await.unwrap();
    complete(&handle).await;
    assert_eq!(handle.stats().downloaded, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_without_a_journal_are_hashed_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let torrent = torrent();
    torrent.write(folder.path());
    std::fs::write(folder.path().join("b/c"), vec![1; 100]).unwrap();
    let to = engine().await;
    let handle = to.add(torrent.spec(folder.path(), Assume::Nothing, Vec::new())).await.unwrap();
    let found = handle.changed().wait_for(|stats| stats.have > 5 * MIB as u64).await.unwrap().have;
    assert_eq!(found, 5 * MIB as u64 + 11);
    drop(tokio::time::timeout(PATIENCE, to.shutdown()).await);
}
