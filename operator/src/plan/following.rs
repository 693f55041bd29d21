//! A source that is followed: when it is asked again, and what becomes of the answer.

use crds::{Content, Distribution, DistributionRevision, Source};
use jiff::{SignedDuration, Timestamp};
use origin::registry::Reference;

use super::Observed;

/// How often the source of a `Distribution` is asked whether it is another. None if it is pinned, or says itself what it is for ever: by
/// the digest of an image, of all its files, or of the whole content.
pub fn followed(distribution: &Distribution) -> Option<SignedDuration> {
    let spec = &distribution.spec;
    let every = spec.update.every().filter(|_| spec.expected_digest.is_none() && may_move(&spec.source))?;
    SignedDuration::try_from(every).ok()
}

fn may_move(source: &Source) -> bool {
    if let Some(image) = &source.image {
        return Reference::parse(&image.reference).is_ok_and(|reference| reference.digest().is_none());
    }
    let open = |http: &crds::HttpSource| {
        http.manifest_url.is_some() || http.files.iter().any(|file| file.sha256.is_none())
    };
    source.http.as_ref().is_some_and(open)
}

/// Whether a source that is followed is another than what there is of it.
#[derive(Debug, Default)]
pub struct Followed {
    /// It is, and what it is now is known.
    pub moved: bool,
    /// It is to be asked.
    pub check: Option<Content>,
    /// When to look again.
    pub wake_at: Option<Timestamp>,
}

/// Looks at the checks. What there is of it is finished first: else a source that changes faster than it is read would never be there.
pub fn look(
    observed: &Observed,
    distribution: &Distribution,
    source_hash: &str,
    there: &DistributionRevision,
    now: Timestamp,
) -> Followed {
    let nothing = Followed::default();
    if observed.class.is_none() || followed(distribution).is_none() {
        return nothing;
    }
    let resolution = &observed.resolution;
    let fits = resolution.source_hash == source_hash && !resolution.stale;
    let found = resolution.resolved.as_ref().filter(|_| fits);
    if found.is_some_and(|found| found.pin != there.spec.content.pin) {
        return Followed { moved: true, ..nothing };
    }
    match observed.following.due {
        Some(due) if due > now => Followed { wake_at: Some(due), ..nothing },
        Some(_) if !resolution.running => Followed { check: Some(there.spec.content.clone()), ..nothing },
        _ => nothing,
    }
}
