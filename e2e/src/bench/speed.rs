//! What programs take for the same work, beside each other.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use super::report::{list, median};
use super::usage::high_water;

/// How often a program's memory is looked at.
const GLANCE: Duration = Duration::from_millis(2);

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub seconds: f64,
    /// Most memory that the process had, in bytes, if it is one of its own.
    pub peak: Option<u64>,
}

/// What takes part in a comparison.
pub(super) struct Row<'a> {
    name: &'static str,
    peers: &'static [&'static str],
    run: Box<dyn Fn() -> Result<Cost> + 'a>,
}

impl<'a> Row<'a> {
    /// `peers`: the rows that it is held against.
    pub fn new(
        name: &'static str,
        peers: &'static [&'static str],
        run: impl Fn() -> Result<Cost> + 'a,
    ) -> Self {
        Self { name, peers, run: Box::new(run) }
    }
}

/// Runs all rows, one after the other, as often as there are rounds. `bytes`: those that each goes over.
pub(super) fn bench(what: String, bytes: Option<u64>, rows: &[Row<'_>], rounds: usize) -> Result<Speeds> {
    let mut speeds = Speeds { what, bytes, programs: Vec::new() };
    for round in 0..rounds {
        for row in rows {
            let cost = (row.run)().with_context(|| row.name.to_owned())?;
            eprintln!("{}, round {}: {}: {:.2} s", speeds.what, round + 1, row.name, cost.seconds);
            speeds.add(row.name, row.peers, cost);
        }
    }
    Ok(speeds)
}

/// What a program takes, from its start to its end.
pub(super) fn timed(command: &mut Command) -> Result<Cost> {
    let start = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let status = Path::new("/proc").join(child.id().to_string()).join("status");
    let mut peak = None;
    let exit = loop {
        if let Some(exit) = child.try_wait()? {
            break exit;
        }
        peak = high_water(&status).max(peak);
        thread::sleep(GLANCE);
    };
    ensure!(exit.success(), "{command:?}: {exit}");
    Ok(Cost { seconds: start.elapsed().as_secs_f64(), peak })
}

/// What libtorrent says it took for a job of `interop/torrent.py`.
pub(super) fn libtorrent(python: &Path, job: &Value) -> Result<Cost> {
    let answers = crate::python::ask_libtorrent(python, std::slice::from_ref(job))?;
    let answer = answers.first().context("libtorrent gives no answer")?;
    ensure!(answer["complete"] != false, "libtorrent finds the files wrong: {answer}");
    let seconds = answer["seconds"].as_f64().with_context(|| format!("libtorrent: {answer}"))?;
    Ok(Cost { seconds, peak: None })
}

/// What all rounds of all programs took.
#[derive(Debug, Clone, Serialize)]
pub struct Speeds {
    /// What was done.
    pub what: String,
    /// Bytes that each program went over, where that is what counts.
    pub bytes: Option<u64>,
    /// In the order in which they took place.
    pub programs: Vec<Program>,
}

/// What one program took.
#[derive(Debug, Clone, Serialize)]
pub struct Program {
    /// What it is called.
    pub name: &'static str,
    /// The programs that it is held against.
    pub peers: &'static [&'static str],
    /// One for each round.
    pub seconds: Vec<f64>,
    /// Most memory of all rounds, in bytes, if it is a process of its own.
    pub peak: Option<u64>,
}

impl Speeds {
    fn add(&mut self, name: &'static str, peers: &'static [&'static str], cost: Cost) {
        match self.programs.iter_mut().find(|program| program.name == name) {
            Some(program) => {
                program.seconds.push(cost.seconds);
                program.peak = program.peak.max(cost.peak);
            }
            None => self.programs.push(Program { name, peers, seconds: vec![cost.seconds], peak: cost.peak }),
        }
    }

    /// How many times as fast as the peer a program is: the median of the rounds' ratios. `None` if the peer did not take part.
    fn times(&self, program: &Program, peer: &str) -> Option<f64> {
        let peer = self.programs.iter().find(|other| other.name == peer)?;
        Some(median(peer.seconds.iter().zip(&program.seconds).map(|(theirs, ours)| theirs / ours).collect()))
    }
}

impl fmt::Display for Speeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        writeln!(
            f,
            "{:<24} {:>8} {:>6} {:>6}  {:<34}  speed / peer's",
            "program", "median", "MB/s", "MiB", "all"
        )?;
        for program in &self.programs {
            let seconds = median(program.seconds.clone());
            let rate = self.bytes.map(|bytes| format!("{:.0}", bytes as f64 / 1e6 / seconds));
            let peak = program.peak.map(|bytes| (bytes >> 20).to_string());
            let (rate, peak) = (rate.unwrap_or_default(), peak.unwrap_or_default());
            let all = list(&program.seconds, 2);
            write!(f, "{:<24} {seconds:>6.2} s {rate:>6} {peak:>6}  {all:<34}", program.name)?;
            let held = program.peers.iter().filter_map(|peer| Some((peer, self.times(program, peer)?)));
            let held: Vec<String> = held.map(|(peer, times)| format!("{times:.2} x {peer}")).collect();
            writeln!(f, "  {}", held.join("; "))?;
        }
        Ok(())
    }
}
