//! Peers that lie, stall and talk nonsense (T21-T40).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so and ends")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::scripted::{self, Answer, Connection};
use common::{PATIENCE, TestTorrent, below, complete, engine, seed};
use swarm::wire::{Block, Capabilities, HANDSHAKE_LEN, Handshake, HashRequest, Message, PeerId};
use swarm::{Assume, Engine, EngineConfig, TorrentHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use torrent::merkle::{self, Hash};
use torrent::{Version, WireId};

const PIECE: usize = 64 * 1024;

fn torrent() -> TestTorrent {
    TestTorrent::new(Version::Hybrid, PIECE as u64, &[("data", 32 * PIECE + 5)])
}

fn honest() -> Answer {
    Arc::new(|_, bytes| Some(bytes.to_vec()))
}

fn flipping() -> Answer {
    Arc::new(|_, bytes| {
        let mut bytes = bytes.to_vec();
        bytes[0] ^= 1;
        Some(bytes)
    })
}

async fn scripted_seed(torrent: &TestTorrent, id: u8, answer: Answer) -> SocketAddr {
    scripted::seed(torrent.metainfo.clone(), torrent.files[0].bytes.clone(), id, answer).await
}

async fn fetch(torrent: &TestTorrent, peers: Vec<SocketAddr>) -> TorrentHandle {
    let folder = tempfile::tempdir().unwrap();
    let to = engine().await;
    let handle = to.add(torrent.spec(folder.path(), Assume::Journal, peers)).await.unwrap();
    complete(&handle).await;
    torrent.check(folder.path());
    handle
}

#[tokio::test(flavor = "multi_thread")]
async fn t030_a_liar_is_banned_and_the_data_is_whole() {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let to = engine().await;
    let peers = vec![scripted_seed(&torrent, b'x', flipping()).await];
    let handle = to.add(torrent.spec(folder.path(), Assume::Journal, peers)).await.unwrap();
    let mut stats = handle.changed();
    let banned = stats.wait_for(|stats| stats.banned > 0);
    tokio::time::timeout(PATIENCE, banned).await.unwrap().unwrap();
    handle.add_peers(vec![scripted_seed(&torrent, b'h', honest()).await]);
    complete(&handle).await;
    torrent.check(folder.path());
    let stats = handle.stats();
    assert_eq!(stats.banned, 1);
    assert!(stats.wasted <= PIECE as u64, "{} bytes wasted on one liar", stats.wasted);
}

/// CRC-32 (IEEE 802.3).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn t032_other_bytes_with_the_same_crc_are_noticed() {
    let forging: Answer = Arc::new(|_, honest| {
        let mut bytes = honest.to_vec();
        // The polynomial itself, its first bit first: what it is a factor of leaves the sum as it is.
        for (at, flips) in [0x41, 0x06, 0x71, 0xdb, 0x01].into_iter().enumerate() {
            bytes[at] ^= flips;
        }
        assert_eq!(crc32(&bytes), crc32(honest));
        Some(bytes)
    });
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let to = engine().await;
    let peers = vec![scripted_seed(&torrent, b'x', forging).await];
    let handle = to.add(torrent.spec(folder.path(), Assume::Journal, peers)).await.unwrap();
    let mut stats = handle.changed();
    let banned = stats.wait_for(|stats| stats.banned > 0);
    let (have, banned) =
        tokio::time::timeout(PATIENCE, banned).await.unwrap().map(|s| (s.have, s.banned)).unwrap();
    assert_eq!((have, banned), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn t031_seven_of_eight_lie_and_it_completes() {
    let torrent = torrent();
    let mut peers = Vec::new();
    for liar in 0..7 {
        peers.push(scripted_seed(&torrent, liar, flipping()).await);
    }
    // Three liars behind one address ban the address, the honest one's too: it is a stranger's bad neighbourhood. So it
    // lives elsewhere.
    let elsewhere = "127.0.0.2:0".parse().unwrap();
    let from = Engine::start(EngineConfig { listen: vec![elsewhere], ..common::config() }).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    seed(&from, &torrent, &below(&folder, "seed")).await;
    peers.extend(from.addresses());
    let stats = fetch(&torrent, peers).await.stats();
    assert!(stats.wasted <= 7 * PIECE as u64, "{} bytes wasted on seven liars", stats.wasted);
}

#[tokio::test(flavor = "multi_thread")]
async fn t040_a_silent_peer_is_left_for_another() {
    let torrent = torrent();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let silent = scripted_seed(
        &torrent,
        b's',
        Arc::new(move |_, _| {
            counter.fetch_add(1, Ordering::Relaxed);
            None
        }),
    );
    let folder = tempfile::tempdir().unwrap();
    let to = engine().await;
    let handle = to.add(torrent.spec(folder.path(), Assume::Journal, vec![silent.await])).await.unwrap();
    let started = Instant::now();
    while asked.load(Ordering::Relaxed) == 0 {
        assert!(started.elapsed() < PATIENCE, "the silent one was never asked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    handle.add_peers(vec![scripted_seed(&torrent, b'h', honest()).await]);
    complete(&handle).await;
    torrent.check(folder.path());
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked <= PIECE / 16384, "it has proved nothing, and {asked} blocks were asked of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dialled_us_is_dialled_at_the_port_that_it_names_when_it_is_gone() {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let to = engine().await;
    let handle = to.add(torrent.spec(folder.path(), Assume::Journal, Vec::new())).await.unwrap();
    let port = scripted_seed(&torrent, b'h', honest()).await.port();
    let mut peer = Connection::dial_and_name_port(to.addresses()[0], &torrent.metainfo, b'h', port).await;
    // It answers what comes after the extension handshake: that has been heard.
    peer.send(Message::HashRequest(HashRequest { root: [0; 32], base: 0, index: 0, length: 2, proofs: 0 }))
        .await;
    while !peer.next(|message| matches!(message, Message::HashReject(_))).await.unwrap() {}
    drop(peer);
    complete(&handle).await;
}

/// Connects to a seed, sends what `talk` says, and expects to be cut off.
async fn is_cut_off(messages: &[Message<'_>]) -> bool {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let from = engine().await;
    seed(&from, &torrent, folder.path()).await;
    let mut peer = Connection::dial(from.addresses()[0], &torrent.metainfo, b'p').await;
    for message in messages {
        peer.send(*message).await;
    }
    let closed = peer.is_closed().await;
    // Others are served all the same.
    fetch(&torrent, from.addresses().to_vec()).await;
    closed
}

#[tokio::test(flavor = "multi_thread")]
async fn t024_t025_nonsense_about_pieces_ends_the_connection() {
    assert!(is_cut_off(&[Message::Bitfield(&[0xff; 3])]).await);
    assert!(is_cut_off(&[Message::Bitfield(&[0xff; 5])]).await);
    assert!(is_cut_off(&[Message::HaveNone, Message::HaveNone]).await);
    assert!(is_cut_off(&[Message::Have(0), Message::Bitfield(&[0; 5])]).await);
    assert!(is_cut_off(&[Message::Have(33)]).await);
    assert!(is_cut_off(&[Message::Have(u32::MAX)]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn t026_requests_outside_the_piece_end_the_connection() {
    for (piece, begin, len) in
        [(0, 0, 0), (0, 0, 16385), (0, 65536, 1), (0, u32::MAX, 2), (32, 0, 65537), (99, 0, 1), (0, 65530, 7)]
    {
        assert!(is_cut_off(&[Message::Request(Block { piece, begin, len })]).await, "{piece} {begin} {len}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t033_t036_senseless_hash_requests_and_extension_bombs_end_the_connection() {
    let request = HashRequest { root: [0; 32], base: 0, index: 0, length: 3, proofs: 0 };
    assert!(is_cut_off(&[Message::HashRequest(request)]).await);
    assert!(is_cut_off(&[Message::Extended { id: 0, payload: &[b'l'; 5000] }]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn t021_a_frame_of_4_gib_ends_the_connection() {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let from = engine().await;
    seed(&from, &torrent, folder.path()).await;
    let mut peer = Connection::dial(from.addresses()[0], &torrent.metainfo, b'p').await;
    peer.send_raw(&[0xff; 5]).await;
    assert!(peer.is_closed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn hash_requests_that_make_sense_are_answered_and_t033_others_rejected() {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let from = engine().await;
    seed(&from, &torrent, folder.path()).await;
    let mut peer = Connection::dial(from.addresses()[0], &torrent.metainfo, b'p').await;
    let root = torrent.metainfo.files()[0].pieces_root.unwrap();
    // 32 pieces of 64 KiB: the piece layer is the second above the leaves.
    let pieces = HashRequest { root, base: 2, index: 0, length: 32, proofs: 0 };
    peer.send(Message::HashRequest(pieces)).await;
    let layer = torrent.metainfo.layer(&root).unwrap()[..32].as_flattened();
    while !peer.next(|it| it == Message::Hashes { request: pieces, hashes: layer }).await.unwrap() {}
    // The leaves of the second piece, which are nowhere but in its bytes.
    let leaves = HashRequest { root, base: 0, index: 4, length: 4, proofs: 6 };
    peer.send(Message::HashRequest(leaves)).await;
    let bytes = &torrent.files[0].bytes[PIECE..2 * PIECE];
    let hashes: Vec<Hash> = bytes.chunks(16384).map(merkle::leaf).collect();
    let is_right = |message: Message<'_>| match message {
        Message::Hashes { request, hashes: found } => {
            request == leaves && found[..128] == *hashes.as_flattened() && found.len() == 32 * 9
        }
        _ => false,
    };
    while !peer.next(is_right).await.unwrap() {}
    for senseless in [HashRequest { root: [7; 32], ..pieces }, HashRequest { base: 9, ..pieces }] {
        peer.send(Message::HashRequest(senseless)).await;
        while !peer.next(|message| message == Message::HashReject(senseless)).await.unwrap() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t027_a_flood_of_requests_is_served_or_rejected_one_by_one() {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let from = engine().await;
    seed(&from, &torrent, folder.path()).await;
    let mut peer = Connection::dial(from.addresses()[0], &torrent.metainfo, b'p').await;
    let mut bytes = Vec::new();
    for index in 0..2000 {
        let block = Block { piece: index % 32, begin: 0, len: 16384 };
        Message::Request(block).encode(&mut bytes);
    }
    peer.send_raw(&bytes).await;
    let mut answered = 0;
    while answered < 2000 {
        let is_answer =
            peer.next(|message| matches!(message, Message::Piece { .. } | Message::Reject(_))).await;
        answered += usize::from(is_answer.expect("the connection stays open"));
    }
}

/// What comes back from `address` on a handshake; `None`: it is closed.
async fn answer(address: SocketAddr, handshake: Handshake) -> Option<Handshake> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&handshake.encode()).await.unwrap();
    let mut answer = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut answer).await.ok()?;
    Some(Handshake::decode(&answer).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn t035_the_bit_of_v2_leads_to_a_v2_side_or_to_nothing() {
    for version in [Version::V1, Version::Hybrid] {
        let torrent = TestTorrent::new(version, PIECE as u64, &[("data", 5 * PIECE)]);
        let folder = tempfile::tempdir().unwrap();
        let from = engine().await;
        seed(&from, &torrent, folder.path()).await;
        let id = WireId::from(torrent.metainfo.info_hash_v1().unwrap());
        for v2 in [true, false] {
            let capabilities = Capabilities { v2, ..Capabilities::default() };
            let ours = Handshake { capabilities, id, peer_id: PeerId([1; 20]) };
            let theirs = answer(from.addresses()[0], ours).await.map(|theirs| theirs.id);
            let upgraded = torrent.metainfo.info_hash_v2().map(WireId::from);
            assert_eq!(theirs, if v2 { upgraded } else { Some(id) }, "{version:?}");
        }
        fetch(&torrent, from.addresses().to_vec()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t035_who_answers_with_a_v2_side_that_the_torrent_has_not_is_left() {
    let torrent = TestTorrent::new(Version::V1, PIECE as u64, &[("data", 5 * PIECE)]);
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (engine().await, engine().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peers = vec![listener.local_addr().unwrap()];
    let handle = to.add(torrent.spec(folder.path(), Assume::Journal, peers)).await.unwrap();
    for id in [torrent.metainfo.wire_ids()[0], WireId([9; 20])] {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = [0; HANDSHAKE_LEN];
        stream.read_exact(&mut bytes).await.unwrap();
        let asked = Handshake::decode(&bytes).unwrap();
        assert!(!asked.capabilities.v2, "it has no v2 side");
        let capabilities = Capabilities { v2: true, fast: true, extended: false };
        stream.write_all(&Handshake { capabilities, id, peer_id: PeerId([1; 20]) }.encode()).await.unwrap();
        // Under the id that was asked for it is a peer as others are.
        let said = stream.read(&mut bytes).await.is_ok_and(|read| read > 0);
        assert_eq!(said, id == asked.id);
    }
    seed(&from, &torrent, &below(&folder, "seed")).await;
    handle.add_peers(from.addresses().to_vec());
    complete(&handle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t022_those_who_dawdle_over_the_handshake_are_few_and_not_for_long() {
    let torrent = torrent();
    let folder = tempfile::tempdir().unwrap();
    let from = engine().await;
    seed(&from, &torrent, &below(&folder, "seed")).await;
    let started = Instant::now();
    let slow: Vec<_> = (0..100).map(|_| tokio::spawn(dawdles(from.addresses()[0]))).collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let left = slow.iter().filter(|one| !one.is_finished()).count();
    assert_eq!(left, 32, "of one address");
    // Others are served meanwhile.
    let elsewhere = vec!["127.0.0.2:0".parse().unwrap()];
    let to = Engine::start(EngineConfig { listen: elsewhere, ..common::config() }).await.unwrap();
    let spec = torrent.spec(&below(&folder, "leech"), Assume::Journal, from.addresses().to_vec());
    complete(&to.add(spec).await.unwrap()).await;
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
    for one in slow {
        one.await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    fetch(&torrent, from.addresses().to_vec()).await;
}

/// Sends a byte of a handshake each second, until it is cut off.
async fn dawdles(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut end = [0];
    loop {
        let cut_off = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut end)).await;
        if cut_off.is_ok() || stream.write_all(&[19]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t023_an_unknown_torrent_gets_no_answer() {
    let torrent = torrent();
    let from = engine().await;
    let capabilities = Capabilities::default();
    let id = torrent.metainfo.wire_ids()[0];
    let handshake = Handshake { capabilities, id, peer_id: PeerId([1; 20]) };
    assert_eq!(answer(from.addresses()[0], handshake).await, None);
}
