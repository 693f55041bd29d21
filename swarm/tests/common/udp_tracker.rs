//! A UDP tracker that answers everything alike and remembers what it was told. Before each answer it sends what no client may
//! take for one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swarm::TrackerSpec;
use tokio::net::UdpSocket;

use super::PATIENCE;

/// How it answers announces.
#[derive(Clone)]
pub enum Manner {
    /// With these peers.
    Peers(Vec<SocketAddr>),
    /// With an error packet.
    Refuse(&'static str),
    /// The first of each address and infohash without peers, and no other.
    FallSilent,
}

/// An announce as it came.
#[derive(Clone, Debug)]
pub struct Announced {
    pub from: SocketAddr,
    pub info_hash: Vec<u8>,
    pub left: u64,
    /// 0 none, 1 completed, 2 started, 3 stopped.
    pub event: u8,
    pub num_want: u32,
    pub port: u16,
    pub options: Vec<u8>,
}

/// What it has heard.
#[derive(Default)]
pub struct Heard {
    pub announces: Vec<Announced>,
    /// Whom it gave a connection id, which is its place in the list.
    pub connections: Vec<SocketAddr>,
}

pub struct UdpTracker {
    pub address: SocketAddr,
    pub heard: Arc<Mutex<Heard>>,
}

impl UdpTracker {
    pub async fn start(at: &str, manner: Manner) -> Self {
        let socket = UdpSocket::bind(at).await.unwrap();
        let address = socket.local_addr().unwrap();
        let heard = Arc::<Mutex<Heard>>::default();
        let shared = heard.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                let answer = shared.lock().unwrap().answer(&buffer[..len], from, &manner);
                let Some(answer) = answer else { continue };
                // The beginning of an error is an error.
                let short = if answer[3] == 3 { 7 } else { 12 };
                let mut foreign = answer.clone();
                foreign[7] ^= 1;
                let error = [b"\0\0\0\x03".as_slice(), &foreign[4..8], b"not for you"].concat();
                for datagram in [&[][..], &answer[..short], &foreign, &error, &answer] {
                    socket.send_to(datagram, from).await.unwrap();
                }
            }
        });
        Self { address, heard }
    }

    pub fn spec(&self) -> TrackerSpec {
        TrackerSpec { url: format!("udp://{}/announce?key=1", self.address), bearer: None, node: None }
    }

    /// Waits for an announce of which this holds.
    pub async fn wait_for(&self, what: &str, holds: impl Fn(&Announced) -> bool) -> Announced {
        let started = std::time::Instant::now();
        loop {
            let heard = self.heard.lock().unwrap().announces.clone();
            if let Some(found) = heard.iter().find(|announced| holds(announced)) {
                return found.clone();
            }
            assert!(started.elapsed() < PATIENCE, "{what} was not heard, but {heard:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Heard {
    fn answer(&mut self, datagram: &[u8], from: SocketAddr, manner: &Manner) -> Option<Vec<u8>> {
        let transaction = &datagram[12..16];
        if datagram[8..12] == [0; 4] {
            assert_eq!(number(&datagram[..8]), 0x0417_2710_1980, "a connect has the magic number");
            self.connections.push(from);
            let id = self.connections.len() as u64 - 1;
            return Some([&[0; 4], transaction, &id.to_be_bytes()].concat());
        }
        assert_eq!(datagram[8..12], [0, 0, 0, 1], "clients connect and announce");
        let id = number(&datagram[..8]);
        assert_eq!(self.connections.get(id as usize), Some(&from), "an id holds for whom it was given to");
        let announced = Announced {
            from,
            info_hash: datagram[16..36].to_vec(),
            left: number(&datagram[64..72]),
            event: datagram[83],
            num_want: number(&datagram[92..96]) as u32,
            port: number(&datagram[96..98]) as u16,
            options: datagram[98..].to_vec(),
        };
        let same = |other: &&Announced| other.info_hash == announced.info_hash && other.from == from;
        let is_first = self.announces.iter().find(same).is_none();
        self.announces.push(announced);
        let head = [&[0, 0, 0, 1], transaction, &[0, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1]].concat();
        match manner {
            Manner::Peers(peers) => Some([head, compact(peers)].concat()),
            Manner::Refuse(why) => Some([&[0, 0, 0, 3], transaction, why.as_bytes()].concat()),
            Manner::FallSilent => is_first.then_some(head),
        }
    }
}

fn compact(peers: &[SocketAddr]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for peer in peers {
        match peer.ip() {
            std::net::IpAddr::V4(ip) => bytes.extend(ip.octets()),
            std::net::IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
        bytes.extend(peer.port().to_be_bytes());
    }
    bytes
}
