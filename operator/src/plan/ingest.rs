//! Under which name a revision's content is shared while it is read.

use crds::{Distribution, DistributionRevision, Ingest, TorrentVersion};
use jiff::Timestamp;
use kube::ResourceExt;
use torrent::ingest::PublicKey;

use super::revisions::is_built;
use super::{Note, Observed, Plan, Step};
use crate::grants::Election;
use crate::outline::{Name, Outlined};

/// What was found out.
#[derive(Debug)]
pub struct Sharing {
    /// What the policy is to say.
    pub ingest: Option<Ingest>,
    /// The name is being made, so that nobody should be told to read yet.
    pub pending: bool,
}

impl Sharing {
    /// It stays as it is: also when the torrents exist, since nodes that have joined go by it until they know theirs.
    pub fn kept(revision: &DistributionRevision) -> Self {
        Self { ingest: revision.spec.policy.ingest.clone(), pending: false }
    }
}

/// The ingest of the target. Its name is made once for each epoch, and again where the operator's key is another.
pub fn plan(
    plan: &mut Plan,
    observed: &Observed,
    distribution: &Distribution,
    revision: &DistributionRevision,
    now: Timestamp,
) -> Sharing {
    let kept = Sharing::kept(revision);
    let Some(key) = key(observed, distribution, revision) else { return kept };
    let name = revision.name_any();
    let epoch = match &kept.ingest {
        Some(ingest) => epoch(plan, observed.elections.get(&name), ingest.epoch, now),
        None => 0,
    };
    let made = |outlined: &&Outlined| (outlined.epoch, outlined.key) == (epoch, key);
    match observed.outlines.get(&name).filter(made).map(|outlined| outlined.name) {
        Some(Name::Known(id)) => {
            Sharing { ingest: Some(Ingest { id: id.to_string(), epoch }), pending: false }
        }
        Some(Name::Impossible) => Sharing { ingest: None, pending: false },
        Some(Name::Pending) => Sharing { pending: true, ..kept },
        None => {
            plan.step(Step::Outline { revision: name, epoch, key });
            Sharing { pending: true, ..kept }
        }
    }
}

/// One more than before, once the pause is over after which wrong bytes are read anew: then no node takes what is of the epoch before.
fn epoch(plan: &mut Plan, election: Option<&Election>, epoch: i32, now: Timestamp) -> i32 {
    let Some(doubt) = election.and_then(|election| election.doubt(epoch)) else { return epoch };
    match doubt.until.filter(|until| *until > now) {
        Some(until) => {
            plan.wake(Some(until));
            epoch
        }
        None => epoch.saturating_add(1),
    }
}

/// What the user is told when reading begins anew.
pub fn note(observed: &Observed, old: &DistributionRevision, new: &DistributionRevision) -> Option<Note> {
    let (before, after) = (old.spec.policy.ingest.as_ref()?, new.spec.policy.ingest.as_ref()?);
    let doubt = observed.elections.get(&old.name_any())?.doubt(before.epoch)?;
    let message = format!("{} (begun anew {} times)", doubt.failure.message, after.epoch);
    (after.epoch > before.epoch).then_some(Note { warning: true, reason: "ReadingAnew".to_owned(), message })
}

/// The operator's key, if the revision is to have an ingest and its files are known.
fn key(
    observed: &Observed,
    distribution: &Distribution,
    revision: &DistributionRevision,
) -> Option<PublicKey> {
    let resolution = &observed.resolution;
    let resolved = resolution.resolved.as_ref().filter(|_| !resolution.stale)?;
    let shared = !is_built(revision)
        && distribution.spec.torrent.version != TorrentVersion::V1
        && resolved.pin == revision.spec.content.pin;
    observed.ingest_key.filter(|_| shared)
}
