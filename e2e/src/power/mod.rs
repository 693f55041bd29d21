//! Power cuts: what the engine calls durable is there after one, and what is there is right (P8).
//!
//! A leecher in a process of its own downloads onto ext4 on a loop device. At random instants its image is copied as it is at that
//! instant: what the kernel has not sent to the device is not in it, as after a power cut. The copy is mounted and looked at; some
//! lives go on from it. Other lives end by `kill -9`, which the page cache survives.

mod check;
mod disk;
mod leecher;
mod life;
mod payload;
mod report;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

pub use leecher::{Leech, leech};
pub use report::Report;

use life::Lives;
use payload::Payloads;

/// Set in the process that has its mounts for itself.
const INSIDE: &str = "SAMARA_POWER_CUTS_INSIDE";

/// How often and by which dice.
#[derive(Debug, Clone, clap::Args)]
pub struct PowerCuts {
    /// Power cuts in all; about a quarter as many `kill -9` come on top.
    #[arg(long, default_value_t = 200)]
    pub cuts: u32,
    /// Decides everything but the scheduling of the machine.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Disks with a leecher each that are worked on at a time; each takes up to 300 MiB of memory.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub disks: u32,
}

/// Runs it in a mount namespace, so that whatever ends it leaves no mount behind.
pub fn isolated(cuts: &PowerCuts) -> Result<ExitCode> {
    if std::env::var_os(INSIDE).is_some() {
        let report = run(cuts)?;
        say(&report.to_string());
        return Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let missing = xtask::tools::missing_for_disks();
    if !missing.is_empty() {
        crate::real::skip("power cuts", &missing.join("; "))?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()
        .context("unshare")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run(cuts: &PowerCuts) -> Result<Report> {
    let start = Instant::now();
    let scratch = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    let payloads = Arc::new(Payloads::make(scratch.path())?);
    let one = |disk: u32| -> Result<Report> {
        let share = cuts.cuts / cuts.disks + u32::from(disk < cuts.cuts % cuts.disks);
        let rng = StdRng::seed_from_u64(cuts.seed.wrapping_mul(1 << 16).wrapping_add(disk.into()));
        let folder = scratch.path().join(format!("disk{disk}"));
        runtime.block_on(live(&folder, payloads.clone(), rng, share))
    };
    let mut report = Report::default();
    std::thread::scope(|threads| -> Result<()> {
        let one = &one;
        let disks: Vec<_> = (0..cuts.disks).map(|disk| threads.spawn(move || one(disk))).collect();
        for disk in disks {
            report.add(disk.join().map_err(|_| anyhow!("a disk's thread panicked"))??);
        }
        Ok(())
    })?;
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

async fn live(folder: &Path, payloads: Arc<Payloads>, rng: StdRng, cuts: u32) -> Result<Report> {
    std::fs::create_dir_all(folder)?;
    Lives::begin(folder, payloads, rng).await?.until(cuts).await
}

/// What the person who runs it reads.
#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
}
