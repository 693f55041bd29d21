//! Objects of one kind, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::{CLASS_LABEL, Distribution, DistributionClass, DistributionRevision, NodeDistribution};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::{Resource, ResourceExt};

use super::{Index, NodeFacts, SidecarPod, Touched, key_of, owner_key};
use crate::queue::{Key, Urgency};

/// Namespace (empty for cluster-scoped kinds) and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl ObjectId {
    /// The id of an object.
    pub fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }

    /// The id of a cluster-scoped object.
    pub fn named(name: &str) -> Self {
        Self { namespace: String::new(), name: name.to_owned() }
    }
}

/// Objects of one kind, in order of their ids.
#[derive(Debug)]
pub struct Table<T>(BTreeMap<ObjectId, Arc<T>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Table<T> {
    /// The object with this id.
    pub fn by_id(&self, id: &ObjectId) -> Option<&Arc<T>> {
        self.0.get(id)
    }

    /// The cluster-scoped object with this name.
    pub fn named(&self, name: &str) -> Option<&Arc<T>> {
        self.0.get(&ObjectId::named(name))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.values()
    }

    /// All ids.
    pub fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.0.keys()
    }

    pub(super) fn replace(&mut self, id: ObjectId, object: T) -> Option<Arc<T>> {
        self.0.insert(id, Arc::new(object))
    }

    pub(super) fn remove(&mut self, id: &ObjectId) -> Option<Arc<T>> {
        self.0.remove(id)
    }
}

/// A kind that the index holds.
pub trait Indexed: Sized + Send + Sync + 'static {
    /// Whether it decides what trackers are to admit. Reports do not, and in a wave there are hundreds a second.
    const REGISTERED: bool;
    /// Where it is held.
    fn table(index: &mut Index) -> &mut Table<Self>;
    /// Whether the two say the same.
    fn same(old: &Self, new: &Self) -> bool;
    /// What a change from `old` to `new` touches.
    fn touches(index: &Index, old: Option<&Self>, new: Option<&Self>) -> Touched;
    /// Its resource version as a number, where it has one.
    fn version(_object: &Self) -> Option<u64> {
        None
    }
}

fn version(object: &impl Resource) -> Option<u64> {
    object.meta().resource_version.as_deref()?.parse().ok()
}

fn same_version(old: &impl Resource, new: &impl Resource) -> bool {
    old.meta().uid == new.meta().uid && old.meta().resource_version == new.meta().resource_version
}

impl Indexed for Distribution {
    const REGISTERED: bool = false;
    fn table(index: &mut Index) -> &mut Table<Self> {
        &mut index.distributions
    }
    fn same(old: &Self, new: &Self) -> bool {
        same_version(old, new)
    }
    fn touches(_: &Index, old: Option<&Self>, new: Option<&Self>) -> Touched {
        let Some(either) = new.or(old) else { return Vec::new() };
        let mut touched = vec![(key_of(either), Urgency::Now)];
        if old.is_none() || new.is_none() {
            touched.push((Key::Class(either.spec.class_name.clone()), Urgency::Now));
        }
        touched
    }
    fn version(object: &Self) -> Option<u64> {
        version(object)
    }
}

impl Indexed for DistributionRevision {
    const REGISTERED: bool = true;
    fn table(index: &mut Index) -> &mut Table<Self> {
        &mut index.revisions
    }
    fn same(old: &Self, new: &Self) -> bool {
        same_version(old, new)
    }
    fn touches(_: &Index, old: Option<&Self>, new: Option<&Self>) -> Touched {
        new.or(old).map(|revision| (owner_key(revision), Urgency::Now)).into_iter().collect()
    }
    fn version(object: &Self) -> Option<u64> {
        version(object)
    }
}

impl Indexed for DistributionClass {
    const REGISTERED: bool = true;
    fn table(index: &mut Index) -> &mut Table<Self> {
        &mut index.classes
    }
    fn same(old: &Self, new: &Self) -> bool {
        same_version(old, new)
    }
    fn touches(index: &Index, old: Option<&Self>, new: Option<&Self>) -> Touched {
        let Some(class) = new.or(old) else { return Vec::new() };
        let name = class.name_any();
        let mut touched = index.class_touched(&name, Urgency::Now);
        touched.push((Key::Class(name), Urgency::Now));
        touched
    }
    fn version(object: &Self) -> Option<u64> {
        version(object)
    }
}

impl Indexed for NodeDistribution {
    const REGISTERED: bool = false;
    fn table(index: &mut Index) -> &mut Table<Self> {
        &mut index.reports
    }
    fn same(old: &Self, new: &Self) -> bool {
        same_version(old, new)
    }
    fn touches(index: &Index, old: Option<&Self>, new: Option<&Self>) -> Touched {
        let entries = |report: Option<&Self>| {
            report.and_then(|report| report.status.clone()).map(|status| status.revisions).unwrap_or_default()
        };
        let (old, new) = (entries(old), entries(new));
        let changed =
            old.iter().filter(|entry| !new.contains(entry)).chain(new.iter().filter(|e| !old.contains(e)));
        let revisions = changed.filter_map(|entry| index.revisions.named(&entry.revision));
        revisions.map(|revision| (owner_key(revision), Urgency::Soon)).collect()
    }
}

impl Indexed for NodeFacts {
    const REGISTERED: bool = true;
    fn table(index: &mut Index) -> &mut Table<Self> {
        &mut index.nodes
    }
    fn same(old: &Self, new: &Self) -> bool {
        old == new
    }
    fn touches(index: &Index, _: Option<&Self>, _: Option<&Self>) -> Touched {
        index.distributions.iter().map(|d| (key_of(d), Urgency::Soon)).collect()
    }
}

impl Indexed for SidecarPod {
    const REGISTERED: bool = true;
    fn table(index: &mut Index) -> &mut Table<Self> {
        &mut index.sidecars
    }
    fn same(old: &Self, new: &Self) -> bool {
        old == new
    }
    fn touches(index: &Index, old: Option<&Self>, new: Option<&Self>) -> Touched {
        new.or(old).map(|pod| index.class_touched(&pod.class, Urgency::Soon)).unwrap_or_default()
    }
}

impl Indexed for Deployment {
    const REGISTERED: bool = false;
    fn table(index: &mut Index) -> &mut Table<Self> {
        &mut index.deployments
    }
    fn same(old: &Self, new: &Self) -> bool {
        same_version(old, new)
    }
    fn touches(_: &Index, old: Option<&Self>, new: Option<&Self>) -> Touched {
        class_of(new.or(old))
    }
}

impl Indexed for Service {
    const REGISTERED: bool = true;
    fn table(index: &mut Index) -> &mut Table<Self> {
        &mut index.services
    }
    fn same(old: &Self, new: &Self) -> bool {
        same_version(old, new)
    }
    fn touches(_: &Index, old: Option<&Self>, new: Option<&Self>) -> Touched {
        class_of(new.or(old))
    }
}

fn class_of(object: Option<&impl ResourceExt>) -> Touched {
    let class = object.and_then(|object| object.labels().get(CLASS_LABEL));
    class.map(|class| (Key::Class(class.clone()), Urgency::Now)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_of_reports_is_no_news_for_trackers() {
        fn registered<T: Indexed>() -> bool {
            T::REGISTERED
        }
        assert!(!registered::<NodeDistribution>() && !registered::<Distribution>());
        assert!(registered::<DistributionRevision>() && registered::<SidecarPod>());
        assert!(registered::<NodeFacts>() && registered::<DistributionClass>() && registered::<Service>());
    }
}
