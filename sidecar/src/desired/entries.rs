//! What the node says of each revision. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crds::{MAX_NODE_REVISIONS, NodeEntry, NodePhase, Retire, Selection};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use operator_api::reason;

use super::plan::{Data, Job, Local, Observed};

/// The longest message of an entry, in characters.
const MAX_MESSAGE: usize = 256;

/// How far a job is. Jobs publish it, the manager reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobStatus {
    /// Where the revision stands.
    pub phase: NodePhase,
    /// Why it does not get on.
    pub problem: Option<Problem>,
    /// Payload bytes read from the origin by this node, ever.
    pub origin_bytes: u64,
    /// Payload bytes got from peers by this node, ever.
    pub peer_bytes: u64,
}

/// A reason and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// One of [`operator_api::reason`].
    pub reason: &'static str,
    /// What failed, on what, and what to do; without secrets.
    pub message: String,
}

impl Default for JobStatus {
    fn default() -> Self {
        Self { phase: NodePhase::Pending, problem: None, origin_bytes: 0, peer_bytes: 0 }
    }
}

/// The entries to report, sorted by name. `before` lends its times to entries whose phase is the same.
pub fn entries(
    observed: &Observed,
    statuses: &BTreeMap<String, JobStatus>,
    before: &[NodeEntry],
    now: &Time,
) -> Vec<NodeEntry> {
    let none = Local::default();
    let names: BTreeSet<&String> = observed.desired.keys().chain(observed.local.keys()).collect();
    let mut entries: Vec<NodeEntry> = names
        .into_iter()
        .filter_map(|name| {
            let local = observed.local.get(name).unwrap_or(&none);
            let phase = phase(observed, name, local, statuses.get(name))?;
            Some(entry(name, phase, statuses.get(name), before, now))
        })
        .collect();
    if entries.len() > MAX_NODE_REVISIONS {
        // Those that the operator waits for come first.
        let is_current =
            |entry: &NodeEntry| observed.desired.get(&entry.revision).is_some_and(|desired| desired.current);
        entries.sort_by_key(|entry| !is_current(entry));
        entries.truncate(MAX_NODE_REVISIONS);
        entries.sort_by(|a, b| a.revision.cmp(&b.revision));
    }
    entries
}

/// The phase and, where no job can say it, the reason.
fn phase(
    observed: &Observed,
    name: &str,
    local: &Local,
    status: Option<&JobStatus>,
) -> Option<(NodePhase, Option<Problem>)> {
    match (local.job, status) {
        (Some(Job::Remove | Job::Retain), _) => return Some((NodePhase::Deleting, None)),
        (Some(_), Some(status)) => return Some((status.phase, status.problem.clone())),
        _ => {}
    }
    let class = observed.class?;
    if class.retire == Some(Retire::Keep) || local.data == Data::Retained {
        return None;
    }
    if local.data != Data::None {
        return Some(mismatch_or(class.root_matches, NodePhase::Pending));
    }
    let desired = observed.desired.get(name).filter(|desired| desired.current && !desired.deleting)?;
    let node = observed.node.as_ref()?;
    let here = class.retire.is_none() && node.select(desired) == Selection::Selected;
    here.then(|| mismatch_or(class.root_matches, NodePhase::Pending))
}

fn mismatch_or(root_matches: bool, phase: NodePhase) -> (NodePhase, Option<Problem>) {
    if root_matches {
        return (phase, None);
    }
    let message =
        "the class names another root than this sidecar has: make a class with that root".to_owned();
    (NodePhase::Failed, Some(Problem { reason: reason::ROOT_MISMATCH, message }))
}

fn entry(
    name: &str,
    (phase, problem): (NodePhase, Option<Problem>),
    status: Option<&JobStatus>,
    before: &[NodeEntry],
    now: &Time,
) -> NodeEntry {
    let last = before.iter().find(|entry| entry.revision == name);
    let (origin, peer) = status.map_or((0, 0), |s| (s.origin_bytes, s.peer_bytes));
    let (reason, message) = problem.map_or((None, None), |p| {
        (Some(p.reason.to_owned()), Some(p.message.chars().take(MAX_MESSAGE).collect()))
    });
    NodeEntry {
        revision: name.to_owned(),
        phase,
        reason,
        message,
        origin_bytes: i64::try_from(origin).unwrap_or(i64::MAX),
        peer_bytes: i64::try_from(peer).unwrap_or(i64::MAX),
        since: last.filter(|last| last.phase == phase).map_or_else(|| now.clone(), |last| last.since.clone()),
    }
}
