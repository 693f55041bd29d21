//! How many strangers are listed from each source: a NAT full of clients, not a flood.

use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::lock;

/// Counts are spread over so many locks, since every newcomer on every thread needs one.
const PARTS: usize = 64;

/// What one party has of IPv6: the first 64 bits of its addresses, in two halves so that a [`Count`] of it has no padding.
type Network = [u32; 2];

/// How many there are from one source.
#[derive(Debug)]
struct Count<S> {
    source: S,
    count: u32,
}

/// Counts of some sources. Each family has a table of its own: where every peer has an address for itself, a count in a table of
/// both would take as much memory as the peer.
#[derive(Debug, Default)]
struct Part {
    v4: HashTable<Count<Ipv4Addr>>,
    v6: HashTable<Count<Network>>,
}

/// Counts by source, and in all.
#[derive(Debug)]
pub(super) struct Sources {
    parts: Vec<Mutex<Part>>,
    /// Random per tracker: nobody can choose addresses that collide.
    hasher: DefaultHashBuilder,
    total: AtomicUsize,
    most: usize,
    most_per_source: u32,
}

impl Sources {
    /// None yet; at most so many in all, and from each source.
    pub fn new(most: usize, most_per_source: u32) -> Self {
        Sources {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            total: AtomicUsize::new(0),
            most,
            most_per_source,
        }
    }

    /// Whether another stranger from here would be listed.
    pub fn has_room(&self, address: IpAddr) -> bool {
        let room = |count: &mut u32| *count < self.most_per_source && self.total() < self.most;
        self.change(address, room)
    }

    /// Counts one more from here, if there is room.
    pub fn enter(&self, address: IpAddr) -> bool {
        self.enter_times(address, 1)
    }

    /// Counts one more from here, if there is room under so many times the limits.
    pub fn enter_times(&self, address: IpAddr, times: u32) -> bool {
        self.change(address, |count| {
            // Threads that come at the same moment may overshoot by one each.
            let room = *count < self.most_per_source.saturating_mul(times)
                && self.total() < self.most.saturating_mul(times as usize);
            if room {
                *count += 1;
                self.total.fetch_add(1, Ordering::Relaxed);
            }
            room
        })
    }

    /// Counts one less from here.
    pub fn leave(&self, address: IpAddr) {
        self.change(address, |count| {
            if *count > 0 {
                *count -= 1;
                self.total.fetch_sub(1, Ordering::Relaxed);
            }
        });
    }

    /// How many there are in all.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Lets `change` see and change the count of a source.
    fn change<T>(&self, address: IpAddr, change: impl FnOnce(&mut u32) -> T) -> T {
        match address {
            IpAddr::V4(v4) => self.change_in(v4, |part| &mut part.v4, change),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments().map(u32::from);
                self.change_in([a << 16 | b, c << 16 | d], |part| &mut part.v6, change)
            }
        }
    }

    fn change_in<S: Copy + Eq + Hash, T>(
        &self,
        source: S,
        table: impl FnOnce(&mut Part) -> &mut HashTable<Count<S>>,
        change: impl FnOnce(&mut u32) -> T,
    ) -> T {
        let hash = self.hasher.hash_one(source);
        // A table looks at the lowest and the seven highest bits.
        let mut part = lock(&self.parts[(hash >> 32) as usize % PARTS]);
        let rehash = |count: &Count<S>| self.hasher.hash_one(count.source);
        match table(&mut part).entry(hash, |count| count.source == source, rehash) {
            Entry::Occupied(mut entry) => {
                let changed = change(&mut entry.get_mut().count);
                if entry.get().count == 0 {
                    entry.remove();
                }
                changed
            }
            Entry::Vacant(entry) => {
                let mut count = 0;
                let changed = change(&mut count);
                if count > 0 {
                    entry.insert(Count { source, count });
                }
                changed
            }
        }
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
        assert!(sources.parts.iter().all(|part| lock(part).v4.is_empty()));
    }

    #[test]
    fn a_64_is_one_source() {
        let sources = Sources::new(10, 1);
        assert!(sources.enter("2001:db8::1".parse().unwrap()));
        assert!(!sources.enter("2001:db8::2".parse().unwrap()));
        assert!(sources.enter("2001:db8:0:1::1".parse().unwrap()));
        sources.leave("2001:db8::3".parse().unwrap());
        assert!(sources.enter("2001:db8::4".parse().unwrap()));
    }

    #[test]
    fn a_count_takes_no_more_memory_than_documented() {
        assert_eq!((size_of::<Count<Ipv4Addr>>(), size_of::<Count<Network>>()), (8, 12));
        let sources = Sources::new(usize::MAX, 1);
        for nth in 0..100_000u32 {
            assert!(sources.enter(Ipv4Addr::from_bits(nth).into()));
        }
        let capacity: usize = sources.parts.iter().map(|part| lock(part).v4.allocation_size()).sum();
        assert!(capacity <= 100_000 * 9 * 16 / 7, "{capacity} bytes");
    }
}
