//! One connection from its handshake to its end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::link::Link;
use super::reader::Reader;
use super::torrent::Torrent;
use super::transport::Transport;
use super::writer::Writer;
use crate::conversation::{Conversation, End, Scene};
use crate::core::{NewPeer, Peer, PeerKey, Refusal, Source};
use crate::wire::{Handshake, WireError};

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    ByPeer,
    /// The socket failed.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    /// A frame that no correct client sends.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// What was said, or not.
    #[error(transparent)]
    Conversation(#[from] End),
    /// A piece that we said we have cannot be read.
    #[error("a piece cannot be read")]
    Unreadable,
    /// The torrent stops.
    #[error("the torrent stops")]
    Stopped,
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Established<S> {
    /// The stream.
    pub stream: S,
    /// What the peer said.
    pub handshake: Handshake,
    /// Where it leads.
    pub address: SocketAddr,
    /// Whether we dialled.
    pub outgoing: bool,
}

/// A connection that ended within so long without a byte of payload was of no use.
const USELESS_WITHIN: Duration = Duration::from_secs(10);

/// A peer of ours has so long to hear why it is cut off.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Runs a connection to its end.
pub async fn run<S: Transport>(torrent: Arc<Torrent>, connection: Established<S>) {
    let Established { stream, handshake, address, outgoing } = connection;
    let new = NewPeer { id: handshake.peer_id, address, outgoing };
    let now = torrent.engine.clock.now();
    let admitted = torrent.core().connected(new, now);
    let (key, yields) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => return refused(&torrent, &new, refusal),
    };
    if yields.is_some() {
        torrent.bump();
    }
    torrent.stats_now.notify_one();
    let link = Arc::new(Link::default());
    let speaks = handshake.capabilities;
    let mut talk = Conversation::new(key, Source { id: new.id, ip: address.ip() }, speaks.fast, now);
    let port = torrent.engine.port();
    let greeted =
        talk.greet(speaks, port, &Scene { host: &torrent, out: &*link, now, rng: &mut rand::rng() });
    let (read, write) = stream.halves();
    let mut reader = Reader::new(torrent.clone(), link.clone(), talk, read);
    let mut writer = Writer::new(torrent.clone(), link, key, speaks.fast, write);
    let ended = tokio::select! {
        ended = async { greeted?; reader.run().await } => ended,
        ended = writer.run() => ended,
        () = torrent.stop.cancelled() => Err(Closed::Stopped),
    };
    if let Err(reason) = &ended {
        tracing::debug!(%address, id = ?new.id, %reason, "connection ended");
    }
    reader.give_up_all();
    if reader.has_reproached() {
        let parting = async { tokio::join!(writer.last_words(), reader.drain()).0 };
        let heard = tokio::time::timeout(LAST_WORDS, parting).await;
        tracing::debug!(%address, ?heard, "a peer was told of a wrong piece");
    }
    let lived = torrent.engine.clock.now().saturating_sub(now);
    let payload = reader.has_received() || writer.has_sent();
    forget(&torrent, key, &new, was_useless(&ended, lived, payload));
}

/// Whether the peer is likely to end the next connection as soon.
fn was_useless(ended: &Result<(), Closed>, lived: Duration, payload: bool) -> bool {
    !payload && lived < USELESS_WITHIN && !matches!(ended, Err(Closed::Conversation(End::BothComplete)))
}

fn refused(torrent: &Torrent, new: &NewPeer, refusal: Refusal) {
    tracing::debug!(address = %new.address, %refusal, "connection refused");
    if !new.outgoing {
        return;
    }
    let now = torrent.engine.clock.now();
    let mut core = torrent.core();
    match refusal {
        Refusal::OneSelf | Refusal::Banned => core.book.never(new.address),
        Refusal::Duplicate => core.book.duplicate(new.address, now),
        Refusal::Full => core.book.failed(new.address, now),
    }
}

fn forget(torrent: &Torrent, key: PeerKey, new: &NewPeer, useless: bool) {
    let now = torrent.engine.clock.now();
    {
        let mut core = torrent.core();
        let peer = core.peers().get(&key);
        let seed = peer.is_some_and(Peer::wants_nothing);
        let listens = peer.and_then(|peer| peer.listens);
        core.disconnected(key);
        match if new.outgoing { Some(new.address) } else { listens } {
            Some(address) if useless => core.book.turned_away(address, seed, now),
            Some(address) => core.book.closed(address, seed, now),
            None => {}
        }
    }
    torrent.bump();
    torrent.dial_now.notify_one();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_ends_at_once_and_without_payload_was_useless() {
        let second = Duration::from_secs(1);
        assert!(was_useless(&Err(Closed::ByPeer), second, false));
        assert!(was_useless(&Err(Closed::Conversation(End::Doomed)), second, false));
        assert!(!was_useless(&Err(Closed::ByPeer), second, true));
        assert!(!was_useless(&Err(Closed::ByPeer), USELESS_WITHIN, false));
        assert!(!was_useless(&Err(Closed::Conversation(End::BothComplete)), second, false));
    }
}
