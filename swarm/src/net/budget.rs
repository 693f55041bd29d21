//! Memory for pieces under way: a fixed number of bytes, and buffers that are used again.

use std::sync::{Arc, Mutex, PoisonError};

/// Freed buffers kept for use again, so that the kernel does not have to hand out zeroed pages for each piece.
const MAX_SPARE: usize = 32;

/// The budget of an engine. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    limit: u64,
    used: u64,
    spare: Vec<Vec<u8>>,
}

/// A buffer whose bytes count until it is dropped.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    shared: Arc<Mutex<Shared>>,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { shared: Arc::new(Mutex::new(Shared { limit, used: 0, spare: Vec::new() })) }
    }

    /// A buffer of `len` bytes with arbitrary contents; `None` if the budget is used up. The first is always given, or a
    /// torrent with pieces bigger than the budget would never start.
    pub fn take(&self, len: usize) -> Option<Buffer> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.used > 0 && shared.used + len as u64 > shared.limit {
            return None;
        }
        shared.used += len as u64;
        let at = shared.spare.iter().position(|spare| spare.len() == len);
        let spare = at.map(|at| shared.spare.swap_remove(at));
        shared.trim();
        drop(shared);
        Some(Buffer { bytes: spare.unwrap_or_else(|| vec![0; len]), shared: self.shared.clone() })
    }

    /// As [`Self::take`], for what is of use but not needed: only while a quarter of the budget stays free.
    pub fn take_spare(&self, len: usize) -> Option<Buffer> {
        let is_idle = {
            let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.used + len as u64 <= shared.limit / 4 * 3
        };
        if is_idle { self.take(len) } else { None }
    }

    /// Bytes in use.
    #[cfg(test)]
    pub fn used(&self) -> u64 {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).used
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.used -= self.bytes.len() as u64;
        if shared.spare.len() < MAX_SPARE {
            shared.spare.push(std::mem::take(&mut self.bytes));
            shared.trim();
        }
    }
}

impl Shared {
    /// Spare buffers and those in use together stay within the limit.
    fn trim(&mut self) {
        let spare = |spare: &[Vec<u8>]| spare.iter().map(|spare| spare.len() as u64).sum::<u64>();
        while self.used + spare(&self.spare) > self.limit && self.spare.pop().is_some() {}
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_holds_and_the_first_piece_always_fits() {
        let budget = Budget::new(100);
        let first = budget.take(200).unwrap();
        assert!(budget.take(1).is_none());
        drop(first);
        let two = (budget.take(50).unwrap(), budget.take(50).unwrap());
        assert!(budget.take(1).is_none());
        drop(two);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_is_not_needed_leaves_a_quarter_of_the_budget() {
        let budget = Budget::new(100);
        let needed = budget.take(20).unwrap();
        let spare = budget.take_spare(55).unwrap();
        assert!(budget.take_spare(1).is_none());
        assert!(budget.take(25).is_some());
        drop((needed, spare));
    }

    #[test]
    fn spare_buffers_of_one_size_make_room_for_those_of_another() {
        let budget = Budget::new(100);
        drop((budget.take(50).unwrap(), budget.take(50).unwrap()));
        let small: Vec<_> = (0..10).map(|_| budget.take(10).unwrap()).collect();
        assert_eq!(budget.shared.lock().unwrap().spare.len(), 0);
        drop(small);
        assert_eq!(budget.shared.lock().unwrap().spare.len(), 10);
    }
}
