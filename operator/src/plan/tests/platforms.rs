//! Images whose platforms are those of the nodes.

use std::collections::BTreeSet;

use super::*;

fn kind(view: &mut NodeView, platform: &str) {
    Arc::make_mut(&mut view.facts).platform = Some(platform.to_owned());
}

fn set(platforms: &[&str]) -> BTreeSet<String> {
    platforms.iter().map(|&platform| platform.to_owned()).collect()
}

/// What a registry gives for these platforms of nodes.
fn found(observed: &mut Observed, pin: char, has: &[&str], nodes: &[&str]) {
    let manifests: Vec<Value> = has
        .iter()
        .map(|platform| json!({"platform": platform, "digest": format!("sha256:{}", "a".repeat(64)), "mediaType": "m"}))
        .collect();
    let image = json!({
        "reference": "r.example/a:1", "digest": format!("sha256:{}", "d".repeat(64)), "mediaType": "m", "manifests": manifests,
        "access": "Cluster", "materialize": "Image", "pin": false,
    });
    let hash = source_hash(&observed.distribution.as_ref().unwrap().spec);
    observed.resolution = Resolution {
        source_hash: hash,
        resolved: Some(Resolved { image: Some(parse(image)), ..resolved(pin, 1000) }),
        platforms: set(nodes),
        ..Resolution::default()
    };
}

/// An image that is built and on its only node, an amd64.
fn image() -> Observed {
    let mut observed = seen(1);
    let distribution = Arc::make_mut(observed.distribution.as_mut().unwrap());
    distribution.spec.source = parse(json!({"image": {"reference": "r.example/a:1"}}));
    kind(&mut observed.nodes[0], "linux/amd64");
    found(&mut observed, 'a', &["linux/amd64"], &["linux/amd64"]);
    settle(&mut observed);
    let name = build(&mut observed);
    reports(&mut observed.nodes[0], &name, NodePhase::Ready, None);
    settle(&mut observed);
    // As the ledger drops what nobody reads, or another operator begins.
    observed.resolution = Resolution::default();
    observed
}

fn join(observed: &mut Observed, platform: &str) {
    let mut joined = node(observed.nodes.len());
    kind(&mut joined, platform);
    observed.nodes.push(joined);
}

#[test]
fn another_operator_or_another_node_of_the_same_kind_asks_no_registry() {
    let mut observed = image();
    let annotation = &observed.revisions[0].annotations()[PLATFORMS_ANNOTATION];
    assert_eq!(annotation, "linux/amd64");
    join(&mut observed, "linux/amd64");
    settle(&mut observed);
    assert!(!observed.resolution.running);
    assert!(plan(&observed, now()).origin_done);
}

#[test]
fn a_node_of_another_kind_has_the_image_looked_for_once_and_gets_what_there_is() {
    let mut observed = image();
    join(&mut observed, "linux/arm64");
    settle(&mut observed);
    assert!(observed.resolution.running, "it is looked for");
    let wanted = wanted_platforms(&observed, observed.distribution.as_ref().unwrap(), now());
    assert_eq!(wanted, set(&["linux/amd64", "linux/arm64"]));
    is(&observed, "Resolved", "True", "Resolved");
    let planned = plan(&observed, now());
    assert!(!planned.origin_done, "what comes is not dropped");
    assert!(observed.revisions[0].spec.policy.fetchers.is_empty(), "nobody reads what is there again");

    let both = ["linux/amd64", "linux/arm64"];
    found(&mut observed, 'b', &both, &both);
    settle(&mut observed);
    assert_eq!(observed.revisions.len(), 2);
    let newer = observed.revisions.iter().find(|revision| revision.spec.policy.current).unwrap();
    assert_eq!(newer.spec.content.image.as_ref().unwrap().manifests.len(), 2);
    assert_eq!(newer.annotations()[PLATFORMS_ANNOTATION], "linux/amd64,linux/arm64");

    // The node goes before it is read, and another operator begins: it stays what it is.
    observed.nodes.pop();
    let wanted = wanted_platforms(&observed, observed.distribution.as_ref().unwrap(), now());
    assert_eq!(wanted, set(&both));
}

#[test]
fn an_image_that_is_not_there_for_a_node_is_looked_for_once() {
    let mut observed = image();
    join(&mut observed, "linux/s390x");
    settle(&mut observed);
    assert!(observed.resolution.running);
    found(&mut observed, 'a', &["linux/amd64"], &["linux/amd64", "linux/s390x"]);
    settle(&mut observed);
    assert_eq!(observed.revisions.len(), 1, "it is the same");
    assert_eq!(observed.revisions[0].annotations()[PLATFORMS_ANNOTATION], "linux/amd64,linux/s390x");
    observed.resolution = Resolution::default();
    settle(&mut observed);
    assert!(!observed.resolution.running);
    assert!(plan(&observed, now()).origin_done);
}

#[test]
fn a_registry_that_is_away_leaves_what_is_there_as_it_is() {
    let mut observed = image();
    join(&mut observed, "linux/arm64");
    settle(&mut observed);
    let retry_at = now() + SignedDuration::from_secs(8);
    observed.resolution = Resolution {
        source_hash: source_hash(&observed.distribution.as_ref().unwrap().spec),
        failure: Some(Failure::new("OriginUnavailable", "no")),
        retry_at: Some(retry_at),
        ..Resolution::default()
    };
    settle(&mut observed);
    assert!(!observed.resolution.running, "it is left alone for a while");
    assert_eq!(plan(&observed, now()).wake_at, Some(retry_at));
    is(&observed, "Resolved", "True", "Resolved");
    assert!(plan(&observed, retry_at).steps.iter().any(|step| matches!(step, Step::Resolve)));
}

#[test]
fn platforms_that_are_named_are_no_business_of_the_nodes() {
    let mut observed = image();
    let distribution = Arc::make_mut(observed.distribution.as_mut().unwrap());
    distribution.spec.source.image.as_mut().unwrap().platforms = vec!["linux/amd64".to_owned()];
    found(&mut observed, 'a', &["linux/amd64"], &[]);
    settle(&mut observed);
    observed.resolution = Resolution::default();
    join(&mut observed, "linux/arm64");
    settle(&mut observed);
    assert!(!observed.resolution.running);
}

#[test]
fn content_whose_digest_is_declared_stays_what_it_is() {
    let mut observed = image();
    let distribution = Arc::make_mut(observed.distribution.as_mut().unwrap());
    distribution.spec.expected_digest = Some(format!("sha256:{}", "c".repeat(64)));
    join(&mut observed, "linux/arm64");
    settle(&mut observed);
    assert!(!observed.resolution.running);
    is(&observed, "Built", "True", "Built");
}

#[test]
fn a_revision_of_an_older_operator_was_looked_for_for_what_it_has() {
    let mut observed = image();
    let revision = Arc::make_mut(&mut observed.revisions[0]);
    revision.annotations_mut().remove(PLATFORMS_ANNOTATION);
    Arc::make_mut(&mut observed.revisions[0]).spec.content.image.as_mut().unwrap().manifests[0].platform =
        "linux/amd64/v2".to_owned();
    settle(&mut observed);
    assert!(!observed.resolution.running);
}
