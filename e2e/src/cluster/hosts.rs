//! Hosts without Kubernetes: network namespaces on one bridge, each with a link of its own.

use std::path::Path;

use anyhow::Result;

use super::net::{self, Namespace};
use super::slot::Slot;
use super::teardown;

/// Some hosts. They, and what runs in them, end with this value.
#[derive(Debug)]
pub struct Hosts {
    slot: Slot,
    hosts: Vec<(Namespace, std::net::Ipv4Addr)>,
}

impl Hosts {
    /// Makes `count` of them, with links without limit.
    pub async fn start(count: usize) -> Result<Self> {
        teardown::sweep()?;
        let slot = Slot::claim_any()?;
        std::fs::create_dir_all(&slot.dir)?;
        let mut this = Self { slot, hosts: Vec::new() };
        net::create_bridge(&this.slot).await?;
        for number in 1..=count {
            let address = this.slot.node(number);
            let host = Namespace::create(&this.slot, &format!("h{number}"), address).await?;
            this.hosts.push((host, address));
        }
        Ok(this)
    }

    /// Host `index` and its address, counted from 0.
    pub fn host(&self, index: usize) -> (&Namespace, std::net::Ipv4Addr) {
        let (host, address) = &self.hosts[index];
        (host, *address)
    }

    /// A folder that goes with the hosts.
    pub fn dir(&self) -> &Path {
        &self.slot.dir
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        if let Err(error) = teardown::clean(&self.slot) {
            eprintln!("teardown of {}: {error:#}", self.slot.prefix());
        }
    }
}
