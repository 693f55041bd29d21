//! Images, from a registry as Debian has it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
mod registry;

use std::collections::BTreeMap;

use common::{NAMESPACE, World, parse};
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use operator_api::Grant;
use registry::{Auth, LOGIN, RealRegistry, TokenServer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

async fn distribute(world: &World, name: &str, image: Value) {
    let object = json!({"metadata": {"name": name}, "spec": {"source": {"image": image}}});
    world.distributions().create(&PostParams::default(), &parse(object)).await.unwrap();
}

async fn pull_secret(world: &World, name: &str, kind: &str, config: &Value) {
    let key = if kind == "dockercfg" { ".dockercfg" } else { ".dockerconfigjson" };
    let secret = json!({
        "metadata": {"name": name}, "type": format!("kubernetes.io/{kind}"),
        "data": {key: base64::Engine::encode(&base64::engine::general_purpose::STANDARD, config.to_string())},
    });
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), "default");
    secrets.create(&PostParams::default(), &parse(secret)).await.unwrap();
}

/// Two platforms that share a layer, and what a builder adds.
async fn push(registry: &RealRegistry, tag: &str) -> Value {
    let amd = registry.push_image("team/app", "amd64", &[b"shared layer", b"amd64 layer"]).await;
    let arm = registry.push_image("team/app", "arm64", &[b"shared layer", b"arm64 layer"]).await;
    let mut attestation = registry.push_image("team/app", "unknown", &[b"attestation"]).await;
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    registry.push_index("team/app", tag, &[amd, arm, attestation]).await
}

/// The bytes of a grant, by path; each held against its declared digest.
async fn layout(sidecar: &common::FakeSidecar, grant: &Grant) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for file in &grant.files {
        let bytes = sidecar.bytes(grant, file).await;
        assert_eq!(
            (bytes.len() as u64, hex::encode(Sha256::digest(&bytes))),
            (file.size, file.sha256.clone().unwrap())
        );
        files.insert(file.path.clone(), bytes.to_vec());
    }
    files
}

fn follow<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
    let bytes = &files[&format!("blobs/{}", descriptor["digest"].as_str().unwrap().replace(':', "/"))];
    assert_eq!(bytes.len() as u64, descriptor["size"].as_u64().unwrap());
    bytes
}

fn read(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[tokio::test]
async fn an_image_becomes_a_layout_of_the_platforms_of_the_nodes() {
    let Some(registry) = RealRegistry::start(Auth::Open).await else { return };
    let world = World::with_class(151, &["a", "b"]).await;
    let index = push(&registry, "1.0").await;
    distribute(&world, "app", json!({"reference": registry.reference("team/app:1.0")})).await;
    let revision = world.revision(|revision| !revision.spec.policy.fetchers.is_empty()).await;
    let (name, content) = (revision.name_any(), &revision.spec.content);
    let image = content.image.as_ref().unwrap();
    assert_eq!(image.reference, registry.reference("team/app:1.0"));
    assert_eq!(image.digest, index["digest"]);
    assert_eq!(image.media_type, "application/vnd.oci.image.index.v1+json");
    assert_eq!(image.manifests.len(), 1);
    assert_eq!(image.manifests[0].platform, "linux/amd64");
    assert_eq!((image.access, image.materialize), (crds::ImageAccess::Cluster, crds::Materialize::Image));

    let fetcher = world.fetcher(&name).await;
    let grant = fetcher.patient_grant(&name).await;
    assert_eq!(grant.authorization, None, "it is open to everyone");
    let files = layout(&fetcher, &grant).await;
    assert_eq!(i64::try_from(files.len()).unwrap(), content.files);
    let bytes: usize = files.values().map(Vec::len).sum();
    assert_eq!(i64::try_from(bytes).unwrap(), content.bytes);
    // As a tool would read it: from the way in to the layers.
    assert_eq!(read(&files["oci-layout"]), json!({"imageLayoutVersion": "1.0.0"}));
    let top = &read(&files["index.json"])["manifests"][0];
    assert_eq!(top["annotations"]["org.opencontainers.image.ref.name"], "1.0");
    let listed = read(follow(&files, top));
    let manifest = read(follow(&files, &listed["manifests"][0]));
    let layers: Vec<&[u8]> =
        manifest["layers"].as_array().unwrap().iter().map(|layer| follow(&files, layer)).collect();
    assert_eq!(layers, [&b"shared layer"[..], b"amd64 layer"]);
    follow(&files, &manifest["config"]);
    assert_eq!(files.len(), 7, "nothing of other platforms: {:?}", files.keys());

    world.carry_through(&name, &["a", "b"]).await;
    world.until_condition("app", "Ready", "True", "").await;
    let status = world.distribution("app").await.status.unwrap();
    assert_eq!(status.source_type.as_deref(), Some("image"));
    let pinned = format!("{}@{}", registry.reference("team/app:1.0"), index["digest"].as_str().unwrap());
    assert_eq!(status.revision.unwrap().source, Some(pinned), "T95");

    // T95: the tag moves, and the revision stays what it is.
    let moved = registry.push_image("team/app", "amd64", &[b"another layer"]).await;
    registry.push_index("team/app", "1.0", &[moved]).await;
    world.edit("app", json!({"placement": {"nodeSelector": {"kubernetes.io/hostname": "a"}}})).await;
    world.until_condition("app", "Ready", "True", "").await;
    assert_eq!(world.revision(|_| true).await.name_any(), name);
}

#[tokio::test]
async fn what_is_done_with_an_image_is_a_revision_of_its_own_and_its_bytes_are_the_same() {
    let Some(registry) = RealRegistry::start(Auth::Open).await else { return };
    let world = World::with_class(152, &["a"]).await;
    push(&registry, "1").await;
    let reference = registry.reference("team/app:1");
    distribute(&world, "app", json!({"reference": reference})).await;
    let old = world.revision(|_| true).await;
    let one = world.fetcher(&old.name_any()).await.patient_grant(&old.name_any()).await;
    world.carry_through(&old.name_any(), &["a"]).await;
    world.edit("app", json!({"source": {"image": {"reference": reference, "pin": true}}})).await;
    let new =
        world.revision(|revision| revision.spec.content.image.as_ref().is_some_and(|image| image.pin)).await;
    assert_ne!(old.name_any(), new.name_any());
    let two = world.fetcher(&new.name_any()).await.patient_grant(&new.name_any()).await;
    assert_eq!(one.files, two.files);
}

#[tokio::test]
async fn t095_a_tag_that_moves_moves_nothing_whoever_resolves_it_again() {
    let Some(registry) = RealRegistry::start(Auth::Open).await else { return };
    let mut world = World::with_class(158, &["a"]).await;
    push(&registry, "1").await;
    let image = json!({"reference": registry.reference("team/app:1")});
    distribute(&world, "app", image).await;
    let old = world.revision(|_| true).await;
    world.stop_operator().await;
    let moved = registry.push_image("team/app", "amd64", &[b"another layer"]).await;
    let index = registry.push_index("team/app", "1", &[moved]).await;
    world.start_operator().await;
    world.until_condition("app", "Resolved", "True", "").await;
    let name = old.name_any();
    let grant = world.fetcher(&name).await.patient_grant(&name).await;
    layout(&world.sidecar("a").await, &grant).await;
    world.carry_through(&name, &["a"]).await;
    world.until_condition("app", "Ready", "True", "").await;

    // Asked for by another name it is another source.
    let other = json!({"reference": registry.reference("team/app:1"), "platforms": ["linux/amd64"]});
    world.edit("app", json!({"source": {"image": other}})).await;
    let new = world.revision(|revision| revision.name_any() != name).await;
    assert_eq!(new.spec.content.image.unwrap().digest, index["digest"]);
}

#[tokio::test]
async fn a_node_of_another_kind_that_comes_later_gets_its_part_of_the_same_image() {
    let Some(registry) = RealRegistry::start(Auth::Open).await else { return };
    let mut world = World::with_class(160, &["a"]).await;
    let index = push(&registry, "1").await;
    distribute(&world, "app", json!({"reference": registry.reference("team/app:1")})).await;
    let old = world.revision(|_| true).await.name_any();
    world.fetcher(&old).await.patient_grant(&old).await;
    world.carry_through(&old, &["a"]).await;
    world.until_condition("app", "Ready", "True", "").await;
    let moved = registry.push_image("team/app", "amd64", &[b"another layer"]).await;
    registry.push_index("team/app", "1", &[moved]).await;

    world.add_node_of("b", "arm64");
    let new = world.revision(|revision| revision.name_any() != old).await;
    let image = new.spec.content.image.as_ref().unwrap();
    assert_eq!(image.digest, index["digest"], "T95: the tag is not looked up again");
    let platforms: Vec<&str> = image.manifests.iter().map(|manifest| manifest.platform.as_str()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    let name = new.name_any();
    world.fetcher(&name).await.patient_grant(&name).await;
    world.carry_through(&name, &["a", "b"]).await;
    world.until_condition("app", "Ready", "True", "").await;

    // It is not there for this one, which is said, and asked once.
    world.add_node_of("c", "s390x");
    let events: Api<Event> = Api::all(world.client.clone());
    world
        .until("the user hears of it", async || {
            let told = events.list(&ListParams::default()).await.unwrap();
            told.items.iter().any(|event| {
                event.message.as_ref().is_some_and(|said| said.ends_with("nodes that are linux/s390x"))
            })
        })
        .await;
    world
        .revision(|revision| {
            let known = revision.annotations().get("samara.dev/platforms");
            known.is_some_and(|known| known == "linux/amd64,linux/arm64,linux/s390x")
        })
        .await;
    world.stop_operator().await;
    drop(registry);
    world.start_operator().await;
    world.sidecar("c").await.report(&name, "Ready").await;
    world.until_condition("app", "Ready", "True", "").await;
    assert_eq!(world.revision(|_| true).await.name_any(), name);
}

#[tokio::test]
async fn a_platform_that_is_named_has_to_be_there() {
    let Some(registry) = RealRegistry::start(Auth::Open).await else { return };
    let world = World::with_class(153, &["a"]).await;
    push(&registry, "1").await;
    let reference = registry.reference("team/app:1");
    distribute(&world, "app", json!({"reference": reference, "platforms": ["linux/s390x"]})).await;
    let message = world.until_condition("app", "Resolved", "False", "NoSuchPlatform").await;
    assert!(message.contains("for linux/s390x; it has linux/amd64, linux/arm64"), "{message}");
    let both = json!({"reference": reference, "platforms": ["linux/arm64", "linux/amd64"]});
    world.edit("app", json!({"source": {"image": both}})).await;
    let revision = world.revision(|_| true).await;
    let manifests = revision.spec.content.image.unwrap().manifests;
    let platforms: Vec<&str> = manifests.iter().map(|manifest| manifest.platform.as_str()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);

    distribute(&world, "none", json!({"reference": registry.reference("team/app:2")})).await;
    world.until_condition("none", "Resolved", "False", "OriginNotFound").await;
}

#[tokio::test]
async fn a_password_opens_a_private_image_and_shows_nowhere() {
    let Some(registry) = RealRegistry::start(Auth::Basic).await else { return };
    let world = World::with_class(154, &["a"]).await;
    push(&registry, "1").await;
    let image =
        |secrets: Value| json!({"reference": registry.reference("team/app:1"), "pullSecrets": secrets});
    distribute(&world, "app", image(json!([]))).await;
    let message = world.until_condition("app", "Resolved", "False", "OriginUnauthorized").await;
    assert!(message.contains("give pullSecrets"), "{message}");
    world.edit("app", json!({"source": {"image": image(json!([{"name": "pull"}]))}})).await;
    let message = world.until_condition("app", "Resolved", "False", "SecretUnavailable").await;
    assert!(message.contains("Secret default/pull: it is not there"), "{message}");

    let entry = json!({"username": "me", "password": "secret"});
    pull_secret(&world, "pull", "dockerconfigjson", &json!({"auths": {registry.host.clone(): entry}})).await;
    let revision = world.revision(|_| true).await;
    let found = revision.spec.content.image.as_ref().unwrap();
    assert_eq!(found.access, crds::ImageAccess::UpstreamManifests);
    assert_eq!(found.materialize, crds::Materialize::Blobs);
    let name = revision.name_any();
    let fetcher = world.fetcher(&name).await;
    let grant = fetcher.patient_grant(&name).await;
    assert_eq!(grant.authorization.as_ref().unwrap().value, LOGIN);
    assert!(!format!("{grant:?}").contains("bWU6"));
    layout(&fetcher, &grant).await;
    world.carry_through(&name, &["a"]).await;
    world.until_condition("app", "Ready", "True", "").await;

    let events: Api<Event> = Api::all(world.client.clone());
    let written = [
        serde_json::to_string(&events.list(&ListParams::default()).await.unwrap()).unwrap(),
        serde_json::to_string(&world.revisions().list(&ListParams::default()).await.unwrap()).unwrap(),
        serde_json::to_string(&world.distributions().list(&ListParams::default()).await.unwrap()).unwrap(),
    ];
    for text in written {
        assert!(!text.contains("bWU6c2VjcmV0") && !text.contains("me:secret"), "{text}");
    }
}

#[tokio::test]
async fn a_secret_that_the_operator_may_not_read_is_said_with_what_to_do() {
    let Some(registry) = RealRegistry::start(Auth::Open).await else { return };
    let world = World::with_class(155, &["a"]).await;
    world.api.intercept(|call| {
        if call.path == "/api/v1/namespaces/default/secrets/pull" {
            return Err(memory_api::ApiError::new(403, "Forbidden", "no"));
        }
        Ok(())
    });
    push(&registry, "1").await;
    let image = json!({"reference": registry.reference("team/app:1"), "pullSecrets": [{"name": "pull"}]});
    distribute(&world, "app", image).await;
    let message = world.until_condition("app", "Resolved", "False", "SecretUnavailable").await;
    assert!(message.contains("kubectl -n default create rolebinding"), "{message}");
    assert!(message.contains(&format!("--serviceaccount={NAMESPACE}:samara-operator")), "{message}");
}

#[tokio::test]
async fn a_token_is_made_for_the_grant_and_anew_before_it_lapses() {
    let tokens = TokenServer::start(300).await;
    let Some(registry) = RealRegistry::start(Auth::Token(&tokens)).await else { return };
    let world = World::with_class(156, &["a"]).await;
    push(&registry, "1").await;
    let auth = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "me:secret");
    pull_secret(&world, "pull", "dockercfg", &json!({registry.host.clone(): {"auth": auth}})).await;
    let image = json!({"reference": registry.reference("team/app:1"), "pullSecrets": [{"name": "pull"}]});
    distribute(&world, "app", image).await;
    let name = world.revision(|_| true).await.name_any();
    let fetcher = world.fetcher(&name).await;
    let grant = fetcher.patient_grant(&name).await;
    let shown = grant.authorization.clone().unwrap();
    assert!(shown.value.starts_with("Bearer ey"));
    assert_eq!(shown.origin, format!("http://{}", registry.host));
    layout(&fetcher, &grant).await;

    // Good for long: it stays.
    let before = tokens.given();
    let lease = fetcher.sign_of_life(&name, &grant.id, 10).await.unwrap();
    assert_eq!((lease.authorization, tokens.given()), (Some(shown.clone()), before));
    // For no more than two signs of life: another one, while the fetch goes on.
    tokens.last(20);
    let grant = fetcher.patient_grant(&name).await;
    let shown = grant.authorization.clone().unwrap();
    tokens.hang(true);
    let begun = std::time::Instant::now();
    for bytes in 20..23 {
        let lease = fetcher.sign_of_life(&name, &grant.id, bytes).await.unwrap();
        assert_eq!(lease.authorization.as_ref(), Some(&shown), "what the fetcher has is still good");
    }
    assert!(begun.elapsed().as_secs() < 5, "a sign of life waits for no token server");
    let before = tokens.given();
    tokens.hang(false);
    let (mut bytes, mut newer) = (30, shown.clone());
    world
        .until("a later sign of life has another token", async || {
            bytes += 1;
            let lease = fetcher.sign_of_life(&name, &grant.id, bytes).await.unwrap();
            newer = lease.authorization.unwrap();
            newer != shown
        })
        .await;
    assert!(tokens.given() > before);
    let later = Grant { authorization: Some(newer), ..grant };
    layout(&fetcher, &later).await;
}

#[tokio::test]
async fn what_opens_a_revision_is_of_its_own_registry_also_when_the_source_has_moved_on() {
    let tokens = TokenServer::start(20).await;
    let Some(old) = RealRegistry::start(Auth::Token(&tokens)).await else { return };
    let Some(new) = RealRegistry::start(Auth::Basic).await else { return };
    let world = World::with_class(159, &["a"]).await;
    assert_eq!(push(&old, "1").await, push(&new, "1").await);
    let entry = json!({"username": "me", "password": "secret"});
    let both = json!({old.host.clone(): entry, new.host.clone(): entry});
    pull_secret(&world, "pull", "dockercfg", &both).await;
    let image = |reference: String| json!({"source": {"image": {"reference": reference, "pullSecrets": [{"name": "pull"}]}}});
    distribute(&world, "app", image(old.reference("team/app:1"))["source"]["image"].clone()).await;
    let name = world.revision(|_| true).await.name_any();
    let fetcher = world.fetcher(&name).await;
    let grant = fetcher.patient_grant(&name).await;
    // It is not there, so that the fetcher goes on with what it has.
    world.edit("app", image(new.reference("team/app:none"))).await;
    world.until_condition("app", "Resolved", "False", "OriginNotFound").await;
    let given = tokens.given();
    let mut bytes = 0;
    world
        .until("another token of the same registry is there", async || {
            bytes += 1;
            let lease = fetcher.sign_of_life(&name, &grant.id, bytes).await.unwrap();
            let shown = lease.authorization.unwrap_or_else(|| grant.authorization.clone().unwrap());
            assert_eq!(shown.origin, format!("http://{}", old.host));
            assert!(shown.value.starts_with("Bearer "), "a password of another registry");
            tokens.given() > given
        })
        .await;
}

#[tokio::test]
async fn a_grant_that_cannot_be_opened_fails_for_everyone_to_see() {
    let tokens = TokenServer::start(300).await;
    let Some(registry) = RealRegistry::start(Auth::Token(&tokens)).await else { return };
    let world = World::with_class(157, &["a"]).await;
    push(&registry, "1").await;
    pull_secret(
        &world,
        "pull",
        "dockercfg",
        &json!({registry.host.clone(): {"username": "me", "password": "secret"}}),
    )
    .await;
    let image = json!({"reference": registry.reference("team/app:1"), "pullSecrets": [{"name": "pull"}]});
    distribute(&world, "app", image).await;
    let name = world.revision(|_| true).await.name_any();
    let fetcher = world.fetcher(&name).await;
    tokens.refuse(true);
    world
        .until("the grant is refused and the user hears of it", async || {
            let refused = fetcher.grant(&name).await;
            assert!(refused.is_err(), "{refused:?}");
            world.condition("app", "Stalled").await.1 == "OriginUnavailable"
                || world.condition("app", "Built").await.1 == "OriginUnavailable"
        })
        .await;
    tokens.refuse(false);
    let grant = fetcher.patient_grant(&name).await;
    layout(&fetcher, &grant).await;
}
