//! Content that is shared while its origin is read, over the in-memory API.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use std::time::Duration;

use common::{Built, FakeSidecar, World};
use kube::ResourceExt;
use operator_api::{Grant, GrantedIngest, TorrentVersion};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use torrent::ingest::{Outline, PublicKey, Warrant};
use torrent::{RelPath, Version, piece_length_for};

/// The ingest of a grant, checked as a node checks it: by the outline that it makes itself.
fn checked(revision: &str, grant: &Grant, node: &str, signs_with: PublicKey) -> GrantedIngest {
    let ingest = grant.ingest.clone().unwrap();
    let key = PublicKey::parse(&ingest.key).unwrap();
    assert_eq!(grant.torrent_version, TorrentVersion::Hybrid);
    let files: Vec<_> =
        grant.files.iter().map(|file| (RelPath::parse(&file.path).unwrap(), file.size)).collect();
    let total = files.iter().map(|(_, size)| size).sum();
    let outline =
        Outline::new(revision, ingest.epoch, key, Version::Hybrid, piece_length_for(total), files).unwrap();
    assert_eq!(outline.id().to_string(), ingest.id);
    let warrant = Warrant::decode(&hex::decode(&ingest.warrant).unwrap()).unwrap();
    assert!(warrant.is_of(outline.id(), key));
    assert_eq!((warrant.fetcher(), warrant.key()), (node, signs_with));
    ingest
}

#[tokio::test]
async fn nodes_get_on_while_the_origin_is_read() {
    let world = World::with_class(141, &["a", "b"]).await;
    let url = world.origin.put("x", &b"7".repeat(100_000), "1");
    world.distribute("data", json!([{"url": url}, {"url": url, "path": "sub/y"}])).await;
    let revision = world.revision(|revision| !revision.spec.policy.fetchers.is_empty()).await;
    let name = revision.name_any();
    let id = revision.spec.policy.ingest.unwrap().id;

    let fetcher = world.fetcher(&name).await;
    let grant = fetcher.patient_sharing_grant(&name).await;
    let ingest = checked(&name, &grant, &fetcher.node, fetcher.public_key());
    assert_eq!((&ingest.id, ingest.epoch, ingest.index, ingest.of), (&id, 0, 0, 1));
    let lease = fetcher.sign_of_life(&name, &grant.id, 50_000).await.unwrap();
    assert_eq!((lease.index, lease.of), (0, 1));
    let message = world.until_condition("data", "Built", "False", "Reading").await;
    assert!(message.contains("of 195Ki"), "{message}");

    let registered = fetcher.registry().await;
    assert_eq!(registered.swarms[0].infohashes, std::slice::from_ref(&id));
    let other = world.sidecar(if fetcher.node == "a" { "b" } else { "a" }).await;
    other.announce(&id, 100_000).await;
    world
        .until("the other's half counts", async || {
            let status = world.distribution("data").await.status.unwrap();
            status.progress.is_some_and(|progress| progress.percent >= 25)
        })
        .await;

    let built = fetcher.build(&grant).await;
    fetcher.store(&name, &built).await;
    assert_eq!(fetcher.complete(&name, &built).await, 204);
    let hashes = &built.completed;
    let names = [hashes.info_hash_v2.clone().unwrap(), hashes.info_hash_v1.clone().unwrap(), id.clone()];
    assert_eq!(fetcher.registry().await.swarms[0].infohashes, names);
    let written = world.revisions().get(&name).await.unwrap();
    assert_eq!(written.spec.policy.ingest.unwrap().id, id, "nodes go by it until they know the torrent");
}

#[tokio::test]
async fn a_grant_without_a_key_is_one_to_fetch_it_whole() {
    let world = World::with_class(142, &["a"]).await;
    let url = world.origin.put("x", b"payload", "1");
    world.distribute("data", json!([{"url": url}])).await;
    let name = world.revision(|revision| !revision.spec.policy.fetchers.is_empty()).await.name_any();
    let fetcher = world.fetcher(&name).await;
    assert_eq!(fetcher.patient_grant(&name).await.ingest, None);
    let path = format!("/v1/grants/{name}");
    assert_eq!(fetcher.post(&path, json!({"key": "00"})).await.0, 400);
    assert_eq!(fetcher.post(&path, json!({"key": 1})).await.0, 400);
    world.until_condition("data", "Built", "False", "Fetching").await;

    // v1-only content has nothing by which a part of it could be shared.
    let v1 = json!({"torrent": {"version": "V1"}});
    world.edit("data", v1).await;
    let other = world.revision(|revision| revision.name_any() != name).await.name_any();
    let fetcher = world.fetcher(&other).await;
    assert_eq!(fetcher.patient_sharing_grant(&other).await.ingest, None);
    assert_eq!(world.revisions().get(&other).await.unwrap().spec.policy.ingest, None);
}

#[tokio::test]
async fn a_new_leader_gives_the_same_name_and_the_same_word() {
    let mut world = World::with_class(143, &["a", "b"]).await;
    let url = world.origin.put("x", b"payload", "1");
    world.distribute("data", json!([{"url": url}])).await;
    let revision = world.revision(|revision| !revision.spec.policy.fetchers.is_empty()).await;
    let name = revision.name_any();
    let fetcher = world.fetcher(&name).await;
    let before = fetcher.patient_sharing_grant(&name).await.ingest.unwrap();
    world.stop_operator().await;
    let written = world.writes.lock().unwrap().len();
    world.start_operator().await;
    world.until("the new one answers", async || world.sidecar("a").await.session().await.is_ok()).await;
    let fetcher = world.sidecar(&fetcher.node).await;
    let grant = fetcher.patient_sharing_grant(&name).await;
    assert_eq!(checked(&name, &grant, &fetcher.node, fetcher.public_key()), before);
    let writes = world.writes.lock().unwrap();
    let revisions = writes[written..].iter().filter(|write| write.contains("distributionrevisions"));
    assert_eq!(revisions.count(), 0, "{:?}", &writes[written..]);
}

/// A Distribution of one file, read by two.
async fn read_by_two(world: &World, spec: serde_json::Value) -> String {
    let url = world.origin.put("x", b"payload", "1");
    world.distribute("data", json!([{"url": url}])).await;
    world.edit("data", json!({"origin": spec})).await;
    world.revision(|revision| revision.spec.policy.fetchers.len() == 2).await.name_any()
}

#[tokio::test]
async fn two_fetchers_know_their_part_and_a_dead_one_is_replaced() {
    let world = World::with_class(144, &["a", "b", "c"]).await;
    let name = read_by_two(&world, json!({"fetchers": 2, "bandwidth": "100Mi"})).await;
    let seated = world.revisions().get(&name).await.unwrap().spec.policy.fetchers;
    let mut grants = Vec::new();
    for (index, node) in seated.iter().enumerate() {
        let sidecar = world.sidecar(node).await;
        let grant = sidecar.patient_sharing_grant(&name).await;
        let ingest = checked(&name, &grant, node, sidecar.public_key());
        assert_eq!((ingest.index as usize, ingest.of), (index, 2));
        assert_eq!(grant.bandwidth_per_second, Some(50 << 20), "half of it");
        grants.push((sidecar, grant));
    }
    let spare = ["a", "b", "c"].into_iter().find(|node| !seated.contains(&(*node).to_owned())).unwrap();
    let spare = world.sidecar(spare).await;
    assert_eq!(spare.sharing_grant(&name).await.unwrap_err(), 403, "no third one reads");

    // The first one dies: the second, which has bytes, makes the torrent, and the third helps.
    let (second, grant) = grants.pop().unwrap();
    second.sign_of_life(&name, &grant.id, 3).await.unwrap();
    world.delete_pod(&seated[0]).await;
    let expected = [seated[1].clone(), spare.node.clone()];
    world
        .until("the seats move", async || {
            world.revisions().get(&name).await.unwrap().spec.policy.fetchers == expected
        })
        .await;
    let lease = second.sign_of_life(&name, &grant.id, 4).await.unwrap();
    assert_eq!((lease.index, lease.of, lease.bandwidth_per_second), (0, 2, Some(50 << 20)));
    let helper = spare.patient_sharing_grant(&name).await;
    assert_eq!(helper.ingest.unwrap().index, 1);

    let built = second.build(&grant).await;
    second.store(&name, &built).await;
    assert_eq!(second.complete(&name, &built).await, 204);
    assert_eq!(
        spare.sign_of_life(&name, &helper.id, 7).await.unwrap_err(),
        409,
        "it is built: nobody reads on"
    );
}

#[tokio::test]
async fn what_proves_wrong_is_read_anew_under_another_name() {
    let world = World::with_class(145, &["a", "b"]).await;
    let name = read_by_two(&world, json!({"fetchers": 2})).await;
    let first = world.revisions().get(&name).await.unwrap();
    let old = first.spec.policy.ingest.unwrap();
    let (a, b) = (world.sidecar("a").await, world.sidecar("b").await);
    let (of_a, of_b) = (a.patient_sharing_grant(&name).await, b.patient_sharing_grant(&name).await);
    a.fail(&name, &of_a.id, "DigestMismatch", "x is not what was declared").await.unwrap();
    let message = world.until_condition("data", "Stalled", "True", "DigestMismatch").await;
    assert_eq!(message, "reading anew: x is not what was declared");
    assert_eq!(b.sign_of_life(&name, &of_b.id, 9).await.unwrap_err(), 409, "nobody goes on with it");
    assert_eq!(b.sharing_grant(&name).await.unwrap_err(), 503, "there is a pause");

    let grant = b.patient_sharing_grant(&name).await;
    let new = checked(&name, &grant, "b", b.public_key());
    assert_eq!(new.epoch, 1);
    assert_ne!(new.id, old.id);
    let written = world.revisions().get(&name).await.unwrap().spec.policy.ingest.unwrap();
    assert_eq!((written.id.as_str(), written.epoch), (new.id.as_str(), 1));
    world
        .until("the trackers forget the old name", async || {
            b.registry().await.swarms[0].infohashes == std::slice::from_ref(&written.id)
        })
        .await;
    assert_eq!(a.patient_sharing_grant(&name).await.ingest.unwrap().epoch, 1);
    world.carry_through(&name, &["a", "b"]).await;
    world.until_condition("data", "Ready", "True", "").await;
}

/// A Distribution of one file with a declared digest; its fetcher, what that has built, and the node that has to confirm it.
async fn declared(world: &World, payload: &[u8]) -> (String, FakeSidecar, Built, FakeSidecar) {
    let url = world.origin.put("x", payload, "1");
    let digest = hex::encode(Sha256::digest(payload));
    world.distribute("data", json!([{"url": url, "sha256": digest}])).await;
    let name = world.revision(|revision| revision.spec.policy.witness.is_some()).await.name_any();
    let fetcher = world.fetcher(&name).await;
    let grant = fetcher.patient_sharing_grant(&name).await;
    let built = fetcher.build(&grant).await;
    fetcher.store(&name, &built).await;
    let witness = world.revisions().get(&name).await.unwrap().spec.policy.witness.unwrap();
    let witness = world.sidecar(&witness).await;
    assert_ne!(witness.node, fetcher.node);
    (name, fetcher, built, witness)
}

#[tokio::test]
async fn declared_digests_count_when_a_node_that_did_not_read_has_confirmed_them() {
    let world = World::with_class(146, &["a", "b"]).await;
    let (name, fetcher, built, witness) = declared(&world, b"payload").await;
    let ingest = world.revisions().get(&name).await.unwrap().spec.policy.ingest.unwrap().id;
    let path = format!("/v1/grants/{name}/witness");
    let confirms = json!({"confirms": {"manifestDigest": built.completed.manifest_digest}});
    let other = json!({"ingest": "0".repeat(64), "verdict": confirms});
    assert_eq!(witness.post(&path, other).await.0, 503, "of another ingest");
    let verdict = json!({"ingest": ingest, "verdict": confirms});
    assert_eq!(fetcher.post(&path, verdict.clone()).await.0, 403, "who has read has no second verdict");
    let (completed, ()) = tokio::join!(fetcher.complete(&name, &built), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let waiting = world.revisions().get(&name).await.unwrap();
        assert!(waiting.spec.torrents.is_empty(), "nobody publishes yet");
        assert_eq!(witness.post(&path, verdict.clone()).await.0, 204);
    });
    assert_eq!(completed, 204);
    let written = world.revisions().get(&name).await.unwrap();
    assert_eq!((written.spec.torrents.len(), written.spec.policy.witness), (1, None));
}

#[tokio::test]
async fn any_node_that_sees_a_faulty_fetcher_has_everything_read_anew_by_another() {
    let world = World::with_class(148, &["a", "b", "c"]).await;
    let url = world.origin.put("x", b"payload", "1");
    world.distribute("data", json!([{"url": url}])).await;
    let name = world.revision(|revision| !revision.spec.policy.fetchers.is_empty()).await.name_any();
    let fetcher = world.fetcher(&name).await;
    let grant = fetcher.patient_sharing_grant(&name).await;
    let ingest = world.revisions().get(&name).await.unwrap().spec.policy.ingest.unwrap();
    assert_eq!(ingest.id, grant.ingest.unwrap().id);
    let other = ["a", "b", "c"].into_iter().find(|node| *node != fetcher.node).unwrap();
    let other = world.sidecar(other).await;
    let path = format!("/v1/grants/{name}/witness");
    let says = |reason: &str| {
        let verdict = json!({"reason": reason, "message": "a wrong SHA-1", "accused": [fetcher.node]});
        json!({"ingest": ingest.id, "verdict": {"contradicts": verdict}})
    };
    assert_eq!(other.post(&path, says("DigestMismatch")).await.0, 403, "it was not asked for that");
    assert_eq!(other.post(&path, says("FetcherFaulty")).await.0, 204);
    let message = world.until_condition("data", "Stalled", "True", "FetcherFaulty").await;
    assert!(message.contains(&other.node) && message.contains("a wrong SHA-1"), "{message}");
    let again = world
        .revision(|revision| revision.spec.policy.ingest.as_ref().is_some_and(|now| now.epoch == 1))
        .await;
    assert!(!again.spec.policy.fetchers.contains(&fetcher.node), "{:?}", again.spec.policy.fetchers);
}

#[tokio::test]
async fn a_second_word_against_a_fetcher_has_everything_read_anew() {
    let world = World::with_class(147, &["a", "b"]).await;
    let (name, fetcher, built, witness) = declared(&world, b"payload").await;
    let ingest = world.revisions().get(&name).await.unwrap().spec.policy.ingest.unwrap();
    let path = format!("/v1/grants/{name}/witness");
    let verdict = json!({"ingest": ingest.id, "verdict": {"confirms": {"manifestDigest": "1".repeat(64)}}});
    let (completed, ()) = tokio::join!(fetcher.complete(&name, &built), async {
        assert_eq!(witness.post(&path, verdict.clone()).await.0, 204);
    });
    assert_ne!(completed, 204);
    let message = world.until_condition("data", "Stalled", "True", "DigestMismatch").await;
    assert!(message.contains(&fetcher.node) && message.contains(&witness.node), "{message}");
    assert_eq!(witness.post(&path, verdict).await.0, 503, "it was heard");
    let again = world
        .revision(|revision| revision.spec.policy.ingest.as_ref().is_some_and(|now| now.epoch == 1))
        .await;
    assert!(again.spec.torrents.is_empty() && again.spec.manifest_digest.is_none());
}
