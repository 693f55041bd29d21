//! A limit in bytes per second that all connections of an engine share, in turn.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::clock::Clock;
use crate::rate::TokenBucket;

/// Shorter sleeps than the timer's tick are left as debt; the next one pays.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// The limit. Whoever asks is charged at once and waits for its own bytes behind those of all who asked before, which makes it
/// round robin over connections by helpings.
#[derive(Debug)]
pub struct Limiter {
    per_second: watch::Sender<Option<u64>>,
    clock: Clock,
    bucket: Mutex<Option<(u64, TokenBucket)>>,
}

impl Limiter {
    /// With this limit to begin with.
    pub fn new(per_second: Option<u64>, clock: Clock) -> Self {
        Self { per_second: watch::Sender::new(per_second), clock, bucket: Mutex::default() }
    }

    /// Another limit from now on, for those who wait too.
    pub fn set(&self, per_second: Option<u64>) {
        self.per_second.send_replace(per_second);
    }

    /// Whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.per_second.borrow().is_some()
    }

    /// Waits until `bytes` may pass. Nothing is held meanwhile: who does not come back from its wait stops nobody.
    pub async fn pass(&self, bytes: u64) {
        if !self.is_limited() {
            return;
        }
        let mut limit = self.per_second.subscribe();
        loop {
            let Some(per_second) = *limit.borrow_and_update() else { return };
            let wait = self.charge(bytes, per_second);
            if wait < SHORTEST_SLEEP {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => return,
                _ = limit.changed() => {}
            }
        }
    }

    fn charge(&self, bytes: u64, per_second: u64) -> Duration {
        let now = self.clock.now();
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.as_ref().is_none_or(|(rate, _)| *rate != per_second) {
            *bucket = Some((per_second, TokenBucket::new(per_second, now)));
        }
        bucket.as_mut().map_or(Duration::ZERO, |(_, bucket)| bucket.take(bytes, now))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Asks, and is not polled again: a connection that is stuck elsewhere.
    async fn asks_and_hangs(pass: impl Future<Output = ()>) {
        let mut pass = pin!(pass);
        std::future::poll_fn(|cx| {
            assert!(pass.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        std::future::pending::<()>().await;
    }

    #[tokio::test]
    async fn who_hangs_while_it_waits_stops_nobody_and_is_charged() {
        let limiter = Limiter::new(Some(1_000_000), Clock::start());
        let started = Instant::now();
        tokio::select! {
            biased;
            () = asks_and_hangs(limiter.pass(50_000)) => {}
            () = limiter.pass(50_000) => {}
            () = tokio::time::sleep(PATIENCE) => panic!("one that hangs holds the others up"),
        }
        assert!(started.elapsed() >= Duration::from_millis(95), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_limit_that_is_lifted_frees_those_who_wait() {
        let limiter = Limiter::new(Some(1), Clock::start());
        tokio::select! {
            biased;
            () = limiter.pass(1_000_000) => {}
            () = async {
                limiter.set(None);
                tokio::time::sleep(PATIENCE).await;
            } => panic!("it still waits"),
        }
    }
}
