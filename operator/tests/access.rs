//! Who gets a grant, and who does not.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use common::{FakeSidecar, NAMESPACE, ScriptedRegistry, World, parse};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use memory_api::BoundToken;
use serde_json::json;

#[tokio::test]
async fn only_the_elected_node_with_its_own_token_gets_a_grant() {
    let world = World::with_class(121, &["a", "b"]).await;
    let url = world.origin.put("x", b"payload", "1");
    world.distribute("data", json!([{"url": url}])).await;
    let name = world.revision(|_| true).await.name_any();
    let elected = world.fetcher(&name).await;
    let other = if elected.node == "a" { "b" } else { "a" };
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), NAMESPACE);
    let pod = pods.get(&format!("samara-sidecar-{}", elected.node)).await.unwrap();
    let good = World::bound(&elected.node, &pod, "samara.dev");
    elected.patient_grant(&name).await;

    let with = async |token: &str, bound: BoundToken| {
        world.api.add_token(token, bound);
        let sidecar = FakeSidecar::new(&world, &elected.node, token).await;
        (sidecar.session().await.map(|_| ()), sidecar.grant(&name).await.map(|_| ()))
    };
    let refused = |status| (Err(status), Err(status));
    assert_eq!(with("good", good.clone()).await, (Ok(()), Ok(())));
    assert_eq!(
        with("audience", BoundToken { audiences: vec!["other".into()], ..good.clone() }).await,
        refused(401)
    );
    let foreign = BoundToken { service_account: "default".into(), ..good.clone() };
    assert_eq!(with("account", foreign).await, refused(403));
    let elsewhere = BoundToken { node: other.into(), ..good.clone() };
    assert_eq!(with("node", elsewhere).await, refused(403), "a token that was carried to another node");
    let unknown = FakeSidecar::new(&world, other, "made-up").await;
    assert_eq!(unknown.grant(&name).await.unwrap_err(), 401);

    let bystander = world.sidecar(other).await;
    assert!(bystander.session().await.is_ok(), "every sidecar may talk to the trackers");
    assert_eq!(bystander.grant(&name).await.unwrap_err(), 403, "but only the elected one reads the origin");
    let grant = elected.patient_grant(&name).await;
    assert_eq!(bystander.progress(&name, &grant.id, 1).await, 409);
    assert_eq!(bystander.fail(&name, &grant.id, "DiskFull", "").await.unwrap_err(), 409);
    assert_eq!(elected.progress(&name, "another-id", 1).await, 409);
    assert_eq!(elected.grant("no-such-revision").await.unwrap_err(), 404);

    // Deleted: its token dies with it, also one that was reviewed a moment ago.
    world.delete_pod(&elected.node).await;
    world
        .until("its word counts no more", async || {
            matches!(elected.grant(&name).await, Err(401 | 403))
                && matches!(elected.session().await, Err(401 | 403))
        })
        .await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_harms_nothing() {
    let world = World::with_class(122, &["a"]).await;
    let url = world.origin.put("x", b"payload", "1");
    world.distribute("data", json!([{"url": url}])).await;
    let name = world.revision(|_| true).await.name_any();
    let sidecar = world.fetcher(&name).await;
    sidecar.patient_grant(&name).await;
    let path = format!("/v1/grants/{name}/progress");
    assert_eq!(sidecar.post(&path, json!({})).await.0, 400);
    assert_eq!(sidecar.post(&path, json!({"grant": "x", "bytes": -1, "originBytes": 0})).await.0, 400);
    assert_eq!(
        sidecar.post(&path, json!({"grant": "x".repeat(100_000), "bytes": 1, "originBytes": 0})).await.0,
        400
    );
    assert_eq!(sidecar.post("/v1/grants/..%2f..%2fsession", json!({})).await.0, 404);
    assert_eq!(sidecar.post("/v2/session", json!({})).await.0, 404);
    let (status, body) = sidecar.post("/v1/grants/unknown", json!({})).await;
    assert!(status == 404 && body["error"].is_string(), "{body}");
    sidecar.fetch_and_complete(&name).await;
}

#[tokio::test]
async fn a_registry_that_names_a_time_is_no_failure_of_the_node_that_asks() {
    let (registry, world) = (ScriptedRegistry::start().await, World::with_class(129, &["a", "b"]).await);
    registry.push("1", b"a layer");
    let source = json!({"image": {"reference": registry.reference("1")}});
    let object = json!({"metadata": {"name": "app"}, "spec": {"source": source}});
    world.distributions().create(&PostParams::default(), &parse(object)).await.unwrap();
    let name = world.revision(|revision| !revision.spec.policy.fetchers.is_empty()).await.name_any();
    let fetcher = world.fetcher(&name).await;
    registry.mood(Some((429, Some(1))));
    registry.asked();
    // Once more than a node may fail before it makes room for another.
    for _ in 0..4 {
        world
            .until("the registry is asked and names a time", async || {
                assert_eq!(fetcher.grant(&name).await.unwrap_err(), 503, "it keeps its seat");
                registry.requests() > 0
            })
            .await;
        assert_eq!(registry.asked().len(), 1, "and nobody asks again before that");
    }
    world.until_condition("app", "Built", "False", "OriginUnavailable").await;
    registry.mood(None);
    fetcher.patient_grant(&name).await;
    assert_eq!(world.revision(|_| true).await.spec.policy.fetchers, [fetcher.node]);
}
