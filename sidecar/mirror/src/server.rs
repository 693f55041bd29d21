//! The mirror: what it answers to each request.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use daemon::range::{Wanted, wanted};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::answer::{
    BLOB_STALLED, BLOB_UNKNOWN, BUSY, MANIFEST_UNKNOWN, Problem, READ_ONLY, UNAUTHORIZED, UNSATISFIABLE,
};
use crate::bearer::{Shown, shown};
use crate::body::{self, Sending, Shared};
use crate::canary::Canary;
use crate::images::{Access, Blob, Demand, Gate, Images, Manifest, Verdict};
use crate::linger::Lingering;
use crate::metrics::Metrics;
use crate::name::{Digest, Reference, Repository};
use crate::readers::Readers;
use crate::route::{Form, Route, route};

/// Connections at a time. A runtime keeps a few; what is beyond is closed and goes upstream.
const MAX_CONNECTIONS: usize = 512;
/// Closed connections that wait for the other side.
const MAX_LINGERING: usize = 128;
/// Request line and headers in bytes.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// How long a runtime may leave bytes unread: it writes to the same disk that everybody fills.
const READER_PATIENCE: Duration = Duration::from_mins(1);

const DIGEST_HEADER: HeaderName = HeaderName::from_static("docker-content-digest");
const NAMESPACE_HEADER: HeaderName = HeaderName::from_static("oci-namespace");
const VERSION_HEADER: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// How a mirror behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long an answer waits for the next byte of a growing blob before it ends early.
    pub patience: Duration,
    /// How long a request waits to hear whether a blob that is not here is got from elsewhere.
    pub demand_patience: Duration,
    /// How long a request waits to hear whether the image's registry would give the manifest.
    pub gate_patience: Duration,
    /// The registry of names that come without one: for clients other than containerd and CRI-O. Without it they get 404.
    pub default_host: Option<String>,
    /// Answers that are under way at a time; beyond it requests get 503, and the runtime asks upstream.
    pub max_requests: usize,
}

impl Default for Options {
    fn default() -> Self {
        let (demand_patience, gate_patience) = (Duration::from_secs(5), Duration::from_secs(5));
        let patience = Duration::from_secs(20);
        Self { patience, demand_patience, gate_patience, default_host: None, max_requests: 256 }
    }
}

/// Whom a mirror asks for what it does not have, and for what is not its to decide. Nobody, by default.
#[derive(Clone, Default)]
pub struct Helpers {
    /// Who gets blobs that are not here.
    pub demand: Option<Arc<dyn Demand>>,
    /// Who asks registries; without one nobody gets a manifest of [`Access::Relay`].
    pub gate: Option<Arc<dyn Gate>>,
}

/// A pull-only registry. It serves what it is given and never dials anything. Cheap to clone; clones are the same mirror.
#[derive(Clone)]
pub struct Mirror(Arc<Inner>);

struct Inner {
    images: Arc<dyn Images>,
    helpers: Helpers,
    demand_patience: Duration,
    gate_patience: Duration,
    canary: Canary,
    default_host: Option<String>,
    requests: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl Mirror {
    /// Of these images.
    pub fn new(images: Arc<dyn Images>, options: Options) -> Self {
        Self::with_helpers(images, Helpers::default(), options)
    }

    /// Of these images, with others to ask.
    pub fn with_helpers(images: Arc<dyn Images>, helpers: Helpers, options: Options) -> Self {
        let shared =
            Shared { readers: Readers::default(), metrics: Metrics::default(), patience: options.patience };
        Self(Arc::new(Inner {
            images,
            helpers,
            demand_patience: options.demand_patience,
            gate_patience: options.gate_patience,
            canary: Canary::new(),
            default_host: options.default_host,
            requests: Arc::new(Semaphore::new(options.max_requests.min(Semaphore::MAX_PERMITS))),
            shared: Arc::new(shared),
        }))
    }

    /// The image that proves that a runtime asks here.
    pub fn canary(&self) -> &Canary {
        &self.0.canary
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.0.shared.metrics
    }

    /// Its requests and answers. [`serve`](Self::serve) is what keeps connections within limits and ends them properly.
    pub fn router(&self) -> Router {
        Router::new()
            .fallback(answer)
            .layer(axum::middleware::from_fn(daemon::refuse_foreign_hosts))
            .with_state(self.clone())
    }

    /// Serves `router` (its own, or with layers round it) until `shutdown`. `listener` is on loopback: whoever reaches it can read.
    pub async fn serve(listener: TcpListener, router: Router, shutdown: daemon::CancellationToken) {
        let options = daemon::ServeOptions {
            max_connections: MAX_CONNECTIONS * 2,
            max_connections_per_source: MAX_CONNECTIONS,
            max_header_bytes: MAX_HEADER_BYTES,
            stall_timeout: READER_PATIENCE,
            ..daemon::ServeOptions::default()
        };
        let places = Arc::new(Semaphore::new(MAX_LINGERING));
        daemon::serve_with(listener, router, options, shutdown, move |stream| {
            let places = Arc::clone(&places);
            async move { Ok(Lingering::new(stream, places)) }
        })
        .await;
    }
}

async fn answer(State(mirror): State<Mirror>, request: Request) -> Response<Body> {
    let (request, _) = request.into_parts();
    let (kind, mut response) = mirror.0.answer(&request).await;
    mirror.0.shared.metrics.answered(kind, response.status().as_u16());
    if request.method == Method::HEAD {
        // Its length stands in the header already.
        *response.body_mut() = Body::empty();
    }
    response
}

impl Inner {
    /// The kind of what was asked for, and the answer.
    async fn answer(&self, request: &Parts) -> (&'static str, Response<Body>) {
        if request.method != Method::GET && request.method != Method::HEAD {
            return ("other", READ_ONLY.response());
        }
        let Ok(permit) = Arc::clone(&self.requests).try_acquire_owned() else {
            return ("other", BUSY.response());
        };
        let uri = &request.uri;
        match route(uri.path(), uri.query(), self.default_host.as_deref()) {
            Ok(Route::Base) => ("other", base()),
            Ok(Route::Manifest(repository, reference, form)) => {
                let found = self.manifest(&repository, &reference, form, &request.headers).await;
                ("manifest", in_namespace(found.unwrap_or_else(Problem::response), &repository))
            }
            Ok(Route::Blob(repository, digest)) => {
                let found = self.blob(&repository, digest, request, permit).await;
                ("blob", in_namespace(found.unwrap_or_else(Problem::response), &repository))
            }
            Err(why) => ("other", Problem::from(why).response()),
        }
    }

    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        form: Form,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Problem> {
        let found = self.canary.manifest(repository, reference);
        let manifest = found.or_else(|| self.images.manifest(repository, reference));
        let manifest = manifest.filter(|manifest| is_it(manifest, reference)).ok_or(MANIFEST_UNKNOWN)?;
        match self.verdict(repository, &manifest, form, headers).await {
            Verdict::Given => {}
            Verdict::Challenge(challenge) => return challenged(&challenge),
            Verdict::Elsewhere => return Err(MANIFEST_UNKNOWN),
        }
        let mut response = Response::new(Body::from(manifest.bytes().clone()));
        let headers = response.headers_mut();
        let media_type = HeaderValue::from_str(manifest.media_type()).map_err(|_| MANIFEST_UNKNOWN)?;
        headers.insert(header::CONTENT_TYPE, media_type);
        describe(headers, manifest.digest(), manifest.bytes().len() as u64);
        Ok(response)
    }

    async fn blob(
        &self,
        repository: &Repository,
        digest: Digest,
        request: &Parts,
        permit: OwnedSemaphorePermit,
    ) -> Result<Response<Body>, Problem> {
        let here = self.canary.blob(&digest).or_else(|| self.images.blob(&digest));
        let blob = match here {
            Some(blob) => blob,
            None => self.demanded(repository, &digest).await.ok_or(BLOB_UNKNOWN)?,
        };
        let length = match &blob {
            Blob::Bytes(bytes) => bytes.len() as u64,
            Blob::Whole { length, .. } => *length,
            Blob::Growing(blob) => blob.length(),
        };
        let wanted = wanted(range_header(&request.headers, digest), length);
        let range = match &wanted {
            Wanted::Whole => 0..length,
            Wanted::Part(range) => range.clone(),
            Wanted::Unsatisfiable => return Ok(unsatisfiable(length)),
        };
        let part = (wanted != Wanted::Whole).then(|| (range.clone(), length));
        let mut response = Response::new(
            self.body(
                blob,
                Sending { digest, range: range.clone(), shared: Arc::clone(&self.shared), _place: permit },
            )
            .await?,
        );
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        describe(headers, digest, range.end - range.start);
        if let Some((range, length)) = part {
            let text = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            headers.insert(header::CONTENT_RANGE, ascii(&text));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        Ok(response)
    }

    async fn demanded(&self, repository: &Repository, digest: &Digest) -> Option<Blob> {
        let asked = self.helpers.demand.as_ref()?.blob(repository, digest);
        tokio::time::timeout(self.demand_patience, asked).await.ok()?
    }

    /// Whether the client may have it. Who names the registry in the path gets the rest of the image from nowhere else, so that it gets
    /// all of it here or nothing; and it shows mirrors nothing (containers/image).
    async fn verdict(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        form: Form,
        headers: &HeaderMap,
    ) -> Verdict {
        match (manifest.access(), form) {
            (Access::Node, Form::InPath) if !manifest.is_whole() => Verdict::Elsewhere,
            (Access::Node, _) => Verdict::Given,
            (Access::Relay, Form::Beside) => self.asked(repository, &manifest.digest(), headers).await,
            (Access::Relay, Form::InPath) | (Access::UpstreamManifests, _) => Verdict::Elsewhere,
        }
    }

    /// What the image's registry says to who shows this. What is no token is not looked at, and what takes too long is no answer.
    async fn asked(&self, repository: &Repository, digest: &Digest, headers: &HeaderMap) -> Verdict {
        let Some(gate) = &self.helpers.gate else { return Verdict::Elsewhere };
        let token = match shown(headers) {
            Shown::Nothing => None,
            Shown::Token(token) => Some(token),
            Shown::Other => return Verdict::Elsewhere,
        };
        let asked = tokio::time::timeout(self.gate_patience, gate.ask(repository, digest, token)).await;
        asked.unwrap_or(Verdict::Elsewhere)
    }

    async fn body(&self, blob: Blob, sending: Sending) -> Result<Body, Problem> {
        match blob {
            Blob::Bytes(bytes) => {
                let range = sending.range.start as usize..sending.range.end as usize;
                let bytes = bytes.get(range).map(|part| bytes.slice_ref(part)).ok_or(BLOB_UNKNOWN)?;
                self.shared.metrics.sent(bytes.len());
                Ok(Body::from(bytes))
            }
            Blob::Whole { path, length } => match body::open(&path, length).await {
                Ok(file) => Ok(body::of_file(file, sending)),
                Err(error) => {
                    tracing::warn!(blob = %sending.digest, %error, "a blob cannot be read: the runtime asks upstream");
                    Err(BLOB_UNKNOWN)
                }
            },
            Blob::Growing(blob) => {
                let at = sending.range.start;
                let (readers, grace) = (&self.shared.readers, self.shared.patience);
                if !blob.is_here(at) && readers.is_given_up(sending.digest, at, Instant::now(), grace) {
                    return Err(BLOB_STALLED);
                }
                Ok(body::of_growing(blob, sending))
            }
        }
    }
}

/// Whether it is what was asked for.
fn is_it(manifest: &Manifest, reference: &Reference) -> bool {
    match reference {
        Reference::Tag(_) => true,
        Reference::Digest(digest) => *digest == manifest.digest(),
    }
}

/// The registry's challenge, as it stands: the client goes for its token where that says.
fn challenged(challenge: &str) -> Result<Response<Body>, Problem> {
    let challenge = HeaderValue::from_str(challenge).map_err(|_| MANIFEST_UNKNOWN)?;
    let mut response = UNAUTHORIZED.response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    Ok(response)
}

/// The range that is asked for, unless it is of another blob: the digest is the entity tag.
fn range_header(headers: &HeaderMap, digest: Digest) -> Option<&str> {
    let tag = format!("\"{digest}\"");
    let of_this = headers.get(header::IF_RANGE).is_none_or(|wanted| wanted.as_bytes() == tag.as_bytes());
    headers.get(header::RANGE).filter(|_| of_this)?.to_str().ok()
}

fn describe(headers: &mut HeaderMap, digest: Digest, length: u64) {
    headers.insert(DIGEST_HEADER, ascii(&digest.to_string()));
    headers.insert(header::ETAG, ascii(&format!("\"{digest}\"")));
    headers.insert(header::CONTENT_LENGTH, length.into());
}

fn base() -> Response<Body> {
    let mut response = Response::new(Body::from("{}"));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(VERSION_HEADER, HeaderValue::from_static("registry/2.0"));
    response
}

fn unsatisfiable(length: u64) -> Response<Body> {
    let mut response = UNSATISFIABLE.response();
    response.headers_mut().insert(header::CONTENT_RANGE, ascii(&format!("bytes */{length}")));
    response
}

/// Every answer about an image says for which registry it speaks (distribution-spec, "Registry Proxying").
fn in_namespace(mut response: Response<Body>, repository: &Repository) -> Response<Body> {
    response.headers_mut().insert(NAMESPACE_HEADER, ascii(repository.host()));
    response
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digests, numbers and checked host names are visible ASCII")
}
