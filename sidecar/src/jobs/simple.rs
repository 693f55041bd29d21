//! The two ends of a revision: removed, or given to the user.

use std::sync::Arc;
use std::time::Duration;

use super::elsewhere::bring_back;
use super::state::{Context, JobHandle, stoppable};
use crate::desired::Problem;
use crate::store::{Folder, Layout, Record, StoreError, remove, retain};

/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Removes a revision: link, mark, bytes. Tries until it works.
pub async fn remove_job(context: Arc<Context>, job: JobHandle) {
    let revision = job.revision.clone();
    forget_image(&context, &revision).await;
    let (layout, name) = (context.layout.clone(), revision.clone());
    let work = move || {
        let record = record_of(&layout, &name, Record::load)?;
        remove(&layout, &name, record.as_ref())
    };
    if until_done(&job, work).await {
        context.ledger.free(&revision);
        tracing::info!(revision, "removed");
    }
}

/// Gives a revision to the user. Tries until it works.
pub async fn retain_job(context: Arc<Context>, job: JobHandle) {
    let (layout, revision, stop) = (context.layout.clone(), job.revision.clone(), job.stop.clone());
    let whole = move || match record_of(&layout, &revision, Record::load)? {
        Some(record) => bring_back(&layout, &record, &stop),
        None => Ok(()),
    };
    // Layers go when the runtime is let go of: not before all of them are here.
    if !until_done(&job, whole).await || job.stop.is_cancelled() {
        return;
    }
    forget_image(&context, &job.revision).await;
    let (layout, revision) = (context.layout.clone(), job.revision.clone());
    if until_done(&job, move || retain(&layout, &revision)).await {
        tracing::info!(revision = job.revision, "kept for the user, no longer shared");
    }
}

/// The runtime keeps the image for us no more.
async fn forget_image(context: &Context, revision: &str) {
    let Some(images) = &context.images else { return };
    let (layout, name) = (context.layout.clone(), revision.to_owned());
    let record = tokio::task::spawn_blocking(move || record_of(&layout, &name, Record::load)).await;
    let record = record.ok().and_then(Result::ok).flatten();
    // One without a record may have been an image, though there is nothing to name it by.
    if record.as_ref().is_none_or(|record| record.image.is_some()) {
        images.forget(revision, record.and_then(|record| record.image).as_ref()).await;
    }
}

/// The record from where the revision is published, else from where it is coming. One that is damaged must not keep its
/// folder from being removed.
fn record_of(
    layout: &Layout,
    revision: &str,
    load: impl Fn(&Folder) -> Result<Option<Record>, StoreError>,
) -> Result<Option<Record>, StoreError> {
    for folder in [layout.published(revision), layout.coming(revision)] {
        match load(&folder) {
            Ok(Some(record)) => return Ok(Some(record)),
            Ok(None) | Err(StoreError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

async fn until_done(
    job: &JobHandle,
    work: impl Fn() -> Result<(), StoreError> + Clone + Send + 'static,
) -> bool {
    loop {
        match tokio::task::spawn_blocking(work.clone()).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => {
                job.problem(Problem { reason: error.reason(), message: error.to_string() });
            }
            Err(error) => tracing::error!(revision = job.revision, %error, "a job on the disk was cut"),
        }
        if stoppable(&job.stop, tokio::time::sleep(RETRY)).await.is_err() {
            return false;
        }
    }
}
