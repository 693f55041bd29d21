//! What all parts of a running operator share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Client;
use tokio::sync::{Notify, Semaphore, watch};

use crate::distribution::ImageRoom;
use crate::index::{Index, Indexed, ObjectId, Touched};
use crate::lease::Leadership;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::tls::Serving;
use crate::trackers::TrackerClient;

/// The name under which this operator writes.
pub const FIELD_MANAGER: &str = "samara-operator";

/// So many manifests are read together. The largest, 64 MiB with half a million files, was measured at 300 MiB while it is read: two
/// of them would be more than the chart gives an operator.
const MANIFESTS_AT_A_TIME: usize = 1;

/// What an operator is told at its start and never again.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it and its sidecars and trackers run.
    pub namespace: String,
    /// Under which URL sidecars reach its API.
    pub public_url: String,
    /// The image of the trackers.
    pub image: String,
    /// Secrets to pull that image with.
    pub image_pull_secrets: Vec<String>,
    /// The ServiceAccount of the sidecars.
    pub sidecar_service_account: String,
    /// Names this process among its replicas.
    pub identity: String,
    /// Whether the leader applies the CRDs it was built with.
    pub manage_crds: bool,
    /// Addresses of the API server: no origin.
    pub api_server: Vec<IpAddr>,
}

/// A running operator.
pub struct Context {
    /// What it was told.
    pub settings: Settings,
    /// The API server.
    pub client: Client,
    /// The trackers.
    pub trackers: TrackerClient,
    /// The certificate of its API.
    pub serving: Arc<Serving>,
    /// Whether it leads.
    pub leadership: Leadership,
    /// What it counts.
    pub metrics: Metrics,
    /// What it has to look at.
    pub queue: Queue,
    /// It began to lead: a certificate may have to be made.
    pub certificate_wanted: Notify,
    /// What trackers should hold may have changed.
    pub registry_changed: Notify,
    /// A registry has answered for a blob on demand, or will not.
    pub demand_ended: Notify,
    /// Manifests that are being read, or whose files are being outlined.
    pub manifests: Semaphore,
    /// Images that are being resolved.
    pub images: ImageRoom,
    index: Mutex<Index>,
    ledger: Mutex<Ledger>,
    registering: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    unsynced: watch::Sender<u32>,
}

impl Context {
    /// An operator that knows nothing yet and has `watches` lists to read.
    pub fn new(settings: Settings, client: Client, metrics: Metrics, watches: u32) -> Self {
        Self {
            settings,
            client,
            trackers: TrackerClient::new(),
            serving: Arc::default(),
            leadership: Leadership::default(),
            metrics,
            queue: Queue::default(),
            certificate_wanted: Notify::new(),
            registry_changed: Notify::new(),
            demand_ended: Notify::new(),
            registering: Mutex::default(),
            manifests: Semaphore::new(MANIFESTS_AT_A_TIME),
            images: ImageRoom::default(),
            index: Mutex::default(),
            ledger: Mutex::default(),
            unsynced: watch::Sender::new(watches),
        }
    }

    /// The cluster as it was seen last. Never held over an await.
    pub fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known besides. Never held over an await; taken after the index where both are needed.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of a class at its trackers: registries go to them one after the other, so that an older one does not come after a newer.
    pub fn registering(&self, class: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.registering.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody waits for those that are only held here.
        turns.retain(|name, turn| name == class || Arc::strong_count(turn) > 1);
        turns.entry(class.to_owned()).or_default().clone()
    }

    /// Passes on what a change of an object of this kind touched.
    pub fn touched<T: Indexed>(&self, touched: Touched) {
        if touched.is_empty() {
            return;
        }
        if T::REGISTERED {
            self.registry_changed.notify_one();
        }
        self.queue.touch(touched);
    }

    /// Takes in the answer to a write of our own, before the watch brings it.
    pub fn assume<T: Indexed + kube::Resource>(&self, object: T) {
        let touched = self.index().assume(&ObjectId::of(&object), object);
        self.touched::<T>(touched);
    }

    /// Takes in what we have just made.
    pub fn assume_created<T: Indexed + kube::Resource>(&self, object: T) {
        let touched = self.index().assume_created(&ObjectId::of(&object), object);
        self.touched::<T>(touched);
    }

    /// One more list was read whole.
    pub fn list_synced(&self) {
        self.unsynced.send_modify(|left| *left = left.saturating_sub(1));
    }

    /// Whether every list was read at least once: before that, absence means nothing.
    pub fn is_synced(&self) -> bool {
        *self.unsynced.borrow() == 0
    }

    /// Waits until every list was read.
    pub async fn synced(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        drop(self.unsynced.subscribe().wait_for(|left| *left == 0).await);
    }

    /// Whether it may write and answer: it leads, and has seen everything.
    pub fn is_acting(&self) -> bool {
        self.leadership.holds() && self.is_synced()
    }
}
