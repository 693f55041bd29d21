//! The control groups of a node, in version 1, version 2 and hybrid layouts.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Pid;

use super::net::processes;
use super::slot::Slot;

const MOUNT: &str = "/sys/fs/cgroup";
/// The kernel lets go of a group a moment after its last process has gone.
const REMOVE_ATTEMPTS: u32 = 100;

/// The group under which a node's kubelet makes those of its pods.
#[derive(Debug)]
pub struct Cgroup {
    name: String,
}

impl Cgroup {
    /// The group of node `number`; it need not exist.
    pub fn of_node(slot: &Slot, number: usize) -> Self {
        Self { name: format!("{}-node{number}", slot.prefix()) }
    }

    /// The groups of this slot that exist.
    pub fn existing(slot: &Slot) -> Vec<Self> {
        let prefix = format!("{}-node", slot.prefix());
        let mut names: Vec<String> = hierarchies()
            .iter()
            .filter_map(|hierarchy| fs::read_dir(hierarchy).ok())
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(&prefix))
            .collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| Self { name }).collect()
    }

    /// Its path from the root of each hierarchy, as the kubelet wants it.
    pub fn root(&self) -> String {
        format!("/{}", self.name)
    }

    /// Makes it in every hierarchy.
    pub fn create(&self) -> Result<()> {
        for hierarchy in hierarchies() {
            let folder = hierarchy.join(&self.name);
            if is_unified(&hierarchy) {
                delegate(&hierarchy)?;
                make(&folder)?;
                delegate(&folder)?;
                continue;
            }
            make(&folder)?;
            // A version 1 cpuset starts empty and then takes no process.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(value) = fs::read_to_string(hierarchy.join(file)) {
                    fs::write(folder.join(file), value.trim())
                        .with_context(|| folder.display().to_string())?;
                }
            }
        }
        Ok(())
    }

    /// Every process in it or below it.
    pub fn members(&self) -> Vec<Pid> {
        let (exact, below) = (format!(":/{}", self.name), format!(":/{}/", self.name));
        processes(|pid| {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            groups.lines().any(|line| line.ends_with(&exact) || line.contains(&below))
        })
    }

    /// Removes it with everything below it, once it has no processes.
    pub fn remove(&self) -> Result<()> {
        for hierarchy in hierarchies() {
            let folder = hierarchy.join(&self.name);
            let mut attempt = 0;
            while let Err(error) = remove_tree(&folder) {
                attempt += 1;
                if attempt == REMOVE_ATTEMPTS {
                    return Err(error).with_context(|| folder.display().to_string());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())
}

/// Version 2: the group's children get all controllers that it has.
fn delegate(folder: &Path) -> Result<()> {
    let controllers = fs::read_to_string(folder.join("cgroup.controllers"))?;
    for controller in controllers.split_whitespace() {
        // Some (cpu with real-time processes, for one) are refused; the kubelet says which it misses.
        drop(fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}")));
    }
    Ok(())
}

fn is_unified(hierarchy: &Path) -> bool {
    hierarchy.join("cgroup.controllers").exists()
}

/// The mounted hierarchies: one in version 2; in version 1 and hybrid one per controller, links left out.
fn hierarchies() -> Vec<PathBuf> {
    let mount = PathBuf::from(MOUNT);
    if is_unified(&mount) {
        return vec![mount];
    }
    let Ok(entries) = fs::read_dir(mount) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|folder| folder.join("cgroup.procs").exists())
        .collect()
}

/// Folders only: a group's files cannot be removed and go with it.
fn remove_tree(folder: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}
