//! Reading a scripted origin: what lies, breaks, changes, ignores; and going on after a cut.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use operator_api::{Grant, GrantedFile, OriginPolicy, TorrentVersion, reason};
use origin::{Options, Origin};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::contents::hex;
use crate::store::{Layout, Record, Root, publish, write_durably};

/// How an origin behaves. Counters are per file.
#[derive(Clone, Debug)]
struct Behaviour {
    bytes: Vec<u8>,
    etag: &'static str,
    /// Breaks each connection after so many bytes of the body.
    drop_after: Option<usize>,
    /// Answers 200 to every range.
    ignore_ranges: bool,
    /// Says another length than it has.
    say_length: Option<usize>,
    encoding: Option<&'static str>,
    /// From the second request on, the ETag is this one.
    later_etag: Option<&'static str>,
    /// Shows no ETag.
    blind: bool,
    status: u16,
}

fn honest(bytes: &[u8]) -> Behaviour {
    Behaviour {
        bytes: bytes.to_vec(),
        etag: "\"1\"",
        drop_after: None,
        ignore_ranges: false,
        say_length: None,
        encoding: None,
        later_etag: None,
        blind: false,
        status: 200,
    }
}

struct Server {
    address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (behaviour, requests) = (Arc::new(Mutex::new(behaviour)), Arc::new(Mutex::new(Vec::new())));
        let (shared, log) = (Arc::clone(&behaviour), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&shared), Arc::clone(&log)));
            }
        });
        Self { address, behaviour, requests }
    }

    fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    fn ranges(&self) -> Vec<Option<u64>> {
        let from = |head: &String| {
            let line = head.lines().find_map(|line| line.strip_prefix("range: bytes="))?;
            line.split('-').next()?.parse().ok()
        };
        self.requests.lock().unwrap().iter().map(from).collect()
    }

    fn file(&self, path: &str, bytes: &[u8]) -> GrantedFile {
        GrantedFile {
            path: path.into(),
            url: format!("http://{}/file", self.address),
            text: None,
            size: bytes.len() as u64,
            sha256: None,
            etag: Some("\"1\"".into()),
            last_modified: None,
        }
    }
}

/// One request a connection.
async fn answer(mut stream: TcpStream, behaviour: Arc<Mutex<Behaviour>>, log: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).await.unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let number = {
        let mut log = log.lock().unwrap();
        log.push(head.clone());
        log.len()
    };
    let b = behaviour.lock().unwrap().clone();
    let etag = if number > 1 { b.later_etag.unwrap_or(b.etag) } else { b.etag };
    let header =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
    let range =
        header("range").and_then(|r| r.strip_prefix("bytes=")?.split('-').next()?.parse::<usize>().ok());
    let same = header("if-range").is_none_or(|wanted| wanted == etag);
    let failed = header("if-match").is_some_and(|wanted| wanted != etag);
    let (status, from) = match range {
        _ if b.status != 200 => (b.status, b.bytes.len()),
        _ if failed => (412, b.bytes.len()),
        Some(from) if same && !b.ignore_ranges => (206, from),
        _ => (200, 0),
    };
    let body = &b.bytes[from..];
    let mut text = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n");
    if !b.blind {
        write!(text, "etag: {etag}\r\n").unwrap();
    }
    write!(text, "content-length: {}\r\n", b.say_length.unwrap_or(body.len())).unwrap();
    if status == 206 {
        write!(text, "content-range: bytes {from}-{}/{}\r\n", b.bytes.len() - 1, b.bytes.len()).unwrap();
    }
    if let Some(encoding) = b.encoding {
        write!(text, "content-encoding: {encoding}\r\n").unwrap();
    }
    text += "\r\n";
    stream.write_all(text.as_bytes()).await.ok();
    stream.write_all(&body[..b.drop_after.unwrap_or(body.len()).min(body.len())]).await.ok();
    stream.shutdown().await.ok();
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

fn grant(files: Vec<GrantedFile>) -> Grant {
    let allow = vec!["127.0.0.0/8".to_owned()];
    Grant {
        id: "g".into(),
        expires_in_seconds: 30,
        files,
        origin_policy: OriginPolicy { allow, deny: Vec::new() },
        torrent_version: TorrentVersion::Hybrid,
        expected_digest: None,
        bandwidth_per_second: None,
        ingest: None,
        authorization: None,
    }
}

struct Node {
    _temp: tempfile::TempDir,
    root: Root,
    counters: Counters,
}

impl Node {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::open(temp.path()).unwrap();
        Self { _temp: temp, root, counters: Counters::default() }
    }

    fn layout(&self) -> &Layout {
        self.root.layout()
    }

    async fn fetch(&self, grant: &Grant) -> Result<Whole, FetchError> {
        self.fetch_until(grant, &CancellationToken::new()).await
    }

    async fn fetch_until(&self, grant: &Grant, stop: &CancellationToken) -> Result<Whole, FetchError> {
        fs::create_dir_all(self.layout().coming("r").path()).unwrap();
        let origin = Origin::new(&grant.origin_policy, Options::default()).unwrap();
        read_all(self.layout(), "r", grant, origin, &self.counters, stop).await
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.layout().coming("r").data().join(path)).unwrap()
    }

    fn origin_bytes(&self) -> u64 {
        self.counters.origin.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[tokio::test]
async fn an_honest_origin_is_read_once() {
    let bytes = noise(5 << 20);
    let server = Server::start(honest(&bytes)).await;
    let node = Node::new();
    let whole = node.fetch(&grant(vec![server.file("dir/ä b.bin", &bytes)])).await.unwrap();
    assert_eq!(node.read("dir/ä b.bin"), bytes);
    assert_eq!(node.origin_bytes(), bytes.len() as u64);
    assert_eq!(whole.manifest.entries()[0].sha256, *Sha256::digest(&bytes));
    assert_eq!(whole.metainfo.name(), format!("sha256-{}", hex(&Sha256::digest(&bytes))));
    assert_eq!(whole.metainfo.total_size(), bytes.len() as u64);
}

#[tokio::test]
async fn every_version_of_torrent_of_one_and_of_several_files() {
    let bytes = noise(100_000);
    let server = Server::start(honest(&bytes)).await;
    for version in [TorrentVersion::Hybrid, TorrentVersion::V2, TorrentVersion::V1] {
        for files in [1, 40] {
            let node = Node::new();
            let files = (0..files).map(|i| server.file(&format!("f{i}"), &bytes)).collect();
            let grant = Grant { torrent_version: version, ..grant(files) };
            let whole = node.fetch(&grant).await.unwrap();
            assert_eq!(whole.metainfo.info_hash_v1().is_some(), version != TorrentVersion::V2);
            assert_eq!(whole.metainfo.info_hash_v2().is_some(), version != TorrentVersion::V1);
            assert_eq!(whole.metainfo.files().len(), grant.files.len());
        }
    }
}

#[tokio::test]
async fn reading_the_disk_again_counts_as_work() {
    let bytes = noise(100_000);
    let server = Server::start(honest(&bytes)).await;
    let node = Node::new();
    let files = (0..4).map(|i| server.file(&format!("f{i}"), &bytes)).collect();
    node.fetch(&Grant { torrent_version: TorrentVersion::V1, ..grant(files) }).await.unwrap();
    let worked = node.counters.worked.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(worked, 2 * 400_000, "written once, and read once more for the pieces across files");
}

#[tokio::test]
async fn t86_what_nothing_tells_from_another_version_is_never_continued() {
    let bytes = noise(1_000_000);
    let server = Server::start(Behaviour { drop_after: Some(300_000), blind: true, ..honest(&bytes) }).await;
    let node = Node::new();
    let blind = GrantedFile { etag: None, ..server.file("f", &bytes) };
    let error = node.fetch(&grant(vec![blind.clone()])).await.unwrap_err();
    assert_eq!(error.reason(), reason::ORIGIN_UNAVAILABLE);
    assert!(server.ranges().iter().all(Option::is_none), "{:?}", server.ranges());
    server.set(|b| b.drop_after = None);
    node.fetch(&grant(vec![blind])).await.unwrap();
    assert_eq!(node.read("f"), bytes);
}

#[tokio::test]
async fn t86_the_first_answer_pins_what_was_resolved_without_a_validator() {
    let bytes = noise(1_000_000);
    let changing = Behaviour { drop_after: Some(300_000), later_etag: Some("\"2\""), ..honest(&bytes) };
    let server = Server::start(changing).await;
    let node = Node::new();
    let unpinned = GrantedFile { etag: None, ..server.file("f", &bytes) };
    let error = node.fetch(&grant(vec![unpinned])).await.unwrap_err();
    assert_eq!(error.reason(), reason::SOURCE_CHANGED);
}

#[tokio::test]
async fn an_empty_file_and_a_byte() {
    let server = Server::start(honest(b"")).await;
    let node = Node::new();
    let whole = node.fetch(&grant(vec![server.file("empty", b"")])).await.unwrap();
    assert_eq!(whole.metainfo.total_size(), 0);
    assert_eq!(node.read("empty"), b"");

    let server = Server::start(honest(b"x")).await;
    let node = Node::new();
    node.fetch(&grant(vec![server.file("one", b"x")])).await.unwrap();
    assert_eq!(node.read("one"), b"x");
}

#[tokio::test]
async fn a_broken_connection_is_read_on_from_where_it_broke() {
    let bytes = noise(1_000_000);
    let server = Server::start(Behaviour { drop_after: Some(300_000), ..honest(&bytes) }).await;
    let node = Node::new();
    node.fetch(&grant(vec![server.file("f", &bytes)])).await.unwrap();
    assert_eq!(node.read("f"), bytes);
    assert_eq!(server.ranges(), [None, Some(300_000), Some(600_000), Some(900_000)]);
    assert_eq!(node.origin_bytes(), bytes.len() as u64, "no byte twice");
}

#[tokio::test]
async fn t85_an_origin_that_ignores_ranges_is_read_from_the_start() {
    let bytes = noise(600_000);
    let broken = Behaviour { drop_after: Some(200_000), ignore_ranges: true, ..honest(&bytes) };
    let server = Server::start(broken).await;
    let node = Node::new();
    let error = node.fetch(&grant(vec![server.file("f", &bytes)])).await.unwrap_err();
    assert_eq!(error.reason(), reason::ORIGIN_UNAVAILABLE);
    assert!(server.requests.lock().unwrap().len() <= 6, "it is not asked for ever");
    server.set(|b| b.drop_after = None);
    node.fetch(&grant(vec![server.file("f", &bytes)])).await.unwrap();
    assert_eq!(node.read("f"), bytes);
}

#[tokio::test]
async fn t84_a_length_that_is_not_the_resolved_one() {
    let bytes = noise(100_000);
    let server = Server::start(honest(&bytes)).await;
    let node = Node::new();
    for size in [99_999, 100_001] {
        let file = GrantedFile { size, ..server.file("f", &bytes) };
        let error = node.fetch(&grant(vec![file])).await.unwrap_err();
        assert_eq!(error.reason(), reason::SOURCE_CHANGED, "{error}");
    }
    server.set(|b| b.say_length = Some(200_000));
    let error = node.fetch(&grant(vec![server.file("f", &bytes)])).await.unwrap_err();
    assert_eq!(error.reason(), reason::SOURCE_CHANGED, "{error}");
}

#[tokio::test]
async fn t86_a_source_that_changes_while_it_is_read_is_never_mixed() {
    let bytes = noise(1_000_000);
    let changes = Behaviour { drop_after: Some(300_000), later_etag: Some("\"2\""), ..honest(&bytes) };
    let server = Server::start(changes).await;
    let node = Node::new();
    let error = node.fetch(&grant(vec![server.file("f", &bytes)])).await.unwrap_err();
    assert_eq!(error.reason(), reason::SOURCE_CHANGED, "{error}");
}

#[tokio::test]
async fn t87_an_encoding_nobody_asked_for_is_refused() {
    let bytes = noise(1000);
    let server = Server::start(Behaviour { encoding: Some("gzip"), ..honest(&bytes) }).await;
    let error = Node::new().fetch(&grant(vec![server.file("f", &bytes)])).await.unwrap_err();
    assert!(error.to_string().contains("gzip"), "{error}");
}

#[tokio::test]
async fn statuses_have_their_reasons() {
    let bytes = noise(10);
    let server = Server::start(honest(&bytes)).await;
    for (status, wanted) in [(404, reason::ORIGIN_NOT_FOUND), (403, reason::ORIGIN_UNAUTHORIZED)] {
        server.set(|b| b.status = status);
        let error = Node::new().fetch(&grant(vec![server.file("f", &bytes)])).await.unwrap_err();
        assert_eq!(error.reason(), wanted);
    }
    let mut denied = grant(vec![server.file("f", &bytes)]);
    denied.origin_policy.allow.clear();
    let error = Node::new().fetch(&denied).await.unwrap_err();
    assert_eq!(error.reason(), reason::ORIGIN_DENIED);
}

#[tokio::test]
async fn t88_a_wrong_digest_makes_nothing_and_heals() {
    let bytes = noise(3 << 20);
    let server = Server::start(honest(&noise((3 << 20) + 1)[1..])).await;
    let node = Node::new();
    let file = GrantedFile { sha256: Some(hex(&Sha256::digest(&bytes))), ..server.file("f", &bytes) };
    let error = node.fetch(&grant(vec![file.clone()])).await.unwrap_err();
    assert_eq!(error.reason(), reason::DIGEST_MISMATCH);
    server.set(|b| b.bytes.clone_from(&bytes));
    node.fetch(&grant(vec![file.clone()])).await.unwrap();
    assert_eq!(node.read("f"), bytes);

    let wrong = Grant { expected_digest: Some("00".repeat(32)), ..grant(vec![file]) };
    assert_eq!(node.fetch(&wrong).await.unwrap_err().reason(), reason::DIGEST_MISMATCH);
}

#[tokio::test]
async fn paths_are_refused_before_anything_is_read() {
    let server = Server::start(honest(b"x")).await;
    for paths in [&["../x"][..], &["/x"], &["a", "a/b"], &["A", "a"], &["a", "a"]] {
        let files = paths.iter().map(|path| GrantedFile { path: (*path).into(), ..server.file("f", b"x") });
        let error = Node::new().fetch(&grant(files.collect())).await.unwrap_err();
        assert_eq!(error.reason(), reason::INVALID_PATH, "{paths:?}");
    }
    assert!(server.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_was_durable_is_not_read_again() {
    let bytes = noise(4 << 20);
    let server = Server::start(Behaviour { status: 200, ..honest(&bytes) }).await;
    let node = Node::new();
    let file = server.file("f", &bytes);
    // As a kill leaves it: bytes on the disk, and a journal that speaks of fewer.
    let folder = node.layout().coming("r");
    fs::create_dir_all(folder.data()).unwrap();
    let mut torn = bytes[..3 << 20].to_vec();
    torn[(2 << 20) + 5..].fill(0);
    fs::write(folder.data().join("f"), torn).unwrap();
    Journal::open(&folder.fetch_journal()).unwrap().record(&file, 2 << 20).unwrap();
    node.fetch(&grant(vec![file.clone()])).await.unwrap();
    assert_eq!(node.read("f"), bytes);
    assert_eq!(server.ranges(), [Some(2 << 20)]);
    assert_eq!(node.origin_bytes(), 2 << 20);

    node.fetch(&grant(vec![file.clone()])).await.unwrap();
    assert_eq!(node.origin_bytes(), 2 << 20, "a whole file is only hashed again");

    let newer = GrantedFile { etag: Some("\"2\"".into()), ..file };
    server.set(|b| b.etag = "\"2\"");
    node.fetch(&grant(vec![newer])).await.unwrap();
    assert_eq!(node.origin_bytes(), (2 << 20) + bytes.len() as u64, "another version starts at 0");
}

#[tokio::test]
async fn a_stopped_fetch_writes_no_more_and_keeps_what_it_has() {
    let bytes = noise(8 << 20);
    let server = Server::start(Behaviour { drop_after: Some(3 << 20), ..honest(&bytes) }).await;
    let node = Node::new();
    let files = grant(vec![server.file("f", &bytes)]);
    let stop = CancellationToken::new();
    let halt = stop.clone();
    let on_disk = Arc::clone(&node.counters.on_disk);
    tokio::spawn(async move {
        while on_disk.load(std::sync::atomic::Ordering::Relaxed) < 2 << 20 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        halt.cancel();
    });
    let ended = node.fetch_until(&files, &stop).await;
    if let Err(error) = ended {
        assert!(matches!(error, FetchError::Stopped), "{error}");
        let journal = Journal::open(&node.layout().coming("r").fetch_journal()).unwrap();
        assert!(journal.durable(&files.files[0]) >= 2 << 20, "what is on the disk was made durable");
    }
    let read = node.origin_bytes();
    server.set(|b| b.drop_after = None);
    node.fetch(&files).await.unwrap();
    assert_eq!(node.read("f"), bytes);
    assert!(node.origin_bytes() <= bytes.len() as u64 + (64 << 10) * 40, "read before: {read}");
}

#[tokio::test]
async fn a_declared_file_that_another_revision_holds_is_not_read() {
    let bytes = noise(2 << 20);
    let server = Server::start(honest(&bytes)).await;
    let node = Node::new();
    let file = GrantedFile { sha256: Some(hex(&Sha256::digest(&bytes))), ..server.file("f", &bytes) };
    let whole = node.fetch(&grant(vec![file.clone()])).await.unwrap();
    let folder = node.layout().coming("r");
    write_durably(&folder.manifest(), &whole.manifest.to_bytes()).unwrap();
    let digest = hex(&whole.manifest.digest());
    let record =
        Record { version: 1, revision: "r".into(), manifest_digest: Some(digest), ..Record::default() };
    record.save(&folder).unwrap();
    publish(node.layout(), &record).unwrap();
    // The donor is `r`, so the new one needs another name.
    fs::rename(node.layout().published("r").path(), node.layout().published("old").path()).unwrap();
    let before = node.origin_bytes();
    let other = GrantedFile { path: "renamed".into(), ..file };
    node.fetch(&grant(vec![other.clone()])).await.unwrap();
    assert_eq!(node.origin_bytes(), before);
    assert_eq!(node.read("renamed"), bytes);
    node.fetch(&grant(vec![other])).await.unwrap();
    assert_eq!(node.origin_bytes(), before, "also when it goes on after a cut");
}

#[tokio::test]
async fn many_small_files() {
    let server = Server::start(honest(b"small")).await;
    let node = Node::new();
    let files = (0..600).map(|i| server.file(&format!("d{}/f{i}", i % 7), b"small")).collect();
    let whole = node.fetch(&grant(files)).await.unwrap();
    assert_eq!(whole.manifest.entries().len(), 600);
    let journal = Journal::open(&node.layout().coming("r").fetch_journal()).unwrap();
    assert_eq!(journal.durable(&server.file("d3/f3", b"small")), 5);
}
