//! Files with a declared digest that another revision of this node has: they are linked, and neither read at an origin nor got from peers.
//!
//! Their pieces are held back from the start. Each counts as soon as its hash is known and the bytes have it; while this node reads at the
//! origin it vouches for them, so that a file that only it has goes on to the others.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use operator_api::reason;
use sha2::{Digest as _, Sha256};
use swarm::{Fetcher, PutError, TorrentHandle};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use torrent::ingest::Outline;

use crate::desired::Problem;
use crate::jobs::{JobHandle, stoppable};
use crate::store::{Content, Donors, Layout, StoreError, remove_tree};

/// What has come is looked at this often at most.
const LOOK: Duration = Duration::from_millis(100);
/// Pause after a disk that fails.
const RETRY: Duration = Duration::from_secs(5);
/// Read at a time.
const READ: usize = 1 << 20;

/// Linking, and taking in what was linked. Ends with [`Self::end`].
#[derive(Debug)]
pub struct Reuse {
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// What the job that reads at the origin has to do with it.
#[derive(Debug, Default)]
pub struct Shared {
    /// Vouches for what nobody has read; set while this node reads.
    pub fetcher: watch::Sender<Option<Fetcher>>,
    /// Bytes that were hashed: a sign of life.
    pub hashed: AtomicU64,
}

/// A file of the content that lies here.
struct Held {
    content: Content,
    path: PathBuf,
    pieces: Range<u32>,
    /// It stands where it belongs, from an earlier start.
    is_linked: bool,
}

impl Reuse {
    /// Holds back what other revisions have, and begins to link it.
    pub async fn begin(
        layout: &Layout,
        job: &JobHandle,
        outline: &Arc<Outline>,
        handle: &TorrentHandle,
    ) -> Self {
        let (shared, stop) = (Arc::<Shared>::default(), job.stop.child_token());
        let (of, layout, revision) = (outline.clone(), layout.clone(), job.revision.clone());
        let holds = handle.clone();
        // A million paths, and the manifests of all revisions.
        let held = tokio::task::spawn_blocking(move || hold(&layout, &revision, &of, &holds)).await;
        let (donors, files) = held.unwrap_or_default();
        let work = Work {
            donors: Arc::new(donors),
            job: job.clone(),
            handle: handle.clone(),
            shared: shared.clone(),
            stop: stop.clone(),
        };
        Self { shared, stop, task: tokio::spawn(work.run(files)) }
    }

    /// For the job that reads at the origin.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Waits until everything that was linked counts.
    pub async fn done(&mut self) {
        if let Err(error) = (&mut self.task).await {
            tracing::error!(%error, "linking files of other revisions was cut");
        }
    }

    /// Nothing is linked any more when this returns.
    pub async fn end(mut self) {
        self.stop.cancel();
        if !self.task.is_finished() {
            self.done().await;
        }
    }
}

/// Holds the pieces of files that other revisions have.
fn hold(layout: &Layout, revision: &str, outline: &Outline, handle: &TorrentHandle) -> (Donors, Vec<Held>) {
    if !outline.declares_digests() {
        return Default::default();
    }
    let (donors, data) = (Donors::gather(layout, revision), layout.coming(revision).data());
    let mut files = Vec::new();
    for (index, (path, size)) in outline.plan().files().iter().enumerate() {
        let Some(content) = outline.digest(index).map(|sha256| (sha256, *size)) else { continue };
        let (path, pieces) = (data.join(path.as_str()), outline.plan().pieces().of_file(index));
        if pieces.is_empty() || !donors.has(&content) {
            continue;
        }
        let is_linked = donors.lender(&content, &path).is_some();
        if is_linked {
            // Whatever of it counts already: the rest must not be written to, it is another revision's too.
            handle.hold_rest(pieces.clone());
        } else if !handle.hold(pieces.clone()) {
            continue;
        }
        files.push(Held { content, path, pieces, is_linked });
    }
    (donors, files)
}

/// The task.
struct Work {
    donors: Arc<Donors>,
    job: JobHandle,
    handle: TorrentHandle,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Work {
    async fn run(self, files: Vec<Held>) {
        for file in files {
            let pieces = file.pieces.clone();
            if !self.link(file).await {
                self.handle.unhold(pieces.clone());
            }
            if !self.adopt(pieces.end).await {
                return;
            }
        }
        let (mut news, mut fetcher) = (self.handle.news(), self.shared.fetcher.subscribe());
        while !self.handle.held().is_empty() {
            let changed = async {
                tokio::select! {
                    changed = news.changed() => changed,
                    changed = fetcher.changed() => changed,
                    // What could not be read is tried again.
                    () = tokio::time::sleep(RETRY) => Ok(()),
                }
            };
            let Ok(Ok(())) = stoppable(&self.stop, changed).await else { return };
            if !self.adopt(u32::MAX).await || stoppable(&self.stop, tokio::time::sleep(LOOK)).await.is_err() {
                return;
            }
        }
    }

    /// Links a file and looks whether it is what it is said to be; `false` if it has to be got.
    async fn link(&self, file: Held) -> bool {
        let (donors, shared, stop) = (self.donors.clone(), self.shared.clone(), self.stop.clone());
        let linked = tokio::task::spawn_blocking(move || {
            if file.is_linked {
                // Some of it may count. What is wrong with the rest shows piece by piece.
                return Ok(true);
            }
            remove_tree(&file.path)?;
            if !donors.link(&file.content, &file.path)? {
                return Ok(false);
            }
            let is_sound = digest(&file.path, &shared.hashed, &stop)?.is_none_or(|is| is == file.content.0);
            if !is_sound {
                // The other revision's file is damaged; it is not ours to repair it.
                remove_tree(&file.path)?;
            }
            Ok::<_, StoreError>(is_sound)
        });
        match linked.await {
            Ok(Ok(linked)) => linked,
            Ok(Err(error)) => {
                tracing::warn!(revision = self.job.revision, %error, "a file of another revision cannot be linked");
                false
            }
            Err(_) => false,
        }
    }

    /// Takes in what can be, of the pieces before `end`, all of which are linked; `false` if nothing more is to be done.
    async fn adopt(&self, end: u32) -> bool {
        let fetcher = self.shared.fetcher.borrow().clone();
        for piece in self.handle.held().into_iter().filter(|piece| *piece < end) {
            if self.stop.is_cancelled() {
                return false;
            }
            match self.handle.adopt(fetcher.as_ref(), piece).await {
                Ok(_) => {}
                Err(PutError::Io(error)) => {
                    let message =
                        format!("a file that is linked from another revision cannot be read: {error}");
                    self.job.problem(Problem { reason: reason::DISK_ERROR, message });
                    return stoppable(&self.stop, tokio::time::sleep(RETRY)).await.is_ok();
                }
                // The torrent says so as its trouble.
                Err(_) => return false,
            }
        }
        true
    }
}

/// `None` if it was told to stop.
fn digest(path: &Path, read: &AtomicU64, stop: &CancellationToken) -> Result<Option<[u8; 32]>, StoreError> {
    let mut file = File::open(path).map_err(StoreError::io("open", path))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; READ]);
    while !stop.is_cancelled() {
        match file.read(&mut buffer).map_err(StoreError::io("read", path))? {
            0 => return Ok(Some(hasher.finalize().into())),
            count => {
                hasher.update(&buffer[..count]);
                read.fetch_add(count as u64, Ordering::Relaxed);
            }
        }
    }
    Ok(None)
}
