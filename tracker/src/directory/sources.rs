//! How many strangers are listed from each source: a NAT full of clients, not a flood.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::lock;

/// Counts are spread over so many locks, since every newcomer on every thread needs one.
const PARTS: usize = 64;

/// Counts by source, and in all.
#[derive(Debug)]
pub(super) struct Sources {
    parts: Vec<Mutex<HashMap<IpAddr, u32>>>,
    hasher: RandomState,
    total: AtomicUsize,
    most: usize,
    most_per_source: u32,
}

impl Sources {
    /// None yet; at most so many in all, and from each source.
    pub fn new(most: usize, most_per_source: u32) -> Self {
        Sources {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            total: AtomicUsize::new(0),
            most,
            most_per_source,
        }
    }

    /// Whether another stranger from here would be listed.
    pub fn has_room(&self, address: IpAddr) -> bool {
        let source = source(address);
        let count = lock(self.part(&source)).get(&source).copied().unwrap_or(0);
        count < self.most_per_source && self.total() < self.most
    }

    /// Counts one more from here, if there is room.
    pub fn enter(&self, address: IpAddr) -> bool {
        self.enter_times(address, 1)
    }

    /// Counts one more from here, if there is room under so many times the limits.
    pub fn enter_times(&self, address: IpAddr, times: u32) -> bool {
        let source = source(address);
        let mut part = lock(self.part(&source));
        let count = part.entry(source).or_insert(0);
        // Threads that come at the same moment may overshoot by one each.
        let room = *count < self.most_per_source.saturating_mul(times)
            && self.total() < self.most.saturating_mul(times as usize);
        if room {
            *count += 1;
            self.total.fetch_add(1, Ordering::Relaxed);
        } else if *count == 0 {
            part.remove(&source);
        }
        room
    }

    /// Counts one less from here.
    pub fn leave(&self, address: IpAddr) {
        let source = source(address);
        let mut part = lock(self.part(&source));
        if let Some(count) = part.get_mut(&source) {
            *count -= 1;
            self.total.fetch_sub(1, Ordering::Relaxed);
            if *count == 0 {
                part.remove(&source);
            }
        }
    }

    /// How many there are in all.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    fn part(&self, source: &IpAddr) -> &Mutex<HashMap<IpAddr, u32>> {
        &self.parts[self.hasher.hash_one(source) as usize % PARTS]
    }
}

/// What one party has of addresses: an IPv4 address, or a /64 of IPv6.
fn source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_makes_room_and_nothing_is_left_of_it() {
        let sources = Sources::new(3, 2);
        let [a, b] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
        assert!(sources.enter(a) && sources.enter(a) && !sources.enter(a), "two from one source");
        assert!(sources.enter(b) && !sources.enter(b) && !sources.has_room(b), "three in all");
        sources.leave(a);
        assert!(sources.enter(b));
        for address in [a, b, b] {
            sources.leave(address);
        }
        assert_eq!(sources.total(), 0);
        assert!(sources.parts.iter().all(|part| lock(part).is_empty()));
    }

    #[test]
    fn a_64_is_one_source() {
        let sources = Sources::new(10, 1);
        assert!(sources.enter("2001:db8::1".parse().unwrap()));
        assert!(!sources.enter("2001:db8::2".parse().unwrap()));
        assert!(sources.enter("2001:db8:0:1::1".parse().unwrap()));
    }
}
