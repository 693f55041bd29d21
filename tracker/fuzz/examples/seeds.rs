//! Writes the seeds again: `cargo run --example seeds` in this folder.

use std::io::Result;
use std::path::Path;

const MAGIC: [u8; 8] = 0x0417_2710_1980_u64.to_be_bytes();

const QUERY: &str = "info_hash=%01%02%03%04%05%06%07%08%09%0a%0b%0c%0d%0e%0f%10%11%12%13%14&peer_id=-XX0001-abcdefghijkl&port=6881";

fn main() -> Result<()> {
    udp()?;
    http()
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
