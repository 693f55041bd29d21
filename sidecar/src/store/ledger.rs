//! Who takes how much under the root, and who is still going to.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{SpaceError, free_bytes};

/// Left free for journals, records and file-system metadata, in bytes.
const RESERVE: u64 = 8 << 20;

/// The bookings of all revisions; shared by all jobs of a sidecar.
#[derive(Debug, Default)]
pub struct Ledger {
    books: Mutex<Books>,
    /// Bytes that the disk lacked when a booking was refused last.
    shortage: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Books {
    bookings: BTreeMap<String, Booking>,
    /// Bytes that two revisions have in common, hard links of each other; the names of a pair are sorted.
    shared: BTreeMap<(String, String), u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Booking {
    /// Bytes of its files.
    total: u64,
    /// Bytes of those that are still to be written.
    ahead: u64,
}

impl Ledger {
    /// Books `total` bytes for a revision of which `here` are on the disk already, or says why not.
    pub fn book(
        &self,
        root: &Path,
        revision: &str,
        total: u64,
        here: u64,
        quota: Option<u64>,
    ) -> Result<(), SpaceError> {
        let free = free_bytes(root)?;
        let booking = Booking { total, ahead: total.saturating_sub(here) };
        let booked = self.books().book(root, revision, booking, free, quota);
        if let Err(SpaceError::Disk { needed, free, .. }) = &booked {
            self.shortage.send_replace(needed.saturating_sub(*free));
        }
        booked
    }

    /// Whenever a booking is refused for want of space on the disk: how many bytes there were too few. What is not booked here may make
    /// room; the booking is tried again.
    pub fn shortage(&self) -> watch::Receiver<u64> {
        self.shortage.subscribe()
    }

    /// What is on the disk anyway counts without being asked.
    pub fn note(&self, revision: &str, total: u64) {
        self.books().bookings.insert(revision.to_owned(), Booking { total, ahead: 0 });
    }

    /// So much of it is on the disk now.
    pub fn arrived(&self, revision: &str, here: u64) {
        if let Some(booking) = self.books().bookings.get_mut(revision) {
            booking.ahead = booking.total.saturating_sub(here);
        }
    }

    /// Nobody writes it any more: its booking stands for what is here.
    pub fn rests(&self, revision: &str) {
        self.arrived(revision, u64::MAX);
    }

    /// So many bytes of it are also those of each of these revisions, and of no others.
    pub fn shares(&self, revision: &str, with: &BTreeMap<String, u64>) {
        let mut books = self.books();
        books.shared.retain(|(a, b), _| a != revision && b != revision);
        for (other, bytes) in with {
            let (a, b) = if revision < other.as_str() {
                (revision, other.as_str())
            } else {
                (other.as_str(), revision)
            };
            books.shared.insert((a.to_owned(), b.to_owned()), *bytes);
        }
    }

    /// It is gone.
    pub fn free(&self, revision: &str) {
        let mut books = self.books();
        books.bookings.remove(revision);
        books.shared.retain(|(a, b), _| a != revision && b != revision);
    }

    /// Bytes of all.
    pub fn used(&self) -> u64 {
        self.books().used()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn book(
        &mut self,
        root: &Path,
        revision: &str,
        booking: Booking,
        free: u64,
        quota: Option<u64>,
    ) -> Result<(), SpaceError> {
        let before = self.bookings.remove(revision);
        let used = self.used();
        let ahead: u64 = self.bookings.values().map(|other| other.ahead).sum();
        self.bookings.insert(revision.to_owned(), booking);
        let needed = self.used().saturating_sub(used);
        let answer = check(root, booking.ahead, free.saturating_sub(ahead), needed, used, quota);
        if answer.is_err() {
            // What was noted before is on the disk, whatever comes of the rest.
            match before {
                Some(before) => self.bookings.insert(revision.to_owned(), Booking { ahead: 0, ..before }),
                None => self.bookings.remove(revision),
            };
        }
        answer
    }

    /// Never less than is taken: of what a revision shares with others before it, the largest share is left out, not the sum
    /// (three names of one file would be left out twice).
    fn used(&self) -> u64 {
        let mut common: BTreeMap<&str, u64> = BTreeMap::new();
        for ((a, b), bytes) in &self.shared {
            if self.bookings.contains_key(a) && self.bookings.contains_key(b) {
                let largest = common.entry(b).or_default();
                *largest = (*largest).max(*bytes);
            }
        }
        let own = |(name, booking): (&String, &Booking)| {
            booking.total.saturating_sub(common.get(name.as_str()).copied().unwrap_or(0))
        };
        self.bookings.iter().map(own).sum()
    }
}

fn check(
    root: &Path,
    left: u64,
    free: u64,
    needed: u64,
    used: u64,
    quota: Option<u64>,
) -> Result<(), SpaceError> {
    if let Some(quota) = quota.filter(|&quota| used.saturating_add(needed) > quota) {
        return Err(SpaceError::Quota { needed, used, quota });
    }
    let needed = left.saturating_add(RESERVE);
    if left > 0 && needed > free {
        return Err(SpaceError::Disk { root: root.display().to_string(), needed, free });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use operator_api::reason;

    const ROOT: &str = "/r";

    fn book(
        books: &mut Books,
        revision: &str,
        total: u64,
        free: u64,
        quota: Option<u64>,
    ) -> Result<(), SpaceError> {
        books.book(Path::new(ROOT), revision, Booking { total, ahead: total }, free, quota)
    }

    #[test]
    fn t75_what_does_not_fit_is_refused_before_the_first_byte() {
        let root = Path::new(ROOT);
        assert!(check(root, 100 << 20, 200 << 20, 100 << 20, 0, None).is_ok());
        let full = check(root, 100 << 20, 100 << 20, 100 << 20, 0, None).unwrap_err();
        assert_eq!(full.reason(), reason::DISK_FULL);
        assert!(full.to_string().contains("104857600 are free"), "{full}");
        assert!(check(root, 0, 0, 100 << 20, 0, None).is_ok(), "nothing is left to write");
        let over = check(root, 60, 1 << 40, 60, 50, Some(100)).unwrap_err();
        assert_eq!(over.reason(), reason::QUOTA_EXCEEDED);
        assert!(check(root, 50, 1 << 40, 50, 50, Some(100)).is_ok());
    }

    #[test]
    fn the_ledger_counts_each_revision_once() {
        let ledger = Ledger::default();
        let root = Path::new("/");
        ledger.book(root, "a", 60, 60, Some(100)).unwrap();
        ledger.book(root, "a", 60, 60, Some(100)).unwrap();
        assert!(ledger.book(root, "b", 60, 60, Some(100)).is_err());
        ledger.free("a");
        ledger.book(root, "b", 60, 60, Some(100)).unwrap();
        assert_eq!(ledger.used(), 60);
    }

    #[test]
    fn space_that_others_are_about_to_take_is_not_free() {
        let mut books = Books::default();
        book(&mut books, "a", 80 << 30, 100 << 30, None).unwrap();
        let full = book(&mut books, "b", 80 << 30, 100 << 30, None).unwrap_err();
        assert_eq!(full.reason(), reason::DISK_FULL);
        assert!(full.to_string().contains(&format!("{} are free", 20_u64 << 30)), "{full}");
        assert_eq!(books.used(), 80 << 30, "what was refused is not booked");
        book(&mut books, "a", 80 << 30, 100 << 30, None).expect("its own booking is not in its way");

        // What has arrived shows in what the disk has free.
        let ledger = Ledger { books: Mutex::new(books), ..Ledger::default() };
        ledger.arrived("a", 70 << 30);
        book(&mut ledger.books(), "c", 19 << 30, 30 << 30, None).unwrap();
        ledger.free("c");
        ledger.rests("a");
        book(&mut ledger.books(), "c", 29 << 30, 30 << 30, None).unwrap();
    }

    #[test]
    fn a_booking_that_the_disk_refuses_is_told_to_who_can_make_room() {
        let ledger = Ledger::default();
        let mut shortage = ledger.shortage();
        ledger.book(Path::new("/"), "small", 1, 1, None).unwrap();
        assert!(ledger.book(Path::new("/"), "small", 1, 1, Some(0)).is_err(), "the quota is nobody else's");
        assert!(!shortage.has_changed().unwrap());
        assert!(ledger.book(Path::new("/"), "large", 1 << 60, 0, None).is_err());
        assert!(*shortage.borrow_and_update() > 1 << 59);
    }

    #[test]
    fn bytes_under_two_names_are_used_once() {
        let ledger = Ledger::default();
        let free = 1 << 40;
        book(&mut ledger.books(), "old", 300, free, Some(500)).unwrap();
        assert!(book(&mut ledger.books(), "new", 301, free, Some(500)).is_err(), "a copy");
        ledger.shares("new", &BTreeMap::from([("old".to_owned(), 299)]));
        book(&mut ledger.books(), "new", 301, free, Some(500)).expect("hard links");
        assert_eq!(ledger.used(), 302);
        let over = book(&mut ledger.books(), "copy", 199, free, Some(500)).unwrap_err();
        assert!(over.to_string().contains("302 are in use"), "{over}");
        ledger.free("old");
        assert_eq!(ledger.used(), 301, "what is left is all the new one's");
    }

    #[test]
    fn what_three_share_is_counted_once_and_never_less() {
        let ledger = Ledger::default();
        for name in ["a", "b", "c"] {
            ledger.note(name, 100);
        }
        ledger.shares("b", &BTreeMap::from([("a".to_owned(), 100)]));
        ledger.shares("c", &BTreeMap::from([("a".to_owned(), 100), ("b".to_owned(), 100)]));
        assert_eq!(ledger.used(), 100);
        ledger.free("a");
        assert_eq!(ledger.used(), 100);
        ledger.shares("c", &BTreeMap::new());
        assert_eq!(ledger.used(), 200, "its links are gone");
    }
}
