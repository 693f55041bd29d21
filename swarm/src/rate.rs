//! Rates: measuring one, and keeping under one.

use std::time::Duration;

/// Length of one slot of the meter.
const SLOT: Duration = Duration::from_millis(250);
/// Slots that a rate is averaged over: two seconds.
const SLOTS: usize = 8;

/// Bytes per second over the last two seconds.
#[derive(Debug, Clone)]
pub struct Rate {
    slots: [u64; SLOTS],
    /// Number of the slot that is being filled, counted from the clock's zero.
    current: u64,
    first: u64,
}

impl Rate {
    /// Nothing measured yet.
    pub fn new(now: Duration) -> Self {
        let slot = slot(now);
        Self { slots: [0; SLOTS], current: slot, first: slot }
    }

    /// So many bytes passed.
    pub fn add(&mut self, bytes: u64, now: Duration) {
        self.advance(now);
        self.slots[(self.current % SLOTS as u64) as usize] += bytes;
    }

    /// The average of the last two seconds, or of the time since the start if that is less.
    pub fn per_second(&self, now: Duration) -> u64 {
        let mut moved = self.clone();
        moved.advance(now);
        let age = (moved.current - moved.first + 1).min(SLOTS as u64);
        moved.slots.iter().sum::<u64>() * 1000 / (age * SLOT.as_millis() as u64)
    }

    fn advance(&mut self, now: Duration) {
        let slot = slot(now).max(self.current);
        for passed in self.current + 1..=slot.min(self.current + SLOTS as u64) {
            self.slots[(passed % SLOTS as u64) as usize] = 0;
        }
        self.current = slot;
    }
}

fn slot(now: Duration) -> u64 {
    (now.as_millis() / SLOT.as_millis()) as u64
}

/// A token bucket that may go into debt by one helping, so that no helping is ever too big for it.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    per_second: u64,
    /// May be negative: debt that the next one waits for.
    tokens: f64,
    filled: Duration,
}

/// The most that a quiet bucket saves up, as time at its rate.
const BURST: Duration = Duration::from_millis(20);

impl TokenBucket {
    /// A bucket that lets `per_second` bytes pass.
    pub fn new(per_second: u64, now: Duration) -> Self {
        Self { per_second: per_second.max(1), tokens: 0.0, filled: now }
    }

    /// Takes `bytes` out and says how long to wait before using them.
    pub fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let rate = self.per_second as f64;
        let earned = now.saturating_sub(self.filled).as_secs_f64() * rate;
        self.tokens = (self.tokens + earned).min(rate * BURST.as_secs_f64()) - bytes as f64;
        self.filled = now;
        Duration::from_secs_f64((-self.tokens / rate).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_the_average_of_two_seconds() {
        let mut rate = Rate::new(Duration::ZERO);
        for ms in (0..10_000).step_by(10) {
            rate.add(1000, Duration::from_millis(ms));
        }
        let now = rate.per_second(Duration::from_millis(9_990));
        assert!((95_000..=105_000).contains(&now), "{now}");
        assert_eq!(rate.per_second(Duration::from_mins(1)), 0);
    }

    #[test]
    fn a_bucket_keeps_its_rate() {
        let mut bucket = TokenBucket::new(1_000_000, Duration::ZERO);
        let mut now = Duration::ZERO;
        for _ in 0..1000 {
            now += bucket.take(16_384, now);
        }
        let seconds = now.as_secs_f64();
        assert!((seconds - 16.384).abs() < 0.05, "{seconds}");
        // A long silence saves up 20 ms, not the silence.
        now += Duration::from_secs(100);
        assert_eq!(bucket.take(20_000, now), Duration::ZERO);
        assert!(bucket.take(16_384, now) > Duration::from_millis(15));
    }
}
