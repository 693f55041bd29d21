//! Metainfo and content manifests: `PUT`, `GET`, `HEAD`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use bytes::Bytes;
use daemon::range::{Wanted, wanted};
use daemon::{BodyLimits, read_body};

use crate::limits::{MAX_MANIFEST_BYTES, MAX_METAINFO_BYTES};
use crate::query;
use crate::registry::digest;
use crate::store::{self, Claims, Infohash, StoreError};
use crate::tracker::{self, Tracker};

/// The prefix of a name that is a content digest.
const CONTENT: &str = "sha256:";
const BITTORRENT: &str = "application/x-bittorrent";
const JSON: &str = "application/json";

/// Why a request about stored things was not granted.
#[derive(Debug, thiserror::Error)]
enum Refused {
    /// What stands in the path is no name of anything here.
    #[error("no such thing is stored here")]
    Unknown,
    /// Nothing registered would keep it.
    #[error(
        "nothing that is registered here wants this; name its revision with ?revision=, or wait for the registry"
    )]
    Unregistered,
    #[error(transparent)]
    Body(#[from] daemon::BodyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the check failed")]
    Check(#[from] tokio::task::JoinError),
}

impl Refused {
    fn label(&self) -> &'static str {
        match self {
            Refused::Unknown => "unknown",
            Refused::Unregistered => "unregistered",
            Refused::Body(_) => "body",
            Refused::Store(StoreError::Full { .. }) => "store_full",
            Refused::Store(_) | Refused::Check(_) => "content",
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match &self {
            Refused::Unknown => StatusCode::NOT_FOUND,
            Refused::Unregistered => StatusCode::FORBIDDEN,
            Refused::Store(StoreError::Full { .. }) => StatusCode::INSUFFICIENT_STORAGE,
            Refused::Store(_) => StatusCode::BAD_REQUEST,
            Refused::Check(error) => {
                tracing::error!(%error, "a check of what was sent failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Refused::Body(_) => {
                let Refused::Body(error) = self else {
                    return StatusCode::INTERNAL_SERVER_ERROR.into_response();
                };
                return error.into_response();
            }
        };
        let chain = std::iter::successors(Some(&self as &dyn std::error::Error), |error| error.source());
        let text: Vec<String> = chain.map(ToString::to_string).collect();
        (status, format!("{}\n", text.join(": "))).into_response()
    }
}

/// `GET|HEAD /metainfo/{infohash}` and `/metainfo/sha256:{content digest}`.
pub(super) async fn metainfo(
    State(tracker): State<Tracker>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let store = &tracker.0.store;
    let found = match name.strip_prefix(CONTENT) {
        Some(hex) => digest(hex).ok().and_then(|digest| store.metainfo_of_content(&digest)),
        None => Infohash::parse(&name).and_then(|infohash| store.metainfo(infohash)),
    };
    match found {
        Some(found) => give(&headers, &hex::encode(found.digest), BITTORRENT, found.bytes),
        None => Refused::Unknown.into_response(),
    }
}

/// `PUT /metainfo/{infohash}[?revision=<name>]`: 201, or 200 if it was there.
#[tracing::instrument(name = "metainfo", skip_all)]
pub(super) async fn put_metainfo(
    State(tracker): State<Tracker>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let revision = query::text(query.as_deref().unwrap_or_default(), "revision");
    answer(&tracker, store_metainfo(&tracker.0, &name, revision, body).await)
}

async fn store_metainfo(
    state: &Arc<tracker::State>,
    name: &str,
    revision: Option<String>,
    body: Body,
) -> Result<bool, Refused> {
    let infohash = Infohash::parse(name).ok_or(Refused::Unknown)?;
    let wanted = match &revision {
        Some(revision) => state.revision(revision),
        None => state.infohash(&infohash.wire()),
    };
    if !wanted || state.denied(&infohash.wire()) {
        return Err(Refused::Unregistered);
    }
    let _upload = state.uploads.acquire().await;
    let body = read_body(body, BodyLimits::up_to(MAX_METAINFO_BYTES)).await?;
    let checked = tokio::task::spawn_blocking(move || store::check_metainfo(body, infohash)).await??;
    let (infohash, bytes) = (checked.infohash.clone(), checked.bytes.len());
    let new = state.store.put_metainfo(checked, revision, state.now())?;
    tracing::info!(%infohash, bytes, new, "metainfo stored");
    Ok(new)
}

/// `GET|HEAD /manifests/{sha256}`.
pub(super) async fn manifest(
    State(tracker): State<Tracker>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    match digest(&name).ok().and_then(|digest| tracker.0.store.manifest(&digest)) {
        Some(bytes) => give(&headers, &name.to_ascii_lowercase(), JSON, bytes),
        None => Refused::Unknown.into_response(),
    }
}

/// `PUT /manifests/{sha256}[?revision=<name>]`: 201, or 200 if it was there.
#[tracing::instrument(name = "manifest", skip_all)]
pub(super) async fn put_manifest(
    State(tracker): State<Tracker>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    let revision = query::text(query.as_deref().unwrap_or_default(), "revision");
    answer(&tracker, store_manifest(&tracker.0, &name, revision, body).await)
}

async fn store_manifest(
    state: &Arc<tracker::State>,
    name: &str,
    revision: Option<String>,
    body: Body,
) -> Result<bool, Refused> {
    let digest = digest(name).map_err(|_| Refused::Unknown)?;
    // A manifest is sent before the registry can know its digest. One that names no revision stays for a while unclaimed.
    if revision.as_ref().is_some_and(|revision| !state.revision(revision)) {
        return Err(Refused::Unregistered);
    }
    let _upload = state.uploads.acquire().await;
    let body = read_body(body, BodyLimits::up_to(MAX_MANIFEST_BYTES)).await?;
    let bytes = body.len();
    let checked = tokio::task::spawn_blocking(move || store::check_manifest(body, digest)).await??;
    let new = state.store.put_manifest(checked, revision, state.now())?;
    tracing::info!(manifest = %hex::encode(digest), bytes, new, "manifest stored");
    Ok(new)
}

fn answer(tracker: &Tracker, stored: Result<bool, Refused>) -> Response {
    match stored {
        Ok(true) => StatusCode::CREATED.into_response(),
        Ok(false) => StatusCode::OK.into_response(),
        Err(refused) => {
            tracker.0.metrics.rejected(refused.label());
            refused.into_response()
        }
    }
}

/// Gives what is stored, known by the digest of its bytes: with `ETag`, and 304 for who has it already (RFC 9110, 13.1.2); a part of
/// it for who asks for one, unless that one has begun with other bytes (RFC 9110, 13.1.5 and 14).
fn give(headers: &HeaderMap, digest: &str, content_type: &'static str, bytes: Bytes) -> Response {
    let tag = format!("\"{digest}\"");
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let known = text(header::IF_NONE_MATCH).is_some_and(|known| {
        known.split(',').map(str::trim).any(|known| known == "*" || known.trim_start_matches("W/") == tag)
    });
    if known {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    let same = text(header::IF_RANGE).is_none_or(|begun| begun == tag);
    let (status, extent, body) = match wanted(text(header::RANGE).filter(|_| same), bytes.len() as u64) {
        Wanted::Whole => (StatusCode::OK, None, bytes),
        Wanted::Unsatisfiable => {
            let extent = [(header::CONTENT_RANGE, format!("bytes */{}", bytes.len()))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, extent).into_response();
        }
        Wanted::Part(part) => {
            let extent = format!("bytes {}-{}/{}", part.start, part.end - 1, bytes.len());
            // Within what is in memory.
            let part = part.start as usize..part.end as usize;
            (StatusCode::PARTIAL_CONTENT, Some([(header::CONTENT_RANGE, extent)]), bytes.slice(part))
        }
    };
    let said = [
        (header::ETAG, tag),
        (header::CONTENT_TYPE, content_type.to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
    ];
    (status, said, extent.map(AppendHeaders), body).into_response()
}
