//! `source.image`: a container image, and what of it sidecars need to know.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// In `platforms`: those of the nodes that are selected.
pub const AUTO_PLATFORMS: &str = "Auto";

/// A container image in a registry. It is pinned to a digest when it is resolved.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.access) ? self.access : (has(self.pullSecrets) && size(self.pullSecrets) > 0 ? 'UpstreamManifests' : 'Cluster')) == 'Cluster' || !has(self.materialize) || self.materialize != 'Image'").message("materialize: Image goes with access: Cluster only, and not with UpstreamManifests (the default with pullSecrets) or Relay: nodes hold no credentials to pull with; use materialize: Blobs, or access: Cluster if everyone in the cluster may have the image"))]
pub struct ImageSource {
    /// As in a pod: `[registry[:port]/]name[:tag][@sha256:<hex>]`.
    #[schemars(
        length(min = 1, max = 456),
        regex(
            pattern = r"^((([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(\.([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(:[0-9]+)?/)?[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$"
        )
    )]
    pub reference: String,
    /// `Auto`, which is what the selected nodes are or have been, or `os/architecture[/variant]`, each of which the
    /// image has to have. In the words of Go, or those of `uname`: `linux/x86_64` is `linux/amd64`, `linux/arm64/v8` is `linux/arm64`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 64)))]
    #[x_kube(validation = Rule::new("self.all(p, p == 'Auto' || p.matches('^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?$'))").message("each of platforms is os/architecture[/variant], like linux/arm64 or linux/arm/v7"))]
    #[x_kube(validation = Rule::new("size(self) == 1 || !self.exists(p, p == 'Auto')").message("platforms is either [Auto] or a list of os/architecture"))]
    #[serde(default = "auto")]
    pub platforms: Vec<String>,
    /// Secrets of the `Distribution`'s namespace, of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg`.
    #[schemars(length(max = 8))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<SecretName>,
    /// Who may have it from the nodes. Without it `UpstreamManifests` with pull secrets, else `Cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<ImageAccess>,
    /// What becomes of it on the nodes. Without it `Blobs` with pull secrets or under another access than `Cluster`, else `Image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub materialize: Option<Materialize>,
    /// Whether the kubelet's garbage collection leaves it alone.
    #[serde(default)]
    pub pin: bool,
}

fn auto() -> Vec<String> {
    vec![AUTO_PLATFORMS.to_owned()]
}

impl ImageSource {
    /// As it is written, or what that is where nothing is written.
    pub fn access(&self) -> ImageAccess {
        let private = !self.pull_secrets.is_empty();
        self.access.unwrap_or(if private { ImageAccess::UpstreamManifests } else { ImageAccess::Cluster })
    }

    /// As it is written, or what that is where nothing is written.
    pub fn materialize(&self) -> Materialize {
        let private = !self.pull_secrets.is_empty() || self.access() != ImageAccess::Cluster;
        self.materialize.unwrap_or(if private { Materialize::Blobs } else { Materialize::Image })
    }

    /// Whether the platforms are those of the nodes.
    pub fn is_auto(&self) -> bool {
        self.platforms.iter().any(|platform| platform == AUTO_PLATFORMS)
    }
}

/// A Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))]
    pub name: String,
}

/// Who may have an image from the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImageAccess {
    /// Whoever the registry gives the manifest: nodes serve the rest only, by digests that cannot be guessed.
    UpstreamManifests,
    /// Whoever shows a token that the registry takes: nodes pass its challenge on, ask it by one HEAD, and serve manifests too. For
    /// registries that ask for Bearer tokens; elsewhere it is `UpstreamManifests`.
    Relay,
    /// Everyone in the cluster.
    Cluster,
}

/// What becomes of an image on the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Materialize {
    /// The container runtime has pulled and unpacked it.
    Image,
    /// Its bytes are on the node; a pull finds them there.
    Blobs,
}

/// An image, pinned: what a sidecar needs to serve it. The blobs are named by the manifests, which are files of the content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionImage {
    /// The reference in full: `docker.io/library/alpine:3.20`.
    #[schemars(length(min = 1, max = 512))]
    pub reference: String,
    /// `sha256:<hex>` of what the reference stands for: an index, or a manifest.
    #[schemars(length(equal = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
    /// The media type of that.
    #[schemars(length(min = 1, max = 128))]
    pub media_type: String,
    /// The manifests that are in the content, sorted by platform.
    #[schemars(length(min = 1, max = 64))]
    pub manifests: Vec<PlatformManifest>,
    /// How many layers the content lacks, because they lie elsewhere or must not be passed on.
    #[schemars(range(min = 0))]
    #[serde(default)]
    pub left_out: i32,
    /// Who may have it from the nodes.
    pub access: ImageAccess,
    /// What becomes of it on the nodes.
    pub materialize: Materialize,
    /// Whether the kubelet's garbage collection leaves it alone.
    pub pin: bool,
}

/// The manifest of one platform.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlatformManifest {
    /// `os/architecture[/variant]`.
    #[schemars(length(min = 1, max = 128))]
    pub platform: String,
    /// `sha256:<hex>`.
    #[schemars(length(equal = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
    /// Its media type.
    #[schemars(length(min = 1, max = 128))]
    pub media_type: String,
}
