//! What is simulated.

use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use serde::Serialize;

use crate::ingest::Ingest;
use crate::node::Node;
use crate::queue::{Event, Queue};

/// A link without limit: 10 GB/s.
const FAST: u64 = 10_000_000_000;

/// A swarm: node 0 has everything, the others nothing; or nobody has anything, and some read it at an origin.
#[derive(Debug, Clone, Serialize, clap::Args)]
pub struct Scenario {
    /// All chance comes from it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Nodes that begin empty.
    #[arg(long, default_value_t = 32)]
    pub leechers: usize,
    /// Bytes of the torrent.
    #[arg(long, default_value_t = 256 << 20)]
    pub size: u64,
    /// Bytes of a piece.
    #[arg(long, default_value_t = 1 << 20)]
    pub piece_length: u32,
    /// The seed's link, in bytes per second each way.
    #[arg(long, default_value_t = 16_000_000)]
    pub rate: u64,
    /// The leechers have links of the same rate instead of links without limit.
    #[arg(long)]
    pub equal: bool,
    /// Zones; nodes belong to them in turn.
    #[arg(long, default_value_t = 1)]
    pub zones: usize,
    /// The nodes do not know in which zone they are.
    #[arg(long)]
    pub blind: bool,
    /// The nodes of the last zone have a tenth of the others' rate.
    #[arg(long)]
    pub slow_zone: bool,
    /// Connections that a node has at most.
    #[arg(long, default_value_t = 200)]
    pub max_peers: usize,
    /// Bytes of pieces on their way in that a node holds at most.
    #[arg(long, default_value_t = 256 << 20)]
    pub memory: u64,
    /// Leechers join one after the other over so many milliseconds.
    #[arg(long, default_value_t = 0)]
    pub joins_over_ms: u64,
    /// Seconds of simulated time after which it is given up.
    #[arg(long, default_value_t = 36_000)]
    pub patience_s: u64,
    /// Where the bytes come from.
    #[command(flatten)]
    pub ingest: Ingest,
    /// What goes wrong.
    #[command(flatten)]
    pub chaos: Chaos,
}

impl Scenario {
    /// Whether nobody has anything at first.
    pub(crate) fn grows(&self) -> bool {
        self.ingest.fetchers > 0
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.leechers + usize::from(!self.grows())
    }

    /// Rates of a node, up and down.
    pub(crate) fn link(&self, id: usize) -> (u64, u64) {
        let is_seed = id == 0 && !self.grows();
        let rate = if is_seed || self.equal { self.rate } else { FAST };
        let slow = self.slow_zone && id != 0 && id % self.zones.max(1) == self.zones.max(1) - 1;
        let rate = if slow { self.rate / 10 } else { rate };
        (rate, rate)
    }

    /// When a node comes.
    pub(crate) fn joins(&self, id: usize) -> Duration {
        Duration::from_millis(self.joins_over_ms).mul_f64(id as f64 / self.leechers.max(1) as f64)
    }

    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_s)
    }

    /// One plain GET of the bytes over the seed's link.
    pub fn ideal(&self) -> Duration {
        Duration::from_secs_f64(self.size as f64 / self.rate as f64)
    }
}

/// What goes wrong, until it is over; after that everyone must become complete.
#[derive(Debug, Clone, Default, Serialize, clap::Args)]
pub struct Chaos {
    /// Share of the leechers that die in mid-transfer.
    #[arg(long, default_value_t = 0.0)]
    pub deaths: f64,
    /// Those that died come back with what they had.
    #[arg(long)]
    pub return_again: bool,
    /// Share of the leechers that send wrong blocks.
    #[arg(long, default_value_t = 0.0)]
    pub liars: f64,
    /// Share of a liar's blocks that are wrong.
    #[arg(long, default_value_t = 0.0)]
    pub lie_rate: f64,
    /// How often zones cannot reach each other for a while.
    #[arg(long, default_value_t = 0)]
    pub partitions: u32,
    /// For so many milliseconds of simulated time things go wrong.
    #[arg(long, default_value_t = 0)]
    pub chaos_ms: u64,
}

impl Chaos {
    pub(crate) fn lasts(&self) -> Duration {
        Duration::from_millis(self.chaos_ms)
    }

    pub(crate) fn plan(&self, nodes: &mut [Node], queue: &mut Queue, rng: &mut StdRng) {
        let moment = |rng: &mut StdRng| self.lasts().mul_f64(rng.random());
        for (id, node) in nodes.iter_mut().enumerate().skip(1) {
            node.lies = rng.random_bool(self.liars);
            if rng.random_bool(self.deaths) {
                let (one, other) = (moment(rng), moment(rng));
                queue.push(one.min(other), Event::Dies(id));
                if self.return_again {
                    queue.push(one.max(other), Event::Starts(id));
                }
            }
        }
        for _ in 0..self.partitions {
            let (one, other) = (moment(rng), moment(rng));
            queue.push(one.min(other), Event::Partition(true));
            queue.push(one.max(other), Event::Partition(false));
        }
    }
}
