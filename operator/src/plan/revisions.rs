//! Which revision is current, and which has to be made.

use std::sync::Arc;

use crds::{
    CLASS_LABEL, Content, DISTRIBUTION_UID_LABEL, Distribution, DistributionRef, DistributionRevision,
    DistributionRevisionSpec,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::following::{self, Followed, followed};
use super::nodes::Crowd;
use super::{Observed, Plan, Resolution, Step, fetching, platforms};
use crate::resolve::{Resolved, revision_name, source_hash};

/// On a revision: [`source_hash`] of the source that it was resolved from. A built revision whose hash is that of the
/// `Distribution` needs no origin any more.
pub const SOURCE_HASH_ANNOTATION: &str = "samara.dev/source-hash";
/// When no whole copy of what was built is seen for so long, the origin is read again.
pub const COPY_LOST_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// What was decided about the revisions.
#[derive(Debug)]
pub struct Choice<'a> {
    /// The hash of the source as it is written now.
    pub source_hash: String,
    /// The revision of that source, if there is one.
    pub target: Option<&'a Arc<DistributionRevision>>,
    /// What is current until then.
    pub serving: Option<&'a Arc<DistributionRevision>>,
    /// A revision to make.
    pub create: Option<DistributionRevision>,
    /// The source has to be resolved now.
    pub resolve: bool,
    /// The source has to be resolved before anything can be fetched.
    pub needs_origin: bool,
    /// What is there is not for all nodes: it is looked for whether there is more of it.
    pub widening: bool,
    /// What is there is to be held against what the source is now.
    pub check: Option<Content>,
    /// When to try that again.
    pub wake_at: Option<Timestamp>,
}

/// Whether the torrents of a revision exist.
pub fn is_built(revision: &DistributionRevision) -> bool {
    !revision.spec.torrents.is_empty()
}

/// Chooses the revision of the present source.
pub fn choose<'a>(
    observed: &Observed,
    distribution: &Distribution,
    own: &[&'a Arc<DistributionRevision>],
    crowd: &Crowd<'_>,
    now: Timestamp,
) -> Choice<'a> {
    let source_hash = source_hash(&distribution.spec);
    let usable = || own.iter().copied().filter(|revision| revision.metadata.deletion_timestamp.is_none());
    let of_source = || {
        usable().filter(|revision| revision.annotations().get(SOURCE_HASH_ANNOTATION) == Some(&source_hash))
    };
    let current = |revision: &&&Arc<DistributionRevision>| revision.spec.policy.current;
    let serving = usable().find(|revision| revision.spec.policy.current);
    let built = newest(of_source().filter(|revision| is_built(revision)));
    let copy_lost =
        built.is_some() && observed.copy_missing_since.is_some_and(|since| since + COPY_LOST_AFTER <= now);
    let mut choice = Choice {
        target: built,
        serving,
        create: None,
        resolve: false,
        needs_origin: observed.class.is_some() && (built.is_none() || copy_lost),
        widening: false,
        check: None,
        wake_at: None,
        source_hash: source_hash.clone(),
    };
    if let Some(old) = built.filter(|_| !copy_lost) {
        choice.wake_at = observed.copy_missing_since.map(|since| since + COPY_LOST_AFTER);
        let wider = widen(&mut choice, observed, distribution, old, crowd, now);
        if !follow(&mut choice, observed, distribution, old, now) && !wider {
            return choice;
        }
        choice.needs_origin = true;
    }
    if !choice.needs_origin {
        choice.target = built.or(newest(of_source()));
        return choice;
    }
    let resolution = &observed.resolution;
    let matches = resolution.source_hash == choice.source_hash;
    let resolved = resolution.resolved.as_ref().filter(|_| matches);
    let fresh = resolved.filter(|_| !resolution.stale);
    choice.target = match resolved {
        Some(resolved) => usable().find(|revision| revision.spec.content.pin == resolved.pin),
        None => of_source().find(|r| current(&r)).or_else(|| newest(of_source())),
    };
    if let (Some(resolved), None) = (fresh, choice.target) {
        choice.create = Some(make(distribution, resolved, resolution, &choice.source_hash));
    }
    match choice.target {
        _ if fresh.is_none() => ask(&mut choice, resolution, now),
        // One that was replaced before is what the source is again: it is there already.
        Some(target) if is_built(target) => {
            choice.needs_origin = built.is_some_and(|built| Arc::ptr_eq(built, target));
        }
        // What cannot be read may have made room for something else.
        Some(target) if cannot_be_read(observed, target) => {
            follow(&mut choice, observed, distribution, target, now);
        }
        _ => {}
    }
    choice
}

fn cannot_be_read(observed: &Observed, revision: &DistributionRevision) -> bool {
    observed.elections.get(&revision.name_any()).is_some_and(|election| election.failure().is_some())
}

/// Whether a source that is followed is another than this revision. It is asked when that is due.
fn follow(
    choice: &mut Choice<'_>,
    observed: &Observed,
    distribution: &Distribution,
    there: &DistributionRevision,
    now: Timestamp,
) -> bool {
    let Followed { moved, check, wake_at } =
        following::look(observed, distribution, &choice.source_hash, there, now);
    // One question at a time.
    choice.check = check.filter(|_| !choice.resolve);
    choice.wake_at = [choice.wake_at, wake_at].into_iter().flatten().min();
    moved
}

/// The source is asked for, as soon as it may be.
fn ask(choice: &mut Choice<'_>, resolution: &Resolution, now: Timestamp) {
    let matches = resolution.source_hash == choice.source_hash;
    let due = !matches || resolution.retry_at.is_none_or(|at| at <= now);
    choice.resolve = due && !resolution.running;
    choice.wake_at = [choice.wake_at, resolution.retry_at.filter(|at| *at > now)].into_iter().flatten().min();
}

/// Whether there is more of an image than what was built, for nodes of another platform that have come since. Until that is known what
/// was built stays what all have.
fn widen(
    choice: &mut Choice<'_>,
    observed: &Observed,
    distribution: &Distribution,
    built: &DistributionRevision,
    crowd: &Crowd<'_>,
    now: Timestamp,
) -> bool {
    let unknown = platforms::unknown(distribution, built, crowd);
    choice.widening = observed.class.is_some() && !unknown.is_empty();
    if !choice.widening {
        return false;
    }
    let resolution = &observed.resolution;
    let fits = resolution.source_hash == choice.source_hash && !resolution.stale;
    let found = resolution.resolved.as_ref().filter(|_| fits && resolution.platforms.is_superset(&unknown));
    if found.is_none() {
        ask(choice, resolution, now);
    }
    found.is_some_and(|found| found.pin != built.spec.content.pin)
}

/// What the reference of an image stood for when this very source was resolved before: a tag is looked up once (T95), however often
/// the rest is asked for again. None where the tag is followed: there it is what it stands for now.
pub fn pinned_digest(observed: &Observed, distribution: &Distribution) -> Option<String> {
    if followed(distribution).is_some() {
        return None;
    }
    let hash = source_hash(&distribution.spec);
    let own = observed.revisions.iter().filter(|revision| {
        Some(&revision.spec.distribution.uid) == distribution.metadata.uid.as_ref()
            && revision.annotations().get(SOURCE_HASH_ANNOTATION) == Some(&hash)
    });
    newest(own)?.spec.content.image.as_ref().map(|image| image.digest.clone())
}

/// The revision without the source's hash, if it carries it. What was built from a source that shows something else by now must
/// not be taken for it again: else it would push out its successor before anyone has read that.
pub fn disowned(revision: &DistributionRevision, source_hash: &str) -> Option<DistributionRevision> {
    let carries = revision.annotations().get(SOURCE_HASH_ANNOTATION).is_some_and(|hash| hash == source_hash);
    carries.then(|| {
        let mut disowned = revision.clone();
        disowned.annotations_mut().remove(SOURCE_HASH_ANNOTATION);
        disowned
    })
}

/// Makes a revision, and takes the source's hash off those that were made of it before.
pub fn create(
    plan: &mut Plan,
    revision: DistributionRevision,
    source_hash: &str,
    own: &[&Arc<DistributionRevision>],
) {
    // Those without torrents are deleted as soon as the new one is seen.
    let built = own.iter().filter(|old| is_built(old) && old.metadata.deletion_timestamp.is_none());
    let disowned = built.filter_map(|old| disowned(old, source_hash));
    plan.steps.extend(disowned.map(|old| Step::UpdateRevision(Box::new(old))));
    plan.step(Step::CreateRevision(Box::new(revision)));
}

fn newest<'a>(
    revisions: impl Iterator<Item = &'a Arc<DistributionRevision>>,
) -> Option<&'a Arc<DistributionRevision>> {
    revisions.max_by_key(|r| (r.spec.policy.current, r.creation_timestamp().map(|time| time.0), r.name_any()))
}

fn make(
    distribution: &Distribution,
    resolved: &Resolved,
    resolution: &Resolution,
    source_hash: &str,
) -> DistributionRevision {
    let uid = distribution.uid().unwrap_or_default();
    let name = revision_name(&distribution.name_any(), &uid, &resolved.pin);
    let spec = DistributionRevisionSpec {
        distribution: DistributionRef {
            namespace: distribution.namespace().unwrap_or_default(),
            name: distribution.name_any(),
            uid: uid.clone(),
        },
        class_name: distribution.spec.class_name.clone(),
        content: Content {
            pin: resolved.pin.clone(),
            bytes: i64::try_from(resolved.bytes).unwrap_or(i64::MAX),
            files: i64::try_from(resolved.files.len()).unwrap_or(i64::MAX),
            image: resolved.image.clone(),
        },
        torrents: Vec::new(),
        manifest_digest: None,
        policy: fetching::policy(distribution, true, fetching::Readers::default(), None),
    };
    let mut revision = DistributionRevision::new(&name, spec);
    let labels = revision.labels_mut();
    labels.insert(CLASS_LABEL.to_owned(), distribution.spec.class_name.clone());
    labels.insert(DISTRIBUTION_UID_LABEL.to_owned(), uid);
    revision.annotations_mut().insert(SOURCE_HASH_ANNOTATION.to_owned(), source_hash.to_owned());
    platforms::take_down(&mut revision, resolution);
    revision
}
