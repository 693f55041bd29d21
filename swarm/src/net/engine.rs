//! The engine: what all torrents share.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rand::RngCore;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use torrent::WireId;

use super::api::{AddError, AddTorrent, EngineConfig, EngineError, GrowTorrent};
use super::budget::{Budget, Buffer};
use super::clock::Clock;
use super::handle::TorrentHandle;
use super::limiter::Limiter;
use super::listen::{Party, accept_loop, listen_all};
use super::lookup::Search;
use super::open;
use super::selection::Selection;
use super::share::{Place, Share};
use super::storage::{Disk, Selected, Storage};
use super::store::blocking;
use super::torrent::{Parts, Torrent};
use super::web_seeds::Hosts;
use super::{announcer, dial, space, tls, web_seeds};
use crate::core::TorrentCore;
use crate::near::Place as Near;
use crate::wire::PeerId;

/// Dials under way at a time, of all torrents.
const MAX_HALF_OPEN: usize = 64;
/// Writes, reads and checks that occupy a blocking thread at a time.
const DISK_DEPTH: usize = 8;
/// Sockets to UDP trackers that are open at a time, of all torrents: a quarter of the 1,024 files that a process usually may have.
pub const MAX_UDP_SOCKETS: usize = 256;
/// An HTTP tracker is given so long to answer.
const TRACKER_TIME: Duration = Duration::from_secs(15);

/// The engine: one listener, one budget, one set of limits for any number of torrents. Clones are the same engine; when it
/// is not shut down, its tasks run as long as the runtime.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(super) shared: Arc<Shared>,
}

/// What all tasks of an engine use.
#[derive(Debug)]
pub struct Shared {
    /// Who we are.
    pub peer_id: PeerId,
    /// The same in all announces.
    pub key: u32,
    /// Connections per torrent.
    pub max_peers: usize,
    /// Space is taken first.
    pub preallocate: bool,
    addresses: Vec<SocketAddr>,
    torrents: RwLock<HashMap<WireId, Arc<Torrent>>>,
    searches: RwLock<Vec<Arc<Search>>>,
    place: RwLock<Near>,
    /// The time.
    pub clock: Clock,
    /// Memory for pieces.
    pub budget: Budget,
    /// Of all torrents.
    pub upload_limit: Limiter,
    /// Of all torrents.
    pub download_limit: Limiter,
    /// Turns at the disk.
    pub disk: Arc<Semaphore>,
    /// Turns at dialling.
    pub half_open: Semaphore,
    /// Turns at the UDP trackers.
    pub udp_sockets: Arc<Semaphore>,
    /// For HTTP trackers and web seeds.
    pub http: reqwest::Client,
    /// Turns at the servers of web seeds.
    pub hosts: Hosts,
    /// Ends everything.
    pub stop: CancellationToken,
    /// The listeners and handshakes.
    pub tasks: TaskTracker,
    shut: AtomicBool,
}

impl Engine {
    /// Opens the listeners and starts to accept.
    #[expect(clippy::unused_async, reason = "it needs a runtime around it, as all of the engine does")]
    pub async fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let listeners = listen_all(&config.listen)?;
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
        let shared = Arc::new(Shared::new(&config, addresses)?);
        for listener in listeners {
            shared.tasks.spawn(accept_loop(shared.clone(), listener));
        }
        Ok(Self { shared })
    }

    /// Where peers can connect, with the real port.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.shared.addresses
    }

    /// Who we are on the wire.
    pub fn peer_id(&self) -> PeerId {
        self.shared.peer_id
    }

    /// Starts to share a torrent whose files lie on disk.
    pub async fn add(&self, torrent: AddTorrent) -> Result<TorrentHandle, AddError> {
        let share = Share::from(torrent);
        let disk = open_disk(&share, Ok).await?;
        self.start_share(share, Arc::new(disk)).await
    }

    /// Starts to share content that is still being read somewhere: from peers, or by this node ([`TorrentHandle::put`]).
    pub async fn grow(&self, grow: &GrowTorrent) -> Result<TorrentHandle, AddError> {
        let share = Share::from(grow);
        let disk = open_disk(&share, Ok).await?;
        self.start_share(share, Arc::new(disk)).await
    }

    /// As [`Self::grow`], with files in any storage; the folder and the paths of the outline are for messages only.
    pub async fn grow_with(
        &self,
        grow: &GrowTorrent,
        storage: Arc<dyn Storage>,
    ) -> Result<TorrentHandle, AddError> {
        self.start_share(grow.into(), storage).await
    }

    /// As [`Self::add`], but fetches only the pieces of some files.
    pub async fn add_selected(
        &self,
        torrent: AddTorrent,
        selection: &Selection,
    ) -> Result<TorrentHandle, AddError> {
        let files = torrent.metainfo.files();
        if let Some(&index) = selection.files.range(files.len()..).next() {
            return Err(AddError::Selection { index, files: files.len() });
        }
        let wanted = selection.pieces(&torrent.metainfo);
        let (metainfo, Selection { files, parts }) = (torrent.metainfo.clone(), selection.clone());
        let select = move |disk| Selected::new(disk, metainfo.files(), &files, parts);
        let share = Share::from(torrent).only(Some(wanted));
        let storage = open_disk(&share, select).await?;
        self.start_share(share, Arc::new(storage)).await
    }

    /// Starts to share a torrent whose files lie in any storage; `folder` and `layout` are for messages only.
    pub async fn add_with(
        &self,
        spec: AddTorrent,
        storage: Arc<dyn Storage>,
    ) -> Result<TorrentHandle, AddError> {
        self.start_share(spec.into(), storage).await
    }

    async fn start_share(&self, share: Share, storage: Arc<dyn Storage>) -> Result<TorrentHandle, AddError> {
        let (torrent, place) = self.shared.torrent_of(share, storage);
        let torrent = Arc::new(torrent);
        self.shared.register(&torrent)?;
        match open::open(&torrent, place).await {
            Ok(to_check) => {
                start_tasks(&torrent, to_check);
                Ok(TorrentHandle::new(torrent))
            }
            Err(error) => {
                self.shared.unregister(&torrent);
                Err(error)
            }
        }
    }

    /// Where we are: torrents that are added from now on ask near peers first, and tell theirs.
    pub fn set_place(&self, place: Near) {
        *self.shared.place.write().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// Payload bytes per second to all peers together, from now on.
    pub fn set_upload_limit(&self, per_second: Option<u64>) {
        self.shared.upload_limit.set(per_second);
    }

    /// Payload bytes per second from all peers together, from now on.
    pub fn set_download_limit(&self, per_second: Option<u64>) {
        self.shared.download_limit.set(per_second);
    }

    /// Ends all connections, makes everything durable, tells the trackers.
    pub async fn shutdown(&self) {
        self.shared.shut.store(true, Ordering::Release);
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        let torrents: Vec<_> = {
            let mut held = self.shared.torrents.write().unwrap_or_else(PoisonError::into_inner);
            held.drain().map(|(_, torrent)| torrent).collect()
        };
        for torrent in torrents {
            torrent.ended().await;
        }
        let searches =
            std::mem::take(&mut *self.shared.searches.write().unwrap_or_else(PoisonError::into_inner));
        for search in searches {
            search.end().await;
        }
    }
}

/// Opens the folder and what is made of it: a disk may have to be waited for.
async fn open_disk<S: Send + 'static>(
    share: &Share,
    make: impl FnOnce(Disk) -> io::Result<S> + Send + 'static,
) -> Result<S, AddError> {
    let (subject, place) = (&share.subject, &share.place);
    if place.layout.len() != subject.files() {
        return Err(AddError::Layout { found: place.layout.len(), wanted: subject.files() });
    }
    let (folder, layout) = (place.folder.clone(), place.layout.clone());
    let sizes: Vec<u64> = (0..subject.files()).map(|file| subject.size(file)).collect();
    let opened = blocking(move || make(Disk::open(&folder, sizes, &layout)?)).await;
    opened.map_err(|source| AddError::Storage { path: place.folder.clone(), source })
}

/// Checks what has to be checked, then lets peers and trackers in.
fn start_tasks(torrent: &Arc<Torrent>, to_check: Vec<u32>) {
    if torrent.engine.preallocate {
        torrent.await_space();
    }
    if to_check.is_empty() {
        torrent.ready.store(true, Ordering::Release);
    }
    torrent.tasks.spawn(torrent.clone().flush_loop());
    torrent.tasks.spawn(torrent.clone().stats_loop());
    let torrent = torrent.clone();
    let tasks = torrent.tasks.clone();
    tasks.spawn(async move {
        if !open::check(&torrent, to_check).await {
            return;
        }
        torrent.ready.store(true, Ordering::Release);
        torrent.stats_now.notify_one();
        torrent.tasks.spawn(space::take(torrent.clone()));
        web_seeds::start(&torrent);
        torrent.tasks.spawn(dial::dial_loop(torrent.clone()));
        torrent.tasks.spawn(announcer::announce_loop(torrent.clone()));
    });
}

impl Shared {
    fn new(config: &EngineConfig, addresses: Vec<SocketAddr>) -> Result<Self, EngineError> {
        let clock = Clock::start();
        let mut peer_id = [0; 20];
        peer_id[..8].copy_from_slice(&config.peer_id_prefix);
        rand::rng().fill_bytes(&mut peer_id[8..]);
        let certain = addresses.iter().map(SocketAddr::ip).find(|ip| !ip.is_unspecified());
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::public())
            .timeout(TRACKER_TIME)
            .user_agent(concat!("Samara/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .local_address(certain)
            .build()?;
        Ok(Self {
            peer_id: PeerId(peer_id),
            key: rand::rng().next_u32(),
            max_peers: config.max_peers,
            preallocate: config.preallocate,
            addresses,
            torrents: RwLock::default(),
            searches: RwLock::default(),
            place: RwLock::default(),
            clock,
            budget: Budget::new(config.buffer_budget),
            upload_limit: Limiter::new(config.upload_limit, clock),
            download_limit: Limiter::new(config.download_limit, clock),
            disk: Arc::new(Semaphore::new(DISK_DEPTH)),
            half_open: Semaphore::new(MAX_HALF_OPEN),
            udp_sockets: Arc::new(Semaphore::new(MAX_UDP_SOCKETS)),
            http,
            hosts: Hosts::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            shut: AtomicBool::new(false),
        })
    }

    /// A torrent that nobody finds yet.
    pub(super) fn torrent_of(self: &Arc<Self>, share: Share, storage: Arc<dyn Storage>) -> (Torrent, Place) {
        let Share { subject, wanted, place, trackers, peers, web_seeds, held } = share;
        let (inner, pieces) = (subject.inner_id(), subject.pieces().count());
        let mut core = TorrentCore::new(inner, subject.wire_ids(), pieces, self.peer_id, self.max_peers);
        if subject.metainfo().is_none() {
            core.grows();
        }
        for pieces in held {
            core.hold(pieces);
        }
        core.at(self.place.read().unwrap_or_else(PoisonError::into_inner).clone());
        for peer in peers {
            core.book.add_lasting(peer);
        }
        let (engine, folder) = (self.clone(), place.folder.clone());
        let parts = Parts { engine, subject, storage, folder, core, trackers, web_seeds, wanted };
        (Torrent::new(parts), place)
    }

    /// Memory for a piece. Where there is none, half-fetched pieces that wait for a peer make room: a torrent whose seeds are
    /// gone must not stop the others.
    pub fn buffer(&self, len: usize) -> Option<Buffer> {
        self.budget.take(len).or_else(|| {
            self.clear_shelves();
            self.budget.take(len)
        })
    }

    fn clear_shelves(&self) {
        let held = self.torrents.read().unwrap_or_else(PoisonError::into_inner);
        held.values().for_each(|torrent| torrent.clear_shelf());
    }

    /// The port that others connect to.
    pub fn port(&self) -> Option<u16> {
        self.addresses.first().map(SocketAddr::port)
    }

    /// The address from which `to` is dialled, if it has to be a certain one.
    pub fn source_for(&self, to: IpAddr) -> Option<IpAddr> {
        dial::source(&self.addresses, to)
    }

    /// Whether a UDP tracker at `to` may see us, as for HTTP trackers.
    pub fn may_reach(&self, to: IpAddr) -> bool {
        dial::may_reach(&self.addresses, to)
    }

    /// The torrent that is called so on the wire, if it is ready for peers.
    pub fn torrent(&self, id: WireId) -> Option<Arc<Torrent>> {
        let held = self.torrents.read().unwrap_or_else(PoisonError::into_inner);
        held.get(&id).filter(|torrent| torrent.ready.load(Ordering::Acquire)).cloned()
    }

    /// What is called so on the wire: a torrent, else one that is looked for.
    pub fn party(&self, id: WireId) -> Option<Party> {
        if let Some(torrent) = self.torrent(id) {
            return Some(Party::Torrent(torrent));
        }
        let held = self.searches.read().unwrap_or_else(PoisonError::into_inner);
        held.iter().find(|search| search.wire_ids().contains(&id)).cloned().map(Party::Search)
    }

    /// Peers that ask for what is looked for are asked too.
    pub fn register_search(&self, search: &Arc<Search>) -> Result<(), AddError> {
        let mut held = self.searches.write().unwrap_or_else(PoisonError::into_inner);
        if self.shut.load(Ordering::Acquire) {
            return Err(AddError::ShutDown);
        }
        held.push(search.clone());
        Ok(())
    }

    /// The search has ended.
    pub fn unregister_search(&self, search: &Arc<Search>) {
        let mut held = self.searches.write().unwrap_or_else(PoisonError::into_inner);
        held.retain(|other| !Arc::ptr_eq(other, search));
    }

    fn register(&self, torrent: &Arc<Torrent>) -> Result<(), AddError> {
        let ids = torrent.subject.wire_ids();
        let mut held = self.torrents.write().unwrap_or_else(PoisonError::into_inner);
        if self.shut.load(Ordering::Acquire) {
            return Err(AddError::ShutDown);
        }
        if ids.iter().any(|id| held.contains_key(id)) {
            return Err(AddError::Duplicate);
        }
        held.extend(ids.into_iter().map(|id| (id, torrent.clone())));
        Ok(())
    }

    /// The torrent has more names now.
    pub fn rename(&self, torrent: &Arc<Torrent>) -> Result<(), AddError> {
        let ids = torrent.subject.wire_ids();
        let mut held = self.torrents.write().unwrap_or_else(PoisonError::into_inner);
        if ids.iter().any(|id| held.get(id).is_some_and(|other| !Arc::ptr_eq(other, torrent))) {
            return Err(AddError::Duplicate);
        }
        held.extend(ids.into_iter().map(|id| (id, torrent.clone())));
        Ok(())
    }

    /// Nobody finds the torrent any more.
    pub fn unregister(&self, torrent: &Arc<Torrent>) {
        let mut held = self.torrents.write().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, other| !Arc::ptr_eq(other, torrent));
    }
}
