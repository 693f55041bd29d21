//! Trackers that keep each other in step, over real sockets.
#![allow(clippy::unwrap_used, clippy::panic)] // a failure is the test's failure

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Running, TOKEN, config, node, query, start_on, swarm, torrent};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::AbortHandle;
use tracker::Config;
use tracker::lists::Lists;
use tracker_api::{METAINFO_PATH, REGISTRY_PATH, REPLICATION_PATH, Registry, SWARMS_PATH, SwarmReport};

const HASH: [u8; 20] = [0x42; 20];

/// How long anything may take. Nothing here is judged by its time.
const PATIENCE: Duration = Duration::from_mins(1);

async fn free() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn with_siblings(addresses: &[SocketAddr]) -> Config {
    Config { siblings: addresses.iter().map(|&address| url(address)).collect(), ..config() }
}

/// Two that know each other, with the same registry.
async fn pair() -> (Running, Running) {
    let (one, other) = (free().await, free().await);
    let addresses = [one.local_addr().unwrap(), other.local_addr().unwrap()];
    let one = start_on(one, with_siblings(&addresses[1..]));
    let other = start_on(other, with_siblings(&addresses[..1]));
    for tracker in [&one, &other] {
        tracker.register(&registry()).await;
    }
    (one, other)
}

fn registry() -> Registry {
    let nodes = vec![node("a", &["10.1.0.1"]), node("b", &["10.1.0.2"])];
    Registry { swarms: vec![swarm("rev", &[hex::encode(HASH)])], nodes, networks: vec![] }
}

/// Addresses of the peers that a tracker knows, sorted, with whether they are complete.
async fn peers(tracker: &Running) -> Vec<(String, bool)> {
    let answer = tracker.send("GET", SWARMS_PATH, Some(TOKEN), &[]).await;
    let reports: Vec<SwarmReport> = serde_json::from_slice(&answer.body).unwrap();
    let peers = reports.into_iter().flat_map(|report| report.peers);
    let mut peers: Vec<_> = peers.map(|peer| (peer.address, peer.left == 0)).collect();
    peers.sort();
    peers
}

async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what} does not come"));
}

async fn until_known(tracker: &Running, wanted: &[(&str, bool)]) {
    let wanted: Vec<_> = wanted.iter().map(|&(address, complete)| (address.to_owned(), complete)).collect();
    until(&format!("{wanted:?}"), || async { peers(tracker).await == wanted }).await;
}

async fn until_ready(tracker: &Running) {
    until("readiness", || async { tracker.get("/readyz").await.status == 200 }).await;
}

async fn metric(tracker: &Running, name: &str) -> u64 {
    let text = tracker.get("/metrics").await.text();
    let line = text.lines().find(|line| line.starts_with(&format!("samara_tracker_{name} ")));
    line.unwrap_or_else(|| panic!("{name} in {text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn what_one_hears_the_other_knows() {
    let (one, other) = pair().await;
    one.announce("127.0.0.2", &query(&HASH, 2001)).await;
    other.announce_as("b", Some(TOKEN), &query(&HASH, 6881)).await;
    let both = [("10.1.0.2:6881", false), ("127.0.0.2:2001", false)];
    until_known(&one, &both).await;
    until_known(&other, &both).await;
    one.announce("127.0.0.2", &query(&HASH, 2001).replace("left=5", "left=0&event=completed")).await;
    until_known(&other, &[("10.1.0.2:6881", false), ("127.0.0.2:2001", true)]).await;
    let scrape = other.get(&format!("/scrape?info_hash={}", common::encode(&HASH))).await;
    let files = scrape.bencode().get("files").unwrap().as_dict().unwrap();
    let count = |key| files.get(HASH).unwrap().as_dict().unwrap().get(key).unwrap().as_int().unwrap();
    assert_eq!((count("complete"), count("incomplete"), count("downloaded")), (1, 1, 1));
    let answer = other.announce("127.0.0.9", &query(&HASH, 2009)).await;
    assert_eq!(answer.peers(), ["10.1.0.2:6881", "127.0.0.2:2001"]);
}

#[tokio::test]
async fn who_leaves_one_is_gone_from_the_other() {
    let (one, other) = pair().await;
    one.announce("127.0.0.2", &query(&HASH, 2001)).await;
    until_known(&other, &[("127.0.0.2:2001", false)]).await;
    other.announce("127.0.0.2", &format!("{}&event=stopped", query(&HASH, 2001))).await;
    until_known(&one, &[]).await;
    assert!(peers(&other).await.is_empty());
}

#[tokio::test]
async fn a_newcomer_copies_its_sibling_before_it_is_ready() {
    let first = start_on(free().await, config());
    let metainfo = torrent(&vec![7; 100_000]);
    let names =
        vec![metainfo.info_hash_v1().unwrap().to_string(), metainfo.info_hash_v2().unwrap().to_string()];
    let path = format!("{METAINFO_PATH}{}", names[1]);
    let mut registry = registry();
    registry.swarms.push(swarm("more", &names));
    first.register(&registry).await;
    assert_eq!(first.send("PUT", &path, Some(TOKEN), &metainfo.encode()).await.status, 201);
    for port in 2000..2100 {
        first.announce("127.0.0.2", &query(&HASH, port)).await;
    }
    first.announce_as("a", Some(TOKEN), &query(&HASH, 6881)).await;

    let newcomer = start_on(free().await, with_siblings(&[first.address]));
    until_ready(&newcomer).await;
    assert_eq!(peers(&newcomer).await, peers(&first).await);
    assert_eq!(newcomer.send("GET", &path, Some(TOKEN), &[]).await.body, metainfo.encode());
    let status =
        |tracker| async move { Running::send(tracker, "GET", REGISTRY_PATH, Some(TOKEN), &[]).await.json() };
    assert_eq!(
        status(&newcomer).await["digest"],
        status(&first).await["digest"],
        "the operator need not send it"
    );
    assert_ne!(status(&newcomer).await["epoch"], status(&first).await["epoch"]);
}

#[tokio::test]
async fn without_a_sibling_it_is_ready_all_the_same() {
    let nobody = free().await.local_addr().unwrap();
    let tracker = start_on(free().await, with_siblings(&[nobody]));
    assert_eq!(tracker.get("/readyz").await.status, 503, "it waits for a sibling");
    tracker.register(&registry()).await;
    assert_eq!(tracker.announce("127.0.0.2", &query(&HASH, 2001)).await.status, 200, "and answers meanwhile");
    until_ready(&tracker).await;
}

#[tokio::test]
async fn two_that_start_together_do_not_wait_for_each_other_for_ever() {
    let (one, other) = pair().await;
    until_ready(&one).await;
    until_ready(&other).await;
}

#[tokio::test]
async fn metainfo_that_one_stores_the_other_has() {
    let (one, other) = pair().await;
    let metainfo = torrent(b"payload");
    let path = format!("{METAINFO_PATH}{}", metainfo.info_hash_v2().unwrap());
    until("a stream", || async { metric(&one, "siblings_told").await == 1 }).await;
    assert_eq!(
        one.send("PUT", &format!("{path}?revision=rev"), Some(TOKEN), &metainfo.encode()).await.status,
        201
    );
    until("the metainfo", || async { other.send("GET", &path, Some(TOKEN), &[]).await.status == 200 }).await;
    other.register(&Registry::default()).await;
    assert_eq!(
        other.send("GET", &path, Some(TOKEN), &[]).await.status,
        404,
        "it belongs to the revision there too"
    );
}

#[tokio::test]
async fn what_a_public_tracker_serves_its_sibling_serves_too() {
    let (one, other) = (free().await, free().await);
    let addresses = [one.local_addr().unwrap(), other.local_addr().unwrap()];
    let one = start_on(one, Config { public: true, ..with_siblings(&addresses[1..]) });
    let other = start_on(other, Config { public: true, ..with_siblings(&addresses[..1]) });
    one.announce("127.0.0.2", &query(&[9; 20], 2001)).await;
    until_known(&other, &[("127.0.0.2:2001", false)]).await;
}

#[tokio::test]
async fn a_swarm_that_is_registered_later_is_taken_in_then() {
    let (one, other) = pair().await;
    let mut more = registry();
    more.swarms.push(swarm("more", &["99".repeat(20)]));
    one.register(&more).await;
    one.announce("127.0.0.2", &query(&[0x99; 20], 2001)).await;
    one.announce("127.0.0.2", &query(&HASH, 2002)).await;
    until_known(&other, &[("127.0.0.2:2002", false)]).await;
    other.register(&more).await;
    until_known(&other, &[("127.0.0.2:2001", false), ("127.0.0.2:2002", false)]).await;
}

#[tokio::test]
async fn what_is_denied_is_not_taken_in_from_a_sibling_until_it_is_denied_no_more() {
    let (one, other) = pair().await;
    let denied = tracker::lists::parse(hex::encode(HASH).as_bytes()).unwrap();
    other.tracker.restrict(Lists { denied, ..Lists::default() });
    let mut more = registry();
    more.swarms.push(swarm("more", &["99".repeat(20)]));
    for tracker in [&one, &other] {
        tracker.register(&more).await;
    }
    one.announce("127.0.0.2", &query(&HASH, 2001)).await;
    one.announce("127.0.0.2", &query(&[0x99; 20], 2002)).await;
    until_known(&other, &[("127.0.0.2:2002", false)]).await;
    other.tracker.restrict(Lists::default());
    until_known(&other, &[("127.0.0.2:2001", false), ("127.0.0.2:2002", false)]).await;
}

#[tokio::test]
async fn a_tracker_that_is_its_own_sibling_finds_out() {
    let listener = free().await;
    let address = listener.local_addr().unwrap();
    let tracker = start_on(listener, with_siblings(&[address]));
    tracker.register(&registry()).await;
    tracker.announce("127.0.0.2", &query(&HASH, 2001)).await;
    until_ready(&tracker).await;
    until("the end of it", || async { metric(&tracker, "siblings_told").await == 0 }).await;
    assert_eq!(peers(&tracker).await.len(), 1);
}

#[tokio::test]
async fn only_who_has_the_token_hears_or_is_heard() {
    let first = start_on(free().await, config());
    first.register(&registry()).await;
    first.announce("127.0.0.2", &query(&HASH, 2001)).await;
    let other_token =
        Config { token: Some(tracker::Token::new("another").unwrap()), ..with_siblings(&[first.address]) };
    let stranger = start_on(free().await, other_token);
    until_ready(&stranger).await;
    assert_eq!(metric(&stranger, "siblings_heard").await, 0);
    assert_eq!(metric(&first, "siblings_told").await, 0);
    let request = format!(
        "GET {REPLICATION_PATH} HTTP/1.1\r\nhost: x\r\nconnection: close, upgrade\r\nupgrade: samara-replication/1\r\n\r\n"
    );
    assert_eq!(first.raw([127, 0, 0, 1].into(), request.as_bytes()).await.status, 401);
}

#[tokio::test]
async fn what_siblings_show_opens_what_can_be_read_and_nothing_else() {
    let tracker = start_on(free().await, config());
    tracker.register(&registry()).await;
    let purpose = [b"samara tracker sibling".as_slice(), &Sha256::digest(TOKEN)].concat();
    let credential = hex::encode(Sha256::digest(purpose));
    let ask = async |method, path| {
        tracker.send(method, path, Some(&credential), b"{\"swarms\":[],\"nodes\":[]}").await.status
    };
    assert_eq!(ask("GET", tracker_api::REGISTRY_CONTENT_PATH).await, 200);
    assert_eq!(ask("PUT", REGISTRY_PATH).await, 401);
    assert_eq!(ask("PUT", &format!("{METAINFO_PATH}{}", "1".repeat(40))).await, 401);
    assert_eq!(tracker.announce_as("a", Some(&credential), &query(&HASH, 6881)).await.status, 401);
}

#[tokio::test]
async fn another_version_is_refused_by_name() {
    let tracker = start_on(free().await, config());
    let request = format!(
        "GET {REPLICATION_PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\nupgrade: samara-replication/99\r\n\r\n"
    );
    let answer = tracker.raw([127, 0, 0, 1].into(), request.as_bytes()).await;
    assert_eq!((answer.status, answer.header("upgrade")), (426, Some("samara-replication/1")));
}

#[tokio::test]
async fn what_is_no_frame_ends_the_stream_and_nothing_else() {
    let tracker = start_on(free().await, config());
    let mut stream = TcpStream::connect(tracker.address).await.unwrap();
    let request = format!(
        "GET {REPLICATION_PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\nconnection: upgrade\r\nupgrade: samara-replication/1\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    stream.write_all(&[0xff; 64]).await.unwrap();
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the stream is closed");
    until("the end", || async { metric(&tracker, "siblings_told").await == 0 }).await;
    assert_eq!(tracker.get("/healthz").await.status, 200);
}

/// A way between two trackers that can be cut, or swallow what is sent.
struct Way {
    address: SocketAddr,
    to: SocketAddr,
    accepting: Option<AbortHandle>,
    swallows: Arc<AtomicBool>,
}

impl Way {
    async fn new(to: SocketAddr) -> Self {
        let listener = free().await;
        let address = listener.local_addr().unwrap();
        let mut way = Way { address, to, accepting: None, swallows: Arc::default() };
        way.carry(listener);
        way
    }

    fn carry(&mut self, listener: TcpListener) {
        let (to, swallows) = (self.to, Arc::clone(&self.swallows));
        let accepting = async move {
            // Dropped with it, and the connections with that.
            let mut carried = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let swallows = Arc::clone(&swallows);
                carried.spawn(async move {
                    let Ok(far) = TcpStream::connect(to).await else { return };
                    let ((near_out, near_in), (far_out, far_in)) = (near.into_split(), far.into_split());
                    let there = carry(near_out, far_in, Arc::clone(&swallows));
                    tokio::join!(there, carry(far_out, near_in, swallows));
                });
            }
        };
        self.accepting = Some(tokio::spawn(accepting).abort_handle());
    }

    /// The connections stay, and nothing comes through, as when a host has died.
    fn swallow(&self) {
        self.swallows.store(true, Ordering::Relaxed);
    }

    fn cut(&mut self) {
        self.accepting.take().unwrap().abort();
    }

    fn mend(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.carry(socket.listen(16).unwrap());
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, swallows: Arc<AtomicBool>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if !swallows.load(Ordering::Relaxed) && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_stream_on_which_nothing_comes_any_more_is_given_up_on_both_sides() {
    let first = start_on(free().await, config());
    let way = Way::new(first.address).await;
    let second = start_on(free().await, with_siblings(&[way.address]));
    until("a stream", || async { metric(&second, "siblings_heard").await == 1 }).await;
    way.swallow();
    // The way takes new connections as well, and swallows what they ask.
    until("its end here", || async { metric(&second, "siblings_heard").await == 0 }).await;
    until("its end there", || async { metric(&first, "siblings_told").await == 0 }).await;
}

/// Two that hear each other by ways that can be cut.
struct Parted {
    trackers: [Running; 2],
    ways: [Way; 2],
}

impl Parted {
    async fn start() -> Self {
        let listeners = [free().await, free().await];
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
        let ways = [Way::new(addresses[1]).await, Way::new(addresses[0]).await];
        let [one, other] = listeners;
        let trackers = [
            start_on(one, with_siblings(&[ways[0].address])),
            start_on(other, with_siblings(&[ways[1].address])),
        ];
        for tracker in &trackers {
            tracker.register(&registry()).await;
            until("a stream", || async { metric(tracker, "siblings_heard").await == 1 }).await;
        }
        Parted { trackers, ways }
    }

    async fn cut(&mut self) {
        self.ways.iter_mut().for_each(Way::cut);
        for tracker in &self.trackers {
            until("the cut", || async { metric(tracker, "siblings_heard").await == 0 }).await;
        }
    }

    fn mend(&mut self) {
        self.ways.iter_mut().for_each(Way::mend);
    }
}

#[tokio::test]
async fn after_a_partition_both_know_what_either_heard() {
    let mut parted = Parted::start().await;
    let [one, other] = &parted.trackers;
    one.announce("127.0.0.2", &query(&HASH, 2001)).await;
    one.announce("127.0.0.2", &query(&HASH, 2002)).await;
    until_known(other, &[("127.0.0.2:2001", false), ("127.0.0.2:2002", false)]).await;

    parted.cut().await;
    let [one, other] = &parted.trackers;
    one.announce("127.0.0.2", &format!("{}&event=stopped", query(&HASH, 2001))).await;
    one.announce("127.0.0.3", &query(&HASH, 2003)).await;
    other.announce("127.0.0.2", &query(&HASH, 2002).replace("left=5", "left=0")).await;
    other.announce_as("b", Some(TOKEN), &query(&HASH, 6881)).await;
    assert_ne!(peers(one).await, peers(other).await);

    parted.mend();
    let all = [("10.1.0.2:6881", false), ("127.0.0.2:2002", true), ("127.0.0.3:2003", false)];
    for tracker in &parted.trackers {
        until_known(tracker, &all).await;
    }
}

#[tokio::test]
#[ignore = "a minute, by its nature"]
async fn after_a_partition_of_a_minute_in_which_peers_come_complete_and_leave_both_know_the_same() {
    const SECONDS: u16 = 60;
    let mut parted = Parted::start().await;
    for port in 2000..2000 + SECONDS {
        parted.trackers[0].announce("127.0.0.2", &query(&HASH, port)).await;
    }
    until("all that were there before", || async {
        peers(&parted.trackers[1]).await.len() == usize::from(SECONDS)
    })
    .await;
    parted.cut().await;
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    for nth in 0..SECONDS {
        clock.tick().await;
        for (side, tracker) in (0..).zip(&parted.trackers) {
            tracker.announce("127.0.0.3", &query(&HASH, 3000 + 1000 * side + nth)).await;
        }
        // Of those that both know, one completes on this side or leaves on that.
        let (side, change) = if nth % 2 == 0 { (0, "&event=completed") } else { (1, "&event=stopped") };
        let said = query(&HASH, 2000 + nth).replace("left=5", "left=0") + change;
        parted.trackers[side].announce("127.0.0.2", &said).await;
    }
    let [one, other] = &parted.trackers;
    assert_ne!(peers(one).await, peers(other).await);

    let healed = std::time::Instant::now();
    parted.mend();
    let [one, other] = &parted.trackers;
    until("the same at both", || async { peers(one).await == peers(other).await }).await;
    println!("both know the same {} ms after a partition of {SECONDS} s", healed.elapsed().as_millis());
    let all = peers(one).await;
    let completed = all.iter().filter(|(_, complete)| *complete).count();
    assert_eq!((all.len(), completed), (usize::from(SECONDS) * 5 / 2, usize::from(SECONDS) / 2));
}

#[tokio::test]
async fn all_are_restarted_one_after_the_other_and_nobody_is_forgotten() {
    let listeners = [free().await, free().await, free().await];
    let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let mut trackers = Vec::new();
    for listener in listeners {
        trackers.push(start_on(listener, with_siblings(&addresses)));
    }
    trackers[0].register(&registry()).await;
    for port in 2000..2050 {
        trackers[0].announce("127.0.0.2", &query(&HASH, port)).await;
    }
    let all = peers(&trackers[0]).await;
    for nth in 0..3 {
        // They have no registry of their own yet, only what they copy.
        until_ready(&trackers[nth]).await;
        drop(trackers.remove(nth));
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        let listener = async {
            loop {
                match socket.bind(addresses[nth]) {
                    Ok(()) => break socket.listen(16).unwrap(),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let again = start_on(listener.await, with_siblings(&addresses));
        until_ready(&again).await;
        assert_eq!(peers(&again).await, all, "tracker {nth}");
        trackers.insert(nth, again);
    }
}
