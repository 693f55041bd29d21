//! What a process has used of the machine, and what others use meanwhile.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// `/proc` counts in these (USER_HZ, proc(5)): 100 a second on every architecture that Rust's std knows of.
const TICKS_PER_SECOND: f64 = 100.0;
/// Where user and system time are in `/proc/PID/stat`, counted behind the name of the program.
const TIMES: std::ops::Range<usize> = 11..13;

/// What a process has used so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// User and system time of all its threads, in seconds.
    pub cpu: f64,
    /// The most memory that it had, in bytes; `None` when it has ended.
    pub peak: Option<u64>,
}

impl Usage {
    /// Of a process that runs, or that has ended and was not waited for.
    pub fn of(pid: u32) -> Result<Self> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let stat = std::fs::read_to_string(folder.join("stat")).with_context(|| format!("process {pid}"))?;
        let cpu = cpu(&stat).with_context(|| format!("/proc/{pid}/stat: {stat}"))?;
        Ok(Self { cpu, peak: high_water(&folder.join("status")) })
    }
}

/// Seconds in the text of `/proc/PID/stat`. The name of the program may hold anything but ends with the last bracket.
fn cpu(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = fields.get(TIMES)?.iter().map(|field| field.parse::<u64>());
    Some(ticks.sum::<Result<u64, _>>().ok()? as f64 / TICKS_PER_SECOND)
}

/// The most memory that a process had so far, in bytes, by its `/proc/PID/status`.
pub(super) fn high_water(status: &Path) -> Option<u64> {
    memory(status, "VmHWM:")
}

/// The memory that a process has now, in bytes.
pub(super) fn resident(pid: u32) -> Result<u64> {
    let status = PathBuf::from(format!("/proc/{pid}/status"));
    memory(&status, "VmRSS:").with_context(|| format!("{} says nothing of memory", status.display()))
}

fn memory(status: &Path, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(status).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The time of all processors since the machine started, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    busy: f64,
    all: f64,
}

impl Machine {
    /// Until now.
    pub fn now() -> Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
        Self::parse(&stat).with_context(|| format!("/proc/stat begins {:?}", stat.lines().next()))
    }

    /// user, nice, system, idle, iowait, irq, softirq, steal; what guests use is in user already (proc(5)).
    fn parse(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
        let fields: Vec<f64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
        let [user, nice, system, idle, iowait, irq, softirq, steal] = fields[..] else { return None };
        let busy = user + nice + system + irq + softirq + steal;
        Some(Self { busy: busy / TICKS_PER_SECOND, all: (busy + idle + iowait) / TICKS_PER_SECOND })
    }

    /// The share of the machine that was in use since `before`, by whomever.
    pub fn busy(&self, before: &Self) -> f64 {
        ((self.busy - before.busy) / (self.all - before.all).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
    }

    /// The share of the machine since `before` that went to others than us, who used `own` seconds.
    pub fn others(&self, before: &Self, own: f64) -> f64 {
        ((self.busy - before.busy - own) / (self.all - before.all).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_move_the_times() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 9 9 20 0 1 0 100 0 0";
        assert_eq!(cpu(stat), Some(3.0));
        assert_eq!(cpu("7 (a) S 1"), None);
    }

    #[test]
    fn what_we_used_ourselves_is_not_others() {
        let before = Machine::parse("cpu  100 0 100 800 0 0 0 0 0 0\n").unwrap();
        let after = Machine::parse("cpu  200 0 200 900 0 0 0 100 0 0\n").unwrap();
        assert!(
            (after.others(&before, 1.0) - 0.5).abs() < 1e-9,
            "three of four busy seconds, one of them ours"
        );
        assert!(after.others(&before, 9.0) < 1e-9);
        assert!((after.busy(&before) - 0.75).abs() < 1e-9);
        assert!(Machine::parse("cpu  1 2 3\n").is_none());
    }

    #[test]
    fn our_own_use_grows() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(resident(std::process::id()).unwrap() > 0);
        assert!(usage.peak.unwrap() > 0);
        let before = Usage::of(std::process::id()).unwrap().cpu;
        let mut sum = 0_u64;
        while Usage::of(std::process::id()).unwrap().cpu < before + 0.02 {
            sum = (0..100_000).fold(sum, u64::wrapping_add);
        }
        assert!(Usage::of(u32::MAX).is_err(), "{sum}");
    }
}
