//! Files that are shared where they lie.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to fail")]

mod common;

use std::sync::Arc;

use common::{PATIENCE, TestTorrent, below, complete, engine, seed};
use swarm::net::storage::{Disk, ReadOnly};
use swarm::{Assume, Trouble};
use tempfile::TempDir;
use torrent::Version;

#[tokio::test]
async fn a_shared_file_that_was_cut_is_not_mended() {
    let temp = TempDir::new().unwrap();
    let torrent = TestTorrent::new(Version::Hybrid, 32 << 10, &[("a", 300_000)]);
    let (owner, other, last) = (engine().await, engine().await, engine().await);
    let folder = below(&temp, "owner");
    torrent.write(&folder);
    let disk =
        Disk::open(&folder, torrent.metainfo.files().iter().map(|file| file.size), &torrent.layout).unwrap();
    let spec = torrent.spec(&folder, Assume::Complete, other.addresses().to_vec());
    let owners = owner.add_with(spec, Arc::new(ReadOnly(disk))).await.unwrap();
    std::fs::write(folder.join("a"), "cut").unwrap();

    // It is asked for what it has not any more, while the other has it.
    let spec = torrent.spec(&below(&temp, "last"), Assume::Nothing, owner.addresses().to_vec());
    let handle = last.add(spec).await.unwrap();
    let mut stats = owners.changed();
    let noticed = stats.wait_for(|stats| stats.have < stats.total);
    tokio::time::timeout(PATIENCE, noticed).await.expect("a read fails").unwrap();
    seed(&other, &torrent, &below(&temp, "other")).await;
    handle.add_peers(other.addresses().to_vec());
    owners.add_peers(other.addresses().to_vec());
    complete(&handle).await;
    let said = stats.wait_for(|stats| matches!(&stats.trouble, Some(Trouble::Disk(_))));
    let trouble = tokio::time::timeout(PATIENCE, said).await.expect("it says so").unwrap().trouble.clone();
    assert!(trouble.unwrap().to_string().contains("not written to"));
    assert_eq!(std::fs::read(folder.join("a")).unwrap(), b"cut");
}
