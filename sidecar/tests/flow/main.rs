//! Whole sidecars, with real trackers, over an in-memory API and a scripted operator.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_wrap,
    reason = "helpers of tests may fail the test, but the lints only know functions marked as tests"
)]

mod cluster;
mod image;
mod ingest;
mod layers;
mod operator;
mod repair;
mod replaced;
mod runtime;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use cluster::{CLASS, Cluster, eventually, same};
use crds::{DistributionClass, NodePhase};
use kube::Api;
use kube::api::DeleteParams;
use operator_api::reason;
use serde_json::json;

const FILES: &[(&str, &str)] = &[("data/a.bin", "a-3000000"), ("ü b.bin", "b-100"), ("leer", "c-0")];

#[tokio::test(flavor = "multi_thread")]
async fn one_fetches_all_share_and_the_disk_is_freed() {
    let mut cluster = Cluster::start().await;
    let a = cluster.sidecar("a").await;
    let b = cluster.sidecar("b").await;
    cluster.revision("set-1", "set", FILES, "a").await;
    cluster.build("set-1").await;
    let (of_a, of_b) = (cluster.ready("a", "set-1").await, cluster.ready("b", "set-1").await);
    assert_eq!((of_a.origin_bytes, of_a.peer_bytes), (3_000_100, 0));
    assert_eq!((of_b.origin_bytes, of_b.peer_bytes), (0, 3_000_100));
    assert_eq!(cluster.origin_bytes(), 3_000_100);
    for unit in [&a, &b] {
        assert!(same(&unit.link("set"), FILES));
        assert_eq!(fs::metadata(unit.link("set").join("data/a.bin")).unwrap().mode() & 0o777, 0o444);
    }
    let report = cluster.report("a").await.unwrap();
    let owner = &report.metadata.owner_references.unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("Node", "a"));

    // A newcomer has it from peers.
    let c = cluster.sidecar("c").await;
    cluster.ready("c", "set-1").await;
    assert!(same(&c.link("set"), FILES));
    assert_eq!(cluster.origin_bytes(), 3_000_100);

    cluster.patch("set-1", json!({ "policy": { "deleting": true } })).await;
    for (node, unit) in [("a", &a), ("b", &b), ("c", &c)] {
        cluster.gone(node, "set-1").await;
        assert!(!unit.root.join("store/set-1").exists());
        assert!(!unit.root.join("datasets/ns").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_without_the_api_server_seeds_what_is_here() {
    let mut cluster = Cluster::start().await;
    let a = cluster.sidecar("a").await;
    cluster.revision("set-1", "set", FILES, "a").await;
    cluster.build("set-1").await;
    cluster.ready("a", "set-1").await;
    a.stop().await;
    eventually("a has left", || async { cluster.seeds().await.is_empty().then_some(()) }).await;

    let nowhere = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
    let a = cluster.sidecar_with("a", kube::Client::try_from(nowhere).unwrap()).await;
    eventually("a seeds again", || async { (cluster.seeds().await == ["a"]).then_some(()) }).await;
    assert!(same(&a.link("set"), FILES));
    a.stop().await;

    // And a restart with it changes nothing, so nothing is written.
    let before = cluster.report("a").await.unwrap().metadata.resource_version;
    let _a = cluster.sidecar("a").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(cluster.report("a").await.unwrap().metadata.resource_version, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_deleted_behind_our_back_comes_again_from_peers() {
    let mut cluster = Cluster::start().await;
    let _a = cluster.sidecar("a").await;
    let b = cluster.sidecar("b").await;
    cluster.revision("set-1", "set", FILES, "a").await;
    cluster.build("set-1").await;
    cluster.ready("a", "set-1").await;
    cluster.ready("b", "set-1").await;
    // While it runs: everything, then one file; then the link.
    fs::remove_dir_all(b.root.join("store/set-1")).unwrap();
    eventually("all of it is back", || async { same(&b.link("set"), FILES).then_some(()) }).await;
    fs::remove_file(b.root.join("store/set-1/data/ü b.bin")).unwrap();
    eventually("the file is back", || async { same(&b.link("set"), FILES).then_some(()) }).await;
    cluster.ready("b", "set-1").await;
    fs::remove_file(b.link("set")).unwrap();
    eventually("the link is back", || async { same(&b.link("set"), FILES).then_some(()) }).await;
    // While it does not run.
    b.stop().await;
    let root = cluster.sidecar("x").await.root.with_file_name("b");
    fs::remove_dir_all(root.join("store/set-1")).unwrap();
    let b = cluster.sidecar("b").await;
    eventually("all of it is back", || async { same(&b.link("set"), FILES).then_some(()) }).await;
    assert_eq!(cluster.origin_bytes(), 3_000_100);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_occupied_path_is_said_and_heals() {
    let mut cluster = Cluster::start().await;
    let a = cluster.sidecar("a").await;
    fs::create_dir_all(a.link("set").join("mine")).unwrap();
    cluster.revision("set-1", "set", FILES, "a").await;
    cluster.build("set-1").await;
    let entry = cluster.wait("a", "set-1", NodePhase::Failed, Some(reason::PATH_OCCUPIED)).await;
    assert!(entry.message.unwrap().contains("move it away"));
    fs::remove_dir_all(a.link("set")).unwrap();
    fs::create_dir(a.link("set")).unwrap();
    cluster.ready("a", "set-1").await;
    assert!(same(&a.link("set"), FILES));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_revision_reuses_files_and_the_old_one_goes() {
    let mut cluster = Cluster::start().await;
    let _a = cluster.sidecar("a").await;
    let b = cluster.sidecar("b").await;
    cluster.revision("set-1", "set", FILES, "a").await;
    cluster.build("set-1").await;
    cluster.ready("b", "set-1").await;
    let files: &[(&str, &str)] = &[("moved/a.bin", "a-3000000"), ("new", "d-500")];
    cluster.patch("set-1", json!({ "policy": { "current": false } })).await;
    cluster.revision("set-2", "set", files, "a").await;
    assert!(same(&b.link("set"), FILES), "the old one is served until the new one is whole");
    cluster.build("set-2").await;
    let entry = cluster.ready("b", "set-2").await;
    assert_eq!(entry.peer_bytes, 500, "what was here was not downloaded");
    for node in ["a", "b"] {
        cluster.gone(node, "set-1").await;
    }
    assert!(same(&b.link("set"), files));
    assert!(!b.root.join("store/set-1").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_distributions_of_the_same_bytes_are_downloaded_once() {
    let mut cluster = Cluster::start().await;
    let _a = cluster.sidecar("a").await;
    let b = cluster.sidecar("b").await;
    let one: &[(&str, &str)] = &[("x", "a-2000000")];
    cluster.revision("one-1", "one", one, "a").await;
    cluster.build("one-1").await;
    cluster.ready("b", "one-1").await;
    let two: &[(&str, &str)] = &[("y", "a-2000000")];
    cluster.revision("two-1", "two", two, "a").await;
    cluster.build("two-1").await;
    assert_eq!(cluster.ready("b", "two-1").await.peer_bytes, 0);
    assert!(same(&b.link("two"), two));
    // The one that seeds goes: the other one takes over.
    cluster.patch("one-1", json!({ "policy": { "deleting": true } })).await;
    cluster.gone("b", "one-1").await;
    assert!(same(&b.link("two"), two));
    cluster.ready("b", "two-1").await;
    let c = cluster.sidecar("c").await;
    cluster.ready("c", "two-1").await;
    assert!(same(&c.link("two"), two));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_goes_but_not_when_the_class_says_keep() {
    let mut cluster = Cluster::start().await;
    let a = cluster.sidecar("a").await;
    cluster.revision("set-1", "set", FILES, "a").await;
    cluster.build("set-1").await;
    cluster.ready("a", "set-1").await;
    // Lists fail: nothing goes, whatever the watch says.
    cluster.memory.intercept(|call| {
        if call.verb == "list" && call.path.ends_with("/distributionrevisions") {
            return Err(memory_api::ApiError::new(500, "InternalError", "no lists today"));
        }
        Ok(())
    });
    cluster.revisions().delete("set-1", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(same(&a.link("set"), FILES));
    cluster.memory.intercept(|_| Ok(()));
    eventually("the orphan is gone", || async { (!a.root.join("store/set-1").exists()).then_some(()) }).await;
    cluster.gone("a", "set-1").await;

    cluster.revision("set-2", "set", FILES, "a").await;
    cluster.build("set-2").await;
    cluster.ready("a", "set-2").await;
    cluster.patch_class(json!({ "retire": "Keep" })).await;
    cluster.gone("a", "set-2").await;
    cluster.revisions().delete("set-2", &DeleteParams::default()).await.unwrap();
    Api::<DistributionClass>::all(cluster.client.clone())
        .delete(CLASS, &DeleteParams::default())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(same(&a.link("set"), FILES));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_class_leaves_nothing() {
    let mut cluster = Cluster::start().await;
    let a = cluster.sidecar("a").await;
    cluster.revision("set-1", "set", FILES, "a").await;
    cluster.build("set-1").await;
    cluster.ready("a", "set-1").await;
    cluster.patch_class(json!({ "retire": "Purge" })).await;
    cluster.gone("a", "set-1").await;
    eventually("nothing is left", || async { (fs::read_dir(&a.root).unwrap().count() == 0).then_some(()) })
        .await;
    // Another release takes the nodes over.
    cluster.patch_class(json!({ "retire": null })).await;
    cluster.revision("set-2", "other", FILES, "a").await;
    cluster.build("set-2").await;
    cluster.ready("a", "set-2").await;
    assert!(same(&a.link("other"), FILES));
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_data_stays_and_is_not_shared() {
    let mut cluster = Cluster::start().await;
    let a = cluster.sidecar("a").await;
    cluster.revision("set-1", "set", FILES, "a").await;
    cluster.build("set-1").await;
    cluster.ready("a", "set-1").await;
    cluster.patch("set-1", json!({ "policy": { "deleting": true, "onDelete": "Retain" } })).await;
    cluster.gone("a", "set-1").await;
    assert!(same(&a.link("set"), FILES));
    cluster.revisions().delete("set-1", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(same(&a.link("set"), FILES));
    eventually("nobody seeds", || async { cluster.seeds().await.is_empty().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_grant_stops_the_fetch_at_once_and_its_bytes_serve_the_swarm() {
    let mut cluster = Cluster::start().await;
    let a = cluster.sidecar("a").await;
    let _b = cluster.sidecar("b").await;
    let files: &[(&str, &str)] = &[("f", "slow-8000000")];
    cluster.revision("set-1", "set", files, "a").await;
    cluster.wait("a", "set-1", NodePhase::Fetching, None).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    {
        let mut script = cluster.operator.script.lock().unwrap();
        let grant = script.grants.remove(&("set-1".into(), "a".into())).unwrap();
        script.grants.insert(("set-1".into(), "b".into()), grant);
    }
    cluster.patch("set-1", json!({ "policy": { "fetchers": ["b"] } })).await;
    cluster.wait("b", "set-1", NodePhase::Fetching, None).await;
    let here = fs::metadata(a.root.join("incoming/set-1/data/f")).unwrap().len();
    cluster.build("set-1").await;
    assert_eq!(fs::metadata(a.root.join("incoming/set-1/data/f")).unwrap().len(), here, "it read no further");
    let entry = cluster.ready("a", "set-1").await;
    assert!(entry.peer_bytes < 8_000_000, "what was read was not downloaded again: {entry:?}");
    assert!(entry.origin_bytes > 1_000_000, "{entry:?}");
    assert!(same(&a.link("set"), files));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_too_small_is_said_and_heals() {
    let mut cluster = Cluster::start().await;
    let _a = cluster.sidecar("a").await;
    cluster.patch_class(json!({ "quota": "1Mi" })).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.revision("set-1", "set", FILES, "a").await;
    let entry = cluster.wait("a", "set-1", NodePhase::Failed, Some(reason::QUOTA_EXCEEDED)).await;
    assert!(entry.message.unwrap().contains("3000100"), "with figures");
    assert_eq!(cluster.origin_bytes(), 0, "not a byte was read");
    let told = cluster.operator.script.lock().unwrap().failed[0].1.reason.clone();
    assert_eq!(told, reason::QUOTA_EXCEEDED);
    cluster.patch_class(json!({ "quota": "1Gi" })).await;
    cluster.build("set-1").await;
    cluster.ready("a", "set-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_root_is_a_condition_and_no_work() {
    let mut cluster = Cluster::start().await;
    cluster.patch_class(json!({ "root": "/somewhere/else" })).await;
    let a = cluster.sidecar("a").await;
    cluster.revision("set-1", "set", FILES, "a").await;
    cluster.wait("a", "set-1", NodePhase::Failed, Some(reason::ROOT_MISMATCH)).await;
    let condition = cluster.report("a").await.unwrap().status.unwrap().conditions.remove(0);
    assert_eq!((condition.type_.as_str(), condition.status.as_str()), ("RootReady", "False"));
    assert_eq!(condition.reason, reason::ROOT_MISMATCH);
    assert_eq!(fs::read_dir(a.root.join("incoming")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_of_another_revision_is_neither_used_nor_written_to() {
    let mut cluster = Cluster::start().await;
    let _a = cluster.sidecar("a").await;
    let b = cluster.sidecar("b").await;
    cluster.revision("set-1", "set", FILES, "a").await;
    cluster.build("set-1").await;
    cluster.ready("b", "set-1").await;
    let donor = b.root.join("store/set-1/data/data/a.bin");
    let mut bad = fs::read(&donor).unwrap();
    bad[1_500_000] ^= 1;
    fs::remove_file(&donor).unwrap();
    fs::write(&donor, &bad).unwrap();
    let files: &[(&str, &str)] = &[("moved/a.bin", "a-3000000"), ("new", "d-500")];
    cluster.revision("two-1", "two", files, "a").await;
    cluster.build("two-1").await;
    cluster.ready("b", "two-1").await;
    assert!(same(&b.link("two"), files));
    assert_eq!(fs::read(&donor).unwrap(), bad, "nobody wrote through the link");
}
