//! Tasks of the project.

mod fuzz;
mod test;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Parser;
use xtask::{crds, image, licences, tools};

/// The tasks of the project; each does on this machine what its name says.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Run all tests: formatting, lints, units, doc tests, wasm32, chart, other clients, a real cluster.
    ///
    /// What this machine cannot do is named and skipped with how to enable it; with CI=true nothing is skipped.
    Test {
        /// Only the steps with these names (see --list).
        steps: Vec<String>,
        /// List the steps and what they need that is missing here.
        #[arg(long)]
        list: bool,
    },
    /// Real Kubernetes clusters on this machine: `cluster up --nodes 10`, `cluster down`, `cluster status`.
    Cluster {
        /// See `cluster --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Benchmarks, each with a peer in the same run: `bench flash-crowd --leechers 8`. docs/benchmarks.md has what they found.
    Bench {
        /// See `bench --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Cut the power of downloads and look at what is left: `power-cuts --cuts 10000 --seed 7` (root).
    PowerCuts {
        /// See `power-cuts --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Fuzz what bytes of others reach: build the fuzz targets of `torrent`, `swarm` and `tracker` and run each; torrent/fuzz/README.md says more.
    Fuzz {
        /// Only these targets.
        targets: Vec<String>,
        /// For each target.
        #[arg(long, default_value_t = fuzz::SECONDS)]
        seconds: u64,
    },
    /// Build the daemons and write their image as an OCI archive.
    Image {
        /// Where to.
        #[arg(short, long, default_value = "samara.tar")]
        output: PathBuf,
        /// What it is called.
        #[arg(long, default_value_t = image::default_name())]
        name: String,
    },
    /// Write the CRDs' YAML from their types.
    Crds {
        /// Only say whether the files are up to date.
        #[arg(long)]
        check: bool,
    },
    /// Check licences and banned crates against deny.toml.
    Licences,
    /// Build the programs of the real cluster: Kubernetes' components, helm.
    Tools,
}

fn main() -> Result<ExitCode> {
    match Task::parse() {
        Task::Test { steps, list: true } => test::list(&steps),
        Task::Test { steps, list: false } => return test::run(&steps),
        Task::Cluster { args } => return hand_over(test::program("e2e-cluster", "dev")?.args(args)),
        Task::Bench { args } => return hand_over(test::program("e2e-bench", "release")?.args(args)),
        Task::PowerCuts { args } => {
            return hand_over(test::program("e2e-power-cuts", "release")?.arg("run").args(args));
        }
        Task::Fuzz { targets, seconds } => fuzz::run(&targets, seconds)?,
        Task::Image { output, name } => image::build(&name, &output)?,
        Task::Crds { check } => crds::run(check)?,
        Task::Licences => licences::check()?,
        Task::Tools => drop(tools::Tools::build()?),
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a program in our place.
fn hand_over(program: &mut Command) -> Result<ExitCode> {
    Ok(if program.status()?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
