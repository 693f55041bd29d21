//! One connection of a lookup: bytes from the socket, messages to the inquiry, answers back.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Search;
use crate::core::AddressBook;
use crate::lookup::{End, Inquiry, InquiryId};
use crate::net::connection::Established;
use crate::net::inbox::Inbox;
use crate::wire::WireError;

/// Read from the socket at a time.
const READ: usize = 64 * 1024;
/// How often the inquiry is given the time.
const TICK: Duration = Duration::from_millis(500);
/// A peer that does not read what we send for so long is gone.
const STALLED: Duration = Duration::from_secs(20);

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
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
    Inquiry(#[from] End),
    /// The lookup has ended.
    #[error("the lookup has ended")]
    Stopped,
}

impl Ended {
    /// When the address is dialled again: one that is of no use, ever more rarely.
    pub fn note(&self, book: &mut AddressBook, address: SocketAddr, now: Duration) {
        match self {
            Self::Inquiry(end) if end.is_its_fault() => book.never(address),
            Self::Inquiry(End::Done) => book.closed(address, false, now),
            _ => book.turned_away(address, false, now),
        }
    }
}

/// Runs a connection to its end.
pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    search: &Search,
    id: InquiryId,
    connection: Established<S>,
) -> Ended {
    let ended = tokio::select! {
        ended = exchange(search, id, connection) => match ended {
            Ok(never) => match never {},
            Err(ended) => ended,
        },
        () = search.stop.cancelled() => Ended::Stopped,
    };
    search.lookup().gone(id);
    ended
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    search: &Search,
    id: InquiryId,
    connection: Established<S>,
) -> Result<std::convert::Infallible, Ended> {
    let Established { mut stream, handshake, .. } = connection;
    let now = || search.engine.clock.now();
    let under_v2 = search.lookup().v2_id() == Some(handshake.id);
    let mut inquiry = Inquiry::new(id, handshake.capabilities, under_v2, now());
    let mut inbox = Inbox::new(READ);
    let mut out = Vec::new();
    inquiry.greet(search.engine.port(), &mut out);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if !out.is_empty() {
            let written = tokio::time::timeout(STALLED, stream.write_all(&out)).await;
            written.map_err(|_| End::Silent)??;
            out.clear();
        }
        tokio::select! {
            read = stream.read(inbox.room()) => {
                let read = read?;
                if read == 0 {
                    return Err(Ended::ByPeer);
                }
                inbox.came(read);
                inbox.each(|message| {
                    Ok::<_, Ended>(inquiry.handle(message, &mut search.lookup(), now(), &mut out)?)
                })?;
            }
            _ = tick.tick() => inquiry.tick(&mut search.lookup(), now(), &mut out)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_of_no_use_is_dialled_ever_more_rarely() {
        let address: SocketAddr = "10.0.0.1:1".parse().unwrap();
        let dials = |end: End| {
            let (mut book, mut dials) = (AddressBook::default(), 0);
            book.add_lasting(address);
            for now in (0..600).map(Duration::from_secs) {
                if !book.due(1, false, now).is_empty() {
                    dials += 1;
                    Ended::Inquiry(end).note(&mut book, address, now);
                }
            }
            dials
        };
        assert_eq!(dials(End::WrongInfo), 1);
        assert!((5..15).contains(&dials(End::NoUse)), "{}", dials(End::NoUse));
        assert!((5..15).contains(&dials(End::Silent)), "{}", dials(End::Silent));
    }
}
