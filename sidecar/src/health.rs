//! Liveness that means something, readiness, metrics.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use daemon::{BindError, Health, ServeOptions};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio_util::sync::CancellationToken;

use crate::demand::Outcome;

/// The main loop turns once a second; one that has not turned for so long hangs.
const HUNG: Duration = Duration::from_secs(10);

/// When the main loop turned last.
#[derive(Clone, Debug)]
pub struct Watchdog {
    began: Instant,
    turned: Arc<AtomicU64>,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self { began: Instant::now(), turned: Arc::default() }
    }
}

impl Watchdog {
    /// It turned.
    pub fn turn(&self) {
        self.turned.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether it turned lately.
    pub fn is_alive(&self) -> bool {
        let turned = Duration::from_millis(self.turned.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(turned) < HUNG
    }
}

/// What a sidecar counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Revisions published.
    pub published: Counter,
    /// Payload bytes linked from other revisions.
    pub reused_bytes: Counter,
    /// Payload bytes read from origins.
    pub origin_bytes: Gauge,
    /// Payload bytes got from peers.
    pub peer_bytes: Gauge,
    /// Payload bytes got from peers in other zones and regions.
    pub far_bytes: Counter,
    /// Revisions on the disk, or coming.
    pub revisions: Gauge,
    /// Revisions that do not get on.
    pub failed: Gauge,
    /// Bytes booked under the root.
    pub stored_bytes: Gauge,
    /// Blobs that were asked for on demand, by what became of them.
    pub demands: Family<Outcome, Counter>,
    /// Bytes of such blobs that are here or on their way.
    pub demand_bytes: Gauge,
    /// Bytes of such blobs that this node has read at registries.
    pub demand_origin_bytes: Counter,
}

impl Metrics {
    /// Registered with this sidecar's health.
    pub fn register(health: &Health) -> Self {
        let metrics = Self::default();
        let m = metrics.clone();
        health.metrics(|registry| {
            registry.register("published", "Revisions published since the start", m.published);
            registry.register(
                "reused_bytes",
                "Payload bytes linked from other revisions since the start",
                m.reused_bytes,
            );
            registry.register(
                "origin_bytes",
                "Payload bytes read from origins for what is here",
                m.origin_bytes,
            );
            registry.register("peer_bytes", "Payload bytes got from peers for what is here", m.peer_bytes);
            registry.register(
                "far_bytes",
                "Payload bytes got from peers in other zones and regions since the start",
                m.far_bytes,
            );
            registry.register("revisions", "Revisions that are here or coming", m.revisions);
            registry.register("failed_revisions", "Revisions that do not get on", m.failed);
            registry.register("demands", "Blobs on demand, by what became of them", m.demands);
            registry.register(
                "demand_bytes",
                "Bytes of blobs on demand that are here or on their way",
                m.demand_bytes,
            );
            registry.register(
                "demand_origin_bytes",
                "Bytes of blobs on demand read at registries since the start",
                m.demand_origin_bytes,
            );
            registry.register(
                "stored_bytes",
                "Bytes that revisions take, or will take, under the root",
                m.stored_bytes,
            );
        });
        metrics
    }
}

/// `/healthz` (503 when the main loop hangs), `/readyz`, `/metrics`.
pub fn router(health: &Health, watchdog: Watchdog) -> Router {
    health.router().layer(middleware::from_fn_with_state(watchdog, liveness))
}

async fn liveness(State(watchdog): State<Watchdog>, request: Request, next: Next) -> Response {
    if request.uri().path() == "/healthz" && !watchdog.is_alive() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the main loop hangs\n").into_response();
    }
    next.run(request).await
}

/// Serves it on these addresses until `shutdown`.
pub fn serve(
    addresses: &[SocketAddr],
    router: &Router,
    shutdown: &CancellationToken,
) -> Result<(), BindError> {
    for address in addresses {
        let listener = daemon::bind(*address)?;
        tokio::spawn(daemon::serve(listener, router.clone(), ServeOptions::default(), shutdown.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_turned_lately_is_alive() {
        let watchdog = Watchdog::default();
        assert!(watchdog.is_alive(), "it has time to start");
        watchdog.turn();
        assert!(watchdog.is_alive());
        let began = Instant::now().checked_sub(Duration::from_mins(1)).unwrap();
        let old = Watchdog { began, ..Watchdog::default() };
        assert!(!old.is_alive());
    }
}
