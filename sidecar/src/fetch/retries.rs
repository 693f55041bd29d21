//! When an origin that failed is asked again. Pure but for the draw of the pause.

use std::time::Duration;

use origin::OriginError;
use rand::Rng;

/// Tries in a row that bring nothing new before a fetch is given up.
const TRIES: u32 = 5;
/// The first pause between two of them; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause within a fetch; whoever asks for more makes it fail and be tried again later.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// The tries to read one thing.
#[derive(Debug)]
pub(super) struct Retries {
    /// The most that was read of it.
    best: u64,
    failures: u32,
    pause: Duration,
}

impl Retries {
    /// So much of it is there already.
    pub fn new(position: u64) -> Self {
        Self { best: position, failures: 0, pause: FIRST_PAUSE }
    }

    /// After a failure at this position: how long to wait before reading on; `None` if it is given up.
    pub fn after(&mut self, error: &OriginError, position: u64) -> Option<Duration> {
        if position > self.best {
            *self = Self::new(position);
        } else {
            self.failures += 1;
        }
        if !error.is_transient() || self.failures >= TRIES {
            return None;
        }
        let drawn = rand::rng().random_range(self.pause / 2..self.pause);
        self.pause *= 2;
        Some(error.retry_after().unwrap_or(drawn)).filter(|wait| *wait <= MAX_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> OriginError {
        OriginError::Unreachable { url: "http://h/".into(), cause: "reset".into() }
    }

    #[test]
    fn it_is_given_up_after_tries_that_bring_nothing_and_not_while_it_gets_on() {
        let mut retries = Retries::new(0);
        for position in 1..20 {
            assert!(retries.after(&broken(), position).is_some_and(|wait| wait < FIRST_PAUSE));
        }
        let waits: Vec<_> = (0..TRIES).map(|_| retries.after(&broken(), 19)).collect();
        assert!(
            waits[..TRIES as usize - 1].iter().all(Option::is_some) && waits[TRIES as usize - 1].is_none()
        );
    }
}
