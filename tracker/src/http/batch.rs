//! Answering what has been read from a connection: bytes in, bytes out.

use std::net::IpAddr;
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::announce::answer;
use super::response::{Date, push_head};
use crate::limits::ANSWER_BYTES;
use crate::request::{Parsed, Persistence};
use crate::tracker::State;

/// What is to be done when the answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Read: no whole request is left.
    Read,
    /// Answer on: there may be whole requests left.
    Answer,
    /// Close the connection.
    Close,
    /// Hand it over: the next request is of another kind.
    HandOver,
}

/// What a thread needs to answer, whatever the connection. Connections keep only what is left over, so an idle one has no buffers.
pub(super) struct Workbench {
    /// What was read.
    pub(super) input: Vec<u8>,
    /// Answers to write.
    pub(super) output: Vec<u8>,
    /// The body of one answer, whose length is to stand before it.
    body: Vec<u8>,
    date: Date,
    /// For the choice of peers, which need not be unpredictable.
    rng: SmallRng,
}

impl Workbench {
    pub(super) fn new() -> Self {
        Workbench {
            input: Vec::new(),
            output: Vec::new(),
            body: Vec::new(),
            date: Date::new(Instant::now()),
            rng: SmallRng::from_os_rng(),
        }
    }

    /// Replaces `output` by the answers to the requests at the start of `input[..length]`, until none is whole or the answers are
    /// long enough. Says how much of it is answered. After the `last` request the connection is to be closed.
    pub(super) fn answer(
        &mut self,
        state: &State,
        source: IpAddr,
        length: usize,
        last: bool,
        now: Instant,
    ) -> (usize, Next) {
        self.output.clear();
        let mut done = 0;
        let next = loop {
            if self.output.len() >= ANSWER_BYTES {
                break Next::Answer;
            }
            let (mut request, taken) = match Parsed::of(&self.input[done..length]) {
                Parsed::Whole(request, taken) => (request, taken),
                Parsed::Part => break Next::Read,
                Parsed::Foreign => break Next::HandOver,
            };
            if last {
                request.persistence = Persistence::Close;
            }
            done += taken;
            self.body.clear();
            let status = answer(state, &request.asked, source, &mut self.rng, &mut self.body);
            push_head(&mut self.output, status, self.body.len(), request.persistence, self.date.at(now));
            if !request.head {
                self.output.extend_from_slice(&self.body);
            }
            if request.persistence == Persistence::Close {
                break Next::Close;
            }
        };
        (done, next)
    }
}
