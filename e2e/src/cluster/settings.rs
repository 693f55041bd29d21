//! The kernel's settings that a cluster changes for the whole machine: remembered before the first, put back after the last.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::slot::Slot;

/// Below /proc/sys. The first is ours, so that nodes reach each other over the bridge; the kubelet insists on the others.
const CHANGED: [&str; 6] = [
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

fn file() -> PathBuf {
    Slot::base().join("settings")
}

fn path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}

/// Writes down what the settings are, unless a cluster that has not ended yet has done so, and lets the machine forward.
pub fn change() -> Result<()> {
    if !file().exists() {
        let mut lines = String::new();
        for name in CHANGED {
            // A kernel without one of them will not have it changed.
            if let Ok(value) = fs::read_to_string(path(name)) {
                lines += &[name, value.trim()].join(" ");
                lines.push('\n');
            }
        }
        // Renamed into place: a file that is there is whole.
        let partial = file().with_extension("partial");
        fs::write(&partial, lines)?;
        fs::rename(partial, file())?;
    }
    let forwarding = path(CHANGED[0]);
    fs::write(&forwarding, "1").with_context(|| forwarding.display().to_string())
}

/// Puts them back.
pub fn restore() -> Result<()> {
    let Ok(lines) = fs::read_to_string(file()) else { return Ok(()) };
    for (name, value) in lines.lines().filter_map(|line| line.split_once(' ')) {
        if fs::read_to_string(path(name)).is_ok_and(|now| now.trim() != value) {
            fs::write(path(name), value).with_context(|| name.to_owned())?;
        }
    }
    fs::remove_file(file()).context("settings")
}
