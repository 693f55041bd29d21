//! Making the name of what is to be read, beside the queue: a million paths take seconds to hash.

use std::sync::Arc;
use std::time::Duration;

use crds::Distribution;
use torrent::ingest::PublicKey;

use super::room::wait_for_manifest;
use crate::context::Context;
use crate::outline::{Name, Outlined, name};
use crate::queue::{Key, Urgency};
use crate::resolve::Resolved;
use crate::trackers::register;

/// Reading waits so long for the trackers: one that hangs must not hold up everything.
const REGISTERED_WITHIN: Duration = Duration::from_secs(1);

/// Begins to make it; the result goes into the ledger, to the trackers, and then the key is looked at again. So the trackers know
/// the swarm before a node hears of it.
pub fn begin(
    context: &Arc<Context>,
    key: &Key,
    distribution: &Arc<Distribution>,
    resolved: Resolved,
    outlined: Outlined,
    revision: String,
) {
    context.ledger().outlines.insert(revision.clone(), outlined.clone());
    let (context, key, distribution) = (context.clone(), key.clone(), distribution.clone());
    tokio::spawn(async move {
        let permit = wait_for_manifest(&context.manifests, &distribution).await;
        let made = make(&distribution, resolved, &revision, outlined.epoch, outlined.key).await;
        drop(permit);
        {
            let mut ledger = context.ledger();
            let known = ledger.outlines.get_mut(&revision).filter(|known| **known == outlined);
            // Another epoch or key has come, or the revision has gone: this name is of no interest any more.
            let Some(known) = known else { return };
            known.name = made;
        }
        if context.is_acting() {
            let registering = register(&context, &distribution.spec.class_name);
            // Whichever tracker has not heard of it by then hears in a later round.
            drop(tokio::time::timeout(REGISTERED_WITHIN, registering).await);
        }
        context.queue.touch([(key, Urgency::Now)]);
    });
}

async fn make(
    distribution: &Distribution,
    resolved: Resolved,
    revision: &str,
    epoch: i32,
    key: PublicKey,
) -> Name {
    let (version, about) = (distribution.spec.torrent.version, revision.to_owned());
    let made = tokio::task::spawn_blocking(move || name(&about, epoch, key, version, &resolved.files));
    let error = match made.await {
        Ok(Ok(id)) => {
            tracing::info!(%revision, epoch, %id, "outlined");
            return Name::Known(id);
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(%revision, %error, "its files cannot be outlined: the content is shared when it is whole");
    Name::Impossible
}
