//! A tracker on a socket, and HTTP as bytes: clients of any age send what no library would.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)] // helpers of tests: a failure is the test's failure, and not every test needs all

pub mod conversation;

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use torrent::bencode::{self, Limits, Value};
use torrent::{Builder, Metainfo, RelPath, Version};
use tracker::{CancellationToken, Config, Listeners, ServeOptions, Token, Tracker};
use tracker_api::{RegisteredNode, RegisteredSwarm, Registry};

pub const TOKEN: &str = "the-token-of-the-class";

pub struct Running {
    pub address: SocketAddr,
    pub tracker: Tracker,
    stop: Stop,
}

/// Stops the tracker with the test.
struct Stop(CancellationToken);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

pub async fn start(listen: &str, public: bool) -> Running {
    start_with(listen, public, |_| {}).await
}

pub async fn start_with(listen: &str, public: bool, change: impl FnOnce(&mut ServeOptions)) -> Running {
    let listener = TcpListener::bind(listen).await.unwrap();
    let mut config = Config { public, ..config() };
    change(&mut config.serve);
    start_on(listener, config)
}

/// A closed tracker's.
pub fn config() -> Config {
    Config { token: Some(Token::new(TOKEN).unwrap()), ..Config::default() }
}

pub fn start_on(listeners: impl Into<Listeners>, config: Config) -> Running {
    let listeners = listeners.into();
    let address = listeners.http.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let tracker = Tracker::new(config).unwrap();
    let (serving, stop) = (tracker.clone(), shutdown.clone());
    tokio::spawn(async move { serving.serve(listeners, stop).await });
    Running { address, tracker, stop: Stop(shutdown) }
}

pub async fn closed() -> Running {
    start("127.0.0.1:0", false).await
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn bencode(&self) -> bencode::Dict<'_> {
        let value: Value<'_> = bencode::decode(&self.body, &LIMITS).unwrap();
        value.as_dict().unwrap()
    }

    pub fn failure(&self) -> String {
        self.bencode().get("failure reason").and_then(|value| value.as_str()).unwrap_or_default().to_owned()
    }

    pub fn int(&self, key: &str) -> i64 {
        self.bencode().get(key).unwrap().as_int().unwrap()
    }

    /// `ip:port` of `peers` and `peers6`, sorted.
    pub fn peers(&self) -> Vec<String> {
        let dict = self.bencode();
        let bytes = |key: &str| dict.get(key).and_then(|value| value.as_bytes()).unwrap_or_default().to_vec();
        let port = |bytes: &[u8]| u16::from_be_bytes(bytes.try_into().unwrap());
        let v4 = bytes("peers")
            .chunks(6)
            .map(|peer| {
                let ip: [u8; 4] = peer[..4].try_into().unwrap();
                SocketAddr::from((ip, port(&peer[4..]))).to_string()
            })
            .collect::<Vec<_>>();
        let v6 = bytes("peers6")
            .chunks(18)
            .map(|peer| {
                let ip: [u8; 16] = peer[..16].try_into().unwrap();
                SocketAddr::from((ip, port(&peer[16..]))).to_string()
            })
            .collect::<Vec<_>>();
        let mut all = [v4, v6].concat();
        all.sort();
        all
    }
}

const LIMITS: Limits = Limits { bytes: 1 << 20, tokens: 100_000, depth: 10 };

impl Running {
    pub fn stop(&self) {
        self.stop.0.cancel();
    }

    /// Sends bytes from an address and reads until the tracker closes.
    pub async fn raw(&self, from: IpAddr, request: &[u8]) -> Answer {
        exchange(self.connect(from).await, request).await
    }

    /// Connects from an address.
    pub async fn connect(&self, from: IpAddr) -> TcpStream {
        let to = if from.is_ipv6() == self.address.is_ipv6() {
            self.address
        } else {
            SocketAddr::new([127, 0, 0, 1].into(), self.address.port())
        };
        let socket = if from.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }.unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        let to = if to.ip().is_unspecified() { SocketAddr::new(from, to.port()) } else { to };
        socket.connect(to).await.unwrap()
    }

    /// The value of a metric.
    pub async fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics").await.text();
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, None, &[]).await
    }

    pub async fn send(&self, method: &str, path: &str, token: Option<&str>, body: &[u8]) -> Answer {
        let authorization =
            token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: tracker.example\r\nconnection: close\r\n{authorization}content-length: {}\r\n\r\n",
            body.len()
        );
        self.raw([127, 0, 0, 1].into(), &[head.as_bytes(), body].concat()).await
    }

    pub async fn announce(&self, from: &str, query: &str) -> Answer {
        let request = format!("GET /announce?{query} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        self.raw(from.parse().unwrap(), request.as_bytes()).await
    }

    pub async fn announce_as(&self, node: &str, token: Option<&str>, query: &str) -> Answer {
        self.send("GET", &format!("/announce?{query}&node={node}"), token, &[]).await
    }

    pub async fn register(&self, registry: &Registry) -> Answer {
        let body = serde_json::to_vec(registry).unwrap();
        let answer = self.send("PUT", tracker_api::REGISTRY_PATH, Some(TOKEN), &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }
}

pub async fn exchange(mut stream: TcpStream, request: &[u8]) -> Answer {
    // The tracker may answer and close before it has read all of a body that is too large.
    drop(stream.write_all(request).await);
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes).await);
    let end =
        bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("no head: {bytes:?}"));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}

pub fn encode(bytes: &[u8]) -> String {
    let digits = hex::encode(bytes).into_bytes();
    digits.chunks(2).flat_map(|digits| [b'%', digits[0], digits[1]]).map(char::from).collect()
}

/// What every announce has, for a torrent and a port.
pub fn query(info_hash: &[u8; 20], port: u16) -> String {
    format!(
        "info_hash={}&peer_id=-XX0001-%00%ff%26%3d%25bcdefgh&port={port}&uploaded=0&downloaded=0&left=5",
        encode(info_hash)
    )
}

pub fn swarm(revision: &str, infohashes: &[String]) -> RegisteredSwarm {
    RegisteredSwarm { revisions: vec![revision.to_owned()], infohashes: infohashes.to_vec(), manifest: None }
}

pub fn node(name: &str, addresses: &[&str]) -> RegisteredNode {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    RegisteredNode { name: name.to_owned(), addresses, zone: None }
}

pub fn torrent(bytes: &[u8]) -> Metainfo {
    let builder = Builder::new(Version::Hybrid, 1 << 14).unwrap();
    let mut hasher = builder.file_hasher(1);
    hasher.update(bytes);
    builder.build(vec![(RelPath::parse("a").unwrap(), hasher.finish())]).unwrap()
}
