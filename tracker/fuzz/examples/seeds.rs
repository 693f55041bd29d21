//! Writes the seeds again: `cargo run --example seeds` in this folder.

use std::io::Result;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use torrent::WireId;
use tracker::directory::{At, Digest};
use tracker::peer::{Peer, State, Status};
use tracker::replication::frame::{Frame, Have, Stored, StoredKind, Told, Word};
use tracker::tick::Tick;

const MAGIC: [u8; 8] = 0x0417_2710_1980_u64.to_be_bytes();

const QUERY: &str = "info_hash=%01%02%03%04%05%06%07%08%09%0a%0b%0c%0d%0e%0f%10%11%12%13%14&peer_id=-XX0001-abcdefghijkl&port=6881";

fn main() -> Result<()> {
    udp()?;
    http()?;
    replication()
}

/// Conversations over UDP.
fn udp() -> Result<()> {
    let connect = [&MAGIC[..], &[0; 4], b"tran"].concat();
    let announce = |event, port: u16| {
        let mut body = [&[0; 8], &[0, 0, 0, 1][..], b"tran", &[0xaa; 20], b"-XX0001-abcdefghijkl"].concat();
        body.extend([[0; 8], [0, 0, 0, 0, 0, 0, 0, 5], [0; 8]].as_flattened());
        body.extend([0, 0, 0, event]);
        body.extend([0; 8]);
        body.extend((-1i32).to_be_bytes());
        body.extend(port.to_be_bytes());
        body
    };
    let scrape = [&[0; 8], &[0, 0, 0, 2][..], b"tran", &[0xaa; 20], &[0xbb; 20]].concat();
    let with_options = [&announce(2, 2000), &b"\x01\x02\x09/announce\0"[..]].concat();
    let seeds: [(&str, &[(u8, &[u8])]); 5] = [
        ("connect", &[(0, &connect), (2, &connect), (4, &connect), (0xff, &connect)]),
        (
            "announce",
            &[(1, &with_options), (3, &announce(0, 2001)), (9, &announce(1, 2002)), (1, &announce(3, 2000))],
        ),
        ("announce_v6", &[(5, &announce(2, 2000)), (7, &announce(0, 2001))]),
        ("scrape", &[(1, &announce(2, 2000)), (1, &scrape), (1, &scrape[..16])]),
        ("refused", &[(0, &announce(2, 2000)), (1, &announce(2, 22)), (1, &connect)]),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/tracker_udp");
    std::fs::create_dir_all(&folder)?;
    for (name, packets) in seeds {
        let mut bytes = Vec::new();
        for (sender, packet) in packets {
            let length = packet.len().div_ceil(8);
            bytes.extend([*sender, length as u8]);
            bytes.extend(*packet);
            bytes.resize(bytes.len() + length * 8 - packet.len(), 0);
        }
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

/// What clients send over HTTP.
fn http() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/tracker_http");
    std::fs::create_dir_all(&folder)?;
    let announce = |more: &str| format!("GET /announce?{QUERY}{more} HTTP/1.1\r\n");
    for (name, request) in [
        ("bare", announce("") + "\r\n"),
        ("old", format!("GET /announce?{QUERY} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")),
        ("aria2", announce("&uploaded=0&downloaded=0&left=268435456&compact=1&key=%00%ff%26%3d%25abc&numwant=50&no_peer_id=1&event=started&supportcrypto=1") + "Host: a\r\nConnection: close\r\n\r\n"),
        ("libtorrent", announce("&key=5A1B2C3D&numwant=200&compact=0&event=completed") + "Accept-Encoding: gzip\r\nConnection: close\r\n\r\n"),
        ("sidecar", announce("&left=0&node=node-1&event=stopped") + "authorization: Bearer token\r\n\r\n"),
        ("absolute", "HEAD http://a:6969/%74oken/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa&info_hash=bbbbbbbbbbbbbbbbbbbb HTTP/1.1\n\n".into()),
        ("pipelined", announce("") + "\r\nGET /scrape HTTP/1.1\r\n\r\n"),
        ("body", "GET /announce HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n".into()),
        ("other", "PUT /v1/registry HTTP/1.1\r\nexpect: 100-continue\r\nupgrade: h2c\r\n\r\n{}".into()),
    ] {
        std::fs::write(folder.join(name), request)?;
    }
    Ok(())
}

/// Streams of siblings.
fn replication() -> Result<()> {
    let v4 = |last, port, state| word(At::V4(Ipv4Addr::new(192, 0, 2, last)), port, state, 1);
    let v6 = |last: u128, port| word(At::V6(Ipv6Addr::from_bits(last)), port, State::Seeding, 1);
    let node = |name: &str, state| word(At::Node(name.into()), 6881, state, 1);
    let told = |first, words| Told { name: WireId([first; 20]), downloaded: 7, words };
    let stored = Stored {
        kind: StoredKind::Metainfo,
        name: "11".repeat(20),
        digest: [4; 32],
        bytes: 5,
        revisions: vec!["revision".to_owned(), "other".to_owned()],
    };
    let registered = vec![
        v4(1, 2001, State::Leeching),
        v6(1, 2002),
        node("n", State::Leeching),
        node("o", State::Seeding),
    ];
    let filled: Vec<Word> = (0..8).map(|last| v4(last, 2000, State::Seeding)).collect();
    let one_source =
        (2000..2004).map(|port| v4(1, port, State::Leeching)).chain((0..4).map(|last| v6(last, 1))).collect();
    let twice = vec![
        v4(1, 1, State::Leeching),
        Word { completed: true, ..v4(1, 1, State::Seeding) },
        v4(1, 1, State::Gone),
    ];
    let old = vec![word(At::V4(Ipv4Addr::LOCALHOST), 1, State::Seeding, 10_000)];
    let seeds: [(&str, u8, Vec<Frame>); 8] = [
        (
            "hello",
            2,
            vec![
                Frame::Hello { epoch: 1, now: Tick::START, ready: true },
                Frame::Registry([3; 32]),
                Frame::Current,
            ],
        ),
        (
            "have",
            255,
            vec![
                Frame::Have(Box::new(Have { stored: 1, swarms: Digest::default() })),
                Frame::Alive(Tick::START),
            ],
        ),
        (
            "stored",
            0,
            vec![Frame::Stored(vec![stored.clone(), Stored { kind: StoredKind::Manifest, ..stored }])],
        ),
        ("registered", 9, vec![Frame::Swarms(vec![told(0x11, registered.clone()), told(0x22, registered)])]),
        ("filled", 99, vec![Frame::Swarms((0..6).map(|first| told(first, filled.clone())).collect())]),
        ("one_source", 40, vec![Frame::Swarms(vec![told(1, one_source)])]),
        ("twice", 1, vec![Frame::Swarms(vec![told(1, twice)]), Frame::Alive(Tick::START)]),
        ("old", 255, vec![Frame::Swarms(vec![told(1, old)])]),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/tracker_replication");
    std::fs::create_dir_all(&folder)?;
    for (name, cut, frames) in seeds {
        let frames = frames.iter().flat_map(|frame| frame.encode().to_vec());
        std::fs::write(folder.join(name), std::iter::once(cut).chain(frames).collect::<Vec<u8>>())?;
    }
    Ok(())
}

/// A peer that was heard of so many seconds before the clock's start.
fn word(at: At, port: u16, state: State, age: u32) -> Word {
    let left = if state == State::Leeching { 5 << 20 } else { 0 };
    let status = Status { state, left, v2: false, announces: 1, still: 0, kept: 1_260 };
    let seen = Tick(Tick::START.0 - age * 10);
    Word { at, peer: Peer::new((), port, seen, status), completed: false }
}
