//! What moving bytes cost, for people and for scripts.

use std::fmt;

use serde::Serialize;

use super::floors::{CURL, FLOOR};
use super::report::{list, median};

/// A run during which others used more of the machine than this does not count.
const VOID: f64 = 0.85;

/// One process in one run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Who {
    /// Seconds of processor time, user and system.
    pub cpu: f64,
    /// The most memory that it had, in bytes, if it was seen.
    pub peak: Option<u64>,
}

/// One run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Run {
    /// Who received.
    pub leecher: Who,
    /// Who sent.
    pub seed: Who,
    /// The share of the machine that was busy with other work.
    pub others: f64,
}

impl Run {
    fn counts(&self) -> bool {
        self.others <= VOID
    }
}

/// All runs of all systems on one file system.
#[derive(Debug, Clone, Serialize)]
pub struct CostReport {
    /// What was done.
    pub what: String,
    /// Bytes that each run moved.
    pub bytes: u64,
    /// Runs by name, in the order in which they took place.
    pub rows: Vec<(&'static str, Vec<Run>)>,
}

impl CostReport {
    /// Without a run yet.
    pub(super) fn new(what: String, bytes: u64) -> Self {
        Self { what, bytes, rows: Vec::new() }
    }

    pub(super) fn add(&mut self, name: &'static str, run: Run) {
        let void = if run.counts() { "" } else { ", void" };
        eprintln!(
            "{}: {name}: leecher {:.2} s, seed {:.2} s, others {:.0} %{void}",
            self.what,
            run.leecher.cpu,
            run.seed.cpu,
            run.others * 100.0
        );
        match self.rows.iter_mut().find(|(other, _)| *other == name) {
            Some((_, runs)) => runs.push(run),
            None => self.rows.push((name, vec![run])),
        }
    }

    /// Seconds for each GB in the runs that count.
    fn per_gb(&self, runs: &[Run], who: fn(&Run) -> Who) -> Vec<f64> {
        runs.iter().filter(|run| run.counts()).map(|run| who(run).cpu / (self.bytes as f64 / 1e9)).collect()
    }

    /// A median over that of the row called `name`; `None` if that did not take part.
    fn over(&self, runs: &[Run], name: &str, who: fn(&Run) -> Who) -> Option<f64> {
        let (_, peer) = self.rows.iter().find(|(other, _)| *other == name)?;
        Some(median(self.per_gb(runs, who)) / median(self.per_gb(peer, who)))
    }
}

impl fmt::Display for CostReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; CPU-s/GB", self.what)?;
        writeln!(
            f,
            "{:<20} {:>6} {:>8}  {:<24} {:>5}   {:>6} {:>8}  {:<24} {:>5} {:>5}",
            "system", "leech", "x floor", "all", "MiB", "seed", "x nginx", "all", "MiB", "void"
        )?;
        for (name, runs) in &self.rows {
            let void = runs.iter().filter(|run| !run.counts()).count();
            writeln!(
                f,
                "{name:<20} {}   {} {void:>5}",
                self.half(runs, FLOOR, |run| run.leecher),
                self.half(runs, CURL, |run| run.seed)
            )?;
        }
        Ok(())
    }
}

impl CostReport {
    /// The columns of one side of the transfer.
    fn half(&self, runs: &[Run], floor: &str, who: fn(&Run) -> Who) -> String {
        let all = self.per_gb(runs, who);
        let over = self.over(runs, floor, who).map_or_else(String::new, |over| format!("{over:.2}"));
        let peak = runs.iter().filter_map(|run| who(run).peak).max();
        let peak = peak.map_or_else(String::new, |peak| (peak >> 20).to_string());
        format!("{:>6.2} {over:>8}  {:<24} {peak:>5}", median(all.clone()), list(&all, 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_void_run_does_not_count_and_is_said() {
        let run = |cpu, others| {
            let who = Who { cpu, peak: None };
            Run { leecher: who, seed: who, others }
        };
        let mut report = CostReport::new("it".into(), 1_000_000_000);
        for (name, cpu, others) in [(FLOOR, 1.0, 0.0), ("a", 2.0, 0.0), ("a", 9.0, 0.9), ("a", 3.0, 0.85)] {
            report.add(name, run(cpu, others));
        }
        let a = &report.rows[1].1;
        assert_eq!(report.per_gb(a, |run| run.leecher), [2.0, 3.0]);
        assert_eq!(report.over(a, FLOOR, |run| run.leecher), Some(3.0));
        assert_eq!(report.over(a, CURL, |run| run.seed), None, "curl did not take part");
        let last = report.to_string().lines().last().unwrap().to_owned();
        assert!(last.starts_with('a') && last.ends_with('1'), "one is void: {last}");
    }
}
