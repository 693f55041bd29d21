//! Tables: what is seen, and what is then done.

mod clocks;
mod following;
mod ingest;
mod lost;
mod platforms;
mod replaced;
mod room;

use std::sync::Arc;

use crds::{DistributionRevision, NodePhase};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::*;
use crate::grants::Built;
use crate::outline::Name;
use crate::resolve::source_hash;

const UID: &str = "11111111-2222-3333-4444-555555555555";

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn resolved(pin: char, bytes: u64) -> Resolved {
    Resolved::new(pin.to_string().repeat(64), Vec::new(), bytes, None)
}

/// A `Distribution` with its finalizer and its source resolved, and so many nodes.
fn seen(nodes: usize) -> Observed {
    let distribution: Distribution = parse(json!({
        "metadata": {"name": "data", "namespace": "default", "uid": UID, "generation": 1, "finalizers": [FINALIZER]},
        "spec": {"source": {"http": {"files": [{"url": "http://h/f"}]}}},
    }));
    let class = json!({"metadata": {"name": "default", "uid": "c"}, "spec": {"root": "/var/lib/samara"}});
    Observed {
        resolution: Resolution {
            source_hash: source_hash(&distribution.spec),
            resolved: Some(resolved('a', 1000)),
            ..Resolution::default()
        },
        distribution: Some(Arc::new(distribution)),
        class: Some(Arc::new(parse(class))),
        nodes: (0..nodes).map(node).collect(),
        ..Observed::default()
    }
}

fn node(number: usize) -> NodeView {
    let name = format!("node-{number:04}");
    let facts = NodeFacts { name: name.clone(), ready: true, ..NodeFacts::default() };
    let pod = SidecarPod { node: name, ready: true, ..SidecarPod::default() };
    NodeView { facts: Arc::new(facts), pod: Some(Arc::new(pod)), report: None }
}

fn lost(view: &mut NodeView, seconds: i64) {
    let facts = Arc::make_mut(&mut view.facts);
    facts.ready = false;
    facts.since = Some(now() - SignedDuration::from_secs(seconds));
}

fn reports(view: &mut NodeView, revision: &str, phase: NodePhase, reason: Option<&str>) {
    view.report = Some(Arc::new(parse(json!({
        "metadata": {"name": view.facts.name},
        "spec": {"className": "default"},
        "status": {"revisions": [{
            "revision": revision, "phase": phase, "reason": reason, "message": reason.map(|_| "do something about it"),
            "originBytes": 0, "peerBytes": 10, "since": "2026-01-01T00:00:00Z",
        }]},
    }))));
}

/// Does what a plan says, as the API server and the ledger would.
fn carry_out(observed: &mut Observed, steps: Vec<Step>) {
    for step in steps {
        match step {
            Step::CreateRevision(mut revision) => {
                revision.metadata.uid = Some(format!("uid of {}", revision.name_any()));
                revision.metadata.resource_version = Some("1".into());
                observed.revisions.push(Arc::new(*revision));
            }
            Step::UpdateRevision(updated) => {
                for revision in &mut observed.revisions {
                    if revision.name_any() == updated.name_any() {
                        *revision = Arc::new(DistributionRevision::clone(&updated));
                    }
                }
            }
            Step::DeleteRevision { name, .. } => {
                observed.revisions.retain(|revision| revision.name_any() != name);
            }
            Step::Elect { revision, fetchers, witness } => {
                let election = observed.elections.entry(revision).or_default();
                election.elect(&fetchers, now());
                election.appoint(witness.as_deref(), now());
            }
            Step::WriteStatus(status) => {
                Arc::make_mut(observed.distribution.as_mut().unwrap()).status = Some(*status);
            }
            Step::Resolve | Step::Check(_) => observed.resolution.running = true,
            Step::Outline { revision, epoch, key } => {
                let id = torrent::IngestId::of(format!("{revision} {epoch} {key}").as_bytes());
                observed.outlines.insert(revision, Outlined { epoch, key, name: Name::Known(id) });
            }
            Step::AddFinalizer | Step::RemoveFinalizer | Step::DeleteOrphan(_) | Step::Tell(_) => {}
        }
    }
}

/// Plans and does until there is nothing to do, and says how often that was.
fn settle(observed: &mut Observed) -> usize {
    for round in 0..10 {
        let steps = plan(observed, now()).steps;
        if steps.is_empty() {
            return round;
        }
        carry_out(observed, steps);
    }
    panic!("it does not come to rest: {:?}", plan(observed, now()).steps);
}

/// Has the content of the only revision built.
fn build(observed: &mut Observed) -> String {
    let name = observed.revisions[0].name_any();
    observed.elections.get_mut(&name).unwrap().built = Some(Built {
        torrent: crds::Torrent { info_hash_v1: None, info_hash_v2: Some("b".repeat(64)), bytes: 1000 },
        manifest_digest: "c".repeat(64),
    });
    settle(observed);
    observed.elections.clear();
    name
}

fn status(observed: &Observed) -> DistributionStatus {
    observed.distribution.as_ref().unwrap().status.clone().unwrap()
}

fn condition(observed: &Observed, kind: &str) -> (String, String) {
    let conditions = status(observed).conditions;
    let found = conditions.into_iter().find(|condition| condition.type_ == kind).unwrap();
    (found.status, found.reason)
}

fn is(observed: &Observed, kind: &str, expected: &str, reason: &str) {
    assert_eq!(condition(observed, kind), (expected.to_owned(), reason.to_owned()), "{kind}");
}

#[test]
fn a_new_one_gets_its_finalizer_before_anything_else() {
    let mut observed = seen(3);
    Arc::make_mut(observed.distribution.as_mut().unwrap()).metadata.finalizers = None;
    assert!(matches!(plan(&observed, now()).steps[..], [Step::AddFinalizer]));
}

#[test]
fn it_settles_at_every_stage_and_then_does_nothing() {
    let mut observed = seen(3);
    assert!(settle(&mut observed) <= 3);
    is(&observed, "Built", "False", "Fetching");
    assert_eq!(observed.revisions[0].spec.policy.fetchers.len(), 1);
    let name = build(&mut observed);
    assert!(observed.revisions[0].spec.policy.fetchers.is_empty());
    is(&observed, "Available", "False", "NoWholeCopy");
    is(&observed, "Progressing", "True", "Distributing");
    for view in &mut observed.nodes {
        reports(view, &name, NodePhase::Ready, None);
    }
    settle(&mut observed);
    is(&observed, "Ready", "True", "AllNodesReady");
    is(&observed, "Stalled", "False", "NotStalled");
    assert_eq!(status(&observed).ready.as_deref(), Some("3/3"));
    for minutes in [0, 1, 60] {
        let later = now() + SignedDuration::from_mins(minutes);
        let plan = plan(&observed, later);
        assert!(plan.steps.is_empty() && plan.wake_at.is_none(), "{plan:?}");
    }
}

#[test]
fn a_dead_node_blocks_nobody() {
    for (seconds, ready, wakes) in [(59, "False", true), (61, "True", false)] {
        let mut observed = seen(3);
        settle(&mut observed);
        let name = build(&mut observed);
        for view in &mut observed.nodes[1..] {
            reports(view, &name, NodePhase::Ready, None);
        }
        lost(&mut observed.nodes[0], seconds);
        settle(&mut observed);
        assert_eq!(condition(&observed, "Ready").0, ready, "{seconds} s");
        assert_eq!(plan(&observed, now()).wake_at.is_some(), wakes, "it looks again when the minute is over");
        let counts = status(&observed).nodes.unwrap();
        assert_eq!(
            counts.desired,
            counts.ready + counts.active + counts.pending + counts.failed + counts.unreachable
        );
    }
    let mut observed = seen(1);
    lost(&mut observed.nodes[0], 100);
    settle(&mut observed);
    is(&observed, "Stalled", "True", "NodesUnreachable");
}

#[test]
fn without_nodes_it_says_so() {
    let mut observed = seen(0);
    settle(&mut observed);
    is(&observed, "Ready", "False", "NoNodesSelected");
    is(&observed, "Stalled", "True", "NoNodesSelected");
    is(&observed, "Built", "False", "NoFetcher");
}

#[test]
fn a_status_is_small_at_any_size() {
    let mut observed = seen(5000);
    settle(&mut observed);
    let name = build(&mut observed);
    for (number, view) in observed.nodes.iter_mut().enumerate() {
        let reason = format!("Reason{}", number % 40);
        reports(view, &name, NodePhase::Failed, Some(&reason));
        let report = Arc::make_mut(view.report.as_mut().unwrap());
        report.status.as_mut().unwrap().revisions[0].message = Some("ä".repeat(128));
    }
    settle(&mut observed);
    let status = status(&observed);
    assert_eq!(status.failures.len(), 10);
    assert_eq!(status.failures[0].count, 125);
    assert_eq!(status.nodes.as_ref().unwrap().failed, 5000);
    let bytes = serde_json::to_vec(&status).unwrap().len();
    assert!(bytes < 5 << 10, "{bytes} bytes");
}

#[test]
fn conditions_are_written_at_once_and_counts_now_and_then() {
    let mut observed = seen(3);
    settle(&mut observed);
    let name = build(&mut observed);
    reports(&mut observed.nodes[0], &name, NodePhase::Ready, None);
    settle(&mut observed);
    assert_eq!(condition(&observed, "Available").0, "True", "a condition has changed");
    reports(&mut observed.nodes[1], &name, NodePhase::Ready, None);
    let soon = now() + SignedDuration::from_secs(3);
    let waiting = plan(&observed, soon);
    assert!(waiting.steps.is_empty(), "a count has changed: {waiting:?}");
    let due = now() + PROGRESS_EVERY;
    assert_eq!(waiting.wake_at, Some(due));
    assert!(matches!(plan(&observed, due).steps[..], [Step::WriteStatus(_)]));
    reports(&mut observed.nodes[2], &name, NodePhase::Ready, None);
    assert!(
        plan(&observed, soon).steps.iter().any(|step| matches!(step, Step::WriteStatus(_))),
        "Ready comes at once"
    );
}

#[test]
fn transition_times_move_with_the_status_only() {
    let mut observed = seen(1);
    settle(&mut observed);
    let before = status(&observed).conditions;
    observed.resolution.failure = Some(Failure::new("OriginUnavailable", "no"));
    let later = now() + SignedDuration::from_mins(5);
    let steps = plan(&observed, later).steps;
    carry_out(&mut observed, steps);
    let stalled = |conditions: &[Condition]| {
        conditions.iter().find(|condition| condition.type_ == "Stalled").unwrap().clone()
    };
    let after = status(&observed).conditions;
    assert_eq!(stalled(&after).last_transition_time.0, later);
    let built = |conditions: &[Condition]| conditions[1].last_transition_time.clone();
    assert_eq!(built(&before), built(&after), "Built was False and is");
}

#[test]
fn a_built_revision_needs_no_origin() {
    let mut observed = seen(2);
    settle(&mut observed);
    let name = build(&mut observed);
    for view in &mut observed.nodes {
        reports(view, &name, NodePhase::Ready, None);
    }
    settle(&mut observed);
    observed.resolution = Resolution::default();
    observed.resolution.failure = Some(Failure::new("OriginUnavailable", "of no interest any more"));
    assert!(
        plan(&observed, now()).steps.is_empty(),
        "an operator that starts anew with a dead origin has nothing to do"
    );
}

#[test]
fn an_edit_resolves_first_and_keeps_serving_what_is_there() {
    let mut observed = seen(2);
    settle(&mut observed);
    let old = build(&mut observed);
    for view in &mut observed.nodes {
        reports(view, &old, NodePhase::Ready, None);
    }
    settle(&mut observed);
    let distribution = Arc::make_mut(observed.distribution.as_mut().unwrap());
    distribution.metadata.generation = Some(2);
    distribution.spec.source.http.as_mut().unwrap().files[0].url = "http://h/g".into();
    let hash = source_hash(&distribution.spec);
    settle(&mut observed);
    assert!(observed.resolution.running);
    is(&observed, "Ready", "False", "NotBuilt");
    is(&observed, "Resolved", "False", "Resolving");
    assert!(observed.revisions[0].spec.policy.current, "what is there is served");
    assert_eq!(status(&observed).observed_generation, Some(2));

    observed.resolution =
        Resolution { source_hash: hash, resolved: Some(resolved('d', 5)), ..Resolution::default() };
    settle(&mut observed);
    assert_eq!(observed.revisions.len(), 2);
    let current: Vec<bool> = observed.revisions.iter().map(|revision| revision.spec.policy.current).collect();
    assert_eq!(current, [false, true]);
    assert_eq!(status(&observed).previous_revision.unwrap().id, old);

    // Edited back before anyone had read the new one: it goes, and nothing was lost.
    let distribution = Arc::make_mut(observed.distribution.as_mut().unwrap());
    distribution.spec.source.http.as_mut().unwrap().files[0].url = "http://h/f".into();
    settle(&mut observed);
    assert_eq!(observed.revisions.len(), 1);
    is(&observed, "Ready", "True", "AllNodesReady");
}

#[test]
fn the_same_content_under_another_url_is_the_same_revision() {
    let mut observed = seen(1);
    settle(&mut observed);
    let name = build(&mut observed);
    let distribution = Arc::make_mut(observed.distribution.as_mut().unwrap());
    distribution.spec.source.http.as_mut().unwrap().files[0].url = "http://mirror/f".into();
    observed.resolution.source_hash = source_hash(&distribution.spec);
    settle(&mut observed);
    assert_eq!(observed.revisions.len(), 1);
    assert_eq!(observed.revisions[0].name_any(), name);
    let hash = &observed.revisions[0].annotations()[SOURCE_HASH_ANNOTATION];
    assert_eq!(hash, &observed.resolution.source_hash);
}

#[test]
fn deletion_waits_for_live_holders_and_twenty_seconds() {
    let mut observed = seen(2);
    settle(&mut observed);
    let name = build(&mut observed);
    for view in &mut observed.nodes {
        reports(view, &name, NodePhase::Ready, None);
    }
    let asked = json!((now() - SignedDuration::from_secs(5)).to_string());
    Arc::make_mut(observed.distribution.as_mut().unwrap()).metadata.deletion_timestamp = Some(parse(asked));
    settle(&mut observed);
    assert!(observed.revisions[0].spec.policy.deleting);
    let waiting = plan(&observed, now());
    assert_eq!(waiting.wake_at, Some(now() + SignedDuration::from_secs(15)));
    let goes = |observed: &Observed, at| {
        matches!(plan(observed, at).steps[..], [Step::DeleteRevision { .. }, Step::RemoveFinalizer])
    };
    assert!(goes(&observed, now() + SignedDuration::from_secs(15)), "not for ever");
    observed.nodes[0].report = None;
    assert!(!goes(&observed, now()));
    Arc::make_mut(observed.nodes[1].pod.as_mut().unwrap()).ready = false;
    assert!(goes(&observed, now()), "a sidecar that is not there is not waited for");
    observed.class = None;
    assert!(goes(&observed, now()), "nor is a class needed");
}

#[test]
fn what_belongs_to_others_is_only_deleted_when_its_owner_is_gone() {
    let mut observed = seen(1);
    settle(&mut observed);
    let mut foreign = DistributionRevision::clone(&observed.revisions[0]);
    foreign.spec.distribution.uid = "another".into();
    foreign.metadata.name = Some("foreign".into());
    observed.revisions.push(Arc::new(foreign));
    let steps = plan(&observed, now()).steps;
    assert!(
        matches!(&steps[..], [Step::DeleteOrphan(orphan)] if orphan.name_any() == "foreign"),
        "{steps:?}"
    );
    Arc::make_mut(observed.class.as_mut().unwrap()).spec.retire = Some(crds::Retire::Keep);
    assert!(
        matches!(plan(&observed, now()).steps[..], [Step::RemoveFinalizer]),
        "nothing is deleted on the way out"
    );
    observed.distribution = None;
    assert!(plan(&observed, now()).steps.is_empty());
}

#[test]
fn turns_become_few_events() {
    let mut observed = seen(1);
    let mut told = Vec::new();
    for _ in 0..5 {
        let steps = plan(&observed, now()).steps;
        told.extend(steps.iter().filter_map(|step| match step {
            Step::Tell(note) => Some((note.warning, note.reason.clone())),
            _ => None,
        }));
        carry_out(&mut observed, steps);
    }
    assert_eq!(told, [(false, "RevisionCurrent".to_owned())]);
}
