//! Images: blobs behind a registry that wants to be shown something, and small files that come with the grant.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::get;
use crds::{ImageAccess, Materialize, RevisionImage};
use operator_api::{Authorization, GrantedFile, reason};
use sha2::{Digest as _, Sha256};
use sidecar::ImagesConfig;
use tokio::net::TcpListener;

use crate::cluster::{Cluster, bytes_of, eventually, http, ingest_of};
use crate::operator::FakeOperator;

/// Layers, by what their bytes follow from.
const LAYERS: [&str; 3] = ["a-3000000", "b-70000", "c-1"];

/// A registry that sends whoever shows the right thing to where the bytes are, as the large ones do.
#[derive(Clone)]
pub struct Registry {
    url: String,
    /// Where it sends to.
    store: String,
    state: Arc<Mutex<Seen>>,
    operator: FakeOperator,
}

#[derive(Default)]
pub struct Seen {
    /// What has to be shown now.
    wanted: String,
    /// From the second request on, this.
    later: Option<String>,
    refused: usize,
    /// `Authorization`s that came to where the bytes are.
    strayed: usize,
    pub given: u64,
    /// The first body ends early, when the operator has heard from the fetcher so often.
    cut_after: Option<usize>,
}

impl Registry {
    pub async fn start(operator: FakeOperator, wanted: &str) -> Self {
        let (front, back) = (
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let at = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(Seen { wanted: wanted.to_owned(), ..Seen::default() }));
        let registry = Self { url: at(&front), store: at(&back), state, operator };
        let blobs = Router::new().route("/v2/team/app/blobs/{blob}", get(blob)).with_state(registry.clone());
        let store = Router::new().route("/store/{name}", get(stored)).with_state(registry.clone());
        tokio::spawn(async move { axum::serve(front, blobs).await.unwrap() });
        tokio::spawn(async move { axum::serve(back, store).await.unwrap() });
        registry
    }

    pub fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }

    pub fn authorization(&self, value: &str) -> Authorization {
        Authorization { origin: self.url.clone(), value: value.to_owned() }
    }

    /// The files of a layout, as the operator grants them.
    pub fn layout(&self, layers: &[&str]) -> Vec<GrantedFile> {
        let mut files = vec![
            granted_text("index.json", r#"{"schemaVersion":2,"manifests":[]}"#.to_owned()),
            granted_text("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#.to_owned()),
        ];
        files.extend(layers.iter().map(|layer| {
            let bytes = bytes_of(layer);
            GrantedFile {
                path: format!("blobs/sha256/{}", digest(&bytes)),
                url: format!("{}/v2/team/app/blobs/{layer}", self.url),
                text: None,
                size: bytes.len() as u64,
                sha256: Some(digest(&bytes)),
                etag: None,
                last_modified: None,
            }
        }));
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files
    }
}

/// A file whose bytes come with the grant.
pub fn granted_text(path: &str, text: String) -> GrantedFile {
    GrantedFile {
        path: path.to_owned(),
        url: String::new(),
        size: text.len() as u64,
        sha256: Some(digest(text.as_bytes())),
        text: Some(text),
        etag: None,
        last_modified: None,
    }
}

pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

async fn blob(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let answer = Response::builder();
    let shown = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let good = registry.seen(|seen| {
        let good = seen.wanted == shown;
        seen.refused += usize::from(!good);
        if let Some(later) = seen.later.take() {
            seen.wanted = later;
        }
        good
    });
    if !good {
        return answer.status(StatusCode::UNAUTHORIZED).body(Body::empty()).unwrap();
    }
    let to = format!("{}/store/{name}", registry.store);
    answer.status(StatusCode::TEMPORARY_REDIRECT).header("location", to).body(Body::empty()).unwrap()
}

async fn stored(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let bytes = bytes_of(&name);
    let range =
        headers.get("range").and_then(|value| value.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let from: usize = range.and_then(|(from, _)| from.parse().ok()).unwrap_or(0);
    let until = range.and_then(|(_, last)| last.parse::<usize>().ok()).map_or(bytes.len(), |last| last + 1);
    let cut = registry.seen(|seen| {
        seen.strayed += usize::from(headers.contains_key("authorization"));
        seen.cut_after.take()
    });
    let mut answer = Response::builder().header("content-length", until - from);
    if range.is_some() {
        let range = format!("bytes {from}-{}/{}", until - 1, bytes.len());
        answer = answer.status(StatusCode::PARTIAL_CONTENT).header("content-range", range);
    }
    let part = bytes[from..until].to_vec();
    let Some(signs) = cut else {
        registry.seen(|seen| seen.given += part.len() as u64);
        return answer.body(Body::from(part)).unwrap();
    };
    let half = part[..part.len() / 2].to_vec();
    registry.seen(|seen| seen.given += half.len() as u64);
    let rest = async move {
        while registry.operator.script.lock().unwrap().progress.len() < signs {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err::<Vec<u8>, _>(std::io::Error::other("the connection breaks"))
    };
    let body = futures::StreamExt::chain(
        futures::stream::once(async move { Ok(half) }),
        futures::stream::once(rest),
    );
    answer.body(Body::from_stream(body)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_blobs_of_an_image_are_read_once_and_arrive_as_a_layout() {
    let mut cluster = Cluster::start().await;
    let registry = Registry::start(cluster.operator.clone(), "Bearer canary").await;
    let units = [cluster.sidecar("a").await, cluster.sidecar("b").await];
    cluster.authorization = Some(registry.authorization("Bearer canary"));
    let files = registry.layout(&LAYERS);
    let size: u64 = files.iter().map(|file| file.size).sum();
    let of_text: u64 = files.iter().filter(|file| file.text.is_some()).map(|file| file.size).sum();
    let ingest = ingest_of("app-1", &files, 0);
    cluster.make("app-1", "app", files.clone(), &["a"], Some(ingest)).await;
    cluster.build("app-1").await;
    let (of_a, of_b) = (cluster.ready("a", "app-1").await, cluster.ready("b", "app-1").await);
    assert_eq!((of_a.origin_bytes as u64, of_b.origin_bytes, of_b.peer_bytes as u64), (size, 0, size));
    assert_eq!(registry.seen(|seen| (seen.given, seen.refused)), (size - of_text, 0), "each byte once");
    assert_eq!(registry.seen(|seen| seen.strayed), 0, "where it redirects to sees nothing of it");
    for unit in &units {
        for file in &files {
            let bytes = std::fs::read(unit.link("app").join(&file.path)).unwrap();
            assert_eq!(Some(digest(&bytes)), file.sha256, "{}", file.path);
        }
    }

    // Content that is shared when it is whole is read the same way; what is here is linked.
    let files = registry.layout(&["a-3000000", "d-2000000"]);
    cluster.make("other-1", "other", files, &["b"], None).await;
    cluster.build("other-1").await;
    let entry = cluster.ready("b", "other-1").await;
    assert_eq!(entry.origin_bytes, 2_000_000, "a layer that another image has brought is not read again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_opens_the_registry_is_replaced_while_a_blob_is_read() {
    let mut cluster = Cluster::start().await;
    let registry = Registry::start(cluster.operator.clone(), "Bearer old").await;
    registry.seen(|seen| {
        seen.later = Some("Bearer new".into());
        // The sign of life before the last has brought the newer one.
        seen.cut_after = Some(2);
    });
    let _a = cluster.sidecar("a").await;
    cluster.authorization = Some(registry.authorization("Bearer old"));
    cluster.operator.script.lock().unwrap().renewed = Some(registry.authorization("Bearer new"));
    let files: Vec<GrantedFile> = registry.layout(&["a-3000000"]);
    let ingest = ingest_of("app-1", &files, 0);
    cluster.make("app-1", "app", files, &["a"], Some(ingest)).await;
    cluster.build("app-1").await;
    cluster.ready("a", "app-1").await;
    assert_eq!(registry.seen(|seen| seen.refused), 0);
    assert!(cluster.operator.script.lock().unwrap().failed.is_empty(), "one grant was enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_does_not_open_the_registry_is_told_and_another_one_does() {
    let mut cluster = Cluster::start().await;
    let registry = Registry::start(cluster.operator.clone(), "Bearer good").await;
    let _a = cluster.sidecar("a").await;
    cluster.authorization = Some(registry.authorization("Bearer canary"));
    let files = registry.layout(&LAYERS);
    let ingest = ingest_of("app-1", &files, 0);
    cluster.make("app-1", "app", files, &["a"], Some(ingest)).await;
    let script = cluster.operator.script.clone();
    let told = eventually("the operator is told", || {
        let told = script.lock().unwrap().failed.first().map(|(_, failed)| failed.clone());
        async move { told }
    })
    .await;
    assert_eq!(told.reason, reason::ORIGIN_UNAUTHORIZED);
    assert!(!told.message.contains("canary"), "{}", told.message);
    for grant in script.lock().unwrap().grants.values_mut() {
        grant.authorization = Some(registry.authorization("Bearer good"));
    }
    cluster.build("app-1").await;
    cluster.ready("a", "app-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_comes_before_the_image_is_whole_gets_what_is_here_and_waits_for_the_rest() {
    const LAYER: &str = "slow-5000000";
    let mut cluster = Cluster::start().await;
    let _a = cluster.sidecar("a").await;
    let mirror = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let host = tempfile::tempdir().unwrap();
    let host_path = host.path().to_owned();
    cluster.images =
        Some(ImagesConfig { mirror, host: host_path, hosts_files: false, spare: 12, content_store: true });
    let _b = cluster.sidecar("b").await;
    let bytes = bytes_of(LAYER);
    let path = format!("blobs/sha256/{}", digest(&bytes));
    cluster.image = Some(RevisionImage {
        reference: "registry.example/team/app:v1".into(),
        digest: format!("sha256:{}", "0".repeat(64)),
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        manifests: Vec::new(),
        left_out: 0,
        access: ImageAccess::UpstreamManifests,
        materialize: Materialize::Blobs,
        pin: false,
    });
    cluster.growing("app-1", "app", &[(&path, LAYER)], &["a"], 0).await;
    let url = format!("http://{mirror}/v2/team/app/blobs/sha256:{}?ns=registry.example", digest(&bytes));
    let mut pull = eventually("the mirror has heard of the layer", || async {
        let answer = http().get(&url).send().await.ok()?;
        (answer.status() == 200).then_some(answer)
    })
    .await;
    assert_eq!(pull.content_length(), Some(bytes.len() as u64));
    let mut got = pull.chunk().await.unwrap().unwrap().to_vec();
    assert!(cluster.origin_bytes() < bytes.len() as u64, "the origin is still being read");
    while let Some(chunk) = pull.chunk().await.unwrap() {
        got.extend_from_slice(&chunk);
    }
    assert!(got == bytes);
    let part = http().get(&url).header("range", "bytes=4999990-").send().await.unwrap();
    assert_eq!(part.bytes().await.unwrap(), bytes[4_999_990..]);
}
