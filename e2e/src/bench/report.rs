//! What a benchmark found, for people and for scripts.

use std::fmt;

use serde::Serialize;

/// One run of one system.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Run {
    /// From the start of the leechers until the last one has verified everything.
    pub seconds: f64,
    /// Seconds / those of one plain GET over the same link.
    pub over_get: f64,
    /// Bytes that the seed's link sent / those that it sent for one plain GET, frames and all.
    pub copies: f64,
    /// Seconds of processor time of the seed and all leechers, for each GB that a leecher received.
    pub cpu_per_gb: f64,
    /// The share of the machine that was busy with other work.
    pub others: f64,
}

/// All runs of all systems.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was done.
    pub what: String,
    /// Seconds of one plain GET, one before each round.
    pub plain_get: Vec<f64>,
    /// Runs by system, in the order in which they took place.
    pub systems: Vec<(&'static str, Vec<Run>)>,
}

/// The middle one of the values, the upper one of two.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The values with a blank between them.
pub(super) fn list(values: &[f64], digits: usize) -> String {
    values.iter().map(|value| format!("{value:.digits$}")).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; plain GET: {} s", self.what, list(&self.plain_get, 1))?;
        writeln!(
            f,
            "{:<24} {:>9}  {:>6}  {:>8}  {:<24} {:<24} {:<24} others",
            "system", "time/GET", "copies", "CPU-s/GB", "all time/GET", "all copies", "all CPU-s/GB"
        )?;
        for (name, runs) in &self.systems {
            let all = |value: fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<_>>();
            let (times, copies) = (all(|run| run.over_get), all(|run| run.copies));
            let (cpu, others) = (all(|run| run.cpu_per_gb), all(|run| run.others));
            writeln!(
                f,
                "{name:<24} {:>9.2}  {:>6.2}  {:>8.2}  {:<24} {:<24} {:<24} {}",
                median(times.clone()),
                median(copies.clone()),
                median(cpu.clone()),
                list(&times, 2),
                list(&copies, 2),
                list(&cpu, 2),
                list(&others, 2)
            )?;
        }
        Ok(())
    }
}
