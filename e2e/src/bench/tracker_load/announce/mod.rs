//! `e2e-announce`: peers that announce themselves to a tracker, many from one process, as a process of its own that can be pinned to a core.
//! It prints what came of it as JSON.

mod drive;
mod lane;
mod message;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

pub(super) use message::info_hash;

use super::super::usage::Usage;
use message::Announce;

/// Peers that share an address: fewer than a tracker lists of one address (ours 1,024).
const PER_ADDRESS: u32 = 1_000;
/// The first address; all of 127/8 is loopback.
const FIRST_ADDRESS: u32 = u32::from_be_bytes([127, 1, 0, 1]);
/// The port of the first peer of an address; those below 1,024 are refused by some.
const FIRST_PORT: u16 = 10_000;

/// How to speak to a tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
pub enum Protocol {
    /// BEP 15.
    Udp,
    /// BEP 3, over connections that are kept alive.
    Http,
}

/// The tracker.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Target {
    /// How it is spoken to.
    #[arg(long)]
    pub protocol: Protocol,
    /// Where it is.
    #[arg(long)]
    pub server: SocketAddrV4,
}

/// Who announces.
#[derive(Debug, Clone, clap::Args)]
pub struct Population {
    /// Peers in all.
    #[arg(long)]
    pub peers: u32,
    /// Swarms that they are in, by turns.
    #[arg(long)]
    pub swarms: u32,
    #[arg(skip)]
    hashes: std::sync::OnceLock<Vec<[u8; 20]>>,
}

impl Population {
    pub(super) fn new(peers: u32, swarms: u32) -> Self {
        Self { peers, swarms, hashes: std::sync::OnceLock::new() }
    }

    fn hashes(&self) -> &[[u8; 20]] {
        self.hashes.get_or_init(|| (0..self.swarms).map(info_hash).collect())
    }

    /// How many addresses they have.
    fn blocks(&self) -> u32 {
        self.peers.div_ceil(PER_ADDRESS)
    }

    /// Who is at address `block`.
    fn block(&self, block: u32) -> std::ops::Range<u32> {
        block * PER_ADDRESS..((block + 1) * PER_ADDRESS).min(self.peers)
    }

    fn source(block: u32) -> Ipv4Addr {
        Ipv4Addr::from(FIRST_ADDRESS + block)
    }

    /// What peer `number` says. Every fourth peer of a swarm is a seed.
    fn announce(&self, number: u32) -> Announce {
        let info_hash = self.hashes()[(number % self.swarms) as usize];
        let port = FIRST_PORT + (number % PER_ADDRESS) as u16;
        Announce { info_hash, peer: number, port, seed: (number / self.swarms).is_multiple_of(4) }
    }
}

/// What is to be done.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Work {
    /// Announce all peers once, as fast as the tracker answers.
    Fill {
        /// The tracker.
        #[command(flatten)]
        target: Target,
        /// Who.
        #[command(flatten)]
        population: Population,
    },
    /// Announce some of them again.
    Again {
        /// The tracker.
        #[command(flatten)]
        target: Target,
        /// Who.
        #[command(flatten)]
        population: Population,
        /// Announces per second; as many as the tracker answers, if there is none.
        #[arg(long)]
        rate: Option<f64>,
        /// For so long.
        #[arg(long)]
        seconds: f64,
    },
    /// Ask how many peers the tracker has in these swarms.
    Count {
        /// The tracker.
        #[command(flatten)]
        target: Target,
        /// Who may be there.
        #[command(flatten)]
        population: Population,
    },
}

/// What came of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Announces that were answered with peers.
    pub served: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Why the first of them was.
    pub refusal: Option<String>,
    /// Datagrams that had no answer within a second.
    pub lost: u64,
    /// Peers that the tracker says it has.
    pub counted: u64,
    /// How long it took.
    pub seconds: f64,
    /// Processor time of this process, in seconds.
    pub cpu: f64,
    /// Microseconds until an answer was there: half of them were faster, 99 of 100 were, and all.
    pub p50: u32,
    /// See `p50`.
    pub p99: u32,
    /// See `p50`.
    pub max: u32,
    #[serde(skip)]
    latencies: Vec<u32>,
}

impl Tally {
    fn end(mut self, start: Instant) -> Result<Self> {
        self.seconds = start.elapsed().as_secs_f64();
        self.latencies.sort_unstable();
        let at = |hundredths: usize| {
            let last = self.latencies.len().saturating_sub(1);
            self.latencies
                .get(self.latencies.len() * hundredths / 100)
                .or(self.latencies.get(last))
                .copied()
                .unwrap_or(0)
        };
        (self.p50, self.p99, self.max) = (at(50), at(99), at(100));
        self.cpu = Usage::of(std::process::id())?.cpu;
        Ok(self)
    }
}

/// Does it.
pub fn work(work: &Work) -> Result<Tally> {
    let (Work::Fill { population, .. } | Work::Again { population, .. } | Work::Count { population, .. }) =
        work;
    ensure!(population.peers > 0 && population.swarms > 0, "there is nobody to announce");
    match work {
        Work::Fill { target, population } => drive::fill(*target, population),
        Work::Again { target, population, rate, seconds } => {
            ensure!(rate.is_none_or(|rate| rate > 0.0), "a rate is more than nothing");
            drive::again(*target, population, *rate, Duration::from_secs_f64(*seconds))
        }
        Work::Count { target, population } => {
            let counted = drive::count(*target, population)?;
            Tally { counted, ..Tally::default() }.end(Instant::now())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_all_latencies() {
        let tally = Tally { latencies: (1..=1000).rev().collect(), ..Tally::default() };
        let tally = tally.end(Instant::now()).unwrap();
        assert_eq!((tally.p50, tally.p99, tally.max), (501, 991, 1000));
        assert_eq!(Tally::default().end(Instant::now()).unwrap().max, 0);
    }

    #[test]
    fn all_peers_of_a_population_differ_and_all_swarms_have_some() {
        let population = Population::new(2_500, 7);
        let mut seen = std::collections::HashSet::new();
        let mut swarms = std::collections::HashSet::new();
        for block in 0..population.blocks() {
            for number in population.block(block) {
                let announce = population.announce(number);
                assert!(seen.insert((Population::source(block), announce.port)));
                swarms.insert(announce.info_hash);
            }
        }
        assert_eq!((seen.len(), swarms.len()), (2_500, 7));
    }
}
