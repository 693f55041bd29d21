//! Connections that come in: one listener for all torrents, told apart by the infohash.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use torrent::WireId;

use super::api::EngineError;
use super::connection::{self, Established};
use super::engine::Shared;
use super::lookup::Search;
use super::torrent::Torrent;
use crate::wire::{Capabilities, HANDSHAKE_LEN, Handshake};

/// A handshake takes at most so long (T22).
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Connections from one address that have not shaken hands yet (T22).
const MAX_PENDING_PER_IP: usize = 32;
/// Connections that have not shaken hands yet, in all (T22).
pub const MAX_PENDING: usize = 512;

/// Opens the ports. A wildcard of a family that this machine has not is passed over if there is another.
pub fn listen_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, EngineError> {
    usable(addresses.iter().map(|address| (*address, listen(*address))).collect())
}

fn usable<L>(opened: Vec<(SocketAddr, io::Result<L>)>) -> Result<Vec<L>, EngineError> {
    let some = opened.iter().any(|(_, listener)| listener.is_ok());
    let mut listeners = Vec::new();
    for (address, listener) in opened {
        match listener {
            Ok(listener) => listeners.push(listener),
            Err(error) if some && address.ip().is_unspecified() && is_missing_family(&error) => {
                tracing::info!(%address, %error, "this machine has no such addresses; listening on the others");
            }
            Err(source) => return Err(EngineError::Listen { address, source }),
        }
    }
    Ok(listeners)
}

/// A kernel that was started with `ipv6.disable=1` makes no sockets for IPv6.
fn is_missing_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

/// With SO_REUSEADDR, so that a restart finds its port free.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        // 0.0.0.0 and [::] can then both be listened on with the same port.
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    socket.bind(address)?;
    socket.listen(1024)
}

/// Accepts until the engine stops.
pub async fn accept_loop(engine: Arc<Shared>, listener: TcpListener) {
    let pending: Arc<Mutex<HashMap<IpAddr, usize>>> = Arc::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = engine.stop.cancelled() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to be closed.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let Some(guard) = Pending::enter(&pending, address.ip()) else { continue };
        engine.tasks.spawn(incoming(engine.clone(), stream, address, guard));
    }
}

/// Counts a connection that has not shaken hands yet.
struct Pending {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    ip: IpAddr,
}

impl Pending {
    fn enter(counts: &Arc<Mutex<HashMap<IpAddr, usize>>>, ip: IpAddr) -> Option<Self> {
        let mut held = counts.lock().unwrap_or_else(PoisonError::into_inner);
        if held.values().sum::<usize>() >= MAX_PENDING {
            return None;
        }
        let count = held.entry(ip).or_default();
        if *count >= MAX_PENDING_PER_IP {
            return None;
        }
        *count += 1;
        drop(held);
        Some(Self { counts: counts.clone(), ip })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut held = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.ip);
            }
        }
    }
}

/// Shakes hands and runs the connection. Whatever is wrong, the peer sees the connection close and nothing else (T23).
async fn incoming(engine: Arc<Shared>, mut stream: TcpStream, address: SocketAddr, pending: Pending) {
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE_TIME, answer(&engine, &mut stream)) => shaken,
        () = engine.stop.cancelled() => return,
    };
    drop(pending);
    match shaken {
        Ok(Ok(Some((party, handshake)))) => {
            let connection = Established { stream, handshake, address, outgoing: false };
            match party {
                Party::Torrent(torrent) => {
                    let tasks = torrent.tasks.clone();
                    tasks.spawn(connection::run(torrent, connection));
                }
                Party::Search(search) => search.incoming(connection),
            }
        }
        Ok(Ok(None)) => tracing::debug!(%address, "a handshake for no torrent of ours"),
        Ok(Err(error)) => tracing::debug!(%address, %error, "an incoming handshake failed"),
        Err(_) => tracing::debug!(%address, "an incoming handshake took too long"),
    }
}

/// What an incoming connection is about.
pub enum Party {
    /// A torrent that we share.
    Torrent(Arc<Torrent>),
    /// A torrent of which we know no more than the hash.
    Search(Arc<Search>),
}

impl Party {
    fn v2_id(&self) -> Option<WireId> {
        match self {
            Party::Torrent(torrent) => torrent.subject.v2_id(),
            Party::Search(search) => search.lookup().v2_id(),
        }
    }
}

/// Reads the peer's handshake and answers it, if it asks for a torrent that we share or look for.
async fn answer(engine: &Arc<Shared>, stream: &mut TcpStream) -> io::Result<Option<(Party, Handshake)>> {
    stream.set_nodelay(true)?;
    let mut bytes = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut bytes).await?;
    let Ok(theirs) = Handshake::decode(&bytes) else { return Ok(None) };
    let Some(party) = engine.party(theirs.id) else { return Ok(None) };
    let v2 = party.v2_id();
    // Who can speak v2 and asks for a v1-only torrent has another torrent in mind (T35).
    if theirs.capabilities.v2 && v2.is_none() && matches!(party, Party::Torrent(_)) {
        return Ok(None);
    }
    // BEP 52's upgrade: a v1 id with the bit set is answered with the v2 id.
    let id = v2.filter(|_| theirs.capabilities.v2).unwrap_or(theirs.id);
    let ours = Handshake { capabilities: capabilities(v2.is_some()), id, peer_id: engine.peer_id };
    stream.write_all(&ours.encode()).await?;
    // Both sides go on under the id that the answer names.
    Ok(Some((party, Handshake { id, ..both(ours, theirs) })))
}

/// What we can do.
pub fn capabilities(v2: bool) -> Capabilities {
    Capabilities { fast: true, extended: true, v2 }
}

/// The peer's handshake with what both sides can do.
pub fn both(ours: Handshake, theirs: Handshake) -> Handshake {
    let capabilities = Capabilities {
        fast: ours.capabilities.fast && theirs.capabilities.fast,
        extended: ours.capabilities.extended && theirs.capabilities.extended,
        v2: ours.capabilities.v2 && theirs.capabilities.v2,
    };
    Handshake { capabilities, ..theirs }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t022_of_ten_thousand_without_a_handshake_few_are_kept_and_few_of_one_address() {
        let counts = Arc::default();
        let from = |number: u32| IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        let one: Vec<_> = (0..10_000).filter_map(|_| Pending::enter(&counts, from(0))).collect();
        assert_eq!(one.len(), MAX_PENDING_PER_IP);
        let all: Vec<_> = (0..10_000).filter_map(|number| Pending::enter(&counts, from(number))).collect();
        assert_eq!(one.len() + all.len(), MAX_PENDING);
        drop((one, all));
        assert!(counts.lock().unwrap().is_empty());
        assert!(Pending::enter(&counts, from(0)).is_some());
    }

    #[test]
    fn a_family_that_the_machine_has_not_is_passed_over_beside_another() {
        let missing = || io::Error::from_raw_os_error(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
        let (v4, v6) = ("0.0.0.0:1".parse().unwrap(), "[::]:1".parse().unwrap());
        assert_eq!(usable(vec![(v4, Ok(4)), (v6, Err(missing()))]).unwrap(), [4]);
        assert!(usable::<u8>(vec![(v6, Err(missing()))]).is_err(), "then nobody would listen");
        let named = "[2001:db8::1]:1".parse().unwrap();
        assert!(usable(vec![(v4, Ok(4)), (named, Err(missing()))]).is_err(), "this one was asked for");
        let taken = io::Error::from(io::ErrorKind::AddrInUse);
        assert!(
            usable(vec![(v4, Ok(4)), (v6, Err(taken))]).is_err(),
            "a port that is taken is no missing family"
        );
    }
}
