//! What is seen of one `Distribution`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::{DistributionRevision, MAX_NODE_REVISIONS};
use jiff::Timestamp;
use kube::ResourceExt;

use crate::context::Context;
use crate::index::{Index, ObjectId, SidecarPod};
use crate::ledger::Ledger;
use crate::plan::{Following, NodeView, Observed, followed};

/// Gathers all that decides. Takes note of what is only known by having looked: generations, deletions.
pub fn observe(context: &Context, namespace: &str, name: &str, now: Timestamp) -> Observed {
    let index = context.index();
    let id = ObjectId { namespace: namespace.to_owned(), name: name.to_owned() };
    let distribution = index.distributions.by_id(&id).cloned();
    let revisions: Vec<_> = index.revisions.iter().filter(|revision| is_of(revision, &id)).cloned().collect();
    let class_name = match &distribution {
        Some(distribution) => Some(distribution.spec.class_name.clone()),
        None => revisions.first().map(|revision| revision.spec.class_name.clone()),
    };
    let class = class_name.as_ref().and_then(|class| index.classes.named(class)).cloned();
    let nodes = class_name.as_ref().map(|class| nodes_of(&index, class)).unwrap_or_default();
    let crowded_out = class_name.as_ref().map(|class| crowded_out(&index, class, &id)).unwrap_or_default();
    drop(index);
    let ingest_key = context.serving.ingest_key().map(|key| key.public());
    let mut observed =
        Observed { distribution, revisions, class, nodes, ingest_key, crowded_out, ..Observed::default() };
    consult(&mut context.ledger(), &mut observed, rand::random(), now);
    observed
}

fn is_of(revision: &DistributionRevision, id: &ObjectId) -> bool {
    let owner = &revision.spec.distribution;
    owner.namespace == id.namespace && owner.name == id.name
}

/// The revisions of this `Distribution` that a node with all of the class's would leave out: it tells of those that are current
/// before those that were replaced, and of the first by name.
fn crowded_out(index: &Index, class: &str, id: &ObjectId) -> BTreeSet<String> {
    let mut all: Vec<_> = index.revisions_of(class).collect();
    all.sort_by_key(|revision| (!revision.spec.policy.current, revision.name_any()));
    let beyond = all.into_iter().skip(MAX_NODE_REVISIONS);
    beyond.filter(|revision| is_of(revision, id)).map(|revision| revision.name_any()).collect()
}

/// Nodes that run the class's sidecar, or whose sidecar reported before it went.
fn nodes_of(index: &Index, class: &str) -> Vec<NodeView> {
    let mut pods: BTreeMap<&str, &Arc<SidecarPod>> = BTreeMap::new();
    for pod in index.sidecars.iter().filter(|pod| pod.class == class) {
        let known = pods.entry(&pod.node).or_insert(pod);
        // While a DaemonSet replaces its pod there are two.
        if known.leaving {
            *known = pod;
        }
    }
    let reports = index.reports.iter().filter(|report| report.spec.class_name == class);
    let reports: BTreeMap<String, _> = reports.map(|report| (report.name_any(), report)).collect();
    let nodes = index.nodes.iter().filter_map(|facts| {
        let pod = pods.get(facts.name.as_str()).map(|pod| Arc::clone(pod));
        let report = reports.get(&facts.name).map(|report| Arc::clone(report));
        (pod.is_some() || report.is_some()).then(|| NodeView { facts: facts.clone(), pod, report })
    });
    nodes.collect()
}

fn consult(ledger: &mut Ledger, observed: &mut Observed, chance: f64, now: Timestamp) {
    let Some(distribution) = &observed.distribution else {
        for revision in &observed.revisions {
            ledger.forget(&revision.name_any());
            ledger.distributions.remove(&revision.spec.distribution.uid);
        }
        return;
    };
    let uid = distribution.uid().unwrap_or_default();
    let names: Vec<String> = observed.revisions.iter().map(|revision| revision.name_any()).collect();
    let known = ledger.distributions.entry(uid.clone()).or_default();
    if distribution.metadata.deletion_timestamp.is_some() {
        known.deleting_since.get_or_insert(now);
    }
    let generation = distribution.metadata.generation.unwrap_or_default();
    let before = std::mem::replace(&mut known.generation, generation);
    // No object has generation 0: nothing was known of it.
    known.follow(followed(distribution), before == 0, chance, now);
    if before != generation {
        // What was wrong may have been put right: no reason to wait any longer.
        known.edited();
        for name in &names {
            ledger.grants.of(name).retry_now();
            ledger.opened.retry_now(name);
        }
    }
    settle(ledger, &uid, &observed.revisions, now);
    lock(ledger, &names);
    recall(ledger, &uid, &names, observed);
}

/// Forgets the elections that have come to their end.
fn settle(ledger: &mut Ledger, uid: &str, revisions: &[Arc<DistributionRevision>], now: Timestamp) {
    let Some(known) = ledger.distributions.get_mut(uid) else { return };
    let written = |revision: &&Arc<DistributionRevision>| {
        !revision.spec.torrents.is_empty() && revision.spec.policy.fetchers.is_empty()
    };
    for revision in revisions.iter().filter(written) {
        let name = revision.name_any();
        let fetched = ledger.grants.view(&name).built.is_some();
        if fetched && let Some(since) = &mut known.copy_missing_since {
            // The new copy gets as long to show itself as the lost one: its node has yet to publish it, and may die before.
            *since = now;
        }
        if fetched {
            // Nothing of the source is in doubt any more.
            known.confirm();
        }
        if fetched || known.copy_missing_since.is_none() {
            ledger.grants.forget(&name);
            ledger.coming.remove(&name);
            ledger.outlines.remove(&name);
            ledger.opened.forget(&name);
        }
    }
}

/// Passwords and tokens are kept while somebody reads by them, and no longer.
fn lock(ledger: &mut Ledger, names: &[String]) {
    for name in names {
        if !ledger.grants.is_read(name) {
            ledger.opened.lock(name);
        }
    }
}

/// Hands the plan what is remembered.
fn recall(ledger: &Ledger, uid: &str, names: &[String], observed: &mut Observed) {
    if let Some(known) = ledger.distributions.get(uid) {
        observed.resolution = known.resolution.clone();
        observed.rate = known.rate.per_second();
        observed.deleting_since = known.deleting_since;
        observed.copy_missing_since = known.copy_missing_since;
        let every = observed.distribution.as_ref().and_then(|distribution| followed(distribution));
        observed.following = Following {
            due: known.follow.as_ref().zip(every).map(|(follow, every)| follow.due(every)),
            failure: known.follow.as_ref().and_then(|follow| follow.failure().cloned()),
        };
    }
    for name in names {
        observed.elections.insert(name.clone(), ledger.grants.view(name));
        if let Some(outlined) = ledger.outlines.get(name) {
            observed.outlines.insert(name.clone(), outlined.clone());
        }
        if let Some(swarm) = ledger.swarms.get(name) {
            observed.swarms.insert(name.clone(), swarm.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;
    use crate::grants::Built;

    const UID: &str = "u";

    /// A `Distribution` with one revision, which is built and read by nobody.
    fn built() -> (Observed, Built) {
        let torrent = json!({"infoHashV2": "b".repeat(64), "bytes": 1});
        let distribution = json!({
            "metadata": {"name": "d", "namespace": "n", "uid": UID, "generation": 1},
            "spec": {"source": {"http": {"files": [{"url": "http://h/f"}]}}},
        });
        let revision = json!({
            "metadata": {"name": "r", "uid": "ru"},
            "spec": {
                "distribution": {"namespace": "n", "name": "d", "uid": UID}, "className": "default",
                "content": {"pin": "a".repeat(64), "bytes": 1, "files": 1},
                "torrents": [torrent], "manifestDigest": "c".repeat(64), "policy": {"current": true},
            },
        });
        let built =
            Built { torrent: serde_json::from_value(torrent).unwrap(), manifest_digest: "c".repeat(64) };
        let observed = Observed {
            distribution: Some(Arc::new(serde_json::from_value(distribution).unwrap())),
            revisions: vec![Arc::new(serde_json::from_value(revision).unwrap())],
            ..Observed::default()
        };
        (observed, built)
    }

    #[test]
    fn a_copy_that_is_lost_again_before_it_shows_is_fetched_again() {
        let (mut observed, built) = built();
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        let mut ledger = Ledger::default();
        consult(&mut ledger, &mut observed, 0.5, now);
        let known = ledger.distributions.get_mut(UID).unwrap();
        known.copy_missing_since = Some(now - SignedDuration::from_secs(90));
        let election = ledger.grants.of("r");
        election.elect(&["a".to_owned()], now);
        election.open("a", "1".into(), None, now).unwrap();
        consult(&mut ledger, &mut observed, 0.5, now);
        assert!(
            observed.elections["r"].grant("a").is_some(),
            "who was just elected is not written yet, and stays"
        );

        ledger.grants.of("r").complete("a", "1", built).unwrap();
        consult(&mut ledger, &mut observed, 0.5, now);
        assert!(observed.elections["r"].built.is_none(), "else nobody is elected ever again");
        assert_eq!(observed.copy_missing_since, Some(now), "it gets its time to be published");
    }

    #[test]
    fn a_node_tells_of_so_many_revisions_and_of_current_ones_first() {
        let (observed, _) = built();
        let mut index = Index::default();
        let id = ObjectId { namespace: "n".into(), name: "d".into() };
        for nth in 0..=MAX_NODE_REVISIONS {
            let mut revision = DistributionRevision::clone(&observed.revisions[0]);
            let name = format!("r{nth:03}");
            revision.metadata.name = Some(name.clone());
            if nth == MAX_NODE_REVISIONS {
                assert!(crowded_out(&index, "default", &id).is_empty(), "there was room for {nth}");
            }
            index.apply(&ObjectId::named(&name), revision);
        }
        assert_eq!(crowded_out(&index, "default", &id).into_iter().collect::<Vec<_>>(), ["r256"]);
        let mut replaced = DistributionRevision::clone(&observed.revisions[0]);
        replaced.metadata.name = Some("r000".into());
        replaced.metadata.resource_version = Some("2".into());
        replaced.spec.policy.current = false;
        index.apply(&ObjectId::named("r000"), replaced);
        assert_eq!(crowded_out(&index, "default", &id).into_iter().collect::<Vec<_>>(), ["r000"]);
        let other = ObjectId { namespace: "n".into(), name: "other".into() };
        assert!(crowded_out(&index, "default", &other).is_empty());
    }
}
