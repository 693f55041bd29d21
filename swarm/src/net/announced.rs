//! What trackers are told of, and what they tell.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use torrent::WireId;

use super::api::{Stats, TrackerSpec, TrackerStatus};
use super::engine::Shared;
use super::lookup::Search;
use super::torrent::Torrent;

/// A torrent, or one that is looked for: announced to its trackers until it stops.
pub trait Announced: Send + Sync + 'static {
    /// What all torrents share.
    fn engine(&self) -> &Arc<Shared>;
    /// The ids of its swarms, the preferred one first.
    fn wire_ids(&self) -> Vec<WireId>;
    /// Announce URLs, as they change.
    fn trackers(&self) -> &watch::Sender<Vec<TrackerSpec>>;
    /// What is shown of the trackers changes: one entry for each.
    fn show(&self, change: &mut dyn FnMut(&mut Vec<TrackerStatus>));
    /// Figures that are announced.
    fn figures(&self) -> Stats;
    /// Figures as they change: completion is announced.
    fn changed(&self) -> watch::Receiver<Stats>;
    /// Whether nothing is missing, wanted or not.
    fn is_seed(&self) -> bool;
    /// Whether it has all that it wants, and that is not all (BEP 21).
    fn is_partial_seed(&self) -> bool {
        false
    }
    /// Peers that a tracker names.
    fn learn(&self, peers: Vec<SocketAddr>);
    /// Ends it.
    fn stop(&self) -> &CancellationToken;
}

impl Announced for Torrent {
    fn engine(&self) -> &Arc<Shared> {
        &self.engine
    }

    fn wire_ids(&self) -> Vec<WireId> {
        self.core().wire_ids().to_vec()
    }

    fn trackers(&self) -> &watch::Sender<Vec<TrackerSpec>> {
        &self.trackers
    }

    fn show(&self, change: &mut dyn FnMut(&mut Vec<TrackerStatus>)) {
        change(&mut self.tracker_status.lock().unwrap_or_else(PoisonError::into_inner));
        self.stats_now.notify_one();
    }

    fn figures(&self) -> Stats {
        Torrent::figures(self)
    }

    fn changed(&self) -> watch::Receiver<Stats> {
        self.stats.subscribe()
    }

    fn is_seed(&self) -> bool {
        self.core().is_seed()
    }

    fn is_partial_seed(&self) -> bool {
        self.core().is_partial_seed()
    }

    fn learn(&self, peers: Vec<SocketAddr>) {
        Torrent::learn(self, peers);
    }

    fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}

impl Announced for Search {
    fn engine(&self) -> &Arc<Shared> {
        &self.engine
    }

    fn wire_ids(&self) -> Vec<WireId> {
        Search::wire_ids(self)
    }

    fn trackers(&self) -> &watch::Sender<Vec<TrackerSpec>> {
        &self.trackers
    }

    fn show(&self, change: &mut dyn FnMut(&mut Vec<TrackerStatus>)) {
        change(&mut self.tracker_status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn figures(&self) -> Stats {
        self.stats.borrow().clone()
    }

    fn changed(&self) -> watch::Receiver<Stats> {
        self.stats.subscribe()
    }

    fn is_seed(&self) -> bool {
        false
    }

    fn learn(&self, peers: Vec<SocketAddr>) {
        Search::learn(self, peers);
    }

    fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}
