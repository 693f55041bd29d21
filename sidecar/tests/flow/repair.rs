//! Bytes that are here already, and what of them is believed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crds::{NodeEntry, NodePhase};
use operator_api::reason;
use serde_json::json;

use crate::FILES;
use crate::cluster::{Cluster, eventually, same};

/// Another file of the same size, of which one byte is wrong.
fn rot(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(file).unwrap();
    fs::write(file, &bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_the_middle_of_a_repair_publishes_nothing_unverified() {
    let mut cluster = Cluster::start().await;
    let a = cluster.sidecar("a").await;
    let b = cluster.sidecar("b").await;
    cluster.revision("set-1", "set", FILES, "a").await;
    cluster.build("set-1").await;
    cluster.ready("a", "set-1").await;
    cluster.ready("b", "set-1").await;
    b.stop().await;

    // The fetcher loses a file while nobody else is there, and stops after the engine's first write would have made it anew.
    fs::remove_file(a.root.join("store/set-1/data/data/a.bin")).unwrap();
    let coming = a.root.join("incoming/set-1");
    eventually("the repair has begun", || async { coming.join("journal").exists().then_some(()) }).await;
    a.stop().await;
    let sparse = fs::File::create(coming.join("data/data/a.bin")).unwrap();
    sparse.set_len(3_000_000).unwrap();
    let a = cluster.sidecar("a").await;
    for _ in 0..50 {
        assert!(!a.root.join("store/set-1").exists(), "zeros are in the store");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let _b = cluster.sidecar("b").await;
    eventually("the file is back", || async { same(&a.link("set"), FILES).then_some(()) }).await;
    cluster.ready("a", "set-1").await;
    assert_eq!(cluster.origin_bytes(), 3_000_100);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_distributions_that_change_alike_are_both_published() {
    let mut cluster = Cluster::start().await;
    let _a = cluster.sidecar("a").await;
    let b = cluster.sidecar("b").await;
    let before: &[(&str, &str)] = &[("a", "a-3000000"), ("b", "b-100")];
    let after: &[(&str, &str)] = &[("a", "a-3000000"), ("c", "d-2000000")];
    for name in ["one", "two"] {
        let revision = format!("{name}-1");
        cluster.revision(&revision, name, before, "a").await;
        cluster.build(&revision).await;
        cluster.ready("b", &revision).await;
    }
    for name in ["one", "two"] {
        cluster.patch(&format!("{name}-1"), json!({ "policy": { "current": false } })).await;
        cluster.revision(&format!("{name}-2"), name, after, "a").await;
    }
    for name in ["one", "two"] {
        cluster.build(&format!("{name}-2")).await;
    }
    for name in ["one", "two"] {
        cluster.ready("b", &format!("{name}-2")).await;
        assert!(same(&b.link(name), after));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_the_same_bytes_says_so() {
    let mut cluster = Cluster::start().await;
    let a = cluster.sidecar("a").await;
    let files: &[(&str, &str)] = &[("a", "a-3000000")];
    for name in ["one", "two"] {
        let revision = format!("{name}-1");
        cluster.revision(&revision, name, files, "a").await;
        cluster.build(&revision).await;
        cluster.ready("a", &revision).await;
    }
    a.stop().await;
    let b = cluster.sidecar("b").await;
    eventually("one of them waits", || async {
        let (one, two) = (cluster.entry("b", "one-1").await?, cluster.entry("b", "two-1").await?);
        let waits = |entry: &NodeEntry| entry.reason.as_deref() == Some(reason::SAME_BYTES_COMING);
        let both = [one, two];
        (both.iter().filter(|entry| waits(entry)).count() == 1
            && both.iter().all(|entry| entry.phase == NodePhase::Downloading))
        .then_some(())
    })
    .await;
    let _a = cluster.sidecar("a").await;
    for name in ["one", "two"] {
        cluster.ready("b", &format!("{name}-1")).await;
        assert!(same(&b.link(name), files));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_all_here_already_are_hashed_before_they_are_published_again() {
    let mut cluster = Cluster::start().await;
    let _a = cluster.sidecar("a").await;
    let b = cluster.sidecar("b").await;
    cluster.revision("set-1", "set", FILES, "a").await;
    cluster.build("set-1").await;
    cluster.ready("b", "set-1").await;
    rot(&b.root.join("store/set-1/data/data/a.bin"));
    let files: &[(&str, &str)] = &[("moved/a.bin", "a-3000000")];
    cluster.revision("two-1", "two", files, "a").await;
    cluster.build("two-1").await;
    cluster.ready("b", "two-1").await;
    assert!(same(&b.link("two"), files));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_with_the_same_bytes_the_second_finds_what_is_wrong_with_the_first() {
    let mut cluster = Cluster::start().await;
    let _a = cluster.sidecar("a").await;
    let b = cluster.sidecar("b").await;
    let one: &[(&str, &str)] = &[("x", "a-2000000")];
    cluster.revision("one-1", "one", one, "a").await;
    cluster.build("one-1").await;
    cluster.ready("b", "one-1").await;
    rot(&b.root.join("store/one-1/data/x"));
    let two: &[(&str, &str)] = &[("y", "a-2000000")];
    cluster.revision("two-1", "two", two, "a").await;
    cluster.build("two-1").await;
    cluster.ready("b", "two-1").await;
    assert!(same(&b.link("two"), two));
    eventually("the first is mended", || async { same(&b.link("one"), one).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_linked_are_within_the_quota_once() {
    let mut cluster = Cluster::start().await;
    let _a = cluster.sidecar("a").await;
    let b = cluster.sidecar("b").await;
    cluster.revision("set-1", "set", FILES, "a").await;
    cluster.build("set-1").await;
    cluster.ready("b", "set-1").await;
    b.stop().await;
    let files: &[(&str, &str)] = &[("data/a.bin", "a-3000000"), ("new", "d-500")];
    cluster.patch("set-1", json!({ "policy": { "current": false } })).await;
    cluster.revision("set-2", "set", files, "a").await;
    cluster.build("set-2").await;
    cluster.ready("a", "set-2").await;
    cluster.patch_class(json!({ "quota": "4M" })).await;
    let b = cluster.sidecar("b").await;
    eventually("it fits", || async {
        let entry = cluster.entry("b", "set-2").await?;
        assert_ne!(entry.reason.as_deref(), Some(reason::QUOTA_EXCEEDED), "{entry:?}");
        same(&b.link("set"), files).then_some(())
    })
    .await;
}
