//! What to do next, from what is wanted and what is here. Pure: no clock, no disk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crds::{OnDelete, Retire, Selection, Taint, Toleration, select};

/// How long a folder whose revision is gone is left alone before anyone asks whether it is an orphan.
pub const ORPHAN_GRACE: Duration = Duration::from_secs(5);

/// How long what is here stays on a node that does not match any more: a Node that is registered anew lacks for a moment the
/// labels that others put on it.
pub const UNSELECTED_GRACE: Duration = Duration::from_mins(1);

/// All that decides.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// What the class says; `None` until it was read once.
    pub class: Option<ClassView>,
    /// The node; `None` until it was read once.
    pub node: Option<NodeView>,
    /// Whether the revisions were listed since the start: before that, absence means nothing.
    pub listed: bool,
    /// The class's revisions by name.
    pub desired: BTreeMap<String, Desired>,
    /// Names of revisions that exist but cannot be read: neither started nor dropped.
    pub unreadable: BTreeSet<String>,
    /// What is on the disk, and what is being done with it.
    pub local: BTreeMap<String, Local>,
    /// Time since the start of the process.
    pub now: Duration,
}

/// What of a Node decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Its UID, for owner references.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<Taint>,
}

impl NodeView {
    /// Whether it is one of those that a revision is for.
    pub fn select(&self, desired: &Desired) -> Selection {
        select((&self.labels, &self.taints), &desired.selector, &desired.tolerations)
    }
}

/// What of a class decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassView {
    /// Its root is the one that this sidecar has.
    pub root_matches: bool,
    /// It goes.
    pub retire: Option<Retire>,
}

/// What of a revision decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they mirror independent fields of the API")]
pub struct Desired {
    /// The UID of its `Distribution`.
    pub distribution_uid: String,
    /// Its torrents exist.
    pub torrents: bool,
    /// It can be shared before they do.
    pub ingest: bool,
    /// It is the one that the link is to point to.
    pub current: bool,
    /// The `Distribution` goes.
    pub deleting: bool,
    /// And what becomes of the data then.
    pub on_delete: OnDelete,
    /// Labels that a node must have.
    pub selector: BTreeMap<String, String>,
    /// Taints that do not keep a node out.
    pub tolerations: Vec<Toleration>,
    /// This node is elected to read the origin: before there are torrents, or again when no whole copy is left.
    pub fetch_here: bool,
}

/// One revision on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// How much of it is on the disk.
    pub data: Data,
    /// Metainfo and manifest are here, so that it can be shared without the API.
    pub startable: bool,
    /// The dataset's link points to it.
    pub linked: bool,
    /// What its record said of its end, for revisions that went while nobody looked.
    pub on_delete: OnDelete,
    /// What is being done with it.
    pub job: Option<Job>,
    /// Since when its revision is missing from the list.
    pub missing_since: Option<Duration>,
    /// Since when the node does not match its revision.
    pub unselected_since: Option<Duration>,
    /// A fresh list lacked it, and the class does not say Keep.
    pub orphan: bool,
}

/// How much of a revision is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// Nothing.
    #[default]
    None,
    /// Some of it, in `incoming/`.
    Incoming,
    /// All of it, in `store/`.
    Published,
    /// All of it, in `store/`, but no longer ours to share or to remove.
    Retained,
}

/// What can be done with a revision; one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// Reads the origin, and shares it when it is whole.
    Fetch,
    /// Gets it from peers (or reads the origin, sharing it meanwhile), publishes it, seeds it.
    Share,
    /// Removes it.
    Remove,
    /// Gives it to the user: link and files stay.
    Retain,
}

/// A step of the manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start this.
    Start(String, Job),
    /// Stop what is being done with it; the next plan says what comes then.
    Stop(String),
    /// Ask the API server whether it really is an orphan.
    ConfirmOrphan(String),
}

enum Want {
    Job(Job),
    Nothing,
    /// Let whatever runs go on.
    AsIs,
    Confirm,
}

/// The steps from what is to what should be. Doing them and planning again ends in no steps.
pub fn plan(observed: &Observed) -> Vec<Action> {
    let names: BTreeSet<&String> = observed.desired.keys().chain(observed.local.keys()).collect();
    let none = Local::default();
    let mut actions = Vec::new();
    for name in names {
        let local = observed.local.get(name).unwrap_or(&none);
        match (want(observed, name, local), local.job) {
            (Want::Job(wanted), Some(running)) if wanted == running => {}
            (Want::AsIs, _) | (Want::Nothing, None) => {}
            (Want::Job(_) | Want::Nothing, Some(running)) => {
                if !matches!(running, Job::Remove | Job::Retain) {
                    actions.push(Action::Stop(name.clone()));
                }
            }
            (Want::Job(wanted), None) => actions.push(Action::Start(name.clone(), wanted)),
            (Want::Confirm, _) => actions.push(Action::ConfirmOrphan(name.clone())),
        }
    }
    actions
}

fn want(observed: &Observed, name: &str, local: &Local) -> Want {
    if let Some(class) = observed.class {
        if !class.root_matches {
            return Want::Nothing;
        }
        match class.retire {
            Some(Retire::Keep) => return Want::Nothing,
            Some(Retire::Purge) => return remove(local, true),
            None => {}
        }
    }
    match observed.desired.get(name) {
        Some(desired) => want_desired(observed, desired, local),
        None if observed.unreadable.contains(name) || !observed.listed => go_on(local),
        None => want_orphan(observed, local),
    }
}

fn want_desired(observed: &Observed, desired: &Desired, local: &Local) -> Want {
    if desired.deleting {
        return match (desired.on_delete, local.data) {
            (OnDelete::Retain, Data::Retained) => Want::Nothing,
            (OnDelete::Retain, Data::Published) => Want::Job(Job::Retain),
            _ => remove(local, false),
        };
    }
    let Some(node) = &observed.node else {
        return go_on(local);
    };
    match node.select(desired) {
        Selection::Out => {
            let left = |since: Duration| observed.now.saturating_sub(since) >= UNSELECTED_GRACE;
            return if local.unselected_since.is_some_and(left) {
                remove(local, false)
            } else {
                go_on(local)
            };
        }
        Selection::Kept if matches!(local.data, Data::None | Data::Retained) => return Want::Nothing,
        Selection::Kept | Selection::Selected => {}
    }
    if !desired.current {
        return match local.data {
            Data::None | Data::Retained => Want::Nothing,
            _ if successor_is_here(observed, desired) => remove(local, false),
            Data::Published => Want::Job(Job::Share),
            Data::Incoming => Want::Nothing,
        };
    }
    let grows = desired.ingest && !desired.torrents;
    if desired.fetch_here && local.data != Data::Published && !grows {
        // Also when the torrents exist: then every whole copy is lost, and peers have nothing to give.
        Want::Job(Job::Fetch)
    } else if desired.torrents || grows {
        Want::Job(Job::Share)
    } else {
        Want::Nothing
    }
}

/// Whether the node, as far as it is known, is not one of those that the revision is for.
pub fn is_unselected(node: Option<&NodeView>, desired: &Desired) -> bool {
    node.is_some_and(|node| node.select(desired) == Selection::Out)
}

fn successor_is_here(observed: &Observed, old: &Desired) -> bool {
    observed.desired.iter().any(|(name, new)| {
        new.current
            && !new.deleting
            && new.distribution_uid == old.distribution_uid
            && observed.local.get(name).is_some_and(|local| local.data == Data::Published && local.linked)
    })
}

/// Without word from the API server: what is here goes on.
fn go_on(local: &Local) -> Want {
    match (local.job, local.data) {
        (Some(_), _) => Want::AsIs,
        (None, Data::Incoming | Data::Published) if local.startable => Want::Job(Job::Share),
        _ => Want::Nothing,
    }
}

fn want_orphan(observed: &Observed, local: &Local) -> Want {
    match (local.data, local.job) {
        (Data::Retained, _) | (Data::None, None | Some(Job::Fetch | Job::Share)) => return Want::Nothing,
        (_, Some(Job::Remove | Job::Retain)) => return Want::AsIs,
        _ => {}
    }
    if local.orphan {
        return match (local.on_delete, local.data) {
            (OnDelete::Retain, Data::Published) => Want::Job(Job::Retain),
            _ => remove(local, false),
        };
    }
    match local.missing_since {
        Some(since) if observed.now.saturating_sub(since) >= ORPHAN_GRACE => Want::Confirm,
        _ => go_on(local),
    }
}

/// `all`: what was retained, too.
fn remove(local: &Local, all: bool) -> Want {
    match (local.data, local.job) {
        (Data::None, None) => Want::Nothing,
        (Data::Retained, None) if !all => Want::Nothing,
        _ => Want::Job(Job::Remove),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
