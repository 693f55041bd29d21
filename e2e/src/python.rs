//! The Pythons that hold libtorrent, the interop oracle, and torf.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::real::skip;

/// Names a Python that has libtorrent already; without it a virtual environment is made.
const PYTHON: &str = "SAMARA_PYTHON";

/// The release that everything is compared with.
const LIBTORRENT: &str = "2.1.1";

/// The release of torf that is asked.
const TORF: &str = "4.3.1";

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

/// A Python with torf in it, as [`libtorrent`].
pub fn torf(what: &str, scratch: &Path) -> Result<Option<PathBuf>> {
    match with_wheel(scratch, &format!("torf-{TORF}"), &format!("torf=={TORF}"), has_torf) {
        Ok(python) => Ok(Some(python)),
        Err(error) => {
            skip(what, &format!("python3 with `pip install torf=={TORF}` is needed: {error:#}"))?;
            Ok(None)
        }
    }
}

/// Has libtorrent do jobs; one answer for each. `interop/torrent.py` says what there is to ask.
pub fn ask_libtorrent(python: &Path, jobs: &[Value]) -> Result<Vec<Value>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/torrent.py");
    let mut child = Command::new(python).arg(&script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin is piped")?.write_all(&serde_json::to_vec(jobs)?)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{} failed: {}", script.display(), output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn environment(scratch: &Path) -> Result<PathBuf> {
    let name = format!("libtorrent-{LIBTORRENT}");
    with_wheel(scratch, &name, &format!("libtorrent=={LIBTORRENT}"), has_libtorrent)
}

/// The virtual environment; one process makes it while others wait.
fn with_wheel(scratch: &Path, name: &str, wheel: &str, has_it: fn(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = scratch.join(name);
    let python = folder.join("bin/python");
    fs::create_dir_all(scratch)?;
    let lock = File::create(scratch.join(format!("{name}.lock")))?;
    lock.lock()?;
    if has_it(&python).is_ok() {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    // torf's dependency flatbencode comes as source, which is pure Python.
    let install = ["-m", "pip", "install", "--quiet", "--prefer-binary", wheel];
    run(Command::new(&python).args(install))?;
    has_it(&python)?;
    Ok(python)
}

fn has_torf(python: &Path) -> Result<()> {
    run(Command::new(python).args(["-c", "import torf"]))
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
