//! `/announce` and `/scrape`, in the way that clients of any age expect.
//!
//! What a client got wrong is 400; what it could not know (that a torrent is not served here) is 200 with a `failure reason`,
//! since many clients show the reason only then. Both are bencoded.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::answer;
use crate::directory::{Claim, Refusal};
use crate::query::{self, Announce};
use crate::token::{Shown, shown};
use crate::tracker::Tracker;

/// `GET /announce` (BEP 3, 7, 23, 24).
pub(super) async fn announce(
    State(tracker): State<Tracker>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let state = &tracker.0;
    let asked = match Announce::parse(query.as_deref().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(error) => {
            state.metrics.rejected("query");
            return answer::failure(StatusCode::BAD_REQUEST, &error.to_string());
        }
    };
    let Some(claim) = claim(shown(state.config.token.as_ref(), &headers), asked.node.as_deref(), source.ip())
    else {
        state.metrics.rejected("token");
        return answer::failure(StatusCode::UNAUTHORIZED, "the token is not the tracker's");
    };
    match state.directory.announce(claim, &asked, state.now(), &mut rand::rng()) {
        Ok(reply) => {
            state.metrics.announced(matches!(claim, Claim::Node(_)), reply.listed);
            answer::bencoded(answer::announce(&reply, &asked, source.ip(), state.directory.epoch()))
                .into_response()
        }
        Err(refusal) => {
            state.metrics.rejected(label(refusal));
            answer::failure(StatusCode::OK, &refusal.to_string())
        }
    }
}

/// Who announces; none if it shows a wrong token, or names a node without showing one.
fn claim(shown: Shown, node: Option<&str>, source: IpAddr) -> Option<Claim<'_>> {
    match (shown, node) {
        (Shown::Right, Some(node)) => Some(Claim::Node(node)),
        (Shown::Right | Shown::Nothing, None) => Some(Claim::Stranger(source)),
        (Shown::Wrong, _) | (Shown::Nothing, Some(_)) => None,
    }
}

fn label(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownTorrent => "torrent",
        Refusal::UnknownNode => "node",
        Refusal::NoAddress => "address",
        Refusal::Full => "full",
    }
}

/// `GET /scrape` (BEP 48).
pub(super) async fn scrape(State(tracker): State<Tracker>, RawQuery(query): RawQuery) -> Response {
    let state = &tracker.0;
    match query::scrape(query.as_deref().unwrap_or_default()) {
        Ok(hashes) => {
            state.metrics.scrapes.inc();
            answer::bencoded(answer::scrape(state.directory.scrape(&hashes))).into_response()
        }
        Err(error) => {
            state.metrics.rejected("query");
            answer::failure(StatusCode::BAD_REQUEST, &error.to_string())
        }
    }
}
