//! One torrent at work: what its tasks share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use torrent::PieceMap;

use super::api::{Fault, Phase, Stats, TrackerSpec, TrackerStatus, Trouble, WebSeedStatus};
use super::budget::Filling;
use super::doubt::Looking;
use super::engine::Shared;
use super::hash_log::HashLog;
use super::journal_file::JournalFile;
use super::leaves::Leaves;
use super::ledger::Ledger;
use super::limiter::Limiter;
use super::passing::Passing;
use super::shelf::Shelf;
use super::storage::Storage;
use crate::assembly::Assembly;
use crate::bitfield::Bitfield;
use crate::core::{Source, TorrentCore};
use crate::subject::Subject;

/// A piece on its way in.
pub type Piece = Assembly<Filling, Source>;

/// Payload bytes since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Received.
    pub downloaded: AtomicU64,
    /// Sent.
    pub uploaded: AtomicU64,
    /// Received for nothing.
    pub wasted: AtomicU64,
}

/// One torrent.
#[derive(Debug)]
pub struct Torrent {
    /// What all torrents share.
    pub engine: Arc<Shared>,
    /// What it is.
    pub subject: Subject,
    /// Its files.
    pub storage: Arc<dyn Storage>,
    /// Where its files lie, for messages.
    pub folder: Mutex<PathBuf>,
    /// Its journal, if it has one.
    pub journal: Mutex<Option<JournalFile>>,
    /// Payload bytes of the pieces that are wanted.
    pub wanted_bytes: u64,
    core: Mutex<TorrentCore>,
    ledger: Mutex<Ledger>,
    /// Half-fetched pieces.
    pub shelf: Shelf,
    /// Pieces that are passed on while they come in.
    pub passing: Passing,
    /// What peers asked for last of what lies below the piece layers.
    pub leaves: Leaves,
    /// Turns at looking again at what is here.
    pub looking: Looking,
    trouble: Mutex<Option<Trouble>>,
    /// The space of what is missing is still to be taken ([`super::space`]).
    pub awaits_space: watch::Sender<bool>,
    /// Bytes that were missing and for which no space was taken then.
    pub unreserved: AtomicU64,
    /// What its fetchers have done wrong: nothing will mend it.
    fault: OnceLock<Fault>,
    /// Its hashes on disk, if it grows.
    pub hash_log: Mutex<Option<HashLog>>,
    /// Announce URLs and how it goes with them.
    pub trackers: watch::Sender<Vec<TrackerSpec>>,
    /// One entry per tracker.
    pub tracker_status: Mutex<Vec<TrackerStatus>>,
    /// URLs of web seeds.
    pub web_seeds: Vec<String>,
    /// One entry per web seed.
    pub web_seed_status: Mutex<Vec<WebSeedStatus>>,
    /// Counts up whenever connections should look again: a piece came, a reservation is free, a peer is banned.
    pub news: watch::Sender<u64>,
    /// The group of unsynced pieces should be made durable now.
    pub flush_now: Notify,
    /// A group has its first piece.
    pub group_begun: Notify,
    /// The address book has changed.
    pub dial_now: Notify,
    /// Figures for the handle.
    pub stats: watch::Sender<Stats>,
    /// Figures for the handle should be made now.
    pub stats_now: Notify,
    /// Of this torrent, below that of the engine.
    pub upload_limit: Limiter,
    /// The same for what comes in.
    pub download_limit: Limiter,
    /// See [`Counters`].
    pub counters: Counters,
    /// What is on disk has been checked: peers are welcome.
    pub ready: AtomicBool,
    /// Ends all tasks.
    pub stop: CancellationToken,
    /// Waits for all tasks.
    pub tasks: TaskTracker,
}

/// What a torrent is made of.
pub struct Parts {
    /// What all torrents share.
    pub engine: Arc<Shared>,
    /// What it is.
    pub subject: Subject,
    /// Its files.
    pub storage: Arc<dyn Storage>,
    /// Where its files lie.
    pub folder: PathBuf,
    /// The pure half.
    pub core: TorrentCore,
    /// All are announced to.
    pub trackers: Vec<TrackerSpec>,
    /// All are asked.
    pub web_seeds: Vec<String>,
    /// The pieces that are wanted; `None`: all of them.
    pub wanted: Option<Bitfield>,
}

impl Torrent {
    /// A torrent whose files have not been looked at.
    pub fn new(parts: Parts) -> Self {
        let map = parts.subject.pieces();
        let (mut core, mut wanted_bytes) = (parts.core, parts.subject.total_size());
        if let Some(wanted) = &parts.wanted {
            core.want_only(wanted);
            wanted_bytes = wanted.iter().map(|piece| payload(map, piece)).sum();
        }
        let wanted = parts.wanted.unwrap_or_else(|| Bitfield::full(map.count()));
        Self {
            stats: watch::Sender::new(Stats::start(parts.subject.total_size())),
            stop: parts.engine.stop.child_token(),
            upload_limit: Limiter::new(None, parts.engine.clock),
            download_limit: Limiter::new(None, parts.engine.clock),
            engine: parts.engine,
            subject: parts.subject,
            storage: parts.storage,
            folder: Mutex::new(parts.folder),
            journal: Mutex::default(),
            wanted_bytes,
            core: Mutex::new(core),
            ledger: Mutex::new(Ledger::new(wanted)),
            shelf: Shelf::default(),
            passing: Passing::default(),
            leaves: Leaves::default(),
            looking: Looking::default(),
            trouble: Mutex::default(),
            awaits_space: watch::Sender::new(false),
            unreserved: AtomicU64::new(u64::MAX),
            fault: OnceLock::new(),
            hash_log: Mutex::default(),
            trackers: watch::Sender::new(parts.trackers),
            tracker_status: Mutex::default(),
            web_seeds: parts.web_seeds,
            web_seed_status: Mutex::default(),
            news: watch::Sender::new(0),
            flush_now: Notify::new(),
            group_begun: Notify::new(),
            dial_now: Notify::new(),
            stats_now: Notify::new(),
            counters: Counters::default(),
            ready: AtomicBool::new(false),
            tasks: TaskTracker::new(),
        }
    }

    /// The pure half. Held for microseconds, and never across an await.
    pub fn core(&self) -> MutexGuard<'_, TorrentCore> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is here and what of it is durable.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Payload bytes of a piece, without padding.
    pub fn payload(&self, piece: u32) -> u64 {
        payload(self.subject.pieces(), piece)
    }

    /// Connections look again.
    pub fn bump(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// Something is wrong, or (`None`) is right again.
    pub fn set_trouble(&self, trouble: Option<Trouble>) {
        let mut held = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *held == trouble {
            return;
        }
        if let Some(trouble) = &trouble {
            tracing::warn!(torrent = self.subject.name(), %trouble, "storing pieces fails");
        } else {
            tracing::info!(torrent = self.subject.name(), "storing pieces works again");
        }
        *held = trouble;
        drop(held);
        self.stats_now.notify_one();
    }

    /// The fetchers of a torrent that grows contradict each other, or one of them lies.
    pub fn fault(&self, fault: Fault) {
        if self.fault.get().is_none() {
            tracing::warn!(
                torrent = self.subject.name(),
                what = fault.what,
                "what was read at the origin cannot be right"
            );
        }
        self.fault.get_or_init(|| fault);
        self.stats_now.notify_one();
    }

    /// What is wrong.
    pub fn trouble(&self) -> Option<Trouble> {
        if let Some(fault) = self.fault.get() {
            return Some(Trouble::Faulty(fault.clone()));
        }
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        if !self.ready.load(Ordering::Acquire) {
            Phase::Checking
        } else if self.ledger().is_durable() {
            Phase::Complete
        } else {
            Phase::Leeching
        }
    }
}

fn payload(map: &PieceMap, piece: u32) -> u64 {
    map.segments(piece).map(|segment| u64::from(segment.len)).sum()
}
