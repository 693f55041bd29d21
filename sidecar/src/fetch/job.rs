//! The elected node's job where content is shared only when it is whole: grant, bytes, metainfo at the trackers, word to the
//! operator.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crds::NodePhase;
use tokio_util::sync::CancellationToken;
use torrent::Metainfo;
use torrent::manifest::Manifest;

use super::hold::{End, Hold, blocking, rest};
use super::{FetchError, Whole, check_grant, read_all};
use crate::contents;
use crate::desired::Data;
use crate::jobs::{Context, JobHandle, stoppable};
use crate::store::{Folder, Record, allocated};

/// Fetches until the operator has taken it, then waits to be stopped: the torrents are in the revision then.
pub async fn fetch(context: Arc<Context>, job: JobHandle) {
    loop {
        let end = attempt(&context, &job).await;
        match rest(&job, &job.stop, end).await {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(true) => return job.stop.cancelled().await,
            ControlFlow::Break(false) => return,
        }
    }
}

async fn attempt(context: &Arc<Context>, job: &JobHandle) -> End {
    let hold = match Hold::open(context, job, &job.stop).await {
        Ok(hold) => hold,
        Err(end) => return end,
    };
    job.phase(NodePhase::Fetching);
    let halt = job.stop.child_token();
    hold.under(&halt, read_and_tell(&hold, &halt)).await
}

async fn read_and_tell(hold: &Hold, halt: &CancellationToken) -> Result<(), FetchError> {
    let folder = hold.context.layout.coming(&hold.job.revision);
    let (metainfo, manifest) = if let Some(whole) = fetched_before(hold, &folder).await {
        whole
    } else {
        let whole = read(hold, &folder, halt).await?;
        (whole.metainfo, whole.manifest)
    };
    hold.job.update(|state| state.startable = true);
    let tell = async {
        hold.store(&metainfo, &manifest).await?;
        hold.complete(&metainfo, &manifest).await
    };
    stoppable(halt, tell).await.unwrap_or(Err(FetchError::Stopped))
}

/// A fetch that was cut between its last byte and the operator's word.
async fn fetched_before(hold: &Hold, folder: &Folder) -> Option<(Metainfo, Manifest)> {
    let (folder, expected) = (folder.clone(), hold.grant.expected_digest.clone());
    let look = move || {
        let record = Record::load(&folder).ok()??;
        let digest = record.manifest_digest.clone().filter(|_| record.fetched)?;
        if expected.is_some_and(|expected| expected != digest) {
            return None;
        }
        let metainfo = contents::load_metainfo(&folder, &record).ok()?;
        let manifest = contents::load_manifest(&folder, &digest).ok()?;
        crate::jobs::whole(&folder.data(), &manifest).then_some((metainfo, manifest))
    };
    let whole = tokio::task::spawn_blocking(look).await.ok().flatten()?;
    hold.counters.on_disk.store(whole.1.total_size(), Ordering::Relaxed);
    Some(whole)
}

async fn read(hold: &Hold, folder: &Folder, halt: &CancellationToken) -> Result<Whole, FetchError> {
    check_grant(&hold.grant)?;
    make_room(hold, folder).await?;
    hold.job.update(|state| state.data = Data::Incoming);
    let origin = hold.origin()?;
    let layout = &hold.context.layout;
    let mut whole = read_all(layout, &hold.job.revision, &hold.grant, origin, &hold.counters, halt).await?;
    whole.metainfo = hold.context.with_trackers(whole.metainfo);
    hold.count();
    hold.save(&whole.metainfo, &whole.manifest, true).await?;
    Ok(whole)
}

async fn make_room(hold: &Hold, folder: &Folder) -> Result<(), FetchError> {
    let total = hold.grant.files.iter().map(|file| file.size).sum();
    let (folder, spec) = (folder.clone(), hold.job.spec());
    let revision = hold.job.revision.clone();
    let (layout, origin_bytes) = (hold.context.layout.clone(), hold.before);
    let here = blocking(move || {
        layout.ensure()?;
        std::fs::create_dir_all(folder.path())
            .map_err(crate::store::StoreError::io("make", folder.path()))?;
        if let Some(spec) = spec {
            let old = Record::load(&folder).ok().flatten();
            let mut record = old.unwrap_or_else(|| Record::new(&revision, &spec));
            record.update(&spec);
            record.fetched = false;
            record.origin_bytes = origin_bytes;
            record.save(&folder)?;
        }
        Ok(allocated(&folder.data()))
    })
    .await?;
    let (root, quota) = (hold.context.layout.root(), hold.context.class().quota);
    Ok(hold.context.ledger.book(root, &hold.job.revision, total, here, quota)?)
}
