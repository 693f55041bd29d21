//! The runs: a tracker is started for each, loaded, looked at, and ended.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::announce::{Population, Protocol, Tally};
use super::cores::Cores;
use super::report::{Full, Half, LoadReport, Size};
use super::servers::{Server, printed};
use super::tester::{self, Tester, Window};
use super::{Plan, Programs};
use crate::bench::usage::{Machine, Usage, resident};
use crate::cluster::Namespace;
use crate::cluster::process::Daemon;

/// The port of the first tracker. The next has the next: one that has just ended leaves connections behind, and aquatic does not start
/// on their port.
const FIRST_PORT: u16 = 7_000;
/// How long one may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the runs of one report take place.
pub(super) struct Stage<'a> {
    pub plan: &'a Plan,
    pub programs: &'a Programs,
    pub protocol: Protocol,
    pub cores: Cores,
    pub host: &'a Namespace,
    /// For settings and logs.
    pub folder: &'a Path,
    /// Trackers that were started.
    pub started: Cell<u16>,
}

/// What processes and the machine have used until a moment.
struct Moment {
    at: Instant,
    server: f64,
    client: f64,
    own: f64,
    machine: Machine,
}

impl Moment {
    /// `client`: the process that loads and still runs, if one does.
    fn now(running: &Running, client: Option<u32>) -> Result<Self> {
        let of = |pid| Usage::of(pid).map(|usage| usage.cpu);
        let client = client.map_or(Ok(0.0), of)?;
        let sibling = running.sibling.as_ref().map_or(Ok(0.0), |sibling| of(sibling.pid()))?;
        let own = of(std::process::id())? + sibling;
        Ok(Self { at: Instant::now(), server: of(running.pid())?, client, own, machine: Machine::now()? })
    }

    /// The share of the machine that others had since `before`; `client` used so many seconds more than both know.
    fn others(&self, before: &Self, client: f64) -> f64 {
        let ours = self.server - before.server + self.client - before.client + self.own - before.own + client;
        self.machine.others(&before.machine, ours)
    }
}

impl Stage<'_> {
    pub fn run(&self) -> Result<LoadReport> {
        let mut report = LoadReport::new(self.protocol, self.cores);
        let mut servers: Vec<&Server> = Vec::new();
        for server in self.programs.servers.iter().filter(|server| server.speaks(self.protocol)) {
            match server.left_out(self.protocol) {
                Some(why) => report.notes.push(why),
                None => servers.push(server),
            }
        }
        report.notes.extend(servers.iter().filter_map(|server| server.remark()));
        report.notes.iter().for_each(|note| eprintln!("{note}"));
        self.rounds(&servers, |server| {
            report.full(server.name(), self.full(server)?);
            Ok(())
        })?;
        let Some(half_rate) = report.half_rate() else { return Ok(report) };
        self.rounds(&servers, |server| {
            report.half(server.name(), self.half(server, half_rate)?);
            Ok(())
        })?;
        for population in &self.plan.sizes {
            self.rounds(&servers, |server| {
                report.size(server.name(), self.size(server, population)?);
                Ok(())
            })?;
        }
        Ok(report)
    }

    fn rounds(&self, servers: &[&Server], mut run: impl FnMut(&Server) -> Result<()>) -> Result<()> {
        for round in 1..=self.plan.runs {
            for server in servers {
                run(server).with_context(|| format!("{}, round {round}", server.name()))?;
            }
        }
        Ok(())
    }

    /// aquatic's tester, as fast as it goes.
    fn full(&self, server: &Server) -> Result<Full> {
        let running = self.start(server)?;
        let empty = resident(running.pid())?;
        let mut load = self.tester()?;
        // The first five seconds warm up.
        load.windows(1)?;
        let before = Moment::now(&running, Some(load.pid()))?;
        let Window { served, refused } = load.windows(self.plan.windows)?;
        let after = Moment::now(&running, Some(load.pid()))?;
        let seconds = (after.at - before.at).as_secs_f64();
        let cpu = (after.server - before.server) / seconds;
        let memory = resident(running.pid())?.saturating_sub(empty);
        Ok(Full { served, refused, cpu, memory, empty, others: after.others(&before, 0.0) })
    }

    /// Announces at a rate.
    fn half(&self, server: &Server, rate: f64) -> Result<Half> {
        let running = self.start(server)?;
        self.announce("fill", &self.plan.steady, &[])?;
        let before = Moment::now(&running, None)?;
        let (rate_word, seconds) = (rate.to_string(), self.plan.half.to_string());
        let tally =
            self.announce("again", &self.plan.steady, &["--rate", &rate_word, "--seconds", &seconds])?;
        let after = Moment::now(&running, None)?;
        let others = after.others(&before, tally.cpu);
        let Tally { served, refused, lost, p50, p99, max, .. } = tally;
        Ok(Half { rate, served: served as f64 / tally.seconds, refused, lost, p50, p99, max, others })
    }

    /// Fills it, and asks for all again.
    fn size(&self, server: &Server, population: &Population) -> Result<Size> {
        let running = self.start(server)?;
        let empty = resident(running.pid())?;
        let filled = self.announce("fill", population, &[])?;
        let memory = resident(running.pid())?.saturating_sub(empty);
        let counted = self.announce("count", population, &[])?.counted;
        let before = Moment::now(&running, None)?;
        let again = self.announce("again", population, &["--seconds", &self.plan.again.to_string()])?;
        let after = Moment::now(&running, None)?;
        Ok(Size {
            peers: population.peers,
            swarms: population.swarms,
            counted,
            memory,
            served: again.served as f64 / again.seconds,
            cpu: (after.server - before.server) / again.seconds,
            refused: filled.refused + again.refused,
            refusal: filled.refusal.or(again.refusal),
            lost: filled.lost + again.lost,
            others: after.others(&before, again.cpu),
        })
    }

    /// Starts a tracker that knows nobody, and waits until it answers; one with a sibling, until they are in step.
    fn start(&self, server: &Server) -> Result<Running> {
        if !server.is_replicated() {
            return Ok(Running { tracker: self.start_one(server, self.cores.server, None)?, sibling: None });
        }
        let (sibling, tracker) = (self.next_address(1), self.next_address(2));
        // On the core of what loads: it takes nothing from the tracker that is measured.
        let sibling = self.start_one(server, self.cores.client, Some(&tracker)).map(|one| (one, sibling))?;
        let tracker = self.start_one(server, self.cores.server, Some(&sibling.1))?;
        let running = Running { tracker, sibling: Some(sibling.0) };
        self.until_told()?;
        Ok(running)
    }

    fn start_one(&self, server: &Server, core: usize, sibling: Option<&str>) -> Result<Daemon> {
        self.started.set(self.started.get() + 1);
        let (address, log) = (self.address(), self.folder.join("server.log"));
        let words = match sibling {
            None => server.command(self.protocol, &address, self.folder)?,
            Some(sibling) => server.command_beside(self.protocol, &address, sibling, self.folder)?,
        };
        let mut daemon = Daemon::spawn(self.pinned(core, &words), &log)?;
        let deadline = Instant::now() + PATIENCE;
        let probe = Population::new(1, 1);
        loop {
            let answer = self.announce("count", &probe, &[]);
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            daemon.check().with_context(|| format!("{words:?}: {}", said()))?;
            match answer {
                Ok(_) => return Ok(daemon),
                Err(error) if Instant::now() > deadline => bail!("no answer: {error:#}: {}", said()),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Waits until the tracker that was started last has a sibling that listens to it.
    fn until_told(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut get = self.host.command("curl");
            let output = get.args(["--silent", &format!("http://{}/metrics", self.address())]).output()?;
            if String::from_utf8_lossy(&output.stdout)
                .lines()
                .any(|line| line == "samara_tracker_siblings_told 1")
            {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the trackers do not find each other");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Of the tracker that was started last.
    fn address(&self) -> String {
        self.next_address(0)
    }

    /// Of the one that is started after so many others.
    fn next_address(&self, after: u16) -> String {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, FIRST_PORT + self.started.get() + after).to_string()
    }

    fn tester(&self) -> Result<Tester> {
        let program = self.programs.aquatic.join(tester::program(self.protocol));
        let settings = tester::settings(self.protocol, &printed(&program)?, &self.address())?;
        let path = self.folder.join("tester.toml");
        std::fs::write(&path, settings)?;
        let words = [program.as_path(), Path::new("-c"), &path].map(|word| word.display().to_string());
        Tester::start(self.pinned(self.cores.client, &words), &self.folder.join("tester.log"))
    }

    /// Runs `e2e-announce` to its end.
    fn announce(&self, work: &str, population: &Population, more: &[&str]) -> Result<Tally> {
        let protocol = match self.protocol {
            Protocol::Udp => "udp",
            Protocol::Http => "http",
        };
        let words = [self.programs.announce.display().to_string(), work.to_owned()];
        let mut command = self.pinned(self.cores.client, &words);
        command.args(["--protocol", protocol, "--server", &self.address()]);
        command.args(["--peers", &population.peers.to_string(), "--swarms", &population.swarms.to_string()]);
        let output = command.args(more).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{work}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// A command in the benchmark's network, on one core.
    fn pinned(&self, core: usize, words: &[String]) -> Command {
        let mut command = self.host.command("taskset");
        command.args(["-c", &core.to_string()]).args(words);
        command
    }
}

/// A tracker, and the one that it tells; they end with this.
struct Running {
    tracker: Daemon,
    sibling: Option<Daemon>,
}

impl Running {
    fn pid(&self) -> u32 {
        self.tracker.pid()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for daemon in [Some(&mut self.tracker), self.sibling.as_mut()].into_iter().flatten() {
            daemon.kill();
        }
    }
}
