//! What a node does for the others while content grows: it reads at the origin, or it gives the second word on what was read, or it only
//! says when something of it cannot be right.

use std::sync::Arc;

use swarm::TorrentHandle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use torrent::ingest::Outline;

use super::state::{Context, JobHandle};
use crate::fetch::{Shared, fetch_growing, watch, witness};

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
    watching: Option<Work>,
}

impl Roles {
    pub fn new(
        context: Arc<Context>,
        job: JobHandle,
        handle: TorrentHandle,
        outline: Arc<Outline>,
        reuse: Arc<Shared>,
    ) -> Self {
        Self { context, job, handle, outline, reuse, fetching: None, witnessing: None, watching: None }
    }

    /// Whether it reads at the origin.
    pub fn fetches(&self) -> bool {
        self.fetching.is_some()
    }

    /// Begins what is asked for, and ends what is not.
    pub async fn play(&mut self, asked: Asked) {
        let (context, job, handle) = (&self.context, &self.job, &self.handle);
        let (outline, reuse) = (&self.outline, &self.reuse);
        set(&mut self.fetching, asked.fetcher, job, |stop| {
            fetch_growing(context.clone(), job.clone(), handle.clone(), reuse.clone(), stop)
        })
        .await;
        // Who reads says with its grant what is wrong.
        set(&mut self.witnessing, asked.witness && !asked.fetcher, job, |stop| {
            witness(context.clone(), job.clone(), handle.clone(), outline.clone(), stop)
        })
        .await;
        set(&mut self.watching, !asked.witness && !asked.fetcher, job, |stop| {
            watch(context.clone(), job.clone(), handle.clone(), outline.clone(), stop)
        })
        .await;
    }

    /// Ends all of it.
    pub async fn end(mut self) {
        end(&mut self.fetching).await;
        end(&mut self.witnessing).await;
        end(&mut self.watching).await;
    }
}

/// Begins a task that is asked for, or ends one that is not any more.
async fn set<F>(
    work: &mut Option<Work>,
    asked: bool,
    job: &JobHandle,
    task: impl FnOnce(CancellationToken) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    if !asked {
        end(work).await;
    } else if work.is_none() {
        let stop = job.stop.child_token();
        *work = Some(Work { task: tokio::spawn(task(stop.clone())), stop });
    }
}

async fn end(work: &mut Option<Work>) {
    if let Some(work) = work.take() {
        work.end().await;
    }
}
