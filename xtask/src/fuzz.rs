//! `cargo xtask fuzz`: the fuzz targets of `torrent`, `swarm` and `tracker`, on the stable compiler.
//!
//! libFuzzer needs nothing of a nightly compiler but sanitizers; the counters of coverage it steers by are a pass of LLVM that
//! every rustc can run. What is found and learned lies in cargo's target folder, so that the source tree stays clean.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use xtask::tools::{self, cargo, is_installed, workspace};

use crate::test::say;

/// Seconds for each target, if nothing else is said.
pub const SECONDS: u64 = 10;

/// What makes libFuzzer see where the program went; the flags of cargo-fuzz without a sanitizer.
const FLAGS: [&str; 9] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Clink-dead-code",
    "-Cdebug-assertions",
    "--cfg=fuzzing",
];

/// Longest input, memory, and time for one input: beyond them an input counts as a crash.
const LIMITS: [&str; 3] = ["-max_len=65536", "-rss_limit_mb=1024", "-timeout=10"];

/// Lines of a target's output that are shown if it fails.
const SHOWN_LINES: usize = 40;

/// What keeps this machine from fuzzing, each with how to mend it.
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !cfg!(target_os = "linux") {
        missing.push("libFuzzer is built for Linux here".into());
    }
    if std::env::var_os("CXX").is_none() && !is_installed("c++") {
        missing.push("no c++ to build libFuzzer: apt-get install g++".into());
    }
    missing
}

/// The folders of the crates of fuzz targets, in the source tree.
const CRATES: [&str; 3] = ["torrent/fuzz", "swarm/fuzz", "tracker/fuzz"];

/// A fuzz target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    name: String,
    /// The folder of its crate.
    sources: PathBuf,
}

/// Builds the targets and runs each, those with these names or all, as many at a time as there are processors; fails after the last
/// one if one has crashed.
pub fn run(wanted: &[String], seconds: u64) -> Result<()> {
    let missing = missing();
    ensure!(missing.is_empty(), "{}", missing.join("; "));
    let known = targets()?;
    if let Some(unknown) = wanted.iter().find(|name| !known.iter().any(|target| target.name == **name)) {
        let names: Vec<&str> = known.iter().map(|target| target.name.as_str()).collect();
        bail!("no fuzz target {unknown}: there are {}", names.join(", "));
    }
    let folder = tools::target().join("fuzz");
    let programs = build(&folder)?;
    let mut targets = known;
    targets.retain(|target| wanted.is_empty() || wanted.contains(&target.name));
    let failed = fuzz_all(&targets, &programs, &folder, seconds);
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(())
}

/// Answers what went wrong.
fn fuzz_all(targets: &[Target], programs: &Path, folder: &Path, seconds: u64) -> Vec<String> {
    let at_a_time = std::thread::available_parallelism().map_or(1, usize::from);
    let mut failed = Vec::new();
    for targets in targets.chunks(at_a_time) {
        std::thread::scope(|threads| {
            let start = |target| (target, threads.spawn(move || fuzz(target, programs, folder, seconds)));
            let running: Vec<(&Target, _)> = targets.iter().map(start).collect();
            for (Target { name, .. }, thread) in running {
                match thread.join().unwrap_or_else(|_| bail!("its thread panicked")) {
                    Ok(summary) => say(&format!("{name:12} {summary}")),
                    Err(error) => failed.push(format!("{name}: {error:#}")),
                }
            }
        });
    }
    failed
}

/// The targets, by name: those of their files.
fn targets() -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for sources in CRATES.map(|name| workspace().join(name)) {
        let folder = sources.join("fuzz_targets");
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.file_stem().context("a name without a stem")?.to_string_lossy().into_owned();
                targets.push(Target { name, sources: sources.clone() });
            }
        }
    }
    targets.sort();
    Ok(targets)
}

/// Builds all targets below `folder`, and answers where the programs lie.
fn build(folder: &Path) -> Result<PathBuf> {
    let host = host()?;
    for sources in CRATES.map(|name| workspace().join(name)) {
        // With a target named, even if it is the host, build scripts and macros are built without the flags.
        let mut command = cargo(&["build", "--quiet", "--locked", "--release", "--bins", "--target", &host]);
        command.arg("--manifest-path").arg(sources.join("Cargo.toml"));
        command.env("CARGO_TARGET_DIR", folder).env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
        tools::run(&mut command)?;
    }
    Ok(folder.join(host).join("release"))
}

/// What rustc calls this machine.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).current_dir(workspace()).arg("-vV").output().context("rustc -vV")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV does not name its host")?.to_owned())
}

/// Runs one target, and answers how far it came.
fn fuzz(target: &Target, programs: &Path, folder: &Path, seconds: u64) -> Result<String> {
    let Target { name, sources } = target;
    let program = programs.join(name);
    let corpus = folder.join("corpus").join(name);
    let crashes = folder.join("crashes");
    fs::create_dir_all(&crashes).with_context(|| crashes.display().to_string())?;
    copy_seeds(&sources.join("corpus").join(name), &corpus)?;
    let log = folder.join(format!("{name}.log"));
    let writer = File::create(&log).with_context(|| log.display().to_string())?;
    let status = Command::new(&program)
        .current_dir(folder)
        .args(LIMITS)
        .arg("-print_final_stats=1")
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/{name}-", crashes.display()))
        .arg(&corpus)
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .status()
        .with_context(|| format!("{}: cannot start", program.display()))?;
    let output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    if !status.success() {
        let lines: Vec<&str> = output.lines().collect();
        say(&lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"));
        let input = crash(&output).with_context(|| format!("ended with {status}: see {}", log.display()))?;
        bail!("crashes on {input}; to see it again: {} {input}", program.display());
    }
    let progress = Progress::of(&output).with_context(|| format!("no statistics in {}", log.display()))?;
    ensure!(progress.coverage > 0, "sees no coverage: the compiler did not take the flags");
    Ok(progress.to_string())
}

/// Seeds are copied to where the fuzzer adds what it finds; what it found before stays.
fn copy_seeds(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| format!("{}: no seeds", from.display()))? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// The file that libFuzzer wrote the crashing input to: the last one, since inputs that are merely slow are kept too.
fn crash(output: &str) -> Option<&str> {
    output.lines().rev().find_map(|line| Some(line.split_once("Test unit written to ")?.1.trim()))
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
struct Progress {
    executions: u64,
    /// Places in the program that were reached: by the corpus it began with, and in the end.
    at_first: u64,
    coverage: u64,
}

impl Progress {
    /// From libFuzzer's output.
    fn of(output: &str) -> Option<Self> {
        let number = |text: &str| text.split_whitespace().next()?.parse().ok();
        let mut reached = output.lines().filter_map(|line| number(line.split_once(" cov: ")?.1));
        let at_first = reached.next()?;
        let executed =
            output.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
        Some(Self {
            executions: number(executed)?,
            at_first,
            coverage: reached.next_back().unwrap_or(at_first),
        })
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:9} executions, coverage {} (at first {})", self.executions, self.coverage, self.at_first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_libfuzzer_is_read() {
        let output = "INFO: seed corpus: files: 11\n\
            #11\tINITED cov: 199 ft: 429 corp: 10/935b exec/s: 0 rss: 29Mb\n\
            #12\tNEW    cov: 201 ft: 431 corp: 11/940b lim: 4 exec/s: 0 rss: 29Mb\n\
            #485920\tDONE   cov: 225 ft: 1012 corp: 158/19Kb exec/s: 37378 rss: 30Mb\n\
            stat::number_of_executed_units: 485920\n";
        let expected = Progress { executions: 485_920, at_first: 199, coverage: 225 };
        assert_eq!(Progress::of(output), Some(expected));
        assert_eq!(Progress::of(""), None);
    }

    #[test]
    fn the_crashing_input_is_found() {
        let output = "==7== ERROR: libFuzzer: deadly signal\n\
            artifact_prefix='/f/magnet-'; Test unit written to /f/magnet-crash-da39\nBase64: \n";
        assert_eq!(crash(output), Some("/f/magnet-crash-da39"));
        assert_eq!(crash("Done 12 runs"), None);
    }
}
