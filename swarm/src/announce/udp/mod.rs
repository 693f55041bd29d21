//! The UDP tracker protocol (BEP 15, BEP 41) without sockets and clocks: datagrams and the time go in, what to do comes out.
//!
//! An announce is an [`Exchange`] with one address of a tracker: it asks for a connection id, unless it has one from an earlier
//! exchange, and announces with it. The id proves that our address is ours; a tracker takes it for two minutes, a client uses it
//! for one.

mod packet;
#[cfg(test)]
mod tests;

use std::time::Duration;

use rand_core::RngCore;

pub use packet::{Family, MAX_DATAGRAM, MAX_URL_DATA, Request, UrlData};
use packet::{Reply, reply};

use super::{Answer, AnswerError};

/// How long a connection id is used (BEP 15).
pub const CONNECTION_TIME: Duration = Duration::from_mins(1);
/// A datagram is taken for lost after this; doubled each time (BEP 15: 15 x 2^n seconds).
pub const FIRST_TIMEOUT: Duration = Duration::from_secs(15);
/// How often an exchange sends again. BEP 15 goes up to n = 8, after two hours; here whoever announces says that the tracker is
/// silent after at most a minute, looks its name up anew, and has growing waits of its own between exchanges.
pub const MAX_RETRANSMISSIONS: u32 = 1;

/// What a tracker gave us to announce with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    id: u64,
    until: Duration,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this, then wait until [`Exchange::deadline`].
    Send(Vec<u8>),
    /// Go on waiting.
    Wait,
    /// It is over.
    Done(Result<Answer, ExchangeError>),
}

/// Why an exchange came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// Nothing came.
    #[error("the tracker does not answer")]
    Silent,
    /// An error packet, or a list of peers that is cut off.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Connecting,
    /// `kept`: the id is from an earlier exchange.
    Announcing {
        connection: Connection,
        kept: bool,
    },
}

/// One announce to one address of a tracker.
#[derive(Debug)]
pub struct Exchange {
    request: Request,
    phase: Phase,
    transaction: u32,
    timeouts: u32,
    deadline: Duration,
}

impl Exchange {
    /// Starts it with what an earlier one has kept; returns also the datagram to send.
    pub fn start(
        request: Request,
        kept: Option<Connection>,
        now: Duration,
        rng: &mut impl RngCore,
    ) -> (Self, Vec<u8>) {
        let phase = match kept {
            Some(connection) if now < connection.until => Phase::Announcing { connection, kept: true },
            _ => Phase::Connecting,
        };
        let mut exchange = Self { request, phase, transaction: 0, timeouts: 0, deadline: now };
        let first = exchange.ask(now, rng);
        (exchange, first)
    }

    /// When to call [`Self::handle_timeout`].
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// What the next exchange can start with.
    pub fn connection(&self) -> Option<Connection> {
        match self.phase {
            Phase::Connecting => None,
            Phase::Announcing { connection, .. } => Some(connection),
        }
    }

    /// Takes in a datagram from the tracker's address. What does not answer our last request is ignored: it is late, or from
    /// somebody who guesses (T57).
    pub fn handle(&mut self, datagram: &[u8], now: Duration, rng: &mut impl RngCore) -> Action {
        match (self.phase, reply(datagram, self.transaction)) {
            (_, Some(Reply::Refused(reason))) => self.fail(AnswerError::Refused(reason)),
            (Phase::Connecting, Some(Reply::Connected(id))) => {
                let connection = Connection { id, until: now + CONNECTION_TIME };
                self.phase = Phase::Announcing { connection, kept: false };
                Action::Send(self.ask(now, rng))
            }
            (Phase::Announcing { .. }, Some(Reply::Announced(announced))) => {
                match self.request.answer(&announced) {
                    Ok(answer) => Action::Done(Ok(answer)),
                    Err(error) => self.fail(error),
                }
            }
            _ => Action::Wait,
        }
    }

    /// The deadline has passed.
    pub fn handle_timeout(&mut self, now: Duration, rng: &mut impl RngCore) -> Action {
        if now < self.deadline {
            return Action::Wait;
        }
        self.timeouts += 1;
        if self.timeouts > MAX_RETRANSMISSIONS {
            return self.fail(ExchangeError::Silent);
        }
        match self.phase {
            // A tracker that was restarted does not know the id of an earlier exchange, and does not answer it (T57).
            Phase::Announcing { connection, kept } if kept || connection.until <= now => {
                self.phase = Phase::Connecting;
                Action::Send(self.ask(now, rng))
            }
            // The same transaction again: an answer to the first datagram is as good, if it was merely late.
            _ => Action::Send(self.datagram(now)),
        }
    }

    fn ask(&mut self, now: Duration, rng: &mut impl RngCore) -> Vec<u8> {
        self.transaction = rng.next_u32();
        self.datagram(now)
    }

    fn datagram(&mut self, now: Duration) -> Vec<u8> {
        self.deadline = now + FIRST_TIMEOUT * 2u32.pow(self.timeouts);
        match self.phase {
            Phase::Connecting => packet::connect(self.transaction),
            Phase::Announcing { connection, .. } => self.request.encode(connection.id, self.transaction),
        }
    }

    /// The next exchange gets an id of its own: the error may be about this one.
    fn fail(&mut self, error: impl Into<ExchangeError>) -> Action {
        self.phase = Phase::Connecting;
        Action::Done(Err(error.into()))
    }
}

/// One answer of the two that a tracker gave us as speakers of both families: all peers, the longer wait, and the larger counts,
/// since trackers count either all peers or those of a family.
pub fn merge(one: Answer, other: Answer) -> Answer {
    let mut peers = one.peers;
    peers.extend(other.peers);
    Answer {
        interval: one.interval.max(other.interval),
        seeders: one.seeders.max(other.seeders),
        leechers: one.leechers.max(other.leechers),
        peers,
        ..Answer::default()
    }
}
