//! Which nodes count, and how far each is.

use crds::{NodeDistribution, NodeEntry, NodePhase, Placement, Selection, select};
use jiff::{SignedDuration, Timestamp};

use super::{NodeView, Observed};
use crate::failure::Failure;
use crate::grants::Candidate;

/// A node that is NotReady for so long no longer counts towards Ready.
pub const UNREACHABLE_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// How far a node is with a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Published.
    Ready,
    /// At work.
    Active,
    /// Nothing heard yet.
    Pending,
    /// Not getting on.
    Failed(Failure),
    /// NotReady for too long.
    Unreachable,
}

/// A node that is to have the content.
#[derive(Debug)]
pub struct Member<'a> {
    view: &'a NodeView,
    /// NotReady for over a minute, or gone with its sidecar.
    pub unreachable: bool,
}

/// The nodes that are to have the content.
#[derive(Debug, Default)]
pub struct Crowd<'a> {
    /// In order of their names.
    pub members: Vec<Member<'a>>,
    /// When the next of them becomes unreachable by time alone.
    pub wake_at: Option<Timestamp>,
}

impl<'a> Crowd<'a> {
    /// Selects among the nodes that have to do with the class.
    pub fn new(observed: &'a Observed, placement: &Placement, now: Timestamp) -> Self {
        let mut crowd = Self::default();
        for view in &observed.nodes {
            let present = view.pod.is_some() || (!view.facts.ready && view.report.is_some());
            let node = (&view.facts.labels, &view.facts.taints[..]);
            let wanted = match select(node, &placement.node_selector, &placement.tolerations) {
                Selection::Selected => present,
                Selection::Kept => present && has_any_of(view, observed),
                Selection::Out => false,
            };
            if !wanted {
                continue;
            }
            let lost_at = lost_at(view);
            let unreachable = lost_at.is_some_and(|at| at <= now);
            if !unreachable {
                crowd.wake_at = [crowd.wake_at, lost_at].into_iter().flatten().min();
            }
            crowd.members.push(Member { view, unreachable });
        }
        crowd
    }

    /// What they are: `os/architecture`, each as often as there are such nodes.
    pub fn platforms(&self) -> impl Iterator<Item = &str> {
        self.members.iter().filter_map(|member| member.view.facts.platform.as_deref())
    }

    /// Those that can be asked to read the origin, or to go on with it.
    pub fn candidates(&self) -> Vec<Candidate> {
        let reachable = self.members.iter().filter(|member| !member.unreachable && member.view.pod.is_some());
        reachable
            .map(|member| Candidate { node: member.name().to_owned(), electable: member.view.is_live() })
            .collect()
    }
}

impl Member<'_> {
    /// The node's name.
    pub fn name(&self) -> &str {
        &self.view.facts.name
    }

    /// What it reports of a revision.
    pub fn entry(&self, revision: &str) -> Option<&NodeEntry> {
        self.view.report.as_deref().and_then(|report| entry(report, revision))
    }

    /// How far it is with a revision.
    pub fn standing(&self, revision: &str) -> Standing {
        if self.unreachable {
            return Standing::Unreachable;
        }
        let entry = self.entry(revision);
        match entry.map(|entry| entry.phase) {
            Some(NodePhase::Ready) => Standing::Ready,
            Some(NodePhase::Failed) => Standing::Failed(failure(entry)),
            Some(NodePhase::Fetching | NodePhase::Downloading | NodePhase::Publishing) => Standing::Active,
            Some(NodePhase::Pending | NodePhase::Deleting) | None => {
                self.root_failure().map_or(Standing::Pending, Standing::Failed)
            }
        }
    }

    /// A sidecar that cannot use its data root says so for the node as a whole.
    fn root_failure(&self) -> Option<Failure> {
        let conditions = &self.view.report.as_ref()?.status.as_ref()?.conditions;
        let bad = conditions
            .iter()
            .find(|condition| condition.type_ == "RootReady" && condition.status == "False")?;
        Some(Failure::new(&bad.reason, bad.message.as_str()))
    }
}

impl NodeView {
    /// The node and its sidecar are there and at work.
    pub fn is_live(&self) -> bool {
        self.facts.ready && self.pod.as_ref().is_some_and(|pod| pod.ready)
    }

    /// Whether its sidecar reports anything of a revision.
    pub fn holds(&self, revision: &str) -> bool {
        self.report.as_deref().is_some_and(|report| entry(report, revision).is_some())
    }
}

fn lost_at(view: &NodeView) -> Option<Timestamp> {
    if view.facts.ready {
        return None;
    }
    if view.pod.is_none() {
        return Some(Timestamp::MIN);
    }
    // Others write this time, and it may lie at the end of all times.
    view.facts.since.map(|since| since.checked_add(UNREACHABLE_AFTER).unwrap_or(Timestamp::MAX))
}

fn has_any_of(view: &NodeView, observed: &Observed) -> bool {
    observed
        .revisions
        .iter()
        .any(|revision| revision.metadata.name.as_deref().is_some_and(|name| view.holds(name)))
}

fn entry<'a>(report: &'a NodeDistribution, revision: &str) -> Option<&'a NodeEntry> {
    report.status.as_ref()?.revisions.iter().find(|entry| entry.revision == revision)
}

fn failure(entry: Option<&NodeEntry>) -> Failure {
    let reason = entry.and_then(|entry| entry.reason.as_deref()).unwrap_or("Failed");
    Failure::new(reason, entry.and_then(|entry| entry.message.clone()).unwrap_or_default())
}
