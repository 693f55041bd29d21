//! What the cluster looks like: the objects that decide, as the watches last told them.
//!
//! Synchronous: a change goes in, the keys that have to be looked at again come out. No clock, no I/O, no lock.

mod facts;
mod table;

use std::sync::Arc;

use crds::{Distribution, DistributionClass, DistributionRevision, NodeDistribution};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;

pub use facts::{NodeFacts, SidecarPod};
pub use table::{Indexed, ObjectId, Table};

use crate::queue::{Key, Urgency};

/// Keys that a change touches, and how soon each wants to be looked at.
pub type Touched = Vec<(Key, Urgency)>;

/// Everything that is watched.
#[derive(Debug, Default)]
pub struct Index {
    /// All `Distribution`s.
    pub distributions: Table<Distribution>,
    /// All revisions.
    pub revisions: Table<DistributionRevision>,
    /// All classes.
    pub classes: Table<DistributionClass>,
    /// What nodes report.
    pub reports: Table<NodeDistribution>,
    /// Nodes.
    pub nodes: Table<NodeFacts>,
    /// Pods of sidecars in the operator's namespace.
    pub sidecars: Table<SidecarPod>,
    /// The trackers' Deployments.
    pub deployments: Table<Deployment>,
    /// The trackers' Services.
    pub services: Table<Service>,
}

impl Index {
    /// Takes in an object as it is now.
    pub fn apply<T: Indexed>(&mut self, id: &ObjectId, object: T) -> Touched {
        let old = T::table(self).replace(id.clone(), object);
        let new = T::table(self).by_id(id).cloned();
        match (&old, &new) {
            (Some(old), Some(new)) if T::same(old, new) => Vec::new(),
            _ => T::touches(self, old.as_deref(), new.as_deref()),
        }
    }

    /// Takes in the answer to a write of our own, unless the watch has already brought something newer. An object that is not known
    /// was deleted meanwhile: it is not brought back to life.
    pub fn assume<T: Indexed>(&mut self, id: &ObjectId, object: T) -> Touched {
        let known = T::table(self).by_id(id).and_then(|known| T::version(known));
        match (known, T::version(&object)) {
            (Some(known), Some(new)) if new > known => self.apply(id, object),
            _ => Vec::new(),
        }
    }

    /// Takes in what we have just made, before the watch knows of it.
    pub fn assume_created<T: Indexed>(&mut self, id: &ObjectId, object: T) -> Touched {
        if T::table(self).by_id(id).is_none() { self.apply(id, object) } else { self.assume(id, object) }
    }

    /// Forgets an object that is gone.
    pub fn delete<T: Indexed>(&mut self, id: &ObjectId) -> Touched {
        let Some(old) = T::table(self).remove(id) else { return Vec::new() };
        T::touches(self, Some(&old), None)
    }

    /// Forgets what a complete list did not hold.
    pub fn retain<T: Indexed>(&mut self, keep: impl Fn(&ObjectId) -> bool) -> Touched {
        let gone: Vec<ObjectId> = T::table(self).ids().filter(|id| !keep(id)).cloned().collect();
        gone.iter().flat_map(|id| self.delete::<T>(id)).collect()
    }

    /// Every key there is, for a look at everything.
    pub fn all_keys(&self) -> Vec<Key> {
        let classes = self.classes.iter().map(|class| Key::Class(class.name_any()));
        let distributions = self.distributions.iter().map(|d| key_of(d));
        let owners = self.revisions.iter().map(|r| owner_key(r));
        classes.chain(distributions).chain(owners).collect()
    }

    /// The `Distribution`s of a class.
    pub fn distributions_of<'a>(&'a self, class: &'a str) -> impl Iterator<Item = &'a Arc<Distribution>> {
        self.distributions.iter().filter(move |d| d.spec.class_name == class)
    }

    /// The revisions of a class.
    pub fn revisions_of<'a>(&'a self, class: &'a str) -> impl Iterator<Item = &'a Arc<DistributionRevision>> {
        self.revisions.iter().filter(move |r| r.spec.class_name == class)
    }

    fn class_touched(&self, class: &str, urgency: Urgency) -> Touched {
        self.distributions_of(class).map(|d| (key_of(d), urgency)).collect()
    }
}

/// The key of a `Distribution`.
pub fn key_of(distribution: &Distribution) -> Key {
    Key::Distribution {
        namespace: distribution.namespace().unwrap_or_default(),
        name: distribution.name_any(),
    }
}

/// The key of the `Distribution` that a revision names.
pub fn owner_key(revision: &DistributionRevision) -> Key {
    let owner = &revision.spec.distribution;
    Key::Distribution { namespace: owner.namespace.clone(), name: owner.name.clone() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn distribution(version: &str) -> Distribution {
        let object = json!({
            "metadata": {"name": "d", "namespace": "n", "uid": "u", "resourceVersion": version},
            "spec": {"source": {"http": {"files": [{"url": "http://h/f"}]}}},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_was_deleted_meanwhile_stays_so() {
        let mut index = Index::default();
        let id = ObjectId::of(&distribution("1"));
        assert!(
            !index.assume_created(&id, distribution("1")).is_empty(),
            "the watch does not know of it yet"
        );
        assert!(!index.assume(&id, distribution("2")).is_empty());
        assert!(index.assume(&id, distribution("1")).is_empty(), "the watch was faster");
        index.delete::<Distribution>(&id);
        assert!(index.assume(&id, distribution("3")).is_empty());
        assert!(index.distributions.by_id(&id).is_none());
    }
}
