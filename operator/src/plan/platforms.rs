//! The platforms of an image whose source leaves them open (`Auto`): those of the nodes. A revision keeps for which it was looked
//! for, and they only grow: a node of another kind makes the image be looked for once more, at the digest that it has; neither
//! a node that goes nor another operator makes it anything else.

use std::collections::BTreeSet;

use crds::{Distribution, DistributionRevision, ImageSource};
use jiff::Timestamp;
use kube::ResourceExt;
use origin::registry::Platform;

use super::nodes::Crowd;
use super::revisions::SOURCE_HASH_ANNOTATION;
use super::{Observed, Resolution};
use crate::resolve::source_hash;

/// On a revision: for which platforms of nodes its image was looked for, joined by commas. What it has for them stands in its
/// `content.image.manifests`.
pub const PLATFORMS_ANNOTATION: &str = "samara.dev/platforms";

/// What the image is to be looked for for: what the nodes are that are to have it, and what was looked for before.
pub fn wanted_platforms(
    observed: &Observed,
    distribution: &Distribution,
    now: Timestamp,
) -> BTreeSet<String> {
    let hash = source_hash(&distribution.spec);
    let own = observed.revisions.iter().filter(|revision| {
        Some(&revision.spec.distribution.uid) == distribution.metadata.uid.as_ref()
            && revision.annotations().get(SOURCE_HASH_ANNOTATION) == Some(&hash)
    });
    let before = own.flat_map(|revision| looked_for(revision));
    let crowd = Crowd::new(observed, &distribution.spec.placement, now);
    crowd.platforms().map(str::to_owned).chain(before).collect()
}

/// The platforms of nodes for which a revision's image has not been looked for yet. None where its digest is declared: more of it would
/// be another.
pub fn unknown(
    distribution: &Distribution,
    revision: &DistributionRevision,
    crowd: &Crowd<'_>,
) -> BTreeSet<String> {
    let auto = distribution.spec.source.image.as_ref().is_some_and(ImageSource::is_auto);
    if !auto || distribution.spec.expected_digest.is_some() {
        return BTreeSet::new();
    }
    let known = looked_for(revision);
    let kinds: Vec<Platform> = known.iter().filter_map(|one| Platform::parse(one)).collect();
    // One that says something odd of itself is known by that.
    let is_known = |one: &str| {
        known.contains(one)
            || Platform::parse(one).is_some_and(|one| kinds.iter().any(|kind| kind.is_like(&one)))
    };
    crowd.platforms().filter(|one| !is_known(one)).map(str::to_owned).collect()
}

/// The revision with what its image was looked for for, where it is what was found.
pub fn take_down(revision: &mut DistributionRevision, resolution: &Resolution) {
    let found = resolution.resolved.as_ref().filter(|found| found.pin == revision.spec.content.pin);
    if found.is_some_and(|found| found.image.is_some()) && !resolution.platforms.is_empty() {
        let all: Vec<&str> = resolution.platforms.iter().map(String::as_str).collect();
        revision.annotations_mut().insert(PLATFORMS_ANNOTATION.to_owned(), all.join(","));
    }
}

/// A revision of an operator that took nothing down was looked for for what it has.
fn looked_for(revision: &DistributionRevision) -> BTreeSet<String> {
    if let Some(known) = revision.annotations().get(PLATFORMS_ANNOTATION) {
        return known.split(',').map(str::to_owned).collect();
    }
    let manifests = revision.spec.content.image.iter().flat_map(|image| &image.manifests);
    let platforms = manifests.filter_map(|manifest| Platform::parse(&manifest.platform));
    // Nodes do not tell their variant.
    platforms.map(|platform| platform.without_variant().to_string()).collect()
}
