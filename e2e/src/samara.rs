//! The `samara` binary for tests that run it as a user does.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use xtask::tools::cargo;

/// The binary of this source tree, built first (which takes no time if it is there), in the profile of the tests.
pub fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}"))).clone().map_err(anyhow::Error::msg)
}

fn build() -> Result<PathBuf> {
    // From the whole workspace, as all tests: another selection has other features, and all dependencies would be built again.
    let mut command =
        cargo(&["build", "--quiet", "--workspace", "--bin", "samara", "--message-format", "json"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo cannot build the samara binary");
    let artifacts = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<serde_json::Value>();
    let executable = |artifact: serde_json::Value| artifact["executable"].as_str().map(PathBuf::from);
    artifacts.filter_map(Result::ok).filter_map(executable).last().context("cargo names no executable")
}
