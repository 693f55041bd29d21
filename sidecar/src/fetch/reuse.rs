//! Files with a declared digest that another revision of this node has, or its container runtime: they are linked or copied, and neither
//! read at an origin nor got from peers.
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
/// A file in which so many reads have failed is not linked any more.
const MAX_FAILURES: u32 = 3;
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

/// What of the content other revisions of this node have.
#[derive(Debug, Default)]
pub struct Found {
    donors: Donors,
    files: Vec<Held>,
}

/// A file of the content that lies here.
#[derive(Debug)]
struct Held {
    content: Content,
    path: PathBuf,
    pieces: Range<u32>,
    /// It stands where it belongs, from an earlier start.
    is_linked: bool,
    /// How often a piece of it could not be read.
    failures: u32,
}

impl Found {
    /// Looks before the torrent is there: what is found has to be held back from its first moment. Reads the manifests of all revisions,
    /// and looks at a million paths: not for an async thread.
    pub fn look(layout: &Layout, revision: &str, outline: &Outline) -> Self {
        if !outline.declares_digests() {
            return Self::default();
        }
        let (donors, data) = (Donors::gather(layout, revision), layout.coming(revision).data());
        let plan = outline.plan();
        let held = plan.files().iter().enumerate().filter_map(|(index, (path, size))| {
            let content = (outline.digest(index)?, *size);
            let (path, pieces) = (data.join(path.as_str()), plan.pieces().of_file(index));
            donors.file(&content).filter(|_| !pieces.is_empty())?;
            let is_linked = donors.lender(&content, &path).is_some();
            // Whatever else stands there is the torrent's own, in part.
            let is_free = is_linked || std::fs::symlink_metadata(&path).is_err();
            is_free.then_some(Held { content, path, pieces, is_linked, failures: 0 })
        });
        let files = held.collect();
        Self { donors, files }
    }

    /// The pieces to hold back.
    pub fn pieces(&self) -> Vec<Range<u32>> {
        self.files.iter().map(|file| file.pieces.clone()).collect()
    }
}

impl Reuse {
    /// Begins to link what was found, for a torrent that holds it back.
    pub fn begin(found: Found, job: &JobHandle, handle: &TorrentHandle) -> Self {
        let (shared, stop) = (Arc::<Shared>::default(), job.stop.child_token());
        let work = Work {
            donors: Arc::new(found.donors),
            job: job.clone(),
            handle: handle.clone(),
            shared: shared.clone(),
            stop: stop.clone(),
        };
        Self { shared, stop, task: tokio::spawn(work.run(found.files)) }
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
        let mut linked = Vec::new();
        for mut file in files {
            if self.link(&file).await {
                self.adopt(&mut file).await;
                linked.push(file);
            } else {
                self.handle.unhold(file.pieces);
            }
            if self.stop.is_cancelled() {
                return;
            }
        }
        let (mut news, mut fetcher) = (self.handle.news(), self.shared.fetcher.subscribe());
        loop {
            linked.retain(|file| !self.handle.held(file.pieces.clone()).is_empty());
            if linked.is_empty() {
                return;
            }
            let changed = async {
                tokio::select! {
                    changed = news.changed() => changed,
                    changed = fetcher.changed() => changed,
                    // What could not be read is tried again.
                    () = tokio::time::sleep(RETRY) => Ok(()),
                }
            };
            let Ok(Ok(())) = stoppable(&self.stop, changed).await else { return };
            for file in &mut linked {
                self.adopt(file).await;
            }
            if stoppable(&self.stop, tokio::time::sleep(LOOK)).await.is_err() {
                return;
            }
        }
    }

    /// Links a file that is what it is said to be; `false` if it has to be got. A link that stands was looked at before it was made.
    async fn link(&self, file: &Held) -> bool {
        if file.is_linked {
            return true;
        }
        let (donors, shared, stop) = (self.donors.clone(), self.shared.clone(), self.stop.clone());
        let (content, path) = (file.content, file.path.clone());
        let linked = tokio::task::spawn_blocking(move || {
            let Some(from) = donors.file(&content) else { return Ok(false) };
            // A damaged one is the other revision's to repair.
            Ok(digest(&from, &shared.hashed, &stop)? == Some(content.0)
                && donors.take(&content, &path, &stop)?)
        });
        match linked.await {
            Ok(Ok(linked)) => linked,
            Ok(Err::<_, StoreError>(error)) => {
                tracing::warn!(revision = self.job.revision, %error, "a file of another revision cannot be linked");
                false
            }
            Err(_) => false,
        }
    }

    /// Takes in what can be of a file that is linked. What it cannot is the torrent's trouble, or, if it cannot be read again and again,
    /// is got like everything else.
    async fn adopt(&self, file: &mut Held) {
        let fetcher = self.shared.fetcher.borrow().clone();
        for piece in self.handle.held(file.pieces.clone()) {
            if self.stop.is_cancelled() {
                return;
            }
            if fetcher.is_none() && !self.handle.knows(piece) {
                continue;
            }
            let Err(PutError::Io(error)) = self.handle.adopt(fetcher.as_ref(), piece).await else { continue };
            file.failures += 1;
            let message = format!("a file that is linked from another revision cannot be read: {error}");
            self.job.problem(Problem { reason: reason::DISK_ERROR, message });
            if file.failures >= MAX_FAILURES {
                self.give_up(file).await;
            }
            return;
        }
    }

    /// The file is got from peers or the origin: pieces that counted already show as missing when they are read.
    async fn give_up(&self, file: &Held) {
        let path = file.path.clone();
        let removed = tokio::task::spawn_blocking(move || remove_tree(&path)).await;
        match removed {
            Ok(Ok(())) => self.handle.unhold(file.pieces.clone()),
            Ok(Err(error)) => {
                tracing::warn!(revision = self.job.revision, %error, "a link that cannot be read cannot be removed");
            }
            Err(_) => {}
        }
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
