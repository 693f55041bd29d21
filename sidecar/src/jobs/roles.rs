//! What a node does for the others while content grows: it reads at the origin, or it gives the second word on what was read.

use std::sync::Arc;

use swarm::TorrentHandle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use torrent::ingest::Outline;

use super::state::{Context, JobHandle};
use crate::fetch::{Shared, fetch_growing, witness};

/// What the revision's policy asks of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub fetcher: bool,
    pub witness: bool,
}

impl Asked {
    /// What it asks of a node now.
    pub fn of(job: &JobHandle, node: &str) -> Self {
        let spec = job.spec();
        let policy = spec.as_ref().map(|spec| &spec.policy);
        Self {
            fetcher: policy.is_some_and(|policy| policy.fetchers.iter().any(|fetcher| fetcher == node)),
            witness: policy.is_some_and(|policy| policy.witness.as_deref() == Some(node)),
        }
    }
}

/// A task for as long as it is asked for.
struct Work {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Work {
    async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "reading what others are to get was cut");
        }
    }
}

/// The tasks of this node.
pub(super) struct Roles {
    context: Arc<Context>,
    job: JobHandle,
    handle: TorrentHandle,
    outline: Arc<Outline>,
    reuse: Arc<Shared>,
    fetching: Option<Work>,
    witnessing: Option<Work>,
}

impl Roles {
    pub fn new(
        context: Arc<Context>,
        job: JobHandle,
        handle: TorrentHandle,
        outline: Arc<Outline>,
        reuse: Arc<Shared>,
    ) -> Self {
        Self { context, job, handle, outline, reuse, fetching: None, witnessing: None }
    }

    /// Whether it reads at the origin.
    pub fn fetches(&self) -> bool {
        self.fetching.is_some()
    }

    /// Begins what is asked for, and ends what is not.
    pub async fn play(&mut self, asked: Asked) {
        if !asked.fetcher {
            end(&mut self.fetching).await;
        } else if self.fetching.is_none() {
            let (reuse, stop) = (self.reuse.clone(), self.job.stop.child_token());
            let (context, job, handle) = self.world();
            let task = tokio::spawn(fetch_growing(context, job, handle, reuse, stop.clone()));
            self.fetching = Some(Work { stop, task });
        }
        // Who reads has nothing to say about what was read.
        if !asked.witness || asked.fetcher {
            end(&mut self.witnessing).await;
        } else if self.witnessing.is_none() {
            let (outline, stop) = (self.outline.clone(), self.job.stop.child_token());
            let (context, job, handle) = self.world();
            let task = tokio::spawn(witness(context, job, handle, outline, stop.clone()));
            self.witnessing = Some(Work { stop, task });
        }
    }

    fn world(&self) -> (Arc<Context>, JobHandle, TorrentHandle) {
        (self.context.clone(), self.job.clone(), self.handle.clone())
    }

    /// Ends all of it.
    pub async fn end(mut self) {
        end(&mut self.fetching).await;
        end(&mut self.witnessing).await;
    }
}

async fn end(work: &mut Option<Work>) {
    if let Some(work) = work.take() {
        work.end().await;
    }
}
