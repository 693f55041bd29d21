//! What a real API server has no tests for in the conformance suite: hooks, seeds, tokens, compaction.

#![allow(clippy::unused_async)] // one shape for all steps
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to fail")]

use std::sync::{Arc, Mutex};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{
    authentication::v1::TokenReview,
    core::v1::{ConfigMap, Namespace, Pod, Service},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use memory_api::{ApiError, BoundToken, LOG_LIMIT, MemoryApi};
use serde_json::{Value, json};

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn code<T: std::fmt::Debug>(result: kube::Result<T>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => unreachable!("expected a refusal, got {other:?}"),
    }
}

fn maps(api: &MemoryApi) -> Api<ConfigMap> {
    Api::namespaced(api.client(), "default")
}

async fn pod(api: &MemoryApi) -> Pod {
    let pod = json!({
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [], "nodeName": "n"},
        "status": {"phase": "Running", "podIP": "127.0.0.1"},
    });
    api.seed::<Pod>(&object(pod)).unwrap()
}

#[tokio::test]
async fn what_is_seeded_is_there_status_and_all() {
    let api = MemoryApi::new();
    let seeded = pod(&api).await;
    assert_eq!(seeded.status.unwrap().phase.as_deref(), Some("Running"));
    let again = pod(&api).await;
    assert_eq!(again.metadata.uid, seeded.metadata.uid, "a second time it is replaced");
    let lost = json!({"metadata": {"name": "p", "namespace": "none"}, "spec": {"containers": []}});
    assert_eq!(api.seed::<Pod>(&object(lost)).unwrap_err().code, 404);
}

#[tokio::test]
async fn a_token_is_good_for_its_audience_while_its_pod_lives() {
    let api = MemoryApi::new();
    let uid = pod(&api).await.uid().unwrap();
    let bound = BoundToken {
        audiences: vec!["samara.dev".into()],
        namespace: "default".into(),
        service_account: "sa".into(),
        pod: "p".into(),
        pod_uid: uid,
        node: "n".into(),
    };
    api.add_token("secret", bound);
    let client = api.client();
    let review = async |audience: &str| {
        let reviews: Api<TokenReview> = Api::all(client.clone());
        let review = json!({"metadata": {}, "spec": {"token": "secret", "audiences": [audience]}});
        reviews.create(&PostParams::default(), &object(review)).await.unwrap().status.unwrap()
    };
    let good = review("samara.dev").await;
    assert_eq!((good.authenticated, good.audiences), (Some(true), Some(vec!["samara.dev".to_owned()])));
    let user = good.user.unwrap();
    assert_eq!(user.username.as_deref(), Some("system:serviceaccount:default:sa"));
    assert_eq!(user.extra.unwrap()["authentication.kubernetes.io/node-name"], ["n"]);
    assert_ne!(review("other").await.authenticated, Some(true));
    Api::<Pod>::default_namespaced(client.clone()).delete("p", &DeleteParams::default()).await.unwrap();
    assert_ne!(review("samara.dev").await.authenticated, Some(true));
}

#[tokio::test]
async fn an_interceptor_sees_and_refuses() {
    let api = MemoryApi::new();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let log = calls.clone();
    api.intercept(move |call| {
        log.lock().unwrap().push(format!("{} {} {}", call.verb, call.path, call.body.len() > 2));
        if call.verb == "create" { Err(ApiError::new(503, "ServiceUnavailable", "not now")) } else { Ok(()) }
    });
    let map = object::<ConfigMap>(json!({"metadata": {"name": "a"}}));
    assert_eq!(code(maps(&api).create(&PostParams::default(), &map).await), 503);
    assert!(maps(&api).list(&ListParams::default()).await.unwrap().items.is_empty());
    let path = "/api/v1/namespaces/default/configmaps";
    assert_eq!(*calls.lock().unwrap(), [format!("create {path} true"), format!("list {path} false")]);
}

/// The code of the error with which a watch from `version` begins.
async fn first_error(api: &MemoryApi, version: &str) -> Option<u16> {
    let stream = maps(api).watch(&WatchParams::default(), version).await.unwrap();
    match stream.boxed().try_next().await.unwrap() {
        Some(WatchEvent::Error(status)) => Some(status.code),
        _ => None,
    }
}

#[tokio::test]
async fn what_is_forgotten_is_gone() {
    let api = MemoryApi::new();
    let map = object::<ConfigMap>(json!({"metadata": {"name": "a"}}));
    let made = maps(&api).create(&PostParams::default(), &map).await.unwrap();
    let version = made.resource_version().unwrap();
    api.compact();
    assert_eq!(first_error(&api, &version).await, Some(410));
    let now = maps(&api).list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    for n in 0..=LOG_LIMIT {
        let patch = Patch::Merge(json!({"data": {"n": n.to_string()}}));
        maps(&api).patch("a", &PatchParams::default(), &patch).await.unwrap();
    }
    assert_eq!(first_error(&api, &now).await, Some(410), "more changes than the log holds");
}

#[tokio::test(start_paused = true)]
async fn a_watch_has_bookmarks_and_an_end() {
    let api = MemoryApi::new();
    let params = WatchParams::default().timeout(150);
    let events: Vec<_> = maps(&api).watch(&params, "0").await.unwrap().try_collect().await.unwrap();
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| matches!(event, WatchEvent::Bookmark(_))));
}

#[tokio::test]
async fn a_namespace_goes_when_it_is_empty() {
    let api = MemoryApi::new();
    let spaces: Api<Namespace> = Api::all(api.client());
    api.seed::<Namespace>(&object(json!({"metadata": {"name": "n"}}))).unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "n");
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    maps.create(&PostParams::default(), &object(held)).await.unwrap();
    maps.create(&PostParams::default(), &object(json!({"metadata": {"name": "free"}}))).await.unwrap();
    spaces.delete("n", &DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("free").await.unwrap().is_none());
    let late = object(json!({"metadata": {"name": "late"}}));
    assert_eq!(code(maps.create(&PostParams::default(), &late).await), 403);
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    maps.patch("held", &PatchParams::default(), &patch).await.unwrap();
    assert!(spaces.get_opt("n").await.unwrap().is_none());
}

#[tokio::test]
async fn addresses_of_services_are_used_again() {
    let api = MemoryApi::with_service_network([127, 9, 0, 0].into(), 30);
    let services: Api<Service> = Api::default_namespaced(api.client());
    let service =
        |name: &str| object::<Service>(json!({"metadata": {"name": name}, "spec": {"ports": [{"port": 1}]}}));
    let post = PostParams::default();
    services.create(&post, &service("a")).await.unwrap();
    services.create(&post, &service("b")).await.unwrap();
    assert_eq!(code(services.create(&post, &service("c")).await), 500, "the range is full");
    services.delete("a", &DeleteParams::default()).await.unwrap();
    let made = services.create(&post, &service("c")).await.unwrap();
    assert_eq!(made.spec.unwrap().cluster_ip.as_deref(), Some("127.9.0.1"));
}

#[tokio::test]
async fn what_is_not_served_says_so() {
    let api = MemoryApi::new();
    let secrets: Api<k8s_openapi::api::apps::v1::DaemonSet> = Api::default_namespaced(api.client());
    assert_eq!(code(secrets.list(&ListParams::default()).await), 404);
    let map = object::<ConfigMap>(json!({"metadata": {"name": "a"}}));
    maps(&api).create(&PostParams::default(), &map).await.unwrap();
    let strategic = Patch::Strategic(json!({"data": {"x": "1"}}));
    assert_eq!(code(maps(&api).patch("a", &PatchParams::default(), &strategic).await), 415);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    assert_eq!(code(maps(&api).create(&dry, &map).await), 400);
}
