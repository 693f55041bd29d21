//! What was found.

use std::fmt;

use serde::Serialize;

use super::Ingest;
use crate::bench::report::{list, median};

/// Above this share of the machine, a run shows the processors and not the way.
const BUSY: f64 = 0.85;
/// A run in which others used more than this share is void.
const OTHERS: f64 = 0.25;

/// One run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct IngestRun {
    /// Until the last machine has everything.
    pub seconds: f64,
    /// The same over one plain GET.
    pub over_get: f64,
    /// Payload that the server gave over the size.
    pub copies: f64,
    /// Payload per second that the server gave in the second half of the time.
    pub late_rate: f64,
    /// The share of the machine that was busy.
    pub busy: f64,
    /// The share of it that was not ours. The kernel's work for packets that belong to no process is in it.
    pub others: f64,
}

impl IngestRun {
    /// Whether it says something about the way.
    pub fn counts(&self) -> bool {
        self.busy <= BUSY && self.others <= OTHERS
    }
}

impl fmt::Display for IngestRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} s, {:.3} x GET, origin {:.3}, late rate {:.1} MB/s, busy {:.0} %, others {:.0} %{}",
            self.seconds,
            self.over_get,
            self.copies,
            self.late_rate / 1e6,
            self.busy * 100.0,
            self.others * 100.0,
            if self.counts() { "" } else { ", void" }
        )
    }
}

/// All runs.
#[derive(Debug, Clone, Serialize)]
pub struct IngestReport {
    /// What was done.
    pub what: String,
    /// Seconds of one plain GET in each round.
    pub plain_get: Vec<f64>,
    /// Runs by way.
    pub ways: Vec<(&'static str, Vec<IngestRun>)>,
}

impl IngestReport {
    pub(super) fn new(shape: &Ingest) -> Self {
        let each = shape.each.map(|each| format!(", {:.0} MB/s for each connection", each as f64 / 1e6));
        let what = format!(
            "{} MiB from a server at {:.0} MB/s{} to {} machines {}, --fetchers {}",
            shape.size,
            shape.rate as f64 / 1e6,
            each.unwrap_or_default(),
            shape.nodes,
            if shape.equal { "with the same links" } else { "without limit" },
            shape.fetchers
        );
        Self { what, plain_get: Vec::new(), ways: Vec::new() }
    }

    pub(super) fn add(&mut self, name: &'static str, run: IngestRun) {
        match self.ways.iter_mut().find(|(known, _)| *known == name) {
            Some((_, runs)) => runs.push(run),
            None => self.ways.push((name, vec![run])),
        }
    }
}

impl fmt::Display for IngestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; plain GET: {} s", self.what, list(&self.plain_get, 1))?;
        writeln!(
            f,
            "{:<26} {:>8} {:>8}  {:<30} {:<30} {:<26} {:<16} others",
            "way", "time/GET", "counting", "all time/GET", "origin", "late MB/s", "busy"
        )?;
        for (name, runs) in &self.ways {
            let all = |value: fn(&IngestRun) -> f64| runs.iter().map(value).collect::<Vec<_>>();
            let counting: Vec<f64> = runs.iter().filter(|run| run.counts()).map(|run| run.over_get).collect();
            writeln!(
                f,
                "{name:<26} {:>8.3} {:>8}  {:<30} {:<30} {:<26} {:<16} {}",
                median(counting.clone()),
                format!("{}/{}", counting.len(), runs.len()),
                list(&all(|run| run.over_get), 3),
                list(&all(|run| run.copies), 3),
                list(&all(|run| run.late_rate / 1e6), 1),
                list(&all(|run| run.busy), 2),
                list(&all(|run| run.others), 2)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_void_run_is_shown_and_does_not_count() {
        let run = |over_get, busy, others| IngestRun {
            seconds: 1.0,
            over_get,
            copies: 1.0,
            late_rate: 1.0,
            busy,
            others,
        };
        let mut report = IngestReport { what: "w".to_owned(), plain_get: vec![1.0], ways: Vec::new() };
        for (over_get, busy, others) in [(1.01, 0.5, 0.0), (7.0, 0.9, 0.0), (8.0, 0.5, 0.5), (1.03, 0.5, 0.1)]
        {
            report.add("way", run(over_get, busy, others));
        }
        let text = report.to_string();
        assert!(text.contains("1.030      2/4") && text.contains("1.010 7.000 8.000 1.030"), "{text}");
    }
}
