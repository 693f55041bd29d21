//! The second word on declared digests: this node has read nothing at the origin, hashes what it got from its peers, and says what it found.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use operator_api::{Verdict, Witnessed, reason};
use swarm::{TorrentHandle, Trouble};
use tokio_util::sync::CancellationToken;
use torrent::ingest::Outline;

use super::hold::PAUSE;
use super::{FetchError, digests};
use crate::clients::{OperatorClient, OperatorError};
use crate::contents::hex;
use crate::jobs::{Context, JobHandle, stoppable};

/// Hashes the files as they come in and tells the operator, again and again until `stop` is cancelled: the next operator knows nothing of
/// what the last one was told.
pub async fn witness(
    context: Arc<Context>,
    job: JobHandle,
    handle: TorrentHandle,
    outline: Arc<Outline>,
    stop: CancellationToken,
) {
    let testify = async {
        let verdict = loop {
            match look(&context, &job, &handle, &outline, &stop).await {
                Ok(verdict) => break verdict,
                // Of the disk: what it has to say it says in the revision's entry.
                Err(error) => {
                    tracing::info!(revision = job.revision, %error, "the digests cannot be told yet");
                }
            }
            tokio::time::sleep(PAUSE).await;
        };
        let said = Witnessed { ingest: outline.id().to_string(), verdict };
        loop {
            if let Err(error) = tell(&context, &job, &said).await {
                tracing::info!(revision = job.revision, %error, "telling what the digests are again");
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    // Never to its end: whoever is told to stop has been heard, or is not asked any more.
    let Err(_stopped): Result<Infallible, _> = stoppable(&stop, testify).await;
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
        message = contradiction(handle) => {
            return Ok(Verdict::Contradicts { reason: reason::FETCHER_FAULTY.to_owned(), message });
        }
        digests = digests::of(handle, outline, &data, &hashed, stop) => digests?,
    };
    Ok(verdict(outline, &digests))
}

/// Until fetchers have signed what cannot both be so.
async fn contradiction(handle: &TorrentHandle) -> String {
    let mut stats = handle.changed();
    let faulty = stats.wait_for(|stats| matches!(stats.trouble, Some(Trouble::Faulty(_)))).await;
    match faulty.ok().and_then(|stats| stats.trouble.clone()) {
        Some(Trouble::Faulty(what)) => what,
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
            let error = FetchError::Digest { what, expected, found };
            let (reason, message) = (error.reason().to_owned(), error.to_string());
            return Verdict::Contradicts { reason, message };
        }
    }
    match digests::manifest(outline, digests) {
        Ok(manifest) => Verdict::Confirms { manifest_digest: hex(&manifest.digest()) },
        Err(error) => Verdict::Contradicts { reason: error.reason().to_owned(), message: error.to_string() },
    }
}
