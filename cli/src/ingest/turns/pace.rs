//! How fast something new comes, and for how long nothing may come before one more reads. Pure.

use std::time::Duration;

/// Nothing new for the time of so many pieces...
const LEFT_LYING: u32 = 3;
/// ...but not for less or more than this: then one more may read.
pub const QUIET: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));

/// The times at which something new came.
#[derive(Debug)]
pub struct Pace {
    last: Option<Duration>,
    /// Between one and the next.
    gap: Duration,
}

impl Pace {
    /// Nothing has come yet.
    pub fn new() -> Self {
        Self { last: None, gap: Duration::ZERO }
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
        (self.gap * LEFT_LYING).clamp(QUIET.0, QUIET.1)
    }
}
