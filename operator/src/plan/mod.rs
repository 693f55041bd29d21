//! What is to be done about one `Distribution`, from what is seen. Pure: no clock, no chance, no I/O.
//!
//! | file | decides |
//! |---|---|
//! | `revisions` | which revision is current, whether to resolve or make one |
//! | `platforms` | for which platforms an image is looked for |
//! | `following` | whether a source that is followed is to be asked again, or is another |
//! | `retiring` | which revisions nobody needs any more |
//! | `fetching` | who reads the origin, and what the revisions' policies say |
//! | `ingest` | under which name the content is shared while it is read |
//! | `deletion` | the way out |
//! | `nodes` | which nodes count, and how far each is |
//! | `status`, `conditions`, `problems`, `failures`, `progress` | what the user is told |
//!
//! Doing the steps and planning again ends in no steps.

mod conditions;
mod deletion;
mod failures;
mod fetching;
mod following;
mod ingest;
mod nodes;
mod platforms;
mod problems;
mod progress;
mod retiring;
mod revisions;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::{
    Content, Distribution, DistributionClass, DistributionRevision, DistributionStatus, FINALIZER,
    NodeDistribution,
};
use jiff::Timestamp;
use kube::ResourceExt;
use torrent::ingest::PublicKey;

pub use conditions::whole_seconds;
pub use deletion::LONGEST_WAIT;
pub use following::followed;
pub use nodes::UNREACHABLE_AFTER;
pub use platforms::{PLATFORMS_ANNOTATION, wanted_platforms};
pub use progress::{SwarmView, human_size};
pub use revisions::{SOURCE_HASH_ANNOTATION, pinned_digest};
pub use status::PROGRESS_EVERY;

use crate::failure::Failure;
use crate::grants::Election;
use crate::index::{NodeFacts, SidecarPod};
use crate::outline::Outlined;
use crate::resolve::Resolved;

/// What is known of a `Distribution`'s source.
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    /// The source as it was when it was resolved last: see [`crate::resolve::source_hash`].
    pub source_hash: String,
    /// The result; also while it is being renewed.
    pub resolved: Option<Resolved>,
    /// The platforms of nodes that an image was last looked for for, if the source leaves them open.
    pub platforms: BTreeSet<String>,
    /// The result is doubted: it has to be renewed before anything is fetched by it.
    pub stale: bool,
    /// Why the last try failed.
    pub failure: Option<Failure>,
    /// No try before this.
    pub retry_at: Option<Timestamp>,
    /// A try runs.
    pub running: bool,
}

/// What is known of the checks of a source that is followed.
#[derive(Clone, Debug, Default)]
pub struct Following {
    /// When it is to be asked; none if it is not followed.
    pub due: Option<Timestamp>,
    /// Why it cannot be found out what it is now.
    pub failure: Option<Failure>,
}

/// One node, as far as a class is concerned.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// The node.
    pub facts: Arc<NodeFacts>,
    /// The class's sidecar on it.
    pub pod: Option<Arc<SidecarPod>>,
    /// What that sidecar reported.
    pub report: Option<Arc<NodeDistribution>>,
}

/// All that decides about one `Distribution`.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The object; none if it is gone.
    pub distribution: Option<Arc<Distribution>>,
    /// The revisions that carry its namespace and name, whatever UID they name.
    pub revisions: Vec<Arc<DistributionRevision>>,
    /// Its class; without a `Distribution`, the class of those revisions.
    pub class: Option<Arc<DistributionClass>>,
    /// The nodes that have to do with the class.
    pub nodes: Vec<NodeView>,
    /// What is known of the source.
    pub resolution: Resolution,
    /// Whether it is followed.
    pub following: Following,
    /// The elections of its revisions.
    pub elections: BTreeMap<String, Election>,
    /// The operator's ingest key, once there is one.
    pub ingest_key: Option<PublicKey>,
    /// What its revisions go by while they are read.
    pub outlines: BTreeMap<String, Outlined>,
    /// What the trackers see, by revision.
    pub swarms: BTreeMap<String, SwarmView>,
    /// Bytes that all nodes together got per second lately.
    pub rate: Option<f64>,
    /// When its deletion was first seen.
    pub deleting_since: Option<Timestamp>,
    /// Since when no whole copy of what was built is seen.
    pub copy_missing_since: Option<Timestamp>,
    /// Its revisions that a node which has all of the class's has no room to tell of.
    pub crowded_out: BTreeSet<String>,
}

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Step {
    /// Put the finalizer on.
    AddFinalizer,
    /// Take the finalizer off.
    RemoveFinalizer,
    /// Ask the origin what the source is now.
    Resolve,
    /// Ask the origin whether the source is still this.
    Check(Box<Content>),
    /// Make a revision.
    CreateRevision(Box<DistributionRevision>),
    /// Write a revision whose policy, torrents or annotation have to change. Carries the resource version it was made from.
    UpdateRevision(Box<DistributionRevision>),
    /// Make the name under which a revision's content is shared while it is read.
    Outline {
        /// The revision.
        revision: String,
        /// How often reading was begun anew before.
        epoch: i32,
        /// The operator's ingest key.
        key: PublicKey,
    },
    /// Take note of who reads the origin of a revision.
    Elect {
        /// The revision.
        revision: String,
        /// The nodes, seat by seat.
        fetchers: Vec<String>,
        /// Who gives the second word on what they read.
        witness: Option<String>,
    },
    /// Delete a revision of this `Distribution`.
    DeleteRevision {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
        /// The resource version it was planned from, where a newer one would be reason to keep it.
        version: Option<String>,
    },
    /// Delete a revision if the API server confirms that its `Distribution` is gone.
    DeleteOrphan(Arc<DistributionRevision>),
    /// Write the status.
    WriteStatus(Box<DistributionStatus>),
    /// Tell the user.
    Tell(Note),
}

/// What becomes an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Something is wrong.
    pub warning: bool,
    /// CamelCase.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// The steps, in order, and when to plan again if nothing else happens.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In order: each takes the ones before it for done.
    pub steps: Vec<Step>,
    /// The next moment at which time alone changes the plan.
    pub wake_at: Option<Timestamp>,
    /// Bytes that all desired nodes have, for the rate.
    pub have_bytes: Option<u64>,
    /// A whole copy of what was built is missing.
    pub copy_missing: bool,
    /// Nobody reads the origin, nor will soon: the list of its files is of no use.
    pub origin_done: bool,
}

impl Plan {
    fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    fn wake(&mut self, at: Option<Timestamp>) {
        self.wake_at = [self.wake_at, at].into_iter().flatten().min();
    }
}

/// The steps from what is to what should be.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let retiring = observed.class.as_ref().is_some_and(|class| class.spec.retire.is_some());
    let Some(distribution) = &observed.distribution else {
        if !retiring {
            plan.steps.extend(observed.revisions.iter().cloned().map(Step::DeleteOrphan));
        }
        return plan;
    };
    let uid = distribution.uid().unwrap_or_default();
    let is_own = |revision: &&Arc<DistributionRevision>| revision.spec.distribution.uid == uid;
    let (own, foreign): (Vec<_>, Vec<_>) = observed.revisions.iter().partition(is_own);
    let held = distribution.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    if retiring {
        // Samara goes: whatever is there stays as it is, and nothing of ours may hold an object back.
        if held {
            plan.step(Step::RemoveFinalizer);
        }
        return plan;
    }
    plan.steps.extend(foreign.into_iter().cloned().map(Step::DeleteOrphan));
    if distribution.metadata.deletion_timestamp.is_some() {
        if held {
            deletion::plan(&mut plan, observed, distribution, &own, now);
        }
    } else if held {
        present(&mut plan, observed, distribution, &own, now);
    } else {
        plan.step(Step::AddFinalizer);
    }
    plan
}

/// The plan for a `Distribution` that is to be there.
fn present(
    plan: &mut Plan,
    observed: &Observed,
    distribution: &Distribution,
    own: &[&Arc<DistributionRevision>],
    now: Timestamp,
) {
    let crowd = nodes::Crowd::new(observed, &distribution.spec.placement, now);
    plan.wake(crowd.wake_at);
    let choice = revisions::choose(observed, distribution, own, &crowd, now);
    if choice.resolve {
        plan.step(Step::Resolve);
    }
    if let Some(known) = choice.check.clone() {
        plan.step(Step::Check(Box::new(known)));
    }
    plan.wake(choice.wake_at);
    if let Some(revision) = choice.create {
        // What comes after follows when the new revision is seen.
        revisions::create(plan, revision, &choice.source_hash, own);
        return;
    }
    let picture = status::Picture::new(observed, distribution, &choice, own, &crowd);
    plan.copy_missing = picture.copy_missing();
    let surplus = retiring::surplus(distribution, &choice, own, &picture, &crowd);
    fetching::plan(plan, observed, distribution, &choice, &crowd, &surplus, now);
    // What was found is needed until it stands in the revisions.
    let written = !plan.steps.iter().any(|step| matches!(step, Step::UpdateRevision(_)));
    plan.origin_done = !choice.needs_origin && !choice.widening && picture.is_built() && written;
    retiring::delete(plan, &surplus);
    status::plan(plan, observed, distribution, &picture, now);
}
