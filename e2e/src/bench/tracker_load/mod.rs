//! Trackers under load: ours, aquatic and opentracker, one after the other, each pinned to one core and what loads it to another.
//!
//! *Full load* is aquatic's own load tester, as fast as it goes. *Half load* is half the rate at which the slowest tracker answered it,
//! the same for all, by `e2e-announce`. *Sizes* fills a tracker that has just started and asks it how many peers it has.

pub mod announce;
mod cores;
mod report;
mod servers;
mod stage;
mod table;
mod tester;

use std::cell::Cell;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use xtask::tools::Tools;

pub use report::LoadReport;

use super::swarm::takes_part;
use crate::cluster::Hosts;
use announce::{Population, Protocol};
use cores::Cores;
use servers::Server;
use stage::Stage;

/// How it is to be.
#[derive(Debug, Clone, clap::Args)]
pub struct TrackerLoad {
    /// Rounds; in each, every tracker runs once.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// Seconds under full load that are measured, in steps of 5; 5 more come before them.
    #[arg(long, default_value_t = 15)]
    pub seconds: u64,
    /// One round of 5 seconds, and a tenth of the peers: about two minutes.
    #[arg(long)]
    pub quick: bool,
    /// Only by this protocol.
    #[arg(long, value_enum)]
    pub protocol: Option<Protocol>,
    /// Only what has this in its name (samara, aquatic, opentracker); may be given several times.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
    /// Another samara-tracker to run in the same rounds, to see what a change does.
    #[arg(long, value_name = "PROGRAM")]
    pub beside: Option<PathBuf>,
}

/// How much of everything.
#[derive(Debug, Clone)]
struct Plan {
    runs: usize,
    /// Of five seconds each.
    windows: u64,
    /// Seconds at half load.
    half: f64,
    /// Seconds in which a full tracker is asked again.
    again: f64,
    /// Peers and swarms.
    sizes: Vec<Population>,
    /// Who announces at half load.
    steady: Population,
}

impl Plan {
    fn new(shape: &TrackerLoad) -> Result<Self> {
        let windows = shape.seconds / tester::WINDOW;
        ensure!(
            windows > 0 && shape.runs > 0,
            "nothing would be measured: --seconds is 5 at least, --runs 1"
        );
        let steady = Population::new(100_000, 10_000);
        Ok(if shape.quick {
            let sizes = vec![Population::new(100_000, 1_000), Population::new(10_000, 1)];
            Self { runs: 1, windows: 1, half: 2.0, again: 2.0, sizes, steady }
        } else {
            let sizes = vec![Population::new(1_000_000, 10_000), Population::new(100_000, 1)];
            Self { runs: shape.runs, windows, half: 10.0, again: 5.0, sizes, steady }
        })
    }
}

/// The programs that take part.
struct Programs {
    servers: Vec<Server>,
    announce: PathBuf,
    /// Where aquatic's are.
    aquatic: PathBuf,
}

impl Programs {
    fn build(shape: &TrackerLoad) -> Result<Self> {
        let aquatic = Tools::build_aquatic()?;
        let bins = ["--bin", "samara-tracker", "--bin", "e2e-announce"];
        let args = [&["build", "--quiet", "--locked", "--release", "--workspace"], &bins[..]].concat();
        xtask::tools::run(&mut xtask::tools::cargo(&args))?;
        let folder = xtask::tools::target().join("release");
        let ours = Server::samara("samara", folder.join("samara-tracker"))?;
        let mut servers = vec![ours.clone(), Server::Replicated(Box::new(ours))];
        if let Some(program) = &shape.beside {
            servers.push(Server::samara("samara beside", program.clone())?);
        }
        servers.extend([
            Server::AquaticUdp(aquatic.join("aquatic_udp")),
            Server::AquaticUring(aquatic.join("aquatic_udp")),
            Server::AquaticHttp(aquatic.join("aquatic_http")),
        ]);
        servers.extend(takes_part("opentracker").then_some(Server::Opentracker));
        let wanted = |name: &str| shape.only.is_empty() || shape.only.iter().any(|only| name.contains(only));
        servers.retain(|server| wanted(server.name()));
        ensure!(!servers.is_empty(), "nothing here is called {:?}", shape.only);
        Ok(Self { servers, announce: folder.join("e2e-announce"), aquatic })
    }
}

/// Runs it; one report for each protocol. What cannot take part is named.
pub async fn tracker_load(shape: TrackerLoad) -> Result<Vec<LoadReport>> {
    let (plan, cores) = (Plan::new(&shape)?, Cores::choose()?);
    let for_build = shape.clone();
    let programs = tokio::task::spawn_blocking(move || Programs::build(&for_build)).await??;
    let hosts = Hosts::start(1).await?;
    let protocols = shape.protocol.map_or_else(|| vec![Protocol::Udp, Protocol::Http], |one| vec![one]);
    let mut reports = Vec::new();
    for protocol in protocols {
        let folder = tempfile::tempdir()?;
        let host = hosts.host(0).0;
        let stage = Stage {
            plan: &plan,
            programs: &programs,
            protocol,
            cores,
            host,
            folder: folder.path(),
            started: Cell::default(),
        };
        reports.push(tokio::task::block_in_place(|| stage.run())?);
    }
    Ok(reports)
}
