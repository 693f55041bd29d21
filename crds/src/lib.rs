//! The Kubernetes API of Samara, `samara.dev/v1alpha1`, as Rust types.
//!
//! | kind | scope | written by |
//! |---|---|---|
//! | [`DistributionClass`] | cluster | the admin; its status by the operator |
//! | [`Distribution`] | namespaced | the user; its status by the operator |
//! | [`DistributionRevision`] | cluster | the operator |
//! | [`NodeDistribution`] | cluster, named after its node | that node's sidecar |
//!
//! The YAML in `crds/manifests/` and in the chart is made from these types by `cargo xtask crds`; a test holds them together.

mod class;
mod distribution;
mod fetchers;
mod image;
mod node;
mod quantity;
mod revision;
mod runtime;
mod select;
mod update;

pub use class::{
    ClassTrackerStatus, DistributionClass, DistributionClassSpec, DistributionClassStatus, OperatorEndpoint,
    OriginRules, Retire, Trackers,
};
pub use distribution::{
    Distribution, DistributionSpec, DistributionStatus, FailureGroup, HttpFile, HttpSource, NodeCounts,
    OnDelete, Origin, Placement, ProgressStatus, Retention, RevisionStatus, Source, Toleration,
    TorrentOptions, TorrentVersion, TransferStatus,
};
pub use fetchers::Fetchers;
pub use image::{
    AUTO_PLATFORMS, ImageAccess, ImageSource, Materialize, PlatformManifest, RevisionImage, SecretName,
};
pub use node::{
    MAX_NODE_REVISIONS, NodeDistribution, NodeDistributionSpec, NodeDistributionStatus, NodeEntry, NodePhase,
};
pub use quantity::parse_quantity;
pub use revision::{
    Content, DistributionRef, DistributionRevision, DistributionRevisionSpec, Ingest, RevisionPolicy, Torrent,
};
pub use runtime::RuntimeRules;
pub use select::{Selection, Taint, select};
pub use update::{Update, UpdateType};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// The definitions of all kinds, as they are in `crds/manifests/`, sorted by name.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![DistributionClass::crd(), DistributionRevision::crd(), Distribution::crd(), NodeDistribution::crd()]
}

/// The API group.
pub const GROUP: &str = "samara.dev";
/// The version all kinds have now.
pub const VERSION: &str = "v1alpha1";
/// The class of a `Distribution` that names none.
pub const DEFAULT_CLASS: &str = "default";
/// Label on revisions, trackers and sidecar pods: the class they belong to.
pub const CLASS_LABEL: &str = "samara.dev/class";
/// Label on revisions: the UID of the `Distribution`.
pub const DISTRIBUTION_UID_LABEL: &str = "samara.dev/distribution-uid";
/// The operator's finalizer on `Distribution` and `DistributionClass`.
pub const FINALIZER: &str = "samara.dev/cleanup";
/// `app.kubernetes.io/component` of the pods that run on each node.
pub const SIDECAR_COMPONENT: &str = "sidecar";
/// `app.kubernetes.io/component` of a class's trackers.
pub const TRACKER_COMPONENT: &str = "tracker";

/// Type names of the conditions on a `Distribution`.
pub mod condition {
    /// The source was resolved to something immutable.
    pub const RESOLVED: &str = "Resolved";
    /// The torrents of the current revision exist.
    pub const BUILT: &str = "Built";
    /// At least one whole copy is in the swarm.
    pub const AVAILABLE: &str = "Available";
    /// All desired nodes have it.
    pub const READY: &str = "Ready";
    /// Work is under way (kstatus: `Reconciling` is its twin and is not written).
    pub const PROGRESSING: &str = "Progressing";
    /// Work does not get on; the reason says why.
    pub const STALLED: &str = "Stalled";
    /// Of a node: its container runtime pulls through the image mirror.
    pub const IMAGE_MIRROR: &str = "ImageMirrorReady";
    /// The reason of that when all that was done to the host has been undone: what an uninstall waits for.
    pub const RETIRED: &str = "Retired";
}
