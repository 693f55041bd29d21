//! Disks that are full, broken or lying, and systems that lack something (T67, T70 to T72, T74, T76).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use common::{PATIENCE, TestTorrent, below, complete, config, engine, seed};
use swarm::net::storage::{Memory, Storage};
use swarm::{Assume, Engine, EngineConfig, Trouble};
use torrent::Version;

/// ENOSPC.
const NO_SPACE: i32 = 28;
/// EDQUOT.
const NO_QUOTA: i32 = 122;
/// EROFS.
const READ_ONLY: i32 = 30;
/// ENOMEM.
const NO_MEMORY: i32 = 12;
/// EMFILE.
const NO_DESCRIPTOR: i32 = 24;

/// A memory storage with switches.
#[derive(Debug)]
struct Faulty {
    memory: Memory,
    /// Bytes that may still be written.
    space: AtomicU64,
    /// What a write beyond that gets.
    errno: AtomicI32,
    /// So many writes from now on succeed, and the one after them does not.
    good_writes: AtomicU64,
    sync_fails: AtomicBool,
    /// Bytes that were written.
    written: AtomicU64,
    /// The next sync takes until so many are, and fails.
    sync_fails_at: AtomicU64,
    read_fails: AtomicBool,
    /// So many calls of any kind from now on succeed, and the one after them does not.
    good_calls: AtomicU64,
}

impl Faulty {
    fn new(memory: Memory) -> Arc<Self> {
        let (sync_fails, read_fails) = (AtomicBool::new(false), AtomicBool::new(false));
        let (written, sync_fails_at) = (AtomicU64::new(0), AtomicU64::new(0));
        let (space, good_writes) = (AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX));
        let (errno, good_calls) = (AtomicI32::new(NO_SPACE), AtomicU64::new(u64::MAX));
        Arc::new(Self {
            memory,
            space,
            errno,
            good_writes,
            sync_fails,
            written,
            sync_fails_at,
            read_fails,
            good_calls,
        })
    }

    fn call(&self) -> io::Result<()> {
        // 0 wraps around: it fails once.
        if self.good_calls.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(io::Error::from_raw_os_error(self.errno.load(Ordering::Relaxed)));
        }
        Ok(())
    }
}

impl Storage for Faulty {
    fn read(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.call()?;
        if self.read_fails.swap(false, Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.memory.read(file, offset, buffer)
    }

    fn write(&self, file: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        self.call()?;
        let enough = |space: u64| space.checked_sub(data.len() as u64);
        if self.space.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough).is_err() {
            return Err(io::Error::from_raw_os_error(self.errno.load(Ordering::Relaxed)));
        }
        // 0 wraps around: it fails once.
        if self.good_writes.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(io::Error::from_raw_os_error(NO_SPACE));
        }
        self.memory.write(file, offset, data)?;
        self.written.fetch_add(data.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self, files: &BTreeSet<usize>) -> io::Result<()> {
        self.call()?;
        if self.sync_fails.swap(false, Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let fails_at = self.sync_fails_at.swap(0, Ordering::Relaxed);
        while self.written.load(Ordering::Relaxed) < fails_at {
            std::thread::sleep(Duration::from_millis(1));
        }
        if fails_at > 0 { Err(io::Error::from_raw_os_error(5)) } else { self.memory.sync(files) }
    }

    fn size(&self, file: usize) -> io::Result<Option<u64>> {
        self.call()?;
        self.memory.size(file)
    }

    fn create_empty(&self) -> io::Result<()> {
        self.call()?;
        self.memory.create_empty()
    }

    fn is_hole(&self, file: usize, offset: u64, len: u64) -> io::Result<bool> {
        self.call()?;
        self.memory.is_hole(file, offset, len)
    }
}

fn torrent() -> TestTorrent {
    TestTorrent::new(Version::V2, 64 * 1024, &[("data", 8 << 20)])
}

fn empty(torrent: &TestTorrent) -> Arc<Faulty> {
    Faulty::new(Memory::empty(vec![torrent.files[0].bytes.len() as u64]))
}

/// Lets a download run into a disk that takes 2 MiB, sees it wait, and lets it go on.
async fn waits_and_goes_on(errno: i32, is_the_trouble: fn(&Trouble) -> bool) {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let from = engine().await;
    seed(&from, &torrent, folder.path()).await;
    let storage = empty(&torrent);
    storage.space.store(2 << 20, Ordering::Relaxed);
    storage.errno.store(errno, Ordering::Relaxed);
    let to = engine().await;
    let spec = torrent.spec(folder.path(), Assume::Journal, from.addresses().to_vec());
    let handle = to.add_with(spec, storage.clone()).await.unwrap();
    let mut stats = handle.changed();
    let full = stats.wait_for(|stats| stats.trouble.as_ref().is_some_and(is_the_trouble));
    tokio::time::timeout(PATIENCE, full).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = handle.stats();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = handle.stats();
    assert_eq!(before.downloaded, after.downloaded, "it goes on asking");
    assert_eq!(after.have, 2 << 20);
    storage.space.store(u64::MAX, Ordering::Relaxed);
    complete(&handle).await;
    let stats = handle.stats();
    assert_eq!((stats.trouble, stats.wasted), (None, 0));
    assert!(storage.memory.contents(0).unwrap() == torrent.files[0].bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn t067_a_full_disk_stops_requests_and_the_download_goes_on_when_there_is_space() {
    waits_and_goes_on(NO_SPACE, |trouble| *trouble == Trouble::DiskFull).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t067_a_full_quota_is_a_full_disk() {
    waits_and_goes_on(NO_QUOTA, |trouble| *trouble == Trouble::DiskFull).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t072_a_disk_that_became_read_only_stops_requests_and_is_no_full_disk() {
    waits_and_goes_on(READ_ONLY, |trouble| matches!(trouble, Trouble::Disk(_))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t067_no_space_at_any_one_write_costs_nothing() {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let from = engine().await;
    seed(&from, &torrent, folder.path()).await;
    let mut downloads = Vec::new();
    for good_writes in [0, 1, 2, 3, 40, 126, 127] {
        let (to, storage) = (engine().await, empty(&torrent));
        storage.good_writes.store(good_writes, Ordering::Relaxed);
        let spec = torrent.spec(folder.path(), Assume::Journal, from.addresses().to_vec());
        downloads.push((to.add_with(spec, storage.clone()).await.unwrap(), storage, to));
    }
    for (handle, storage, _to) in downloads {
        complete(&handle).await;
        let stats = handle.stats();
        assert_eq!((stats.downloaded, stats.wasted, stats.trouble), (stats.total, 0, None));
        assert!(storage.good_writes.load(Ordering::Relaxed) > 127, "no write has failed");
        assert!(storage.memory.contents(0).unwrap() == torrent.files[0].bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t074_a_file_that_is_cut_while_it_is_seeded_is_fetched_again() {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let (good, cut, to) = (engine().await, engine().await, engine().await);
    let (whole, rotten, there) = (below(&folder, "whole"), below(&folder, "rotten"), below(&folder, "leech"));
    seed(&good, &torrent, &whole).await;
    let seeding = seed(&cut, &torrent, &rotten).await;
    let file = std::fs::OpenOptions::new().write(true).open(rotten.join("data")).unwrap();
    file.set_len(3 << 20).unwrap();
    let spec = torrent.spec(&there, Assume::Journal, cut.addresses().to_vec());
    let handle = to.add(spec).await.unwrap();
    let mut stats = seeding.changed();
    let withdrawn = stats.wait_for(|stats| stats.have < stats.total);
    tokio::time::timeout(PATIENCE, withdrawn).await.unwrap().unwrap();
    handle.add_peers(good.addresses().to_vec());
    seeding.add_peers(good.addresses().to_vec());
    complete(&handle).await;
    complete(&seeding).await;
    torrent.check(&there);
}

#[tokio::test(flavor = "multi_thread")]
async fn t071_after_a_failed_fdatasync_the_group_is_fetched_again() {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let from = Engine::start(EngineConfig { upload_limit: Some(4 << 20), ..config() }).await.unwrap();
    seed(&from, &torrent, folder.path()).await;
    let storage = empty(&torrent);
    storage.sync_fails.store(true, Ordering::Relaxed);
    let to = engine().await;
    let spec = torrent.spec(folder.path(), Assume::Journal, from.addresses().to_vec());
    let handle = to.add_with(spec, storage.clone()).await.unwrap();
    complete(&handle).await;
    let stats = handle.stats();
    assert!(stats.downloaded > stats.total, "nothing was fetched again: {stats:?}");
    assert!(!storage.sync_fails.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread")]
async fn t071_what_was_written_while_an_fdatasync_failed_is_written_again() {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let from = Engine::start(EngineConfig { upload_limit: Some(4 << 20), ..config() }).await.unwrap();
    seed(&from, &torrent, folder.path()).await;
    let storage = empty(&torrent);
    let total = torrent.files[0].bytes.len() as u64;
    storage.sync_fails_at.store(total, Ordering::Relaxed);
    let to = engine().await;
    let spec = torrent.spec(folder.path(), Assume::Journal, from.addresses().to_vec());
    let handle = to.add_with(spec, storage.clone()).await.unwrap();
    complete(&handle).await;
    assert_eq!(storage.written.load(Ordering::Relaxed), 2 * total);
    assert_eq!(handle.stats().trouble, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn t070_a_piece_that_cannot_be_read_is_withdrawn_and_fetched_again() {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let (good, rotten, to) = (engine().await, engine().await, engine().await);
    seed(&good, &torrent, folder.path()).await;
    let storage = Faulty::new(Memory::full(vec![torrent.files[0].bytes.clone()]));
    storage.read_fails.store(true, Ordering::Relaxed);
    let spec = torrent.spec(folder.path(), Assume::Complete, Vec::new());
    let rotten_handle = rotten.add_with(spec, storage).await.unwrap();
    let there = folder.path().join("leech");
    let spec = torrent.spec(&there, Assume::Journal, rotten.addresses().to_vec());
    let handle = to.add(spec).await.unwrap();
    let mut stats = rotten_handle.changed();
    let withdrawn = stats.wait_for(|stats| stats.have < stats.total);
    tokio::time::timeout(PATIENCE, withdrawn).await.unwrap().unwrap();
    handle.add_peers(good.addresses().to_vec());
    rotten_handle.add_peers(good.addresses().to_vec());
    complete(&handle).await;
    complete(&rotten_handle).await;
    torrent.check(&there);
}

#[tokio::test(flavor = "multi_thread")]
async fn t076_what_the_system_lacks_at_any_one_call_is_no_fault_of_the_disk() {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let mut downloads = Vec::new();
    for (good_calls, errno) in (0..22).map(|k| (k * k / 4, [NO_MEMORY, NO_DESCRIPTOR][k as usize % 2])) {
        let (from, to) = (engine().await, engine().await);
        let storages = [Faulty::new(Memory::full(vec![torrent.files[0].bytes.clone()])), empty(&torrent)];
        let specs = [(Assume::Complete, Vec::new()), (Assume::Journal, from.addresses().to_vec())];
        let mut handles = Vec::new();
        for ((engine, storage), (assume, peers)) in [&from, &to].into_iter().zip(&storages).zip(specs) {
            storage.errno.store(errno, Ordering::Relaxed);
            storage.good_calls.store(good_calls, Ordering::Relaxed);
            let spec = torrent.spec(folder.path(), assume, peers);
            let added = engine.add_with(spec.clone(), storage.clone()).await;
            handles.push(match added {
                Ok(handle) => handle,
                Err(_) => engine.add_with(spec, storage.clone()).await.unwrap(),
            });
        }
        downloads.push((handles, storages, (from, to)));
    }
    for (handles, [full, filled], _engines) in downloads {
        complete(&handles[1]).await;
        assert_eq!(handles[0].stats().have, handles[0].stats().total, "a seed forgot what it has");
        let has_failed = |storage: &Arc<Faulty>| storage.good_calls.load(Ordering::Relaxed) > 1000;
        assert!(has_failed(&full) || has_failed(&filled), "no call has failed");
        assert!(filled.memory.contents(0).unwrap() == torrent.files[0].bytes);
        assert_eq!(handles[1].stats().trouble, None);
    }
}
