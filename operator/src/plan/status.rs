//! What the user is told, and when it is worth a write.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::condition::{BUILT, READY, RESOLVED, STALLED};
use crds::{
    Distribution, DistributionRevision, DistributionStatus, FailureGroup, NodeCounts, ProgressStatus,
    RevisionImage, RevisionStatus, TransferStatus,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use super::conditions::{CHECK_FAILED, conditions, whole_seconds};
use super::nodes::{Crowd, Standing};
use super::problems::{class_problem, copy_problem, digest_problem, room_problem};
use super::progress::{human_size, percent};
use super::revisions::{Choice, is_built};
use super::{Note, Observed, Plan, Step, failures};
use crate::failure::Failure;
use crate::grants::{Election, Reading};

/// Counts and progress are written at most this often; conditions at once.
pub const PROGRESS_EVERY: SignedDuration = SignedDuration::from_secs(10);
/// Everything that the status is made of.
#[derive(Debug)]
pub struct Picture<'a> {
    /// The revision of the present source.
    pub target: Option<&'a Arc<DistributionRevision>>,
    /// What is shown as the revision: the target, or what is there until there is one.
    shown: Option<&'a Arc<DistributionRevision>>,
    previous: Option<&'a Arc<DistributionRevision>>,
    /// Who reads the origin, and makes the torrent.
    pub fetcher: Option<String>,
    /// How far reading is, where nodes get what is read.
    pub reading: Option<Reading>,
    /// How many nodes are how far with the target.
    pub counts: NodeCounts,
    /// At least one whole copy is there.
    pub available: bool,
    /// The revision's digest is not the expected one.
    pub digest_problem: Option<Failure>,
    pub(super) class_problem: Option<Failure>,
    pub(super) resolve_problem: Option<Failure>,
    /// Why it cannot be found out whether a source that is followed is another.
    pub(super) check_problem: Option<Failure>,
    pub(super) fetch_problem: Option<Failure>,
    pub(super) copy_problem: Option<Failure>,
    pub(super) room_problem: Option<Failure>,
    pub(super) failures: Vec<FailureGroup>,
    have: u128,
    whole: u128,
    transfer: TransferStatus,
}

impl<'a> Picture<'a> {
    /// Looks at all nodes.
    pub fn new(
        observed: &Observed,
        distribution: &Distribution,
        choice: &Choice<'a>,
        own: &[&'a Arc<DistributionRevision>],
        crowd: &Crowd<'_>,
    ) -> Self {
        let shown = choice.target.or(choice.serving);
        let name = choice.target.map(|target| target.name_any()).unwrap_or_default();
        let election = observed.elections.get(&name);
        let mut picture = Self {
            target: choice.target,
            shown,
            previous: previous(own, shown),
            fetcher: election.and_then(|e| e.fetchers().into_iter().next()).filter(|_| choice.needs_origin),
            reading: election.and_then(Election::reading).filter(|_| choice.needs_origin),
            counts: NodeCounts::default(),
            available: observed.swarms.get(&name).is_some_and(|swarm| swarm.seeders > 0),
            digest_problem: digest_problem(distribution, choice.target),
            class_problem: class_problem(observed, distribution),
            resolve_problem: observed.resolution.failure.clone().filter(|_| choice.needs_origin),
            check_problem: observed.following.failure.clone().filter(|_| !choice.needs_origin),
            fetch_problem: election
                .and_then(|election| election.failure().cloned())
                .filter(|_| choice.needs_origin),
            copy_problem: copy_problem(choice),
            room_problem: room_problem(observed, &name),
            failures: Vec::new(),
            have: 0,
            whole: 0,
            transfer: TransferStatus::default(),
        };
        picture.count(observed, crowd, &name);
        picture.add_transfer(observed, &name);
        picture
    }

    fn count(&mut self, observed: &Observed, crowd: &Crowd<'_>, revision: &str) {
        let bytes = self.target.map_or(0, |target| u64::try_from(target.spec.content.bytes).unwrap_or(0));
        let mut groups: BTreeMap<String, FailureGroup> = BTreeMap::new();
        for member in &crowd.members {
            self.counts.desired += 1;
            let standing = member.standing(revision);
            if standing != Standing::Unreachable {
                self.whole += u128::from(bytes);
                let is_ready = standing == Standing::Ready;
                self.have +=
                    u128::from(if is_ready { bytes } else { have(observed, revision, member.name(), bytes) });
            }
            match standing {
                Standing::Ready => {
                    self.counts.ready += 1;
                    self.available |= self.is_built();
                }
                Standing::Active => self.counts.active += 1,
                Standing::Pending => self.counts.pending += 1,
                Standing::Unreachable => self.counts.unreachable += 1,
                Standing::Failed(failure) => {
                    self.counts.failed += 1;
                    failures::note(&mut groups, failure, member.name());
                }
            }
        }
        self.available &= self.is_built();
        self.failures = failures::worst(groups);
    }

    /// Everything moved for the revision, also by nodes that are no longer selected.
    fn add_transfer(&mut self, observed: &Observed, revision: &str) {
        let election = observed.elections.get(revision);
        for view in &observed.nodes {
            let grant = election.and_then(|election| election.grant(&view.facts.name));
            let live = grant.map_or(0, |grant| i64::try_from(grant.origin_bytes).unwrap_or(i64::MAX));
            let entries = view.report.as_ref().and_then(|report| report.status.as_ref());
            let entry =
                entries.and_then(|status| status.revisions.iter().find(|entry| entry.revision == revision));
            let origin = entry.map_or(0, |entry| entry.origin_bytes).max(live);
            self.transfer.origin_bytes = self.transfer.origin_bytes.saturating_add(origin);
            let peers = entry.map_or(0, |entry| entry.peer_bytes);
            self.transfer.peer_bytes = self.transfer.peer_bytes.saturating_add(peers);
        }
    }

    /// Whether the torrents of the present source exist.
    pub fn is_built(&self) -> bool {
        self.target.is_some_and(|target| is_built(target))
    }

    /// Every reachable node has it, and there is one.
    pub fn all_ready(&self) -> bool {
        self.counts.ready > 0 && self.counts.ready == self.counts.desired - self.counts.unreachable
    }

    /// Everything is as the user wants it.
    pub fn is_ready(&self) -> bool {
        self.is_built() && self.all_ready() && self.problem().is_none()
    }

    /// It was built, and no whole copy is to be seen although nodes want it.
    pub fn copy_missing(&self) -> bool {
        self.is_built() && !self.available && self.counts.desired > self.counts.unreachable
    }
}

fn previous<'a>(
    own: &[&'a Arc<DistributionRevision>],
    shown: Option<&Arc<DistributionRevision>>,
) -> Option<&'a Arc<DistributionRevision>> {
    let shown = shown?.name_any();
    let others = own.iter().copied().filter(|revision| is_built(revision) && revision.name_any() != shown);
    others.max_by_key(|revision| (revision.creation_timestamp().map(|time| time.0), revision.name_any()))
}

/// Bytes that a node has which is not Ready: what it tells the trackers, or as the fetcher.
fn have(observed: &Observed, revision: &str, node: &str, bytes: u64) -> u64 {
    let left = observed.swarms.get(revision).and_then(|swarm| swarm.left.get(node));
    let announced = left.map_or(0, |left| bytes.saturating_sub(*left));
    let grant = observed.elections.get(revision).and_then(|election| election.grant(node));
    let said = grant.map_or(0, |grant| grant.bytes.min(bytes));
    // A fetcher tells the operator more often than the trackers.
    announced.max(said)
}

/// Writes the status if that is worth it now, and tells the user of what changed.
pub fn plan(
    plan: &mut Plan,
    observed: &Observed,
    distribution: &Distribution,
    picture: &Picture<'_>,
    now: Timestamp,
) {
    let old = distribution.status.clone().unwrap_or_default();
    let mut new = status(observed, distribution, picture, &old, now);
    plan.have_bytes = (!picture.is_ready()).then(|| u64::try_from(picture.have).unwrap_or(u64::MAX));
    let written = old.progress.as_ref().and_then(|progress| progress.updated_at.as_ref()).map(|time| time.0);
    let hard = hard_part(&old) != hard_part(&new);
    if !hard && soft_part(&old) == soft_part(&new) {
        return;
    }
    // The clock of whoever led before may have run ahead; ours then does not wait for it.
    let next = now.checked_add(PROGRESS_EVERY).unwrap_or(Timestamp::MAX);
    let due = written.map(|at| at.checked_add(PROGRESS_EVERY).unwrap_or(next).min(next));
    let due = due.filter(|due| *due > now && !hard);
    if let Some(due) = due {
        plan.wake(Some(due));
        return;
    }
    if let Some(progress) = &mut new.progress {
        progress.updated_at = Some(Time(whole_seconds(now)));
        progress.eta_seconds = eta(observed, picture);
    }
    plan.steps.extend(notes(&old, &new).into_iter().map(Step::Tell));
    plan.step(Step::WriteStatus(Box::new(new)));
}

fn status(
    observed: &Observed,
    distribution: &Distribution,
    picture: &Picture<'_>,
    old: &DistributionStatus,
    now: Timestamp,
) -> DistributionStatus {
    let generation = distribution.metadata.generation;
    let revision = picture.shown.map(|revision| revision_status(revision));
    let same_revision = revision.as_ref().map(|r| &r.id) == old.revision.as_ref().map(|r| &r.id);
    let reachable = picture.counts.desired - picture.counts.unreachable;
    let done = percent(picture.have, picture.whole);
    let is_ready = picture.is_ready();
    // 100% while a node still publishes would be a lie, and an empty content has no bytes to count by.
    let done = match (picture.target.is_some(), is_ready) {
        (false, _) => 0,
        (true, true) => 100,
        (true, false) if picture.whole == 0 => {
            percent(picture.counts.ready as u128, reachable.max(1) as u128).min(99)
        }
        (true, false) => done.min(99),
    };
    let moment = |kept: &Option<Time>, holds: bool| {
        kept.clone().filter(|_| same_revision).or_else(|| holds.then(|| Time(whole_seconds(now))))
    };
    let resolution = &observed.resolution;
    let bytes = picture.shown.map(|revision| revision.spec.content.bytes.max(0) as u64);
    DistributionStatus {
        observed_generation: generation,
        source_type: distribution.spec.source.kind().map(str::to_owned),
        size: bytes.or(resolution.resolved.as_ref().map(|resolved| resolved.bytes)).map(human_size),
        ready: Some(format!("{}/{}", picture.counts.ready, picture.counts.desired)),
        conditions: conditions(picture, &old.conditions, generation, now),
        revision,
        previous_revision: picture.previous.map(|revision| revision_status(revision)),
        nodes: Some(picture.counts.clone()),
        progress: Some(ProgressStatus {
            percent: done,
            summary: format!("{done}%"),
            eta_seconds: old.progress.as_ref().and_then(|progress| progress.eta_seconds),
            updated_at: old.progress.as_ref().and_then(|progress| progress.updated_at.clone()),
        }),
        transfer: picture.target.map(|_| picture.transfer.clone()),
        failures: picture.failures.clone(),
        started_at: picture.shown.and_then(|revision| revision.creation_timestamp()),
        available_at: moment(&old.available_at, picture.available),
        ready_at: moment(&old.ready_at, is_ready),
    }
}

fn revision_status(revision: &DistributionRevision) -> RevisionStatus {
    let spec = &revision.spec;
    RevisionStatus {
        id: revision.name_any(),
        digest: spec.manifest_digest.as_ref().map(|digest| format!("sha256:{digest}")),
        source: spec.content.image.as_ref().map(pinned),
        bytes: spec.content.bytes,
        files: spec.content.files,
        torrents: i32::try_from(spec.torrents.len()).unwrap_or(i32::MAX),
    }
}

/// `registry/name:tag@digest`.
fn pinned(image: &RevisionImage) -> String {
    let RevisionImage { reference, digest, .. } = image;
    if reference.ends_with(digest.as_str()) { reference.clone() } else { format!("{reference}@{digest}") }
}

fn eta(observed: &Observed, picture: &Picture<'_>) -> Option<i64> {
    let rate = observed.rate.filter(|rate| *rate >= 1.0)?;
    let left = picture.whole.saturating_sub(picture.have);
    (left > 0).then_some((left as f64 / rate).ceil() as i64)
}

/// What is written at once when it changes: all but counts, progress and the wording of messages.
fn hard_part(status: &DistributionStatus) -> DistributionStatus {
    DistributionStatus {
        ready: None,
        nodes: None,
        progress: None,
        transfer: None,
        failures: Vec::new(),
        conditions: status
            .conditions
            .iter()
            .map(|condition| Condition { message: String::new(), ..condition.clone() })
            .collect(),
        ..status.clone()
    }
}

/// What is worth a write now and then: all but what moves by time alone.
fn soft_part(status: &DistributionStatus) -> DistributionStatus {
    let mut soft = status.clone();
    if let Some(progress) = &mut soft.progress {
        progress.updated_at = None;
        progress.eta_seconds = None;
    }
    soft
}

/// The turns that deserve an Event.
fn notes(old: &DistributionStatus, new: &DistributionStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut tell = |warning, reason: &str, message: String| {
        notes.push(Note { warning, reason: reason.to_owned(), message });
    };
    let id = |status: &DistributionStatus| status.revision.as_ref().map(|revision| revision.id.clone());
    if let Some(revision) = id(new).filter(|_| id(new) != id(old)) {
        tell(false, "RevisionCurrent", format!("revision {revision} is what the nodes are to have"));
    }
    let turned = |kind| {
        let now =
            new.conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")?;
        let before = old.conditions.iter().find(|condition| condition.type_ == kind);
        before
            .is_none_or(|before| before.status != now.status || before.reason != now.reason)
            .then(|| now.clone())
    };
    if turned(BUILT).is_some() {
        tell(false, "Built", "the origin was read once, the torrents exist".to_owned());
    }
    if let Some(ready) = turned(READY) {
        tell(false, "Ready", ready.message);
    }
    if let Some(resolved) = turned(RESOLVED).filter(|resolved| resolved.reason == CHECK_FAILED) {
        tell(true, CHECK_FAILED, resolved.message);
    }
    if let Some(stalled) = turned(STALLED) {
        tell(true, &stalled.reason, stalled.message);
    }
    notes
}
