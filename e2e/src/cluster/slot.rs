//! One of the clusters that may run on this machine: its number, names, addresses and folder.

use std::fs::{self, File, TryLockError};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Clusters that may run side by side; each takes a /16 of its own for nodes, pods and services.
pub const SLOTS: u8 = 8;
/// Nodes are numbered 1 to this.
pub const MAX_NODES: usize = 250;

/// A cluster's claim on one of the [`SLOTS`]. Slot 0 has the addresses 10.88/16 (nodes), 10.244/16 (pods), 10.96/16 (services);
/// slot k adds k to each second byte. Everything it makes on the machine is named `smr<k>...` and is thereby found again.
#[derive(Debug)]
pub struct Slot {
    /// The number, 0 to `SLOTS - 1`.
    pub index: u8,
    /// The folder with everything the cluster writes.
    pub dir: PathBuf,
    /// Held while the harness lives; the kernel lets go of it when the harness dies, however it dies.
    _lock: File,
}

impl Slot {
    /// Where clusters keep their state: `SAMARA_E2E_STATE`, or `/var/tmp/samara-e2e`.
    pub fn base() -> PathBuf {
        std::env::var_os("SAMARA_E2E_STATE")
            .map_or_else(|| PathBuf::from("/var/tmp/samara-e2e"), PathBuf::from)
    }

    /// Slot `index` without a claim to it: to look at, not to use.
    pub fn unclaimed(index: u8) -> Result<Self> {
        Ok(Self { index, dir: Self::base().join(format!("c{index}")), _lock: File::open("/dev/null")? })
    }

    /// Claims slot `index`, or nothing if its harness is alive.
    pub fn claim(index: u8) -> Result<Option<Self>> {
        let base = Self::base();
        fs::create_dir_all(&base).with_context(|| format!("state folder {}", base.display()))?;
        let path = base.join(format!("c{index}.lock"));
        let lock = File::options().create(true).truncate(false).write(true).open(&path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { index, dir: base.join(format!("c{index}")), _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Claims the first slot that nobody uses. `SAMARA_E2E_SLOT` names one instead.
    pub fn claim_any() -> Result<Self> {
        let wanted: Option<u8> = match std::env::var("SAMARA_E2E_SLOT") {
            Ok(text) => Some(text.parse().with_context(|| format!("SAMARA_E2E_SLOT={text}"))?),
            Err(_) => None,
        };
        for index in 0..SLOTS {
            if wanted.is_some_and(|wanted| wanted != index) {
                continue;
            }
            match Self::claim(index)? {
                Some(slot) if !slot.is_detached() => return Ok(slot),
                _ => {}
            }
        }
        bail!(
            "no free cluster slot (wanted: {wanted:?}): see `cargo xtask cluster status`, end one with `cargo xtask cluster down`"
        )
    }

    /// Whether the cluster was started by hand and is to live without a harness.
    pub fn is_detached(&self) -> bool {
        self.detached_mark().exists()
    }

    /// The file whose presence says so.
    pub fn detached_mark(&self) -> PathBuf {
        self.dir.join("detached")
    }

    /// Whether there is anything to tear down.
    pub fn is_used(&self) -> bool {
        self.dir.exists()
    }

    /// The first part of every name on the machine; also the bridge's name.
    pub fn prefix(&self) -> String {
        format!("smr{}", self.index)
    }

    fn address(&self, base: u8, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, base + self.index, third, fourth)
    }

    /// The bridge's address, which is the machine's own on this network.
    pub fn gateway(&self) -> Ipv4Addr {
        self.address(88, 0, 1)
    }

    /// The API server, etcd's neighbour and the cluster's DNS.
    pub fn control_plane(&self) -> Ipv4Addr {
        self.address(88, 0, 10)
    }

    /// Node `number`'s address.
    pub fn node(&self, number: usize) -> Ipv4Addr {
        self.address(88, 1, small(number))
    }

    /// Origin server `number`'s address.
    pub fn origin(&self, number: usize) -> Ipv4Addr {
        self.address(88, 2, small(number))
    }

    /// Node `number`'s pods: a /24.
    pub fn pods(&self, number: usize) -> String {
        format!("{}/24", self.address(244, small(number), 0))
    }

    /// All pods: a /16.
    pub fn all_pods(&self) -> String {
        format!("{}/16", self.address(244, 0, 0))
    }

    /// All services: a /16.
    pub fn services(&self) -> String {
        format!("{}/16", self.address(96, 0, 0))
    }

    /// The API server's service.
    pub fn api_service(&self) -> Ipv4Addr {
        self.address(96, 0, 1)
    }

    /// The DNS service.
    pub fn dns_service(&self) -> Ipv4Addr {
        self.address(96, 0, 53)
    }

    /// The admin's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// Folder of log files.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// Folder of node `number`.
    pub fn node_dir(&self, number: usize) -> PathBuf {
        self.dir.join(format!("node{number}"))
    }

    /// Writes a file below the slot's folder, making folders as needed.
    pub fn write(&self, path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
        let path = self.dir.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, text).with_context(|| path.display().to_string())
    }
}

fn small(number: usize) -> u8 {
    u8::try_from(number).expect("numbers of nodes and origins are checked against MAX_NODES")
}
