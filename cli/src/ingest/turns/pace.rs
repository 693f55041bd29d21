//! How fast something new comes, and for how long nothing may come before one more reads. Pure.

use std::time::Duration;

/// Nothing new for the time of so many pieces...
const LEFT_LYING: u32 = 3;
/// ...but not for less than this, nor for more than this for each MiB of a piece: then one more may read. As long as nothing tells how
/// fast pieces come, it is the first for each MiB.
pub const QUIET: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));
/// The unit of that.
const MIB: u64 = 1 << 20;

/// The times at which something new came.
#[derive(Debug)]
pub struct Pace {
    /// MiB of a piece.
    mib: u32,
    last: Option<Duration>,
    /// Between one and the next.
    gap: Duration,
}

impl Pace {
    /// Nothing has come yet.
    pub fn new(piece_length: u64) -> Self {
        let mib = u32::try_from(piece_length / MIB).unwrap_or(u32::MAX).max(1);
        Self { mib, last: None, gap: Duration::ZERO }
    }

    /// Something new has come.
    pub fn news(&mut self, now: Duration) {
        if let Some(gap) = self.last.map(|last| now.saturating_sub(last)) {
            self.gap = if self.gap.is_zero() { gap } else { (self.gap * 7 + gap) / 8 };
        }
        self.last = Some(now);
    }

    /// When it came last.
    pub fn last_news(&self) -> Option<Duration> {
        self.last
    }

    /// For so long nothing new may come.
    pub fn quiet(&self) -> Duration {
        let (least, most) = (QUIET.0, QUIET.1.saturating_mul(self.mib));
        if self.gap.is_zero() {
            return least.saturating_mul(self.mib);
        }
        self.gap.saturating_mul(LEFT_LYING).clamp(least, most)
    }
}
