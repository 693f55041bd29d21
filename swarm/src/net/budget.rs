//! Memory for pieces under way: a fixed number of bytes, and buffers that are used again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use sha2::{Digest, Sha256};

use crate::assembly::{Keep, Leaf};

/// Freed buffers kept for use again, so that the kernel does not have to hand out zeroed pages for each piece.
const MAX_SPARE: usize = 32;

/// The budget of an engine. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    limit: u64,
    used: u64,
    /// The one that was used last at the back.
    spare: VecDeque<Vec<u8>>,
}

/// A buffer whose bytes count until it is dropped.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    shared: Arc<Mutex<State>>,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { shared: Arc::new(Mutex::new(State { limit, used: 0, spare: VecDeque::new() })) }
    }

    /// A buffer of `len` bytes with arbitrary contents; `None` if the budget is used up. The first is always given, or a
    /// torrent with pieces bigger than the budget would never start.
    pub fn take(&self, len: usize) -> Option<Buffer> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.used > 0 && shared.used + len as u64 > shared.limit {
            return None;
        }
        shared.used += len as u64;
        // The one that was used last is the likeliest to lie in the processor's cache.
        let at = shared.spare.iter().rposition(|spare| spare.len() == len);
        let spare = at.and_then(|at| shared.spare.remove(at));
        shared.trim();
        drop(shared);
        Some(Buffer { bytes: spare.unwrap_or_else(|| vec![0; len]), shared: self.shared.clone() })
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
        if shared.spare.len() == MAX_SPARE {
            shared.spare.pop_front();
        }
        shared.spare.push_back(std::mem::take(&mut self.bytes));
        shared.trim();
    }
}

impl State {
    /// Spare buffers and those in use together stay within the limit.
    fn trim(&mut self) {
        let spare = |spare: &VecDeque<Vec<u8>>| spare.iter().map(|spare| spare.len() as u64).sum::<u64>();
        while self.used + spare(&self.spare) > self.limit && self.spare.pop_front().is_some() {}
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

/// A buffer that one fills while others read what is there. Its bytes count once, until the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Filling(Arc<RwLock<Buffer>>);

impl From<Buffer> for Filling {
    fn from(buffer: Buffer) -> Self {
        Self(Arc::new(RwLock::new(buffer)))
    }
}

impl Filling {
    /// The bytes. Nothing is put in while this is held: not for longer than it takes to copy or to write them.
    pub fn bytes(&self) -> RwLockReadGuard<'_, Buffer> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keep for Filling {
    fn keep(&mut self, begin: u32, block: &[u8]) -> Leaf {
        let (begin, mut buffer) = (begin as usize, self.0.write().unwrap_or_else(PoisonError::into_inner));
        buffer.as_mut()[begin..begin + block.len()].copy_from_slice(block);
        drop(buffer);
        Sha256::digest(block).into()
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
    fn what_several_hold_counts_once_and_is_read_where_it_was_put() {
        let budget = Budget::new(100);
        let mut filled = Filling::from(budget.take(60).unwrap());
        let read = filled.clone();
        filled.keep(10, &[7; 20]);
        assert_eq!(read.bytes().as_ref()[10..30], [7; 20]);
        drop(filled);
        assert_eq!(budget.used(), 60);
        drop(read);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_buffer_that_was_used_last_is_used_again_first() {
        let budget = Budget::new(100);
        let (mut first, mut second) = (budget.take(10).unwrap(), budget.take(10).unwrap());
        (first.as_mut()[0], second.as_mut()[0]) = (1, 2);
        drop(second);
        drop(first);
        assert_eq!([(); 2].map(|()| budget.take(10).unwrap()).map(|buffer| buffer.as_ref()[0]), [1, 2]);
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
