//! Peers that announce themselves to a tracker: what `cargo xtask bench tracker` loads trackers with beside aquatic's testers.

use anyhow::Result;
use clap::Parser;
use e2e::bench::announce;

/// Announces to a tracker, and prints what came of it as JSON.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    work: announce::Work,
}

#[allow(clippy::print_stdout)] // its output is what it is for
fn main() -> Result<()> {
    println!("{}", serde_json::to_string(&announce::work(&Cli::parse().work)?)?);
    Ok(())
}
