//! A registry of blobs that counts what it gives, and nodes with mirrors that pull from it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, Response, StatusCode};
use axum::routing::get;
use daemon::CancellationToken;
use futures::StreamExt;
use rustls::RootCertStore;
use sidecar::{ImagesConfig, SidecarConfig, TokenSource};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::common::{World, digest, http};

/// Sent at a time.
const CHUNK: usize = 64 << 10;

/// What it asks for.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Auth {
    #[default]
    Open,
    /// A token that everyone gets.
    Anonymous,
    /// A password.
    Basic,
}

#[derive(Default)]
struct Script {
    blobs: BTreeMap<String, Vec<u8>>,
    auth: Auth,
    /// Of each chunk.
    pause: Duration,
    /// The bytes of blobs are others.
    wrong: bool,
    requests: usize,
    given: u64,
    /// All `Authorization`s that it saw.
    shown: Vec<String>,
}

/// A registry that does what the test says.
#[derive(Clone)]
pub struct BlobRegistry {
    /// `127.0.0.1:port`.
    pub host: String,
    script: Arc<Mutex<Script>>,
}

impl BlobRegistry {
    pub async fn start(auth: Auth) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let script = Arc::new(Mutex::new(Script { auth, ..Script::default() }));
        let registry = Self { host, script };
        let router = Router::new()
            .route("/token", get(|| async { r#"{"token":"for-everyone","expires_in":300}"# }))
            .route("/v2/team/app/blobs/{digest}", get(blob))
            .with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        registry
    }

    /// Bytes that follow from the seed; gives their digest.
    pub fn put(&self, seed: u32, length: usize) -> String {
        let bytes = bytes(seed, length);
        let digest = digest(&bytes);
        self.script.lock().unwrap().blobs.insert(digest.clone(), bytes);
        digest
    }

    /// So many bytes in a second, on each connection.
    pub fn pace(&self, per_second: usize) {
        self.script.lock().unwrap().pause = Duration::from_secs_f64(CHUNK as f64 / per_second as f64);
    }

    /// From now on it gives others than it should.
    pub fn lie(&self) {
        self.script.lock().unwrap().wrong = true;
    }

    pub fn requests(&self) -> usize {
        self.script.lock().unwrap().requests
    }

    /// Bytes of blobs that it has given.
    pub fn given(&self) -> u64 {
        self.script.lock().unwrap().given
    }

    pub fn shown(&self) -> Vec<String> {
        self.script.lock().unwrap().shown.clone()
    }
}

pub fn bytes(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(next).collect()
}

async fn blob(
    State(registry): State<BlobRegistry>,
    Path(digest): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let answer = Response::builder();
    let shown = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let (challenge, found, pause) = {
        let mut script = registry.script.lock().unwrap();
        script.requests += 1;
        script.shown.extend(shown.clone());
        let challenge = match script.auth {
            Auth::Open => None,
            Auth::Anonymous if shown.as_deref() == Some("Bearer for-everyone") => None,
            Auth::Anonymous => Some(format!("Bearer realm=\"http://{}/token\",service=\"s\"", registry.host)),
            Auth::Basic => Some("Basic realm=\"r\"".to_owned()),
        };
        let mut found = script.blobs.get(&digest).cloned();
        if let Some(bytes) = found.as_mut().filter(|_| script.wrong) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        (challenge, found, script.pause)
    };
    if let Some(challenge) = challenge {
        let answer = answer.status(StatusCode::UNAUTHORIZED).header("www-authenticate", challenge);
        return answer.body(Body::empty()).unwrap();
    }
    let Some(bytes) = found else { return answer.status(StatusCode::NOT_FOUND).body(Body::empty()).unwrap() };
    if method == Method::HEAD {
        return answer.header("content-length", bytes.len()).body(Body::empty()).unwrap();
    }
    let range =
        headers.get("range").and_then(|value| value.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let from: usize = range.and_then(|(from, _)| from.parse().ok()).unwrap_or(0);
    let until = range.and_then(|(_, last)| last.parse::<usize>().ok()).map_or(bytes.len(), |last| last + 1);
    let mut answer = answer.header("content-length", until - from);
    if range.is_some() {
        let range = format!("bytes {from}-{}/{}", until - 1, bytes.len());
        answer = answer.status(StatusCode::PARTIAL_CONTENT).header("content-range", range);
    }
    let chunks: Vec<Vec<u8>> = bytes[from..until].chunks(CHUNK).map(<[u8]>::to_vec).collect();
    let stream = futures::stream::iter(chunks).then(move |chunk| {
        let registry = registry.clone();
        async move {
            tokio::time::sleep(pause).await;
            registry.script.lock().unwrap().given += chunk.len() as u64;
            Ok::<_, std::io::Error>(chunk)
        }
    });
    answer.body(Body::from_stream(stream)).unwrap()
}

/// A real sidecar with a mirror.
pub struct Unit {
    pub mirror: SocketAddr,
    pub root: tempfile::TempDir,
    stop: CancellationToken,
    task: JoinHandle<Result<(), sidecar::SidecarError>>,
}

impl Unit {
    /// On this node of the world, which is told to let its nodes be found at `127.78.0.1`.
    pub fn start(world: &World, node: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mirror = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let token = TokenSource::Fixed(format!("token-{node}"));
        let mut config =
            SidecarConfig::new(world.api.client(), node, "default", root.path().to_owned(), token);
        config.class_root = Some("/var/lib/samara".to_owned());
        config.listen_peer = vec!["127.78.0.1:0".parse().unwrap()];
        config.listen_health = Vec::new();
        config.images = Some(ImagesConfig {
            mirror,
            host: root.path().join("host"),
            hosts_files: false,
            spare: 0,
            content_store: false,
        });
        let stop = world.stop.child_token();
        let task = tokio::spawn(sidecar::run(config, stop.clone()));
        Self { mirror, root, stop, task }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// What the mirror answers to a pull of this blob.
    pub async fn pull(&self, host: &str, digest: &str) -> reqwest::Result<reqwest::Response> {
        let url = format!("http://{}/v2/team/app/blobs/{digest}?ns={host}", self.mirror);
        http(RootCertStore::empty()).get(url).send().await
    }

    /// All of it, or `None` for 404.
    pub async fn whole(&self, host: &str, digest: &str) -> Option<reqwest::Result<bytes::Bytes>> {
        let answer = self.pull(host, digest).await.unwrap();
        if answer.status() == 404 {
            return None;
        }
        assert_eq!(answer.status(), 200);
        Some(answer.bytes().await)
    }

    /// Whether its mirror answers, and its class has said what is on demand.
    pub async fn until_ready(&self, world: &World) {
        world
            .until("the mirror answers", async || {
                http(RootCertStore::empty()).get(format!("http://{}/v2/", self.mirror)).send().await.is_ok()
            })
            .await;
        self.until_class_says(world, "127.0.0.1:").await;
    }

    /// Until the sidecar has heard of something that its class says.
    pub async fn until_class_says(&self, world: &World, what: &str) {
        world
            .until("the class has been heard", async || {
                std::fs::read_to_string(self.root.path().join(".class.json"))
                    .is_ok_and(|text| text.contains(what))
            })
            .await;
    }
}
