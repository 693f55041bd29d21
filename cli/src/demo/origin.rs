//! The HTTP origin of the demo: one link for all that read from it, ranges, validators, and a count of what it gives away.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use daemon::CancellationToken;
use futures::stream;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::random::Random;

/// Bytes given to a connection at once.
const CHUNK: u64 = 64 * 1024;
/// How far the link may fall behind and catch up: the depth of its bucket.
const BURST: Duration = Duration::from_millis(20);

/// What stands behind a URL.
#[derive(Clone, Debug)]
pub enum Content {
    /// Made up.
    Random(Random, u64),
    /// A file of the user.
    File(PathBuf),
    /// A document.
    Document(Bytes),
}

/// A running origin.
#[derive(Clone)]
pub struct Origin {
    shared: Arc<Shared>,
    base: String,
}

struct Shared {
    contents: HashMap<String, Content>,
    link: Option<Link>,
    sent: AtomicU64,
}

/// A capacity that all connections share.
struct Link {
    bytes_per_second: u64,
    free_at: Mutex<Instant>,
}

impl Origin {
    /// Serves `contents`, by their paths (with the first slash, percent-encoded), until `shutdown`. With a `rate`, all connections
    /// together get so many bytes per second.
    pub fn start(
        listener: TcpListener,
        contents: HashMap<String, Content>,
        rate: Option<u64>,
        shutdown: CancellationToken,
    ) -> Result<Self> {
        let address: SocketAddr = listener.local_addr().context("the origin has no address")?;
        let link =
            rate.map(|bytes_per_second| Link { bytes_per_second, free_at: Mutex::new(Instant::now()) });
        let shared = Arc::new(Shared { contents, link, sent: AtomicU64::new(0) });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        tokio::spawn(daemon::serve(listener, router, daemon::ServeOptions::default(), shutdown));
        Ok(Self { shared, base: format!("http://{address}") })
    }

    /// `http://ip:port`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Payload bytes sent so far, whether they arrived or not. Documents are no payload.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let Some(content) = shared.contents.get(uri.path()).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if method != Method::GET && method != Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    match Opened::new(content) {
        Ok(opened) => respond(shared, opened, method == Method::HEAD, &headers),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

fn respond(shared: Arc<Shared>, opened: Opened, head: bool, headers: &HeaderMap) -> Response {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if text(header::IF_MATCH).is_some_and(|tag| tag != "*" && tag != opened.etag) {
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    let same = text(header::IF_RANGE).is_none_or(|tag| tag == opened.etag);
    let range = text(header::RANGE).filter(|_| same).and_then(|range| Range::parse(range, opened.size));
    let (status, from, to) = match range {
        None => (StatusCode::OK, 0, opened.size),
        Some(Range::Part { from, to }) => (StatusCode::PARTIAL_CONTENT, from, to),
        Some(Range::Unsatisfiable) => {
            let range = format!("bytes */{}", opened.size);
            return (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, range)]).into_response();
        }
    };
    let mut response = Response::builder()
        .status(status)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::ETAG, &opened.etag)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, to - from);
    if status == StatusCode::PARTIAL_CONTENT {
        response = response.header(header::CONTENT_RANGE, format!("bytes {from}-{}/{}", to - 1, opened.size));
    }
    let body = if head { Body::empty() } else { stream_of(shared, Arc::new(opened), from, to) };
    response.body(body).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn stream_of(shared: Arc<Shared>, opened: Arc<Opened>, from: u64, to: u64) -> Body {
    Body::from_stream(stream::try_unfold(from, move |at| {
        let (shared, opened) = (shared.clone(), opened.clone());
        async move {
            let count = CHUNK.min(to - at);
            if count == 0 {
                return Ok(None);
            }
            if let Some(link) = &shared.link {
                link.pass(count).await;
            }
            if !matches!(opened.source, Source::Document(_)) {
                shared.sent.fetch_add(count, Ordering::Relaxed);
            }
            let chunk = tokio::task::spawn_blocking(move || opened.read(at, count)).await??;
            Ok::<_, std::io::Error>(Some((chunk, at + count)))
        }
    }))
}

impl Link {
    /// Waits until `count` bytes have gone over the link.
    async fn pass(&self, count: u64) {
        let done = {
            let mut free_at = self.free_at.lock().await;
            let start = (*free_at).max(Instant::now().checked_sub(BURST).unwrap_or_else(Instant::now));
            *free_at = start + Duration::from_secs_f64(count as f64 / self.bytes_per_second as f64);
            *free_at
        };
        sleep_until(done).await;
    }
}

/// A content with its length and its strong validator.
struct Opened {
    source: Source,
    size: u64,
    etag: String,
}

enum Source {
    Random(Random),
    File(std::fs::File),
    Document(Bytes),
}

impl Opened {
    fn new(content: Content) -> std::io::Result<Self> {
        Ok(match content {
            Content::Random(random, size) => Self {
                etag: format!("\"random-{}-{size}\"", random.seed),
                size,
                source: Source::Random(random),
            },
            Content::File(path) => {
                use std::os::unix::fs::MetadataExt as _;
                let file = std::fs::File::open(path)?;
                let meta = file.metadata()?;
                let etag =
                    format!("\"{}-{}-{}.{}\"", meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
                Self { source: Source::File(file), size: meta.len(), etag }
            }
            Content::Document(bytes) => Self {
                size: bytes.len() as u64,
                etag: "\"document\"".to_owned(),
                source: Source::Document(bytes),
            },
        })
    }

    fn read(&self, at: u64, count: u64) -> std::io::Result<Bytes> {
        let mut buffer = vec![0; count as usize];
        match &self.source {
            Source::Random(random) => random.fill(at, &mut buffer),
            Source::File(file) => file.read_exact_at(&mut buffer, at)?,
            Source::Document(bytes) => return Ok(bytes.slice(at as usize..(at + count) as usize)),
        }
        Ok(Bytes::from(buffer))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// From a byte to before another.
    Part {
        from: u64,
        to: u64,
    },
    Unsatisfiable,
}

impl Range {
    /// One range of bytes (RFC 9110, section 14.1.2); several of them, or nonsense, are ignored.
    fn parse(text: &str, size: u64) -> Option<Self> {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        let (from, to) = if first.is_empty() {
            let count: u64 = last.parse().ok()?;
            (size.saturating_sub(count), size)
        } else {
            let from: u64 = first.parse().ok()?;
            let last = if last.is_empty() {
                u64::MAX - 1
            } else {
                last.parse::<u64>().ok().filter(|last| *last >= from)?
            };
            (from, size.min(last.saturating_add(1)))
        };
        Some(if from < to { Self::Part { from, to } } else { Self::Unsatisfiable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let part = |from, to| Some(Range::Part { from, to });
        for (text, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=5-", part(5, 10)),
            ("bytes=5-100", part(5, 10)),
            ("bytes=-3", part(7, 10)),
            ("bytes=-30", part(0, 10)),
            ("bytes=10-", Some(Range::Unsatisfiable)),
            ("bytes=-0", Some(Range::Unsatisfiable)),
            ("bytes=5-4", None),
            ("bytes=0-1,3-4", None),
            ("lines=0-1", None),
            ("bytes=x-", None),
        ] {
            assert_eq!(Range::parse(text, 10), expected, "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_link_is_shared() {
        let link = Link { bytes_per_second: 1000, free_at: Mutex::new(Instant::now()) };
        let start = Instant::now();
        tokio::join!(link.pass(1000), link.pass(1000));
        assert!((1.9..2.1).contains(&start.elapsed().as_secs_f64()), "{:?}", start.elapsed());
    }
}
