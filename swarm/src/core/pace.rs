//! How long something takes here.

use std::time::Duration;

/// A mean of times in which the last eight weigh most. Zero until there was one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace(Duration);

impl Pace {
    /// It has taken so long once more.
    pub fn note(&mut self, time: Duration) {
        self.0 = if self.0.is_zero() { time } else { (self.0 * 7 + time) / 8 };
    }

    /// How long it takes.
    pub fn mean(self) -> Duration {
        self.0
    }
}
