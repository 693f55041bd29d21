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
    let node = election.fetcher.clone().unwrap();
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
