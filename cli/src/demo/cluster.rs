//! A cluster without machines: nodes, pods, a class, and the tokens of the sidecars, in the in-memory Kubernetes API.

use std::path::Path;

use anyhow::{Context as _, Result};
use crds::{CLASS_LABEL, DistributionClass, SIDECAR_COMPONENT};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::ResourceExt as _;
use memory_api::{BoundToken, MemoryApi};
use serde_json::{Value, json};

use super::network::Network;

/// Where the operator, the trackers and the sidecars "run".
pub const NAMESPACE: &str = "samara-system";
/// The ServiceAccount of the sidecars.
pub const SIDECAR_ACCOUNT: &str = "samara-sidecar";

/// A node and what its sidecar needs.
#[derive(Clone, Debug)]
pub struct DemoNode {
    /// Its number, from 1.
    pub number: u16,
    /// The node's name.
    pub name: String,
    /// The token of its sidecar.
    pub token: String,
}

/// Makes the API with namespaces, a class and `count` nodes. `class_root` is what the class says the data root is.
pub fn build(
    network: Network,
    class: &str,
    namespace: &str,
    count: u16,
    class_root: &Path,
) -> Result<(MemoryApi, Vec<DemoNode>)> {
    let (services, prefix) = network.services();
    let api = MemoryApi::with_service_network(services, prefix);
    for name in [NAMESPACE, namespace] {
        seed::<Namespace>(&api, json!({"metadata": {"name": name}}))?;
    }
    seed::<DistributionClass>(
        &api,
        json!({
            "apiVersion": "samara.dev/v1alpha1", "kind": "DistributionClass", "metadata": {"name": class},
            // The origin is on this machine, which a class denies unless told otherwise.
            "spec": {"root": class_root, "origin": {"allow": ["127.0.0.0/8"]}},
        }),
    )?;
    let nodes = (1..=count).map(|number| node(&api, network, class, number)).collect::<Result<_>>()?;
    Ok((api, nodes))
}

fn node(api: &MemoryApi, network: Network, class: &str, number: u16) -> Result<DemoNode> {
    let (name, address) = (format!("node-{number}"), network.node(number));
    seed::<Node>(
        api,
        json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {},
            "status": {
                "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
                "conditions": [condition("Ready")],
            },
        }),
    )?;
    let pod = seed::<Pod>(
        api,
        json!({
            "metadata": {
                "name": format!("samara-sidecar-{number}"), "namespace": NAMESPACE,
                "labels": {"app.kubernetes.io/name": "samara", "app.kubernetes.io/component": SIDECAR_COMPONENT, CLASS_LABEL: class},
            },
            "spec": {"nodeName": name, "hostNetwork": true, "serviceAccountName": SIDECAR_ACCOUNT, "containers": [{"name": "sidecar"}]},
            "status": {
                "phase": "Running", "hostIP": address, "podIP": address, "podIPs": [{"ip": address}],
                "conditions": [condition("Ready")],
            },
        }),
    )?;
    let token = format!("demo-{number}-{:032x}", rand::random::<u128>());
    api.add_token(
        &token,
        BoundToken {
            audiences: vec![operator_api::AUDIENCE.to_owned()],
            namespace: NAMESPACE.to_owned(),
            service_account: SIDECAR_ACCOUNT.to_owned(),
            pod: pod.name_any(),
            pod_uid: pod.uid().context("the API gives every object a uid")?,
            node: name.clone(),
        },
    );
    Ok(DemoNode { number, name, token })
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "Demo", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn seed<K: serde::Serialize + serde::de::DeserializeOwned>(api: &MemoryApi, object: Value) -> Result<K> {
    let object: K = serde_json::from_value(object)?;
    api.seed(&object).context("the in-memory API refuses an object of the demo")
}
