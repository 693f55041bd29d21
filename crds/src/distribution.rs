//! `Distribution`: what, and to which nodes.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Fetchers, ImageSource, Update};

/// Content that every selected node is to have.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "samara.dev",
    version = "v1alpha1",
    kind = "Distribution",
    plural = "distributions",
    shortname = "dist",
    namespaced,
    status = "DistributionStatus",
    printcolumn = r#"{"name":"Type","type":"string","jsonPath":".status.type"}"#,
    printcolumn = r#"{"name":"Size","type":"string","jsonPath":".status.size"}"#,
    printcolumn = r#"{"name":"Revision","type":"string","jsonPath":".status.revision.id"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.ready"}"#,
    printcolumn = r#"{"name":"Progress","type":"string","jsonPath":".status.progress.summary"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    validation = Rule::new("!has(self.spec.expectedDigest) || !has(self.spec.update) || self.spec.update.type != 'Track'").message("expectedDigest says what the content is, and update.type: Track lets it become something else: leave out one of them")
)]
#[serde(rename_all = "camelCase")]
pub struct DistributionSpec {
    /// The `DistributionClass` that says where and how.
    #[schemars(length(min = 1, max = 63))]
    #[serde(default = "default_class")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("className is immutable: make another Distribution"))]
    pub class_name: String,
    /// Where the bytes come from. Editing it makes a new revision.
    pub source: Source,
    /// How the origin is read.
    #[serde(default)]
    pub origin: Origin,
    /// `sha256:<hex>` that the content manifest must have (`status.revision.digest`); anything else is not published.
    #[schemars(length(equal = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_digest: Option<String>,
    /// Whether it follows what the source points to.
    #[serde(default)]
    pub update: Update,
    /// Which nodes. All nodes that run the class's sidecar, if nothing is said.
    #[serde(default)]
    pub placement: Placement,
    /// What stays when it goes.
    #[serde(default)]
    pub retention: Retention,
    /// The form of the torrent.
    #[serde(default)]
    pub torrent: TorrentOptions,
}

fn default_class() -> String {
    crate::DEFAULT_CLASS.to_owned()
}

/// Exactly one member is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.http) != has(self.image)").message("source needs exactly one member: http or image"))]
pub struct Source {
    /// Files behind HTTP or HTTPS URLs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// A container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSource>,
}

impl Source {
    /// The member that is set, for the TYPE column.
    pub fn kind(&self) -> Option<&'static str> {
        let kinds = [(self.http.is_some(), "http"), (self.image.is_some(), "image")];
        kinds.into_iter().find_map(|(set, name)| set.then_some(name))
    }
}

/// Up to 256 files inline, or any number listed by a document behind `manifestURL`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.files) && size(self.files) > 0) != has(self.manifestURL)").message("http needs either files or manifestURL"))]
pub struct HttpSource {
    /// The files, each with its own URL.
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<HttpFile>,
    /// A JSON document `{"files": [{"path", "url", "sha256", "size"}]}`; relative URLs are resolved against it, and a file
    /// without `url` lies beside it under its path.
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^/?#@\s]+([/?#]\S*)?$"))]
    #[serde(default, rename = "manifestURL", skip_serializing_if = "Option::is_none")]
    pub manifest_url: Option<String>,
}

/// One file of an HTTP source.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpFile {
    /// `http://` or `https://`, without user and password.
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^/?#@\s]+([/?#]\S*)?$"))]
    pub url: String,
    /// Where it stands in the dataset: relative, no `.` or `..`. Without it the last segment of the URL's path.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.split('/').exists(p, p == '' || p == '.' || p == '..')").message("path is relative, without empty, '.' or '..' components"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// SHA-256 of its bytes: anything else is not published.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"), length(equal = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Its length in bytes: an origin that says another is refused.
    #[schemars(range(min = 0))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
}

/// How the origin is read. Editing it acts on a read that has begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Origin {
    /// How many nodes read it, each its part: `Auto` or 1 to 8. `Auto` is one below 256 MiB, and else as many as make it faster.
    pub fetchers: Fetchers,
    /// The most bytes per second that all of them together may read, as a number of bytes or with a suffix (`100Mi`).
    #[schemars(length(max = 32), regex(pattern = r"^[1-9][0-9]*(Ki|Mi|Gi|Ti|k|M|G|T)?$"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<String>,
}

/// Which nodes get the content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Placement {
    /// Labels that a node must have.
    #[schemars(extend("maxProperties" = 32))]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that do not keep a node out. A node with any other `NoSchedule` or `NoExecute` taint is not selected; the
    /// taints that Kubernetes itself sets on nodes in trouble are always tolerated.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

/// As in a pod: `operator` is `Equal` (default) or `Exists`; an empty `key` with `Exists` tolerates everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Toleration {
    /// The taint's key.
    #[schemars(length(max = 317))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Equal` or `Exists`.
    #[schemars(extend("enum" = ["Equal", "Exists"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The taint's value, for `Equal`.
    #[schemars(length(max = 63))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule`, `NoExecute`, or all of them if empty.
    #[schemars(extend("enum" = ["NoSchedule", "PreferNoSchedule", "NoExecute"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
}

/// What stays on the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Retention {
    /// When the Distribution is deleted.
    pub on_delete: OnDelete,
}

/// What becomes of the data when the `Distribution` is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnDelete {
    /// The nodes free the disk.
    #[default]
    Delete,
    /// The nodes keep the files and their link, and stop to share them.
    Retain,
}

/// The form of the torrent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TorrentOptions {
    /// `V1` is for clients from before 2022.
    pub version: TorrentVersion,
}

/// Which forms of metainfo a torrent has (BEP 3, BEP 52).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TorrentVersion {
    /// v1 and v2 in one.
    #[default]
    Hybrid,
    /// BEP 52 only.
    V2,
    /// BEP 3 only.
    V1,
}

/// Under 5 KB at any size of the cluster.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DistributionStatus {
    /// The `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// For the TYPE column: `http` or `image`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub source_type: Option<String>,
    /// For the SIZE column: `256Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// For the READY column: `4987/5000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// Resolved, Built, Available, Ready, Progressing, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// What the nodes are to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionStatus>,
    /// What they had before, until the new one is everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_revision: Option<RevisionStatus>,
    /// How many nodes are how far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCounts>,
    /// How far all of it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,
    /// What was moved for the current revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<TransferStatus>,
    /// Why nodes failed, at most 10 reasons, the most frequent first.
    #[schemars(length(max = 10))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailureGroup>,
    /// When the current revision was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the first whole copy existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_at: Option<Time>,
    /// When all desired nodes had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_at: Option<Time>,
}

/// A revision as the user sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// The name of the `DistributionRevision`, and of the folder in the store.
    pub id: String,
    /// `sha256:<hex>` of the content manifest, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What an image's reference stood for: the reference with that digest.
    #[schemars(length(max = 600))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Payload bytes.
    pub bytes: i64,
    /// Number of files.
    pub files: i64,
    /// Number of torrents.
    pub torrents: i32,
}

/// Desired = ready + active + pending + failed + unreachable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Selected nodes that run the class's sidecar.
    pub desired: i32,
    /// The content is published.
    pub ready: i32,
    /// Fetching, downloading or publishing.
    pub active: i32,
    /// Nothing heard yet.
    pub pending: i32,
    /// Not getting on; `failures` says why. Each tries again by itself.
    pub failed: i32,
    /// NotReady for over 60 s: not counted towards Ready.
    pub unreachable: i32,
}

/// How far all nodes together are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProgressStatus {
    /// Whole percents of the bytes that all desired nodes need.
    pub percent: i32,
    /// For the PROGRESS column: `42%`.
    pub summary: String,
    /// Seconds to go at the present rate, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<i64>,
    /// When this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Time>,
}

/// Payload bytes moved, as the nodes reported them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TransferStatus {
    /// Read from the origin.
    pub origin_bytes: i64,
    /// Got from peers.
    pub peer_bytes: i64,
}

/// Nodes that failed for the same reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureGroup {
    /// CamelCase.
    pub reason: String,
    /// How many nodes.
    pub count: i32,
    /// Up to 5 of them.
    #[schemars(length(max = 5))]
    pub nodes: Vec<String>,
    /// What one of them said.
    #[schemars(length(max = 256))]
    pub message: String,
}
