//! Serving an axum router over HTTP/1.1 with limits, until told to stop.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
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
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::accept::accept;
use crate::patient::Patient;

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
    let stop = shutdown.clone();
    accept(listener, options, shutdown, move |stream, peer| {
        let (router, stop, handshake) = (router.clone(), stop.clone(), handshake.clone());
        async move {
            match tokio::time::timeout(options.stall_timeout, handshake(stream)).await {
                Ok(Ok(stream)) => serve_connection(stream, peer, router, options, stop).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "handshake failed"),
                Err(_) => tracing::debug!(%peer, "handshake took too long"),
            }
        }
    })
    .await;
}

/// Serves `router` over one connection until it ends, or `shutdown` is cancelled and the running request has ended: what
/// [`serve`] does with each connection that it accepts.
pub async fn serve_connection<S>(
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
