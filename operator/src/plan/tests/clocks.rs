//! Times that others wrote.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

#[test]
fn a_status_from_the_future_is_waited_for_no_longer_than_any() {
    let mut observed = seen(2);
    settle(&mut observed);
    let name = build(&mut observed);
    reports(&mut observed.nodes[0], &name, NodePhase::Downloading, None);
    for ahead in [now() + SignedDuration::from_hours(1), Timestamp::MAX] {
        let distribution = Arc::make_mut(observed.distribution.as_mut().unwrap());
        distribution.status.as_mut().unwrap().progress.as_mut().unwrap().updated_at = Some(Time(ahead));
        let waiting = plan(&observed, now());
        assert!(
            !waiting.steps.iter().any(|step| matches!(step, Step::WriteStatus(_))),
            "a count has changed"
        );
        assert_eq!(waiting.wake_at, Some(now() + PROGRESS_EVERY));
    }
}

#[test]
fn the_end_of_all_times_is_no_end() {
    let mut observed = seen(1);
    lost(&mut observed.nodes[0], 0);
    Arc::make_mut(&mut observed.nodes[0].facts).since = Some(Timestamp::MAX);
    settle(&mut observed);
    let end = Some(Time(Timestamp::MAX));
    Arc::make_mut(observed.distribution.as_mut().unwrap()).metadata.deletion_timestamp = end;
    let steps = plan(&observed, now()).steps;
    assert!(
        steps.iter().any(|step| matches!(step, Step::UpdateRevision(r) if r.spec.policy.deleting)),
        "{steps:?}"
    );
}
