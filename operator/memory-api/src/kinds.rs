//! The kinds that this API knows: ours, and those of Kubernetes that ours need.

/// When `metadata.generation` grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The kind has none.
    None,
    /// With every change outside `metadata` and `status`.
    Spec,
}

/// One resource of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Empty for the core group.
    pub group: &'static str,
    /// The one version served.
    pub version: &'static str,
    /// As in paths.
    pub plural: &'static str,
    /// As in objects.
    pub kind: &'static str,
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
    /// Whether `status` is written through its own path, and ignored on the main one.
    pub status: bool,
    /// When `metadata.generation` grows.
    pub generation: Generation,
    /// Whether an update must carry a resourceVersion. Custom resources and Leases do.
    pub versioned_update: bool,
}

impl Kind {
    const fn core(plural: &'static str, kind: &'static str) -> Self {
        Self {
            group: "",
            version: "v1",
            plural,
            kind,
            namespaced: true,
            status: false,
            generation: Generation::None,
            versioned_update: false,
        }
    }

    const fn custom(plural: &'static str, kind: &'static str) -> Self {
        Self {
            group: "samara.dev",
            version: "v1alpha1",
            plural,
            kind,
            namespaced: false,
            status: true,
            generation: Generation::Spec,
            versioned_update: true,
        }
    }

    const fn group(mut self, group: &'static str) -> Self {
        self.group = group;
        self
    }

    const fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn with_status(mut self) -> Self {
        self.status = true;
        self
    }

    const fn with_generation(mut self) -> Self {
        self.generation = Generation::Spec;
        self
    }

    const fn versioned(mut self) -> Self {
        self.versioned_update = true;
        self
    }

    /// `group/version`, or only the version in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `plural.group`, as messages name it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether it is one of ours.
    pub fn is_custom(&self) -> bool {
        self.group == "samara.dev"
    }
}

/// Position of a kind in [`KINDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KindId(pub usize);

impl KindId {
    pub(crate) fn kind(self) -> &'static Kind {
        &KINDS[self.0]
    }

    /// By group, version and plural, as a path has them.
    pub(crate) fn by_path(group: &str, version: &str, plural: &str) -> Option<Self> {
        let same = |k: &Kind| k.group == group && k.version == version && k.plural == plural;
        KINDS.iter().position(same).map(Self)
    }

    /// By apiVersion and kind, as an object has them.
    pub(crate) fn by_type(api_version: &str, kind: &str) -> Option<Self> {
        KINDS.iter().position(|k| k.kind == kind && k.api_version() == api_version).map(Self)
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..KINDS.len()).map(Self)
    }
}

/// The kinds whose objects other code here knows by position.
pub(crate) const NAMESPACES: KindId = KindId(0);
pub(crate) const PODS: KindId = KindId(1);
pub(crate) const SERVICES: KindId = KindId(2);
pub(crate) const SECRETS: KindId = KindId(3);
pub(crate) const CRDS: KindId = KindId(4);

/// All that is served. TokenReviews are answered, not stored, and are not in this list.
pub const KINDS: &[Kind] = &[
    Kind::core("namespaces", "Namespace").cluster().with_status(),
    Kind::core("pods", "Pod").with_status(),
    Kind::core("services", "Service").with_status(),
    Kind::core("secrets", "Secret"),
    Kind::core("customresourcedefinitions", "CustomResourceDefinition")
        .group("apiextensions.k8s.io")
        .cluster()
        .with_status()
        .with_generation()
        .versioned(),
    Kind::core("nodes", "Node").cluster().with_status(),
    Kind::core("configmaps", "ConfigMap"),
    Kind::core("events", "Event"),
    Kind::core("events", "Event").group("events.k8s.io"),
    Kind::core("deployments", "Deployment").group("apps").with_status().with_generation(),
    Kind::core("leases", "Lease").group("coordination.k8s.io").versioned(),
    Kind::custom("distributionclasses", "DistributionClass"),
    Kind { namespaced: true, ..Kind::custom("distributions", "Distribution") },
    Kind { status: false, ..Kind::custom("distributionrevisions", "DistributionRevision") },
    Kind::custom("nodedistributions", "NodeDistribution"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_positions() {
        assert_eq!(NAMESPACES.kind().plural, "namespaces");
        assert_eq!(PODS.kind().plural, "pods");
        assert_eq!(SERVICES.kind().plural, "services");
        assert_eq!(SECRETS.kind().plural, "secrets");
        assert_eq!(CRDS.kind().plural, "customresourcedefinitions");
    }
}
