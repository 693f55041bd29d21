//! `cargo xtask test`: every check of the project, one after the other, and a table of how they went.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use xtask::tools::{self, Tools, cargo, is_installed, workspace};
use xtask::{crds, image, licences};

use crate::fuzz;

/// A check, the cheap ones first.
struct Step {
    name: String,
    /// What it needs that is missing on this machine, each with how to get it.
    missing: Vec<String>,
    /// Answers what it has skipped itself.
    run: Box<dyn Fn() -> Result<Vec<String>>>,
}

/// How a step went.
enum Outcome {
    /// With what it has skipped itself.
    Passed(Vec<String>),
    Failed(String),
    Skipped(String),
}

/// A step that needs nothing and skips nothing.
fn plain(name: &str, run: impl Fn() -> Result<()> + 'static) -> Step {
    Step { name: name.into(), missing: Vec::new(), run: Box::new(move || run().map(|()| Vec::new())) }
}

/// A step that is one call of cargo.
fn simple(name: &str, args: &'static [&'static str]) -> Step {
    plain(name, || tools::run(&mut cargo(args)))
}

/// The tests of all crates but e2e, which may say what they skip. Most of them wait most of the time, for peers, timers and limited links:
/// twice as many at a time as there are cores take half the time.
fn integration() -> Result<Vec<String>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut tests = cargo(&["test", "--locked", "--workspace", "--exclude", "e2e", "--test", "*"]);
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        tests.env("RUST_TEST_THREADS", (2 * cores).to_string());
    }
    run_and_listen(&mut tests)
}

fn steps() -> Result<Vec<Step>> {
    // Always a selection from the whole workspace: with another one cargo would build every dependency again, with other features.
    let mut steps = vec![
        simple("format", &["fmt", "--all", "--check"]),
        plain("licences", dependencies),
        plain("crds", || crds::run(true)),
        simple("lints", &["clippy", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"]),
        simple("units", &["test", "--locked", "--workspace", "--lib", "--bins"]),
        Step { name: "integration".into(), missing: Vec::new(), run: Box::new(integration) },
        simple("examples", &["test", "--locked", "--workspace", "--doc"]),
        Step { missing: fuzz::missing(), ..plain("fuzz", || fuzz::run(&[], fuzz::SECONDS)) },
        wasm("wasm32-torrent", &["build", "--locked", "--package", "torrent", "--target", WASM]),
        wasm(
            "wasm32-swarm",
            &["build", "--locked", "--package", "swarm", "--no-default-features", "--target", WASM],
        ),
        Step { missing: missing_for_image(), ..plain("image", || image::build_default().map(drop)) },
    ];
    for name in test_programs()? {
        steps.push(end_to_end(name));
    }
    Ok(steps)
}

const WASM: &str = "wasm32-unknown-unknown";

/// The pure crates build where there is no clock, no file and no socket.
fn wasm(name: &str, args: &'static [&'static str]) -> Step {
    let missing = if has_target(WASM) { Vec::new() } else { vec![format!("rustup target add {WASM}")] };
    Step { missing, ..simple(name, args) }
}

fn missing_for_image() -> Vec<String> {
    const MUSL: &str = "x86_64-unknown-linux-musl";
    let mut missing = Vec::new();
    if !has_target(MUSL) {
        missing.push(format!("rustup target add {MUSL}"));
    }
    if !is_installed("musl-gcc") {
        missing.push("no musl-gcc: apt-get install musl-tools".into());
    }
    missing
}

/// Whether rustc has the standard library of `target`.
fn has_target(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .current_dir(workspace())
        .args(["--print", "target-libdir", "--target", target])
        .output();
    output.is_ok_and(|output| std::path::Path::new(String::from_utf8_lossy(&output.stdout).trim()).exists())
}

/// The programs of e2e/tests: other clients and the chart first, real clusters last.
fn test_programs() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(workspace().join("e2e/tests"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.push(path.file_stem().context("a name without a stem")?.to_string_lossy().into_owned());
        }
    }
    names.sort_by_key(|name| (is_cluster(name), name.clone()));
    Ok(names)
}

fn is_cluster(name: &str) -> bool {
    name.starts_with("cluster_")
}

/// Tests that talk to an API server but to no node.
const API_SERVER: [&str; 3] = ["api_conformance", "chart_rights", "crd_validation"];

/// Tests that mount file systems.
const DISKS: [&str; 2] = ["disk_limits", "power_cuts"];

/// Tests with a container runtime and no cluster.
const RUNTIME: [&str; 1] = ["image_containerd"];

fn end_to_end(name: String) -> Step {
    let with_api_server = API_SERVER.contains(&name.as_str());
    let mut missing = Vec::new();
    if is_cluster(&name) || with_api_server {
        missing = tools::missing();
    }
    if is_cluster(&name) {
        missing.extend(missing_for_image());
    }
    if DISKS.contains(&name.as_str()) {
        missing = tools::missing_for_disks();
    }
    if RUNTIME.contains(&name.as_str()) {
        missing = tools::missing_for_runtime();
    }
    if name == "mirror_conformance" && !is_installed("go") {
        missing.push("no Go (https://go.dev/dl, 1.24 or later) to build the conformance suite".into());
    }
    if name.starts_with("chart")
        && !Tools::locate().are_built()
        && !is_installed("go")
        && !is_installed("helm")
    {
        missing.push("no helm, and no Go to build it: https://helm.sh".into());
    }
    let test = name.clone();
    let run = move || {
        if with_api_server || test.starts_with("chart") {
            Tools::build()?;
        }
        let args = ["test", "--locked", "--workspace", "--test", &test, "--", "--nocapture"];
        let mut command = cargo(&args);
        if with_api_server {
            command = program("e2e-cluster", "dev")?;
            command
                .current_dir(workspace())
                .args(["run", "--nodes", "0", "--"])
                .arg(tools::cargo_program())
                .args(args);
        }
        run_and_listen(command.env("SAMARA_TOOLS", Tools::locate().dir()))
    };
    Step { name, missing, run: Box::new(run) }
}

/// One of the programs of the end-to-end tests, built in a profile ("dev", "release"). They find each other in one folder.
pub fn program(name: &str, profile: &str) -> Result<Command> {
    let bins =
        ["e2e-cluster", "e2e-bench", "e2e-floor", "e2e-origin", "e2e-power-cuts"].map(|bin| ["--bin", bin]);
    let build = ["build", "--quiet", "--locked", "--workspace", "--profile", profile];
    tools::run(&mut cargo(&[&build, bins.as_flattened()].concat()))?;
    let folder = if profile == "dev" { "debug" } else { profile };
    let mut program = Command::new(tools::target().join(folder).join(name));
    tools::forget_package(&mut program);
    Ok(program)
}

/// Runs tests, lets them talk, and answers the lines in which they say what they skipped.
fn run_and_listen(command: &mut Command) -> Result<Vec<String>> {
    let (reader, writer) = std::io::pipe()?;
    let mut child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // The command holds the writing end too, and the reader waits until nobody does.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut skipped = Vec::new();
    for line in BufReader::new(reader).lines() {
        let line = line?;
        if let Some((_, what)) = line.split_once("SKIPPED ") {
            skipped.push(what.to_owned());
        }
        say(&line);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("ended with {status}");
    }
    Ok(skipped)
}

/// cargo-deny where it is installed; in any case the part of it that needs nothing.
fn dependencies() -> Result<()> {
    licences::check()?;
    if is_installed("cargo-deny") {
        tools::run(&mut cargo(&["deny", "check", "licenses", "bans", "sources"]))?;
    }
    Ok(())
}

/// Prints the steps, and for each what it misses here.
pub fn list(wanted: &[String]) {
    match select(wanted) {
        Ok(steps) => {
            for step in steps {
                let missing = if step.missing.is_empty() {
                    String::new()
                } else {
                    format!("  (missing: {})", step.missing.join("; "))
                };
                say(&format!("{}{missing}", step.name));
            }
        }
        Err(error) => say(&format!("{error:#}")),
    }
}

fn select(wanted: &[String]) -> Result<Vec<Step>> {
    let mut steps = steps()?;
    if let Some(unknown) = wanted.iter().find(|name| !steps.iter().any(|step| step.name == **name)) {
        bail!("no step {unknown}: see cargo xtask test --list");
    }
    steps.retain(|step| wanted.is_empty() || wanted.contains(&step.name));
    Ok(steps)
}

/// Runs the steps and prints the table; the last line is `N passed, N failed`.
pub fn run(wanted: &[String]) -> Result<ExitCode> {
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let mut table = Vec::new();
    let mut room = Room::look();
    for step in select(wanted)? {
        say(&format!("\n=== {}", step.name));
        let start = Instant::now();
        let outcome = match step.missing.is_empty() {
            true => (step.run)().map_or_else(|error| Outcome::Failed(format!("{error:#}")), Outcome::Passed),
            false if ci => {
                Outcome::Failed(format!("with CI=true nothing is skipped: {}", step.missing.join("; ")))
            }
            false => Outcome::Skipped(step.missing.join("; ")),
        };
        table.push((step.name, outcome, start.elapsed().as_secs_f64()));
        room.look_again();
    }
    let code = summary(&table);
    say(&room.to_string());
    Ok(code)
}

fn summary(table: &[(String, Outcome, f64)]) -> ExitCode {
    let width = table.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
    let (mut passed, mut failed) = (0, 0);
    say("");
    for (name, outcome, seconds) in table {
        let text = match outcome {
            Outcome::Passed(skipped) => {
                passed += 1;
                if skipped.is_empty() {
                    "passed".into()
                } else {
                    format!("passed   without {}", skipped.join("; "))
                }
            }
            Outcome::Failed(why) => {
                failed += 1;
                format!("FAILED   {why}")
            }
            Outcome::Skipped(why) => format!("skipped  {why}"),
        };
        say(&format!("{name:width$} {seconds:7.1} s  {text}"));
    }
    say(&format!("{passed} passed, {failed} failed"));
    ExitCode::from(u8::from(failed > 0))
}

/// Free space where everything is built: a compiler that runs out of it fails in words that do not say so.
struct Room {
    at_first: Option<u64>,
    least: Option<u64>,
}

impl Room {
    fn look() -> Self {
        let now = Self::now();
        Self { at_first: now, least: now }
    }

    fn look_again(&mut self) {
        self.least = self.least.min(Self::now());
    }

    /// Bytes; none where nothing has been built yet or the disk does not tell.
    fn now() -> Option<u64> {
        let seen = rustix::fs::statvfs(tools::target()).or_else(|_| rustix::fs::statvfs(workspace())).ok()?;
        Some(seen.f_bavail * seen.f_frsize)
    }
}

impl std::fmt::Display for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Some(at_first), Some(least)) = (self.at_first, self.least) else {
            return write!(f, "the disk does not tell how much room it has");
        };
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        write!(
            f,
            "room on the disk: {:.1} GB at first, {:.1} GB at least",
            gigabytes(at_first),
            gigabytes(least)
        )
    }
}

/// The report is this program's standard output.
#[allow(clippy::print_stdout)]
pub fn say(line: &str) {
    println!("{line}");
}
