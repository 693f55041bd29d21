//! A tracker that speaks UDP, and a client of it that writes bytes.
#![allow(clippy::unwrap_used, clippy::panic, dead_code)] // helpers of tests: a failure is the test's failure, and not every test needs all

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tracker::udp::Sockets;
use tracker::{Config, Listeners};

use crate::common::{Running, config, start_on};

pub const MAGIC: [u8; 8] = 0x0417_2710_1980_u64.to_be_bytes();
/// What does not come in this time does not come; only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A tracker with the token, and two workers.
pub async fn start(listen: &str, public: bool) -> Running {
    start_with(listen, Config { public, ..config() }).await
}

pub async fn start_with(listen: &str, config: Config) -> Running {
    let http = TcpListener::bind(listen).await.unwrap();
    let udp = Sockets::bind(http.local_addr().unwrap(), NonZeroU16::new(2).unwrap()).unwrap();
    start_on(Listeners { http, udp: Some(udp) }, config)
}

pub struct Client {
    socket: UdpSocket,
}

/// One announce.
#[derive(Clone)]
pub struct Announce {
    pub info_hash: [u8; 20],
    pub peer_id: [u8; 20],
    pub left: u64,
    pub event: u32,
    pub ip: [u8; 4],
    pub num_want: i32,
    pub port: u16,
}

impl Announce {
    pub fn new(info_hash: [u8; 20], port: u16) -> Self {
        Announce {
            info_hash,
            peer_id: *b"-XX0001-abcdefghijkl",
            left: 5,
            event: 0,
            ip: [0; 4],
            num_want: -1,
            port,
        }
    }

    pub fn body(&self) -> Vec<u8> {
        [
            &self.info_hash[..],
            &self.peer_id,
            &[0; 8],
            &self.left.to_be_bytes(),
            &[0; 8],
            &self.event.to_be_bytes(),
            &self.ip,
            &[0; 4],
            &self.num_want.to_be_bytes(),
            &self.port.to_be_bytes(),
        ]
        .concat()
    }
}

/// What an announce was answered with.
#[derive(Debug, PartialEq, Eq)]
pub struct Announced {
    pub interval: u32,
    pub incomplete: u32,
    pub complete: u32,
    /// Sorted.
    pub peers: Vec<String>,
}

impl Client {
    /// One that sends from an address to a tracker.
    pub async fn new(tracker: &Running, from: &str) -> Self {
        Self::of_port(tracker.address.port(), from).await
    }

    /// The same for one of which only the port is known.
    pub async fn of_port(port: u16, from: &str) -> Self {
        let from: IpAddr = from.parse().unwrap();
        let socket = UdpSocket::bind((from, 0)).await.unwrap();
        // On loopback all of 127/8 is there, and a socket of both families hears it.
        let to: IpAddr = if from.is_ipv6() { from } else { [127, 0, 0, 1].into() };
        socket.connect(SocketAddr::new(to, port)).await.unwrap();
        Client { socket }
    }

    pub async fn send(&self, packet: &[u8]) {
        self.socket.send(packet).await.unwrap();
    }

    pub async fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let received = tokio::time::timeout(PATIENCE, self.socket.recv(&mut buffer)).await;
        buffer[..received.expect("there is an answer").unwrap()].to_vec()
    }

    /// The connection id that the tracker gives.
    pub async fn connect(&self) -> [u8; 8] {
        self.send(&connect(*b"conn")).await;
        let answer = self.receive().await;
        assert_eq!((answer.len(), &answer[..8]), (16, &b"\0\0\0\0conn"[..]));
        answer[8..].try_into().unwrap()
    }

    /// Sends a packet and tells whether it has an answer. Packets of one client are answered in order, so that the answer to the next
    /// one says that there is none to this.
    pub async fn is_answered(&self, packet: &[u8]) -> bool {
        self.send(packet).await;
        self.send(&connect(*b"next")).await;
        let answered = self.receive().await[4..8] != *b"next";
        if answered {
            self.receive().await;
        }
        answered
    }

    /// Asks for something under a new connection id, and answers what is said behind action and transaction.
    pub async fn ask(&self, action: u32, body: &[u8]) -> Vec<u8> {
        let id = self.connect().await;
        self.send(&request(id, action, body)).await;
        let answer = self.receive().await;
        assert_eq!(answer[..8], [&action.to_be_bytes()[..], b"tran"].concat(), "{answer:?}");
        answer[8..].to_vec()
    }

    pub async fn announce(&self, announce: &Announce) -> Announced {
        self.announce_with(announce, &[]).await
    }

    /// With options of BEP 41.
    pub async fn announce_with(&self, announce: &Announce, options: &[u8]) -> Announced {
        let answer = self.ask(1, &[&announce.body(), options].concat()).await;
        let number = |at: usize| u32::from_be_bytes(answer[at..at + 4].try_into().unwrap());
        let size = if self.socket.local_addr().unwrap().is_ipv4() { 6 } else { 18 };
        let (peers, rest) = answer[12..].split_at((answer.len() - 12) / size * size);
        assert!(rest.is_empty());
        let mut peers: Vec<String> = peers.chunks(size).map(peer).collect();
        peers.sort();
        Announced { interval: number(0), incomplete: number(4), complete: number(8), peers }
    }

    /// Seeders, completed, leechers for each.
    pub async fn scrape(&self, hashes: &[[u8; 20]]) -> Vec<[u32; 3]> {
        let answer = self.ask(2, hashes.as_flattened()).await;
        let number = |four: &[u8]| u32::from_be_bytes(four.try_into().unwrap());
        assert!(answer.len().is_multiple_of(12));
        answer.chunks(12).map(|said| [number(&said[..4]), number(&said[4..8]), number(&said[8..])]).collect()
    }

    /// The words with which something is refused.
    pub async fn refused(&self, action: u32, body: &[u8]) -> String {
        let id = self.connect().await;
        self.send(&request(id, action, body)).await;
        let answer = self.receive().await;
        assert_eq!(&answer[..8], b"\0\0\0\x03tran");
        String::from_utf8(answer[8..].to_vec()).unwrap()
    }
}

pub fn connect(transaction: [u8; 4]) -> Vec<u8> {
    [&MAGIC[..], &[0; 4], &transaction].concat()
}

pub fn request(id: [u8; 8], action: u32, body: &[u8]) -> Vec<u8> {
    [&id[..], &action.to_be_bytes(), b"tran", body].concat()
}

fn peer(bytes: &[u8]) -> String {
    let (ip, port) = bytes.split_at(bytes.len() - 2);
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).unwrap()),
        _ => IpAddr::from(<[u8; 16]>::try_from(ip).unwrap()),
    };
    SocketAddr::new(ip, u16::from_be_bytes(port.try_into().unwrap())).to_string()
}
