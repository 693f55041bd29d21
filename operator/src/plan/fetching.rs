//! Who reads the origin, and what the revisions' policies say.

use std::sync::Arc;

use crds::{Distribution, DistributionRevision, Fetchers, Ingest, RevisionPolicy};
use jiff::Timestamp;
use kube::ResourceExt;

use super::ingest::{self, Sharing};
use super::nodes::Crowd;
use super::revisions::{Choice, SOURCE_HASH_ANNOTATION, disowned, is_built};
use super::{Observed, Plan, Step, platforms};
use crate::grants::{Candidate, Election, MOST_FETCHERS, WORTH_SEVERAL};

/// Who has to do with reading the origin.
#[derive(Debug, Default)]
pub struct Readers {
    /// Who reads, seat by seat.
    pub fetchers: Vec<String>,
    /// Who confirms what was read.
    pub witness: Option<String>,
}

/// The policy of a revision of this `Distribution`.
pub fn policy(
    distribution: &Distribution,
    current: bool,
    readers: Readers,
    ingest: Option<Ingest>,
) -> RevisionPolicy {
    let spec = &distribution.spec;
    RevisionPolicy {
        node_selector: spec.placement.node_selector.clone(),
        tolerations: spec.placement.tolerations.clone(),
        fetchers: readers.fetchers,
        witness: readers.witness,
        ingest,
        current,
        deleting: false,
        on_delete: spec.retention.on_delete,
    }
}

/// Elects fetchers where they are needed, takes in what they built, and brings every policy up to date.
pub fn plan(
    plan: &mut Plan,
    observed: &Observed,
    distribution: &Distribution,
    choice: &Choice<'_>,
    crowd: &Crowd<'_>,
    surplus: &[&Arc<DistributionRevision>],
    now: Timestamp,
) {
    let current = choice.target.or(choice.serving).map(|revision| revision.name_any());
    let own = |revision: &&Arc<DistributionRevision>| {
        Some(&revision.spec.distribution.uid) == distribution.metadata.uid.as_ref()
            && revision.metadata.deletion_timestamp.is_none()
            && !surplus.iter().any(|going| Arc::ptr_eq(going, revision))
    };
    for revision in observed.revisions.iter().filter(own) {
        let name = revision.name_any();
        let is_target = choice.target.is_some_and(|target| target.name_any() == name);
        let mut wanted = DistributionRevision::clone(revision);
        let mut readers = Readers::default();
        let mut sharing = Sharing::kept(revision);
        if is_target {
            sharing = ingest::plan(plan, observed, distribution, revision, now);
            let demand = Demand { distribution, sharing: &sharing, candidates: crowd.candidates() };
            readers = elect(plan, observed, choice, revision, &demand, now);
            take_in(&mut wanted, observed);
            let hash = choice.source_hash.clone();
            wanted.annotations_mut().insert(SOURCE_HASH_ANNOTATION.to_owned(), hash);
            platforms::take_down(&mut wanted, &observed.resolution);
        } else if choice.target.is_some() {
            wanted = disowned(revision, &choice.source_hash).unwrap_or(wanted);
        }
        wanted.spec.policy = policy(distribution, current.as_ref() == Some(&name), readers, sharing.ingest);
        if wanted.spec != revision.spec || wanted.annotations() != revision.annotations() {
            let note = ingest::note(observed, revision, &wanted);
            plan.step(Step::UpdateRevision(Box::new(wanted)));
            plan.steps.extend(note.map(Step::Tell));
        }
    }
}

/// Fetchers and witness of the target: none once it is built and there is a copy of it.
fn elect(
    plan: &mut Plan,
    observed: &Observed,
    choice: &Choice<'_>,
    revision: &DistributionRevision,
    demand: &Demand<'_>,
    now: Timestamp,
) -> Readers {
    let name = revision.name_any();
    let nothing = Election::default();
    let election = observed.elections.get(&name).unwrap_or(&nothing);
    if !choice.needs_origin || election.built.is_some() {
        return Readers::default();
    }
    let policy = &revision.spec.policy;
    if demand.sharing.pending && policy.fetchers.is_empty() {
        // Whoever is told to read asks at once, and is to hear then how to share.
        return Readers::default();
    }
    let wanted = demand.count(revision, election);
    let decision = election.decide(&name, &policy.fetchers, wanted, &demand.candidates, now);
    plan.wake(decision.wake_at);
    let mut readers = Readers { fetchers: decision.fetchers, witness: None };
    if demand.is_confirmed(observed, revision, election) {
        let bytes = u64::try_from(revision.spec.content.bytes).unwrap_or_default();
        let written = policy.witness.as_deref();
        let summons = election.summon(&name, written, &demand.candidates, &readers.fetchers, bytes, now);
        plan.wake(summons.wake_at);
        readers.witness = summons.node;
    }
    // Also when it is the same: an operator that has just started takes note of who was elected before it.
    let changed = election.fetchers() != readers.fetchers || policy.fetchers != readers.fetchers;
    let alone = election.awaits_witness() && readers.witness.is_none();
    if changed || alone || election.witness() != readers.witness.as_deref() {
        let (fetchers, witness) = (readers.fetchers.clone(), readers.witness.clone());
        plan.step(Step::Elect { revision: name, fetchers, witness });
    }
    readers
}

/// How many fetchers are wanted, and who there is.
struct Demand<'a> {
    distribution: &'a Distribution,
    sharing: &'a Sharing,
    candidates: Vec<Candidate>,
}

impl Demand<'_> {
    /// Whether a second node has to confirm what is read: where something was declared of it, and another node gets it meanwhile.
    fn is_confirmed(
        &self,
        observed: &Observed,
        revision: &DistributionRevision,
        election: &Election,
    ) -> bool {
        let resolved = observed.resolution.resolved.as_ref();
        let declared = resolved.is_some_and(|resolved| resolved.is_declared(&self.distribution.spec));
        let ingest = self.sharing.ingest.as_ref().filter(|_| !is_built(revision));
        let sound = ingest.is_some_and(|ingest| election.doubt(ingest.epoch).is_none());
        election.awaits_witness() || (sound && declared)
    }

    /// Several only where they get what the others read: else each would read all of it.
    fn count(&self, revision: &DistributionRevision, election: &Election) -> usize {
        if self.sharing.ingest.is_none() || is_built(revision) {
            return 1;
        }
        let bytes = u64::try_from(revision.spec.content.bytes).unwrap_or_default();
        match self.distribution.spec.origin.fetchers {
            Fetchers::Exactly(count) => usize::from(count).min(MOST_FETCHERS),
            Fetchers::Auto if bytes < WORTH_SEVERAL => 1,
            Fetchers::Auto => election.worth(revision.spec.policy.fetchers.len()),
        }
    }
}

/// Writes the torrents once.
fn take_in(revision: &mut DistributionRevision, observed: &Observed) {
    let Some(built) =
        observed.elections.get(&revision.name_any()).and_then(|election| election.built.as_ref())
    else {
        return;
    };
    if !is_built(revision) {
        revision.spec.torrents = vec![built.torrent.clone()];
        revision.spec.manifest_digest = Some(built.manifest_digest.clone());
    }
}
