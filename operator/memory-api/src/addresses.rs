//! Cluster IPs for Services.

use std::{collections::BTreeSet, net::Ipv4Addr};

use serde_json::Value;

/// A range of IPv4 addresses, handed out in order; one that was freed is handed out again.
#[derive(Clone, Debug)]
pub(crate) struct AddressPool {
    base: u32,
    size: u32,
    used: BTreeSet<u32>,
}

impl AddressPool {
    /// A network and its prefix length, at least /30. Network and broadcast address are left out.
    pub(crate) fn new(network: Ipv4Addr, prefix: u8) -> Self {
        let size = 1u32 << (32 - u32::from(prefix.clamp(8, 30)));
        Self { base: u32::from(network) & !(size - 1), size, used: BTreeSet::new() }
    }

    pub(crate) fn allocate(&mut self) -> Option<Ipv4Addr> {
        let free = (1..self.size - 1).find(|n| !self.used.contains(n))?;
        self.used.insert(free);
        Some(Ipv4Addr::from(self.base + free))
    }

    /// Takes one that the client asked for; false if it is outside the range or used.
    pub(crate) fn claim(&mut self, address: &str) -> bool {
        self.offset(address).is_some_and(|n| self.used.insert(n))
    }

    /// Gives back the address of a Service that goes; any other object has none.
    pub(crate) fn release(&mut self, object: &Value) {
        if let Some(address) = object["spec"]["clusterIP"].as_str()
            && let Some(n) = self.offset(address)
        {
            self.used.remove(&n);
        }
    }

    fn offset(&self, address: &str) -> Option<u32> {
        let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
        address.checked_sub(self.base).filter(|n| *n < self.size)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn in_order_claimed_and_freed() {
        let mut pool = AddressPool::new(Ipv4Addr::new(127, 77, 0, 0), 30);
        assert_eq!(pool.allocate(), Some(Ipv4Addr::new(127, 77, 0, 1)));
        assert!(pool.claim("127.77.0.2") && !pool.claim("127.77.0.2") && !pool.claim("10.0.0.1"));
        assert_eq!(pool.allocate(), None);
        pool.release(&json!({"spec": {"clusterIP": "127.77.0.1"}}));
        assert_eq!(pool.allocate(), Some(Ipv4Addr::new(127, 77, 0, 1)));
    }
}
