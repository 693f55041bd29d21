//! The flash crowd: one seed behind a link, many leechers that all begin at once.
//!
//! *Time* is until the last leecher has verified everything, over that of one plain GET of the same bytes over the same link in the
//! same round. *Copies* are bytes that the seed's link sent over those of that GET: what the seed had to send again. *CPU* is what the
//! seed and all leechers used, over the bytes that arrived.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::payload::Payload;
use super::report::{Report, Run};
use super::swarm::{Peer, Place, System, takes_part};
use super::tracker::Tracker;
use super::usage::Machine;
use crate::cluster::Hosts;
use crate::cluster::process::output;
use crate::origin::{Content, Origin};

/// The tracker's host, the seed's, and the first leecher's.
const TRACKER: usize = 0;
const SEED: usize = 1;
const LEECHERS: usize = 2;
/// The same for all systems.
const PIECE: u64 = 1 << 20;

/// How it is to be.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct FlashCrowd {
    /// How many leechers.
    #[arg(long, default_value_t = 8)]
    pub leechers: usize,
    /// The seed's link, in bytes per second each way.
    #[arg(long, default_value_t = 16_000_000)]
    pub rate: u64,
    /// Give the leechers links of the same rate instead of links without limit.
    #[arg(long)]
    pub equal: bool,
    /// The payload, in MiB.
    #[arg(long, default_value_t = 256)]
    pub size: u64,
    /// Rounds; in each, every system runs once.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
}

/// The programs that take part.
struct Programs {
    origin: PathBuf,
    tracker: PathBuf,
    systems: Vec<System>,
}

impl Programs {
    fn build() -> Result<Option<Self>> {
        let bins = ["--bin", "samara", "--bin", "samara-tracker"];
        let args = [&["build", "--quiet", "--locked", "--release", "--workspace"], &bins[..]].concat();
        xtask::tools::run(&mut xtask::tools::cargo(&args))?;
        let folder = xtask::tools::target().join("release");
        let Some(python) = crate::python::libtorrent("flash crowd", &xtask::tools::target().join("tmp"))?
        else {
            return Ok(None);
        };
        let mut systems = vec![System::Samara("samara", folder.join("samara")), System::Libtorrent(python)];
        systems.extend(takes_part("aria2c").then_some(System::Aria2));
        Ok(Some(Self { origin: crate::origin::binary()?, tracker: folder.join("samara-tracker"), systems }))
    }
}

/// Runs it; `None` if this machine has no libtorrent to compare with.
pub async fn flash_crowd(shape: FlashCrowd) -> Result<Option<Report>> {
    let Some(programs) = tokio::task::spawn_blocking(Programs::build).await?? else { return Ok(None) };
    let hosts = Hosts::start(LEECHERS + shape.leechers).await?;
    hosts.host(SEED).0.limit(Some(shape.rate), Some(shape.rate)).await?;
    for index in (LEECHERS..LEECHERS + shape.leechers).filter(|_| shape.equal) {
        hosts.host(index).0.limit(Some(shape.rate), Some(shape.rate)).await?;
    }
    let url = Tracker::url(place(&hosts, TRACKER));
    let payload = Payload::make(&hosts.dir().join("seed"), hosts.dir(), shape.size << 20, PIECE, &url)?;

    let mut report = Report {
        what: format!(
            "{} MiB, one seed at {:.0} MB/s, {} leechers {}",
            shape.size,
            shape.rate as f64 / 1e6,
            shape.leechers,
            if shape.equal { "with the same links" } else { "without limit" }
        ),
        plain_get: Vec::new(),
        systems: programs.systems.iter().map(|system| (system.name(), Vec::new())).collect(),
    };
    for round in 0..shape.runs {
        let (seconds, sent) = plain_get(&programs, &hosts, shape.size << 20).await?;
        report.plain_get.push(seconds);
        for (system, (name, runs)) in programs.systems.iter().zip(&mut report.systems) {
            let crowd = crowd(system, &programs, &hosts, &payload, shape.leechers);
            let crowd = crowd.await.with_context(|| format!("{name}, round {}", round + 1))?;
            let moved = (shape.size << 20) as f64 / 1e9 * shape.leechers as f64;
            let run = Run {
                seconds: crowd.seconds,
                over_get: crowd.seconds / seconds,
                copies: crowd.sent as f64 / sent as f64,
                cpu_per_gb: crowd.cpu / moved,
                others: crowd.others,
            };
            eprintln!("round {}: {name}: {:.1} s, plain GET {seconds:.1} s", round + 1, run.seconds);
            runs.push(run);
        }
    }
    Ok(Some(report))
}

fn place(hosts: &Hosts, index: usize) -> Place<'_> {
    let (host, address) = hosts.host(index);
    Place { host, address }
}

/// Seconds of one GET from the seed's host, and the bytes that its link sent for it.
async fn plain_get(programs: &Programs, hosts: &Hosts, size: u64) -> Result<(f64, u64)> {
    let (host, address) = hosts.host(SEED);
    // On the seed's link as it is.
    let origin = Origin::start(host.clone(), address, hosts.dir()).await?;
    origin.put("payload", Content::Random { seed: 1, size }).await?;
    let before = host.traffic().await?.sent;
    let mut get = hosts.host(LEECHERS).0.command(&programs.origin);
    get.args(["get", &origin.url("payload")]);
    let start = Instant::now();
    output(get, Duration::from_mins(10)).await?.ok("plain GET")?;
    Ok((start.elapsed().as_secs_f64(), host.traffic().await?.sent - before))
}

/// What one run of one system took.
struct Crowd {
    seconds: f64,
    /// Bytes that the seed's link sent.
    sent: u64,
    /// Seconds of processor time of all its processes.
    cpu: f64,
    /// The share of the machine that others used meanwhile.
    others: f64,
}

/// One system's run.
async fn crowd(
    system: &System,
    programs: &Programs,
    hosts: &Hosts,
    payload: &Payload,
    leechers: usize,
) -> Result<Crowd> {
    // A new one each time: it is to know nobody of the last round.
    let mut tracker = Tracker::start(&programs.tracker, place(hosts, TRACKER), hosts.dir()).await?;
    let seed = Peer::seed(system, place(hosts, SEED), payload).await?;
    tracker.until_seeded(system.torrent(payload)).await?;
    let folders: Vec<PathBuf> = (0..leechers).map(|n| hosts.dir().join(format!("leecher{n}"))).collect();
    let mut peers = Vec::new();
    for (index, folder) in folders.iter().enumerate() {
        std::fs::create_dir_all(folder)?;
        peers.push(Peer::leech(system, place(hosts, LEECHERS + index), payload, folder).await?);
    }
    let before = (cpu(&seed, &peers)?, Machine::now()?, hosts.host(SEED).0.traffic().await?.sent);
    let start = Instant::now();
    for peer in &mut peers {
        peer.go().await?;
    }
    futures::future::try_join_all(peers.iter_mut().map(Peer::done)).await?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu(&seed, &peers)? - before.0;
    let others = Machine::now()?.others(&before.1, cpu);
    let sent = hosts.host(SEED).0.traffic().await?.sent - before.2;
    drop((seed, tracker));
    futures::future::try_join_all(peers.into_iter().map(Peer::end)).await?;
    for folder in folders {
        payload.check(&folder).await?;
        std::fs::remove_dir_all(folder)?;
    }
    Ok(Crowd { seconds, sent, cpu, others })
}

/// Seconds of processor time that these have used so far.
fn cpu(seed: &Peer, leechers: &[Peer]) -> Result<f64> {
    leechers.iter().chain([seed]).map(|peer| peer.usage().map(|usage| usage.cpu)).sum()
}
