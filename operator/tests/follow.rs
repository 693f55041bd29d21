//! Sources that are followed, at a registry and an origin that say what they were asked. What the API server refuses, an interval of
//! less than a minute, the API of these tests takes.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use std::time::Duration;

use common::{ScriptedRegistry, World, parse};
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

const HEAD: &str = "HEAD manifests/1";

async fn distribute(world: &World, source: Value, update: Value) {
    let object = json!({"metadata": {"name": "app"}, "spec": {"source": source, "update": update}});
    world.distributions().create(&PostParams::default(), &parse(object)).await.unwrap();
}

/// A world with an image that is on its only node.
async fn with_image(network: u8, update: Value) -> (World, ScriptedRegistry, String) {
    let (registry, world) = (ScriptedRegistry::start().await, World::with_class(network, &["a"]).await);
    registry.push("1", b"the first layer");
    distribute(&world, json!({"image": {"reference": registry.reference("1")}}), update).await;
    let name = carry_through(&world, "").await;
    (world, registry, name)
}

/// Has the node get what is current and is not `old`.
async fn carry_through(world: &World, old: &str) -> String {
    let name = world.revision(|revision| revision.name_any() != old).await.name_any();
    world.carry_through(&name, &["a"]).await;
    world.until_condition("app", "Ready", "True", "AllNodesReady").await;
    name
}

async fn until_asked(world: &World, registry: &ScriptedRegistry, times: usize) {
    world.until("the registry is asked", async || registry.requests() >= times).await;
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn written(world: &World) -> usize {
    world.writes.lock().unwrap().len()
}

#[tokio::test]
async fn a_tag_that_stays_costs_one_head_an_interval_and_no_write_and_one_that_moves_is_another_revision() {
    let (world, registry, old) = with_image(171, json!({"type": "Track", "interval": "2s"})).await;
    // The last counts are written by then.
    seconds(11).await;
    registry.asked();
    let before = written(&world);
    seconds(7).await;
    let asked = registry.asked();
    assert!((3..=4).contains(&asked.len()) && asked.iter().all(|asked| asked == HEAD), "{asked:?}");
    assert_eq!(written(&world), before, "{:?}", world.writes.lock().unwrap().last());

    let [index, manifest] = registry.push("1", b"the second layer");
    let begun = std::time::Instant::now();
    let new = world.revision(|revision| revision.name_any() != old).await;
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "within the interval, and a tenth: {:?}",
        begun.elapsed()
    );
    assert_eq!(new.spec.content.image.as_ref().unwrap().digest, index);
    let asked = registry.asked();
    let moved = [HEAD.to_owned(), format!("GET manifests/{index}"), format!("GET manifests/{manifest}")];
    assert!(
        asked.ends_with(&moved) && asked[..asked.len() - 3].iter().all(|asked| asked == HEAD),
        "{asked:?}"
    );

    let replaced = world.revisions().get(&old).await.unwrap();
    assert!(!replaced.spec.policy.current && !replaced.spec.torrents.is_empty(), "nodes keep what they have");
    let status = world.distribution("app").await.status.unwrap();
    assert_eq!(status.previous_revision.map(|previous| previous.id), Some(old.clone()));
    seconds(5).await;
    assert_eq!(registry.asked(), [""; 0], "what was found is read first");
    let new = carry_through(&world, &old).await;
    world.until("the old one goes", async || world.revisions().get_opt(&old).await.unwrap().is_none()).await;
    until_asked(&world, &registry, 2).await;
    assert_eq!(world.revision(|_| true).await.name_any(), new);
}

#[tokio::test]
async fn a_registry_that_is_down_breaks_nothing_and_is_told_once() {
    let (world, registry, name) = with_image(172, json!({"type": "Track", "interval": "2s"})).await;
    registry.mood(Some((503, None)));
    let message = world.until_condition("app", "Resolved", "True", "UpdateCheckFailed").await;
    assert!(message.contains("answered 503"), "{message}");
    assert_eq!(world.condition("app", "Ready").await.0, "True");
    assert_eq!(world.condition("app", "Stalled").await.0, "False");
    seconds(11).await;
    let before = written(&world);
    registry.asked();
    seconds(6).await;
    let asked = registry.asked();
    assert!(
        (2..=7).contains(&asked.len()),
        "it is tried again, and not much more often than else: {asked:?}"
    );
    assert_eq!(written(&world), before, "{:?}", world.writes.lock().unwrap().last());
    let events: kube::Api<k8s_openapi::api::core::v1::Event> = kube::Api::all(world.client.clone());
    let events = events.list(&ListParams::default()).await.unwrap().items;
    let told = events.iter().filter(|event| event.reason.as_deref() == Some("UpdateCheckFailed")).count();
    assert_eq!(told, 1);
    registry.mood(None);
    world.until_condition("app", "Resolved", "True", "Resolved").await;
    assert_eq!(world.revision(|_| true).await.name_any(), name);
}

#[tokio::test]
async fn a_registry_that_names_a_time_is_left_alone_until_then_or_an_edit() {
    let (world, registry, _) = with_image(173, json!({"type": "Track", "interval": "2s"})).await;
    registry.mood(Some((429, Some(3600))));
    registry.asked();
    until_asked(&world, &registry, 1).await;
    seconds(6).await;
    assert_eq!(registry.asked(), [HEAD]);
    registry.mood(None);
    world.edit("app", json!({"update": {"interval": "3s"}})).await;
    until_asked(&world, &registry, 2).await;
}

#[tokio::test]
async fn what_is_pinned_is_never_asked_and_every_edit_of_the_interval_counts_at_once() {
    let (world, registry, old) = with_image(174, json!({})).await;
    let edit = async |update: Value| world.edit("app", json!({ "update": update })).await;
    registry.asked();
    registry.push("1", b"the second layer");
    seconds(4).await;
    assert_eq!(registry.asked(), [""; 0]);
    edit(json!({"type": "Track", "interval": "24h"})).await;
    let new = carry_through(&world, &old).await;
    let asked = registry.asked();
    let looks = asked.iter().filter(|asked| *asked == HEAD).count();
    assert_eq!(looks, 1, "at once, and no more: {asked:?}");
    seconds(4).await;
    assert_eq!(registry.asked(), [""; 0], "it is a day until the next");
    edit(json!({"interval": "1s"})).await;
    until_asked(&world, &registry, 3).await;
    edit(json!({"type": "Pinned"})).await;
    seconds(2).await;
    registry.asked();
    registry.push("1", b"the third layer");
    seconds(4).await;
    assert_eq!(registry.asked(), [""; 0]);
    assert_eq!(world.revision(|_| true).await.name_any(), new);
}

#[tokio::test]
async fn another_operator_goes_on_following() {
    let (mut world, registry, old) = with_image(175, json!({"type": "Track", "interval": "3s"})).await;
    world.stop_operator().await;
    registry.push("1", b"the second layer");
    world.start_operator().await;
    carry_through(&world, &old).await;
}

#[tokio::test]
async fn files_that_change_at_their_origin_are_another_revision() {
    let world = World::with_class(176, &["a"]).await;
    let url = world.origin.put("f", b"one", "1");
    let sealed = world.origin.put("sealed", b"x", "1");
    let files = json!([{"url": url}, {"url": sealed}]);
    distribute(&world, json!({"http": {"files": files}}), json!({"type": "Track", "interval": "2s"})).await;
    let old = carry_through(&world, "").await;
    seconds(11).await;
    let (before, asked) = (written(&world), world.origin.requests());
    seconds(7).await;
    let asked = world.origin.requests() - asked;
    assert!((6..=8).contains(&asked), "one HEAD for each file, three times or four: {asked}");
    assert_eq!(written(&world), before, "{:?}", world.writes.lock().unwrap().last());
    // Of the same length: the ETag tells.
    world.origin.put("f", b"two", "2");
    let new = carry_through(&world, &old).await;
    world.origin.mood(Some(500));
    world.until_condition("app", "Resolved", "True", "UpdateCheckFailed").await;
    world.origin.mood(None);
    world.until_condition("app", "Resolved", "True", "Resolved").await;
    assert_eq!(world.revision(|_| true).await.name_any(), new);
}
