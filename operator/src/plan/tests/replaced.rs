//! Revisions that were replaced.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

/// Two nodes, and so many built revisions; each was made an hour after the one before, and the last is what the source is now.
fn history(count: u8) -> (Observed, Vec<String>) {
    let mut observed = seen(2);
    let mut names = Vec::new();
    for nth in 0..count {
        observed.resolution.resolved = Some(resolved(char::from(b'a' + nth), 1000));
        for old in &mut observed.revisions {
            Arc::make_mut(old).annotations_mut().clear();
        }
        let steps = plan(&observed, now()).steps;
        let create = steps.into_iter().filter(|step| matches!(step, Step::CreateRevision(_))).collect();
        carry_out(&mut observed, create);
        let made = Arc::make_mut(observed.revisions.last_mut().unwrap());
        made.metadata.creation_timestamp = Some(Time(now() + SignedDuration::from_hours(i64::from(nth))));
        made.metadata.resource_version = Some(format!("{nth}"));
        made.spec.policy.current = nth + 1 == count;
        made.spec.torrents =
            vec![crds::Torrent { info_hash_v1: None, info_hash_v2: Some("b".repeat(64)), bytes: 1000 }];
        names.push(made.name_any());
    }
    (observed, names)
}

fn deleted(observed: &Observed) -> Vec<(String, Option<String>)> {
    let steps = plan(observed, now()).steps;
    let deleted = steps.into_iter().filter_map(|step| match step {
        Step::DeleteRevision { name, version, .. } => Some((name, version)),
        _ => None,
    });
    deleted.collect()
}

fn has(observed: &mut Observed, node: usize, revision: &str) {
    reports(&mut observed.nodes[node], revision, NodePhase::Ready, None);
}

#[test]
fn a_node_that_fails_keeps_what_it_has_and_nothing_of_what_came_between() {
    let (mut observed, names) = history(5);
    has(&mut observed, 0, &names[0]);
    has(&mut observed, 1, &names[4]);
    let gone: Vec<String> = deleted(&observed).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        gone,
        [names[2].clone(), names[1].clone()],
        "the newest of the replaced stays for who is about to have it"
    );
    settle(&mut observed);
    has(&mut observed, 0, &names[3]);
    settle(&mut observed);
    assert_eq!(observed.revisions.len(), 2, "nobody needs the first any more");
    has(&mut observed, 0, &names[4]);
    settle(&mut observed);
    assert_eq!(observed.revisions.len(), 1);
}

#[test]
fn one_that_goes_anyway_is_not_the_one_that_stays() {
    let (mut observed, names) = history(3);
    Arc::make_mut(&mut observed.revisions[1]).metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(deleted(&observed), [], "{names:?}");
}

#[test]
fn what_changed_meanwhile_is_not_deleted() {
    let (mut observed, names) = history(3);
    has(&mut observed, 0, &names[2]);
    has(&mut observed, 1, &names[2]);
    let versions = [(names[1].clone(), Some("1".to_owned())), (names[0].clone(), Some("0".to_owned()))];
    assert_eq!(deleted(&observed), versions, "each carries what it was planned from");
    let steps = plan(&observed, now()).steps;
    let touched = |step: &Step| matches!(step, Step::UpdateRevision(r) if r.name_any() != names[2]);
    assert!(!steps.iter().any(touched), "a write before it would make it fail");
}
