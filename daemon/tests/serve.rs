//! The server's limits, over real sockets.
#![allow(clippy::unwrap_used)] // helpers of tests: a failure is the test's failure

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use daemon::{CancellationToken, ServeOptions, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn start(options: ServeOptions) -> Server {
    let router = Router::new()
        .route("/who", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }))
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                "done"
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(serve(listener, router, options, shutdown.clone()));
    Server { address, shutdown, task }
}

async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may answer and close before it has read all of a request that is too large.
    drop(stream.write_all(request).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_request_is_answered_and_knows_its_client() {
    let server = start(ServeOptions::default()).await;
    let answer = exchange(server.address, b"GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("127.0.0.1"), "{answer}");
}

#[tokio::test]
async fn a_running_request_ends_after_the_shutdown_and_no_new_one_starts() {
    let server = start(ServeOptions::default()).await;
    let address = server.address;
    let running =
        tokio::spawn(async move { exchange(address, b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.shutdown.cancel();
    assert!(running.await.unwrap().ends_with("done"));
    server.task.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_request_that_outlasts_the_drain_is_cut() {
    let server = start(ServeOptions { drain: Duration::from_millis(50), ..ServeOptions::default() }).await;
    let address = server.address;
    let running =
        tokio::spawn(async move { exchange(address, b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert_eq!(running.await.unwrap(), "");
}

#[tokio::test]
async fn t052_large_headers_are_refused() {
    let server = start(ServeOptions::default()).await;
    let request = format!("GET /who HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(1 << 20));
    let answer = exchange(server.address, request.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = "x: y\r\n".repeat(1000);
    let answer = exchange(server.address, format!("GET /who HTTP/1.1\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn t052_slow_headers_are_cut() {
    let server =
        start(ServeOptions { header_timeout: Duration::from_millis(200), ..ServeOptions::default() }).await;
    let began = Instant::now();
    let answer = exchange(server.address, b"GET /who HTTP/1.1\r\nhost: ").await;
    assert!(!answer.contains("200 OK"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn t052_one_source_has_a_limited_number_of_connections() {
    let server = start(ServeOptions { max_connections_per_source: 3, ..ServeOptions::default() }).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(server.address).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(
        exchange(server.address, b"GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await,
        ""
    );
    drop(held);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let answer = exchange(server.address, b"GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn t052_connections_over_the_limit_wait_for_a_slot() {
    let options = ServeOptions {
        max_connections: 2,
        header_timeout: Duration::from_millis(300),
        ..ServeOptions::default()
    };
    let server = start(options).await;
    let _idle = (
        TcpStream::connect(server.address).await.unwrap(),
        TcpStream::connect(server.address).await.unwrap(),
    );
    let answer = exchange(server.address, b"GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
