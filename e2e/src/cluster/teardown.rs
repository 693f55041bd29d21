//! Removing a cluster by what its slot names on this machine, whoever started it and however that ended.

use anyhow::{Context as _, Result};

use super::cgroup::Cgroup;
use super::net::{self, kill_all};
use super::node::remove_all;
use super::process::line_blocking;
use super::slot::{SLOTS, Slot};

/// Removes everything that the slot's cluster made: processes, control groups, namespaces, links, rules, files.
pub fn clean(slot: &Slot) -> Result<()> {
    let groups = Cgroup::existing(slot);
    let namespaces = net::existing(slot)?;
    // All at once: a kubelet that outlives its pods starts them again, in networks that are not the node's.
    kill_all(&slot.prefix(), || {
        let nodes = namespaces.iter().flat_map(net::Namespace::members);
        nodes.chain(groups.iter().flat_map(Cgroup::members)).collect()
    })?;
    for namespace in namespaces {
        namespace.destroy().with_context(|| namespace.name.clone())?;
    }
    for group in &groups {
        group.remove()?;
    }
    net::destroy_bridge(slot, is_last(slot)?)?;
    if std::env::var_os("SAMARA_E2E_KEEP_LOGS").is_some() {
        let kept = Slot::base().join(format!("logs-{}", slot.prefix()));
        remove_all(&kept)?;
        // There are none if the start failed early.
        drop(std::fs::rename(slot.logs(), kept));
    }
    remove_all(&slot.dir)
}

/// Whether no other slot is in use.
fn is_last(slot: &Slot) -> Result<bool> {
    for index in (0..SLOTS).filter(|index| *index != slot.index) {
        match Slot::claim(index)? {
            Some(other) if !other.is_used() => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Removes what harnesses that were killed have left.
pub fn sweep() -> Result<()> {
    for index in 0..SLOTS {
        if let Some(slot) = Slot::claim(index)?.filter(|slot| slot.is_used() && !slot.is_detached()) {
            eprintln!("removing what a killed harness left in {}", slot.dir.display());
            clean(&slot)?;
        }
    }
    Ok(())
}

/// Ends the clusters that were started by hand (or only that of slot `only`), and removes what killed harnesses have left.
/// Answers how many it ended.
pub fn down(only: Option<u8>) -> Result<usize> {
    let mut ended = 0;
    for index in (0..SLOTS).filter(|index| only.is_none_or(|only| only == *index)) {
        if let Some(slot) = Slot::claim(index)?.filter(Slot::is_used) {
            clean(&slot)?;
            ended += 1;
        }
    }
    Ok(ended)
}

/// One line per cluster on this machine.
pub fn status() -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for index in 0..SLOTS {
        let line = match Slot::claim(index)? {
            None => format!("slot {index}: in use by a running test"),
            Some(slot) if slot.is_detached() => {
                let nodes = net::existing(&slot)?.iter().filter(|ns| ns.name.contains("-n")).count();
                format!("slot {index}: {nodes} nodes, KUBECONFIG={}", slot.kubeconfig().display())
            }
            Some(slot) if slot.is_used() => format!("slot {index}: left over from a killed harness"),
            Some(_) => continue,
        };
        lines.push(line);
    }
    Ok(lines)
}

/// What is on this machine of slot `index`: nothing, if its cluster was torn down as it should.
pub fn leftovers(index: u8) -> Result<Vec<String>> {
    let slot = Slot::unclaimed(index)?;
    let (prefix, folder) = (slot.prefix(), slot.dir.display().to_string());
    let mut found: Vec<String> =
        net::existing(&slot)?.into_iter().map(|ns| format!("namespace {}", ns.name)).collect();
    found.extend(Cgroup::existing(&slot).iter().map(|group| format!("control group {}", group.root())));
    for entry in std::fs::read_dir("/sys/class/net")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(&prefix) {
            found.push(format!("link {name}"));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    found.extend(mounts.lines().filter(|line| line.contains(&folder)).map(|line| format!("mount {line}")));
    let loops = line_blocking("losetup --list --noheadings --output BACK-FILE")?;
    found.extend(
        loops.lines().filter(|line| line.contains(&folder)).map(|line| format!("loop device of {line}")),
    );
    let rules = line_blocking("iptables -w 10 -S FORWARD")?;
    found.extend(rules.lines().filter(|line| line.contains(&prefix)).map(|line| format!("rule {line}")));
    let processes = net::processes(|pid| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&format!("{folder}/")))
    });
    found.extend(processes.iter().map(|pid| format!("process {}", pid.as_raw_nonzero())));
    if slot.is_used() {
        found.push(format!("folder {folder}"));
    }
    Ok(found)
}
