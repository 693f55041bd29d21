//! The clock of a tracker.

/// Tenths of a second on a tracker's own clock. It begins at a day, so that what siblings heard before this tracker started has a
/// time too, and goes on for thirteen years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u32);

/// Ticks in a second.
const PER_SECOND: u32 = 10;

impl Tick {
    /// When every tracker starts.
    pub const START: Tick = Tick(24 * 60 * 60 * PER_SECOND);

    /// So long after the start.
    pub fn after_start(elapsed: std::time::Duration) -> Self {
        let ticks = elapsed.as_millis() / u128::from(1000 / PER_SECOND);
        Tick(Tick::START.0.saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX)))
    }

    /// This many seconds later.
    #[must_use]
    pub fn plus_seconds(self, seconds: u32) -> Self {
        Tick(self.0.saturating_add(seconds.saturating_mul(PER_SECOND)))
    }

    /// Whole seconds since `earlier`; 0 if that is later.
    pub fn seconds_since(self, earlier: Tick) -> u32 {
        self.0.saturating_sub(earlier.0) / PER_SECOND
    }

    /// How many spans of so many seconds have passed on this clock, counted from a phase of one's own (ticks).
    pub(crate) fn span(self, seconds: u32, phase: u32) -> u32 {
        self.0.wrapping_add(phase) / (seconds * PER_SECOND).max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn time_before_the_start_can_be_named() {
        let now = Tick::after_start(Duration::from_millis(1_234));
        assert_eq!(now.0 - Tick::START.0, 12);
        assert!(now.0 > Tick(0).plus_seconds(3_600).0);
        assert_eq!(now.plus_seconds(7).seconds_since(now), 7);
        assert_eq!(now.seconds_since(now.plus_seconds(7)), 0);
    }
}
