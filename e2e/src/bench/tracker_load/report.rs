//! What a load found, for people and for scripts.

use serde::Serialize;

use super::announce::Protocol;
use super::cores::Cores;
use super::tester::{TORRENTS, UDP_PEERS, program};
use crate::bench::report::median;

/// A run during which others used more of the machine than this does not count: with two cores, half of one.
const VOID: f64 = 0.25;

/// One run under full load.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Full {
    /// Responses per second; refusals are not among them.
    pub served: f64,
    /// Refusals per second.
    pub refused: f64,
    /// Processor seconds of the tracker for each second.
    pub cpu: f64,
    /// Bytes of memory at the end, beyond those at the start.
    pub memory: u64,
    /// Bytes at the start.
    pub empty: u64,
    /// The share of the machine that was busy with other work.
    pub others: f64,
}

/// One run at half load.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Half {
    /// Announces per second that were due.
    pub rate: f64,
    /// Responses per second.
    pub served: f64,
    /// Refusals.
    pub refused: u64,
    /// Announces without an answer.
    pub lost: u64,
    /// Microseconds until half of the answers were there.
    pub p50: u32,
    /// Until 99 of 100 were.
    pub p99: u32,
    /// Until the last was.
    pub max: u32,
    /// The share of the machine that was busy with other work.
    pub others: f64,
}

/// One filling.
#[derive(Debug, Clone, Serialize)]
pub struct Size {
    /// Peers that announced themselves.
    pub peers: u32,
    /// Swarms that they are in.
    pub swarms: u32,
    /// Peers that the tracker says it has.
    pub counted: u64,
    /// Bytes of memory beyond those at the start.
    pub memory: u64,
    /// Responses per second when they announce again.
    pub served: f64,
    /// Processor seconds of the tracker for each second of that.
    pub cpu: f64,
    /// Refusals in all.
    pub refused: u64,
    /// Why the first was.
    pub refusal: Option<String>,
    /// Announces without an answer.
    pub lost: u64,
    /// The share of the machine that was busy with other work.
    pub others: f64,
}

/// A run, and whether it counts.
pub(super) trait Counts {
    fn others(&self) -> f64;

    fn counts(&self) -> bool {
        self.others() <= VOID
    }
}

impl Counts for Full {
    fn others(&self) -> f64 {
        self.others
    }
}

impl Counts for Half {
    fn others(&self) -> f64 {
        self.others
    }
}

impl Counts for Size {
    fn others(&self) -> f64 {
        self.others
    }
}

impl Full {
    pub(super) fn per_cpu(&self) -> f64 {
        self.served / self.cpu
    }
}

impl Size {
    pub(super) fn per_peer(&self) -> f64 {
        self.memory as f64 / self.counted as f64
    }
}

/// Runs by tracker, in the order in which they took place.
pub(super) type Rows<T> = Vec<(&'static str, Vec<T>)>;

/// All runs by one protocol.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// How the trackers were spoken to.
    pub protocol: Protocol,
    /// What was done.
    pub what: String,
    /// Who took no part and why, and what is to be known of those who did.
    pub notes: Vec<String>,
    /// Under full load.
    pub full: Rows<Full>,
    /// At half load.
    pub half: Rows<Half>,
    /// Filled.
    pub sizes: Rows<Size>,
}

impl LoadReport {
    /// Without a run yet.
    pub(super) fn new(protocol: Protocol, cores: Cores) -> Self {
        let who = match protocol {
            Protocol::Udp => format!("UDP: {TORRENTS} torrents, {UDP_PEERS} peers"),
            Protocol::Http => format!("HTTP, kept alive: {TORRENTS} torrents"),
        };
        let (program, Cores { server, client }) = (program(protocol), cores);
        let what = format!("{who} by {program}; tracker on core {server}, load on core {client}");
        let (notes, full, half, sizes) = Default::default();
        Self { protocol, what, notes, full, half, sizes }
    }

    pub(super) fn full(&mut self, name: &'static str, run: Full) {
        let figures = format!("{:.0} responses/s, {:.0} per CPU-s", run.served, run.per_cpu());
        said(name, &run, &figures);
        add(&mut self.full, name, run);
    }

    pub(super) fn half(&mut self, name: &'static str, run: Half) {
        said(name, &run, &format!("{:.0} announces/s, p99 {} us", run.rate, run.p99));
        add(&mut self.half, name, run);
    }

    pub(super) fn size(&mut self, name: &'static str, run: Size) {
        let (counted, per_peer) = (run.counted, run.per_peer());
        said(
            name,
            &run,
            &format!("{counted} peers, {per_peer:.0} bytes each, {:.0} responses/s", run.served),
        );
        add(&mut self.sizes, name, run);
    }

    /// Half of what the slowest answered. Runs that do not count do here: a rate has to be chosen. A tracker that served nobody is
    /// none to go by.
    pub(super) fn half_rate(&self) -> Option<f64> {
        let rates = self.full.iter().map(|(_, runs)| median(runs.iter().map(|run| run.served).collect()));
        rates.filter(|rate| *rate > 0.0).min_by(f64::total_cmp).map(|rate| (rate / 2.0).floor().max(1.0))
    }
}

fn said(name: &str, run: &impl Counts, figures: &str) {
    let void = if run.counts() { "" } else { ", void" };
    eprintln!("{name}: {figures}, others {:.0} %{void}", run.others() * 100.0);
}

fn add<T>(rows: &mut Rows<T>, name: &'static str, run: T) {
    match rows.iter_mut().find(|(other, _)| *other == name) {
        Some((_, runs)) => runs.push(run),
        None => rows.push((name, vec![run])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_load_is_half_of_the_slowest_that_serves_at_all() {
        let mut report = LoadReport::new(Protocol::Http, Cores { server: 0, client: 1 });
        assert_eq!(report.half_rate(), None);
        for (name, served) in [("fast", 900.0), ("slow", 301.0), ("refuses all", 0.0)] {
            report.full(name, Full { served, refused: 0.0, cpu: 0.5, memory: 0, empty: 0, others: 0.0 });
        }
        assert_eq!(report.half_rate(), Some(150.0));
    }
}
