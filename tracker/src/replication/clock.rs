//! A sibling's time as one's own. Pure.

use crate::tick::Tick;

/// Ticks by which clocks must have drifted apart before it counts.
const DRIFT: i64 = 5;

/// The difference between two trackers' clocks, as seen when the first frame came. It is kept while the stream lasts, unless
/// the clocks drift apart, so that the order
/// of what a sibling heard stays what it was. It takes the way over the wire for a difference too, which is milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset(i64);

impl Offset {
    /// From what the sibling's clock said in its first frame, and what ours says now.
    pub fn new(theirs: Tick, ours: Tick) -> Self {
        Offset(i64::from(ours.0) - i64::from(theirs.0))
    }

    /// The same, or what a later look at both clocks says if they have drifted apart by half a second. What is less may be the way.
    #[must_use]
    pub fn again(self, theirs: Tick, ours: Tick) -> Self {
        let now = Offset::new(theirs, ours);
        if (now.0 - self.0).abs() >= DRIFT { now } else { self }
    }

    /// The sibling's time on our clock.
    pub fn ours(self, theirs: Tick) -> Tick {
        Tick(u32::try_from((i64::from(theirs.0) + self.0).max(0)).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_order_and_distance() {
        let offset = Offset::new(Tick(5_000), Tick(1_000));
        assert_eq!((offset.ours(Tick(5_000)), offset.ours(Tick(4_990))), (Tick(1_000), Tick(990)));
        assert_eq!(offset.ours(Tick(0)), Tick(0), "before all time");
        assert_eq!(offset.again(Tick(6_000), Tick(2_004)), offset, "that may be the way");
        assert_eq!(offset.again(Tick(6_000), Tick(1_995)), Offset::new(Tick(6_000), Tick(1_995)));
        assert_eq!(Offset::new(Tick(0), Tick(u32::MAX)).ours(Tick(u32::MAX)), Tick(u32::MAX));
    }
}
