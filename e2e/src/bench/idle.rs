//! What torrents and connections cost a seed that has nothing to do: processor time and memory, one process beside the other.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::json;

use super::payload::Payload;
use super::report::{list, median};
use super::swarm::{Lot, Peer, Place, System};
use super::tracker::Tracker;
use super::usage::Machine;
use crate::cluster::Hosts;
use crate::cluster::process::line;

/// Addresses on loopback. The idle peers come from 10.77.16.1 and behind it.
const TRACKER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SEED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Bytes of the smallest file; each further one has a byte more, so that no two are the same.
const SMALLEST: u64 = 64 << 10;
/// What still moves after the start, or after the last connection.
const SETTLE: Duration = Duration::from_secs(10);

/// How it is to be.
#[derive(Debug, Clone, clap::Args)]
pub struct Idle {
    /// Torrents, hybrid, of 64 KiB each.
    #[arg(long, default_value_t = 1000)]
    pub torrents: u64,
    /// Connections to one of them, of peers that have nothing and want nothing.
    #[arg(long, default_value_t = 500)]
    pub peers: usize,
    /// For so long it is watched, in seconds: before the connections, and with them.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Rounds; in each, everyone runs once.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
}

/// One run of one system.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct IdleRun {
    /// Share of one core, without connections.
    pub alone: f64,
    /// Bytes of memory then.
    pub memory: u64,
    /// Share of one core, with them.
    pub connected: f64,
    /// Bytes of memory that a connection added.
    pub each: u64,
    /// The share of the machine that was busy with other work.
    pub others: f64,
}

/// All runs.
#[derive(Debug, Clone, Serialize)]
pub struct IdleReport {
    /// What was done.
    pub what: String,
    /// Runs by system.
    pub systems: Vec<(&'static str, Vec<IdleRun>)>,
}

struct Stage<'a> {
    shape: &'a Idle,
    hosts: &'a Hosts,
    folder: &'a Path,
    tracker: PathBuf,
    python: PathBuf,
    /// Of the torrent that is connected to.
    infohash: String,
}

/// Runs it.
pub async fn idle(shape: Idle) -> Result<IdleReport> {
    let (samara, python) = tokio::task::spawn_blocking(|| {
        let bins = ["--bin", "samara", "--bin", "samara-tracker"];
        let args = [&["build", "--quiet", "--locked", "--release", "--workspace"], &bins[..]].concat();
        xtask::tools::run(&mut xtask::tools::cargo(&args))?;
        let python = crate::python::libtorrent("idle", &xtask::tools::target().join("tmp"))?;
        Ok::<_, anyhow::Error>((xtask::tools::target().join("release/samara"), python))
    })
    .await??;
    let python = python.context("the idle peers are a Python program")?;
    let hosts = Hosts::start(1).await?;
    let host = hosts.host(0).0;
    for address in [TRACKER, SEED] {
        line(&format!("ip -n {} address add {address}/16 dev lo", host.name)).await?;
    }
    let tracker = samara.with_file_name("samara-tracker");
    let (folder, wanted) = (hosts.dir().to_owned(), shape.torrents);
    let url = Tracker::url(Place { host, address: TRACKER });
    let lay_out = tokio::task::spawn_blocking(move || lay_out(&folder, wanted, &url));
    let infohash = lay_out.await??;
    let stage = Stage {
        shape: &shape,
        hosts: &hosts,
        folder: hosts.dir(),
        tracker,
        python: python.clone(),
        infohash,
    };
    let what = format!("{} torrents, then {} connections to one of them", shape.torrents, shape.peers);
    let mut report = IdleReport { what, systems: Vec::new() };
    for round in 1..=shape.runs {
        for system in [System::Samara("samara", samara.clone()), System::Libtorrent(python.clone())] {
            let run =
                stage.run(&system).await.with_context(|| format!("{}, round {round}", system.name()))?;
            eprintln!("round {round}: {}: {run}", system.name());
            report.add(system.name(), run);
        }
    }
    Ok(report)
}

/// Files and torrents; answers the infohash of the first.
fn lay_out(folder: &Path, count: u64, tracker: &str) -> Result<String> {
    let (data, torrents) = (folder.join("data"), folder.join("torrents"));
    std::fs::create_dir_all(&torrents)?;
    let mut first = None;
    for number in 0..count {
        let beside = folder.join("made");
        let payload = Payload::make(&data, &beside, SMALLEST + number, 16 << 10, tracker)?;
        std::fs::rename(&payload.hybrid.path, torrents.join(format!("{number:05}.torrent")))?;
        first.get_or_insert(hex::encode(payload.hybrid.id.0));
    }
    first.context("at least one torrent")
}

impl Stage<'_> {
    fn place(&self, address: Ipv4Addr) -> Place<'_> {
        Place { host: self.hosts.host(0).0, address }
    }

    async fn run(&self, system: &System) -> Result<IdleRun> {
        let tracker = Tracker::start(&self.tracker, self.place(TRACKER), self.folder).await?;
        let state = tempfile::tempdir_in(self.folder)?;
        let lot = Lot {
            torrents: &self.folder.join("torrents"),
            data: &self.folder.join("data"),
            state: state.path(),
            connections: self.shape.peers + 100,
        };
        let (seed, port) = Peer::seeds(system, self.place(SEED), &lot).await?;
        let (alone, others) = self.watch(&seed).await?;
        let memory = seed.resident()?;
        let job = json!({
            "to": [SEED.to_string(), port], "infohash": self.infohash, "count": self.shape.peers, "from": ["10.77", 16],
        });
        let mut idlers = Peer::idlers(self.place(SEED), &self.python, &job.to_string()).await?;
        let (connected, others_then) = self.watch(&seed).await?;
        idlers.check().context("the idle peers do not stay")?;
        let each = seed.resident()?.saturating_sub(memory) / self.shape.peers.max(1) as u64;
        drop((idlers, seed, tracker));
        Ok(IdleRun { alone, memory, connected, each, others: others.max(others_then) })
    }

    /// The share of a core that a process takes, and the share of the machine that others take.
    async fn watch(&self, seed: &Peer) -> Result<(f64, f64)> {
        tokio::time::sleep(SETTLE).await;
        let (before, machine) = (seed.usage()?.cpu, Machine::now()?);
        tokio::time::sleep(Duration::from_secs(self.shape.seconds)).await;
        let used = seed.usage()?.cpu - before;
        Ok((used / self.shape.seconds as f64, Machine::now()?.others(&machine, used)))
    }
}

impl IdleReport {
    fn add(&mut self, name: &'static str, run: IdleRun) {
        match self.systems.iter_mut().find(|(system, _)| *system == name) {
            Some((_, runs)) => runs.push(run),
            None => self.systems.push((name, vec![run])),
        }
    }
}

impl fmt::Display for IdleRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { alone, memory, connected, each, .. } = self;
        let (alone, connected) = (alone * 100.0, connected * 100.0);
        write!(f, "{alone:.2} % of a core and {} MiB; connected {connected:.2} %, ", memory >> 20)?;
        write!(f, "{} KiB each; others {:.0} %", each >> 10, self.others * 100.0)
    }
}

impl fmt::Display for IdleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}; % of one core", self.what)?;
        writeln!(
            f,
            "{:<18} {:>7} {:>6} {:>10} {:>9}  {:<20} {:<20} {:<20} {:<20} others",
            "system",
            "% alone",
            "MiB",
            "% with all",
            "KiB each",
            "all % alone",
            "all MiB",
            "all % with all",
            "all KiB each"
        )?;
        for (name, runs) in &self.systems {
            let all = |value: fn(&IdleRun) -> f64| runs.iter().map(value).collect::<Vec<_>>();
            let columns = [
                (all(|run| run.alone * 100.0), 2),
                (all(|run| (run.memory >> 20) as f64), 0),
                (all(|run| run.connected * 100.0), 2),
                (all(|run| (run.each >> 10) as f64), 0),
                (all(|run| run.others * 100.0), 0),
            ];
            let [alone, memory, connected, each, _] = columns.clone().map(|(values, _)| median(values));
            let lists = columns.map(|(values, digits)| list(&values, digits));
            writeln!(
                f,
                "{name:<18} {alone:>7.2} {memory:>6.0} {connected:>10.2} {each:>9.0}  {:<20} {:<20} {:<20} {:<20} {}",
                lists[0], lists[1], lists[2], lists[3], lists[4]
            )?;
        }
        Ok(())
    }
}
