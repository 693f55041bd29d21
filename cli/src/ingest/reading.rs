//! This machine's reading at the origin, when it is its turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use operator_api::GrantedFile;
use sidecar::fetch::{Counters, FetchError, ReadTask, Reader, Seat};
use swarm::{Fetcher, TorrentHandle};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use torrent::ingest::Outline;

use super::args::Fetchers;
use super::auto::Auto;
use super::tries::{Come, Tries};
use super::turns::{Machine, Sight, Turns};
use crate::share::Remote;

/// Bytes of a peer id that say what client it is.
const PREFIX: usize = 8;

/// What there is to be read, and by whom.
pub struct Task {
    /// The torrent that grows.
    pub handle: TorrentHandle,
    /// Its files and pieces.
    pub outline: Arc<Outline>,
    /// The file.
    pub remote: Remote,
    /// Signs its hashes.
    pub fetcher: Fetcher,
    /// This machine.
    pub me: Machine,
    /// So many machines should read.
    pub fetchers: Fetchers,
    /// Whether parts of the file can be had.
    pub parts: bool,
    /// So many trackers are asked for others; `None`: others are known without them.
    pub trackers: Option<usize>,
    /// The declared digest.
    pub sha256: Option<[u8; 32]>,
}

/// Reads, or leaves it to others.
pub struct Reading {
    handle: TorrentHandle,
    outline: Arc<Outline>,
    remote: Remote,
    files: Arc<[GrantedFile]>,
    fetcher: Fetcher,
    counters: Counters,
    turns: Turns,
    auto: Auto,
    /// How many trackers there are to be asked, if they know all.
    trackers: Option<usize>,
    seat: watch::Sender<Seat>,
    began: Instant,
    tries: Tries,
    barred_until: Option<Instant>,
    running: Option<Running>,
}

/// What follows when the origin could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The others try for a while.
    Others,
    /// There are no others, but the server has said when to come again.
    Later(Duration),
    /// There are no others.
    Alone,
    /// It was tried often enough.
    GivenUp,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), FetchError>>,
}

/// By the random part of a peer id: it stands in the name of the fetcher too, so that one can be found by the other.
pub fn machine(id: swarm::wire::PeerId) -> Machine {
    hex::encode(&id.0[PREFIX..])
}

/// What a fetcher is called: for people by its host, for other machines by the last word.
pub fn fetcher_name(machine: &str) -> String {
    // A machine that does not know its name is told by the last word alone.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.chars().filter(|c| !c.is_whitespace()).take(48).collect();
    format!("{host} {machine}")
}

impl Reading {
    /// Nothing is read yet.
    pub fn new(task: Task) -> Self {
        let Task { handle, outline, remote, fetcher, me, fetchers, parts, trackers, sha256 } = task;
        let file = GrantedFile {
            text: None,
            path: remote.name.as_str().to_owned(),
            url: remote.url.clone(),
            size: remote.validator.size,
            sha256: sha256.map(hex::encode),
            etag: remote.validator.etag.clone(),
            last_modified: remote.validator.last_modified.clone(),
        };
        let size = file.size;
        Self {
            turns: Turns::new(outline.id(), me, parts, outline.plan().pieces().piece_length()),
            handle,
            outline,
            remote,
            files: Arc::from([file]),
            fetcher,
            counters: Counters::default(),
            auto: Auto::new(fetchers, size),
            trackers,
            seat: watch::Sender::new(Seat { index: 0, of: 1 }),
            began: Instant::now(),
            tries: Tries::default(),
            barred_until: None,
            running: None,
        }
    }

    /// Bytes that came from the origin since the start.
    pub fn origin_bytes(&self) -> u64 {
        self.counters.origin.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether this machine reads now, and as which of how many.
    pub fn seat(&self) -> Option<Seat> {
        self.running.as_ref().map(|_| *self.seat.borrow())
    }

    /// Begins or ceases to read, as it is due.
    pub async fn turn(&mut self) {
        if self.handle.is_whole() {
            return self.stop().await;
        }
        let sight = self.sight();
        let now = self.began.elapsed();
        let known = u32::try_from(self.handle.known_pieces()).unwrap_or(u32::MAX);
        let wanted = self.auto.look(self.turns.active(&sight, now), known, now);
        let Some(seat) = self.turns.decide(&sight, wanted, now) else {
            return self.stop().await;
        };
        self.seat.send_if_modified(|held| {
            let changed = *held != seat;
            *held = seat;
            changed
        });
        if self.running.is_none() {
            self.start();
        }
    }

    fn sight(&self) -> Sight {
        let stats = self.handle.stats();
        // What they said first counts: those that come later find us there, and may be connected by now.
        let empty = stats.trackers.iter().filter(|tracker| tracker.reached && tracker.named_first == 0);
        let signed = self.handle.fetchers().into_iter().filter_map(|(name, pieces)| {
            let (_, machine) = name.rsplit_once(' ')?;
            Some((machine.to_owned(), pieces))
        });
        Sight {
            connected: self.handle.own_peers().into_iter().map(machine).collect(),
            signed: signed.collect(),
            have: stats.have,
            alone: self.trackers == Some(empty.count()),
            in_vain: self.counters.in_vain.load(std::sync::atomic::Ordering::Relaxed),
            barred: self.barred_until.is_some_and(|until| Instant::now() < until),
        }
    }

    fn start(&mut self) {
        let stop = CancellationToken::new();
        let reader = Reader::new(ReadTask {
            handle: self.handle.clone(),
            origin: self.remote.client.clone(),
            fetcher: self.fetcher.clone(),
            files: self.files.clone(),
            outline: self.outline.clone(),
            counters: self.counters.clone(),
            seat: self.seat.subscribe(),
            halt: stop.clone(),
        });
        self.handle.read_origin(true);
        let (handle, halt) = (self.handle.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let result = tokio::select! {
                result = reader.run() => result,
                () = halt.cancelled() => Ok(()),
            };
            // Nothing is written any more when this has returned.
            reader.ended().await;
            handle.read_origin(false);
            result
        });
        self.running = Some(Running { stop, task });
    }

    /// Ceases to read.
    pub async fn stop(&mut self) {
        if let Some(Running { stop, task }) = self.running.take() {
            stop.cancel();
            if let Err(error) = task.await {
                tracing::error!(%error, "reading at the origin was cut");
            }
        }
    }

    /// Waits for an error of the reading; for ever while nothing is read.
    pub async fn failed(&mut self) -> FetchError {
        loop {
            let Some(running) = &mut self.running else { return std::future::pending().await };
            let ended = (&mut running.task).await;
            self.running = None;
            match ended {
                Ok(Err(error)) => return error,
                // All has been read: there is nothing to wait for.
                Ok(Ok(())) => {}
                Err(error) => tracing::error!(%error, "reading at the origin was cut"),
            }
        }
    }

    /// After a failure: leaves it to the others for a while, if there are any and it was not tried often enough. `asked`: the server wants
    /// so long a pause.
    pub fn sit_out(&mut self, asked: Option<Duration>) -> Next {
        let alone = self.handle.own_peers().is_empty();
        if alone && asked.is_none() {
            return Next::Alone;
        }
        let stats = self.handle.stats();
        let known = self.handle.known_pieces();
        let come = Come { known, have: stats.have, downloaded: stats.downloaded };
        let Some(pause) = self.tries.failed(come, asked) else { return Next::GivenUp };
        self.barred_until = Some(Instant::now() + pause);
        if alone { Next::Later(pause) } else { Next::Others }
    }
}
