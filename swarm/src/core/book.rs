//! Addresses of peers that may be dialled, and when to try again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Addresses that are kept; a full book takes no new ones.
const MAX_ADDRESSES: usize = 2_000;
/// First wait after a failed dial; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait after failed dials.
const LONGEST_WAIT: Duration = Duration::from_mins(2);
/// Wait after a connection that had been made has ended.
const REDIAL: Duration = Duration::from_secs(3);

/// What is known about one address.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    failures: u32,
    not_before: Duration,
    /// A dial or a connection is under way.
    busy: bool,
    /// It is ourselves, or banned.
    never: bool,
    seed: bool,
}

impl Entry {
    fn is_due(&self, leechers_only: bool, now: Duration) -> bool {
        let wanted = !(self.never || (leechers_only && self.seed));
        wanted && !self.busy && self.not_before <= now
    }
}

/// The addresses of one torrent.
#[derive(Debug, Default)]
pub struct AddressBook {
    entries: BTreeMap<SocketAddr, Entry>,
}

impl AddressBook {
    /// Learns an address; says whether it is new. Addresses that can be nobody's are not taken (T53).
    pub fn add(&mut self, address: SocketAddr) -> bool {
        let ip = address.ip();
        let nobody = address.port() == 0 || ip.is_unspecified() || ip.is_multicast();
        if nobody || self.entries.len() >= MAX_ADDRESSES || self.entries.contains_key(&address) {
            return false;
        }
        self.entries.insert(address, Entry::default());
        true
    }

    /// Up to `count` addresses to dial now; they count as busy until [`Self::failed`] or [`Self::closed`]. With
    /// `leechers_only`, those that are known to be seeds are left alone.
    pub fn due(&mut self, count: usize, leechers_only: bool, now: Duration) -> Vec<SocketAddr> {
        let mut due: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_due(leechers_only, now))
            .map(|(address, entry)| (entry.failures, *address))
            .collect();
        due.sort_unstable();
        due.truncate(count);
        for (_, address) in &due {
            self.edit(*address, |entry| entry.busy = true);
        }
        due.into_iter().map(|(_, address)| address).collect()
    }

    /// The dial failed. `attempt` of [`Self::failures`] tells which wire id to try next.
    pub fn failed(&mut self, address: SocketAddr, now: Duration) {
        self.edit(address, |entry| {
            entry.busy = false;
            entry.not_before =
                now + LONGEST_WAIT.min(FIRST_WAIT * 2u32.saturating_pow(entry.failures.min(10)));
            entry.failures += 1;
        });
    }

    /// The connection has ended.
    pub fn closed(&mut self, address: SocketAddr, seed: bool, now: Duration) {
        self.edit(address, |entry| {
            *entry = Entry { not_before: now + REDIAL, seed, never: entry.never, ..Entry::default() };
        });
    }

    /// Never dial it again: it is ourselves, or banned.
    pub fn never(&mut self, address: SocketAddr) {
        self.edit(address, |entry| entry.never = true);
    }

    /// Dials that failed in a row.
    pub fn failures(&self, address: SocketAddr) -> u32 {
        self.entries.get(&address).map_or(0, |entry| entry.failures)
    }

    fn edit(&mut self, address: SocketAddr, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.get_mut(&address) {
            change(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_address_is_tried_ever_more_rarely() {
        let mut book = AddressBook::default();
        let address = SocketAddr::from(([10, 0, 0, 1], 6881));
        assert!(book.add(address));
        assert!(!book.add(address));
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..10 {
            assert_eq!(book.due(5, false, now), [address]);
            assert_eq!(book.due(5, false, now), []);
            book.failed(address, now);
            let before = now;
            while book.due(5, false, now).is_empty() {
                now += Duration::from_secs(1);
            }
            waits.push(now.saturating_sub(before).as_secs());
            book.edit(address, |entry| entry.busy = false);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 120, 120, 120]);
    }

    #[test]
    fn t053_addresses_of_nobody_are_not_taken() {
        let mut book = AddressBook::default();
        for bad in ["0.0.0.0:6881", "10.0.0.1:0", "224.0.0.1:6881", "[ff02::1]:6881", "[::]:6881"] {
            assert!(!book.add(bad.parse().unwrap()), "{bad}");
        }
    }
}
