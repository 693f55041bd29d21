//! The origin of content that nobody has yet, and who reads it.
//!
//! The origin gives one piece after the other over its one link, to each fetcher in turn. A fetcher reads its own stripes first, then what others
//! have left lying, as the sidecar does; which pieces have to be read the engine's core says.

use std::time::Duration;

use rand::Rng as _;
use serde::Serialize;

use crate::queue::NodeId;
use crate::seats::Seats;

/// Pieces of a stripe: the sidecar's longest, without the shorter ones at the end of large content.
const STRIPE: u32 = 64;
/// A stripe in which nothing was read for so long is open to all.
pub const LEFT_LYING: Duration = Duration::from_secs(1);
/// When there is nothing to read now, it is looked again after so long.
pub const LOOK: Duration = Duration::from_millis(200);
/// A fetcher that has died is back after so long, with what it had.
pub const BACK: Duration = Duration::from_mins(1);
/// How often chance decides who dies, and the operator who reads.
pub const TURN: Duration = Duration::from_secs(1);

/// Reading at an origin.
#[derive(Debug, Clone, Default, Serialize, clap::Args)]
pub struct Ingest {
    /// So many nodes read an origin at --rate between them; there is no seed.
    #[arg(long, default_value_t = 0)]
    pub fetchers: usize,
    /// Chance that a fetcher dies in a second. Its seat goes to another when its grant has lapsed, 25 to 30 s later; it comes back after 60 s
    /// with what it had.
    #[arg(long, default_value_t = 0.0)]
    pub fetcher_deaths: f64,
}

/// The origin.
#[derive(Debug)]
pub struct Origin {
    rate: u64,
    /// When its link is free again.
    free: Duration,
    /// Who reads.
    pub seats: Seats,
    /// By stripe: who read something of it last, and when.
    touched: Vec<Option<(NodeId, Duration)>>,
    pieces: u32,
    /// Bytes that it has given.
    pub given: u64,
    /// Fetchers that have died.
    pub deaths: u64,
}

impl Origin {
    pub fn new(seats: Seats, rate: u64, pieces: u32) -> Self {
        let touched = vec![None; pieces.div_ceil(STRIPE) as usize];
        Self { rate, free: Duration::ZERO, seats, touched, pieces, given: 0, deaths: 0 }
    }

    /// The stripes in which a node may look for something to read, in the order in which it looks.
    pub fn stripes(&self, node: NodeId, now: Duration) -> Vec<std::ops::Range<u32>> {
        let Some(seat) = self.seats.of(node) else { return Vec::new() };
        let of = self.seats.held().len();
        let is_open = |stripe: &usize| {
            self.touched[*stripe].is_none_or(|(by, at)| by == node || now.saturating_sub(at) >= LEFT_LYING)
        };
        let own = (seat..self.touched.len()).step_by(of).filter(is_open);
        let others = (0..self.touched.len()).filter(|stripe| stripe % of != seat).filter(is_open);
        own.chain(others).map(|stripe| self.of_stripe(stripe)).collect()
    }

    fn of_stripe(&self, stripe: usize) -> std::ops::Range<u32> {
        let start = stripe as u32 * STRIPE;
        start..(start + STRIPE).min(self.pieces)
    }

    /// A piece is asked for; answers when it will be there.
    pub fn read(&mut self, by: NodeId, piece: u32, len: u32, now: Duration) -> Duration {
        self.touch(by, piece, now);
        self.given += u64::from(len);
        let takes = Duration::from_nanos(u64::from(len) * 1_000_000_000 / self.rate.max(1));
        self.free = self.free.max(now) + takes;
        self.free
    }

    /// It has come.
    pub fn touch(&mut self, by: NodeId, piece: u32, now: Duration) {
        self.touched[(piece / STRIPE) as usize] = Some((by, now));
    }

    /// The fetchers that die in this turn, if they are alive.
    pub fn dying(&self, chance: f64, rng: &mut rand::rngs::StdRng) -> Vec<NodeId> {
        self.seats.held().iter().filter(|_| rng.random_bool(chance)).copied().collect()
    }
}
