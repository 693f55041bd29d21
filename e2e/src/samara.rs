//! Our own binaries for tests that run them as a user does.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use xtask::tools::cargo;

type Built = OnceLock<Result<PathBuf, String>>;

/// The `samara` binary of this source tree, built first (which takes no time if it is there), in the profile of the tests.
pub fn binary() -> Result<PathBuf> {
    static BUILT: Built = OnceLock::new();
    once(&BUILT, "samara")
}

/// The `samara-tracker` binary, likewise.
pub fn tracker() -> Result<PathBuf> {
    static BUILT: Built = OnceLock::new();
    once(&BUILT, "samara-tracker")
}

fn once(built: &Built, name: &str) -> Result<PathBuf> {
    built
        .get_or_init(|| build(name).map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(anyhow::Error::msg)
}

fn build(name: &str) -> Result<PathBuf> {
    // From the whole workspace, as all tests: another selection has other features, and all dependencies would be built again.
    let mut command = cargo(&["build", "--quiet", "--workspace", "--bin", name, "--message-format", "json"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo cannot build the {name} binary");
    let artifacts = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<serde_json::Value>();
    let executable = |artifact: serde_json::Value| artifact["executable"].as_str().map(PathBuf::from);
    artifacts.filter_map(Result::ok).filter_map(executable).last().context("cargo names no executable")
}
