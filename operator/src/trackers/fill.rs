//! Metainfo from tracker to tracker: one that starts anew has none, and its siblings do.

use futures::{FutureExt, StreamExt, stream};
use kube::ResourceExt;

use super::client::{At, TrackerError};
use super::round::Work;
use crate::context::Context;

/// Revisions that are looked at together.
const AT_A_TIME: usize = 4;

/// Brings every reachable tracker to what any of them has. Says whether that worked for all.
pub async fn fill(context: &Context, trackers: &[At<'_>], built: &[Work]) -> bool {
    if trackers.len() < 2 {
        return true;
    }
    // Boxed and collected, else the compiler cannot see that the whole is Send.
    let fills: Vec<_> = built.iter().map(|work| fill_one(context, trackers, work).boxed()).collect();
    let results: Vec<bool> = stream::iter(fills).buffer_unordered(AT_A_TIME).collect().await;
    results.into_iter().all(|well| well)
}

async fn fill_one(context: &Context, trackers: &[At<'_>], work: &Work) -> bool {
    let mut with = None;
    let mut without = Vec::new();
    for at in trackers {
        match context.trackers.has_metainfo(at, &work.infohash).await {
            Ok(true) => with = Some(at),
            Ok(false) => without.push(at),
            Err(_) => return false,
        }
    }
    let Some(with) = with else { return true };
    for at in without {
        let revision = work.revision.name_any();
        match copy(context, with, at, work).await {
            Ok(()) => tracing::info!(%revision, from = with.url, to = at.url, "metainfo copied"),
            Err(error) => {
                tracing::warn!(%revision, %error, "metainfo could not be copied; it is tried again");
                return false;
            }
        }
    }
    true
}

async fn copy(context: &Context, from: &At<'_>, to: &At<'_>, work: &Work) -> Result<(), TrackerError> {
    let revision = work.revision.name_any();
    // The manifest first: whoever finds the metainfo asks for the manifest next.
    if let Some(digest) = &work.revision.spec.manifest_digest
        && let Some(body) = context.trackers.manifest(from, digest).await?
    {
        context.trackers.put_manifest(to, digest, &revision, body).await?;
    }
    if let Some(body) = context.trackers.metainfo(from, &work.infohash).await? {
        context.trackers.put_metainfo(to, &work.infohash, &revision, body).await?;
    }
    Ok(())
}
