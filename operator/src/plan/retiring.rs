//! Which revisions nobody needs any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use crds::{DISTRIBUTION_UID_LABEL, Distribution, DistributionRevision, NodePhase};
use kube::ResourceExt;

use super::nodes::{Crowd, Member};
use super::revisions::{Choice, is_built};
use super::status::Picture;
use super::{Plan, Step};

/// The replaced revisions that can go: at once if nobody can have published them, or if every reachable node has a newer one; the
/// newest of them only when every reachable node has the target. So a node that never gets on keeps what it has, and nothing of
/// what came in between.
pub fn surplus<'a>(
    distribution: &Distribution,
    choice: &Choice<'_>,
    own: &[&'a Arc<DistributionRevision>],
    picture: &Picture<'_>,
    crowd: &Crowd<'_>,
) -> Vec<&'a Arc<DistributionRevision>> {
    let Some(target) = choice.target else { return Vec::new() };
    let everywhere = is_built(target) && picture.all_ready();
    let replaced: Vec<_> =
        newest_first(own).into_iter().filter(|old| old.name_any() != target.name_any()).collect();
    let needed = if everywhere { BTreeSet::new() } else { needed(target, &replaced, crowd) };
    let goes = |old: &&'a Arc<DistributionRevision>| {
        let going = old.metadata.deletion_timestamp.is_some();
        let ours = old.labels().get(DISTRIBUTION_UID_LABEL) == distribution.metadata.uid.as_ref();
        !going && ours && !needed.contains(&old.name_any())
    };
    replaced.into_iter().filter(goes).collect()
}

/// Deletes them, unless they change meanwhile.
pub fn delete(plan: &mut Plan, surplus: &[&Arc<DistributionRevision>]) {
    for revision in surplus {
        plan.step(Step::DeleteRevision {
            name: revision.name_any(),
            uid: revision.uid().unwrap_or_default(),
            version: revision.resource_version(),
        });
    }
}

fn newest_first<'a>(own: &[&'a Arc<DistributionRevision>]) -> Vec<&'a Arc<DistributionRevision>> {
    let mut sorted = own.to_vec();
    sorted.sort_by_key(|revision| (revision.creation_timestamp().map(|time| time.0), revision.name_any()));
    sorted.reverse();
    sorted
}

/// The newest that was built, since nodes may be about to tell that they have it; and of each node the newest that it has.
fn needed(
    target: &DistributionRevision,
    replaced: &[&Arc<DistributionRevision>],
    crowd: &Crowd<'_>,
) -> BTreeSet<String> {
    let stays =
        |old: &&&Arc<DistributionRevision>| is_built(old) && old.metadata.deletion_timestamp.is_none();
    let built: Vec<String> = replaced.iter().filter(stays).map(|old| old.name_any()).collect();
    let mut needed: BTreeSet<String> = built.first().cloned().into_iter().collect();
    let target = target.name_any();
    for member in crowd.members.iter().filter(|member| !member.unreachable && !has(member, &target)) {
        needed.extend(built.iter().find(|name| has(member, name)).cloned());
    }
    needed
}

/// Whether it has all of it. A sidecar that has just started publishes again what lies there.
fn has(member: &Member<'_>, revision: &str) -> bool {
    member
        .entry(revision)
        .is_some_and(|entry| matches!(entry.phase, NodePhase::Publishing | NodePhase::Ready))
}
