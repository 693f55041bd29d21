//! Reads at the origin what has to be read, stripe by stripe, and puts it into the torrent piece by piece.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use operator_api::GrantedFile;
use origin::{Origin, Validator};
use swarm::{Buffer, Fetcher, TorrentHandle};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use torrent::PieceMap;
use torrent::ingest::Outline;

use super::connection::{Connection, Place};
use super::stripes::{Seat, Stripes, Turn, Unread};
use super::{Counters, FetchError, MAX_FILES};
use crate::jobs::stoppable;

/// Pieces of one reader that are being hashed and written while the next is read.
const PUTS: usize = 4;
/// When there is nothing to read now, it is looked again after so long.
const LOOK: Duration = Duration::from_millis(200);

/// What is to be read, and for whom.
#[derive(Debug)]
pub struct ReadTask {
    /// The torrent that grows.
    pub handle: TorrentHandle,
    /// The client for the origin.
    pub origin: Origin,
    /// Whose signature stands under the hashes.
    pub fetcher: Fetcher,
    /// In the order of the torrent.
    pub files: Arc<[GrantedFile]>,
    /// The files and pieces.
    pub outline: Arc<Outline>,
    /// Counted while it is read.
    pub counters: Counters,
    /// Which of the fetchers this node is; it may change while it reads.
    pub seat: watch::Receiver<Seat>,
    /// Ends pauses.
    pub halt: CancellationToken,
}

/// Reads at the origin what a torrent that grows lacks.
#[derive(Debug)]
pub struct Reader {
    pub(super) handle: TorrentHandle,
    pub(super) origin: Origin,
    pub(super) fetcher: Fetcher,
    /// In the order of the torrent.
    pub(super) files: Arc<[GrantedFile]>,
    pub(super) outline: Arc<Outline>,
    pub(super) counters: Counters,
    /// What files that were resolved without a validator have shown since.
    validators: Mutex<BTreeMap<usize, Validator>>,
    stripes: Mutex<Stripes>,
    seat: watch::Receiver<Seat>,
    /// The origin gives no parts of files: it is read by one fetcher, from start to end.
    sequential: AtomicBool,
    /// The origin has given a part of a file.
    parts: AtomicBool,
    began: Instant,
    pub(super) halt: CancellationToken,
    /// Pieces on their way to the disk.
    tasks: TaskTracker,
    puts: Arc<Semaphore>,
    failure: Arc<Mutex<Option<FetchError>>>,
}

/// What the torrent lacks.
struct Lacking<'a>(&'a TorrentHandle);

impl Unread for Lacking<'_> {
    fn unread(&self, pieces: &Range<u32>) -> u32 {
        self.0.unread(pieces.clone())
    }
}

impl Reader {
    /// Nothing is read yet.
    pub fn new(task: ReadTask) -> Self {
        let ReadTask { handle, origin, fetcher, files, outline, counters, seat, halt } = task;
        let stripes = Stripes::new(outline.plan().pieces(), files.len());
        Self {
            handle,
            origin,
            fetcher,
            files,
            outline,
            counters,
            validators: Mutex::default(),
            stripes: Mutex::new(stripes),
            seat,
            sequential: AtomicBool::new(false),
            parts: AtomicBool::new(false),
            began: Instant::now(),
            halt,
            tasks: TaskTracker::new(),
            puts: Arc::new(Semaphore::new(PUTS)),
            failure: Arc::default(),
        }
    }

    /// Reads until nothing has to be read any more; the first error ends it.
    pub async fn run(&self) -> Result<(), FetchError> {
        let readers = (MAX_FILES.min(self.files.len()) / self.seat().of as usize).max(1);
        let mut running: FuturesUnordered<_> = (0..readers).map(|_| self.read()).collect();
        let failed = async {
            while self.failed().is_none() {
                tokio::time::sleep(LOOK).await;
            }
            self.failed().take().map_or(Ok(()), Err)
        };
        let reading = async {
            while let Some(result) = running.next().await {
                result?;
            }
            Ok::<_, FetchError>(())
        };
        tokio::select! {
            result = reading => result?,
            result = failed => result?,
        }
        self.written().await
    }

    /// Waits until nothing of it is being written any more.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn written(&self) -> Result<(), FetchError> {
        let _all = self.puts.acquire_many(PUTS as u32).await;
        self.failed().take().map_or(Ok(()), Err)
    }

    fn failed(&self) -> MutexGuard<'_, Option<FetchError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stripes(&self) -> MutexGuard<'_, Stripes> {
        self.stripes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seat(&self) -> Seat {
        *self.seat.borrow()
    }

    pub(super) fn map(&self) -> &PieceMap {
        self.outline.plan().pieces()
    }

    /// One reader: one connection at a time.
    async fn read(&self) -> Result<(), FetchError> {
        let (mut connection, mut seat) = (None, self.seat.clone());
        while !self.handle.is_whole() {
            if seat.has_changed().unwrap_or(false) {
                seat.mark_unchanged();
                self.stripes().reseat();
            }
            let Some(stripe) = self.take() else {
                connection = None;
                tokio::time::sleep(LOOK).await;
                continue;
            };
            let pieces = self.stripes().pieces(stripe);
            let helps = !self.seat().owns(stripe);
            let result = self.read_stripe(pieces, helps, &mut connection).await;
            self.stripes().leave(stripe);
            if !result? {
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// The next stripe. Where parts cannot be had the first fetcher reads all: each of the others would have to read all too.
    fn take(&self) -> Option<usize> {
        if self.gives_way() {
            return None;
        }
        let sequential = self.sequential.load(Ordering::Relaxed);
        let seat = if sequential { Seat { index: 0, of: 1 } } else { self.seat() };
        // Until it is known whether parts can be had, a second reader of a file would read its beginning once more.
        let apart = sequential || !self.parts.load(Ordering::Relaxed);
        let turn = Turn { seat, apart, sequential };
        self.stripes().take(turn, &Lacking(&self.handle), self.began.elapsed())
    }

    /// Whether this node has nothing to read, because the origin gives no parts and another node reads all.
    pub(super) fn gives_way(&self) -> bool {
        self.sequential.load(Ordering::Relaxed) && self.seat().index > 0
    }

    /// An origin has sent a part of a file.
    pub(super) fn gives_parts(&self) {
        self.parts.store(true, Ordering::Relaxed);
    }

    /// An origin has sent a whole file where a part was asked for, or could be asked for nothing else.
    pub(super) fn no_parts(&self, file: usize) {
        if !self.sequential.swap(true, Ordering::Relaxed) {
            tracing::info!(
                path = self.files[file].path,
                "the origin gives no parts: one node reads it from the start"
            );
            self.stripes().reseat();
        }
    }

    /// Reads what of a stripe has to be read; says whether there was anything. Who `helps` gives way when its owner is at it too.
    async fn read_stripe(
        &self,
        pieces: Range<u32>,
        helps: bool,
        connection: &mut Option<Connection>,
    ) -> Result<bool, FetchError> {
        let mut begun = false;
        for piece in pieces.clone() {
            if self.handle.claim(piece..piece + 1).is_none() {
                continue;
            }
            let claim = Claim { handle: &self.handle, piece, kept: false };
            let Some(segment) = self.map().segments(piece).next() else { continue };
            begun = true;
            let left = u64::from(pieces.end - piece) * self.map().piece_length();
            let (file, from) = (segment.file, segment.offset_in_file);
            let place = Place { file, from, until: from + left };
            let buffer = self.handle.buffer(segment.len).await.ok_or(FetchError::Stopped)?;
            let asked = Instant::now();
            let Some(buffer) = self.fill(place, buffer, connection).await? else { break };
            self.took(asked.elapsed());
            if self.handle.knows(piece) {
                self.counters.in_vain.fetch_add(1, Ordering::Relaxed);
                if helps {
                    *connection = None;
                    break;
                }
            }
            self.put(claim, buffer).await?;
        }
        Ok(begun)
    }

    /// A piece has taken so long to read.
    fn took(&self, time: Duration) {
        let now = self.began.elapsed();
        let mut stripes = self.stripes();
        stripes.took(time);
        stripes.look(&Lacking(&self.handle), now);
    }

    /// Hashes and writes a piece while others are read.
    async fn put(&self, claim: Claim<'_>, bytes: Buffer) -> Result<(), FetchError> {
        let turn = self.puts.clone().acquire_owned().await.map_err(|_| FetchError::Stopped)?;
        if let Some(error) = self.failed().take() {
            return Err(error);
        }
        let (handle, fetcher, failure) = (self.handle.clone(), self.fetcher.clone(), self.failure.clone());
        let piece = claim.keep();
        self.tasks.spawn(async move {
            if let Err(error) = handle.put(&fetcher, piece, bytes).await {
                handle.unclaim(piece);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error.into());
            }
            drop(turn);
        });
        Ok(())
    }

    /// What a file must be: as it was resolved, or as it has shown itself first.
    pub(super) fn validator(&self, file: usize) -> Validator {
        let seen = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&file).cloned().unwrap_or_else(|| Validator::from(&self.files[file]))
    }

    /// A file that was resolved without a validator has shown one.
    pub(super) fn validator_seen(&self, file: usize, seen: &Validator) {
        if !self.validator(file).is_telling() {
            self.validators.lock().unwrap_or_else(PoisonError::into_inner).insert(file, seen.clone());
        }
    }

    /// Waits, unless it is told to stop.
    pub(super) async fn pause(&self, pause: Duration) -> Result<(), FetchError> {
        stoppable(&self.halt, tokio::time::sleep(pause)).await.map_err(|_| FetchError::Stopped)
    }
}

/// A piece that is given back unless it is kept.
struct Claim<'a> {
    handle: &'a TorrentHandle,
    piece: u32,
    kept: bool,
}

impl Claim<'_> {
    fn keep(mut self) -> u32 {
        self.kept = true;
        self.piece
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.handle.unclaim(self.piece);
        }
    }
}
