//! How long to go on sharing what is complete.

use std::time::Duration;

use clap::Args;
use swarm::Stats;
use tokio::time::Instant;

use crate::units::parse_duration;

/// What happens when everything is here.
#[derive(Clone, Copy, Debug, Args)]
pub struct Sharing {
    /// Go on sharing when it is complete: until it is interrupted, or for so long (90s, 10m, 2h, 1d)
    #[arg(id = "seed_after", long = "seed-after", value_name = "TIME", num_args = 0..=1, require_equals = true,
        default_missing_value = FOREVER, value_parser = parse_share_time)]
    time: Option<ShareTime>,
    /// Go on sharing until R times as much was sent as was to be downloaded; with --seed-after what comes first
    #[arg(id = "seed_ratio", long = "seed-ratio", value_name = "R", value_parser = parse_ratio)]
    ratio: Option<f64>,
}

/// What `--seed-after` means without a time.
const FOREVER: &str = "forever";

/// How long to go on sharing.
#[derive(Clone, Copy, Debug)]
enum ShareTime {
    Forever,
    For(Duration),
}

fn parse_share_time(text: &str) -> Result<ShareTime, String> {
    if text == FOREVER { Ok(ShareTime::Forever) } else { parse_duration(text).map(ShareTime::For) }
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio: &f64| ratio.is_finite() && *ratio >= 0.0);
    ratio.ok_or_else(|| format!("`{text}` is no ratio; examples: 1, 1.5"))
}

impl Sharing {
    /// Whether it is to go on at all.
    pub fn is_wanted(&self) -> bool {
        self.time.is_some() || self.ratio.is_some()
    }

    /// Whether it has gone on for long enough.
    pub fn is_over(&self, shared: Duration, stats: &Stats) -> bool {
        if !self.is_wanted() {
            return true;
        }
        let long_enough = matches!(self.time, Some(ShareTime::For(time)) if shared >= time);
        let sent_enough =
            self.ratio.is_some_and(|ratio| stats.uploaded as f64 >= ratio * stats.wanted as f64);
        long_enough || sent_enough
    }

    /// Waits for the end of the time.
    pub async fn end(&self, complete: Option<Instant>) {
        match (complete, self.time) {
            (Some(since), Some(ShareTime::For(time))) => tokio::time::sleep_until(since + time).await,
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_numbers_that_can_be_reached() {
        assert_eq!(parse_ratio("1.5"), Ok(1.5));
        for wrong in ["", "x", "-1", "inf", "NaN"] {
            assert!(parse_ratio(wrong).is_err(), "{wrong}");
        }
    }
}
