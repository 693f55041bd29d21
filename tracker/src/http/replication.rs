//! The stream to a sibling: a request that becomes a stream of frames (RFC 9110, 7.8).

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;

use crate::limits::MAX_SUBSCRIBERS;
use crate::replication::{PROTOCOL, publish};
use crate::tracker::Tracker;

/// `GET /v1/replication` with `Upgrade`: 101, or 426 for another protocol, or 503 for one subscriber too many.
pub(super) async fn stream(State(tracker): State<Tracker>, mut request: Request) -> Response {
    let wanted = request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
    let upgrade = [(header::UPGRADE, PROTOCOL), (header::CONNECTION, "upgrade")];
    if wanted != Some(PROTOCOL) {
        return (StatusCode::UPGRADE_REQUIRED, upgrade, format!("ask for Upgrade: {PROTOCOL}\n"))
            .into_response();
    }
    let state = Arc::clone(&tracker.0);
    if state.news.listeners() >= MAX_SUBSCRIBERS {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many siblings listen already\n").into_response();
    }
    let upgraded = hyper::upgrade::on(&mut request);
    state.streams.clone().spawn(async move {
        let ended = match upgraded.await {
            Ok(stream) => {
                state.metrics.replication.listeners.inc();
                let ended = publish(Arc::clone(&state), TokioIo::new(stream)).await;
                state.metrics.replication.listeners.dec();
                ended.map_err(anyhow::Error::new)
            }
            Err(error) => Err(anyhow::Error::new(error)),
        };
        if let Err(error) = ended {
            tracing::info!(error = format!("{error:#}"), "a sibling listens no more");
        }
    });
    (StatusCode::SWITCHING_PROTOCOLS, upgrade).into_response()
}
