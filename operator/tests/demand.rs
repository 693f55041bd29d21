//! Images on demand: a real operator, real trackers and real sidecars, between mirrors that are asked and a registry that counts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod blobs;
mod common;

use std::time::{Duration, Instant};

use blobs::{Auth, BlobRegistry, Unit, bytes};
use common::World;
use futures::future::join_all;
use kube::api::{Patch, PatchParams};
use operator_api::Demanded;
use serde_json::json;

/// A world whose class has these registries on demand, and a sidecar on each node.
async fn start(network: u8, nodes: &[&str], registries: &[&str]) -> (World, Vec<Unit>) {
    let world = World::with_class(network, nodes).await;
    list(&world, registries).await;
    let units: Vec<Unit> = nodes.iter().map(|node| Unit::start(&world, node)).collect();
    for unit in &units {
        unit.until_ready(&world).await;
    }
    (world, units)
}

async fn list(world: &World, registries: &[&str]) {
    let patch = Patch::Merge(json!({"spec": {"runtime": {"registries": registries}}}));
    world.classes().patch("default", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_pull_at_once_and_each_byte_is_read_once() {
    const LENGTH: usize = 9_000_000;
    let registry = BlobRegistry::start(Auth::Anonymous).await;
    registry.pace(4_000_000);
    let (blob, small) = (registry.put(1, LENGTH), registry.put(2, 1000));
    let (world, mut units) = start(141, &["a", "b", "c"], &[&registry.host]).await;
    let pulls = units.iter().map(|unit| unit.whole(&registry.host, &blob));
    for got in join_all(pulls).await {
        assert!(got.unwrap().unwrap() == bytes(1, LENGTH), "the right bytes");
    }
    assert_eq!(registry.given(), LENGTH as u64);
    assert!(registry.shown().iter().all(|shown| shown == "Bearer for-everyone"), "what everyone gets");

    // Now it is here, also in parts; what is small is the registry's.
    let url = format!("http://{}/v2/team/app/blobs/{blob}?ns={}", units[1].mirror, registry.host);
    let part = common::http(rustls::RootCertStore::empty())
        .get(&url)
        .header("range", "bytes=8999990-")
        .send()
        .await
        .unwrap();
    assert_eq!(part.bytes().await.unwrap(), bytes(1, LENGTH)[LENGTH - 10..]);
    let before = registry.given();
    assert!(units[0].whole(&registry.host, &small).await.is_none());
    let manifest = format!("http://{}/v2/team/app/manifests/v1?ns={}", units[0].mirror, registry.host);
    assert_eq!(
        common::http(rustls::RootCertStore::empty()).get(manifest).send().await.unwrap().status(),
        404
    );

    // A node that comes later has it from the others.
    world.add_node("late");
    units.push(Unit::start(&world, "late"));
    units[3].until_ready(&world).await;
    assert!(units[3].whole(&registry.host, &blob).await.unwrap().unwrap() == bytes(1, LENGTH));
    assert_eq!(registry.given(), before);

    // Switched off, it is neither given out nor kept.
    list(&world, &[]).await;
    world.until("it is gone", async || !units[0].root.path().join("demand").join(&blob[7..]).exists()).await;
    assert!(units[0].whole(&registry.host, &blob).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_private_or_not_listed_goes_upstream() {
    let (private, unlisted) = (BlobRegistry::start(Auth::Basic).await, BlobRegistry::start(Auth::Open).await);
    let (a, b) = (private.put(1, 2_000_000), unlisted.put(2, 2_000_000));
    let (_world, units) = start(142, &["a"], &[&private.host, "*.example.com"]).await;
    assert!(units[0].whole(&private.host, &a).await.is_none());
    let asked = private.requests();
    assert!(asked > 0, "the registry said itself that it is private");
    assert!(units[0].whole(&private.host, &a).await.is_none());
    assert_eq!(
        (private.requests(), private.given(), private.shown()),
        (asked, 0, Vec::new()),
        "and it is remembered"
    );
    let began = Instant::now();
    assert!(units[0].whole(&unlisted.host, &b).await.is_none());
    assert!(began.elapsed() < Duration::from_millis(500));
    assert_eq!(unlisted.requests(), 0, "nobody dials it");
    // Nor a digest that is nowhere.
    assert!(units[0].whole(&private.host, &format!("sha256:{}", "0".repeat(64))).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_reads_on_where_one_has_died_and_no_pull_is_cut() {
    const LENGTH: usize = 10_000_000;
    let registry = BlobRegistry::start(Auth::Open).await;
    registry.pace(2_000_000);
    let blob = registry.put(3, LENGTH);
    let (world, mut units) = start(143, &["a", "b", "c"], &[&registry.host]).await;
    let first = units[0].pull(&registry.host, &blob).await.unwrap();
    assert_eq!(first.status(), 200);
    let others: Vec<_> = units.drain(1..).collect();
    let pulls = others.into_iter().map(|unit| {
        let (host, blob) = (registry.host.clone(), blob.clone());
        tokio::spawn(async move { unit.whole(&host, &blob).await })
    });
    let pulls: Vec<_> = pulls.collect();
    world.until("some of it is read", async || registry.given() > 3_500_000).await;
    units.remove(0).stop().await;
    drop(first);
    for pull in pulls {
        assert!(pull.await.unwrap().unwrap().unwrap() == bytes(3, LENGTH));
    }
    let read = registry.given();
    assert!(read < LENGTH as u64 + 4_000_000, "what others had was not read again: {read}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_are_served_by_nobody_as_the_blob() {
    const LENGTH: usize = 3_000_000;
    let registry = BlobRegistry::start(Auth::Open).await;
    let blob = registry.put(4, LENGTH);
    registry.lie();
    let (world, units) = start(144, &["a", "b"], &[&registry.host]).await;
    let pulls = units.iter().map(|unit| unit.whole(&registry.host, &blob));
    for got in join_all(pulls).await {
        assert!(got.is_none_or(|whole| whole.is_err()), "it ends early");
    }
    assert!(registry.given() > 0, "somebody read it");
    for unit in &units {
        let gone = async || unit.whole(&registry.host, &blob).await.is_none();
        world.until("it goes upstream", gone).await;
        let folder = unit.root.path().join("demand").join(&blob[7..]);
        world.until("nothing of it is kept", async || !folder.exists()).await;
    }
    let sidecar = world.sidecar("a").await;
    let request = json!({"registry": registry.host, "repository": "team/app", "digest": blob, "key": sidecar.public_key().to_string()});
    assert_eq!(sidecar.post("/v1/demands", request).await.0, 404, "the operator has heard of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_cache_drops_what_nobody_asks_for_and_gets_it_again() {
    const LENGTH: usize = 2_000_000;
    let registry = BlobRegistry::start(Auth::Open).await;
    let blobs = [registry.put(8, LENGTH), registry.put(9, LENGTH)];
    let (world, units) = start(147, &["a"], &[&registry.host]).await;
    let patch = Patch::Merge(json!({"spec": {"runtime": {"cache": "3M"}}}));
    world.classes().patch("default", &PatchParams::default(), &patch).await.unwrap();
    let kept = |blob: &str| units[0].root.path().join("demand").join(&blob[7..]).exists();
    units[0].until_class_says(&world, "3M").await;
    for (old, (blob, seed)) in [(1, (0, 8)), (0, (1, 9)), (1, (0, 8))] {
        assert!(units[0].whole(&registry.host, &blobs[blob]).await.unwrap().unwrap() == bytes(seed, LENGTH));
        world.until("the other has made room", async || !kept(&blobs[old])).await;
        assert!(kept(&blobs[blob]));
    }
    let huge = registry.put(10, 4_000_000);
    assert!(units[0].whole(&registry.host, &huge).await.is_none(), "it would never fit");
    assert!(kept(&blobs[0]), "and nothing goes for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_operator_pulls_go_upstream_and_what_is_here_stays() {
    let registry = BlobRegistry::start(Auth::Open).await;
    let (here, other) = (registry.put(5, 2_000_000), registry.put(6, 2_000_000));
    let (mut world, units) = start(145, &["a"], &[&registry.host]).await;
    assert!(units[0].whole(&registry.host, &here).await.unwrap().unwrap() == bytes(5, 2_000_000));
    // What is being read is read on.
    let slow = registry.put(11, 6_000_000);
    registry.pace(1_000_000);
    let pull = units[0].pull(&registry.host, &slow).await.unwrap();
    assert_eq!(pull.status(), 200);
    world.stop_operator().await;
    let began = Instant::now();
    assert!(units[0].whole(&registry.host, &other).await.is_none());
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(pull.bytes().await.unwrap() == bytes(11, 6_000_000));
    assert!(units[0].whole(&registry.host, &here).await.unwrap().unwrap() == bytes(5, 2_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_names_a_blob_and_one_node_that_reads_it() {
    let registry = BlobRegistry::start(Auth::Anonymous).await;
    let blob = registry.put(7, 2_000_000);
    let world = World::with_class(146, &["a", "b"]).await;
    let (a, b) = (world.sidecar("a").await, world.sidecar("b").await);
    let request = |digest: &str, host: &str| json!({"registry": host, "repository": "team/app", "digest": digest, "key": a.public_key().to_string()});
    let status = async |digest: &str, host: &str| a.post("/v1/demands", request(digest, host)).await.0;
    assert_eq!(status(&blob, &registry.host).await, 403, "off by default");
    list(&world, &[&registry.host]).await;
    world.until("the operator has heard of it", async || status(&blob, &registry.host).await == 200).await;
    assert_eq!(status(&blob, "registry.example").await, 403);
    assert_eq!(status("sha256:1", &registry.host).await, 400);
    assert_eq!(a.post("/v1/demands", json!({"registry": registry.host})).await.0, 400);
    assert_eq!(status(&format!("sha256:{}", "0".repeat(64)), &registry.host).await, 404);

    let ask = async |sidecar: &common::FakeSidecar, stuck: bool| -> Demanded {
        let mut request = request(&blob, &registry.host);
        request["stuck"] = json!(stuck);
        let (status, body) = sidecar.post("/v1/demands", request).await;
        assert_eq!(status, 200, "{body}");
        common::parse(body)
    };
    let (of_a, of_b) = (ask(&a, false).await, ask(&b, true).await);
    assert_eq!((of_a.size, &of_a.ingest), (2_000_000, &of_b.ingest));
    assert!(of_b.read.is_none(), "a reads it");
    let read = of_a.read.unwrap();
    assert_eq!(read.url, format!("http://{}/v2/team/app/blobs/{blob}", registry.host));
    assert_eq!(read.authorization.unwrap().value, "Bearer for-everyone");
    let swarms = a.registry().await.swarms;
    assert!(swarms.iter().any(|swarm| swarm.infohashes == [of_a.ingest.clone()]), "{swarms:?}");

    // It holds it now: nobody has to read it, and an operator that starts anew hears of it.
    let held = json!({"blobs": [{"digest": blob, "size": 2_000_000, "epoch": 0}]});
    assert_eq!(a.post("/v1/demands/held", held).await.0, 204);
    assert!(ask(&b, false).await.read.is_none());
    let too_many = vec![json!({"digest": blob, "size": 1, "epoch": 0}); 257];
    assert_eq!(a.post("/v1/demands/held", json!({"blobs": too_many})).await.0, 400);
    let failed = json!({"digest": blob, "ingest": of_a.ingest, "reason": "DigestMismatch", "message": "m"});
    assert_eq!(b.post("/v1/demands/failed", failed).await.0, 204);
    assert_eq!(status(&blob, &registry.host).await, 404);
    world.until("the trackers forget it", async || a.registry().await.swarms.is_empty()).await;
    assert!(world.writes.lock().unwrap().iter().all(|write| !write.contains("demand")), "nothing is written");
}
