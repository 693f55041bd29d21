//! How often this machine tries to read an origin that fails. Pure.

use std::time::Duration;

/// So many failures in a row that bring nothing new, and it is given up.
pub const MOST_FAILURES: u32 = 6;
/// After a failure the others have at least so long a time to try.
const PAUSE: Duration = Duration::from_secs(10);

/// What has come until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Come {
    /// Pieces of which somebody has said what they hash to.
    pub known: usize,
    /// Bytes that are here.
    pub have: u64,
    /// Bytes that peers have sent.
    pub downloaded: u64,
}

/// The failures in a row.
#[derive(Debug, Default)]
pub struct Tries {
    failures: u32,
    come: Come,
}

impl Tries {
    /// The origin has failed; how long to leave it alone, or `None` if it is given up. `asked`: the server wants so long a pause.
    pub fn failed(&mut self, come: Come, asked: Option<Duration>) -> Option<Duration> {
        if self.come != come {
            *self = Self { failures: 0, come };
        }
        self.failures += 1;
        (self.failures < MOST_FAILURES).then(|| asked.unwrap_or_default().max(PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_given_up_after_some_failures_in_a_row_without_anything_new() {
        let mut tries = Tries::default();
        let mut come = Come { known: 5, have: 5, downloaded: 0 };
        for _ in 1..MOST_FAILURES {
            assert_eq!(tries.failed(come, None), Some(PAUSE));
        }
        for more in 0..3 {
            match more {
                0 => come.known += 1,
                1 => come.have += 1,
                _ => come.downloaded += 1,
            }
            for _ in 1..MOST_FAILURES {
                assert!(tries.failed(come, None).is_some(), "{come:?} was new");
            }
        }
        assert_eq!(tries.failed(come, None), None);
    }

    #[test]
    fn a_server_that_asks_for_a_pause_gets_it() {
        let hour = Duration::from_hours(1);
        assert_eq!(Tries::default().failed(Come::default(), Some(hour)), Some(hour));
        assert_eq!(Tries::default().failed(Come::default(), Some(Duration::ZERO)), Some(PAUSE));
    }
}
