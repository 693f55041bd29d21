//! Sources that are followed.

use crds::UpdateType;

use super::*;

/// One that is built, on both nodes, and followed.
fn followed() -> (Observed, String) {
    let mut observed = seen(2);
    track(&mut observed);
    settle(&mut observed);
    let name = build(&mut observed);
    ready(&mut observed, &name);
    settle(&mut observed);
    // As the ledger drops what nobody reads, or another operator begins.
    observed.resolution = Resolution::default();
    (observed, name)
}

fn track(observed: &mut Observed) {
    Arc::make_mut(observed.distribution.as_mut().unwrap()).spec.update.kind = UpdateType::Track;
}

fn ready(observed: &mut Observed, revision: &str) {
    for view in &mut observed.nodes {
        reports(view, revision, NodePhase::Ready, None);
    }
}

/// A check ends with this.
fn found(observed: &mut Observed, pin: char) {
    let source_hash = source_hash(&observed.distribution.as_ref().unwrap().spec);
    let resolved = Some(resolved(pin, 1000));
    observed.resolution = Resolution { source_hash, resolved, ..Resolution::default() };
    observed.following.due = Some(now() + SignedDuration::from_mins(10));
}

fn checks(observed: &Observed, at: Timestamp) -> Vec<String> {
    let steps = plan(observed, at).steps.into_iter();
    steps.filter_map(|step| if let Step::Check(known) = step { Some(known.pin) } else { None }).collect()
}

fn of<'a>(observed: &'a Observed, name: &str) -> &'a DistributionRevision {
    observed.revisions.iter().find(|revision| revision.name_any() == name).unwrap()
}

#[test]
fn it_is_asked_when_that_is_due_and_nothing_is_written() {
    let (mut observed, _) = followed();
    let due = now() + SignedDuration::from_mins(3);
    observed.following.due = Some(due);
    let waiting = plan(&observed, now());
    assert!(waiting.steps.is_empty() && waiting.origin_done, "{waiting:?}");
    assert_eq!(waiting.wake_at, Some(due));
    let planned = plan(&observed, due);
    let [Step::Check(known)] = &planned.steps[..] else { panic!("{planned:?}") };
    assert_eq!(**known, observed.revisions[0].spec.content);
    observed.resolution.running = true;
    let asking = plan(&observed, due);
    assert!(asking.steps.is_empty() && asking.wake_at.is_none(), "{asking:?}");
    observed.class = None;
    observed.resolution.running = false;
    assert_eq!(checks(&observed, due), [""; 0], "there is no class to say what may be asked");
}

#[test]
fn what_is_pinned_is_never_asked() {
    let (mut observed, _) = followed();
    Arc::make_mut(observed.distribution.as_mut().unwrap()).spec.update.kind = UpdateType::Pinned;
    observed.following.due = Some(now());
    assert!(plan(&observed, now()).steps.is_empty());
    found(&mut observed, 'b');
    let planned = plan(&observed, now());
    assert!(planned.steps.is_empty() && planned.origin_done, "nor is what a check still brings: {planned:?}");
}

#[test]
fn another_is_read_while_the_old_one_stays_until_it_is_everywhere() {
    let (mut observed, old) = followed();
    found(&mut observed, 'b');
    settle(&mut observed);
    let new = observed.revisions.iter().find(|revision| revision.spec.policy.current).unwrap().name_any();
    assert_ne!(new, old);
    assert_eq!(of(&observed, &new).spec.policy.fetchers.len(), 1);
    assert!(!of(&observed, &old).annotations().contains_key(SOURCE_HASH_ANNOTATION));
    assert_eq!(status(&observed).previous_revision.unwrap().id, old);
    is(&observed, "Resolved", "True", "Resolved");
    is(&observed, "Built", "False", "Fetching");
    observed.following.due = Some(now());
    assert_eq!(checks(&observed, now()), [""; 0], "what was found is read first");

    observed.revisions.reverse();
    assert_eq!(build(&mut observed), new);
    reports(&mut observed.nodes[0], &new, NodePhase::Ready, None);
    settle(&mut observed);
    assert_eq!(observed.revisions.len(), 2, "a node has nothing else yet");
    assert_eq!(checks(&observed, now()), [""; 0], "it is being asked");
    observed.resolution = Resolution::default();
    assert_eq!(checks(&observed, now()), ["b".repeat(64)]);
    ready(&mut observed, &new);
    observed.following.due = Some(now() + SignedDuration::from_mins(10));
    settle(&mut observed);
    assert_eq!(observed.revisions.len(), 1);
    is(&observed, "Ready", "True", "AllNodesReady");
}

#[test]
fn what_is_again_what_it_was_before_is_not_read_again() {
    let (mut observed, first) = followed();
    found(&mut observed, 'b');
    settle(&mut observed);
    observed.revisions.reverse();
    let second = build(&mut observed);
    reports(&mut observed.nodes[0], &second, NodePhase::Ready, None);
    observed.resolution = Resolution::default();
    settle(&mut observed);
    found(&mut observed, 'a');
    let planned = plan(&observed, now());
    assert!(!planned.origin_done, "the answer is kept until it is written");
    assert!(!planned.steps.iter().any(|step| matches!(step, Step::Elect { .. })), "{:?}", planned.steps);
    settle(&mut observed);
    assert!(of(&observed, &first).spec.policy.current && !of(&observed, &second).spec.policy.current);
    assert!(plan(&observed, now()).origin_done);
    ready(&mut observed, &first);
    settle(&mut observed);
    assert_eq!(observed.revisions.len(), 1);
}

#[test]
fn what_cannot_be_asked_stays_ready_and_is_told_once() {
    let (mut observed, _) = followed();
    observed.following.failure = Some(Failure::new("OriginUnavailable", "the registry answered 503"));
    observed.following.due = Some(now() + SignedDuration::from_mins(1));
    let steps = plan(&observed, now()).steps;
    let told: Vec<_> =
        steps.iter().filter_map(|s| if let Step::Tell(note) = s { Some(note) } else { None }).collect();
    assert!(told[0].warning && told[0].reason == "UpdateCheckFailed", "{told:?}");
    assert!(told[0].message.ends_with("the registry answered 503"), "{told:?}");
    assert_eq!(settle(&mut observed), 1);
    is(&observed, "Resolved", "True", "UpdateCheckFailed");
    is(&observed, "Ready", "True", "AllNodesReady");
    is(&observed, "Stalled", "False", "NotStalled");
    observed.following.failure = None;
    assert_eq!(settle(&mut observed), 1);
    is(&observed, "Resolved", "True", "Resolved");
}

#[test]
fn what_cannot_be_read_is_asked_whether_it_is_another_by_now() {
    let mut observed = seen(1);
    track(&mut observed);
    observed.following.due = Some(now());
    settle(&mut observed);
    let name = observed.revisions[0].name_any();
    assert_eq!(checks(&observed, now()), [""; 0], "it is being read");
    let election = observed.elections.get_mut(&name).unwrap();
    election.open("node-0000", "1".into(), None, now()).unwrap();
    election.fail("node-0000", "1", Failure::new("OriginUnavailable", "500"), 0.0, now()).unwrap();
    assert_eq!(checks(&observed, now()), ["a".repeat(64)]);
    found(&mut observed, 'b');
    settle(&mut observed);
    assert_eq!(observed.revisions.len(), 1, "nobody has anything of the first");
    assert_ne!(observed.revisions[0].name_any(), name);
}

#[test]
fn a_tag_that_is_followed_is_looked_up_anew_whatever_it_is_resolved_for() {
    let mut observed = seen(1);
    let distribution = Arc::make_mut(observed.distribution.as_mut().unwrap());
    distribution.spec.source = parse(json!({"image": {"reference": "r.example/a:1"}}));
    let digest = format!("sha256:{}", "d".repeat(64));
    let image = json!({
        "reference": "r.example/a:1", "digest": digest, "mediaType": "m", "manifests": [],
        "access": "Cluster", "materialize": "Image", "pin": false,
    });
    let resolved = Resolved { image: Some(parse(image)), ..resolved('a', 1000) };
    let source_hash = source_hash(&distribution.spec);
    observed.resolution = Resolution { source_hash, resolved: Some(resolved), ..Resolution::default() };
    settle(&mut observed);
    let pinned = |observed: &Observed| pinned_digest(observed, observed.distribution.as_ref().unwrap());
    assert_eq!(pinned(&observed), Some(digest));
    track(&mut observed);
    assert_eq!(pinned(&observed), None);
}

#[test]
fn what_says_itself_what_it_is_is_not_followed() {
    let every = |source: Value, expected: Option<String>| {
        let spec = json!({"source": source, "update": {"type": "Track", "interval": "5m"}, "expectedDigest": expected});
        super::super::followed(&parse(json!({"metadata": {"name": "d"}, "spec": spec})))
    };
    let digest = format!("sha256:{}", "a".repeat(64));
    let minutes = Some(SignedDuration::from_mins(5));
    let image = |reference: &str| json!({"image": {"reference": reference}});
    assert_eq!(every(image("r.example/a:1"), None), minutes);
    assert_eq!(every(image("r.example/a"), None), minutes, "latest");
    assert_eq!(every(image(&format!("r.example/a:1@{digest}")), None), None);
    let open = json!({"url": "http://h/a"});
    let declared = json!({"url": "http://h/b", "sha256": "b".repeat(64)});
    assert_eq!(every(json!({"http": {"files": [open, declared]}}), None), minutes);
    assert_eq!(every(json!({"http": {"files": [declared]}}), None), None);
    assert_eq!(every(json!({"http": {"manifestURL": "http://h/m"}}), None), minutes);
    assert_eq!(every(json!({"http": {"files": [open]}}), Some(digest)), None);
}
