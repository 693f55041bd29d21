//! Serving an axum router over HTTP/1.1 with limits, until told to stop.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::patient::Patient;
use crate::run::file_limit;

/// Files that a daemon keeps for other things than connections.
const RESERVED_FILES: usize = 128;
/// Pause after a failed accept (out of files, for example), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Requests with more headers are refused with 431.
const MAX_HEADERS: usize = 64;

/// How much of a server one client, and all of them, may have.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// Connections at a time; further ones wait in the kernel's queue. Never more than the process may have files, less 128.
    pub max_connections: usize,
    /// Connections at a time from one address; further ones are closed.
    pub max_connections_per_source: usize,
    /// From the end of one request to the last header of the next: bounds slow headers and idle connections alike.
    pub header_timeout: Duration,
    /// Request line and headers, bytes; at least 8 KiB. More is refused with 414 or 431.
    pub max_header_bytes: usize,
    /// How long a client may leave an answer unread, or a TLS handshake unfinished.
    pub stall_timeout: Duration,
    /// How long requests that are being answered may go on after the shutdown.
    pub drain: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        ServeOptions {
            max_connections: 16_384,
            max_connections_per_source: 4_096,
            header_timeout: Duration::from_secs(45),
            max_header_bytes: 64 << 10,
            stall_timeout: Duration::from_secs(20),
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves `router` in plain HTTP until `shutdown`, then lets running requests end. Handlers find the client's address as
/// `ConnectInfo<SocketAddr>`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    shutdown: CancellationToken,
) {
    serve_with(listener, router, options, shutdown, |stream| async move { Ok(stream) }).await;
}

/// Serves like [`serve`], over what `handshake` makes of each connection: for TLS, `move |tcp| acceptor.clone().accept(tcp)`.
pub async fn serve_with<H, F, S>(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    shutdown: CancellationToken,
    handshake: H,
) where
    H: Fn(TcpStream) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = std::io::Result<S>> + Send,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limit = options.max_connections.min(file_limit().saturating_sub(RESERVED_FILES)).max(1);
    let slots = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
    let sources = Arc::new(Sources::default());
    let tasks = TaskTracker::new();
    let cut = CancellationToken::new();
    while let Some((permit, stream, peer)) = next_connection(&listener, &slots, &shutdown).await {
        let Some(source) = sources.enter(peer.ip(), options.max_connections_per_source) else {
            tracing::debug!(%peer, "too many connections from this address");
            continue;
        };
        let (router, shutdown, cut, handshake) =
            (router.clone(), shutdown.clone(), cut.clone(), handshake.clone());
        tasks.spawn(async move {
            let connection = async {
                let stream = tokio::time::timeout(options.stall_timeout, handshake(stream)).await;
                match stream {
                    Ok(Ok(stream)) => connection(stream, peer, router, options, shutdown).await,
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "handshake failed"),
                    Err(_) => tracing::debug!(%peer, "handshake took too long"),
                }
            };
            tokio::select! {
                () = connection => {}
                () = cut.cancelled() => tracing::debug!(%peer, "connection cut at the end of the drain"),
            }
            drop((permit, source));
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(options.drain, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "cutting connections that did not end in time");
        cut.cancel();
        tasks.wait().await;
    }
}

/// The next connection and its slot; none once `shutdown` is cancelled.
async fn next_connection(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<(tokio::sync::OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let accepting = async {
        let permit = Arc::clone(slots).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    // Head and body are separate writes: with Nagle's algorithm the second waits 40 ms for the client's
                    // delayed ACK. It fails only on a connection that is gone already.
                    stream.set_nodelay(true).ok();
                    return Some((permit, stream, canonical(peer)));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => None,
        next = accepting => next,
    }
}

/// An IPv4 client on a listener for both families shows as `::ffff:a.b.c.d`; everything behind wants `a.b.c.d`.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

async fn connection<S>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    options: ServeOptions,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(
                router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}),
            )
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_headers(MAX_HEADERS)
        .max_buf_size(options.max_header_bytes)
        .serve_connection(TokioIo::new(Patient::new(stream, options.stall_timeout)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

/// How many connections each address has.
#[derive(Debug, Default)]
struct Sources(Mutex<HashMap<IpAddr, usize>>);

/// One connection of an address; dropping it takes it off the count.
struct Source {
    sources: Arc<Sources>,
    address: IpAddr,
}

impl Sources {
    fn enter(self: &Arc<Self>, address: IpAddr, limit: usize) -> Option<Source> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        Some(Source { sources: Arc::clone(self), address })
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let mut counts = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
