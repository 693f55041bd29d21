//! Benchmarks: `cargo xtask bench`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use e2e::bench::{
    Cost, Create, FlashCrowd, Idle, Ingest, Scale, TrackerLoad, cost, create, flash_crowd, idle, ingest,
    scale, tracker_load,
};
use serde::Serialize;

/// Benchmarks on this machine, each beside other systems in the same run.
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
    /// One seed behind a link, many leechers that all begin at once; in network namespaces (root).
    FlashCrowd(FlashCrowd),
    /// A file of a web server to many machines that read it once between them, beside reading first and sharing then, and beside
    /// everyone reading it; in network namespaces (root).
    Ingest(Ingest),
    /// Processor time and memory of one seed and one leecher, beside libtorrent, aria2, nginx and bare reading, hashing and
    /// writing; in a network namespace (root).
    Cost(Cost),
    /// Making and verifying torrents of one large file and of many, beside bare hashes, mktorrent and libtorrent.
    Create(Create),
    /// Torrents of very many files and pieces: make, show, verify, parse; and of a file that is one hole.
    Scale(Scale),
    /// Processor time and memory of a seed of a thousand torrents that nobody asks for anything, without and with 500 connections,
    /// beside libtorrent; in a network namespace (root).
    Idle(Idle),
    /// Trackers under load, by UDP and HTTP: ours, aquatic's and opentracker, pinned to a core each in turn; in a network namespace
    /// (root). Builds aquatic 0.9.0 the first time.
    Tracker(TrackerLoad),
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    match cli.bench {
        Bench::FlashCrowd(shape) => {
            let Some(report) = flash_crowd(shape).await? else { return Ok(ExitCode::FAILURE) };
            print(cli.json, &report, &report)?;
        }
        Bench::Ingest(shape) => {
            let report = ingest(shape).await?;
            print(cli.json, &report, &report)?;
        }
        Bench::Cost(shape) => print_all(cli.json, &cost(shape).await?)?,
        Bench::Create(shape) => {
            print_all(cli.json, &tokio::task::spawn_blocking(move || create(&shape)).await??)?;
        }
        Bench::Scale(shape) => {
            print_all(cli.json, &tokio::task::spawn_blocking(move || scale(&shape)).await??)?;
        }
        Bench::Idle(shape) => {
            let report = idle(shape).await?;
            print(cli.json, &report, &report)?;
        }
        Bench::Tracker(shape) => print_all(cli.json, &tracker_load(shape).await?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print_all<R: Serialize + std::fmt::Display>(json: bool, reports: &[R]) -> Result<()> {
    print(json, &reports, &reports.iter().map(R::to_string).collect::<Vec<_>>().join("\n"))
}

#[allow(clippy::print_stdout)] // its output is what it is for
fn print(json: bool, report: &impl Serialize, text: &impl std::fmt::Display) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        print!("{text}");
    }
    Ok(())
}
