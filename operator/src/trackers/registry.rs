//! What the trackers of a class are to admit. Pure.

use std::collections::BTreeMap;

use kube::ResourceExt;
use tracker_api::{RegisteredNode, RegisteredSwarm, Registry};

use crate::grants::Built;
use crate::index::Index;

/// The registry of a class: every revision (with the torrents that are `coming`, if it has none yet), and every node with a sidecar that has an address. Sorted, so that the same state
/// has the same digest.
pub fn registry(index: &Index, coming: &BTreeMap<String, Built>, class: &str) -> Registry {
    let swarms =
        index.revisions_of(class).filter(|revision| !revision.spec.policy.deleting).map(|revision| {
            let name = revision.name_any();
            let coming = coming.get(&name).filter(|_| revision.spec.torrents.is_empty());
            let torrents = revision.spec.torrents.iter().chain(coming.map(|built| &built.torrent));
            RegisteredSwarm {
                infohashes: torrents
                    .flat_map(|torrent| torrent.info_hash_v2.iter().chain(&torrent.info_hash_v1).cloned())
                    .collect(),
                manifest: revision
                    .spec
                    .manifest_digest
                    .clone()
                    .or(coming.map(|built| built.manifest_digest.clone())),
                revisions: vec![name],
            }
        });
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
