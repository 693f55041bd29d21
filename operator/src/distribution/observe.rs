//! What is seen of one `Distribution`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::DistributionRevision;
use jiff::Timestamp;
use kube::ResourceExt;

use crate::context::Context;
use crate::index::{Index, ObjectId, SidecarPod};
use crate::ledger::Ledger;
use crate::plan::{NodeView, Observed};

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
    drop(index);
    let mut observed = Observed { distribution, revisions, class, nodes, ..Observed::default() };
    consult(&mut context.ledger(), &mut observed, now);
    observed
}

fn is_of(revision: &DistributionRevision, id: &ObjectId) -> bool {
    let owner = &revision.spec.distribution;
    owner.namespace == id.namespace && owner.name == id.name
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

fn consult(ledger: &mut Ledger, observed: &mut Observed, now: Timestamp) {
    let Some(distribution) = &observed.distribution else {
        for revision in &observed.revisions {
            ledger.forget(&revision.name_any());
            ledger.distributions.remove(&revision.spec.distribution.uid);
        }
        return;
    };
    let uid = distribution.uid().unwrap_or_default();
    let names: Vec<String> = observed.revisions.iter().map(|revision| revision.name_any()).collect();
    let known = ledger.distributions.entry(uid).or_default();
    if distribution.metadata.deletion_timestamp.is_some() {
        known.deleting_since.get_or_insert(now);
    }
    let generation = distribution.metadata.generation.unwrap_or_default();
    let edited = std::mem::replace(&mut known.generation, generation) != generation;
    observed.resolution = known.resolution.clone();
    observed.rate = known.rate.per_second();
    observed.deleting_since = known.deleting_since;
    observed.copy_missing_since = known.copy_missing_since;
    if edited {
        // What was wrong may have been put right: no reason to wait any longer.
        for name in &names {
            ledger.grants.of(name).retry_now();
        }
        if let Some(known) = ledger.distributions.get_mut(&distribution.uid().unwrap_or_default()) {
            known.resolution.retry_at = None;
            observed.resolution.retry_at = None;
        }
    }
    for (name, revision) in names.iter().zip(&observed.revisions) {
        let settled = !revision.spec.torrents.is_empty() && revision.spec.policy.fetchers.is_empty();
        if settled && observed.copy_missing_since.is_none() {
            ledger.grants.forget(name);
            ledger.coming.remove(name);
        }
        observed.elections.insert(name.clone(), ledger.grants.view(name));
        if let Some(swarm) = ledger.swarms.get(name) {
            observed.swarms.insert(name.clone(), swarm.clone());
        }
    }
}
