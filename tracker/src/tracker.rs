//! A tracker: its state, and how it is run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::HeaderValue;
use bytes::Bytes;
use daemon::{CancellationToken, Health, ServeOptions};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;
use torrent::WireId;
use tracker_api::Registry;

use crate::directory::{Directory, Room};
use crate::http;
use crate::limits::{BUSY_PER_CORE, COPY_PATIENCE, DEFAULT_STORE_BYTES, MAX_UPLOADS, MAX_WATCHERS, SWEEP};
use crate::lists::Lists;
use crate::metrics::Metrics;
use crate::pressure::{Load, Pressure};
use crate::registry::{Admission, Registration, RegistryError};
use crate::replication::{News, Sibling, SiblingError, publish_until, subscribe_until};
use crate::store::{Claims, Store};
use crate::tick::Tick;
use crate::token::Token;
use crate::udp::{Sockets, Workers};

/// How a tracker behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// What operator and sidecars show. Without one nothing can be registered or stored.
    pub token: Option<Token>,
    /// Whether infohashes are served that nobody registered.
    pub public: bool,
    /// Bytes of metainfo and manifests at most.
    pub store_bytes: u64,
    /// What it holds of strangers.
    pub room: Room,
    /// The other trackers of the class, as `http://host:port`. They show each other a credential that is derived from the token.
    pub siblings: Vec<String>,
    /// Announces a second beyond which it makes intervals longer, and then refuses.
    pub busy_above: u32,
    /// How long it goes on answering after it has said that it is not ready any more.
    pub linger: Duration,
    /// Limits of connections and requests.
    pub serve: ServeOptions,
}

impl Default for Config {
    /// Closed: no token, not public.
    fn default() -> Self {
        Config {
            token: None,
            public: false,
            store_bytes: DEFAULT_STORE_BYTES,
            room: Room::default(),
            siblings: Vec::new(),
            busy_above: BUSY_PER_CORE,
            linger: Duration::ZERO,
            serve: ServeOptions::default(),
        }
    }
}

/// A configuration that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not the address of a sibling.
    #[error(transparent)]
    Sibling(#[from] SiblingError),
    /// Siblings know each other by the token.
    #[error("siblings know each other by the token: give --token-file")]
    SiblingsWithoutToken,
}

/// Where a tracker is asked. From a [`TcpListener`] alone, it speaks no UDP.
#[derive(Debug)]
pub struct Listeners {
    /// For everything.
    pub http: TcpListener,
    /// For announces and scrapes of strangers.
    pub udp: Option<Sockets>,
}

impl From<TcpListener> for Listeners {
    fn from(http: TcpListener) -> Self {
        Listeners { http, udp: None }
    }
}

/// A tracker. Clones share the state; it ends with the last of them.
#[derive(Clone, Debug)]
pub struct Tracker(pub(crate) Arc<State>);

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) directory: Directory,
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) uploads: Semaphore,
    /// Readers that follow swarms.
    pub(crate) watchers: Arc<Semaphore>,
    /// Names this start; the directory has it as text.
    pub(crate) epoch: u64,
    /// What subscribed siblings are told.
    pub(crate) news: News,
    /// Whether all that a sibling knew has been copied.
    pub(crate) copied: watch::Sender<bool>,
    siblings: Vec<Sibling>,
    /// The streams to siblings end with this.
    pub(crate) stopped: CancellationToken,
    /// Siblings have been told the last.
    pub(crate) told: CancellationToken,
    /// What would go on for ever ends with this, when the tracker begins to end.
    pub(crate) draining: CancellationToken,
    pub(crate) streams: TaskTracker,
    started: Instant,
}

impl Tracker {
    /// An empty tracker with an epoch of its own.
    ///
    /// # Errors
    /// When a sibling has no address, or there are siblings and no token.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let siblings = siblings(&config)?;
        let health = Health::new("tracker");
        let metrics = Metrics::default();
        health.metrics(|registry| metrics.register(registry));
        let epoch = rand::random();
        let tracker = Tracker(Arc::new(State {
            directory: Directory::new(format!("{epoch:016x}"), config.public, config.room),
            store: Store::new(config.store_bytes),
            metrics,
            health,
            uploads: Semaphore::new(MAX_UPLOADS),
            watchers: Arc::new(Semaphore::new(MAX_WATCHERS)),
            epoch,
            news: News::default(),
            copied: watch::Sender::new(false),
            siblings,
            stopped: CancellationToken::new(),
            told: CancellationToken::new(),
            draining: CancellationToken::new(),
            streams: TaskTracker::new(),
            started: Instant::now(),
            config,
        }));
        tracker.0.directory.siblings(tracker.0.siblings.len() as u32);
        Ok(tracker)
    }

    /// Everything it answers. Handlers need the client's address, which [`daemon::serve`] provides. [`Tracker::serve`] answers
    /// announces and scrapes faster.
    pub fn router(&self) -> Router {
        http::router(self)
    }

    /// Health and metrics, as served under `/healthz`, `/readyz` and `/metrics`.
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// Replaces the lists. What they deny loses its peers and its metainfo. This takes a while: not for an async thread.
    pub fn restrict(&self, lists: Lists) {
        let (allowed, denied) = (lists.allowed.len(), lists.denied.len());
        let registered_but_denied = self.0.directory.restrict(lists);
        self.0.store.retain(&*self.0, self.0.now());
        tracing::info!(allowed, denied, registered_but_denied, "lists taken in");
    }

    /// Serves on `listeners` until `shutdown`, lingers as configured, and lets running requests end. One that has siblings is ready when it has copied what
    /// one of them knows, at the latest after [`COPY_PATIENCE`]; it answers before that too.
    pub async fn serve(&self, listeners: impl Into<Listeners>, shutdown: CancellationToken) {
        let Listeners { http, udp } = listeners.into();
        let state = &self.0;
        let workers = udp.map(|sockets| Workers::start(state, sockets));
        let stopped = state.stopped.clone();
        let tasks = state.streams.clone();
        tasks.spawn(self.clone().sweep_until(stopped.clone()));
        tasks.spawn(publish_until(Arc::clone(state), stopped.clone()));
        for sibling in &state.siblings {
            tasks.spawn(subscribe_until(Arc::clone(state), sibling.clone(), stopped.clone()));
        }
        let closing = CancellationToken::new();
        let readiness = async {
            tokio::select! {
                () = self.until_copied() => state.health.readiness().set(true),
                () = shutdown.cancelled() => {}
            }
            shutdown.cancelled().await;
            state.health.readiness().set(false);
            // Who sends clients here has so long to notice.
            tokio::time::sleep(state.config.linger).await;
            state.draining.cancel();
            closing.cancel();
        };
        let answering = async {
            if let Some(workers) = workers {
                workers.run_until(closing.clone()).await;
            }
        };
        // Ready first: whoever connects at once finds it so.
        tokio::join!(readiness, http::serve(self, http, closing.clone()), answering);
        // Nothing more is heard, so what siblings are told now is the last.
        stopped.cancel();
        tasks.close();
        tasks.wait().await;
    }

    async fn until_copied(&self) {
        if self.0.config.siblings.is_empty() {
            return;
        }
        let mut copied = self.0.copied.subscribe();
        let copied = tokio::time::timeout(COPY_PATIENCE, copied.wait_for(|copied| *copied)).await.is_ok();
        if !copied {
            tracing::info!("no sibling to copy from: ready with nothing");
        }
    }

    async fn sweep_until(self, stopped: CancellationToken) {
        let mut load = Load::new(self.0.config.busy_above, self.0.now());
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = stopped.cancelled() => return,
                _ = ticks.tick() => {
                    self.0.press(&mut load);
                    self.0.sweep();
                }
            }
        }
    }
}

/// Takes in a registry: from the operator, or from a sibling that has it from there. This takes a while: not for an async thread.
///
/// # Errors
/// See [`RegistryError`]; nothing of it is taken then.
pub(crate) fn register(state: &State, body: &Bytes, registration: Registration) -> Result<(), RegistryError> {
    let registry: Registry =
        serde_json::from_slice(body).map_err(|error| RegistryError::Json(error.to_string()))?;
    let (swarms, nodes) = (registry.swarms.len(), registry.nodes.len());
    let admission = Admission::new(registry)?;
    let digest = hex::encode(Sha256::digest(body));
    let Some(denied) = state.directory.admit(admission, digest, body.clone(), registration) else {
        return Ok(());
    };
    state.store.retain(state, state.now());
    state.metrics.registrations.inc();
    tracing::info!(swarms, denied, nodes, "registry taken in");
    Ok(())
}

fn siblings(config: &Config) -> Result<Vec<Sibling>, ConfigError> {
    if config.siblings.is_empty() {
        return Ok(Vec::new());
    }
    let token = config.token.as_ref().ok_or(ConfigError::SiblingsWithoutToken)?;
    let mut credential = HeaderValue::from_str(&format!("Bearer {}", token.sibling_credential()))
        .expect("hexadecimal digits stand in any header");
    credential.set_sensitive(true);
    let sibling = |url: &String| Sibling::new(url, credential.clone());
    Ok(config.siblings.iter().map(sibling).collect::<Result<_, _>>()?)
}

impl State {
    /// The time as the swarms know it.
    pub(crate) fn now(&self) -> Tick {
        Tick::after_start(self.started.elapsed())
    }

    fn press(&self, load: &mut Load) {
        let before = load.pressure();
        let pressure = load.measure(self.directory.announces(), self.now());
        self.directory.press(pressure);
        self.metrics.stretched(pressure.stretch);
        let refuses = |pressure: Pressure| pressure.refused > 0.0;
        if (before.stretch, refuses(before)) != (pressure.stretch, refuses(pressure)) {
            let Pressure { stretch, refused } = pressure;
            tracing::info!(stretch, refused, "how busy it is has changed");
        }
    }

    fn sweep(&self) {
        let began = Instant::now();
        let census = self.directory.sweep(self.now());
        self.store.retain(self, self.now());
        self.metrics.census(census, self.store.sizes());
        let took = began.elapsed();
        if took > Duration::from_secs(1) {
            tracing::warn!(
                seconds = took.as_secs_f32(),
                peers = census.sidecars + census.strangers,
                "sweeping takes long"
            );
        }
    }
}

impl Claims for State {
    fn revision(&self, name: &str) -> bool {
        self.directory.has_revision(name)
    }

    fn infohash(&self, id: &WireId) -> bool {
        self.directory.has_registered(id)
    }

    fn manifest(&self, digest: &[u8; 32]) -> bool {
        self.directory.has_manifest(digest)
    }

    fn denied(&self, id: &WireId) -> bool {
        self.directory.denies(id)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::mpsc::sync_channel;
    use std::thread;

    use tracker_api::RegisteredSwarm;

    use super::*;
    use crate::directory::Claim;
    use crate::query::Announce;
    use crate::registry::Admission;

    const ROUNDS: u32 = 300;

    fn admit(state: &State, round: u32) {
        let swarm = |name: &str| RegisteredSwarm {
            revisions: vec![name.to_owned()],
            infohashes: vec![name.repeat(20)],
            manifest: None,
        };
        let names = if round.is_multiple_of(2) { vec!["11", "22"] } else { vec!["22", "33"] };
        let swarms = names.into_iter().map(swarm).collect();
        let registry = Registry { swarms, ..Registry::default() };
        state.directory.admit(
            Admission::new(registry).unwrap(),
            round.to_string(),
            Bytes::new(),
            Registration::Replace,
        );
        state.store.retain(state, state.now());
    }

    fn announce(state: &State, round: u32) {
        let name = ["%11", "%22", "%33", "%44"][round as usize % 4].repeat(20);
        let query = format!("info_hash={name}&peer_id=-XX0001-abcdefghijkl&port={}", 2000 + round % 1000);
        let asked = Announce::parse(&query).unwrap();
        let claim = Claim::Stranger(IpAddr::from([10, 0, 0, (round % 7) as u8]));
        // Refused or not: what counts is that there is an answer.
        drop(state.directory.announce(claim, &asked, state.now(), &mut rand::rng()));
    }

    fn read(state: &State, round: u32) {
        let reports = state.directory.report(None, state.now(), |names| state.store.has_any(names));
        assert!(reports.len() <= 4, "{round}: {reports:?}");
        state.health.metrics(|registry| {
            prometheus_client::encoding::text::encode(&mut String::new(), registry)
                .expect("metrics are text");
        });
    }

    #[test]
    fn nothing_waits_for_ever_when_everything_happens_at_once() {
        let tracker = Tracker::new(Config { public: true, ..Config::default() }).unwrap();
        let jobs: [fn(&State, u32); 4] = [admit, announce, read, |state, _| state.sweep()];
        let (done, ended) = sync_channel(8);
        for job in jobs.into_iter().chain(jobs) {
            let (tracker, done) = (tracker.clone(), done.clone());
            thread::spawn(move || {
                (0..ROUNDS).for_each(|round| job(&tracker.0, round));
                done.send(()).expect("the test waits for all");
            });
        }
        for _ in 0..8 {
            ended.recv_timeout(Duration::from_mins(1)).expect("no deadlock");
        }
    }
}
