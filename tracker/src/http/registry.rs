//! The registry, and what the operator reads.

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use daemon::{BodyLimits, read_body};
use tracker_api::RegistryStatus;

use crate::limits::MAX_REGISTRY_BYTES;
use crate::query;
use crate::registry::Registration;
use crate::registry::wire_id;
use crate::tracker::{self, Tracker};

/// `GET /v1/registry`.
pub(super) async fn status(State(tracker): State<Tracker>) -> Json<RegistryStatus> {
    Json(tracker.0.directory.status())
}

/// `PUT /v1/registry`: replaces the whole of what is admitted, and answers like `GET`.
#[tracing::instrument(name = "registry", skip_all)]
pub(super) async fn replace(State(tracker): State<Tracker>, body: Body) -> Response {
    let body = match read_body(body, BodyLimits::up_to(MAX_REGISTRY_BYTES)).await {
        Ok(body) => body,
        Err(error) => {
            tracker.0.metrics.rejected("body");
            return error.into_response();
        }
    };
    // A full registry takes a while to parse, and must not hold announces up meanwhile.
    let state = std::sync::Arc::clone(&tracker.0);
    match tokio::task::spawn_blocking(move || tracker::register(&state, &body, Registration::Replace)).await {
        Ok(Ok(())) => status(State(tracker)).await.into_response(),
        Ok(Err(error)) => {
            tracker.0.metrics.rejected("registry");
            tracing::warn!(%error, "a registry was refused");
            (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "a registry could not be taken in");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// `GET /v1/registry/content`.
pub(super) async fn content(State(tracker): State<Tracker>) -> Response {
    let body = tracker.0.directory.registry();
    if body.is_empty() {
        return (StatusCode::NOT_FOUND, "there is no registry yet\n").into_response();
    }
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// `GET /v1/swarms[?infohash=<hex>]`.
pub(super) async fn swarms(State(tracker): State<Tracker>, RawQuery(query): RawQuery) -> Response {
    let state = &tracker.0;
    let only = match query::text(query.as_deref().unwrap_or_default(), "infohash")
        .map(|hex| wire_id(&hex))
        .transpose()
    {
        Ok(only) => only,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let state = std::sync::Arc::clone(state);
    // All swarms of a large cluster are a million peers.
    let reports = tokio::task::spawn_blocking(move || {
        let reports = state.directory.report(only, state.now(), |names| state.store.has_any(names));
        serde_json::to_vec(&reports)
    });
    match reports.await {
        Ok(Ok(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        failed => {
            tracing::error!(?failed, "the swarms could not be reported");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
