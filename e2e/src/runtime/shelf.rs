//! Our own mirror with images that a test puts into it, and every request written down.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use bytes::Bytes;
use mirror::{
    Access, Blob, Digest, Gate, Growing, Helpers, Images, Manifest, Mirror, Options, Reference, Repository,
};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::image::Image;
use super::log::{self, Log};
use super::{MIRROR, UPSTREAM};

/// The mirror, serving until it is dropped.
pub struct Shelf {
    /// Ours.
    pub mirror: Mirror,
    images: Arc<Stock>,
    stop: daemon::CancellationToken,
}

impl Shelf {
    /// Listens on [`MIRROR`]; waits `patience` for bytes of growing blobs.
    pub async fn start(log: &Log, patience: Duration) -> Result<Self> {
        let listener = super::listen(MIRROR).await?;
        Ok(Self::serve(listener, Options { patience, ..Options::default() }, log))
    }

    /// The same, with somebody who asks registries what they would say.
    pub async fn relaying(log: &Log, gate: Arc<dyn Gate>) -> Result<Self> {
        let listener = super::listen(MIRROR).await?;
        let helpers = Helpers { gate: Some(gate), ..Helpers::default() };
        Ok(Self::serve_with(listener, helpers, Options::default(), log))
    }

    /// Serves on `listener`.
    pub fn serve(listener: TcpListener, options: Options, log: &Log) -> Self {
        Self::serve_with(listener, Helpers::default(), options, log)
    }

    fn serve_with(listener: TcpListener, helpers: Helpers, options: Options, log: &Log) -> Self {
        let images = Arc::new(Stock::default());
        let mirror = Mirror::with_helpers(images.clone(), helpers, options);
        let stop = daemon::CancellationToken::new();
        let router = mirror.router().layer(from_fn_with_state((log.clone(), images.clone()), write_down));
        tokio::spawn(Mirror::serve(listener, router, stop.clone()));
        Self { mirror, images, stop }
    }

    /// Has this image from now on.
    pub fn add(&self, image: &Image, access: Access) -> Result<()> {
        let mut stock = self.images.lock();
        let repository = Repository::new(&format!("127.0.0.1:{UPSTREAM}"), &image.repository)?;
        for object in image.objects() {
            if object.is_manifest() {
                let manifest = Manifest::new(object.media_type, object.bytes.clone(), access)?;
                let by_digest = Reference::Digest(manifest.digest());
                stock.manifests.insert((repository.clone(), by_digest), manifest.clone());
                if object.name == "index" {
                    stock.manifests.insert((repository.clone(), Reference::Tag("v1".into())), manifest);
                }
            } else {
                stock.blobs.insert(object.digest(), Blob::Bytes(object.bytes.clone()));
            }
        }
        stock.names.extend(image.paths().into_iter().map(|(path, (name, _))| (path, name)));
        Ok(())
    }

    /// Does not have this blob any more.
    pub fn remove(&self, digest: &Digest) {
        self.images.lock().blobs.remove(digest);
    }

    /// Has only the first `here` bytes of this blob; the rest may come by [`Partial::arrive`].
    pub fn grow(&self, bytes: &Bytes, here: u64) -> Arc<Partial> {
        self.grow_slowly(bytes, here, Duration::ZERO)
    }

    /// The same, and every read takes so long.
    pub fn grow_slowly(&self, bytes: &Bytes, here: u64, pace: Duration) -> Arc<Partial> {
        let partial = Arc::new(Partial { bytes: bytes.clone(), here: watch::Sender::new(here), pace });
        self.images.lock().blobs.insert(Digest::of(bytes), Blob::Growing(partial.clone()));
        partial
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A blob of which only the beginning is here.
pub struct Partial {
    bytes: Bytes,
    here: watch::Sender<u64>,
    pace: Duration,
}

impl Partial {
    /// Has the first `here` bytes now.
    pub fn arrive(&self, here: u64) {
        self.here.send_replace(here);
    }
}

#[async_trait]
impl Growing for Partial {
    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn verified(&self, from: u64) -> u64 {
        self.here.borrow().saturating_sub(from)
    }

    async fn wait(&self, from: u64) -> io::Result<()> {
        self.here.subscribe().wait_for(|here| *here > from).await.map(drop).map_err(io::Error::other)
    }

    async fn read(&self, from: u64, length: usize) -> io::Result<Bytes> {
        tokio::time::sleep(self.pace).await;
        let from = usize::try_from(from).map_err(io::Error::other)?;
        Ok(self.bytes.slice(from..from + length))
    }
}

#[derive(Default)]
struct Stock(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    manifests: HashMap<(Repository, Reference), Manifest>,
    blobs: HashMap<Digest, Blob>,
    /// What each path below `/v2/` is called in the log.
    names: HashMap<String, String>,
}

impl Stock {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Images for Stock {
    fn manifest(&self, repository: &Repository, reference: &Reference) -> Option<Manifest> {
        self.lock().manifests.get(&(repository.clone(), reference.clone())).cloned()
    }

    fn blob(&self, digest: &Digest) -> Option<Blob> {
        self.lock().blobs.get(digest).cloned()
    }
}

async fn write_down(
    State((log, images)): State<(Log, Arc<Stock>)>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().trim_start_matches("/v2/").to_owned();
    let method = request.method().to_string();
    let range = request.headers().get("range").and_then(|range| range.to_str().ok()).map(str::to_owned);
    let shown =
        request.headers().get("authorization").and_then(|shown| shown.to_str().ok()).map(str::to_owned);
    let response = next.run(request).await;
    let name = images.lock().names.get(&path).cloned().unwrap_or(path);
    log.add(&log::Request {
        role: "mirror",
        method: &method,
        object: &name,
        range: range.as_deref(),
        shown: shown.as_deref(),
        status: response.status().as_u16(),
    });
    response
}
