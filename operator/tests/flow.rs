//! The ways of a Distribution, over the in-memory API.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use std::time::{Duration, Instant};

use common::World;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PatchParams};
use serde_json::json;

#[tokio::test]
async fn from_applied_to_ready_and_then_nothing_is_written() {
    let world = World::with_class(101, &["a", "b", "c"]).await;
    let url = world.origin.put("set/one%20file.bin", b"hello", "1");
    let other = world.origin.put("two", &b"7".repeat(100_000), "1");
    world.distribute("data", json!([{"url": url}, {"url": other, "path": "sub/two"}])).await;
    let revision = world.revision(|revision| revision.spec.policy.fetchers.len() == 1).await;
    let name = revision.name_any();
    assert_eq!(revision.spec.content.files, 2);
    assert_eq!(revision.labels()[crds::CLASS_LABEL], "default");
    world.until_condition("data", "Resolved", "True", "Resolved").await;
    world.until_condition("data", "Built", "False", "Fetching").await;

    let fetcher = world.fetcher(&name).await;
    let grant = fetcher.patient_grant(&name).await;
    assert_eq!(
        grant.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
        ["one file.bin", "sub/two"]
    );
    assert_eq!(fetcher.progress(&name, &grant.id, 50_000).await, 200);
    let built = fetcher.build(&grant).await;
    assert_eq!(fetcher.complete(&name, &built).await, 503, "the metainfo lies at no tracker");
    fetcher.store(&name, &built).await;
    assert_eq!(fetcher.complete(&name, &built).await, 204);
    assert_eq!(fetcher.complete(&name, &built).await, 204, "the answer may have been lost");

    let written = world.revisions().get(&name).await.unwrap();
    assert_eq!(written.spec.torrents[0].info_hash_v2, built.completed.info_hash_v2);
    assert_eq!(written.spec.manifest_digest.as_ref(), Some(&built.completed.manifest_digest));
    world
        .until("no one fetches any more", async || {
            world.revisions().get(&name).await.unwrap().spec.policy.fetchers.is_empty()
        })
        .await;
    for node in ["a", "b", "c"] {
        world.sidecar(node).await.report(&name, "Ready").await;
    }
    world.until_condition("data", "Ready", "True", "AllNodesReady").await;
    let status = world.distribution("data").await.status.unwrap();
    assert_eq!(status.ready.as_deref(), Some("3/3"));
    assert_eq!(status.progress.unwrap().summary, "100%");
    assert_eq!(status.size.as_deref(), Some("97Ki"));
    assert!(status.ready_at.is_some() && status.available_at.is_some());

    tokio::time::sleep(Duration::from_secs(11)).await;
    let before = world.writes.lock().unwrap().len();
    tokio::time::sleep(Duration::from_secs(8)).await;
    let after = world.writes.lock().unwrap();
    assert_eq!(after.len(), before, "at rest nothing is written: {:?}", &after[before..]);
}

#[tokio::test]
async fn deletion_waits_for_live_nodes_and_frees_everything() {
    let world = World::with_class(102, &["a", "b"]).await;
    let url = world.origin.put("x", b"payload", "1");
    world.distribute("data", json!([{"url": url}])).await;
    let name = world.revision(|_| true).await.name_any();
    world.carry_through(&name, &["a", "b"]).await;
    world.until_condition("data", "Ready", "True", "").await;
    world.origin.mood(Some(500));
    world.distributions().delete("data", &DeleteParams::default()).await.unwrap();
    let (a, b) = (world.sidecar("a").await, world.sidecar("b").await);
    a.let_go_when_told(&name).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.distributions().get_opt("data").await.unwrap().is_some(), "b has not let go");
    b.let_go_when_told(&name).await;
    world
        .until("it is gone", async || {
            world.distributions().get_opt("data").await.unwrap().is_none()
                && world.revisions().list(&ListParams::default()).await.unwrap().items.is_empty()
        })
        .await;
}

#[tokio::test]
async fn deletion_does_not_wait_for_the_dead() {
    let world = World::with_class(103, &["a", "b"]).await;
    let url = world.origin.put("x", b"payload", "1");
    world.distribute("data", json!([{"url": url}])).await;
    let name = world.revision(|_| true).await.name_any();
    world.carry_through(&name, &["a", "b"]).await;
    // One is dead and known to be, the other hangs.
    world.set_node_ready("b", false, 120).await;
    world.until_condition("data", "Ready", "True", "").await;
    let counts = world.distribution("data").await.status.unwrap().nodes.unwrap();
    assert!(counts.desired == 2 && counts.ready <= 2, "{counts:?}");
    let begun = Instant::now();
    world.distributions().delete("data", &DeleteParams::default()).await.unwrap();
    world.until("it is gone", async || world.distributions().get_opt("data").await.unwrap().is_none()).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_edit_makes_a_revision_and_the_old_one_stays_until_the_new_is_everywhere() {
    let world = World::with_class(104, &["a", "b"]).await;
    let one = world.origin.put("one", b"1", "1");
    world.distribute("data", json!([{"url": one, "path": "f"}])).await;
    let old = world.revision(|_| true).await.name_any();
    world.carry_through(&old, &["a", "b"]).await;
    world.until_condition("data", "Ready", "True", "").await;

    let two = world.origin.put("two", b"22", "1");
    world.edit("data", json!({"source": {"http": {"files": [{"url": two, "path": "f"}]}}})).await;
    let new = world.revision(|revision| revision.spec.content.bytes == 2).await.name_any();
    assert_ne!(old, new);
    world.until_condition("data", "Ready", "False", "").await;
    let replaced = world.revisions().get(&old).await.unwrap();
    world
        .until("the old one is replaced", async || {
            !world.revisions().get(&old).await.unwrap().spec.policy.current
        })
        .await;
    assert!(!replaced.spec.torrents.is_empty());
    let fetcher = world.fetcher(&new).await;
    fetcher.fetch_and_complete(&new).await;
    world.sidecar("a").await.report(&new, "Ready").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.revisions().get_opt(&old).await.unwrap().is_some(), "b still has the old one only");
    world.sidecar("b").await.report(&new, "Ready").await;
    world.until_condition("data", "Ready", "True", "").await;
    world.until("the old one goes", async || world.revisions().get_opt(&old).await.unwrap().is_none()).await;
}

#[tokio::test]
async fn what_is_wrong_with_the_source_is_told_and_heals() {
    let world = World::with_class(105, &["a"]).await;
    let url = format!("{}/late", world.origin.url);
    world.distribute("late", json!([{"url": url}])).await;
    let message = world.until_condition("late", "Stalled", "True", "OriginNotFound").await;
    assert!(message.contains("/late") && message.contains("check the URL"), "{message}");
    assert_eq!(world.condition("late", "Resolved").await.1, "OriginNotFound");
    world.origin.put("late", b"now", "1");
    world.until_condition("late", "Resolved", "True", "").await;
    world.until_condition("late", "Stalled", "False", "").await;

    for (name, file, reason) in [
        ("escape", json!({"url": url, "path": "../x"}), "InvalidPath"),
        ("length", json!({"url": url, "size": 99}), "OriginLengthMismatch"),
        ("denied", json!({"url": "http://169.254.169.254/latest"}), "OriginDenied"),
    ] {
        world.distribute(name, json!([file])).await;
        let message = world.until_condition(name, "Stalled", "True", reason).await;
        assert!(!message.is_empty());
        if name == "escape" {
            assert!(message.contains("../x"), "{message}");
        }
    }
}

#[tokio::test]
async fn a_source_that_changes_under_the_fetch_becomes_another_revision() {
    let world = World::with_class(106, &["a"]).await;
    let url = world.origin.put("x", b"first", "1");
    world.distribute("data", json!([{"url": url}])).await;
    let first = world.revision(|_| true).await.name_any();
    let fetcher = world.fetcher(&first).await;
    let grant = fetcher.patient_grant(&first).await;
    world.origin.put("x", b"second", "2");
    fetcher.fail(&first, &grant.id, "SourceChanged", "the ETag is another").await.unwrap();
    let second = world.revision(|revision| revision.name_any() != first).await.name_any();
    world
        .until("the first is gone", async || world.revisions().get_opt(&first).await.unwrap().is_none())
        .await;
    world.carry_through(&second, &["a"]).await;
    world.until_condition("data", "Ready", "True", "").await;
}

#[tokio::test]
async fn a_full_disk_moves_the_election_and_a_dead_origin_does_not() {
    let world = World::with_class(107, &["a", "b"]).await;
    let url = world.origin.put("x", b"payload", "1");
    world.distribute("data", json!([{"url": url}])).await;
    let name = world.revision(|_| true).await.name_any();
    let first = world.fetcher(&name).await;
    let grant = first.patient_grant(&name).await;
    first.fail(&name, &grant.id, "OriginUnavailable", "it hung up").await.unwrap();
    world.until_condition("data", "Stalled", "True", "OriginUnavailable").await;
    assert_eq!(world.fetcher(&name).await.node, first.node);
    let grant = first.patient_grant(&name).await;
    first.fail(&name, &grant.id, "DiskFull", "no space under the root").await.unwrap();
    world.until_condition("data", "Stalled", "True", "DiskFull").await;
    world.until("another is elected", async || world.fetcher(&name).await.node != first.node).await;
    assert_eq!(first.grant(&name).await.unwrap_err(), 403);
    world.carry_through(&name, &["a", "b"]).await;
    world.until_condition("data", "Ready", "True", "").await;
}

#[tokio::test]
async fn a_fetcher_that_is_gone_is_replaced() {
    let world = World::with_class(108, &["a", "b"]).await;
    let url = world.origin.put("x", b"payload", "1");
    world.distribute("data", json!([{"url": url}])).await;
    let name = world.revision(|_| true).await.name_any();
    let first = world.fetcher(&name).await;
    first.patient_grant(&name).await;
    world.delete_pod(&first.node).await;
    world.until("another is elected", async || world.fetcher(&name).await.node != first.node).await;
    let second = world.fetcher(&name).await;
    second.fetch_and_complete(&name).await;
}

#[tokio::test]
async fn an_operator_that_starts_anew_goes_on_where_the_last_one_was() {
    let mut world = World::with_class(109, &["a", "b"]).await;
    let url = world.origin.put("x", b"payload", "1");
    world.distribute("data", json!([{"url": url}])).await;
    let name = world.revision(|_| true).await.name_any();
    let elected = world.fetcher(&name).await.node;
    world.stop_operator().await;
    world.start_operator().await;
    world
        .until("the class names the new one", async || world.sidecar("a").await.session().await.is_ok())
        .await;
    let fetcher = world.fetcher(&name).await;
    assert_eq!(fetcher.node, elected);
    fetcher.fetch_and_complete(&name).await;
    world.stop_operator().await;

    // Built: from here on nobody needs the origin.
    world.origin.mood(Some(500));
    let asked = world.origin.requests();
    world.start_operator().await;
    for node in ["a", "b"] {
        world.sidecar(node).await.report(&name, "Ready").await;
    }
    world.until_condition("data", "Ready", "True", "").await;
    assert_eq!(world.origin.requests(), asked);
    assert_eq!(world.revisions().list(&ListParams::default()).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn invalid_combinations_are_conditions() {
    let world = World::start(110, &[]).await;
    let url = world.origin.put("x", b"payload", "1");
    world.distribute("data", json!([{"url": url}])).await;
    let message = world.until_condition("data", "Stalled", "True", "ClassNotFound").await;
    assert!(message.contains("default"), "{message}");
    world.create_class(1).await;
    let message = world.until_condition("data", "Stalled", "True", "NoNodesSelected").await;
    assert!(message.contains("nodeSelector"), "{message}");
    world.add_node("a");
    world.until_condition("data", "Stalled", "False", "").await;
    assert_eq!(world.distribution("data").await.status.unwrap().ready.as_deref(), Some("0/1"));
}

#[tokio::test]
async fn a_declared_digest_that_is_not_met_builds_nothing() {
    let world = World::with_class(111, &["a"]).await;
    let url = world.origin.put("x", b"payload", "1");
    world.distribute("data", json!([{"url": url}])).await;
    world.edit("data", json!({"expectedDigest": format!("sha256:{}", "0".repeat(64))})).await;
    let name = world.revision(|_| true).await.name_any();
    let fetcher = world.fetcher(&name).await;
    let grant = fetcher.patient_grant(&name).await;
    let built = fetcher.build(&grant).await;
    fetcher.store(&name, &built).await;
    assert_eq!(fetcher.complete(&name, &built).await, 409);
    world.until_condition("data", "Stalled", "True", "DigestMismatch").await;
    assert!(world.revisions().get(&name).await.unwrap().spec.torrents.is_empty());
    let digest = format!("sha256:{}", built.completed.manifest_digest);
    world.edit("data", json!({"expectedDigest": digest})).await;
    world.carry_through(&name, &["a"]).await;
    world.until_condition("data", "Ready", "True", "").await;
}

#[tokio::test]
async fn one_that_is_made_again_under_its_name_is_another() {
    let world = World::with_class(112, &["a"]).await;
    let url = world.origin.put("x", b"payload", "1");
    world.distribute("data", json!([{"url": url}])).await;
    let first = world.revision(|_| true).await.name_any();
    world.carry_through(&first, &["a"]).await;
    // Someone takes the finalizer off by force.
    let patch = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world.distributions().delete("data", &DeleteParams::default()).await.unwrap();
    world.distributions().patch("data", &PatchParams::default(), &patch).await.ok();
    world.until("it is gone", async || world.distributions().get_opt("data").await.unwrap().is_none()).await;
    world.distribute("data", json!([{"url": url}])).await;
    let second = world.revision(|revision| revision.name_any() != first).await.name_any();
    world
        .until("the orphan is gone", async || world.revisions().get_opt(&first).await.unwrap().is_none())
        .await;
    world.carry_through(&second, &["a"]).await;
    world.until_condition("data", "Ready", "True", "").await;
}

#[tokio::test]
async fn retirement_lets_everything_go() {
    let world = World::with_class(113, &["a"]).await;
    let url = world.origin.put("x", b"payload", "1");
    world.distribute("data", json!([{"url": url}])).await;
    let name = world.revision(|_| true).await.name_any();
    world.carry_through(&name, &["a"]).await;
    let patch = kube::api::Patch::Merge(json!({"spec": {"retire": "Keep"}}));
    world.classes().patch("default", &PatchParams::default(), &patch).await.unwrap();
    world
        .until("no finalizer is left", async || {
            world.classes().get("default").await.unwrap().finalizers().is_empty()
                && world.distribution("data").await.finalizers().is_empty()
        })
        .await;
    world.distributions().delete("data", &DeleteParams::default()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(
        world.revisions().get_opt(&name).await.unwrap().is_some(),
        "Keep keeps: nothing of ours is deleted"
    );
}
