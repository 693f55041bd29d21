//! `samara-simulator`: a swarm in simulated time.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use simulator::{Scenario, run};

/// Simulate a swarm of the shipped engine core: one seed, many leechers, links as you say.
///
/// The same options give the same figures, the seed of all chance included. Exit code 1: some node did not become complete, or an honest one was cut
/// off.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  samara-simulator --leechers 1000 --size 1073741824
  samara-simulator --leechers 100 --equal --zones 3 --runs 10 --json
  samara-simulator --leechers 16 --size 33554432 --deaths 0.3 --return-again --liars 0.3 --lie-rate 0.2 --chaos-ms 3000 --runs 1000"
)]
struct Cli {
    #[command(flatten)]
    scenario: Scenario,
    /// Runs, each with the next seed.
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// One JSON document for each run.
    #[arg(long)]
    json: bool,
}

#[allow(clippy::print_stdout)] // its output is what it is for
fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let mut failed = Vec::new();
    for seed in cli.scenario.seed..cli.scenario.seed.saturating_add(cli.runs) {
        let outcome = run(&Scenario { seed, ..cli.scenario.clone() });
        if cli.json {
            println!("{}", serde_json::to_string(&outcome)?);
        } else {
            println!("{outcome}");
        }
        if !outcome.is_good() {
            failed.push(seed);
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("not all became complete, or honest ones were banned, with these seeds: {failed:?}");
    Ok(ExitCode::FAILURE)
}
