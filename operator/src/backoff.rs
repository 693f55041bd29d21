//! How long to wait before trying again.

use jiff::SignedDuration;

/// No pause is longer than this: what heals is noticed within so many seconds.
const LONGEST_SECONDS: f64 = 30.0;

/// The pause before the next try after `failures` failures in a row: 1, 2, 4 ... 30 s, of which the last half is cut off by
/// `jitter`, a random number from 0 to 1.
pub fn pause(failures: u32, jitter: f64) -> SignedDuration {
    pause_up_to(LONGEST_SECONDS, failures, jitter)
}

/// The same with another longest pause, in seconds.
pub fn pause_up_to(longest: f64, failures: u32, jitter: f64) -> SignedDuration {
    let whole = 2f64.powi(i32::try_from(failures.saturating_sub(1).min(16)).unwrap_or(16)).min(longest);
    SignedDuration::from_secs_f64(whole * (1.0 - jitter.clamp(0.0, 1.0) / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_thirty_seconds() {
        let seconds = |failures| pause(failures, 0.0).as_secs();
        assert_eq!((1..=7).map(seconds).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pause(u32::MAX, 1.0).as_secs(), 15);
    }
}
