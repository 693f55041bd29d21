//! Lookups at work: peers are found and asked until the torrent behind a link is known.

mod connection;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use torrent::{Limits, Metainfo, WireId};

use super::api::{AddError, Stats, TrackerSpec, TrackerStatus};
use super::connection::Established;
use super::dial::shake;
use super::engine::{Engine, Shared};
use crate::core::AddressBook;
use crate::lookup::{InquiryId, Lookup, LookupError, Progress, Wanted};

/// Connections of one lookup at a time, those that are being made among them.
const MAX_CONNECTIONS: usize = 16;
/// Of these, connections of peers that have dialled us: they must not keep us from dialling others.
const MAX_INCOMING: usize = MAX_CONNECTIONS / 2;
/// How often the lookup is given the time, and the address book looked at.
const LOOK: Duration = Duration::from_millis(500);
/// What is announced as missing: nobody knows how much it is, and who says 0 is taken for a seed.
const UNKNOWN_LEFT: u64 = 16 * 1024;

/// A torrent to find.
#[derive(Debug, Clone)]
pub struct FindTorrent {
    /// What proves that it is the right one. At least one hash.
    pub wanted: Wanted,
    /// What its `info` may be like.
    pub limits: Limits,
    /// All are asked for peers.
    pub trackers: Vec<TrackerSpec>,
    /// Peers that are known without a tracker.
    pub peers: Vec<SocketAddr>,
}

/// A torrent that was found.
#[derive(Debug)]
pub struct Found {
    /// All of it.
    pub metainfo: Metainfo,
    /// Peers that are worth a try: [`super::TorrentHandle::suggest_peers`].
    pub peers: Vec<SocketAddr>,
}

/// How it goes with a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupStatus {
    /// How far it is.
    pub progress: Progress,
    /// Connections, those that are being made among them.
    pub peers: usize,
    /// One entry per tracker, in the order given.
    pub trackers: Vec<TrackerStatus>,
}

/// A lookup under way. Dropping it ends it.
#[derive(Debug)]
pub struct LookupHandle {
    search: Arc<Search>,
}

/// A lookup at work: what its tasks share.
#[derive(Debug)]
pub struct Search {
    /// What all torrents share.
    pub engine: Arc<Shared>,
    lookup: Mutex<Lookup>,
    book: Mutex<AddressBook>,
    turns: Arc<Semaphore>,
    incoming_turns: Arc<Semaphore>,
    next_id: AtomicU64,
    /// Announce URLs.
    pub trackers: watch::Sender<Vec<TrackerSpec>>,
    /// One entry per tracker.
    pub tracker_status: Mutex<Vec<TrackerStatus>>,
    /// Figures for announces: they never change.
    pub stats: watch::Sender<Stats>,
    /// The address book has changed, or a connection has ended.
    news: Notify,
    /// Ends all tasks.
    pub stop: CancellationToken,
    tasks: TaskTracker,
}

impl Engine {
    /// Looks for the torrent behind a link (BEP 9). Peers that ask for it meanwhile are asked too.
    pub fn find(&self, what: FindTorrent) -> Result<LookupHandle, AddError> {
        let search = Arc::new(Search::new(self.shared.clone(), what));
        self.shared.register_search(&search)?;
        search.tasks.spawn(super::announcer::announce_loop(search.clone()));
        search.tasks.spawn(dial_loop(search.clone()));
        Ok(LookupHandle { search })
    }
}

impl LookupHandle {
    /// Waits until the torrent is known, or is known to be of no use. When this returns, the lookup has ended.
    pub async fn found(&self) -> Result<Found, LookupError> {
        let outcome = self.search.outcome().await;
        let peers = self.search.book().good().collect();
        self.search.end().await;
        Ok(Found { metainfo: outcome?, peers })
    }

    /// How it goes.
    pub fn status(&self) -> LookupStatus {
        let held = self.search.tracker_status.lock().unwrap_or_else(PoisonError::into_inner);
        LookupStatus {
            progress: self.search.lookup().progress(),
            peers: MAX_CONNECTIONS - self.search.turns.available_permits(),
            trackers: held.clone(),
        }
    }
}

impl Drop for LookupHandle {
    fn drop(&mut self) {
        self.search.engine.unregister_search(&self.search);
        self.search.stop.cancel();
    }
}

impl Search {
    fn new(engine: Arc<Shared>, what: FindTorrent) -> Self {
        let mut book = AddressBook::new(&engine.peer_id);
        for peer in &what.peers {
            book.add_lasting(*peer);
        }
        Self {
            stop: engine.stop.child_token(),
            engine,
            lookup: Mutex::new(Lookup::new(what.wanted, what.limits)),
            book: Mutex::new(book),
            turns: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            incoming_turns: Arc::new(Semaphore::new(MAX_INCOMING)),
            next_id: AtomicU64::new(0),
            trackers: watch::Sender::new(what.trackers),
            tracker_status: Mutex::default(),
            stats: watch::Sender::new(Stats::start(UNKNOWN_LEFT)),
            news: Notify::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// The pure half. Never held across an await, and for microseconds but for what has to be hashed: an `info` that has come whole, of up
    /// to `MAX_METADATA`, takes some tenths of a second, in which handshakes of peers that ask for it wait.
    pub fn lookup(&self) -> MutexGuard<'_, Lookup> {
        self.lookup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self) -> MutexGuard<'_, AddressBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ids under which peers may come.
    pub fn wire_ids(&self) -> Vec<WireId> {
        self.lookup().wire_ids()
    }

    /// Learns addresses of peers from a tracker.
    pub fn learn(&self, peers: Vec<SocketAddr>) {
        let learned = {
            let mut book = self.book();
            peers.into_iter().filter(|peer| book.add(*peer)).count()
        };
        if learned > 0 {
            self.news.notify_waiters();
        }
    }

    async fn outcome(&self) -> Result<Metainfo, LookupError> {
        loop {
            let news = self.news.notified();
            {
                let mut lookup = self.lookup();
                lookup.tick(self.engine.clock.now());
                if let Some(outcome) = lookup.take_outcome() {
                    return outcome;
                }
            }
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep(LOOK) => {}
                () = self.stop.cancelled() => return Err(LookupError::Ended),
            }
        }
    }

    /// Stops all tasks and waits for them.
    pub async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A peer that has dialled us.
    pub fn incoming<S>(self: &Arc<Self>, connection: Established<S>)
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let Ok(incoming) = self.incoming_turns.clone().try_acquire_owned() else { return };
        let Ok(turn) = self.turns.clone().try_acquire_owned() else { return };
        let search = self.clone();
        self.tasks.spawn(async move {
            let id = search.next_id();
            let ended = connection::run(&search, id, connection).await;
            tracing::debug!(%ended, "an inquiry has ended");
            drop((turn, incoming));
            search.news.notify_waiters();
        });
    }

    fn next_id(&self) -> InquiryId {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

/// Dials what the address book has, until the lookup ends.
async fn dial_loop(search: Arc<Search>) {
    loop {
        let news = search.news.notified();
        let due = search.book().due(search.turns.available_permits(), false, search.engine.clock.now());
        for address in due {
            let Ok(turn) = search.turns.clone().try_acquire_owned() else { continue };
            let search = search.clone();
            search.clone().tasks.spawn(async move {
                dial(&search, address).await;
                drop(turn);
                search.news.notify_waiters();
            });
        }
        tokio::select! {
            () = news => {}
            () = tokio::time::sleep(LOOK) => {}
            () = search.stop.cancelled() => return,
        }
    }
}

async fn dial(search: &Search, address: SocketAddr) {
    // After a failure the next id is tried: a peer that knows only one side of a hybrid refuses the other.
    let (ids, v2) = {
        let lookup = search.lookup();
        (lookup.wire_ids(), lookup.v2_id().is_some())
    };
    let turn = search.book().failures(address) as usize % ids.len().max(1);
    let Some(id) = ids.get(turn).copied() else { return };
    let shaken = tokio::select! {
        shaken = shake(&search.engine, address, &ids, id, v2) => shaken,
        () = search.stop.cancelled() => return,
    };
    let now = || search.engine.clock.now();
    match shaken {
        Ok((stream, handshake)) if handshake.peer_id != search.engine.peer_id => {
            let connection = Established { stream, handshake, address, outgoing: true };
            let ended = connection::run(search, search.next_id(), connection).await;
            tracing::debug!(%address, %ended, "an inquiry has ended");
            ended.note(&mut search.book(), address, now());
        }
        Ok(_) => search.book().never(address),
        Err(error) => {
            tracing::debug!(%address, %error, "dialling a peer failed");
            search.book().failed(address, now());
        }
    }
}
