//! The mirror over real connections: what a runtime gets, and how connections end.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mirror::{
    Access, Blob, Demand, Digest, Gate, Growing, Helpers, Images, Manifest, Mirror, Options, Reference,
    Repository, Verdict, canary_reference,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Images in memory.
#[derive(Default)]
struct Shelf {
    manifests: Mutex<Vec<(Repository, Reference, Manifest)>>,
    blobs: Mutex<HashMap<Digest, Blob>>,
}

impl Images for Shelf {
    fn manifest(&self, repository: &Repository, reference: &Reference) -> Option<Manifest> {
        let manifests = self.manifests.lock().unwrap();
        manifests
            .iter()
            .find(|(of, tag, manifest)| {
                of == repository && (tag == reference || *reference == Reference::Digest(manifest.digest()))
            })
            .map(|(.., manifest)| manifest.clone())
    }

    fn blob(&self, digest: &Digest) -> Option<Blob> {
        self.blobs.lock().unwrap().get(digest).cloned()
    }
}

impl Shelf {
    fn put(&self, blob: Blob, digest: Digest) {
        self.blobs.lock().unwrap().insert(digest, blob);
    }

    fn tag(&self, host: &str, path: &str, tag: &str, access: Access) -> Manifest {
        let manifest = Manifest::new(MANIFEST, Bytes::from_static(b"{}"), access).unwrap().whole(true);
        let repository = Repository::new(host, path).unwrap();
        self.manifests.lock().unwrap().push((repository, tag.parse().unwrap(), manifest.clone()));
        manifest
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A blob whose first bytes are there.
struct Arriving {
    bytes: Bytes,
    here: watch::Sender<u64>,
}

impl Arriving {
    fn new(bytes: &Bytes, here: u64) -> Arc<Self> {
        Arc::new(Self { bytes: bytes.clone(), here: watch::Sender::new(here) })
    }
}

#[async_trait]
impl Growing for Arriving {
    fn length(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn verified(&self, from: u64) -> u64 {
        self.here.borrow().saturating_sub(from)
    }

    async fn wait(&self, from: u64) -> io::Result<()> {
        self.here.subscribe().wait_for(|here| *here > from).await.map(drop).map_err(io::Error::other)
    }

    async fn read(&self, from: u64, length: usize) -> io::Result<Bytes> {
        let range = from as usize..from as usize + length;
        assert!(range.end as u64 <= *self.here.borrow(), "an unverified byte was asked for");
        Ok(self.bytes.slice(range))
    }
}

/// A blob that is here, and counts as verified for a reader once that has waited for it.
struct Looked {
    blob: Arc<Arriving>,
    looked: watch::Sender<bool>,
}

#[async_trait]
impl Growing for Looked {
    fn length(&self) -> u64 {
        self.blob.length()
    }

    fn verified(&self, from: u64) -> u64 {
        if *self.looked.borrow() { self.blob.verified(from) } else { 0 }
    }

    fn is_here(&self, from: u64) -> bool {
        self.blob.verified(from) > 0
    }

    async fn wait(&self, from: u64) -> io::Result<()> {
        self.looked.send_replace(true);
        self.blob.wait(from).await
    }

    async fn read(&self, from: u64, length: usize) -> io::Result<Bytes> {
        self.blob.read(from, length).await
    }
}

/// A mirror that serves until the test ends.
struct Served {
    shelf: Arc<Shelf>,
    mirror: Mirror,
    address: SocketAddr,
    _stop: daemon::CancellationToken,
}

impl Served {
    async fn start(options: Options) -> Self {
        Self::serve(Helpers::default(), options).await
    }

    async fn serve(helpers: Helpers, options: Options) -> Self {
        let shelf = Arc::new(Shelf::default());
        let mirror = Mirror::with_helpers(shelf.clone(), helpers, options);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = daemon::CancellationToken::new();
        tokio::spawn(Mirror::serve(listener, mirror.router(), stop.clone()));
        Self { shelf, mirror, address, _stop: stop }
    }

    /// With somebody who gets what is not here.
    async fn demanding(demand: Arc<dyn Demand>, options: Options) -> Self {
        Self::serve(Helpers { demand: Some(demand), gate: None }, options).await
    }

    async fn patient() -> Self {
        Self::start(Options::default()).await
    }

    async fn impatient() -> Self {
        Self::start(Options { patience: Duration::from_millis(100), ..Options::default() }).await
    }

    /// Sends a request as it stands and reads until the server closes; a reset is an error.
    async fn raw(&self, request: &str) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        Ok(Answer::parse(&bytes))
    }

    async fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n",
            self.address
        );
        self.raw(&head).await.unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn code(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        body["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

fn noise(length: usize) -> Bytes {
    (0..length).map(|i| ((i * i + 7 * i) % 251) as u8).collect::<Vec<_>>().into()
}

#[tokio::test]
async fn a_manifest_is_found_by_tag_and_by_digest_in_both_forms() {
    let served = Served::patient().await;
    let manifest = served.shelf.tag("docker.io", "library/app", "v1", Access::Node);
    let by_digest = manifest.digest().to_string();
    for path in [
        "/v2/library/app/manifests/v1?ns=docker.io".to_owned(),
        "/v2/docker.io/library/app/manifests/v1".to_owned(),
        format!("/v2/library/app/manifests/{by_digest}?ns=docker.io"),
    ] {
        let answer = served.get(&path).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"{}"[..]), "{path}");
        assert_eq!(answer.header("content-type"), Some(MANIFEST));
        assert_eq!(answer.header("content-length"), Some("2"));
        assert_eq!(answer.header("docker-content-digest"), Some(by_digest.as_str()));
        assert_eq!(answer.header("oci-namespace"), Some("docker.io"));
        let head = served.ask("HEAD", &path, "").await;
        assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, Some("2")));
    }
    assert_eq!(served.get("/v2/").await.status, 200);
}

#[tokio::test]
async fn who_gets_all_from_where_the_first_manifest_came_from_gets_none_of_an_image_that_is_not_whole() {
    let served = Served::patient().await;
    let manifest = served.shelf.tag("docker.io", "library/app", "v1", Access::Node);
    let (beside, in_path) =
        ("/v2/library/app/manifests/v1?ns=docker.io", "/v2/docker.io/library/app/manifests/v1");
    assert_eq!([served.get(beside).await.status, served.get(in_path).await.status], [200, 200]);
    served.shelf.manifests.lock().unwrap()[0].2 = manifest.whole(false);
    assert_eq!(served.get(beside).await.status, 200, "containerd asks upstream for what is missing");
    let answer = served.get(in_path).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "MANIFEST_UNKNOWN"));
}

#[tokio::test]
async fn what_is_unknown_is_404_with_the_code_of_the_specification() {
    let served = Served::patient().await;
    served.shelf.tag("docker.io", "library/app", "v1", Access::Node);
    let digest = Digest::of(b"nothing");
    for (path, code) in [
        ("/v2/library/app/manifests/v2?ns=docker.io".to_owned(), "MANIFEST_UNKNOWN"),
        ("/v2/library/app/manifests/v1?ns=quay.io".to_owned(), "MANIFEST_UNKNOWN"),
        (format!("/v2/library/app/manifests/{digest}?ns=docker.io"), "MANIFEST_UNKNOWN"),
        (format!("/v2/library/app/blobs/{digest}?ns=docker.io"), "BLOB_UNKNOWN"),
        ("/v2/library/app/blobs/sha512:00?ns=docker.io".to_owned(), "DIGEST_INVALID"),
        ("/v2/Library/app/manifests/v1?ns=docker.io".to_owned(), "NAME_INVALID"),
        ("/v2/library/app/manifests/v1".to_owned(), "NAME_UNKNOWN"),
        (format!("/v2/library/app/referrers/{digest}?ns=docker.io"), "UNSUPPORTED"),
        ("/v2/_catalog".to_owned(), "UNSUPPORTED"),
        ("/../etc/passwd".to_owned(), "UNSUPPORTED"),
    ] {
        let answer = served.get(&path).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, code), "{path}");
    }
}

#[tokio::test]
async fn nothing_can_be_pushed() {
    let served = Served::patient().await;
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let answer = served.ask(method, "/v2/library/app/blobs/uploads/?ns=docker.io", "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
    }
}

#[tokio::test]
async fn with_upstream_manifests_only_blobs_are_given_out() {
    let served = Served::patient().await;
    let manifest = served.shelf.tag("docker.io", "library/app", "v1", Access::UpstreamManifests);
    let layer = noise(1000);
    served.shelf.put(Blob::Bytes(layer.clone()), Digest::of(&layer));
    for path in ["v1".to_owned(), manifest.digest().to_string()] {
        let answer = served.get(&format!("/v2/library/app/manifests/{path}?ns=docker.io")).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "MANIFEST_UNKNOWN"));
    }
    let blob = |digest| format!("/v2/library/app/blobs/{digest}?ns=docker.io");
    assert_eq!(served.get(&blob(Digest::of(&layer))).await.body, layer);
    assert_eq!(served.get(&blob(manifest.digest())).await.status, 404, "a manifest is no blob");
}

/// Says what it is told to, and writes down what it is shown; nothing, if it is to say nothing.
#[derive(Default)]
struct Doorman {
    says: Mutex<Option<Verdict>>,
    shown: Mutex<Vec<Option<String>>>,
}

#[async_trait]
impl Gate for Doorman {
    async fn ask(&self, repository: &Repository, digest: &Digest, token: Option<&str>) -> Verdict {
        assert_eq!((repository.host(), *digest), ("docker.io", Digest::of(b"{}")));
        self.shown.lock().unwrap().push(token.map(str::to_owned));
        let says = self.says.lock().unwrap().clone();
        match says {
            Some(verdict) => verdict,
            None => std::future::pending().await,
        }
    }
}

#[tokio::test]
async fn with_relay_a_manifest_is_for_whom_its_registry_would_give_it() {
    let gate = Arc::new(Doorman::default());
    let options = Options { gate_patience: Duration::from_millis(50), ..Options::default() };
    let served = Served::serve(Helpers { demand: None, gate: Some(gate.clone()) }, options).await;
    let manifest = served.shelf.tag("docker.io", "library/app", "v1", Access::Relay);
    let layer = noise(1000);
    served.shelf.put(Blob::Bytes(layer.clone()), Digest::of(&layer));
    let challenge = r#"Bearer realm="https://a.example/t",service="s",scope="repository:library/app:pull""#;
    let says = |verdict| *gate.says.lock().unwrap() = verdict;
    let by_tag = "/v2/library/app/manifests/v1?ns=docker.io".to_owned();
    let by_digest = format!("/v2/library/app/manifests/{}?ns=docker.io", manifest.digest());
    for (path, method) in [(&by_tag, "HEAD"), (&by_tag, "GET"), (&by_digest, "HEAD"), (&by_digest, "GET")] {
        says(Some(Verdict::Challenge(challenge.to_owned())));
        let answer = served.ask(method, path, "").await;
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (401, Some(challenge)),
            "{method} {path}"
        );
        assert!(answer.header("docker-content-digest").is_none() && answer.header("etag").is_none());
        says(Some(Verdict::Given));
        let answer = served.ask(method, path, "Authorization: Bearer good\r\n").await;
        let digest = manifest.digest().to_string();
        assert_eq!((answer.status, answer.header("docker-content-digest")), (200, Some(digest.as_str())));
        for verdict in [Some(Verdict::Elsewhere), None, Some(Verdict::Challenge("a\nb".to_owned()))] {
            says(verdict);
            assert_eq!(served.ask(method, path, "Authorization: Bearer bad\r\n").await.status, 404);
        }
    }
    let one =
        [None, Some("good"), Some("bad"), Some("bad"), Some("bad")].map(|token| token.map(str::to_owned));
    assert_eq!(*gate.shown.lock().unwrap(), vec![one; 4].concat());

    gate.shown.lock().unwrap().clear();
    says(Some(Verdict::Given));
    for headers in
        ["Authorization: Basic bWU6c2VjcmV0\r\n", "Authorization: Bearer a\r\nAuthorization: Basic b\r\n"]
    {
        assert_eq!(served.ask("GET", &by_tag, headers).await.status, 404, "{headers}");
    }
    let in_path = "/v2/docker.io/library/app/manifests/v1";
    assert_eq!(served.ask("GET", in_path, "Authorization: Bearer good\r\n").await.status, 404);
    assert_eq!(served.get("/v2/library/app/manifests/v2?ns=docker.io").await.status, 404);
    let blob = format!("/v2/library/app/blobs/{}?ns=docker.io", Digest::of(&layer));
    assert_eq!(served.get(&blob).await.body, layer, "who knows the manifest may have the blobs");
    assert!(
        gate.shown.lock().unwrap().is_empty(),
        "nobody is shown a password, nor asked for what is not here"
    );
}

#[tokio::test]
async fn with_relay_and_nobody_to_ask_no_manifest_is_given_out() {
    let served = Served::patient().await;
    served.shelf.tag("docker.io", "library/app", "v1", Access::Relay);
    for headers in ["", "Authorization: Bearer good\r\n"] {
        assert_eq!(served.ask("GET", "/v2/library/app/manifests/v1?ns=docker.io", headers).await.status, 404);
    }
}

#[tokio::test]
async fn blobs_of_every_kind_honour_single_ranges() {
    let served = Served::patient().await;
    let bytes = noise(1_000_000);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blob");
    std::fs::write(&file, &bytes).unwrap();
    let digest = Digest::of(&bytes);
    let path = format!("/v2/app/blobs/{digest}?ns=docker.io");
    for blob in [
        Blob::Bytes(bytes.clone()),
        Blob::Whole { path: file, length: bytes.len() as u64 },
        Blob::Growing(Arriving::new(&bytes, bytes.len() as u64)),
    ] {
        served.shelf.put(blob, digest);
        let whole = served.get(&path).await;
        assert_eq!((whole.status, whole.header("content-length")), (200, Some("1000000")));
        assert!(whole.body == bytes);
        assert_eq!(whole.header("accept-ranges"), Some("bytes"));
        assert_eq!(whole.header("content-encoding"), None);
        let head = served.ask("HEAD", &path, "").await;
        assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, Some("1000000")));
        for (range, from, to) in
            [("500000-", 500_000, 1_000_000), ("10-19", 10, 20), ("-5", 999_995, 1_000_000)]
        {
            let part = served.ask("GET", &path, &format!("Range: bytes={range}\r\n")).await;
            assert_eq!(part.status, 206, "{range}");
            assert_eq!(part.header("content-range").unwrap(), format!("bytes {from}-{}/1000000", to - 1));
            assert!(part.body == bytes[from..to], "{range}");
        }
        let beyond = served.ask("GET", &path, "Range: bytes=1000000-\r\n").await;
        assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */1000000")));
        let several = served.ask("GET", &path, "Range: bytes=0-1,5-6\r\n").await;
        assert_eq!((several.status, several.body.len()), (200, 1_000_000));
        let other = served.ask("GET", &path, "Range: bytes=5-\r\nIf-Range: \"other\"\r\n").await;
        assert_eq!((other.status, other.body.len()), (200, 1_000_000));
        let encoded = served.ask("GET", &path, "Accept-Encoding: gzip, zstd\r\n").await;
        assert!(encoded.header("content-encoding").is_none() && encoded.body == bytes);
    }
}

#[tokio::test]
async fn a_file_that_is_gone_or_of_another_length_is_404() {
    let served = Served::patient().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blob");
    std::fs::write(&file, b"short").unwrap();
    let digest = Digest::of(b"longer");
    for path in [file, folder.path().join("absent"), folder.path().to_path_buf()] {
        served.shelf.put(Blob::Whole { path, length: 6 }, digest);
        let answer = served.get(&format!("/v2/app/blobs/{digest}?ns=docker.io")).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "BLOB_UNKNOWN"));
    }
}

#[tokio::test]
async fn a_growing_blob_is_streamed_while_it_arrives() {
    let served = Served::patient().await;
    let bytes = noise(3_000_000);
    let arriving = Arriving::new(&bytes, 0);
    let digest = Digest::of(&bytes);
    served.shelf.put(Blob::Growing(arriving.clone()), digest);
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let head = format!(
        "GET /v2/app/blobs/{digest}?ns=docker.io HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    for step in 1..=30u64 {
        arriving.here.send_replace(step * 100_000);
        let head = got.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |end| end + 4);
        let expected = if head == 0 { 1 } else { head + step as usize * 100_000 };
        while got.len() < expected {
            assert!(stream.read_buf(&mut got).await.unwrap() > 0, "it ended after {} bytes", got.len());
        }
    }
    stream.read_to_end(&mut got).await.unwrap();
    assert!(Answer::parse(&got).body == bytes);
}

#[tokio::test]
async fn a_stall_ends_the_body_early_without_a_reset_and_the_resumed_range_is_404() {
    let served = Served::impatient().await;
    let bytes = noise(1_000_000);
    let arriving = Arriving::new(&bytes, 600_000);
    let digest = Digest::of(&bytes);
    served.shelf.put(Blob::Growing(arriving.clone()), digest);
    let path = format!("/v2/app/blobs/{digest}?ns=docker.io");
    // A request that is still in the server's receive buffer when it closes: a plain close would reset the connection.
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let unread = format!("{request}{}", "GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000));
    for request in [&request, &unread] {
        let cut = served.raw(request).await.expect("the end of the stream, no reset");
        assert_eq!((cut.status, cut.header("content-length")), (200, Some("1000000")));
        assert!(cut.body == bytes[..600_000], "{} bytes", cut.body.len());
    }
    let resumed = served.ask("GET", &path, "Range: bytes=600000-\r\n").await;
    assert_eq!((resumed.status, resumed.code().as_str()), (404, "BLOB_UNKNOWN"));
    assert_eq!(served.mirror.metrics().stalls(), 2);
    // As soon as the byte is there, it is served again.
    arriving.here.send_replace(1_000_000);
    let resumed = served.ask("GET", &path, "Range: bytes=600000-\r\n").await;
    assert!(resumed.status == 206 && resumed.body == bytes[600_000..]);
}

#[tokio::test]
async fn a_blob_that_is_here_is_given_where_somebody_waited_in_vain_before() {
    let served = Served::impatient().await;
    let bytes = noise(300_000);
    let (digest, arriving) = (Digest::of(&bytes), Arriving::new(&bytes, 0));
    served.shelf.put(Blob::Growing(arriving.clone()), digest);
    let path = format!("/v2/app/blobs/{digest}?ns=docker.io");
    assert!(served.get(&path).await.body.is_empty(), "it does not come");
    assert_eq!(served.get(&path).await.status, 404, "nobody waits again");
    arriving.here.send_replace(300_000);
    let looked = Looked { blob: arriving, looked: watch::Sender::new(false) };
    served.shelf.put(Blob::Growing(Arc::new(looked)), digest);
    let whole = served.get(&path).await;
    assert!(whole.status == 200 && whole.body == bytes);
}

#[tokio::test]
async fn more_requests_than_allowed_get_503_at_once() {
    let served = Served::start(Options { max_requests: 1, ..Options::default() }).await;
    let bytes = noise(10);
    let digest = Digest::of(&bytes);
    let arriving = Arriving::new(&bytes, 0);
    served.shelf.put(Blob::Growing(arriving.clone()), digest);
    let mut first = TcpStream::connect(served.address).await.unwrap();
    let head = format!(
        "GET /v2/app/blobs/{digest}?ns=docker.io HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
    first.write_all(head.as_bytes()).await.unwrap();
    let mut got = vec![0];
    first.read_exact(&mut got).await.unwrap();
    assert_eq!(served.get("/v2/").await.status, 503);
    arriving.here.send_replace(10);
    first.read_to_end(&mut got).await.unwrap();
    assert_eq!(served.get("/v2/").await.status, 200, "its place is free again");
}

#[tokio::test]
async fn a_foreign_host_name_is_421() {
    let served = Served::patient().await;
    let answer =
        served.raw("GET /v2/ HTTP/1.1\r\nHost: attacker.com\r\nConnection: close\r\n\r\n").await.unwrap();
    assert_eq!(answer.status, 421);
}

#[tokio::test]
async fn headers_have_a_limit() {
    let served = Served::patient().await;
    let answer = served.ask("GET", "/v2/", &format!("X: {}\r\n", "a".repeat(64 << 10))).await;
    assert_eq!(answer.status, 431);
}

#[tokio::test]
async fn the_canary_is_there_once_armed() {
    let served = Served::patient().await;
    let path = "/v2/canary/manifests/n1?ns=mirror-check.invalid";
    assert_eq!(served.get(path).await.status, 404);
    served.mirror.canary().arm("n1");
    assert_eq!(served.get(path).await.status, 200);
    assert_eq!(canary_reference("n1"), "mirror-check.invalid/canary:n1");
}

/// Gets the blobs of one registry, or hangs.
struct Getting {
    host: &'static str,
    blob: Option<Blob>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Demand for Getting {
    async fn blob(&self, repository: &Repository, digest: &Digest) -> Option<Blob> {
        self.asked.lock().unwrap().push(format!("{repository}@{digest}"));
        if repository.host() != self.host {
            return None;
        }
        match &self.blob {
            Some(blob) => Some(blob.clone()),
            None => std::future::pending().await,
        }
    }
}

#[tokio::test]
async fn a_blob_that_is_not_here_is_asked_for_and_nothing_else_is() {
    let bytes = noise(100);
    let (digest, here) = (Digest::of(&bytes), Digest::of(b"here"));
    let getting = Arc::new(Getting {
        host: "r.example",
        blob: Some(Blob::Growing(Arriving::new(&bytes, 100))),
        asked: Mutex::default(),
    });
    let served = Served::demanding(getting.clone(), Options::default()).await;
    served.shelf.put(Blob::Bytes(Bytes::from_static(b"here")), here);
    let got = served.get(&format!("/v2/team/app/blobs/{digest}?ns=r.example")).await;
    assert!(got.status == 200 && got.body == bytes);
    assert_eq!(served.get(&format!("/v2/team/app/blobs/{digest}?ns=other.example")).await.status, 404);
    let asked = getting.asked.lock().unwrap().clone();
    assert_eq!(asked, [format!("r.example/team/app@{digest}"), format!("other.example/team/app@{digest}")]);
    for path in [
        format!("/v2/team/app/blobs/{here}?ns=r.example"),
        format!("/v2/team/app/manifests/{digest}?ns=r.example"),
        "/v2/team/app/manifests/v1?ns=r.example".to_owned(),
        format!("/v2/../app/blobs/{digest}?ns=r.example"),
    ] {
        served.get(&path).await;
    }
    assert_eq!(getting.asked.lock().unwrap().len(), 2, "manifests, and what is here, are not asked for");
}

#[tokio::test]
async fn who_gets_nothing_within_the_patience_goes_upstream() {
    let getting = Getting { host: "r.example", blob: None, asked: Mutex::default() };
    let options = Options { demand_patience: Duration::from_millis(50), ..Options::default() };
    let served = Served::demanding(Arc::new(getting), options).await;
    let digest = Digest::of(b"x");
    let began = std::time::Instant::now();
    assert_eq!(served.get(&format!("/v2/team/app/blobs/{digest}?ns=r.example")).await.status, 404);
    assert!(began.elapsed() < Duration::from_secs(5));
}
