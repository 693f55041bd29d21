//! Asking the origin, beside the queue: an origin may take minutes to answer, and everything else goes on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crds::{Distribution, DistributionClass, ImageSource};
use jiff::Timestamp;
use kube::ResourceExt;
use operator_api::{OriginPolicy, reason};
use origin::{Options, Origin, PolicyError};

use super::registry;
use super::room::wait_for_manifest;
use crate::context::Context;
use crate::events;
use crate::metrics::count;
use crate::plan::Note;
use crate::queue::{Key, Urgency};
use crate::resolve::{ResolveError, Resolved, as_layout, lacking, platforms, resolve, source_hash};

/// A source that takes longer is tried again.
const LONGEST: Duration = Duration::from_mins(5);

/// What an image is resolved by, besides its source.
pub struct Surroundings {
    /// The platforms of the nodes that are selected, and those that it was looked for for before.
    pub nodes: BTreeSet<String>,
    /// What its reference stood for when the same source was resolved before.
    pub pinned: Option<String>,
}

/// Begins to resolve; the result goes into the ledger, and the key is looked at again.
pub fn begin(
    context: &Arc<Context>,
    key: &Key,
    distribution: &Arc<Distribution>,
    class: &Arc<DistributionClass>,
    surroundings: Surroundings,
) {
    let hash = source_hash(&distribution.spec);
    let uid = distribution.uid().unwrap_or_default();
    context.ledger().distributions.entry(uid.clone()).or_default().begin(&hash);
    let class = class.clone();
    let (context, key, distribution) = (context.clone(), key.clone(), distribution.clone());
    tokio::spawn(async move {
        let _manifest = wait_for_manifest(&context.manifests, &distribution).await;
        let _image = context.images.enter(&distribution).await;
        let result = tokio::time::timeout(LONGEST, ask(&context, &class, &distribution, &surroundings))
            .await
            .unwrap_or_else(|_| {
                Err(ResolveError::refused(
                    reason::ORIGIN_UNAVAILABLE,
                    "the origin did not answer everything within 5 minutes",
                ))
            });
        count(&context.metrics.resolves, "resolve", if result.is_ok() { "ok" } else { "failed" });
        match &result {
            Ok(resolved) => {
                tracing::info!(%key, files = resolved.files.len(), bytes = resolved.bytes, "resolved");
                tell_of_left_out(&context, &distribution, resolved);
                tell_of_lacking(&context, &distribution, resolved, &surroundings.nodes);
            }
            Err(error) => tracing::warn!(%key, %error, "cannot be resolved; it is tried again"),
        }
        let platforms = if is_auto(&distribution) { surroundings.nodes } else { BTreeSet::new() };
        take_in(&context, &uid, &hash, result.map(|resolved| (resolved, platforms)));
        context.queue.touch([(key, Urgency::Now)]);
    });
}

async fn ask(
    context: &Context,
    class: &DistributionClass,
    distribution: &Distribution,
    surroundings: &Surroundings,
) -> Result<Resolved, ResolveError> {
    let spec = &distribution.spec;
    if let Some(image) = &spec.source.image {
        let wanted = platforms(image, &surroundings.nodes)?;
        let pinned = surroundings.pinned.as_deref();
        let (reference, registry) =
            registry::of(context, class, distribution, &image.reference, pinned).await?;
        let found = registry.image(&wanted).await?;
        return as_layout(&registry, &reference, found, image, spec.torrent.version);
    }
    let options = Options { denied: context.settings.api_server.clone(), ..Options::default() };
    let origin = Origin::new(&policy(class), options).map_err(|error| bad_rules(&error))?;
    resolve(&origin, spec).await
}

/// What a class says about origins cannot be read.
pub(super) fn bad_rules(error: &PolicyError) -> ResolveError {
    ResolveError::refused("InvalidClass", format!("the class's origin rules cannot be read: {error}"))
}

/// Nobody would look for it: the image works where its foreign layers can be had.
fn tell_of_left_out(context: &Arc<Context>, distribution: &Distribution, resolved: &Resolved) {
    let left_out = resolved.image.as_ref().map_or(0, |image| image.left_out);
    if left_out > 0 {
        let message = format!(
            "{left_out} layers lie elsewhere or must not be passed on: nodes get them where the image says, not from each other"
        );
        let note = Note { warning: false, reason: "LayersLeftOut".to_owned(), message };
        events::tell(context, distribution, note);
    }
}

fn is_auto(distribution: &Distribution) -> bool {
    distribution.spec.source.image.as_ref().is_some_and(ImageSource::is_auto)
}

/// Nor for this: nodes of that kind have nothing of it that they could run.
fn tell_of_lacking(
    context: &Arc<Context>,
    distribution: &Distribution,
    resolved: &Resolved,
    nodes: &BTreeSet<String>,
) {
    let lacking =
        resolved.image.as_ref().filter(|_| is_auto(distribution)).map(|image| lacking(image, nodes));
    if let Some(lacking) = lacking.filter(|lacking| !lacking.is_empty()) {
        let message = format!("the image is not there for nodes that are {}", lacking.join(", "));
        let note = Note { warning: true, reason: reason::NO_SUCH_PLATFORM.to_owned(), message };
        events::tell(context, distribution, note);
    }
}

fn take_in(
    context: &Context,
    uid: &str,
    hash: &str,
    result: Result<(Resolved, BTreeSet<String>), ResolveError>,
) {
    let revisions: Vec<String> = {
        let index = context.index();
        let own = index.revisions.iter().filter(|revision| revision.spec.distribution.uid == uid);
        own.map(|revision| revision.name_any()).collect()
    };
    let mut ledger = context.ledger();
    let Some(known) = ledger.distributions.get_mut(uid) else { return };
    if known.end(hash, result, rand::random(), Timestamp::now()) {
        for revision in revisions {
            ledger.grants.of(&revision).retry_now();
        }
    }
}

/// The class's rules, in the words of the API.
pub fn policy(class: &DistributionClass) -> OriginPolicy {
    OriginPolicy { allow: class.spec.origin.allow.clone(), deny: class.spec.origin.deny.clone() }
}
