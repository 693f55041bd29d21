//! `DistributionClass`: where and how.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::RuntimeRules;

/// Where the bytes go and how they get there. Written by the admin, usually through the chart's `classes[]`, which also
/// renders the class's DaemonSet.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "samara.dev",
    version = "v1alpha1",
    kind = "DistributionClass",
    plural = "distributionclasses",
    shortname = "distclass",
    status = "DistributionClassStatus",
    printcolumn = r#"{"name":"Root","type":"string","jsonPath":".spec.root"}"#,
    printcolumn = r#"{"name":"Trackers","type":"integer","jsonPath":".spec.trackers.replicas"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    validation = Rule::new("size(self.metadata.name) <= 40 && !self.metadata.name.contains('.')").message("the name of a class has at most 40 characters and no dot: its trackers' Services are named after it")
)]
#[serde(rename_all = "camelCase")]
pub struct DistributionClassSpec {
    /// The folder on every node that holds the data: absolute, no `..`. Immutable, since a DaemonSet's mounts are.
    #[schemars(length(min = 2, max = 255), regex(pattern = r"^(/[A-Za-z0-9._-]+)+$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("root is immutable: make another class"))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(p, p == '..' || p == '.')").message("root has no '.' or '..' in it"))]
    pub root: String,
    /// The most bytes that datasets of this class may take on one node, as a number of bytes or with a suffix (`500Gi`).
    /// Without it only the disk itself is the limit.
    #[schemars(length(max = 32), regex(pattern = r"^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<String>,
    /// The trackers of this class.
    #[serde(default)]
    pub trackers: Trackers,
    /// Where fetchers may connect to.
    #[serde(default)]
    pub origin: OriginRules,
    /// What container runtimes share besides the images of `Distribution`s.
    #[serde(default)]
    pub runtime: RuntimeRules,
    /// Set when the class goes: what becomes of the data on the nodes. The chart's uninstall hook sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retire: Option<Retire>,
}

/// How many trackers, and on which port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Trackers {
    /// Tracker Deployments of one replica each, every one with its own Service.
    #[schemars(range(min = 1, max = 8))]
    pub replicas: i32,
    /// The port of their Services.
    #[schemars(range(min = 1, max = 29999))]
    pub port: i32,
}

impl Default for Trackers {
    fn default() -> Self {
        Self { replicas: 2, port: 6969 }
    }
}

/// Private addresses are ordinary origins; loopback, link-local, metadata services and the API server are denied.
/// `deny` wins over `allow`, and `allow` over what is built in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OriginRules {
    /// CIDRs, host names, or `*.suffix` that are allowed although they would be denied.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// CIDRs, host names, or `*.suffix` that are denied.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// CIDRs, host names, or `*.suffix` of registries that are spoken to without TLS. Those on loopback need no mention.
    #[schemars(length(max = 64), inner(length(max = 253)))]
    #[serde(rename = "plainHTTP", skip_serializing_if = "Vec::is_empty")]
    pub plain_http: Vec<String>,
}

/// What becomes of a class's data when it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retire {
    /// Sidecars stop and leave the data where it is.
    Keep,
    /// Sidecars remove what they had put under the root.
    Purge,
}

/// What sidecars and people need to know of a class that runs.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DistributionClassStatus {
    /// The `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where sidecars ask for sessions and grants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<OperatorEndpoint>,
    /// The trackers that exist, in order of their number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trackers: Vec<ClassTrackerStatus>,
    /// `Ready`: every tracker answers and has the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The operator's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperatorEndpoint {
    /// `https://host:port`.
    pub url: String,
    /// The PEM certificates that vouch for it; no other is accepted.
    pub ca_bundle: String,
}

/// One tracker of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClassTrackerStatus {
    /// The name of its Deployment and Service.
    pub name: String,
    /// `http://clusterIP:port`, without a path.
    pub url: String,
    /// Whether it answers and has the current registry.
    pub ready: bool,
}
