//! Packages of npm, whose programs are asked what they make of ours.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

/// The folder that has a `node_modules` with this package (`name@version`) in it, below `scratch` (`env!("CARGO_TARGET_TMPDIR")` of the
/// test), made once and kept; one process makes it while others wait.
pub fn with_package(scratch: &Path, package: &str) -> Result<PathBuf> {
    let folder = scratch.join(package);
    fs::create_dir_all(&folder)?;
    let lock = File::create(scratch.join(format!("{package}.lock")))?;
    lock.lock()?;
    let done = folder.join("done");
    if !done.exists() {
        let install = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", package];
        let output = Command::new("npm").args(install).current_dir(&folder).output()?;
        if !output.status.success() {
            bail!("{package} cannot be installed: {}", String::from_utf8_lossy(&output.stderr));
        }
        fs::write(&done, "")?;
    }
    Ok(folder)
}
