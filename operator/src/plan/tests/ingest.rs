//! Content that is shared while it is read.

use torrent::ingest::SigningKey;

use super::*;

fn key(seed: u8) -> PublicKey {
    SigningKey::from_seed(&[seed; 32]).public()
}

/// As [`seen`], with a key.
fn seen_with_key(nodes: usize) -> Observed {
    Observed { ingest_key: Some(key(1)), ..seen(nodes) }
}

fn ingest(observed: &Observed) -> Option<crds::Ingest> {
    observed.revisions[0].spec.policy.ingest.clone()
}

/// Who was elected gets its grant and has read so much.
fn reads(observed: &mut Observed, bytes: u64) {
    let epoch = ingest(observed).map(|ingest| ingest.epoch);
    let election = observed.elections.values_mut().next().unwrap();
    let node = election.fetchers().remove(0);
    election.open(&node, "1".into(), epoch, now()).unwrap();
    let said = operator_api::Progress { grant: "1".into(), bytes, origin_bytes: bytes, worked: bytes };
    election.progress(&node, &said, now()).unwrap();
}

#[test]
fn nobody_is_told_to_read_before_it_has_a_name() {
    let mut observed = seen_with_key(2);
    let steps = plan(&observed, now()).steps;
    carry_out(&mut observed, steps);
    let steps = plan(&observed, now()).steps;
    let [Step::Outline { revision, epoch: 0, .. }, ..] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(*revision, observed.revisions[0].name_any());
    let pending = Outlined { epoch: 0, key: key(1), name: Name::Pending };
    observed.outlines.insert(revision.clone(), pending);
    let waiting = plan(&observed, now()).steps;
    assert!(
        !waiting.iter().any(|step| matches!(step, Step::Outline { .. } | Step::Elect { .. })),
        "{waiting:?}"
    );
    observed.outlines.clear();
    let writes = |steps: &[Step]| steps.iter().filter(|step| matches!(step, Step::UpdateRevision(_))).count();
    let mut written = 0;
    for _ in 0..5 {
        let steps = plan(&observed, now()).steps;
        written += writes(&steps);
        carry_out(&mut observed, steps);
    }
    assert_eq!(written, 1, "name and fetcher in one write");
    assert_eq!(ingest(&observed).unwrap().epoch, 0);
    assert_eq!(observed.revisions[0].spec.policy.fetchers.len(), 1);
}

#[test]
fn the_name_stays_when_the_torrents_exist() {
    let mut observed = seen_with_key(2);
    settle(&mut observed);
    let named = ingest(&observed);
    assert!(named.is_some());
    build(&mut observed);
    assert_eq!(ingest(&observed), named);
    observed.ingest_key = Some(key(2));
    observed.outlines.clear();
    settle(&mut observed);
    assert_eq!(ingest(&observed), named, "also when the key is another by now");
}

#[test]
fn an_operator_that_starts_anew_finds_the_same_name() {
    let mut observed = seen_with_key(2);
    settle(&mut observed);
    let (named, fetchers) = (ingest(&observed), observed.revisions[0].spec.policy.fetchers.clone());
    observed.outlines.clear();
    observed.elections.clear();
    let steps = plan(&observed, now()).steps;
    assert!(!steps.iter().any(|step| matches!(step, Step::UpdateRevision(_))), "{steps:?}");
    settle(&mut observed);
    assert_eq!((ingest(&observed), &observed.revisions[0].spec.policy.fetchers), (named.clone(), &fetchers));
    observed.ingest_key = Some(key(2));
    settle(&mut observed);
    assert_ne!(ingest(&observed), named, "nobody has the old key any more");
}

#[test]
fn what_cannot_be_shared_before_it_is_whole_is_fetched_whole() {
    let mut without_key = seen(2);
    settle(&mut without_key);
    let mut v1 = seen_with_key(2);
    let distribution = Arc::make_mut(v1.distribution.as_mut().unwrap());
    distribution.spec.torrent.version = crds::TorrentVersion::V1;
    v1.resolution.source_hash = source_hash(&distribution.spec);
    settle(&mut v1);
    let mut impossible = seen_with_key(2);
    let steps = plan(&impossible, now()).steps;
    carry_out(&mut impossible, steps);
    let outlined = Outlined { epoch: 0, key: key(1), name: Name::Impossible };
    impossible.outlines.insert(impossible.revisions[0].name_any(), outlined);
    settle(&mut impossible);
    for observed in [without_key, v1, impossible] {
        assert_eq!(ingest(&observed), None);
        assert_eq!(observed.revisions[0].spec.policy.fetchers.len(), 1);
        is(&observed, "Built", "False", "Fetching");
    }
}

#[test]
fn nodes_get_on_while_the_origin_is_read() {
    let mut observed = seen_with_key(2);
    settle(&mut observed);
    is(&observed, "Built", "False", "Fetching");
    reads(&mut observed, 600);
    let name = observed.revisions[0].name_any();
    let left = observed.nodes.iter().map(|node| (node.facts.name.clone(), 500)).collect();
    observed.swarms.insert(name, SwarmView { left, seeders: 0 });
    settle(&mut observed);
    is(&observed, "Built", "False", "Reading");
    is(&observed, "Progressing", "True", "Reading");
    is(&observed, "Available", "False", "NotBuilt");
    let status = status(&observed);
    assert_eq!(status.progress.unwrap().percent, 55, "the fetcher says more than the trackers know");
    let message = &status.conditions[1].message;
    assert_eq!(message, "600 of 1000 are read, by 1 node, and shared with the others");
}

/// Has the only revision's first fetcher report that what it reads is wrong.
fn is_wrong(observed: &mut Observed, reason: &str) {
    let election = observed.elections.values_mut().next().unwrap();
    let node = election.fetchers().remove(0);
    election.fail(&node, "1", Failure::new(reason, "why"), 0.0, now()).unwrap();
}

#[test]
fn wrong_bytes_are_read_anew_under_another_name() {
    let mut observed = seen_with_key(2);
    settle(&mut observed);
    let first = ingest(&observed).unwrap();
    reads(&mut observed, 600);
    settle(&mut observed);
    is_wrong(&mut observed, "DigestMismatch");
    observed.resolution.stale = true;
    let pause = now() + SignedDuration::from_secs(4);
    let waiting = plan(&observed, pause);
    assert!(!waiting.steps.iter().any(|step| matches!(step, Step::Outline { .. })), "the source is in doubt");
    observed.resolution.stale = false;
    settle(&mut observed);
    assert_eq!(ingest(&observed).as_ref(), Some(&first), "first a pause");
    assert_eq!(plan(&observed, now()).wake_at, Some(pause));
    is(&observed, "Stalled", "True", "DigestMismatch");
    let stalled = status(&observed).conditions[5].message.clone();
    assert_eq!(stalled, "reading anew: why");

    let mut told = Vec::new();
    for _ in 0..3 {
        let steps = plan(&observed, pause).steps;
        told.extend(steps.iter().filter_map(|step| match step {
            Step::Tell(note) => Some(note.clone()),
            _ => None,
        }));
        carry_out(&mut observed, steps);
    }
    let second = ingest(&observed).unwrap();
    assert_eq!(second.epoch, 1);
    assert_ne!(second.id, first.id);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].reason.as_str(), told[0].warning), ("ReadingAnew", true));
    assert_eq!(observed.revisions.len(), 1);

    // An operator that starts anew goes on from there.
    observed.elections.clear();
    observed.outlines.clear();
    settle(&mut observed);
    assert_eq!(ingest(&observed), Some(second));
}

#[test]
fn a_source_that_is_another_by_now_is_another_revision_and_no_other_epoch() {
    let mut observed = seen_with_key(2);
    settle(&mut observed);
    reads(&mut observed, 600);
    is_wrong(&mut observed, "SourceChanged");
    observed.resolution.resolved = Some(resolved('d', 5));
    settle(&mut observed);
    assert_eq!(observed.revisions.len(), 1);
    assert_eq!(observed.revisions[0].spec.content.bytes, 5);
    assert_eq!(ingest(&observed).unwrap().epoch, 0);
}

#[test]
fn several_read_what_is_shared_and_one_reads_what_is_not() {
    let several = |observed: &mut Observed, fetchers: Value, bytes: u64| {
        let distribution = Arc::make_mut(observed.distribution.as_mut().unwrap());
        distribution.spec.origin = parse(json!({ "fetchers": fetchers }));
        observed.resolution.resolved = Some(resolved('a', bytes));
        settle(observed);
        observed.revisions[0].spec.policy.fetchers.len()
    };
    for (fetchers, bytes, expected) in
        [(json!("Auto"), 1 << 40, 1), (json!(3), 1000, 3), (json!(8), 1 << 40, 5), (json!(1), 1 << 40, 1)]
    {
        assert_eq!(several(&mut seen_with_key(5), fetchers.clone(), bytes), expected, "{fetchers}");
        assert_eq!(several(&mut seen(5), fetchers, bytes), 1, "without a name each would read all of it");
    }
    let mut observed = seen_with_key(5);
    assert_eq!(several(&mut observed, json!(4), 1000), 4);
    assert_eq!(several(&mut observed, json!(2), 1000), 2, "an edit acts on what runs");
    let kept = observed.revisions[0].spec.policy.fetchers.clone();
    observed.elections.clear();
    settle(&mut observed);
    assert_eq!(observed.revisions[0].spec.policy.fetchers, kept);
}
