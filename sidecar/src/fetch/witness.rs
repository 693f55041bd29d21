//! The second word on what was read: a node that has read nothing at the origin hashes what it got from its peers, and says what it found. Who
//! was not asked for that says one thing only: that fetchers have signed what cannot be right.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use operator_api::{Verdict, Witnessed};
use rand::Rng;
use swarm::{TorrentHandle, Trouble};
use tokio_util::sync::CancellationToken;
use torrent::ingest::Outline;

use super::hold::PAUSE;
use super::{FetchError, digests};
use crate::clients::{OperatorClient, OperatorError};
use crate::contents::hex;
use crate::jobs::{Context, JobHandle, stoppable};

/// Within this a node says what it has seen that was not asked...
const WATCHERS_FIRST: Duration = Duration::from_secs(10);
/// ...and again after this, while it is not heard: there may be thousands of them.
const WATCHERS_PAUSE: Duration = Duration::from_mins(1);

/// Hashes the files as they come in and tells the operator, again and again until `stop` is cancelled: the next operator knows nothing of
/// what the last one was told.
pub async fn witness(
    context: Arc<Context>,
    job: JobHandle,
    handle: TorrentHandle,
    outline: Arc<Outline>,
    stop: CancellationToken,
) {
    let digests = async {
        loop {
            match look(&context, &job, &handle, &outline, &stop).await {
                Ok(verdict) => return verdict,
                // Of the disk: what it has to say it says in the revision's entry.
                Err(error) => {
                    tracing::info!(revision = job.revision, %error, "the digests cannot be told yet");
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    testify(&context, &job, &outline, digests, PAUSE, &stop).await;
}

/// Tells the operator when fetchers have signed what cannot be right, whoever sees it, until `stop` is cancelled.
pub async fn watch(
    context: Arc<Context>,
    job: JobHandle,
    handle: TorrentHandle,
    outline: Arc<Outline>,
    stop: CancellationToken,
) {
    let seen = async {
        let verdict = contradiction(&handle).await;
        // All of the nodes may see it at the same moment.
        let first = rand::rng().random_range(Duration::ZERO..WATCHERS_FIRST);
        tokio::time::sleep(first).await;
        verdict
    };
    testify(&context, &job, &outline, seen, WATCHERS_PAUSE, &stop).await;
}

/// Says what it comes to again and again: the next operator knows nothing of what the last one was told.
async fn testify(
    context: &Context,
    job: &JobHandle,
    outline: &Outline,
    verdict: impl Future<Output = Verdict>,
    pause: Duration,
    stop: &CancellationToken,
) {
    let telling = async {
        let said = Witnessed { ingest: outline.id().to_string(), verdict: verdict.await };
        loop {
            if let Err(error) = tell(context, job, &said).await {
                tracing::info!(revision = job.revision, %error, "telling what is to be said of the content again");
            }
            tokio::time::sleep(pause).await;
        }
    };
    // Never to its end: whoever is told to stop has been heard, or is not asked any more.
    let Err(_stopped): Result<Infallible, _> = stoppable(stop, telling).await;
}

async fn tell(context: &Context, job: &JobHandle, said: &Witnessed) -> Result<(), OperatorError> {
    let endpoint = context.class().operator.clone();
    let endpoint = endpoint
        .ok_or_else(|| OperatorError::Unreachable("the class's status names no operator yet".to_owned()))?;
    let operator = OperatorClient::new(&endpoint, context.token.clone())?;
    operator.witness(&job.revision, said).await
}

async fn look(
    context: &Context,
    job: &JobHandle,
    handle: &TorrentHandle,
    outline: &Outline,
    stop: &CancellationToken,
) -> Result<Verdict, FetchError> {
    let folder = context.layout.coming(&job.revision);
    let (data, hashed) = (folder.data(), Arc::new(AtomicU64::new(0)));
    let digests = tokio::select! {
        biased;
        contradicts = contradiction(handle) => return Ok(contradicts),
        digests = digests::of(handle, outline, &data, &hashed, stop) => digests?,
    };
    Ok(verdict(outline, &digests))
}

/// Until fetchers have signed what cannot be so.
async fn contradiction(handle: &TorrentHandle) -> Verdict {
    let mut stats = handle.changed();
    let faulty = stats.wait_for(|stats| matches!(stats.trouble, Some(Trouble::Faulty(_)))).await;
    match faulty.ok().and_then(|stats| stats.trouble.clone()) {
        Some(Trouble::Faulty(fault)) => contradicts(&FetchError::Faulty(fault)),
        // The torrent has ended.
        _ => std::future::pending().await,
    }
}

fn verdict(outline: &Outline, digests: &[[u8; 32]]) -> Verdict {
    let files = outline.plan().files().iter().zip(digests).enumerate();
    for (index, ((path, _), found)) in files {
        let declared = outline.digest(index).filter(|declared| declared != found);
        if let Some(expected) = declared {
            let (what, expected, found) = (path.to_string(), hex(&expected), hex(found));
            return contradicts(&FetchError::Digest { what, expected, found });
        }
    }
    match digests::manifest(outline, digests) {
        Ok(manifest) => Verdict::Confirms { manifest_digest: hex(&manifest.digest()) },
        Err(error) => contradicts(&error),
    }
}

fn contradicts(error: &FetchError) -> Verdict {
    let (reason, message) = (error.reason().to_owned(), error.to_string());
    Verdict::Contradicts { reason, message, accused: error.accused() }
}
