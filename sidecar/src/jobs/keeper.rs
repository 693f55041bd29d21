//! Metainfo at all trackers: those that have forgotten it, or never had it, get it from whoever seeds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use swarm::TrackerStatus;
use tokio::task::JoinSet;

use super::documents::infohash;
use super::state::Context;
use crate::clients::TrackerError;
use crate::store::{Folder, Record, read_file_capped};

/// Nodes wait up to so long before they look, so that one of them is the first.
const SPREAD: Duration = Duration::from_secs(3);
/// The largest document, in bytes.
const MAX_DOCUMENT: u64 = 128 << 20;

/// Follows the epochs of a torrent's trackers.
pub struct Keeper {
    context: Arc<Context>,
    /// The epoch in which each tracker (announce URL) is known to have it.
    known: BTreeMap<String, String>,
    running: JoinSet<Option<(String, String)>>,
}

impl Keeper {
    /// Knowing nothing.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, known: BTreeMap::new(), running: JoinSet::new() }
    }

    /// Looks after trackers whose epoch is new, in the background; one that fails is looked after again next time.
    pub fn keep(&mut self, record: &Record, trackers: &[TrackerStatus], folder: &Folder) {
        while let Some(done) = self.running.try_join_next() {
            if let Ok(Some((url, epoch))) = done {
                self.known.insert(url, epoch);
            }
        }
        if !self.running.is_empty() {
            return;
        }
        for tracker in trackers {
            let Some(epoch) = tracker.tracker_id.clone() else { continue };
            if self.known.get(&tracker.url) == Some(&epoch) {
                continue;
            }
            let (context, record, folder) = (Arc::clone(&self.context), record.clone(), folder.clone());
            let url = tracker.url.clone();
            let wait = rand::rng().random_range(Duration::ZERO..SPREAD);
            self.running.spawn(async move {
                tokio::time::sleep(wait).await;
                match ensure(&context, &record, &folder, url.trim_end_matches("/announce")).await {
                    Ok(()) => Some((url, epoch)),
                    Err(error) => {
                        tracing::debug!(revision = record.revision, %error, "cannot look after the metainfo at a tracker");
                        None
                    }
                }
            });
        }
    }
}

async fn ensure(
    context: &Context,
    record: &Record,
    folder: &Folder,
    tracker: &str,
) -> Result<(), TrackerError> {
    let (Some(name), Some(digest)) = (infohash(record), record.manifest_digest.as_deref()) else {
        return Ok(());
    };
    if context.trackers.has_both(tracker, name, digest).await? {
        return Ok(());
    }
    let paths = [folder.metainfo(), folder.manifest()];
    let read = move || paths.map(|path| read_file_capped(&path, MAX_DOCUMENT).ok().flatten());
    let Ok([Some(metainfo), Some(manifest)]) = tokio::task::spawn_blocking(read).await else { return Ok(()) };
    tracing::info!(
        revision = record.revision,
        tracker,
        "storing metainfo and manifest at a tracker that lacks one of them"
    );
    let (metainfo, manifest) = ((name, metainfo.into()), (digest, manifest.into()));
    context.trackers.store(tracker, &record.revision, metainfo, manifest).await
}
