//! Pieces that somebody on this node waits for: they are fetched before all others, in the order of who began to wait first.

use std::collections::BTreeMap;
use std::ops::Range;

use super::TorrentCore;

/// Ranges that count at a time; who comes later waits until one of them is done with.
const MAX_RANGES: usize = 16;
/// Pieces of a range that count.
const MAX_PIECES: u32 = 32;

/// What is waited for. A range is forgotten by whoever asked for it.
#[derive(Debug, Default)]
pub(super) struct Urgent {
    next: u64,
    ranges: BTreeMap<u64, Range<u32>>,
}

impl Urgent {
    /// The pieces, first those that are waited for longest.
    pub fn pieces(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges.values().take(MAX_RANGES).flat_map(Range::clone)
    }
}

impl TorrentCore {
    /// Has these pieces fetched first, up to the 32nd of them, until [`Self::no_hurry`].
    pub fn hurry(&mut self, pieces: Range<u32>) -> u64 {
        let id = self.urgent.next;
        self.urgent.next += 1;
        let end = pieces.end.min(pieces.start.saturating_add(MAX_PIECES)).min(self.picker.have().len());
        self.urgent.ranges.insert(id, pieces.start..end);
        id
    }

    /// Nobody waits for what [`Self::hurry`] was told of.
    pub fn no_hurry(&mut self, id: u64) {
        self.urgent.ranges.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use crate::core::tests::{PIECES, ZERO, core, join};
    use crate::test_rng::TestRng;

    #[test]
    fn what_is_waited_for_comes_before_what_is_rarest() {
        let mut core = core();
        let keys = [1, 2].map(|id| join(&mut core, id));
        (0..PIECES).for_each(|piece| core.peer_has(keys[0], piece).unwrap());
        // All but the last are rarer.
        core.peer_has(keys[1], PIECES - 1).unwrap();
        let id = core.hurry(PIECES - 1..PIECES + 7);
        assert_eq!(core.reserve(keys[0], ZERO, &mut TestRng(1)).unwrap().piece, PIECES - 1);
        core.release(keys[0], PIECES - 1);
        core.no_hurry(id);
        assert_ne!(core.reserve(keys[0], ZERO, &mut TestRng(1)).unwrap().piece, PIECES - 1);
    }

    #[test]
    fn who_waits_longest_is_served_first_and_a_table_of_waiting_ones_is_bounded() {
        let mut core = core();
        let key = join(&mut core, 1);
        (0..PIECES).for_each(|piece| core.peer_has(key, piece).unwrap());
        core.hurry(2..3);
        core.hurry(0..1);
        assert_eq!(core.reserve(key, ZERO, &mut TestRng(1)).unwrap().piece, 2);
        for _ in 0..100 {
            core.hurry(0..u32::MAX);
        }
        assert!(core.urgent.pieces().count() <= 16 * PIECES.min(32) as usize);
    }
}
