//! A container runtime that has no images but their names: it asks the mirror what a tag stands for, as containerd does, and pulls nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt as _, Full};
use tokio::net::UnixListener;

/// gRPC's `NOT_FOUND`.
const NOT_FOUND: u8 = 5;

/// A digest and whether it is pinned, by name; and every pull, as `name@digest`.
#[derive(Default)]
pub struct Held {
    pub names: BTreeMap<String, (String, bool)>,
    pub pulls: Vec<String>,
}

#[derive(Clone)]
pub struct FakeRuntime {
    pub held: Arc<Mutex<Held>>,
    mirror: SocketAddr,
}

impl FakeRuntime {
    /// Listens where containerd does on the host whose file system is below this folder.
    pub fn start(host: &Path, mirror: SocketAddr) -> Self {
        let folder = host.join("run/containerd");
        std::fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join("containerd.sock")).unwrap();
        let runtime = Self { held: Arc::default(), mirror };
        let router = Router::new().fallback(answer).with_state(runtime.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        runtime
    }

    /// The digest that has this name, and whether it is pinned.
    pub fn image(&self, name: &str) -> Option<(String, bool)> {
        self.held.lock().unwrap().names.get(name).cloned()
    }

    /// As a pull of somebody else's, that ends now.
    pub fn name(&self, name: &str, digest: &str) {
        self.held.lock().unwrap().names.insert(name.to_owned(), (digest.to_owned(), false));
    }

    async fn pull(&self, name: &str) -> Result<Vec<u8>, u8> {
        if !name.starts_with(mirror::CANARY_HOST) {
            let (host, rest) = name.split_once('/').unwrap();
            let (repository, tag) = rest.rsplit_once(':').unwrap();
            let url = format!("http://{}/v2/{repository}/manifests/{tag}?ns={host}", self.mirror);
            let answer = crate::cluster::http().get(url).send().await.unwrap();
            let digest = answer.headers().get("docker-content-digest").ok_or(NOT_FOUND)?;
            let digest = digest.to_str().unwrap().to_owned();
            self.held.lock().unwrap().pulls.push(format!("{name}@{digest}"));
            self.name(name, &digest);
        }
        Ok(field(1, b"id"))
    }

    fn status(&self, name: &str) -> Vec<u8> {
        let Some((digest, pinned)) = self.image(name) else { return Vec::new() };
        let repository = name.rsplit_once(':').unwrap().0;
        let image = [
            field(1, b"id"),
            field(2, name.as_bytes()),
            field(3, format!("{repository}@{digest}").as_bytes()),
        ];
        let pinned = if pinned { vec![8 << 3, 1] } else { Vec::new() };
        field(1, &[image.concat(), pinned].concat())
    }

    fn labels(&self, name: &str) -> Result<Vec<u8>, u8> {
        let (_, pinned) = self.image(name).ok_or(NOT_FOUND)?;
        let label = [field(1, b"io.cri-containerd.pinned"), field(2, b"pinned")].concat();
        let labels = if pinned { field(2, &label) } else { Vec::new() };
        Ok(field(1, &[field(1, name.as_bytes()), labels].concat()))
    }

    fn label(&self, image: &[u8]) -> Result<Vec<u8>, u8> {
        let pinned = text(&at(&at(image, 2), 2)) == "pinned";
        let mut held = self.held.lock().unwrap();
        held.names.get_mut(&text(&at(image, 1))).ok_or(NOT_FOUND)?.1 = pinned;
        Ok(Vec::new())
    }
}

async fn answer(State(runtime): State<FakeRuntime>, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let question = body[5..].to_vec();
    // `ImageRequest` of CRI: the image's spec, and in it its name.
    let image = text(&at(&at(&question, 1), 1));
    let answer = match path.rsplit('/').next().unwrap() {
        "Version" => Ok([field(2, b"containerd"), field(3, b"2.0.0")].concat()),
        "ImageStatus" => Ok(runtime.status(&image)),
        "PullImage" => runtime.pull(&image).await,
        "Get" => runtime.labels(&text(&at(&question, 1))),
        "Update" => runtime.label(&at(&question, 1)),
        // A lease goes when the garbage has been collected.
        "Delete" => {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(Vec::new())
        }
        // Leases; the canary is removed.
        _ => Ok(Vec::new()),
    };
    let (status, message) = match answer {
        Ok(message) => (0, message),
        Err(status) => (status, Vec::new()),
    };
    let framed = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat();
    let framed = if status == 0 { framed } else { Vec::new() };
    let trailers =
        HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from(u16::from(status)))]);
    let body = Full::new(bytes::Bytes::from(framed)).with_trailers(async move { Some(Ok(trailers)) });
    Response::builder().header("content-type", "application/grpc").body(Body::new(body)).unwrap()
}

/// A field of bytes, as Protocol Buffers write it.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut written = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        written.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    written.push(length.to_le_bytes()[0]);
    [&written, bytes].concat()
}

/// The first field of bytes with this number; empty if there is none.
fn at(message: &[u8], number: u8) -> Vec<u8> {
    let mut rest = message;
    while let Some((&key, tail)) = rest.split_first() {
        let (mut value, mut shift, mut read) = (0usize, 0, 0);
        for byte in tail {
            value |= usize::from(byte & 0x7f) << shift;
            (shift, read) = (shift + 7, read + 1);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let tail = &tail[read..];
        let length = if key & 7 == 2 { value } else { 0 };
        // What is no message may be asked too.
        let Some((value, others)) = tail.split_at_checked(length) else { break };
        if key == number << 3 | 2 {
            return value.to_vec();
        }
        rest = others;
    }
    Vec::new()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap_or_default()
}
