//! The Python that holds libtorrent, the interop oracle.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::real::skip;

/// Names a Python that has libtorrent already; without it a virtual environment is made.
const PYTHON: &str = "SAMARA_PYTHON";

/// The release that everything is compared with.
const LIBTORRENT: &str = "2.1.1";

/// A Python with libtorrent in it: the one that `SAMARA_PYTHON` names, or a virtual environment below `scratch`
/// (`env!("CARGO_TARGET_TMPDIR")` of the test), made once and kept. `None` if the test named `what` has to be skipped because
/// there is no Python or no wheel; with `CI=true` that is an error.
pub fn libtorrent(what: &str, scratch: &Path) -> Result<Option<PathBuf>> {
    let found = match std::env::var_os(PYTHON).filter(|python| !python.is_empty()) {
        Some(python) => {
            let python = PathBuf::from(python);
            has_libtorrent(&python).map(|()| python).with_context(|| format!("{PYTHON} is set"))
        }
        None => environment(scratch),
    };
    match found {
        Ok(python) => Ok(Some(python)),
        Err(error) => {
            let how = format!("python3 with `pip install libtorrent=={LIBTORRENT}` is needed: {error:#}");
            skip(what, &how)?;
            Ok(None)
        }
    }
}

/// The virtual environment; one process makes it while others wait.
fn environment(scratch: &Path) -> Result<PathBuf> {
    let folder = scratch.join(format!("libtorrent-{LIBTORRENT}"));
    let python = folder.join("bin/python");
    fs::create_dir_all(scratch)?;
    let lock = File::create(folder.with_extension("lock"))?;
    lock.lock()?;
    if has_libtorrent(&python).is_ok() {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let wheel = format!("libtorrent=={LIBTORRENT}");
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--only-binary", ":all:", &wheel]))?;
    has_libtorrent(&python)?;
    Ok(python)
}

fn has_libtorrent(python: &Path) -> Result<()> {
    let check = format!("import libtorrent; assert libtorrent.__version__.startswith('{LIBTORRENT}')");
    run(Command::new(python).args(["-c", &check]))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?} does not start"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed: {}", said.lines().last().unwrap_or("it said nothing"));
    }
    Ok(())
}
