//! A registry with one repository, `team/app`, which says what it was asked, and whose moods the test sets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

const BASE: &str = "/v2/team/app/";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[derive(Default)]
struct Content {
    /// Media type and bytes, by the path below [`BASE`].
    stored: BTreeMap<String, (String, Vec<u8>)>,
    /// A status that everything is answered with, and what `Retry-After` says then.
    mood: Option<(u16, Option<u64>)>,
    asked: Vec<String>,
}

#[derive(Clone)]
pub struct ScriptedRegistry {
    /// `127.0.0.1:port`.
    host: String,
    content: Arc<Mutex<Content>>,
}

impl ScriptedRegistry {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let content: Arc<Mutex<Content>> = Arc::default();
        let router = Router::new().fallback(answer).with_state(content.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { host, content }
    }

    pub fn reference(&self, tag: &str) -> String {
        format!("{}/team/app:{tag}", self.host)
    }

    /// Gives an image for amd64 with this layer the tag. Answers the digests of index and manifest.
    pub fn push(&self, tag: &str, layer: &[u8]) -> [String; 2] {
        let config =
            json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}});
        let config =
            self.put("blobs", "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layer = self.put("blobs", "application/vnd.oci.image.layer.v1.tar", layer);
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let mut manifest = self.put("manifests", MANIFEST, manifest.to_string().as_bytes());
        manifest["platform"] = json!({"os": "linux", "architecture": "amd64"});
        let index =
            json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]}).to_string().into_bytes();
        let digest = self.put("manifests", INDEX, &index)["digest"].clone();
        let stored = &mut self.content.lock().unwrap().stored;
        stored.insert(format!("manifests/{tag}"), (INDEX.to_owned(), index));
        [digest, manifest["digest"].clone()].map(|digest| digest.as_str().unwrap().to_owned())
    }

    fn put(&self, kind: &str, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        let stored = &mut self.content.lock().unwrap().stored;
        stored.insert(format!("{kind}/{digest}"), (media_type.to_owned(), bytes.to_vec()));
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Answers everything with this status from now on, and that it is to be left alone for so many seconds.
    pub fn mood(&self, mood: Option<(u16, Option<u64>)>) {
        self.content.lock().unwrap().mood = mood;
    }

    /// What was asked since the last time, as `METHOD path`.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.content.lock().unwrap().asked)
    }

    /// How much was asked since then.
    pub fn requests(&self) -> usize {
        self.content.lock().unwrap().asked.len()
    }
}

async fn answer(State(content): State<Arc<Mutex<Content>>>, request: Request) -> Response {
    let mut content = content.lock().unwrap();
    let path = request.uri().path().strip_prefix(BASE).unwrap_or_default();
    content.asked.push(format!("{} {path}", request.method()));
    if let Some((status, after)) = content.mood {
        let status = StatusCode::from_u16(status).unwrap();
        let after = after.map(|seconds| [("retry-after", seconds.to_string())]);
        return after.map_or_else(|| status.into_response(), |after| (status, after).into_response());
    }
    match content.stored.get(path) {
        Some((media_type, bytes)) => {
            let headers = [("content-type", media_type.clone()), ("docker-content-digest", digest(bytes))];
            (headers, bytes.clone()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// `sha256:<hex>` of these bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
