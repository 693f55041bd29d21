//! The tracker over HTTP. Announces and scrapes are open; everything else needs the token.
//!
//! `connection` reads a connection first, and answers announces and scrapes, which are nearly all that is asked, at the least cost.
//! The first request of another kind hands it to hyper and [`router`].

mod announce;
mod batch;
mod connection;
mod registry;
mod replication;
mod response;
mod stored;
mod watch;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::token::{Shown, shown};
use crate::tracker::Tracker;

pub(crate) use connection::serve;

/// All routes. Announces and scrapes are the fallback, since they may have any segment before them.
pub(crate) fn router(tracker: &Tracker) -> Router {
    let open = Router::new().fallback(announce::fallback);
    let closed = Router::new()
        .route(tracker_api::REGISTRY_PATH, get(registry::status).put(registry::replace))
        .route(tracker_api::REGISTRY_CONTENT_PATH, get(registry::content))
        .route(tracker_api::SWARMS_PATH, get(registry::swarms))
        .route(tracker_api::WATCH_PATH, get(watch::watch))
        .route(tracker_api::REPLICATION_PATH, get(replication::stream))
        .route(
            &format!("{}{{name}}", tracker_api::METAINFO_PATH),
            get(stored::metainfo).put(stored::put_metainfo),
        )
        .route(
            &format!("{}{{digest}}", tracker_api::MANIFESTS_PATH),
            get(stored::manifest).put(stored::put_manifest),
        )
        .route_layer(middleware::from_fn_with_state(tracker.clone(), require_token));
    open.merge(closed).with_state(tracker.clone()).merge(tracker.0.health.router_for_any_host())
}

/// 401 without the right token, before anything of the request is looked at.
async fn require_token(State(tracker): State<Tracker>, request: Request, next: Next) -> Response {
    let state = &tracker.0;
    let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    // What siblings show goes over the wire more often, so it opens less.
    let granted = match shown(state.config.token.as_ref(), authorization) {
        Shown::Right => true,
        Shown::Sibling => request.method().is_safe(),
        Shown::Wrong | Shown::Nothing => false,
    };
    if granted {
        return next.run(request).await;
    }
    state.metrics.rejected("token");
    let message = match state.config.token {
        Some(_) => "show the tracker's token as `Authorization: Bearer`\n",
        None => "this tracker has no token, so nothing can be registered or stored\n",
    };
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], message).into_response()
}
