//! Debian's docker-registry over loopback: open, with passwords, or with tokens of a token server beside it.

mod signer;

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::common::{digest, http};
use signer::Signer;

/// `me:secret` as an `Authorization`.
pub const LOGIN: &str = "Basic bWU6c2VjcmV0";
/// What tokens are for.
const REPOSITORY: &str = "team/app";
/// `htpasswd -nbB me secret`.
const HTPASSWD: &str = "me:$2y$05$9GTP/mMmaWDVAY9POsXlCu0XtiS7fpTi.PfIjgcAh.xHWiU72U.zi\n";

/// What a registry asks for.
pub enum Auth<'a> {
    Open,
    Basic,
    Token(&'a TokenServer),
}

/// A docker-registry, which ends with this.
pub struct RealRegistry {
    /// `127.0.0.1:port`.
    pub host: String,
    http: reqwest::Client,
    /// What opens it to whoever pushes.
    shown: Option<String>,
    _child: Child,
    _folder: tempfile::TempDir,
}

impl RealRegistry {
    /// `None` where there is no docker-registry; with `CI=true` that fails.
    pub async fn start(auth: Auth<'_>) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (section, shown) = section(&auth, folder.path());
        let config = json!({
            "version": "0.1", "log": {"level": "info"}, "http": {"addr": "127.0.0.1:0"},
            "storage": {"filesystem": {"rootdirectory": folder.path().join("data")}}, "auth": section,
        });
        let path = folder.path().join("config.yml");
        std::fs::write(&path, config.to_string()).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&path).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let Ok(mut child) = command.spawn() else {
            assert!(std::env::var("CI").is_err(), "no docker-registry: apt-get install docker-registry");
            // Not by a macro: the harness would keep it to itself.
            std::io::stderr().write_all(b"SKIPPED a real registry: no docker-registry\n").unwrap();
            return None;
        };
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let host = loop {
            let line = lines.next_line().await.unwrap().expect("docker-registry says where it listens");
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split(['"', ',', ' ']).next().unwrap().to_owned();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let http = http(rustls::RootCertStore::empty());
        Some(Self { host, http, shown, _child: child, _folder: folder })
    }

    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// Stores a blob; gives its descriptor.
    pub async fn push_blob(&self, repository: &str, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        let uploads = format!("http://{}/v2/{repository}/blobs/uploads/", self.host);
        let begun = self.send(self.http.post(uploads)).await;
        let location = begun.headers()["location"].to_str().unwrap();
        let url = format!("{location}&digest={digest}");
        self.send(self.http.put(url).body(bytes.to_vec())).await;
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Stores a manifest or an index under its digest, or a tag.
    pub async fn push_manifest(&self, repository: &str, tag: Option<&str>, document: &Value) -> Value {
        let (bytes, media_type) = (document.to_string(), document["mediaType"].as_str().unwrap());
        let digest = digest(bytes.as_bytes());
        let name = tag.unwrap_or(&digest);
        let url = format!("http://{}/v2/{repository}/manifests/{name}", self.host);
        let request = self.http.put(url).header("content-type", media_type).body(bytes.clone());
        self.send(request).await;
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Stores an image of one platform; gives its descriptor with the platform.
    pub async fn push_image(&self, repository: &str, architecture: &str, layers: &[&[u8]]) -> Value {
        let config = json!({"os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": []}});
        let kind = "application/vnd.oci.image.config.v1+json";
        let config = self.push_blob(repository, kind, config.to_string().as_bytes()).await;
        let mut pushed = Vec::new();
        for layer in layers {
            pushed.push(self.push_blob(repository, "application/vnd.oci.image.layer.v1.tar", layer).await);
        }
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": pushed,
        });
        let mut entry = self.push_manifest(repository, None, &manifest).await;
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    }

    pub async fn push_index(&self, repository: &str, tag: &str, entries: &[Value]) -> Value {
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries,
        });
        self.push_manifest(repository, Some(tag), &index).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Response {
        let request = match &self.shown {
            Some(shown) => request.header("authorization", shown),
            None => request,
        };
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}: {}", answer.url(), answer.status());
        answer
    }
}

fn section(auth: &Auth<'_>, folder: &Path) -> (Value, Option<String>) {
    match auth {
        Auth::Open => (Value::Null, None),
        Auth::Basic => {
            let path = folder.join("htpasswd");
            std::fs::write(&path, HTPASSWD).unwrap();
            (json!({"htpasswd": {"realm": "r", "path": path}}), Some(LOGIN.to_owned()))
        }
        Auth::Token(server) => {
            let path = folder.join("roots.pem");
            std::fs::write(&path, &server.signer.pem).unwrap();
            let section =
                json!({"realm": server.url, "service": "reg", "issuer": "iss", "rootcertbundle": path});
            (
                json!({"token": section}),
                Some(format!("Bearer {}", server.signer.token(REPOSITORY, "push,pull", 3600))),
            )
        }
    }
}

/// Gives tokens to whoever shows `me:secret`.
#[derive(Clone)]
pub struct TokenServer {
    pub url: String,
    signer: Arc<Signer>,
    seconds: Arc<AtomicU64>,
    given: Arc<AtomicUsize>,
    refusing: Arc<Mutex<bool>>,
    hanging: Arc<Mutex<bool>>,
}

impl TokenServer {
    /// Its tokens are good for so many seconds.
    pub async fn start(seconds: u64) -> Self {
        let (signer, seconds) = (Arc::new(Signer::new()), Arc::new(AtomicU64::new(seconds)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/token", listener.local_addr().unwrap());
        let (given, refusing): (Arc<AtomicUsize>, Arc<Mutex<bool>>) = (Arc::default(), Arc::default());
        let server = Self { url, signer, seconds, given, refusing, hanging: Arc::default() };
        let router = Router::new().route("/token", get(token)).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        server
    }

    /// How many tokens it has given.
    pub fn given(&self) -> usize {
        self.given.load(Ordering::Relaxed)
    }

    /// From now on its tokens are good for so many seconds.
    pub fn last(&self, seconds: u64) {
        self.seconds.store(seconds, Ordering::Relaxed);
    }

    pub fn refuse(&self, refuse: bool) {
        *self.refusing.lock().unwrap() = refuse;
    }

    /// From now on it does not answer, or does.
    pub fn hang(&self, hang: bool) {
        *self.hanging.lock().unwrap() = hang;
    }
}

async fn token(State(server): State<TokenServer>, headers: HeaderMap) -> Response {
    while *server.hanging.lock().unwrap() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    if *server.refusing.lock().unwrap() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if headers.get("authorization").is_none_or(|value| value != LOGIN) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    server.given.fetch_add(1, Ordering::Relaxed);
    let seconds = server.seconds.load(Ordering::Relaxed);
    let body = json!({"token": server.signer.token(REPOSITORY, "pull", seconds), "expires_in": seconds});
    axum::Json(body).into_response()
}
