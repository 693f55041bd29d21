//! A process that has no file descriptors left (T76). In a binary of its own: the limit is the process's.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use common::{PATIENCE, TestTorrent, below, complete, engine};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use swarm::{AddTorrent, Assume, Engine, TorrentHandle};
use tempfile::TempDir;
use torrent::Version;

/// More than a transfer needs.
const MOST: usize = 20;

/// The descriptors that are open.
fn open() -> BTreeSet<u64> {
    let listed: Vec<_> = fs::read_dir("/proc/self/fd").unwrap().map(Result::unwrap).collect();
    // One of them was for the list.
    let still = listed.iter().filter(|entry| fs::read_link(entry.path()).is_ok());
    still.map(|entry| entry.file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// Lets so many more be opened; `None`: as many as ever.
fn spare(count: Option<usize>) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = count.and_then(|count| {
        let held = open();
        (0..).filter(|number| !held.contains(number)).nth(count)
    });
    setrlimit(Resource::Nofile, Rlimit { current: current.or(maximum), maximum }).unwrap();
}

/// A transfer that begins with so few descriptors, and goes on when there are enough.
async fn transfer(torrent: &TestTorrent, count: Option<usize>) {
    let folder = TempDir::new().unwrap();
    let (full, there) = (below(&folder, "seed"), below(&folder, "leech"));
    torrent.write(&full);
    let (from, to) = (engine().await, engine().await);
    let seeding = torrent.spec(&full, Assume::Complete, Vec::new());
    let journal = Some(below(&folder, "journal"));
    let peers = from.addresses().to_vec();
    let leeching = AddTorrent { journal, ..torrent.spec(&there, Assume::Journal, peers) };
    spare(count);
    let added = [from.add(seeding.clone()).await.ok(), to.add(leeching.clone()).await.ok()];
    tokio::time::sleep(Duration::from_millis(300)).await;
    spare(None);
    let [seed, leech] = added;
    let seed = or_again(seed, &from, seeding).await;
    complete(&or_again(leech, &to, leeching).await).await;
    torrent.check(&there);
    assert_eq!(seed.stats().have, seed.stats().total, "the seed forgot what it has");
    to.shutdown().await;
    from.shutdown().await;
}

async fn or_again(handle: Option<TorrentHandle>, engine: &Engine, spec: AddTorrent) -> TorrentHandle {
    match handle {
        Some(handle) => handle,
        None => engine.add(spec).await.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t076_whatever_finds_no_descriptor_fails_and_none_leaks() {
    let torrent = TestTorrent::new(Version::Hybrid, 64 * 1024, &[("a", 1 << 20), ("b/c", 100_000)]);
    // What the runtime opens once is open then.
    transfer(&torrent, None).await;
    let before = open().len();
    for count in 0..MOST {
        transfer(&torrent, Some(count)).await;
        let ended = Instant::now();
        while open().len() > before {
            assert!(
                ended.elapsed() < PATIENCE / 6,
                "with {count} to spare, {} are open, {before} were",
                open().len()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
