//! Clusters by hand: `cargo xtask cluster up|down|status|run`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser};
use e2e::cluster::{self, Cluster, Options};

#[derive(Parser)]
enum Command {
    /// Start a cluster that stays, and print the path of its kubeconfig.
    Up(Shape),
    /// End the clusters that were started by hand, and remove what killed tests have left.
    Down {
        /// Only that of this slot.
        #[arg(long)]
        slot: Option<u8>,
    },
    /// List the clusters of this machine.
    Status,
    /// Start a cluster, run a program with KUBECONFIG and SAMARA_E2E_KUBECONFIG set, and end the cluster.
    Run {
        #[command(flatten)]
        shape: Shape,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        program: Vec<String>,
    },
}

#[derive(Args)]
struct Shape {
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Gives each node a disk of this many MiB for its data root.
    #[arg(long)]
    data_disk: Option<u64>,
    /// OCI archives to give to every node, for example that of `cargo xtask image`.
    #[arg(long)]
    image: Vec<PathBuf>,
}

impl Shape {
    async fn start(self) -> Result<Cluster> {
        let missing = xtask::tools::missing();
        if !missing.is_empty() {
            bail!("{}", missing.join("\n"));
        }
        let options = Options { nodes: self.nodes, data_disk: self.data_disk.map(|mib| mib << 20) };
        let mut cluster = Cluster::start_with(options).await?;
        for archive in self.image {
            let archive = archive.canonicalize().with_context(|| archive.display().to_string())?;
            cluster.import_image(&archive).await?;
        }
        Ok(cluster)
    }
}

#[allow(clippy::print_stdout)] // its output is what it is for
#[tokio::main]
async fn main() -> Result<ExitCode> {
    match Command::parse() {
        Command::Up(shape) => println!("{}", shape.start().await?.detach()?.display()),
        Command::Down { slot } => println!("{} ended", cluster::down(slot)?),
        Command::Status => {
            for line in cluster::status()? {
                println!("{line}");
            }
        }
        Command::Run { shape, program } => return run(shape, &program).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(shape: Shape, program: &[String]) -> Result<ExitCode> {
    let cluster = shape.start().await?;
    let (name, args) = program.split_first().context("no program")?;
    let mut command = std::process::Command::new(name);
    command
        .args(args)
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("SAMARA_E2E_KUBECONFIG", cluster.kubeconfig());
    let status = tokio::task::spawn_blocking(move || command.status()).await?.with_context(|| name.clone());
    cluster.stop().await?;
    Ok(if status?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
