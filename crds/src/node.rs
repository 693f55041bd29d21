//! `NodeDistribution`: what one node has.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A node tells of so many revisions, current ones first, then by name: its object stays bounded whatever happens.
pub const MAX_NODE_REVISIONS: usize = 256;

/// Written by the sidecar of the node it is named after, on changes of phase only: the first change after quiet and every
/// terminal phase at once, the rest coalesced. Owned by the Node, so it goes with it. A revision
/// takes some 200 bytes, and up to 256 more where something is wrong.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "samara.dev",
    version = "v1alpha1",
    kind = "NodeDistribution",
    plural = "nodedistributions",
    shortname = "nodedist",
    status = "NodeDistributionStatus",
    printcolumn = r#"{"name":"Class","type":"string","jsonPath":".spec.className"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeDistributionSpec {
    /// The class whose sidecar runs on the node.
    #[schemars(length(min = 1, max = 63))]
    pub class_name: String,
}

/// What the node has and what it is doing.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeDistributionStatus {
    /// One entry a revision, sorted by name. A revision whose data is gone from the node has none.
    #[schemars(length(max = MAX_NODE_REVISIONS))]
    #[serde(default)]
    pub revisions: Vec<NodeEntry>,
    /// Of the node as a whole: `RootReady` (false: `RootMismatch`, `DiskFull`...).
    #[schemars(length(max = 8))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One revision on one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeEntry {
    /// The revision's name.
    #[schemars(length(max = 253))]
    pub revision: String,
    /// How far it is.
    pub phase: NodePhase,
    /// Why it does not get on, CamelCase; empty while it does.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What failed, on what, and what to do.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Payload bytes read from the origin for it by this node.
    #[schemars(range(min = 0))]
    #[serde(default)]
    pub origin_bytes: i64,
    /// Payload bytes got from peers for it by this node.
    #[schemars(range(min = 0))]
    #[serde(default)]
    pub peer_bytes: i64,
    /// When it entered this phase.
    pub since: Time,
}

/// The phases of a revision on a node, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum NodePhase {
    /// Waiting for torrents or metainfo.
    Pending,
    /// Elected: reading the origin.
    Fetching,
    /// Getting it from peers.
    Downloading,
    /// Verified: being moved into the store.
    Publishing,
    /// Published, and seeding.
    Ready,
    /// Not getting on; `reason` says why. It tries again by itself.
    Failed,
    /// Being removed.
    Deleting,
}
