//! Asking the origin, beside the queue: an origin may take minutes to answer, and everything else goes on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crds::{Content, Distribution, DistributionClass, ImageSource};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use operator_api::{OriginPolicy, reason};
use origin::registry::{Image, Reference, Registry};
use origin::{Options, Origin, PolicyError};

use super::registry;
use super::room::wait_for_manifest;
use crate::context::Context;
use crate::events;
use crate::ledger::Known;
use crate::metrics::count;
use crate::plan::{Note, followed};
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
    let asked = Asked::about(context, key, distribution);
    let class = class.clone();
    tokio::spawn(async move {
        let result = asked.in_turn(asked.resolved(&class, &surroundings)).await;
        count(&asked.context.metrics.resolves, "resolve", if result.is_ok() { "ok" } else { "failed" });
        match &result {
            Ok(resolved) => asked.tell(resolved, &surroundings.nodes),
            Err(error) => {
                tracing::warn!(key = %asked.key, %error, "cannot be resolved; it is tried again");
            }
        }
        let platforms = asked.platforms(surroundings.nodes);
        let result = result.map(|resolved| (resolved, platforms));
        asked.take_in(|known, hash| known.end(hash, result, rand::random(), Timestamp::now()));
    });
}

/// Begins to ask whether a source that is followed is still this. What it is otherwise goes into the ledger.
pub fn check(
    context: &Arc<Context>,
    key: &Key,
    distribution: &Arc<Distribution>,
    class: &Arc<DistributionClass>,
    nodes: BTreeSet<String>,
    known: Content,
) {
    let asked = Asked::about(context, key, distribution);
    let class = class.clone();
    tokio::spawn(async move {
        let result = asked.in_turn(asked.moved(&class, &nodes, &known)).await;
        let outcome = match &result {
            Ok(None) => "same",
            Ok(Some(resolved)) => {
                asked.tell(resolved, &nodes);
                "changed"
            }
            Err(error) => {
                tracing::warn!(key = %asked.key, %error, "cannot be asked whether it is another; it is tried again");
                "failed"
            }
        };
        count(&asked.context.metrics.resolves, "check", outcome);
        let platforms = asked.platforms(nodes);
        let result = result.map(|moved| moved.map(|resolved| (resolved, platforms)));
        let every = followed(&asked.distribution).unwrap_or(SignedDuration::MAX);
        asked.take_in(|known, hash| known.end_check(hash, result, every, rand::random(), Timestamp::now()));
    });
}

/// A source that is being asked.
struct Asked {
    context: Arc<Context>,
    key: Key,
    distribution: Arc<Distribution>,
    uid: String,
    /// Of the source as it is written now.
    hash: String,
}

impl Asked {
    fn about(context: &Arc<Context>, key: &Key, distribution: &Arc<Distribution>) -> Self {
        let hash = source_hash(&distribution.spec);
        let uid = distribution.uid().unwrap_or_default();
        context.ledger().distributions.entry(uid.clone()).or_default().begin(&hash);
        Self { context: context.clone(), key: key.clone(), distribution: distribution.clone(), uid, hash }
    }

    /// Waits until there is room for it, and not for ever.
    async fn in_turn<T>(
        &self,
        asking: impl Future<Output = Result<T, ResolveError>>,
    ) -> Result<T, ResolveError> {
        let _manifest = wait_for_manifest(&self.context.manifests, &self.distribution).await;
        let _image = self.context.images.enter(&self.distribution).await;
        tokio::time::timeout(LONGEST, asking).await.unwrap_or_else(|_| {
            let message = "the origin did not answer everything within 5 minutes";
            Err(ResolveError::refused(reason::ORIGIN_UNAVAILABLE, message))
        })
    }

    /// What it is now, or what it was when it was pinned.
    async fn resolved(
        &self,
        class: &DistributionClass,
        surroundings: &Surroundings,
    ) -> Result<Resolved, ResolveError> {
        let Some(image) = &self.distribution.spec.source.image else { return self.files(class).await };
        let wanted = platforms(image, &surroundings.nodes)?;
        let pinned = surroundings.pinned.as_deref();
        let asked = registry::of(&self.context, class, &self.distribution, &image.reference, pinned).await?;
        let found = asked.1.image(&wanted).await?;
        self.layout(image, &asked, found)
    }

    /// What it is now, if that is not what is known. An image that is the same costs one request.
    async fn moved(
        &self,
        class: &DistributionClass,
        nodes: &BTreeSet<String>,
        known: &Content,
    ) -> Result<Option<Resolved>, ResolveError> {
        let Some(image) = &self.distribution.spec.source.image else {
            let files = self.files(class).await?;
            return Ok(Some(files).filter(|files| files.pin != known.pin));
        };
        let asked = registry::of(&self.context, class, &self.distribution, &image.reference, None).await?;
        let digest = asked.1.digest().await?;
        if known.image.as_ref().is_some_and(|known| known.digest == digest.to_string()) {
            return Ok(None);
        }
        let found = asked.1.image_of(digest, &platforms(image, nodes)?).await?;
        self.layout(image, &asked, found).map(Some)
    }

    fn layout(
        &self,
        image: &ImageSource,
        (reference, registry): &(Reference, Registry),
        found: Image,
    ) -> Result<Resolved, ResolveError> {
        as_layout(registry, reference, found, image, self.distribution.spec.torrent.version)
    }

    async fn files(&self, class: &DistributionClass) -> Result<Resolved, ResolveError> {
        let options = Options { denied: self.context.settings.api_server.clone(), ..Options::default() };
        let origin = Origin::new(&policy(class), options).map_err(|error| bad_rules(&error))?;
        resolve(&origin, &self.distribution.spec).await
    }

    fn tell(&self, resolved: &Resolved, nodes: &BTreeSet<String>) {
        let (key, files, bytes) = (&self.key, resolved.files.len(), resolved.bytes);
        tracing::info!(%key, files, bytes, "resolved");
        tell_of_left_out(&self.context, &self.distribution, resolved);
        tell_of_lacking(&self.context, &self.distribution, resolved, nodes);
    }

    /// For which platforms it was looked for, if the source leaves them open.
    fn platforms(&self, nodes: BTreeSet<String>) -> BTreeSet<String> {
        if is_auto(&self.distribution) { nodes } else { BTreeSet::new() }
    }

    /// Takes note of how it ended. Where the origin shows something else than before, nobody waits any longer to read it.
    fn take_in(self, end: impl FnOnce(&mut Known, &str) -> bool) {
        let revisions: Vec<String> = {
            let index = self.context.index();
            let own = index.revisions.iter().filter(|revision| revision.spec.distribution.uid == self.uid);
            own.map(|revision| revision.name_any()).collect()
        };
        {
            let mut ledger = self.context.ledger();
            let known = ledger.distributions.get_mut(&self.uid);
            if known.is_some_and(|known| end(known, &self.hash)) {
                for revision in revisions {
                    ledger.grants.of(&revision).retry_now();
                }
            }
        }
        self.context.queue.touch([(self.key, Urgency::Now)]);
    }
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

/// The class's rules, in the words of the API.
pub fn policy(class: &DistributionClass) -> OriginPolicy {
    OriginPolicy { allow: class.spec.origin.allow.clone(), deny: class.spec.origin.deny.clone() }
}
