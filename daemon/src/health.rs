//! Health, readiness and metrics over HTTP.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

/// Whether a daemon can do its work now. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<watch::Sender<bool>>);

impl Readiness {
    /// Says whether `/readyz` answers 200 from now on.
    pub fn set(&self, ready: bool) {
        self.0.send_replace(ready);
    }

    /// What was said last; false at first.
    pub fn is_ready(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until this is what was said last.
    pub async fn until(&self, ready: bool) {
        // It fails only when nobody can say anything any more, and here we are.
        drop(self.0.subscribe().wait_for(|said| *said == ready).await);
    }
}

/// What a daemon shows about itself: readiness, and metrics whose names begin with `samara_<daemon>_`. Clones share both.
#[derive(Clone, Debug)]
pub struct Health {
    readiness: Readiness,
    registry: Arc<Mutex<Registry>>,
}

impl Health {
    /// Not ready, with `samara_<daemon>_build_info` as the only metric. `daemon` is a word such as `tracker`.
    pub fn new(daemon: &str) -> Self {
        let mut registry = Registry::with_prefix(format!("samara_{daemon}"));
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        Health { readiness: Readiness::default(), registry: Arc::new(Mutex::new(registry)) }
    }

    /// The flag behind `/readyz`.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Lets `register` add metrics.
    pub fn metrics<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// `/healthz`, `/readyz`, `/metrics`: GET and HEAD, 405 for other methods, 421 for a `Host` that no one calls us by
    /// ([`refuse_foreign_hosts`]).
    pub fn router(&self) -> Router {
        self.router_for_any_host().layer(middleware::from_fn(refuse_foreign_hosts))
    }

    /// The same for a server that is reached by public names, such as a tracker.
    pub fn router_for_any_host(&self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self.clone())
    }
}

async fn ready(State(health): State<Health>) -> Response {
    if health.readiness.is_ready() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn metrics(State(health): State<Health>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let mut text = String::new();
    let encoded = health.metrics(|registry| prometheus_client::encoding::text::encode(&mut text, registry));
    match encoded {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot encode the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Middleware: 421 unless `Host` is an address, `localhost`, or a name that only a cluster resolves. A page in somebody's
/// browser that rebinds its own name to our address gets nothing (CVE-2018-5702).
pub async fn refuse_foreign_hosts(request: Request, next: Next) -> Response {
    if host_is_ours(request.headers()) {
        next.run(request).await
    } else {
        (StatusCode::MISDIRECTED_REQUEST, "this is not the host you asked for\n").into_response()
    }
}

fn host_is_ours(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    // A name without a dot and the names below `svc` and `cluster.local` exist in no public zone.
    let labels: Vec<&str> = name.split('.').collect();
    name.parse::<IpAddr>().is_ok() || matches!(labels[..], [_] | [.., "svc"] | [.., "cluster", "local"])
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt;
    use prometheus_client::metrics::counter::Counter;
    use tower::ServiceExt;

    use super::*;

    async fn ask(health: &Health, method: &str, path: &str, host: &str) -> (StatusCode, String) {
        let request =
            Request::builder().method(method).uri(path).header("host", host).body(Body::empty()).unwrap();
        let response = health.router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_follows_the_flag() {
        let health = Health::new("test");
        assert_eq!(ask(&health, "GET", "/readyz", "localhost").await.0, 503);
        assert_eq!(ask(&health, "GET", "/healthz", "localhost").await.0, 200);
        health.readiness().set(true);
        assert_eq!(ask(&health, "GET", "/readyz", "localhost").await.0, 200);
    }

    #[tokio::test]
    async fn metrics_carry_the_prefix_of_the_daemon() {
        let health = Health::new("test");
        let seen: Counter = health.metrics(|registry| {
            let seen = Counter::default();
            registry.register("seen", "Things seen", seen.clone());
            seen
        });
        seen.inc();
        let (status, text) = ask(&health, "GET", "/metrics", "10.0.0.1:8080").await;
        assert_eq!(status, 200);
        assert!(text.contains("samara_test_seen_total 1\n"), "{text}");
        assert!(text.contains("samara_test_build_info{version="), "{text}");
    }

    #[tokio::test]
    async fn t103_only_get_and_only_our_own_hosts() {
        let health = Health::new("test");
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(ask(&health, method, "/metrics", "localhost").await.0, 405);
        }
        for host in ["attacker.com", "attacker.com:8080", "svc.attacker.com", "10.0.0.1.nip.io"] {
            assert_eq!(ask(&health, "GET", "/metrics", host).await.0, 421, "{host}");
        }
        for host in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "[fd00::1]",
            "sidecar",
            "x.samara.svc",
            "x.samara.svc.cluster.local:80",
        ] {
            assert_eq!(ask(&health, "GET", "/metrics", host).await.0, 200, "{host}");
        }
    }
}
