//! Why a web seed gives nothing, and when it is asked again.

use std::time::Duration;

/// First wait after what may be over soon; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// The longest of these waits.
const LONGEST_RETRY: Duration = Duration::from_mins(5);
/// Wait after an answer that will be the same the next time, unless someone mends the server.
pub const LONG_PAUSE: Duration = Duration::from_mins(15);
/// Bounds of what a server may ask for by Retry-After.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(1));

/// Why a web seed gives nothing now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The URL cannot be asked.
    #[error("the URL is neither http:// nor https://")]
    NoUrl,
    /// There is no connection.
    #[error("cannot reach the server: {0}")]
    Unreachable(String),
    /// No byte comes.
    #[error("the server sends nothing")]
    Silent,
    /// The body ends too early.
    #[error("the answer ends {missing} bytes too early")]
    CutOff {
        /// Bytes that were still to come.
        missing: u64,
    },
    /// An error of the server: 500 and the like.
    #[error("the server answers {0}")]
    Broken(u16),
    /// The server has too much to do: 503 or 429.
    #[error("the server is busy ({status})")]
    Busy {
        /// Which of them.
        status: u16,
        /// Retry-After.
        wait: Option<Duration>,
    },
    /// The server does not give us the file: 403, 404, 416 and the like.
    #[error("the server answers {0}")]
    Refused(u16),
    /// Redirected too often, which is a loop more often than not.
    #[error("the server redirects more than {0} times")]
    Redirects(u32),
    /// Redirected to where we do not go.
    #[error("the server redirects to another scheme, or from https:// to http://")]
    BadRedirect,
    /// The file has another length there.
    #[error("the server has a file of {found} bytes instead of {wanted}")]
    WrongSize {
        /// As the torrent has it.
        wanted: u64,
        /// As the server has it.
        found: u64,
    },
    /// 206 with another range than the one asked for.
    #[error("the server was asked for {wanted} and answers Content-Range {found}")]
    WrongRange {
        /// The header that was sent.
        wanted: String,
        /// The header that came.
        found: String,
    },
    /// 200 where what is wanted is far from the start of the file.
    #[error("the server ignores Range, and would have to send the whole file for each part of it")]
    IgnoresRange,
    /// Compressed, though that was not asked for: offsets mean nothing.
    #[error("the server sends the file encoded as {0}")]
    Encoded(String),
    /// A piece did not verify for what this server had sent of it, now or before.
    #[error("the server has other bytes than the torrent; it is not used any more")]
    BadData,
}

impl Failure {
    /// How long to wait after so many failures in a row, this one included; `None`: for ever.
    pub fn retry(&self, failures: u32) -> Option<Duration> {
        let doubled = FIRST_RETRY * 2u32.saturating_pow(failures.saturating_sub(1).min(10));
        match self {
            Self::NoUrl | Self::BadData => None,
            Self::Unreachable(_) | Self::Silent | Self::CutOff { .. } | Self::Broken(_) => {
                Some(doubled.min(LONGEST_RETRY))
            }
            Self::Busy { wait, .. } => {
                Some(wait.unwrap_or(doubled.min(LONGEST_RETRY)).clamp(RETRY_AFTER.0, RETRY_AFTER.1))
            }
            Self::Refused(_)
            | Self::Redirects(_)
            | Self::BadRedirect
            | Self::WrongSize { .. }
            | Self::WrongRange { .. }
            | Self::IgnoresRange
            | Self::Encoded(_) => Some(LONG_PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_over_soon_is_tried_again_ever_more_seldom() {
        let waits: Vec<u64> = (1..=12).map(|n| Failure::Silent.retry(n).unwrap().as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
        assert_eq!(Failure::Broken(500).retry(u32::MAX), Some(LONGEST_RETRY));
    }

    #[test]
    fn what_is_as_it_is_pauses_for_long_and_bad_data_is_the_end() {
        assert_eq!(Failure::Refused(404).retry(1), Some(LONG_PAUSE));
        assert_eq!(Failure::IgnoresRange.retry(1), Some(LONG_PAUSE));
        assert_eq!(Failure::BadData.retry(1), None);
    }

    #[test]
    fn a_busy_server_says_when_within_bounds() {
        let busy = |wait| Failure::Busy { status: 503, wait }.retry(2);
        assert_eq!(busy(Some(Duration::from_secs(90))), Some(Duration::from_secs(90)));
        assert_eq!(busy(Some(Duration::ZERO)), Some(RETRY_AFTER.0));
        assert_eq!(busy(Some(Duration::MAX)), Some(RETRY_AFTER.1));
        assert_eq!(busy(None), Some(Duration::from_secs(4)));
    }
}
