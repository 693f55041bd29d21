//! The way out: nodes free their disks, then everything of the `Distribution` goes. It waits for live nodes, and not for long.

use std::sync::Arc;

use crds::{Distribution, DistributionRevision};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::fetching::{Readers, policy};
use super::{Observed, Plan, Step};

/// So long the finalizer waits for live nodes.
pub const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(20);

/// Marks the revisions, waits for the nodes, deletes the revisions, takes the finalizer off.
pub fn plan(
    plan: &mut Plan,
    observed: &Observed,
    distribution: &Distribution,
    own: &[&Arc<DistributionRevision>],
    now: Timestamp,
) {
    let mut marked = true;
    for revision in own.iter().filter(|revision| revision.metadata.deletion_timestamp.is_none()) {
        let mut wanted = DistributionRevision::clone(revision);
        wanted.spec.policy = policy(
            distribution,
            revision.spec.policy.current,
            Readers::default(),
            revision.spec.policy.ingest.clone(),
        );
        wanted.spec.policy.deleting = true;
        if wanted.spec != revision.spec {
            marked = false;
            plan.step(Step::UpdateRevision(Box::new(wanted)));
        }
    }
    let deadline = deadline(observed, distribution, now);
    let names: Vec<String> = own.iter().map(|revision| revision.name_any()).collect();
    let holds = |view: &super::NodeView| view.is_live() && names.iter().any(|name| view.holds(name));
    if now < deadline && (!marked || observed.nodes.iter().any(holds)) {
        plan.wake(Some(deadline));
        return;
    }
    for revision in own {
        plan.step(Step::DeleteRevision {
            name: revision.name_any(),
            uid: revision.uid().unwrap_or_default(),
            // It may have been marked a moment ago, and goes whatever it says.
            version: None,
        });
    }
    plan.step(Step::RemoveFinalizer);
}

/// Counted from the API server's time and from when this operator saw it first, whichever ends sooner: clocks may differ.
fn deadline(observed: &Observed, distribution: &Distribution, now: Timestamp) -> Timestamp {
    let asked = distribution.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    let since = [asked, observed.deleting_since].into_iter().flatten().min().unwrap_or(now);
    since.checked_add(LONGEST_WAIT).unwrap_or(Timestamp::MAX)
}
