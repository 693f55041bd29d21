//! What came of it.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::ingest::Origin;
use crate::node::Node;
use crate::scenario::Scenario;

/// The figures of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The seed of the run: with the same scenario it gives the same figures.
    pub seed: u64,
    /// Honest nodes that were there at the end and not complete.
    pub incomplete: Vec<usize>,
    /// Seconds until the last leecher was complete.
    pub last: f64,
    /// Seconds until half of them were.
    pub median: f64,
    /// `last` over one plain GET of the same bytes over the seed's or origin's link.
    pub over_ideal: f64,
    /// Bytes that the seed or the origin gave, over those of the torrent.
    pub seed_copies: f64,
    /// Bytes between zones, over those that all leechers need.
    pub far_share: f64,
    /// Payload that was received for nothing, over what all leechers need.
    pub wasted_share: f64,
    /// How often an honest node has cut off an honest one.
    pub honest_banned: usize,
    /// Fetchers that died.
    pub fetcher_deaths: u64,
    /// Seconds in which nobody that lived had a seat at the origin, before all were complete.
    pub unattended: f64,
    /// Events that the simulator went through.
    pub events: u64,
}

impl Outcome {
    /// Whether the swarm has kept its promises: all complete, nobody honest cut off.
    pub fn is_good(&self) -> bool {
        self.incomplete.is_empty() && self.honest_banned == 0
    }

    pub(crate) fn of(scenario: &Scenario, nodes: &[Node], origin: Option<&Origin>, events: u64) -> Self {
        let incomplete = nodes.iter().enumerate().filter(|(_, node)| node.has_to_finish());
        let incomplete: Vec<usize> = incomplete.map(|(id, _)| id).collect();
        let leechers = &nodes[nodes.len() - scenario.leechers..];
        let mut finished: Vec<Duration> = leechers.iter().filter_map(|node| node.complete).collect();
        finished.sort_unstable();
        let seconds = |at: Option<&Duration>| at.map_or(f64::NAN, Duration::as_secs_f64);
        let last = seconds(finished.last());
        let given = origin.map(|origin| origin.given);
        let until = finished.last().copied().unwrap_or_default();
        let unattended = origin.map(|origin| origin.seats.unattended(until));
        let needed = scenario.size as f64 * scenario.leechers as f64;
        let sum = |of: fn(&Node) -> u64| nodes.iter().map(of).sum::<u64>() as f64;
        Self {
            seed: scenario.seed,
            incomplete,
            last,
            median: seconds(finished.get(finished.len() / 2)),
            over_ideal: last / scenario.ideal().as_secs_f64(),
            seed_copies: given.unwrap_or(nodes[0].sent) as f64 / scenario.size as f64,
            far_share: sum(|node| node.sent_far) / needed,
            wasted_share: sum(Node::wasted_bytes) / needed,
            honest_banned: honest_banned(nodes),
            fetcher_deaths: origin.map_or(0, |origin| origin.deaths),
            unattended: unattended.unwrap_or_default().as_secs_f64(),
            events,
        }
    }
}

fn honest_banned(nodes: &[Node]) -> usize {
    let honest = nodes.iter().filter(|node| !node.lies);
    honest.flat_map(Node::bans).filter(|banned| !nodes[*banned].lies).count()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: last after {:.2} s ({:.3} x ideal), half after {:.2} s, the source gave {:.3} copies, \
             {:.3} between zones, {:.4} for nothing, {} events",
            self.seed,
            self.last,
            self.over_ideal,
            self.median,
            self.seed_copies,
            self.far_share,
            self.wasted_share,
            self.events
        )?;
        if self.fetcher_deaths > 0 {
            write!(
                f,
                ", {} fetchers died, no seat was taken for {:.1} s",
                self.fetcher_deaths, self.unattended
            )?;
        }
        if !self.incomplete.is_empty() {
            write!(f, "; not complete: {:?}", self.incomplete)?;
        }
        if self.honest_banned > 0 {
            write!(f, "; honest nodes banned: {}", self.honest_banned)?;
        }
        Ok(())
    }
}
