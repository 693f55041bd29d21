//! Asking the origin, beside the queue: an origin may take minutes to answer, and everything else goes on.

use std::sync::Arc;
use std::time::Duration;

use crds::{Distribution, DistributionClass};
use jiff::Timestamp;
use kube::ResourceExt;
use operator_api::{OriginPolicy, reason};
use origin::{Options, Origin};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::context::Context;
use crate::metrics::count;
use crate::queue::{Key, Urgency};
use crate::resolve::{ResolveError, Resolved, resolve, source_hash};

/// A source that takes longer is tried again.
const LONGEST: Duration = Duration::from_mins(5);

/// Begins to resolve; the result goes into the ledger, and the key is looked at again.
pub fn begin(context: &Arc<Context>, key: &Key, distribution: &Arc<Distribution>, class: &DistributionClass) {
    let hash = source_hash(&distribution.spec);
    let uid = distribution.uid().unwrap_or_default();
    context.ledger().distributions.entry(uid.clone()).or_default().begin(&hash);
    let policy = policy(class);
    let (context, key, distribution) = (context.clone(), key.clone(), distribution.clone());
    tokio::spawn(async move {
        let _permit = wait_for_room(&context.manifests, &distribution).await;
        let result =
            tokio::time::timeout(LONGEST, ask(&context, &policy, &distribution)).await.unwrap_or_else(|_| {
                Err(ResolveError::refused(
                    reason::ORIGIN_UNAVAILABLE,
                    "the origin did not answer everything within 5 minutes",
                ))
            });
        count(&context.metrics.resolves, "resolve", if result.is_ok() { "ok" } else { "failed" });
        match &result {
            Ok(resolved) => {
                tracing::info!(%key, files = resolved.files.len(), bytes = resolved.bytes, "resolved");
            }
            Err(error) => tracing::warn!(%key, %error, "cannot be resolved; it is tried again"),
        }
        take_in(&context, &uid, &hash, result);
        context.queue.touch([(key, Urgency::Now)]);
    });
}

/// A manifest may be large, and waits until there is room for it; files that stand in the object do not.
pub(super) async fn wait_for_room<'a>(
    room: &'a Semaphore,
    distribution: &Distribution,
) -> Option<SemaphorePermit<'a>> {
    distribution.spec.source.http.as_ref()?.manifest_url.as_ref()?;
    // Never closed, so waiting cannot fail.
    room.acquire().await.ok()
}

async fn ask(
    context: &Context,
    policy: &OriginPolicy,
    distribution: &Distribution,
) -> Result<Resolved, ResolveError> {
    let options = Options { denied: context.settings.api_server.clone(), ..Options::default() };
    let origin = Origin::new(policy, options).map_err(|error| {
        ResolveError::refused("InvalidClass", format!("the class's origin rules cannot be read: {error}"))
    })?;
    resolve(&origin, &distribution.spec).await
}

fn take_in(context: &Context, uid: &str, hash: &str, result: Result<Resolved, ResolveError>) {
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use serde_json::{Value, json};

    use super::*;

    fn distribution(http: &Value) -> Distribution {
        let object = json!({"metadata": {"name": "d"}, "spec": {"source": {"http": http}}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn manifests_wait_for_each_other_and_files_for_nobody() {
        let room = Semaphore::new(1);
        let manifest = distribution(&json!({"manifestURL": "http://h/m"}));
        let files = distribution(&json!({"files": [{"url": "http://h/f"}]}));
        let first = wait_for_room(&room, &manifest).now_or_never().flatten();
        assert!(first.is_some());
        assert!(wait_for_room(&room, &manifest).now_or_never().is_none(), "there is no room");
        assert!(wait_for_room(&room, &files).now_or_never().is_some());
        drop(first);
        assert!(wait_for_room(&room, &manifest).now_or_never().flatten().is_some());
    }
}
