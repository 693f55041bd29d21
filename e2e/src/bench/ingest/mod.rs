//! From a web server to many machines: each byte is read once, and shared while it is read.
//!
//! *GET* is one plain GET of the same bytes over the same link in the same round. *Time* is until the last machine has verified
//! everything, over that. *Origin* is the payload that the server gave, over the size. *Late rate* is what it gave in the second half
//! of the time.

mod report;
mod ways;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::swarm::Place;
use super::tracker::Tracker;
use crate::cluster::Hosts;
use crate::cluster::process::output;
use crate::origin::{Content, Faults, Origin};

pub use report::IngestReport;
use ways::Way;

/// The tracker's host, the web server's, and the first machine's.
const TRACKER: usize = 0;
const ORIGIN: usize = 1;
const NODES: usize = 2;
/// The file, and the stream of random bytes that it is.
const NAME: &str = "model.bin";
const SEED: u64 = 1;

/// How it is to be.
#[derive(Debug, Clone, clap::Args)]
pub struct Ingest {
    /// How many machines.
    #[arg(long, default_value_t = 8)]
    pub nodes: usize,
    /// The web server's link, in bytes per second each way.
    #[arg(long, default_value_t = 16_000_000)]
    pub rate: u64,
    /// What the server gives to each connection at most, in bytes per second.
    #[arg(long)]
    pub each: Option<u64>,
    /// Give the machines links of the server's rate instead of links without limit.
    #[arg(long)]
    pub equal: bool,
    /// The file, in MiB.
    #[arg(long, default_value_t = 256)]
    pub size: u64,
    /// How many machines read, or `auto`: `--fetchers` of `samara get`.
    #[arg(long, default_value = "auto")]
    pub fetchers: String,
    /// Rounds.
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    /// Rounds in which the file is also read first and shared then.
    #[arg(long, default_value_t = 5)]
    pub sequential: usize,
    /// Rounds in which all machines also read all of it.
    #[arg(long, default_value_t = 1)]
    pub plain: usize,
}

/// What a benchmark works with.
struct Stage {
    shape: Ingest,
    hosts: Hosts,
    origin: Origin,
    samara: PathBuf,
    tracker: PathBuf,
    /// The program of plain GETs.
    get: PathBuf,
    /// Of the file, in hexadecimal.
    sha256: String,
}

/// Runs it.
pub async fn ingest(shape: Ingest) -> Result<IngestReport> {
    let stage = Stage::build(shape).await?;
    let shape = &stage.shape;
    let mut report = IngestReport::new(shape);
    for round in 0..shape.runs {
        let get = stage.plain_get().await?;
        report.plain_get.push(get);
        for (way, rounds) in
            [(Way::Shared, shape.runs), (Way::Sequential, shape.sequential), (Way::Plain, shape.plain)]
        {
            if round < rounds {
                let run = way.run(&stage, get).await;
                let run = run.with_context(|| format!("{}, round {}", way.name(), round + 1))?;
                eprintln!("round {}: {}: {run}; plain GET {get:.1} s", round + 1, way.name());
                report.add(way.name(), run);
            }
        }
    }
    Ok(report)
}

impl Stage {
    async fn build(shape: Ingest) -> Result<Self> {
        tokio::task::spawn_blocking(|| {
            let bins = ["--bin", "samara", "--bin", "samara-tracker"];
            let args = [&["build", "--quiet", "--locked", "--release", "--workspace"], &bins[..]].concat();
            xtask::tools::run(&mut xtask::tools::cargo(&args))
        })
        .await??;
        let folder = xtask::tools::target().join("release");
        let hosts = Hosts::start(NODES + shape.nodes).await?;
        let (host, address) = hosts.host(ORIGIN);
        host.limit(Some(shape.rate), Some(shape.rate)).await?;
        for index in (NODES..NODES + shape.nodes).filter(|_| shape.equal) {
            hosts.host(index).0.limit(Some(shape.rate), Some(shape.rate)).await?;
        }
        let origin = Origin::start(host.clone(), address, hosts.dir()).await?;
        let size = shape.size << 20;
        origin.put(NAME, Content::Random { seed: SEED, size }).await?;
        origin.fault(Faults { connection_rate: shape.each, ..Faults::default() }).await?;
        let sha256 = tokio::task::spawn_blocking(move || crate::payload::sha256(SEED, size)).await?;
        Ok(Self {
            samara: folder.join("samara"),
            tracker: folder.join("samara-tracker"),
            get: crate::origin::binary()?,
            shape,
            hosts,
            origin,
            sha256,
        })
    }

    fn place(&self, index: usize) -> Place<'_> {
        let (host, address) = self.hosts.host(index);
        Place { host, address }
    }

    fn size(&self) -> u64 {
        self.shape.size << 20
    }

    fn tracker_url(&self) -> String {
        Tracker::url(self.place(TRACKER))
    }

    /// Seconds of one GET by the first machine.
    async fn plain_get(&self) -> Result<f64> {
        let mut get = self.hosts.host(NODES).0.command(&self.get);
        get.args(["get", &self.origin.url(NAME)]);
        let start = Instant::now();
        output(get, Duration::from_mins(10)).await?.ok("plain GET")?;
        Ok(start.elapsed().as_secs_f64())
    }
}
