//! Announces over UDP: finds the tracker's addresses, and runs one exchange with one address of each family at a time.
//!
//! There is no UDP socket unless a torrent names a `udp://` tracker (T61).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::AnnounceError;
use crate::announce::udp::{
    Action, Connection, Exchange, ExchangeError, Family, MAX_DATAGRAM, Request, UrlData, merge,
};
use crate::announce::{Announce, Answer, Event};
use crate::net::clock::Clock;
use crate::net::engine::{MAX_UDP_SOCKETS, Shared};

/// A name is looked up within so long, as an HTTP tracker has to answer.
const LOOKUP_TIME: Duration = Duration::from_secs(15);
/// When one family has answered, the other has so long: it may be one that leads nowhere.
const GRACE: Duration = Duration::from_secs(2);

/// A tracker behind UDP.
pub struct UdpTracker {
    host: String,
    port: u16,
    url: UrlData,
    /// Those of its addresses that answered last, one of a family at most.
    links: Vec<Link>,
}

impl UdpTracker {
    /// A tracker that nothing is known of.
    pub fn new(host: String, port: u16, url: UrlData) -> Self {
        Self { host, port, url, links: Vec::new() }
    }

    /// One announce in each family. `turn` chooses among the addresses of one family, and goes up with each failure.
    pub async fn announce(
        &mut self,
        engine: &Arc<Shared>,
        announce: &Announce<'_>,
        turn: u32,
    ) -> Result<Answer, AnnounceError> {
        // Goodbye is said where we are known, without another look at the name: there is little time.
        let links = if announce.event == Some(Event::Stopped) {
            self.links.clone()
        } else {
            self.find(engine, turn).await?
        };
        self.announce_to(links, engine, announce).await
    }

    async fn announce_to(
        &mut self,
        links: Vec<Link>,
        engine: &Arc<Shared>,
        announce: &Announce<'_>,
    ) -> Result<Answer, AnnounceError> {
        let mut exchanges = JoinSet::new();
        for link in links {
            let request = Request::new(announce, &self.url, Family::of(link.address));
            exchanges.spawn(link.exchange(request, engine.clone()));
        }
        self.gather(exchanges).await
    }

    /// The connection ids are of no more use, and their sockets neither.
    pub fn forget_connections(&mut self) {
        self.links.iter_mut().for_each(|link| link.open = None);
    }

    async fn find(&self, engine: &Shared, turn: u32) -> Result<Vec<Link>, AnnounceError> {
        let failed = |source| AnnounceError::Lookup { host: self.host.clone(), source };
        let lookup = tokio::net::lookup_host((self.host.as_str(), self.port));
        let found = tokio::time::timeout(LOOKUP_TIME, lookup).await.map_err(|late| failed(late.into()))?;
        let usable = found.map_err(failed)?.filter(|address| engine.may_reach(address.ip())).collect();
        let chosen = one_of_each_family(usable, turn as usize);
        if chosen.is_empty() {
            return Err(AnnounceError::NoAddress(self.host.clone()));
        }
        let known = |address| self.links.iter().find(|link| link.address == address).cloned();
        Ok(chosen.into_iter().map(|address| known(address).unwrap_or(Link { address, open: None })).collect())
    }

    async fn gather(&mut self, mut exchanges: JoinSet<Outcome>) -> Result<Answer, AnnounceError> {
        let (mut links, mut answer, mut errors) = (Vec::new(), None, Vec::new());
        loop {
            let next = match &answer {
                Some(_) => tokio::time::timeout(GRACE, exchanges.join_next()).await.unwrap_or(None),
                None => exchanges.join_next().await,
            };
            match next {
                Some(Ok(Ok((link, more)))) => {
                    links.push(link);
                    answer = Some(match answer {
                        Some(one) => merge(one, more),
                        None => more,
                    });
                }
                Some(Ok(Err(error))) => errors.push(error),
                // It panicked, which has been told, or the runtime ends.
                Some(Err(_)) => {}
                None => break,
            }
        }
        self.links = links;
        answer.ok_or(AnnounceError::Udp(errors))
    }
}

/// The first or, after failures, another address of each family.
fn one_of_each_family(addresses: Vec<SocketAddr>, turn: usize) -> Vec<SocketAddr> {
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv4);
    [v4, v6].iter().filter_map(|family| family.get(turn.checked_rem(family.len())?).copied()).collect()
}

/// One address of a tracker.
#[derive(Clone)]
struct Link {
    address: SocketAddr,
    /// Until the connection id is too old: some trackers take it from the same port only.
    open: Option<(Arc<Socket>, Connection)>,
}

/// A socket that is connected to the tracker: the system passes nothing else on, and tells when nobody is there.
struct Socket {
    socket: UdpSocket,
    _turn: OwnedSemaphorePermit,
}

/// The answer and what is kept for the next announce, or what went wrong.
type Outcome = Result<(Link, Answer), LinkError>;

/// Why announcing to one address failed.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {source}")]
pub struct LinkError {
    address: SocketAddr,
    source: Failure,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
}

impl Link {
    async fn exchange(self, request: Request, engine: Arc<Shared>) -> Outcome {
        let address = self.address;
        self.run(request, &engine).await.map_err(|source| LinkError { address, source })
    }

    async fn run(self, request: Request, engine: &Arc<Shared>) -> Result<(Self, Answer), Failure> {
        let (socket, kept) = match self.open {
            Some((socket, connection)) => (socket, Some(connection)),
            None => (Arc::new(Socket::open(self.address, engine).await?), None),
        };
        let (answer, connection) = socket.converse(request, kept, engine.clock).await?;
        // Where many trackers are announced to, sockets are worth more than a round trip.
        let to_spare = engine.udp_sockets.available_permits() > MAX_UDP_SOCKETS / 2;
        let open = connection.filter(|_| to_spare).map(|connection| (socket, connection));
        Ok((Self { address: self.address, open }, answer))
    }
}

impl Socket {
    /// From where we listen, if that is a certain address, as peers are dialled.
    async fn open(tracker: SocketAddr, engine: &Shared) -> io::Result<Self> {
        let turn = engine.udp_sockets.clone().acquire_owned().await.map_err(io::Error::other)?;
        let any = if tracker.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            IpAddr::from(Ipv6Addr::UNSPECIFIED)
        };
        let from = engine.source_for(tracker.ip()).unwrap_or(any);
        let socket = UdpSocket::bind(SocketAddr::new(from, 0)).await?;
        socket.connect(tracker).await?;
        Ok(Self { socket, _turn: turn })
    }

    async fn converse(
        &self,
        request: Request,
        kept: Option<Connection>,
        clock: Clock,
    ) -> Result<(Answer, Option<Connection>), Failure> {
        let (mut exchange, first) = Exchange::start(request, kept, clock.now(), &mut rand::rng());
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut action = Action::Send(first);
        loop {
            match action {
                Action::Send(datagram) => {
                    self.socket.send(&datagram).await?;
                }
                Action::Wait => {}
                Action::Done(outcome) => return Ok((outcome?, exchange.connection())),
            }
            let left = exchange.deadline().saturating_sub(clock.now());
            action = tokio::select! {
                received = self.socket.recv(&mut buffer) => {
                    exchange.handle(&buffer[..received?], clock.now(), &mut rand::rng())
                }
                () = tokio::time::sleep(left) => exchange.handle_timeout(clock.now(), &mut rand::rng()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use torrent::WireId;

    use super::*;
    use crate::net::{Engine, EngineConfig};

    #[test]
    fn one_address_of_each_family_is_taken_and_another_after_a_failure() {
        let all = ["10.0.0.1:1", "[::1]:1", "10.0.0.2:1"].map(|address| address.parse().unwrap());
        let [first, six, second] = all;
        assert_eq!(one_of_each_family(all.to_vec(), 0), [first, six]);
        assert_eq!(one_of_each_family(all.to_vec(), 1), [second, six]);
        assert_eq!(one_of_each_family(all.to_vec(), 2), [first, six]);
        assert_eq!(one_of_each_family(vec![six], 7), [six]);
        assert_eq!(one_of_each_family(Vec::new(), 0), []);
    }

    /// Answers each datagram alike but for action and transaction: a connection id, or an answer with these peers behind it.
    async fn tracker(at: &str, peers: &'static [u8]) -> Link {
        let socket = UdpSocket::bind(at).await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 256];
            while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
                let answer = [&buffer[8..16], b"\0\0\0\x3c\0\0\0\x01\0\0\0\x01", peers].concat();
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        Link { address, open: None }
    }

    async fn outcome(links: Vec<Link>) -> (Vec<SocketAddr>, Result<Answer, AnnounceError>) {
        let engine =
            Engine::start(EngineConfig { listen: Vec::new(), ..EngineConfig::default() }).await.unwrap();
        let mut tracker = UdpTracker::new("host".into(), 1, UrlData::default());
        let announce = Announce {
            id: WireId([1; 20]),
            peer_id: engine.peer_id(),
            key: 1,
            port: 1,
            uploaded: 0,
            downloaded: 0,
            left: 0,
            event: None,
            tracker_id: None,
            node: None,
        };
        let answer = tracker.announce_to(links, &engine.shared, &announce).await;
        (tracker.links.iter().map(|link| link.address).collect(), answer)
    }

    #[tokio::test]
    async fn both_families_are_heard_and_a_silent_one_is_not_waited_for() {
        let four = tracker("127.0.0.1:0", b"\x0a\0\0\x01\x1a\xe1").await;
        let six = tracker("[::1]:0", b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1").await;
        let (_, answer) = outcome(vec![four.clone(), six]).await;
        let mut peers = answer.unwrap().peers;
        peers.sort();
        assert_eq!(peers, ["10.0.0.1:6881".parse().unwrap(), "[2001:db8::1]:6881".parse().unwrap()]);

        let mute = UdpSocket::bind("[::1]:0").await.unwrap();
        let silent = Link { address: mute.local_addr().unwrap(), open: None };
        // It takes 45 s to give a silent one up.
        let waited = tokio::time::timeout(Duration::from_secs(20), outcome(vec![silent, four.clone()]));
        let (kept, answer) = waited.await.unwrap();
        assert_eq!((kept, answer.unwrap().peers.len()), (vec![four.address], 1));
    }
}
