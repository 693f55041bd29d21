//! The machine's side of the network: one bridge, and a network namespace with a veth for each member.

use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::process::{line, line_blocking, run};
use super::settings;
use super::slot::Slot;

/// The smallest queue of a limited link: several segments of the largest offload size (64 KiB).
const MIN_QUEUE: u64 = 256 * 1024;
/// How long the processes of a namespace may take to disappear after SIGKILL.
const KILL_TIMEOUT: Duration = Duration::from_secs(20);

/// Makes the bridge and lets the machine forward between its members.
pub async fn create_bridge(slot: &Slot) -> Result<()> {
    let bridge = slot.prefix();
    line(&format!("ip link add {bridge} type bridge")).await?;
    line(&format!("ip address add {}/16 dev {bridge}", slot.gateway())).await?;
    line(&format!("ip link set {bridge} up")).await?;
    settings::change()?;
    // A machine with a firewall (Docker's, say) drops what it forwards; bridged frames count as forwarded.
    for rule in forward_rules(&bridge) {
        line(&format!("iptables -w 10 -I {rule}")).await?;
    }
    Ok(())
}

/// Undoes [`create_bridge`]; what is already gone is no error.
pub fn destroy_bridge(slot: &Slot, last: bool) -> Result<()> {
    let bridge = slot.prefix();
    for rule in forward_rules(&bridge) {
        // An error means that the rule is not there (any more).
        while line_blocking(&format!("iptables -w 10 -D {rule}")).is_ok() {}
    }
    if PathBuf::from(format!("/sys/class/net/{bridge}")).exists() {
        line_blocking(&format!("ip link delete {bridge}"))?;
    }
    if last {
        settings::restore()?;
    }
    Ok(())
}

fn forward_rules(bridge: &str) -> [String; 2] {
    [format!("FORWARD -i {bridge} -j ACCEPT"), format!("FORWARD -o {bridge} -j ACCEPT")]
}

/// Bytes on a link, frames and all.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// Towards the namespace.
    pub received: u64,
    /// From it.
    pub sent: u64,
}

/// A network namespace on the bridge, known to `ip netns`.
#[derive(Debug, Clone)]
pub struct Namespace {
    /// `smr<k>-<suffix>`.
    pub name: String,
    /// The bridge's end of its veth; the other end is `eth0`.
    link: String,
}

impl Namespace {
    /// The namespace that is or would be called so.
    pub fn named(slot: &Slot, suffix: &str) -> Self {
        Self { name: format!("{}-{suffix}", slot.prefix()), link: format!("{}{suffix}", slot.prefix()) }
    }

    /// Makes it, with `address` and a default route over the bridge.
    pub async fn create(slot: &Slot, suffix: &str, address: Ipv4Addr) -> Result<Self> {
        let this = Self::named(slot, suffix);
        let (name, link) = (&this.name, &this.link);
        line(&format!("ip netns add {name}")).await?;
        line(&format!("ip link add {link} type veth peer name eth0 netns {name}")).await?;
        line(&format!("ip link set {link} master {} up", slot.prefix())).await?;
        line(&format!("ip -n {name} link set lo up")).await?;
        line(&format!("ip -n {name} address add {address}/16 dev eth0")).await?;
        line(&format!("ip -n {name} link set eth0 up")).await?;
        line(&format!("ip -n {name} route add default via {}", slot.gateway())).await?;
        Ok(this)
    }

    /// Its handle in the file system.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// `program` inside it, in the machine's mount namespace. Not `ip netns exec`: that remounts /sys.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Limits what it may send and receive, in bytes per second each; `None` is without limit.
    pub async fn limit(&self, send: Option<u64>, receive: Option<u64>) -> Result<()> {
        let outside = Command::new("tc");
        shape(outside, &self.link, receive).await?;
        shape(self.command("tc"), "eth0", send).await
    }

    /// What its link has carried since it was made.
    pub async fn traffic(&self) -> Result<Traffic> {
        let mut ip = self.command("ip");
        ip.args(["-json", "-stats", "link", "show", "eth0"]);
        let links: serde_json::Value = serde_json::from_str(&run(ip).await?)?;
        let bytes = |way: &str| {
            let counted = links[0]["stats64"][way]["bytes"].as_u64();
            counted.with_context(|| format!("no {way} bytes in what ip printed"))
        };
        Ok(Traffic { received: bytes("rx")?, sent: bytes("tx")? })
    }

    /// Pulls the cable out (`true`) or plugs it in again.
    pub async fn cut(&self, cut: bool) -> Result<()> {
        line(&format!("ip link set {} {}", self.link, if cut { "down" } else { "up" })).await.map(drop)
    }

    /// Every process in it, zombies left out.
    pub fn members(&self) -> Vec<Pid> {
        let Ok(own) = fs::metadata(self.path()) else { return Vec::new() };
        processes(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|other| (other.dev(), other.ino()) == (own.dev(), own.ino()))
        })
    }

    /// Ends every process in it, deletes the link and the namespace. What is already gone is no error.
    pub fn destroy(&self) -> Result<()> {
        kill_all(&self.name, || self.members())?;
        if PathBuf::from(format!("/sys/class/net/{}", self.link)).exists() {
            line_blocking(&format!("ip link delete {}", self.link))?;
        }
        if self.path().exists() {
            line_blocking(&format!("ip netns delete {}", self.name))?;
        }
        Ok(())
    }
}

async fn shape(mut tc: Command, device: &str, rate: Option<u64>) -> Result<()> {
    if let Some(rate) = rate {
        // A tenth of a second of queue: enough for TCP to fill the link, short enough for control messages.
        let (burst, queue) = ((rate / 100).max(64 * 1024), (rate / 10).max(MIN_QUEUE));
        tc.args(["qdisc", "replace", "dev", device, "root", "tbf"]).args([
            "rate",
            &format!("{rate}bps"),
            "burst",
            &burst.to_string(),
            "limit",
            &queue.to_string(),
        ]);
        run(tc).await.map(drop)
    } else {
        tc.args(["qdisc", "delete", "dev", device, "root"]);
        // Without a limit there is nothing to delete, which tc calls an error.
        super::process::output(tc, super::process::COMMAND_TIMEOUT).await.map(drop)
    }
}

/// The processes for which `wanted` holds, zombies left out.
pub fn processes(wanted: impl Fn(i32) -> bool) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|&pid| !is_zombie(pid) && wanted(pid))
        .filter_map(Pid::from_raw)
        .collect()
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; the state is the first letter after the last one.
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Sends SIGKILL to what `list` finds until it finds nothing more.
pub fn kill_all(what: &str, list: impl Fn() -> Vec<Pid>) -> Result<()> {
    let deadline = std::time::Instant::now() + KILL_TIMEOUT;
    loop {
        let pids = list();
        if pids.is_empty() {
            return Ok(());
        }
        if std::time::Instant::now() > deadline {
            bail!("{what}: {} processes survive SIGKILL: {pids:?}", pids.len());
        }
        for pid in pids {
            // It may have ended since it was listed.
            kill_process(pid, Signal::KILL).ok();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The namespaces of this slot that exist, by name.
pub fn existing(slot: &Slot) -> Result<Vec<Namespace>> {
    let prefix = format!("{}-", slot.prefix());
    let Ok(entries) = fs::read_dir("/run/netns") else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.context("/run/netns")?.file_name();
        if let Some(suffix) = name.to_str().and_then(|name| name.strip_prefix(&prefix)) {
            found.push(Namespace::named(slot, suffix));
        }
    }
    Ok(found)
}
