//! What a user holds of a torrent, and the figures it shows.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::api::{Phase, Stats, TrackerSpec};
use super::lull::Lull;
use super::torrent::Torrent;
use crate::bitfield::Bitfield;
use crate::core::AddressBook;
use crate::rate::Rate;
use crate::wire::BLOCK;

/// How often figures are made.
const FIGURES: Duration = Duration::from_millis(500);
/// The same while they stay what they are: not longer than a rate looks back...
const STILL: Duration = Duration::from_secs(2);
/// ...and while there is nobody to whom anything could move: what changes then says so.
const ALONE: Duration = Duration::from_secs(30);

/// One torrent of an engine. Clones are the same torrent; dropping all of them does not end it.
#[derive(Clone, Debug)]
pub struct TorrentHandle {
    pub(super) torrent: Arc<Torrent>,
}

impl TorrentHandle {
    pub(super) fn new(torrent: Arc<Torrent>) -> Self {
        Self { torrent }
    }

    /// The figures now.
    pub fn stats(&self) -> Stats {
        let rates = self.torrent.stats.borrow();
        let (download_rate, upload_rate) = (rates.download_rate, rates.upload_rate);
        drop(rates);
        Stats { download_rate, upload_rate, ..self.torrent.figures() }
    }

    /// The pieces that a power cut cannot take.
    pub fn durable(&self) -> Bitfield {
        self.torrent.ledger().journal().0
    }

    /// Figures that follow the torrent: twice a second while they change, and at once when phase or trouble changes, or somebody comes or
    /// goes. What begins to move after a rest shows within 2 s.
    pub fn changed(&self) -> watch::Receiver<Stats> {
        self.torrent.stats.subscribe()
    }

    /// Waits until everything is here, verified and durable; `false` if the torrent is removed before.
    pub async fn wait_complete(&self) -> bool {
        let mut stats = self.torrent.stats.subscribe();
        tokio::select! {
            complete = stats.wait_for(|stats| stats.phase == Phase::Complete) => complete.is_ok(),
            () = self.torrent.stop.cancelled() => false,
        }
    }

    /// Payload bytes per second of this torrent to all peers together, from now on. The engine's limit holds too.
    pub fn set_upload_limit(&self, per_second: Option<u64>) {
        self.torrent.upload_limit.set(per_second);
    }

    /// Payload bytes per second of this torrent from all peers together, from now on. The engine's limit holds too.
    pub fn set_download_limit(&self, per_second: Option<u64>) {
        self.torrent.download_limit.set(per_second);
    }

    /// Announces to these trackers instead, from now on.
    pub fn set_trackers(&self, trackers: Vec<TrackerSpec>) {
        self.torrent.trackers.send_if_modified(|held| {
            let changed = *held != trackers;
            *held = trackers;
            changed
        });
    }

    /// Learns peers that may be worth a try, as from a tracker.
    pub fn suggest_peers(&self, peers: Vec<SocketAddr>) {
        self.torrent.learn(peers);
    }

    /// Learns peers that the user has named: they are dialled first, as long as there is room, and stay.
    pub fn add_peers(&self, peers: Vec<SocketAddr>) {
        self.torrent.learn_by(peers, AddressBook::add_lasting);
    }

    /// Has these pieces, up to the 32nd of them, fetched before all others until the answer is dropped: somebody waits for them.
    pub fn hurry(&self, pieces: Range<u32>) -> Hurry {
        let id = self.torrent.core().hurry(pieces);
        self.torrent.bump();
        Hurry { torrent: self.torrent.clone(), id }
    }

    /// The folder has been renamed. Open files stay open, and further ones are opened through the open folder, so that only
    /// messages change.
    pub fn moved(&self, folder: PathBuf) {
        *self.torrent.folder.lock().unwrap_or_else(PoisonError::into_inner) = folder;
    }

    /// The folder, as last said.
    pub fn folder(&self) -> PathBuf {
        self.torrent.folder.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends connections, makes what is here durable, announces `stopped`, closes the files. The files stay.
    pub async fn remove(&self) {
        self.torrent.engine.unregister(&self.torrent);
        self.torrent.ended().await;
    }
}

/// Somebody waits for pieces, until this is dropped.
#[derive(Debug)]
pub struct Hurry {
    torrent: Arc<Torrent>,
    id: u64,
}

impl Drop for Hurry {
    fn drop(&mut self) {
        self.torrent.core().no_hurry(self.id);
    }
}

impl Torrent {
    /// Learns addresses of peers from a tracker.
    pub fn learn(&self, peers: Vec<SocketAddr>) {
        self.learn_by(peers, AddressBook::add);
    }

    fn learn_by(&self, peers: Vec<SocketAddr>, add: fn(&mut AddressBook, SocketAddr) -> bool) {
        let learned = {
            let mut core = self.core();
            peers.into_iter().filter(|peer| add(&mut core.book, *peer)).count()
        };
        if learned > 0 {
            self.dial_now.notify_one();
        }
    }

    /// Stops all tasks and waits for them.
    pub async fn ended(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // A handle may outlive the torrent, and with it what the last connections gave up.
        self.clear_shelf();
        // Nor may it keep the next one from the journal.
        *self.journal.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Figures without rates.
    pub fn figures(&self) -> Stats {
        let mut stats = Stats::start(self.subject.total_size());
        stats.phase = self.phase();
        {
            let ledger = self.ledger();
            stats.have = ledger.have_bytes;
            stats.durable = ledger.durable_bytes;
            stats.wanted = self.wanted_bytes;
            stats.lacking = self.wanted_bytes - ledger.have_wanted_bytes;
            stats.ahead = stats.lacking.min(self.unreserved.load(Ordering::Relaxed));
        }
        {
            let core = self.core();
            stats.peers = core.connected_peers().count();
            stats.seeds = core.connected_peers().filter(|peer| peer.is_seed).count();
            stats.banned = core.banned();
            stats.downloaded_far = core.blocks_from_afar() * u64::from(BLOCK);
        }
        stats.downloaded = self.counters.downloaded.load(Ordering::Relaxed);
        stats.uploaded = self.counters.uploaded.load(Ordering::Relaxed);
        stats.wasted = self.counters.wasted.load(Ordering::Relaxed);
        stats.trouble = self.trouble();
        stats.web_seeds.clone_from(&self.web_seed_status.lock().unwrap_or_else(PoisonError::into_inner));
        stats.trackers.clone_from(&self.tracker_status.lock().unwrap_or_else(PoisonError::into_inner));
        stats
    }

    /// Makes figures until the torrent stops.
    pub async fn stats_loop(self: Arc<Self>) {
        let start = self.engine.clock.now();
        let (mut down, mut up) = (Rate::new(start), Rate::new(start));
        let (mut last, mut news, mut lull) = (self.figures(), self.news.subscribe(), Lull::new(FIGURES));
        loop {
            news.borrow_and_update();
            let now = self.engine.clock.now();
            let mut stats = self.figures();
            down.add(stats.downloaded - last.downloaded, now);
            up.add(stats.uploaded - last.uploaded, now);
            stats.download_rate = down.per_second(now);
            stats.upload_rate = up.per_second(now);
            last = stats.clone();
            let is_alone = stats.peers == 0 && stats.web_seeds.is_empty();
            let changed = self.stats.send_if_modified(|held| {
                let changed = *held != stats;
                *held = stats;
                changed
            });
            let wait = lull.after(changed, if is_alone { ALONE } else { STILL });
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                Ok(()) = news.changed(), if !changed => lull.end(),
                () = self.stats_now.notified() => lull.end(),
                () = self.stop.cancelled() => return,
            }
        }
    }
}

impl Stats {
    /// Of a torrent of which nothing is known yet.
    pub(super) fn start(total: u64) -> Self {
        Self {
            phase: Phase::Checking,
            total,
            wanted: total,
            lacking: total,
            ahead: total,
            have: 0,
            durable: 0,
            downloaded: 0,
            downloaded_far: 0,
            uploaded: 0,
            wasted: 0,
            download_rate: 0,
            upload_rate: 0,
            peers: 0,
            seeds: 0,
            banned: 0,
            trouble: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
        }
    }
}
