//! Addresses of peers that may be dialled, and when to try again.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::nearness::{lot, stirred};
use crate::wire::PeerId;

/// Addresses that are kept; in a full book a new one takes the place of the one that failed most often.
const MAX_ADDRESSES: usize = 2_000;
/// First wait after a failed dial; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait after failed dials, and the wait for an address whose peer is connected otherwise.
const LONGEST_WAIT: Duration = Duration::from_mins(2);
/// Wait after a connection that had been made has ended.
const REDIAL: Duration = Duration::from_secs(3);
/// Who was connected is no newcomer for so long.
const AGAIN: Duration = Duration::from_mins(10);
/// An address that failed so often in a row since it was last named is forgotten: after some 25 minutes.
const MAX_FAILURES: u32 = 20;

/// What is known about one address.
#[derive(Debug, Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own; any combination of them occurs"
)]
struct Entry {
    failures: u32,
    /// Failures since somebody last named it.
    unconfirmed: u32,
    not_before: Duration,
    /// A dial or a connection is under way.
    busy: bool,
    /// It is ourselves, or banned.
    never: bool,
    /// It wanted nothing when it was last seen.
    seed: bool,
    /// Named by the user: it is not forgotten, and makes room for nobody.
    lasting: bool,
    /// It is being dialled, or connected, by [`AddressBook::newcomer`].
    newcomer: bool,
    /// When the connection to it ended last.
    met: Option<Duration>,
}

impl Entry {
    fn can_go(&self) -> bool {
        !(self.busy || self.never || self.lasting)
    }

    fn is_due(&self, leechers_only: bool, now: Duration) -> bool {
        let wanted = !(self.never || (leechers_only && self.seed));
        wanted && !self.busy && self.not_before <= now
    }
}

/// The addresses of one torrent.
#[derive(Debug, Default)]
pub struct AddressBook {
    entries: BTreeMap<SocketAddr, Entry>,
    /// What the lots are drawn from.
    salt: u64,
}

impl AddressBook {
    /// An empty one of this peer.
    pub fn new(own_id: &PeerId) -> Self {
        let mut book = Self::default();
        book.draw_lots(0, own_id);
        book
    }

    /// Learns an address; says whether it is new. Addresses that can be nobody's are not taken (T53).
    pub fn add(&mut self, address: SocketAddr) -> bool {
        let ip = address.ip();
        let nobody = address.port() == 0 || ip.is_unspecified() || ip.is_multicast();
        if nobody {
            return false;
        }
        if let Some(known) = self.entries.get_mut(&address) {
            known.unconfirmed = 0;
            return false;
        }
        if self.entries.len() >= MAX_ADDRESSES && !self.evict() {
            return false;
        }
        self.entries.insert(address, Entry::default());
        true
    }

    /// As [`Self::add`], for an address that no tracker will name again.
    pub fn add_lasting(&mut self, address: SocketAddr) -> bool {
        let is_new = self.add(address);
        self.edit(address, |entry| entry.lasting = true);
        is_new
    }

    /// A peer that listens there has connected to us: no need to dial it until [`Self::closed`].
    pub fn connected(&mut self, address: SocketAddr) {
        self.add(address);
        self.edit(address, |entry| entry.busy = true);
    }

    /// Makes room; `false` if no address has failed.
    fn evict(&mut self) -> bool {
        let failed = self.entries.iter().filter(|(_, entry)| entry.failures > 0 && entry.can_go());
        let worst = failed.max_by_key(|(_, entry)| entry.failures).map(|(address, _)| *address);
        worst.is_some_and(|worst| self.entries.remove(&worst).is_some())
    }

    /// Up to `count` addresses to dial now; they count as busy until [`Self::failed`] or [`Self::closed`]. With
    /// `leechers_only`, those that are known to be seeds are left alone.
    pub fn due(&mut self, count: usize, leechers_only: bool, now: Duration) -> Vec<SocketAddr> {
        self.take(count, |entry| entry.is_due(leechers_only, now))
    }

    /// As [`Self::due`], of those that the user has named.
    pub fn due_named(&mut self, count: usize, leechers_only: bool, now: Duration) -> Vec<SocketAddr> {
        self.take(count, |entry| entry.lasting && entry.is_due(leechers_only, now))
    }

    /// Those that failed least often come first; among equals lots decide, lest all meet at the same few.
    fn take(&mut self, count: usize, may: impl Fn(&Entry) -> bool) -> Vec<SocketAddr> {
        let entries = self.entries.iter().filter(|(_, entry)| count > 0 && may(entry));
        let mut due: Vec<_> = entries.map(|(address, entry)| (entry.failures, *address)).collect();
        due.sort_by_cached_key(|(failures, address)| (*failures, self.lot(*address)));
        due.truncate(count);
        for (_, address) in &due {
            self.edit(*address, |entry| entry.busy = true);
        }
        due.into_iter().map(|(_, address)| address).collect()
    }

    /// An address to dial now that has not been connected, or not for long; it counts as busy as with [`Self::due`].
    pub fn newcomer(&mut self, leechers_only: bool, now: Duration) -> Option<SocketAddr> {
        let is_new = |entry: &Entry| entry.met.is_none_or(|met| now.saturating_sub(met) >= AGAIN);
        let fresh =
            self.entries.iter().filter(|(_, entry)| entry.is_due(leechers_only, now) && is_new(entry));
        let order = |address, entry: &Entry| (!entry.lasting, entry.met, entry.failures, self.lot(address));
        let first = fresh.min_by_key(|(address, entry)| order(**address, entry));
        let address = first.map(|(address, _)| *address)?;
        self.edit(address, |entry| (entry.busy, entry.newcomer) = (true, true));
        Some(address)
    }

    /// Whether it was dialled as a newcomer.
    pub fn is_newcomer(&self, address: SocketAddr) -> bool {
        self.entries.get(&address).is_some_and(|entry| entry.newcomer)
    }

    /// Draws the lots that decide among equals for the so many-th time: each time others, and for each peer others.
    pub fn draw_lots(&mut self, number: u32, own_id: &PeerId) {
        self.salt = lot(number, own_id);
    }

    fn lot(&self, address: SocketAddr) -> u64 {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let port = address.port().to_be_bytes();
        stirred(self.salt.to_be_bytes().into_iter().chain(ip.octets()).chain(port))
    }

    /// Whether the user has named it.
    pub fn is_lasting(&self, address: SocketAddr) -> bool {
        self.entries.get(&address).is_some_and(|entry| entry.lasting)
    }

    /// The dial failed. [`Self::failures`] tells which wire id to try next.
    pub fn failed(&mut self, address: SocketAddr, now: Duration) {
        self.edit(address, |entry| {
            (entry.busy, entry.newcomer) = (false, false);
            entry.not_before =
                now + LONGEST_WAIT.min(FIRST_WAIT * 2u32.saturating_pow(entry.failures.min(10)));
            entry.failures += 1;
            entry.unconfirmed += 1;
        });
        let forgotten = |entry: &Entry| entry.unconfirmed >= MAX_FAILURES && entry.can_go();
        if self.entries.get(&address).is_some_and(forgotten) {
            self.entries.remove(&address);
        }
    }

    /// The peer answered, and ended the connection before it was of use: it is full, or does not want us.
    pub fn turned_away(&mut self, address: SocketAddr, seed: bool, now: Duration) {
        self.edit(address, |entry| (entry.seed, entry.met) = (seed, Some(now)));
        self.failed(address, now);
    }

    /// The peer behind it is connected already.
    pub fn duplicate(&mut self, address: SocketAddr, now: Duration) {
        self.edit(address, |entry| {
            let (seed, lasting) = (entry.seed, entry.lasting);
            let met = Some(now);
            *entry = Entry { not_before: now + LONGEST_WAIT, seed, lasting, met, ..Entry::default() };
        });
    }

    /// The connection has ended.
    pub fn closed(&mut self, address: SocketAddr, seed: bool, now: Duration) {
        self.edit(address, |entry| {
            let (never, lasting) = (entry.never, entry.lasting);
            let met = Some(now);
            *entry = Entry { not_before: now + REDIAL, seed, never, lasting, met, ..Entry::default() };
        });
    }

    /// Never dial it again: it is ourselves, or banned.
    pub fn never(&mut self, address: SocketAddr) {
        self.edit(address, |entry| entry.never = true);
    }

    /// The addresses that have not failed since they were last of use, and those that nobody will name again; all may be dialled.
    pub fn good(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let is_good = |entry: &Entry| !entry.never && (entry.failures == 0 || entry.lasting);
        let good = self.entries.iter().filter(move |(_, entry)| is_good(entry));
        good.map(|(address, _)| *address)
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

    fn address(number: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 6881))
    }

    #[test]
    fn t053_in_a_full_book_the_new_take_the_place_of_the_dead_and_of_nobody_else() {
        let mut book = AddressBook::default();
        let most = MAX_ADDRESSES as u16;
        assert!((0..most).all(|number| book.add(address(number))));
        assert!(!book.add(address(most)), "none has failed");
        book.failed(address(7), Duration::ZERO);
        for _ in 0..2 {
            book.failed(address(8), Duration::ZERO);
        }
        assert!(book.add(address(most)));
        assert_eq!((book.failures(address(7)), book.failures(address(8))), (1, 0));
        assert!(book.add(address(most + 1)));
        assert!(!book.add(address(most + 2)));
        assert_eq!(book.entries.len(), MAX_ADDRESSES);
    }

    #[test]
    fn a_dead_address_is_forgotten_unless_it_is_named_again() {
        let mut book = AddressBook::default();
        book.add(address(1));
        for _ in 1..MAX_FAILURES {
            book.failed(address(1), Duration::ZERO);
        }
        assert!(!book.add(address(1)), "it is still known");
        for _ in 1..MAX_FAILURES {
            book.failed(address(1), Duration::ZERO);
        }
        assert_eq!(book.entries.len(), 1);
        book.failed(address(1), Duration::ZERO);
        assert_eq!(book.entries.len(), 0);
        book.add_lasting(address(2));
        for _ in 0..2 * MAX_FAILURES {
            book.failed(address(2), Duration::ZERO);
        }
        assert_eq!(book.entries.len(), 1, "nobody would name it again");
        assert_eq!(book.good().collect::<Vec<_>>(), [address(2)]);
    }

    #[test]
    fn who_has_connected_to_us_is_not_dialled_before_it_is_gone() {
        let mut book = AddressBook::default();
        book.connected(address(1));
        assert_eq!(book.due(5, false, Duration::from_hours(1)), []);
        book.closed(address(1), false, Duration::ZERO);
        assert_eq!(book.due(5, false, REDIAL), [address(1)]);
    }

    #[test]
    fn who_turns_us_away_is_dialled_ever_more_rarely() {
        let mut book = AddressBook::default();
        book.add(address(1));
        let mut now = Duration::ZERO;
        for wait in [1, 2, 4, 8, 16] {
            assert_eq!(book.due(5, false, now), [address(1)]);
            book.turned_away(address(1), true, now);
            now += Duration::from_secs(wait);
            assert_eq!(book.due(5, false, now.saturating_sub(Duration::from_millis(1))), []);
        }
        assert_eq!(book.due(5, true, now), [], "it is known to be a seed");
    }

    #[test]
    fn t053_addresses_of_nobody_are_not_taken() {
        let mut book = AddressBook::default();
        for bad in ["0.0.0.0:6881", "10.0.0.1:0", "224.0.0.1:6881", "[ff02::1]:6881", "[::]:6881"] {
            assert!(!book.add(bad.parse().unwrap()), "{bad}");
        }
    }
}
