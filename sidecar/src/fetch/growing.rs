//! The elected node's job where content is shared while it is read: the torrent grows with each piece that comes from the origin.
//!
//! Several fetchers may be at it. The first of them makes metainfo and manifest when all pieces are here, whoever has read them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crds::NodePhase;
use operator_api::GrantedFile;
use swarm::{Fetcher, TorrentHandle, Trouble};
use tokio_util::sync::CancellationToken;
use torrent::ingest::{Outline, PublicKey};
use torrent::{RelPath, piece_length_for};

use super::FetchError;
use super::digests;
use super::granted::{check_grant, check_manifest, version, warrant};
use super::hold::{End, Hold, rest};
use super::reader::{ReadTask, Reader};
use super::reuse::Shared;
use crate::contents::hex;
use crate::jobs::{Context, JobHandle, stoppable};

/// How often a fetcher looks whether the trackers still have the outline.
const OUTLINE_LOOK: Duration = Duration::from_secs(5);
/// And how often until the first has it: the registry may be on its way to it.
const OUTLINE_RETRY: Duration = Duration::from_millis(100);

/// The outline that a grant makes, if it is the one that the revision names. Asks the operator for the grant.
pub async fn granted_outline(
    context: &Arc<Context>,
    job: &JobHandle,
    stop: &CancellationToken,
) -> Result<Option<Arc<Outline>>, FetchError> {
    match Hold::open(context, job, stop).await {
        Ok(hold) => {
            if hold.grant.ingest.is_none() {
                return Ok(None);
            }
            Ok(Some(content(&hold).await?.outline))
        }
        Err(End::Stopped) => Err(FetchError::Stopped),
        Err(_) => Ok(None),
    }
}

/// Reads at the origin, as the operator's grants allow, until the operator has taken the result or `stop` is cancelled.
pub async fn fetch_growing(
    context: Arc<Context>,
    job: JobHandle,
    handle: TorrentHandle,
    reuse: Arc<Shared>,
    stop: CancellationToken,
) {
    loop {
        let end = Box::pin(attempt(&context, &job, &handle, &reuse, &stop)).await;
        if rest(&job, &stop, end).await.is_break() {
            return;
        }
    }
}

async fn attempt(
    context: &Arc<Context>,
    job: &JobHandle,
    handle: &TorrentHandle,
    reuse: &Shared,
    stop: &CancellationToken,
) -> End {
    let hold = match Hold::open(context, job, stop).await {
        Ok(hold) => hold,
        Err(end) => return end,
    };
    job.phase(NodePhase::Fetching);
    let halt = stop.child_token();
    let end = hold.under(&halt, Box::pin(grow(&hold, handle, reuse, &halt))).await;
    reuse.fetcher.send_replace(None);
    handle.read_origin(false);
    end
}

async fn grow(
    hold: &Hold,
    handle: &TorrentHandle,
    reuse: &Shared,
    halt: &CancellationToken,
) -> Result<(), FetchError> {
    // Ended when this ends; `halt` says whether anybody wanted that.
    let over = halt.child_token();
    let content = content(hold).await?;
    let ingest = hold.grant.ingest.as_ref().ok_or(FetchError::NoIngest)?;
    let fetcher = Fetcher { key: hold.context.fetcher_key.clone(), warrant: warrant(&ingest.warrant)? };
    handle.read_origin(true);
    reuse.fetcher.send_replace(Some(fetcher.clone()));
    let reader = Reader::new(ReadTask {
        handle: handle.clone(),
        origin: hold.origin()?,
        fetcher,
        files: content.files.clone(),
        outline: content.outline.clone(),
        counters: hold.counters.clone(),
        seat: hold.seat.subscribe(),
        halt: over.clone(),
    });
    let mut seat = hold.seat.subscribe();
    let lead = async {
        // Fails when the hold is gone, and this with it.
        drop(seat.wait_for(|seat| seat.index == 0).await);
        finish(hold, handle, &content, &over).await
    };
    let read = async {
        reader.run().await?;
        std::future::pending().await
    };
    let doing = async {
        tokio::select! {
            result = lead => result,
            result = read => result,
            () = keep_outline(hold, &content.outline) => Ok(()),
            error = count(hold, handle, reuse) => Err(error),
        }
    };
    let result = stoppable(halt, doing).await.unwrap_or(Err(FetchError::Stopped));
    // Nothing is written any more when this has returned.
    over.cancel();
    reader.ended().await;
    count_once(hold, handle, reuse);
    result
}

/// What is to be read: the outline, and the grant's files in its order.
struct Content {
    outline: Arc<Outline>,
    files: Arc<[GrantedFile]>,
}

/// What a grant makes; an error if it is not the ingest that the revision names. A million paths take a while to hash.
async fn content(hold: &Hold) -> Result<Content, FetchError> {
    let (grant, revision) = (Arc::clone(&hold.grant), hold.job.revision.clone());
    let made = tokio::task::spawn_blocking(move || {
        let ingest = grant.ingest.as_ref().ok_or(FetchError::NoIngest)?;
        let mut files: Vec<(RelPath, &GrantedFile)> =
            check_grant(&grant)?.into_iter().zip(&grant.files).collect();
        files.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let granted = files.iter().map(|(_, file)| GrantedFile::clone(file)).collect();
        let declared = files.iter().filter_map(|(path, file)| Some((path.clone(), file.declared()?)));
        let declared: BTreeMap<RelPath, [u8; 32]> = declared.collect();
        let sized: Vec<(RelPath, u64)> = files.into_iter().map(|(path, file)| (path, file.size)).collect();
        let refused = |why: &str| FetchError::Refused(why.to_owned());
        let key = PublicKey::parse(&ingest.key).ok_or_else(|| refused("its key cannot be read"))?;
        let length = piece_length_for(sized.iter().map(|(_, size)| size).sum());
        let outline =
            Outline::new(&revision, ingest.epoch, key, version(grant.torrent_version), length, sized)
                .map_err(|error| FetchError::Refused(error.to_string()))?
                .declaring(&declared);
        if outline.id().to_string() != ingest.id {
            return Err(refused("the files that it grants are not those of the ingest"));
        }
        Ok(Content { outline: Arc::new(outline), files: granted })
    });
    made.await.unwrap_or(Err(FetchError::Stopped))
}

/// Sees to it that the trackers have the outline: without it no other node can join.
async fn keep_outline(hold: &Hold, outline: &Outline) {
    let (id, bytes) = (outline.id().to_string(), bytes::Bytes::from(outline.encode()));
    loop {
        let trackers = hold.context.class().trackers.clone();
        let missing = hold.context.trackers.keep_outline(&trackers, &hold.job.revision, &id, &bytes).await;
        if missing.len() == trackers.len() {
            for error in missing {
                tracing::debug!(revision = hold.job.revision, %error, "the outline lies at no tracker yet");
            }
            tokio::time::sleep(OUTLINE_RETRY).await;
        } else {
            tokio::time::sleep(OUTLINE_LOOK).await;
        }
    }
}

/// Follows the torrent: what peers bring counts as getting on, for a fetcher that waits for the others.
/// Ends with an error when the fetchers contradict each other.
async fn count(hold: &Hold, handle: &TorrentHandle, reuse: &Shared) -> FetchError {
    loop {
        count_once(hold, handle, reuse);
        if let Some(Trouble::Faulty(fault)) = handle.stats().trouble {
            return FetchError::Faulty(fault);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn count_once(hold: &Hold, handle: &TorrentHandle, reuse: &Shared) {
    let stats = handle.stats();
    hold.counters.on_disk.store(stats.have, Ordering::Relaxed);
    let worked = stats.have
        + hold.counters.digested.load(Ordering::Relaxed)
        + reuse.hashed.load(Ordering::Relaxed)
        + hold.counters.origin.load(Ordering::Relaxed);
    hold.counters.worked.store(worked, Ordering::Relaxed);
    hold.count();
}

/// When all pieces are here: digests, manifest, metainfo; to the trackers and to the operator.
async fn finish(
    hold: &Hold,
    handle: &TorrentHandle,
    content: &Content,
    halt: &CancellationToken,
) -> Result<(), FetchError> {
    let folder = hold.context.layout.coming(&hold.job.revision);
    let digests =
        digests::of(handle, &content.outline, &folder.data(), &hold.counters.digested, halt).await?;
    check_declared(&content.files, &digests)?;
    let manifest = digests::manifest(&content.outline, &digests)?;
    check_manifest(&hold.grant, &manifest)?;
    let grown = handle.grown(digests.first().copied()).ok_or(FetchError::NoIngest)??;
    let metainfo = hold.context.with_trackers(grown);
    hold.count();
    hold.save(&metainfo, &manifest, false).await?;
    hold.store(&metainfo, &manifest).await?;
    hold.complete(&metainfo, &manifest).await
}

/// Each file that has a declared digest must have it.
fn check_declared(files: &[GrantedFile], digests: &[[u8; 32]]) -> Result<(), FetchError> {
    for (file, digest) in files.iter().zip(digests) {
        let found = hex(digest);
        if let Some(expected) = file.sha256.as_ref().filter(|expected| **expected != found) {
            return Err(FetchError::Digest { what: file.path.clone(), expected: expected.clone(), found });
        }
    }
    Ok(())
}
