//! Power cuts: `cargo xtask power-cuts`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use e2e::power::{self, Leech, PowerCuts};

/// Cuts the power of downloads and looks at what is left (root).
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Cut.
    Run(PowerCuts),
    /// Be cut: downloads until it is killed.
    #[command(hide = true)]
    Leech(Leech),
}

fn main() -> Result<ExitCode> {
    match Cli::parse().task {
        Task::Run(cuts) => power::isolated(&cuts),
        Task::Leech(leech) => {
            tokio::runtime::Runtime::new()?.block_on(power::leech(leech))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
