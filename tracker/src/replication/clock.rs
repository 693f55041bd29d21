//! A sibling's time as one's own. Pure.

use crate::tick::Tick;

/// The difference between two trackers' clocks, as seen when the first frame came. It is kept while the stream lasts, so that the order
/// of what a sibling heard stays what it was. It takes the way over the wire for a difference too, which is milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset(i64);

impl Offset {
    /// From what the sibling's clock said in its first frame, and what ours says now.
    pub fn new(theirs: Tick, ours: Tick) -> Self {
        Offset(i64::from(ours.0) - i64::from(theirs.0))
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
        assert_eq!(Offset::new(Tick(0), Tick(u32::MAX)).ours(Tick(u32::MAX)), Tick(u32::MAX));
    }
}
