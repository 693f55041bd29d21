//! A tracker: its state, and how it is run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use daemon::{CancellationToken, Health, ServeOptions};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use torrent::WireId;

use crate::directory::Directory;
use crate::http;
use crate::limits::{DEFAULT_STORE_BYTES, MAX_UPLOADS, SWEEP};
use crate::metrics::Metrics;
use crate::store::{Claims, Store};
use crate::swarm::Seconds;
use crate::token::Token;

/// How a tracker behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// What operator and sidecars show. Without one nothing can be registered or stored.
    pub token: Option<Token>,
    /// Whether infohashes are served that nobody registered.
    pub public: bool,
    /// Bytes of metainfo and manifests at most.
    pub store_bytes: u64,
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
            serve: ServeOptions::default(),
        }
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
    started: Instant,
}

impl Tracker {
    /// An empty tracker with an epoch of its own.
    pub fn new(config: Config) -> Self {
        let health = Health::new("tracker");
        let metrics = Metrics::default();
        health.metrics(|registry| metrics.register(registry));
        Tracker(Arc::new(State {
            directory: Directory::new(hex::encode(rand::random::<[u8; 8]>()), config.public),
            store: Store::new(config.store_bytes),
            metrics,
            health,
            uploads: Semaphore::new(MAX_UPLOADS),
            started: Instant::now(),
            config,
        }))
    }

    /// Everything it answers. Handlers need the client's address, which [`daemon::serve`] provides.
    pub fn router(&self) -> Router {
        http::router(self)
    }

    /// Health and metrics, as served under `/healthz`, `/readyz` and `/metrics`.
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// Serves on `listener` until `shutdown`, and lets running requests end.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let stopped = shutdown.child_token();
        let sweeper = tokio::spawn(self.clone().sweep_until(stopped.clone()));
        self.0.health.readiness().set(true);
        let state = Arc::clone(&self.0);
        let unready = async {
            stopped.cancelled().await;
            state.health.readiness().set(false);
        };
        let serving = async {
            daemon::serve(listener, self.router(), self.0.config.serve, shutdown).await;
            stopped.cancel();
        };
        tokio::join!(serving, unready);
        if let Err(error) = sweeper.await {
            tracing::error!(%error, "the sweeper of expired peers failed");
        }
    }

    async fn sweep_until(self, stopped: CancellationToken) {
        let mut ticks = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                () = stopped.cancelled() => return,
                _ = ticks.tick() => self.0.sweep(),
            }
        }
    }
}

impl State {
    /// The time as the swarms know it.
    pub(crate) fn now(&self) -> Seconds {
        Seconds(u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX))
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
}

/// Runs a tracker on `listener` until `shutdown`: [`Tracker::new`] and [`Tracker::serve`].
pub async fn serve(listener: TcpListener, config: Config, shutdown: CancellationToken) {
    Tracker::new(config).serve(listener, shutdown).await;
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::mpsc::sync_channel;
    use std::thread;

    use tracker_api::{RegisteredSwarm, Registry};

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
        let registry = Registry { swarms: names.into_iter().map(swarm).collect(), nodes: vec![] };
        state.directory.admit(Admission::new(registry).unwrap(), round.to_string());
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
        let tracker = Tracker::new(Config { public: true, ..Config::default() });
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
