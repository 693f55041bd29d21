//! Connections that go out.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use torrent::WireId;

use super::connection::{self, Established};
use super::engine::Shared;
use super::listen::{HANDSHAKE_TIME, both, capabilities};
use super::lull::Lull;
use super::torrent::Torrent;
use crate::wire::{HANDSHAKE_LEN, Handshake};

/// A connection is made within so long.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How often the address book is looked at while there is somebody to dial...
const LOOK: Duration = Duration::from_millis(500);
/// ...while there is nobody, this long at most...
const REST: Duration = Duration::from_secs(5);
/// ...and this long where nothing is missing: who misses something dials us, and a new address ends the pause.
const SEEDING_REST: Duration = Duration::from_secs(30);
/// Dials of one torrent under way at a time.
const MAX_DIALS: usize = 16;
/// The same while nothing is missing: those who miss something go first, and they dial seeds too.
const SEEDING_DIALS: usize = 4;

/// Dials what the address book has, until the torrent stops.
pub async fn dial_loop(torrent: Arc<Torrent>) {
    let (turns, mut lull) = (Arc::new(Semaphore::new(MAX_DIALS)), Lull::new(LOOK));
    loop {
        let (due, is_busy, rest) = {
            let now = torrent.engine.clock.now();
            let mut core = torrent.core();
            let under_way = MAX_DIALS - turns.available_permits();
            let (most, rest) =
                if core.is_complete() { (SEEDING_DIALS, SEEDING_REST) } else { (MAX_DIALS, REST) };
            // One that is full tries somebody new now and then.
            (core.to_dial(most, under_way, now), under_way > 0 || core.is_full(), rest)
        };
        let wait = lull.after(is_busy || !due.is_empty(), rest);
        for address in due {
            let Ok(turn) = turns.clone().try_acquire_owned() else { continue };
            torrent.tasks.spawn(dial(torrent.clone(), address, turn));
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = torrent.dial_now.notified() => lull.end(),
            () = torrent.stop.cancelled() => return,
        }
    }
}

async fn dial(torrent: Arc<Torrent>, address: SocketAddr, turn: OwnedSemaphorePermit) {
    // After a failure the next id is tried: a peer that knows only one side of a hybrid refuses the other.
    let (ids, failures, banned) = {
        let core = torrent.core();
        (core.wire_ids().to_vec(), core.book.failures(address), core.is_banned_address(address.ip()))
    };
    let Some(id) = ids.get(failures as usize % ids.len().max(1)).copied() else { return };
    if banned {
        torrent.core().book.never(address);
        return;
    }
    let shaken = tokio::select! {
        shaken = shake(&torrent.engine, address, &ids, id, torrent.subject.v2_id().is_some()) => shaken,
        () = torrent.stop.cancelled() => return,
    };
    drop(turn);
    match shaken {
        Ok((stream, handshake)) => {
            connection::run(torrent, Established { stream, handshake, address, outgoing: true }).await;
        }
        Err(error) => {
            tracing::debug!(%address, %error, "dialling a peer failed");
            let now = torrent.engine.clock.now();
            torrent.core().book.failed(address, now);
        }
    }
}

/// Connects and shakes hands under `id`, one of `ids`; `v2`: the torrent has a v2 side.
pub async fn shake(
    engine: &Shared,
    address: SocketAddr,
    ids: &[WireId],
    id: WireId,
    v2: bool,
) -> io::Result<(TcpStream, Handshake)> {
    let _turn = engine.half_open.acquire().await.map_err(io::Error::other)?;
    let mut stream = tokio::time::timeout(CONNECT_TIME, connect(engine, address)).await??;
    stream.set_nodelay(true)?;
    let ours = Handshake { capabilities: capabilities(v2), id, peer_id: engine.peer_id };
    let theirs = tokio::time::timeout(HANDSHAKE_TIME, async {
        stream.write_all(&ours.encode()).await?;
        let mut bytes = [0; HANDSHAKE_LEN];
        stream.read_exact(&mut bytes).await?;
        Handshake::decode(&bytes).map_err(io::Error::other)
    })
    .await??;
    if !ids.contains(&theirs.id) {
        return Err(io::Error::other("the peer answered for another torrent"));
    }
    Ok((stream, both(ours, theirs)))
}

/// From where we listen, if that is a certain address: peers and trackers then see the same one.
async fn connect(engine: &Shared, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = engine.source_for(address.ip()) {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(address).await
}

/// The address among `listening` from which `to` is dialled.
pub fn source(listening: &[SocketAddr], to: IpAddr) -> Option<IpAddr> {
    listening.iter().map(SocketAddr::ip).find(|ip| ip.is_ipv4() == to.is_ipv4() && !ip.is_unspecified())
}

/// Whether a tracker at `to` may see us: who listens on certain addresses only, all of the other family, does not want to be seen
/// from any other, and could not be reached there.
pub fn may_reach(listening: &[SocketAddr], to: IpAddr) -> bool {
    let speaks = |address: &SocketAddr| address.ip().is_unspecified() || address.is_ipv4() == to.is_ipv4();
    listening.is_empty() || listening.iter().any(speaks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_on_certain_addresses_is_seen_in_their_family_only() {
        let [v4, v6] = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
        let reached = |listening: &[&str]| {
            let listening: Vec<SocketAddr> = listening.iter().map(|text| text.parse().unwrap()).collect();
            [v4, v6].map(|to| may_reach(&listening, to))
        };
        assert_eq!(reached(&["10.0.0.1:1"]), [true, false]);
        assert_eq!(reached(&["[::1]:1"]), [false, true]);
        assert_eq!(reached(&["10.0.0.1:1", "[::1]:1"]), [true, true]);
        for open in [&["0.0.0.0:1"][..], &["[::]:1"], &["10.0.0.1:1", "[::]:1"], &[]] {
            assert_eq!(reached(open), [true, true], "{open:?}");
        }
    }
}
