//! This node reads a blob at its registry, for as long as the operator lets it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use operator_api::{DemandGrant, GrantedFile};
use origin::{Access, Options, Origin};
use swarm::{Fetcher, TorrentHandle};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use torrent::ingest::Outline;

use super::claim::Claim;
use crate::fetch::{Counters, FetchError, ReadTask, Reader, Seat, warrant};
use crate::jobs::{Context, stoppable};

/// An operator that says nothing may be starting anew, and a pull would break: reading goes on for so long. Should another node have been let in
/// meanwhile, the two see it by each other's hashes, and read at most a few pieces twice.
const SILENCE: Duration = Duration::from_secs(45);

/// A task that reads. It ends when this is [ended](Self::end), and is told to when this is dropped.
#[derive(Debug)]
pub struct Reading {
    halt: CancellationToken,
    /// None when it has ended by itself.
    task: Option<JoinHandle<Result<(), FetchError>>>,
    access: Arc<Access>,
    until: Instant,
}

impl Reading {
    /// Begins to read.
    pub fn begin(
        context: &Arc<Context>,
        claim: &Claim,
        handle: &TorrentHandle,
        grant: &DemandGrant,
        stop: &CancellationToken,
    ) -> Result<Self, FetchError> {
        let access = Arc::new(Access::new(grant.authorization.as_ref()));
        let denied = context.denied_origins.clone();
        let options = Options { denied, access: access.clone(), ..Options::default() };
        let origin = Origin::new(&grant.origin_policy, options)?;
        let fetcher = Fetcher { key: context.fetcher_key.clone(), warrant: warrant(&grant.warrant)? };
        let (seat, halt) = (watch::Sender::new(Seat { index: 0, of: 1 }), stop.child_token());
        let task = ReadTask {
            handle: handle.clone(),
            origin,
            fetcher,
            files: files(&claim.outline, &grant.url),
            outline: Arc::new(claim.outline.clone()),
            counters: Counters::default(),
            seat: seat.subscribe(),
            halt: halt.child_token(),
        };
        let (context, ended) = (context.clone(), halt.clone());
        let task = tokio::spawn(async move {
            let result = read(&context, task, &ended).await;
            drop(seat);
            result
        });
        Ok(Self { halt, task: Some(task), access, until: Instant::now() + SILENCE })
    }

    /// The operator lets it go on.
    pub fn renew(&mut self, grant: &DemandGrant) {
        self.until = Instant::now() + SILENCE;
        if let Some(authorization) = &grant.authorization {
            self.access.renew(authorization);
        }
    }

    /// Nothing was heard of the operator for too long.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// How it ends by itself: never, if it has.
    pub async fn result(&mut self) -> Result<(), FetchError> {
        let Some(task) = &mut self.task else { return std::future::pending().await };
        let result = task.await.unwrap_or(Err(FetchError::Stopped));
        self.task = None;
        result
    }

    /// Ends it. Nothing of it reads or writes any more then.
    pub async fn end(mut self) {
        self.halt.cancel();
        if let Some(task) = self.task.take() {
            task.await.ok();
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.halt.cancel();
    }
}

async fn read(context: &Context, task: ReadTask, halt: &CancellationToken) -> Result<(), FetchError> {
    let (handle, over, counters) = (task.handle.clone(), task.halt.clone(), task.counters.clone());
    handle.read_origin(true);
    let reader = Reader::new(task);
    let result = stoppable(halt, reader.run()).await.unwrap_or(Err(FetchError::Stopped));
    over.cancel();
    reader.ended().await;
    handle.read_origin(false);
    context.metrics.demand_origin_bytes.inc_by(counters.origin.load(Ordering::Relaxed));
    result
}

/// The one file of a blob.
fn files(outline: &Outline, url: &str) -> Arc<[GrantedFile]> {
    let file = |(index, (path, size)): (usize, &(torrent::RelPath, u64))| GrantedFile {
        path: path.to_string(),
        url: url.to_owned(),
        text: None,
        size: *size,
        sha256: outline.digest(index).map(hex::encode),
        etag: None,
        last_modified: None,
    };
    outline.plan().files().iter().enumerate().map(file).collect()
}
