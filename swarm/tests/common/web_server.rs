//! An HTTP server that has the files of a torrent, and faults.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE, RETRY_AFTER,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::common::{TestFile, TestTorrent, percent_decoded};

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 200 with the whole file.
    IgnoresRange,
    /// Another status.
    Status(u16),
    /// 503 that says when to come again.
    Busy(&'static str),
    /// A redirect.
    Redirect(&'static str),
    /// Right lengths, wrong bytes.
    Lies,
    /// Dies after so many bytes of a body.
    Dies(usize),
    /// Dies after so many wrong bytes.
    LiesAndDies(usize),
    /// Sends nothing after so many bytes of a body.
    Hangs(usize),
    /// The range that follows the one that was asked for.
    NextRange,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub range: (usize, usize),
    pub authorization: Option<String>,
}

#[derive(Default)]
struct Files {
    bytes: BTreeMap<String, Bytes>,
    always: Mutex<Option<Fault>>,
    once: Mutex<VecDeque<Fault>>,
    seen: Mutex<Vec<Seen>>,
}

/// The server; it ends with its runtime.
#[derive(Clone)]
pub struct WebServer {
    pub address: SocketAddr,
    state: Arc<Files>,
}

impl WebServer {
    /// Serves the files as BEP 19 wants them: a single file under its name, a tree in the folder of its name.
    pub async fn start(torrent: &TestTorrent) -> Self {
        Self::start_on(torrent, "127.0.0.1:0").await.unwrap()
    }

    pub async fn start_on(torrent: &TestTorrent, address: &str) -> std::io::Result<Self> {
        let name = torrent.metainfo.name();
        let below = |file: &TestFile| {
            if torrent.metainfo.is_single_file() { String::new() } else { format!("/{}", file.path) }
        };
        let path = |file: &TestFile| format!("/files/{name}{}", below(file));
        let bytes = torrent.files.iter().map(|file| (path(file), file.bytes.clone().into())).collect();
        let state = Arc::new(Files { bytes, ..Files::default() });
        let listener = tokio::net::TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let app = axum::Router::new().fallback(answer).with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { address, state })
    }

    /// To be named as a web seed.
    pub fn url(&self) -> String {
        format!("http://{}/files/", self.address)
    }

    /// All answers have this fault from now on.
    pub fn always(self, fault: Fault) -> Self {
        *self.state.always.lock().unwrap() = Some(fault);
        self
    }

    /// The next answers have these faults, one each.
    pub fn next(self, faults: &[Fault]) -> Self {
        self.state.once.lock().unwrap().extend(faults);
        self
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }
}

async fn answer(State(state): State<Arc<Files>>, request: Request) -> Response {
    let path = String::from_utf8(percent_decoded(request.uri().path())).unwrap();
    let range = range(request.headers());
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(text(ACCEPT_ENCODING).as_deref(), Some("identity"));
    let seen = Seen { path: path.clone(), range, authorization: text(AUTHORIZATION) };
    state.seen.lock().unwrap().push(seen);
    let fault = state.once.lock().unwrap().pop_front().or(*state.always.lock().unwrap());
    if let Some(Fault::Redirect(to)) = fault {
        return (StatusCode::FOUND, [(LOCATION, to)]).into_response();
    }
    let Some(file) = state.bytes.get(&path) else { return StatusCode::NOT_FOUND.into_response() };
    let (first, last) = range;
    let part = file.slice(first..=last);
    match fault {
        None | Some(Fault::Redirect(_)) => partial(first, file.len(), part),
        Some(Fault::IgnoresRange) => file.clone().into_response(),
        Some(Fault::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Fault::Busy(after)) => (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, after)]).into_response(),
        Some(Fault::Lies) => partial(first, file.len(), vec![7; part.len()].into()),
        Some(Fault::NextRange) => partial(first + part.len(), file.len(), part),
        Some(Fault::Dies(after)) => cut(first, file.len(), &part, after, Duration::ZERO),
        Some(Fault::LiesAndDies(after)) => {
            cut(first, file.len(), &vec![7; part.len()].into(), after, Duration::ZERO)
        }
        Some(Fault::Hangs(after)) => cut(first, file.len(), &part, after, Duration::MAX),
    }
}

fn partial(first: usize, size: usize, part: Bytes) -> Response {
    let range = format!("bytes {first}-{}/{size}", first + part.len() - 1);
    (StatusCode::PARTIAL_CONTENT, [(CONTENT_RANGE, range)], part).into_response()
}

/// A body that breaks off: the connection is closed a moment later, or never.
fn cut(first: usize, size: usize, part: &Bytes, after: usize, pause: Duration) -> Response {
    let start = part.slice(..after.min(part.len()));
    let body = futures::stream::unfold(Some(start), move |left| async move {
        match left {
            Some(start) if !start.is_empty() => Some((Ok(start), Some(Bytes::new()))),
            Some(_) => {
                tokio::time::sleep(pause).await;
                Some((Err(std::io::Error::other("the server dies")), None))
            }
            None => None,
        }
    });
    let mut response = partial(first, size, part.clone());
    response.headers_mut().insert(CONTENT_LENGTH, part.len().into());
    *response.body_mut() = Body::from_stream(body);
    response
}

fn range(headers: &HeaderMap) -> (usize, usize) {
    let text = headers[RANGE].to_str().unwrap().strip_prefix("bytes=").unwrap();
    let (first, last) = text.split_once('-').unwrap();
    (first.parse().unwrap(), last.parse().unwrap())
}
