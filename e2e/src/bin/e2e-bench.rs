//! Benchmarks: `cargo xtask bench`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use e2e::bench::{FlashCrowd, flash_crowd};

/// Benchmarks in network namespaces of this machine (root), each beside another system in the same run.
#[derive(Parser)]
struct Cli {
    /// Print JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// One seed behind a link, many leechers that all begin at once.
    FlashCrowd(FlashCrowd),
}

#[allow(clippy::print_stdout)] // its output is what it is for
#[tokio::main]
async fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let Bench::FlashCrowd(shape) = cli.bench;
    let Some(report) = flash_crowd(shape).await? else { return Ok(ExitCode::FAILURE) };
    if cli.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}
