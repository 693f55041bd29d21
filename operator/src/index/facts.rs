//! What of a Node and of a sidecar's Pod decides. The rest of these large objects is not kept.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crds::{CLASS_LABEL, Taint};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use origin::registry::Platform;

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// `metadata.name`.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// Its Ready condition is True.
    pub ready: bool,
    /// When that condition last changed.
    pub since: Option<Timestamp>,
    /// `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// `os/architecture`, as its kubelet says, in the usual words.
    pub platform: Option<String>,
}

impl From<&Node> for NodeFacts {
    fn from(node: &Node) -> Self {
        let spec = node.spec.clone().unwrap_or_default();
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let condition = conditions.and_then(|all| all.iter().find(|condition| condition.type_ == "Ready"));
        let taints = spec.taints.unwrap_or_default();
        Self {
            name: node.name_any(),
            labels: node.labels().clone(),
            taints: taints.into_iter().map(Taint::from).collect(),
            ready: condition.is_some_and(|condition| condition.status == "True"),
            since: condition.and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0),
            zone: node.labels().get(ZONE_LABEL).cloned(),
            platform: platform(node),
        }
    }
}

fn platform(node: &Node) -> Option<String> {
    let info = node.status.as_ref()?.node_info.as_ref()?;
    let platform = Platform::new(&info.operating_system, &info.architecture, None)?;
    Some(platform.to_string())
}

/// A sidecar's pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SidecarPod {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`: a token is bound to it.
    pub uid: String,
    /// Where it runs.
    pub node: String,
    /// The class it serves.
    pub class: String,
    /// Its Ready condition is True and it is not being deleted.
    pub ready: bool,
    /// It is being deleted, or has ended.
    pub leaving: bool,
    /// Its addresses, at most one per family; the node's, on the host network.
    pub addresses: Vec<IpAddr>,
}

impl SidecarPod {
    /// The facts, if the pod is on a node and names a class.
    pub fn of(pod: &Pod) -> Option<Self> {
        let class = pod.labels().get(CLASS_LABEL)?.clone();
        let node = pod.spec.as_ref()?.node_name.clone()?;
        let status = pod.status.clone().unwrap_or_default();
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let leaving = pod.metadata.deletion_timestamp.is_some() || ended;
        let conditions = status.conditions.unwrap_or_default();
        let ready =
            conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let ips = status.pod_ips.unwrap_or_default().into_iter().map(|ip| ip.ip);
        let mut addresses: Vec<IpAddr> = ips.chain(status.pod_ip).filter_map(|ip| ip.parse().ok()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Some(Self {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
            node,
            class,
            ready: ready && !leaving,
            leaving,
            addresses,
        })
    }
}
