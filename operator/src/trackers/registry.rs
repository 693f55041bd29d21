//! What the trackers of a class are to admit. Pure.

use std::collections::BTreeMap;

use crds::DistributionRevision;
use jiff::Timestamp;
use kube::ResourceExt;
use torrent::IngestId;
use tracker_api::{RegisteredNode, RegisteredSwarm, Registry};

use crate::index::Index;
use crate::ledger::Ledger;
use crate::outline::Name;

/// The registry of a class: every revision (with the torrents and the name that are about to be written into it, if it has none yet), the
/// blobs on demand, and every node with a sidecar that has an address. Sorted, so that the same state has the same digest.
pub fn registry(index: &Index, ledger: &Ledger, class: &str, now: Timestamp) -> Registry {
    let wanted = index.revisions_of(class).filter(|revision| !revision.spec.policy.deleting);
    let swarms =
        wanted.map(|revision| swarm(revision, ledger)).chain(ledger.demands.names(class, now).map(on_demand));
    let mut nodes: BTreeMap<String, RegisteredNode> = BTreeMap::new();
    for pod in index.sidecars.iter().filter(|pod| pod.class == class && !pod.addresses.is_empty()) {
        if pod.leaving && nodes.contains_key(&pod.node) {
            continue;
        }
        let zone = index.nodes.named(&pod.node).and_then(|node| node.zone.clone());
        let node = RegisteredNode { name: pod.node.clone(), addresses: pod.addresses.clone(), zone };
        nodes.insert(pod.node.clone(), node);
    }
    Registry { swarms: swarms.collect(), nodes: nodes.into_values().collect(), networks: vec![] }
}

/// Of a blob that no revision has.
fn on_demand(id: IngestId) -> RegisteredSwarm {
    RegisteredSwarm { infohashes: vec![id.to_string()], manifest: None, revisions: Vec::new() }
}

fn swarm(revision: &DistributionRevision, ledger: &Ledger) -> RegisteredSwarm {
    let (name, spec) = (revision.name_any(), &revision.spec);
    let coming = ledger.coming.get(&name).filter(|_| spec.torrents.is_empty());
    let torrents = spec.torrents.iter().chain(coming.map(|built| &built.torrent));
    let mut infohashes: Vec<String> = torrents
        .flat_map(|torrent| torrent.info_hash_v2.iter().chain(&torrent.info_hash_v1).cloned())
        .collect();
    for id in spec.policy.ingest.iter().map(|ingest| ingest.id.clone()).chain(coming_name(revision, ledger)) {
        if !infohashes.contains(&id) {
            infohashes.push(id);
        }
    }
    let manifest = spec.manifest_digest.clone().or(coming.map(|built| built.manifest_digest.clone()));
    RegisteredSwarm { infohashes, manifest, revisions: vec![name] }
}

/// What it goes by as soon as that is written.
fn coming_name(revision: &DistributionRevision, ledger: &Ledger) -> Option<String> {
    let outlined = ledger.outlines.get(&revision.name_any()).filter(|_| revision.spec.torrents.is_empty())?;
    match outlined.name {
        Name::Known(id) => Some(id.to_string()),
        Name::Pending | Name::Impossible => None,
    }
}
