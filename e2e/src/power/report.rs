//! What came of it.

use std::fmt;
use std::time::Duration;

/// Findings that are printed; all are counted.
const SHOWN: usize = 20;

/// If none of so many cuts falls into a download of which something is durable, nothing was tried.
const ENOUGH: u32 = 50;

/// The figures.
#[derive(Debug, Default)]
pub struct Report {
    /// Power cuts.
    pub cuts: u32,
    /// Of them, those that some but not all pieces had survived.
    pub partial: u32,
    /// Of them, those after which pieces had to be hashed.
    pub unproven: u32,
    /// Lives that went on from the copy.
    pub reboots: u32,
    /// `kill -9`.
    pub kills: u32,
    /// Durable pieces that were compared.
    pub compared: u64,
    /// Pieces claimed to be durable that are not there.
    pub bad: u64,
    /// Pieces that were said to be durable before, and are not claimed after.
    pub lost: u64,
    /// Bytes of durable pieces that were fetched again.
    pub fetched_again: u64,
    /// Time until a start after a cut had looked at everything.
    pub checking: Vec<Duration>,
    /// What went wrong.
    pub findings: Vec<String>,
    /// How long it all took.
    pub seconds: f64,
}

impl Report {
    /// Whether nothing went wrong, and there was something that could have.
    pub fn is_good(&self) -> bool {
        self.findings.is_empty() && (self.cuts < ENOUGH || self.partial > 0)
    }

    /// Takes in what another disk came to.
    pub fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.partial += other.partial;
        self.unproven += other.unproven;
        self.reboots += other.reboots;
        self.kills += other.kills;
        self.compared += other.compared;
        self.bad += other.bad;
        self.lost += other.lost;
        self.fetched_again += other.fetched_again;
        self.checking.extend(other.checking);
        self.findings.extend(other.findings);
    }

    /// The 99th percentile of [`Self::checking`].
    fn slow_check(&self) -> Duration {
        let mut sorted = self.checking.clone();
        sorted.sort();
        sorted.get(sorted.len() * 99 / 100).copied().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in self.findings.iter().take(SHOWN) {
            writeln!(f, "FINDING {finding}")?;
        }
        writeln!(
            f,
            "{} power cuts ({} in mid-download, {} with pieces to hash, {} gone on from), {} kills, {:.0} s",
            self.cuts, self.partial, self.unproven, self.reboots, self.kills, self.seconds
        )?;
        writeln!(
            f,
            "{} durable pieces compared; start after a cut: p99 {:?}",
            self.compared,
            self.slow_check()
        )?;
        write!(
            f,
            "claimed durable but bad: {}; durable lost: {}; durable bytes fetched again: {}; findings: {}",
            self.bad,
            self.lost,
            self.fetched_again,
            self.findings.len()
        )
    }
}
