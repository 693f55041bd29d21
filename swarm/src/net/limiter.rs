//! A limit in bytes per second that all connections of an engine share, in turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;

use super::clock::Clock;
use crate::rate::TokenBucket;

/// No limit.
const NONE: u64 = u64::MAX;

/// The limit. Waiters queue up and are served in order, which makes it round robin over connections by helpings.
#[derive(Debug)]
pub struct Limiter {
    per_second: AtomicU64,
    clock: Clock,
    bucket: Mutex<Option<(u64, TokenBucket)>>,
}

impl Limiter {
    /// With this limit to begin with.
    pub fn new(per_second: Option<u64>, clock: Clock) -> Self {
        Self { per_second: AtomicU64::new(per_second.unwrap_or(NONE)), clock, bucket: Mutex::default() }
    }

    /// Another limit from now on.
    pub fn set(&self, per_second: Option<u64>) {
        self.per_second.store(per_second.unwrap_or(NONE), Ordering::Relaxed);
    }

    /// Whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.per_second.load(Ordering::Relaxed) != NONE
    }

    /// Waits until `bytes` may pass.
    pub async fn pass(&self, bytes: u64) {
        let per_second = self.per_second.load(Ordering::Relaxed);
        if per_second == NONE {
            return;
        }
        // Held while waiting: tokio's mutex is fair, so whoever comes next is served next.
        let mut bucket = self.bucket.lock().await;
        let now = self.clock.now();
        if bucket.as_ref().is_none_or(|(rate, _)| *rate != per_second) {
            *bucket = Some((per_second, TokenBucket::new(per_second, now)));
        }
        let wait = bucket.as_mut().map_or(Duration::ZERO, |(_, bucket)| bucket.take(bytes, now));
        // Shorter sleeps than the timer's tick are left as debt; the next one pays.
        if wait >= Duration::from_millis(1) {
            tokio::time::sleep(wait).await;
        }
    }
}
