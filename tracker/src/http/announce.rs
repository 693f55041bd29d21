//! `/announce` and `/scrape`, in the way that clients of any age expect.
//!
//! What a client got wrong is 400; what it could not know (that a torrent is not served here) is 200 with a `failure reason`,
//! since many clients show the reason only then. Both are bencoded.

use std::net::{IpAddr, SocketAddr};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State as Shared};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rand::Rng;

use crate::directory::{Claim, Refusal};
use crate::query::{self, Announce, QueryError};
use crate::request::{Asked, Resource};
use crate::token::{Shown, shown};
use crate::tracker::{State, Tracker};
use crate::{access, answer};

/// `text/plain` is what trackers have always said.
pub(super) const CONTENT_TYPE: &str = "text/plain";

/// Writes the answer behind what `body` holds, and says what its status is.
pub(super) fn answer(
    state: &State,
    asked: &Asked<'_>,
    source: IpAddr,
    rng: &mut impl Rng,
    body: &mut Vec<u8>,
) -> StatusCode {
    match asked.resource {
        Resource::Announce => announce(state, asked, source, rng, body),
        Resource::Scrape => scrape(state, asked, body),
    }
}

/// BEP 3, 7, 23, 24.
fn announce(
    state: &State,
    Asked { query, authorization, .. }: &Asked<'_>,
    source: IpAddr,
    rng: &mut impl Rng,
    body: &mut Vec<u8>,
) -> StatusCode {
    let asked = match Announce::parse(query) {
        Ok(asked) => asked,
        Err(error) => return malformed(state, error, body),
    };
    let Some(claim) =
        claim(shown(state.config.token.as_ref(), *authorization), asked.node.as_deref(), source)
    else {
        state.metrics.rejected("token");
        answer::failure(body, "the token is not the tracker's");
        return StatusCode::UNAUTHORIZED;
    };
    let reply = state.directory.announce(claim, &asked, state.now(), rng);
    access::announced(source, &asked, &reply);
    match reply {
        Ok(reply) => {
            state.metrics.announced(matches!(claim, Claim::Node(_)), reply.listed);
            answer::announce(body, &reply, &asked, source, state.directory.epoch());
        }
        Err(refusal) => {
            state.metrics.rejected(label(refusal));
            answer::refused(body, refusal);
        }
    }
    StatusCode::OK
}

/// BEP 48.
fn scrape(state: &State, asked: &Asked<'_>, body: &mut Vec<u8>) -> StatusCode {
    match query::scrape(asked.query) {
        Ok(hashes) => {
            state.metrics.scrapes.inc();
            answer::scrape(body, state.directory.scrape(&hashes));
            StatusCode::OK
        }
        Err(error) => malformed(state, error, body),
    }
}

fn malformed(state: &State, error: QueryError, body: &mut Vec<u8>) -> StatusCode {
    state.metrics.rejected("query");
    answer::failure(body, &error.to_string());
    StatusCode::BAD_REQUEST
}

/// Who announces; none if it shows a wrong token, or names a node without showing one.
fn claim(shown: Shown, node: Option<&str>, source: IpAddr) -> Option<Claim<'_>> {
    match (shown, node) {
        (Shown::Right, Some(node)) => Some(Claim::Node(node)),
        (Shown::Right | Shown::Nothing, None) => Some(Claim::Stranger(source)),
        (Shown::Wrong | Shown::Sibling, _) | (Shown::Nothing, Some(_)) => None,
    }
}

fn label(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownTorrent => "torrent",
        Refusal::UnknownNode => "node",
        Refusal::NoAddress => "address",
        Refusal::Full | Refusal::Crowded => "full",
        Refusal::Busy => "busy",
    }
}

/// The same for a request on a connection that has been handed over: what no route of the router takes.
pub(super) async fn fallback(
    Shared(tracker): Shared<Tracker>,
    ConnectInfo(source): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let Some(resource) = Resource::at(request.uri().path().as_bytes()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET,HEAD")]).into_response();
    }
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let asked = Asked { resource, query, authorization };
    let mut body = Vec::new();
    let status = answer(&tracker.0, &asked, source.ip(), &mut rand::rng(), &mut body);
    (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], Body::from(body)).into_response()
}
