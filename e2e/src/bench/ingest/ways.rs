//! How many machines can come to the same file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;

use super::report::IngestRun;
use super::{NAME, NODES, Stage, TRACKER};
use crate::bench::payload::Torrent;
use crate::bench::swarm::{Peer, Reading};
use crate::bench::tracker::Tracker;
use crate::bench::usage::{Machine, Usage};
use crate::cluster::process::output;

/// How often it is looked how much the server has given.
const LOOK: Duration = Duration::from_millis(200);
/// The rates that are printed are those of so many seconds.
const STEP: f64 = 5.0;
/// Machines that all read at the slowest origin are done in this time.
const PATIENCE: Duration = Duration::from_mins(30);

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// `samara get URL --tracker` on all of them.
    Shared,
    /// One reads it, makes a torrent of it, and seeds; the others leech.
    Sequential,
    /// All of them read all of it.
    Plain,
}

/// What is counted while it goes on.
struct Meter<'a> {
    stage: &'a Stage,
    start: Instant,
    machine: Machine,
    server: f64,
    /// Seconds since the start, and bytes that the server has given.
    given: Vec<(f64, u64)>,
}

impl<'a> Meter<'a> {
    async fn start(stage: &'a Stage) -> Result<Self> {
        stage.origin.reset().await?;
        let (server, machine) = (cpu_of(stage.origin.pid())?, Machine::now()?);
        Ok(Self { stage, start: Instant::now(), machine, server, given: Vec::new() })
    }

    /// Waits for the end of it, and looks how much the server gives meanwhile.
    async fn watch<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(LOOK) => {
                    let given = self.stage.origin.stats().await?.payload_bytes;
                    self.given.push((self.start.elapsed().as_secs_f64(), given));
                }
            }
        }
    }

    /// When it was looked last until then, and how much the server had given.
    fn until(&self, time: f64) -> (f64, u64) {
        self.given.iter().rfind(|(at, _)| *at <= time).copied().unwrap_or_default()
    }

    fn rates(&self, seconds: f64) -> String {
        let steps = (1..=(seconds / STEP).ceil() as u32).map(|step| f64::from(step) * STEP);
        let rates = steps.map(|end| {
            let (from, to) = (self.until(end - STEP), self.until(end));
            format!("{:.1}", (to.1 - from.1) as f64 / (to.0 - from.0).max(0.1) / 1e6)
        });
        rates.collect::<Vec<_>>().join(" ")
    }

    /// What it took; `own`: seconds of processor time of all but the server.
    async fn read(self, get: f64, own: f64) -> Result<IngestRun> {
        let seconds = self.start.elapsed().as_secs_f64();
        let (now, own) = (Machine::now()?, own + cpu_of(self.stage.origin.pid())? - self.server);
        let given = self.stage.origin.stats().await?.payload_bytes;
        let half = self.until(seconds / 2.0);
        eprintln!("the server's MB/s, {STEP} s each: {}", self.rates(seconds));
        Ok(IngestRun {
            seconds,
            over_get: seconds / get,
            copies: given as f64 / self.stage.size() as f64,
            late_rate: (given - half.1) as f64 / (seconds - half.0),
            busy: now.busy(&self.machine),
            others: now.others(&self.machine, own),
        })
    }
}

fn cpu_of(pid: Option<u32>) -> Result<f64> {
    pid.map_or(Ok(0.0), |pid| Ok(Usage::of(pid)?.cpu))
}

fn cpu(peers: &[Peer]) -> Result<f64> {
    peers.iter().map(|peer| peer.usage().map(|usage| usage.cpu)).sum()
}

impl Way {
    /// What the report calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "samara get URL --tracker",
            Self::Sequential => "read first, shared then",
            Self::Plain => "all read all of it",
        }
    }

    /// Goes it once.
    pub async fn run(self, stage: &Stage, get: f64) -> Result<IngestRun> {
        match self {
            Self::Shared => shared(stage, get).await,
            Self::Sequential => sequential(stage, get).await,
            Self::Plain => plain(stage, get).await,
        }
    }
}

/// Empty folders, one for each machine.
fn folders(stage: &Stage) -> Result<Vec<PathBuf>> {
    let folders: Vec<_> =
        (0..stage.shape.nodes).map(|n| stage.hosts.dir().join(format!("node{n}"))).collect();
    for folder in &folders {
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        std::fs::create_dir_all(folder)?;
    }
    Ok(folders)
}

/// All have the file.
async fn check(stage: &Stage, files: impl Iterator<Item = PathBuf>) -> Result<()> {
    for file in files {
        let sum = {
            let file = file.clone();
            tokio::task::spawn_blocking(move || crate::payload::sha256_file(&file)).await??
        };
        ensure!(sum == stage.sha256, "{} has other bytes", file.display());
        std::fs::remove_file(&file)?;
    }
    Ok(())
}

async fn go(peers: &mut [Peer]) -> Result<()> {
    for peer in peers.iter_mut() {
        peer.go().await?;
    }
    try_join_all(peers.iter_mut().map(Peer::done)).await.map(drop)
}

async fn shared(stage: &Stage, get: f64) -> Result<IngestRun> {
    let tracker = Tracker::start(&stage.tracker, stage.place(TRACKER), stage.hosts.dir()).await?;
    let folders = folders(stage)?;
    let options = ["--tracker", &stage.tracker_url(), "--fetchers", &stage.shape.fetchers].map(str::to_owned);
    let url = stage.origin.url(NAME);
    let reading = Reading { program: &stage.samara, url: &url, name: NAME, options: &options };
    let mut peers = folders
        .iter()
        .enumerate()
        .map(|(index, folder)| Peer::read(stage.place(NODES + index), &reading, folder))
        .collect::<Result<Vec<_>>>()?;
    let before = cpu(&peers)?;
    let mut meter = Meter::start(stage).await?;
    meter.watch(go(&mut peers)).await?;
    let used = cpu(&peers)? - before;
    let run = meter.read(get, used).await?;
    drop((peers, tracker));
    check(stage, folders.iter().map(|folder| folder.join(NAME))).await?;
    Ok(run)
}

async fn sequential(stage: &Stage, get: f64) -> Result<IngestRun> {
    let mut tracker = Tracker::start(&stage.tracker, stage.place(TRACKER), stage.hosts.dir()).await?;
    let folders = folders(stage)?;
    let (torrent, url) = (stage.hosts.dir().join("sequential.torrent"), stage.origin.url(NAME));
    let reading = Reading { program: &stage.samara, url: &url, name: NAME, options: &[] };
    let mut first = vec![Peer::read(stage.place(NODES), &reading, &folders[0])?];
    let mut meter = Meter::start(stage).await?;
    meter.watch(go(&mut first)).await?;
    let mut used = cpu(&first)?;
    drop(first);
    let file = folders[0].join(NAME);
    let (seed, mut peers) = meter.watch(share(stage, &mut tracker, &file, &torrent, &folders[1..])).await?;
    meter.watch(go(&mut peers)).await?;
    used += cpu(&peers)? + seed.usage()?.cpu;
    let run = meter.read(get, used).await?;
    drop((peers, seed, tracker));
    check(stage, folders.iter().map(|folder| folder.join(NAME))).await?;
    Ok(run)
}

/// The seed, and the leechers that are ready.
async fn share(
    stage: &Stage,
    tracker: &mut Tracker<'_>,
    file: &Path,
    torrent: &Path,
    folders: &[PathBuf],
) -> Result<(Peer, Vec<Peer>)> {
    let seed = Peer::share(stage.place(NODES), &stage.samara, file, &stage.tracker_url(), torrent).await?;
    tracker.until_seeded(&Torrent::read(torrent)?).await?;
    let leech = |(index, folder): (usize, &PathBuf)| {
        Peer::get(stage.place(NODES + 1 + index), &stage.samara, torrent, folder, NAME)
    };
    Ok((seed, folders.iter().enumerate().map(leech).collect::<Result<_>>()?))
}

async fn plain(stage: &Stage, get: f64) -> Result<IngestRun> {
    let mut meter = Meter::start(stage).await?;
    let gets = (0..stage.shape.nodes).map(|index| async move {
        let mut command = stage.hosts.host(NODES + index).0.command(&stage.get);
        command.args(["get", &stage.origin.url(NAME)]);
        output(command, PATIENCE).await?.ok("plain GET")
    });
    meter.watch(try_join_all(gets)).await?;
    meter.read(get, 0.0).await
}
