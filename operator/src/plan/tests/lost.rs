//! Every whole copy of what was built is gone.

use super::*;

/// One that was built, whose copies went a while ago.
fn lost() -> (Observed, String) {
    let mut observed = seen(2);
    settle(&mut observed);
    let name = build(&mut observed);
    reports(&mut observed.nodes[0], &name, NodePhase::Downloading, None);
    settle(&mut observed);
    observed.copy_missing_since = Some(now() - SignedDuration::from_secs(61));
    (observed, name)
}

/// Looks as the operator does, which keeps the clock from one look to the next.
fn look(observed: &mut Observed) {
    for _ in 0..6 {
        let plan = plan(observed, now());
        observed.copy_missing_since =
            plan.copy_missing.then(|| observed.copy_missing_since.unwrap_or_else(now));
        carry_out(observed, plan.steps);
    }
}

#[test]
fn an_origin_that_shows_something_else_meanwhile_is_read_as_that() {
    let (mut observed, old) = lost();
    observed.resolution.resolved = Some(resolved('d', 5));
    look(&mut observed);
    let new: Vec<_> = observed.revisions.iter().filter(|revision| revision.name_any() != old).collect();
    let [new] = new[..] else { panic!("{:?}", observed.revisions) };
    assert_eq!(new.spec.policy.fetchers.len(), 1, "it stays, and someone reads it");
    assert!(new.spec.policy.current);
    let hash = observed.resolution.source_hash.clone();
    let of_source = |revision: &&Arc<DistributionRevision>| {
        revision.annotations().get(SOURCE_HASH_ANNOTATION) == Some(&hash)
    };
    assert_eq!(
        observed.revisions.iter().filter(of_source).count(),
        1,
        "the lost one is of that source no more"
    );
    assert_eq!(observed.revisions.len(), 2, "nodes keep what they have of it");
}

#[test]
fn the_source_is_resolved_anew_since_its_list_was_dropped() {
    let mut observed = seen(2);
    settle(&mut observed);
    assert!(!plan(&observed, now()).origin_done, "a fetcher needs the list");
    let name = build(&mut observed);
    assert!(plan(&observed, now()).origin_done);
    reports(&mut observed.nodes[0], &name, NodePhase::Downloading, None);
    settle(&mut observed);
    observed.copy_missing_since = Some(now() - SignedDuration::from_secs(61));
    observed.resolution.resolved = None;
    let plan = plan(&observed, now());
    assert!(!plan.origin_done);
    assert!(plan.steps.iter().any(|step| matches!(step, Step::Resolve)), "{:?}", plan.steps);
}

#[test]
fn a_lost_copy_is_fetched_again() {
    let mut observed = seen(2);
    settle(&mut observed);
    let name = build(&mut observed);
    reports(&mut observed.nodes[0], &name, NodePhase::Downloading, None);
    settle(&mut observed);
    assert!(plan(&observed, now()).copy_missing);
    observed.copy_missing_since = Some(now() - SignedDuration::from_secs(59));
    assert!(observed.revisions[0].spec.policy.fetchers.is_empty());
    assert!(plan(&observed, now()).wake_at.is_some());
    observed.copy_missing_since = Some(now() - SignedDuration::from_secs(61));
    settle(&mut observed);
    assert_eq!(observed.revisions[0].spec.policy.fetchers.len(), 1);
    is(&observed, "Stalled", "True", "CopyLost");
    assert_eq!(observed.revisions[0].spec.torrents.len(), 1, "what is written once stays");
}
