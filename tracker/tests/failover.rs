//! Trackers that are killed while clients announce.
#![allow(clippy::unwrap_used, clippy::panic)] // a failure is the test's failure

mod common;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{TOKEN, query};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tracker::limits::INTERVAL_STRANGER;
use tracker_api::{SWARMS_PATH, SwarmReport};

const CLIENTS: u16 = 50;
const HASH: [u8; 20] = [0x42; 20];
/// How long anything may take. Nothing here is judged by its time.
const PATIENCE: Duration = Duration::from_secs(30);

/// A tracker in a process of its own. It ends with this.
struct Process {
    address: SocketAddr,
    siblings: Vec<SocketAddr>,
    token: std::path::PathBuf,
    child: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Process {
    /// Starts the one of `all` that is at `address`.
    fn start(address: SocketAddr, all: &[SocketAddr], token: &std::path::Path) -> Self {
        let siblings: Vec<_> = all.iter().copied().filter(|&sibling| sibling != address).collect();
        let child = Command::new(env!("CARGO_BIN_EXE_samara-tracker"))
            .env_clear()
            .args(["--public", "--listen", &address.to_string()])
            .args(siblings.iter().flat_map(|sibling| ["--sibling".to_owned(), format!("http://{sibling}")]))
            .arg("--token-file")
            .arg(token)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Process { address, siblings, token: token.to_owned(), child }
    }

    /// Ends it as a power cut would.
    fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    fn start_again(&mut self) {
        *self = Process::start(self.address, &self.siblings, &self.token);
    }

    /// Ends it as an operator would, and waits for that.
    fn stop(&mut self) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    async fn until_ready(&self) {
        let waiting = async {
            while get(self.address, "/readyz").await.is_none_or(|(status, _)| status != 200) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    }

    /// The peers that it knows, and whether they are complete.
    async fn dump(&self) -> BTreeSet<(String, bool)> {
        let (_, body) = get(self.address, SWARMS_PATH).await.unwrap();
        peers(&body)
    }
}

/// The peers in an answer of [`SWARMS_PATH`], and whether they are complete.
fn peers(body: &[u8]) -> BTreeSet<(String, bool)> {
    let reports: Vec<SwarmReport> = serde_json::from_slice(body).unwrap();
    let peers = reports.into_iter().flat_map(|report| report.peers);
    peers.map(|peer| (peer.address, peer.left == 0)).collect()
}

/// The status and body of an answer; none if there is no whole one.
async fn get(address: SocketAddr, path: &str) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let status = std::str::from_utf8(&answer[..end]).ok()?.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_off(end + 4)))
}

/// Announces, and says whether that was answered.
async fn announce(tracker: SocketAddr, port: u16, seed: bool) -> bool {
    let left = if seed { "left=0" } else { "left=5" };
    let path = format!("/announce?{}", query(&HASH, port).replace("left=5", left));
    matches!(get(tracker, &path).await, Some((200, _)))
}

/// One client: it announces to the tracker that answered last, and to the next one when that fails (BEP 12). Answers how often it failed.
async fn client(port: u16, trackers: Vec<SocketAddr>, ends: Arc<AtomicBool>) -> u32 {
    let (mut at, mut failed) = (usize::from(port) % trackers.len(), 0);
    while !ends.load(Ordering::Relaxed) {
        if !announce(trackers[at], port, port.is_multiple_of(5)).await {
            failed += 1;
            at = (at + 1) % trackers.len();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    failed
}

async fn until_the_same(one: &Process, other: &Process, peers: usize) -> Duration {
    let began = Instant::now();
    let waiting = async {
        loop {
            let (here, there) = (one.dump().await, other.dump().await);
            if here == there && here.len() == peers {
                return began.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let Ok(took) = tokio::time::timeout(PATIENCE, waiting).await else {
        panic!("{:?} and {:?}", one.dump().await, other.dump().await)
    };
    took
}

async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_fails_twice_when_a_tracker_is_killed_and_both_know_all_when_it_is_back() {
    let mut token = tempfile::NamedTempFile::new().unwrap();
    token.write_all(TOKEN.as_bytes()).unwrap();
    let addresses = [free().await, free().await];
    let [mut one, other] = addresses.map(|address| Process::start(address, &addresses, token.path()));
    one.until_ready().await;
    other.until_ready().await;

    let ends = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (2000..2000 + CLIENTS)
        .map(|port| tokio::spawn(client(port, addresses.to_vec(), Arc::clone(&ends))))
        .collect();
    until_the_same(&one, &other, usize::from(CLIENTS)).await;
    one.kill();
    assert_eq!(other.dump().await.len(), usize::from(CLIENTS), "what the other heard is not lost with it");
    tokio::time::sleep(Duration::from_millis(500)).await;
    one.start_again();
    one.until_ready().await;
    let took = until_the_same(&one, &other, usize::from(CLIENTS)).await;
    println!("both hold the same {} ms after it is ready", took.as_millis());
    ends.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() <= 1, "a client failed more than once");
    }
}

/// After how long the first and the last of these peers were known, from now on.
async fn until_all_are_known(tracker: &Process, mut wanted: BTreeSet<(String, bool)>) -> [Duration; 2] {
    let began = Instant::now();
    let mut first = None;
    let waiting = async {
        while !wanted.is_empty() {
            // While it starts, nobody answers.
            if let Some((200, body)) = get(tracker.address, SWARMS_PATH).await {
                let (before, known) = (wanted.len(), peers(&body));
                wanted.retain(|peer| !known.contains(peer));
                if wanted.len() < before {
                    first.get_or_insert_with(|| began.elapsed());
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        [first.unwrap_or_default(), began.elapsed()]
    };
    let known = tokio::time::timeout(Duration::from_secs(INTERVAL_STRANGER.into()), waiting).await;
    known.expect("every seed is known again within one announce interval")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_seed_is_known_again_before_it_announces_again_when_all_three_are_restarted_one_by_one() {
    let mut token = tempfile::NamedTempFile::new().unwrap();
    token.write_all(TOKEN.as_bytes()).unwrap();
    let addresses = [free().await, free().await, free().await];
    let mut trackers = addresses.map(|address| Process::start(address, &addresses, token.path()));
    for tracker in &trackers {
        tracker.until_ready().await;
    }
    let ends = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> =
        (2001..2005).map(|port| tokio::spawn(client(port, addresses.to_vec(), Arc::clone(&ends)))).collect();
    // These announce once, and not again before their interval is over, which this test does not wait for.
    let seeds = 3000..3000 + CLIENTS;
    for port in seeds.clone() {
        assert!(announce(addresses[usize::from(port) % 3], port, true).await);
    }
    let seeds: BTreeSet<_> = seeds.map(|port| (format!("127.0.0.1:{port}"), true)).collect();
    for tracker in &trackers {
        until_all_are_known(tracker, seeds.clone()).await;
    }
    for (nth, tracker) in trackers.iter_mut().enumerate() {
        tracker.stop();
        tracker.start_again();
        let [first, last] = until_all_are_known(tracker, seeds.clone()).await.map(|took| took.as_millis());
        println!("tracker {nth}: {CLIENTS} seeds known again {first} to {last} ms after its start");
        tracker.until_ready().await;
    }
    ends.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() <= 3, "a client failed more than once for each restart");
    }
}
