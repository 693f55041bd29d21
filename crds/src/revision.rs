//! `DistributionRevision`: immutable content, and the policy that the operator applies to it.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{OnDelete, RevisionImage, Toleration};

/// What sidecars watch. It has no status and no ownerReference (its owner is namespaced): it is found by label and by
/// `spec.distribution.uid`.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "samara.dev",
    version = "v1alpha1",
    kind = "DistributionRevision",
    plural = "distributionrevisions",
    shortname = "distrev",
    printcolumn = r#"{"name":"Namespace","type":"string","jsonPath":".spec.distribution.namespace"}"#,
    printcolumn = r#"{"name":"Distribution","type":"string","jsonPath":".spec.distribution.name"}"#,
    printcolumn = r#"{"name":"Bytes","type":"integer","jsonPath":".spec.content.bytes"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct DistributionRevisionSpec {
    /// Whose revision it is.
    #[x_kube(validation = Rule::new("self == oldSelf").message("distribution is immutable"))]
    pub distribution: DistributionRef,
    /// The class, as the `Distribution` names it.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("className is immutable"))]
    pub class_name: String,
    /// What the source was resolved to.
    #[x_kube(validation = Rule::new("self == oldSelf").message("content is immutable: a changed source is a new revision"))]
    pub content: Content,
    /// Empty until the content was read once; then written once.
    #[schemars(length(max = 256))]
    #[serde(default)]
    #[x_kube(validation = Rule::new("size(oldSelf) == 0 || self == oldSelf").message("torrents are written once"))]
    pub torrents: Vec<Torrent>,
    /// SHA-256 (hex) of the content manifest, written together with the torrents.
    #[schemars(length(equal = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_digest: Option<String>,
    /// What may change while it runs.
    pub policy: RevisionPolicy,
}

/// The `Distribution` that a revision belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DistributionRef {
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its UID: the same name made again is another Distribution.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// The source, pinned. No URL stands here: only elected fetchers get them, from the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// SHA-256 (hex) over what was resolved: every path with its size, validator and declared digest, and the torrent's
    /// version. The same source resolved again gives the same pin; another pin is another revision.
    #[schemars(length(equal = 64))]
    pub pin: String,
    /// Payload bytes.
    #[schemars(range(min = 0))]
    pub bytes: i64,
    /// Number of files.
    #[schemars(range(min = 0))]
    pub files: i64,
    /// The image, where the content is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<RevisionImage>,
}

/// One torrent of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Torrent {
    /// 40 hex digits; absent for v2-only.
    #[schemars(length(equal = 40))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info_hash_v1: Option<String>,
    /// 64 hex digits; absent for v1-only.
    #[schemars(length(equal = 64))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info_hash_v2: Option<String>,
    /// Payload bytes.
    #[schemars(range(min = 0))]
    pub bytes: i64,
}

/// Changed by the operator while the revision lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionPolicy {
    /// As in the `Distribution`: a sidecar decides by itself whether its node is selected.
    #[schemars(extend("maxProperties" = 32))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// As in the `Distribution`.
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// The nodes that read the origin; empty once the torrents exist.
    #[schemars(length(max = 8))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fetchers: Vec<String>,
    /// The node that confirms the declared digests of what they read, having read nothing itself; absent where none are declared.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<String>,
    /// How nodes share the content while it is still being read; absent where it is shared only when it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingest: Option<Ingest>,
    /// Whether this is what `datasets/<namespace>/<name>` is to point to. False for a revision that was replaced: nodes
    /// keep it until they have published its successor, then drop it.
    pub current: bool,
    /// The `Distribution` goes: nodes act by `onDelete` and then forget the revision.
    #[serde(default)]
    pub deleting: bool,
    /// What to do with the data then.
    #[serde(default)]
    pub on_delete: OnDelete,
}

/// The swarm of content that is still being read. It stays when the torrents exist: nodes that have joined it go by its name until
/// they know theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ingest {
    /// SHA-256 (hex) of the outline: files, lengths, and the key of whoever says which nodes may read. Trackers store it under
    /// this name among the manifests.
    #[schemars(length(equal = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub id: String,
    /// How often reading was begun anew because what had been read proved wrong: nodes then drop what they have.
    #[schemars(range(min = 0))]
    #[serde(default)]
    pub epoch: i32,
}
