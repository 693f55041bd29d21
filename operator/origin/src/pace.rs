//! How fast an origin is read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So much of a second may be made up for after a pause.
const BURST: Duration = Duration::from_millis(100);

/// Bytes per second over all connections that share it; it can be changed while they read.
#[derive(Debug, Default)]
pub struct Pace {
    /// 0: as fast as they come.
    per_second: AtomicU64,
    /// When all that has been read would have come at this pace.
    due: Mutex<Option<Instant>>,
}

impl Pace {
    /// So many bytes per second from now on; `None`: as fast as they come.
    pub fn set(&self, per_second: Option<u64>) {
        self.per_second.store(per_second.map_or(0, |bytes| bytes.max(1)), Ordering::Relaxed);
    }

    /// So many bytes have come: waits until more may.
    pub(crate) async fn pass(&self, bytes: usize) {
        let wait = self.wait(bytes, Instant::now());
        if wait > Duration::ZERO {
            tokio::time::sleep(wait).await;
        }
    }

    fn wait(&self, bytes: usize, now: Instant) -> Duration {
        let per_second = self.per_second.load(Ordering::Relaxed);
        if per_second == 0 {
            return Duration::ZERO;
        }
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let from = due.map_or(earliest, |due| due.max(earliest));
        let until = from + Duration::from_secs_f64(bytes as f64 / per_second as f64);
        *due = Some(until);
        until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_fast_waits_and_a_pause_is_made_up_for_a_little() {
        let (pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.wait(1 << 30, start), Duration::ZERO);
        pace.set(Some(1000));
        assert_eq!(pace.wait(100, start), Duration::ZERO);
        assert_eq!(pace.wait(1000, start), Duration::from_secs(1));
        assert_eq!(pace.wait(500, start + Duration::from_secs(1)), Duration::from_millis(500));
        assert_eq!(pace.wait(600, start + Duration::from_mins(1)), Duration::from_millis(500));
        pace.set(None);
        assert_eq!(pace.wait(1 << 30, start + Duration::from_mins(1)), Duration::ZERO);
    }
}
