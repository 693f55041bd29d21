//! What it costs to move bytes: processor time and memory of one seed and one leecher, each a process, over loopback.
//!
//! The floors are in the same rounds: nginx, which sends a file by sendfile, towards curl and towards the least that a verified
//! download can be, `src/bin/e2e-floor.rs`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::cost_report::{CostReport, Run, Who};
use super::floors::{self, Client, Nginx};
use super::payload::Payload;
use super::swarm::{Peer, Place, System, takes_part};
use super::tracker::Tracker;
use super::usage::{Machine, Usage};
use crate::cluster::Hosts;
use crate::cluster::process::line;

/// Addresses on loopback: not of 127/8, which some clients do not dial.
const TRACKER: [u8; 4] = [10, 77, 0, 1];
const SEED: [u8; 4] = [10, 77, 0, 2];
const LEECHER: [u8; 4] = [10, 77, 0, 3];
/// The seed may not have come back yet from sending the last bytes when the leecher has them.
const SETTLE: Duration = Duration::from_millis(50);

/// How it is to be.
#[derive(Debug, Clone, clap::Args)]
pub struct Cost {
    /// The payload, in MiB.
    #[arg(long, default_value_t = 1024)]
    pub size: u64,
    /// Length of a piece, in KiB.
    #[arg(long, default_value_t = 1024)]
    pub piece: u64,
    /// Rounds; in each, everyone runs once.
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    /// Where the files are to lie; may be given several times. Memory (/dev/shm) and cargo's target folder if none is.
    #[arg(long, value_name = "FOLDER")]
    pub on: Vec<PathBuf>,
    /// Only what has this in its name (samara, libtorrent, aria2, curl, floor); may be given several times.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Another samara to run in the same rounds, to see what a change does.
    #[arg(long, value_name = "PROGRAM")]
    pub beside: Option<PathBuf>,
}

/// The programs that take part.
struct Programs {
    tracker: PathBuf,
    systems: Vec<System>,
    floors: Vec<Client>,
}

impl Programs {
    fn build(shape: &Cost) -> Result<Self> {
        let bins = ["--bin", "samara", "--bin", "samara-tracker", "--bin", "e2e-floor"];
        let args = [&["build", "--quiet", "--locked", "--release", "--workspace"], &bins[..]].concat();
        xtask::tools::run(&mut xtask::tools::cargo(&args))?;
        let folder = xtask::tools::target().join("release");
        let mut systems = vec![System::Samara("samara", folder.join("samara"))];
        systems.extend(shape.beside.clone().map(|program| System::Samara("samara beside", program)));
        if let Some(python) = crate::python::libtorrent("cost", &xtask::tools::target().join("tmp"))? {
            systems.extend([System::Libtorrent(python.clone()), System::LibtorrentV1(python)]);
        }
        systems.extend(takes_part("aria2c").then_some(System::Aria2));
        let mut floors = Vec::new();
        if takes_part("nginx") {
            floors = vec![Client::Curl, Client::Floor(folder.join("e2e-floor"))];
        }
        let wanted = |name: &str| shape.only.is_empty() || shape.only.iter().any(|only| name.contains(only));
        systems.retain(|system| wanted(system.name()));
        floors.retain(|client| wanted(client.name()));
        ensure!(!systems.is_empty() || !floors.is_empty(), "nothing here is called {:?}", shape.only);
        Ok(Self { tracker: folder.join("samara-tracker"), systems, floors })
    }
}

/// Runs it; one report for each file system. What is not installed does not take part.
pub async fn cost(shape: Cost) -> Result<Vec<CostReport>> {
    let for_build = shape.clone();
    let programs = tokio::task::spawn_blocking(move || Programs::build(&for_build)).await??;
    let hosts = Hosts::start(1).await?;
    let host = hosts.host(0).0;
    for address in [TRACKER, SEED, LEECHER] {
        let [a, b, c, d] = address;
        line(&format!("ip -n {} address add {a}.{b}.{c}.{d}/24 dev lo", host.name)).await?;
    }
    let folders = if shape.on.is_empty() {
        vec![PathBuf::from("/dev/shm"), xtask::tools::target().join("tmp")]
    } else {
        shape.on.clone()
    };
    let mut reports = Vec::new();
    for folder in folders {
        std::fs::create_dir_all(&folder)?;
        let scratch = tempfile::tempdir_in(&folder).with_context(|| folder.display().to_string())?;
        let stage = Stage { shape: &shape, programs: &programs, hosts: &hosts, folder: scratch.path() };
        reports.push(stage.run().await?);
    }
    Ok(reports)
}

/// Where the runs of one report take place.
struct Stage<'a> {
    shape: &'a Cost,
    programs: &'a Programs,
    hosts: &'a Hosts,
    folder: &'a Path,
}

impl Stage<'_> {
    async fn run(&self) -> Result<CostReport> {
        let url = Tracker::url(self.place(TRACKER));
        let (size, piece) = (self.shape.size << 20, self.shape.piece << 10);
        let payload = Payload::make(&self.folder.join("seed"), self.folder, size, piece, &url)?;
        let what = format!(
            "{} MiB in pieces of {} KiB on {}",
            self.shape.size,
            self.shape.piece,
            floors::file_system(self.folder)?
        );
        let mut report = CostReport::new(what, size);
        for round in 1..=self.shape.runs {
            for client in &self.programs.floors {
                let run = self.floor(client, &payload).await;
                report.add(client.name(), run.with_context(|| format!("{}, round {round}", client.name()))?);
            }
            for system in &self.programs.systems {
                let run = self.transfer(system, &payload).await;
                report.add(system.name(), run.with_context(|| format!("{}, round {round}", system.name()))?);
            }
        }
        Ok(report)
    }

    fn place(&self, address: [u8; 4]) -> Place<'_> {
        Place { host: self.hosts.host(0).0, address: address.into() }
    }

    /// A system's seed and its leecher, from the moment at which the leecher is let go until it has verified everything.
    async fn transfer(&self, system: &System, payload: &Payload) -> Result<Run> {
        let folder = self.folder.join("leecher");
        std::fs::create_dir(&folder)?;
        // A new one each time: it is to know nobody of the last run.
        let mut tracker = Tracker::start(&self.programs.tracker, self.place(TRACKER), self.folder).await?;
        let seed = Peer::seed(system, self.place(SEED), payload).await?;
        tracker.until_seeded(system.torrent(payload)).await?;
        let mut leecher = Peer::leech(system, self.place(LEECHER), payload, &folder).await?;
        let before = (leecher.usage()?, seed.usage()?, Machine::now()?);
        leecher.go().await?;
        leecher.done().await?;
        tokio::time::sleep(SETTLE).await;
        let run = measured(before, (leecher.usage()?, seed.usage()?))?;
        leecher.end().await?;
        drop((seed, tracker));
        self.finish(payload, &folder).await?;
        Ok(run)
    }

    /// nginx and a client, from the start of the client until its end.
    async fn floor(&self, client: &Client, payload: &Payload) -> Result<Run> {
        let folder = self.folder.join("leecher");
        std::fs::create_dir(&folder)?;
        let nginx = Nginx::start(self.place(SEED), self.folder, &payload.folder).await?;
        let none = Usage { cpu: 0.0, peak: None };
        let before = (none, nginx.usage()?, Machine::now()?);
        let used = client.get(&nginx, &payload.name, &folder).await?;
        let run = measured(before, (used, nginx.usage()?))?;
        drop(nginx);
        self.finish(payload, &folder).await?;
        Ok(run)
    }

    /// Looks at what arrived, takes it away, and lets the disk come to rest: no run pays for the one before.
    async fn finish(&self, payload: &Payload, folder: &Path) -> Result<()> {
        payload.check(folder).await?;
        std::fs::remove_dir_all(folder)?;
        rustix::fs::syncfs(std::fs::File::open(self.folder)?)?;
        Ok(())
    }
}

/// What a leecher and a seed used since `before`.
fn measured(before: (Usage, Usage, Machine), after: (Usage, Usage)) -> Result<Run> {
    let used = |before: Usage, after: Usage| Who { cpu: after.cpu - before.cpu, peak: after.peak };
    let (leecher, seed) = (used(before.0, after.0), used(before.1, after.1));
    let others = Machine::now()?.others(&before.2, leecher.cpu + seed.cpu);
    Ok(Run { leecher, seed, others })
}
