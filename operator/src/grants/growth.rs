//! How many fetchers an origin is worth: found by trying, one more at a time. Pure.
//!
//! Fetchers tell every few seconds what they have read. When all of them have told of a time that began after the last one had
//! joined, their rates together are compared with what there was without it: a tenth more, and another one is tried; else the last
//! one goes, and there is peace for a while.

use jiff::{SignedDuration, Timestamp};

/// Most fetchers of one revision: what `policy.fetchers` holds.
pub const MOST_FETCHERS: usize = 8;
/// Content below this is read by one: it is there before a second one would tell a difference.
pub const WORTH_SEVERAL: u64 = 256 << 20;
/// A rate is taken over at least so long; fetchers report every 5 s.
const SHORTEST_WINDOW: SignedDuration = SignedDuration::from_secs(4);
/// One more has to bring so many times what there was before: less than that is chance.
pub const WORTH_IT: f64 = 1.1;
/// After a try that brought nothing, or a failure, so long none is made: by then the origin may be another.
pub const REST: SignedDuration = SignedDuration::from_mins(1);

/// How fast a fetcher reads, from one report to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Where the next window begins.
    mark: (Timestamp, u64),
    /// When the last window began, and bytes per second in it.
    last: Option<(Timestamp, f64)>,
}

impl Pace {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { mark: (now, 0), last: None }
    }

    /// Takes in how much was read until now.
    pub(super) fn note(&mut self, bytes: u64, now: Timestamp) {
        let (from, before) = self.mark;
        let passed = now.duration_since(from);
        if passed >= SHORTEST_WINDOW {
            let rate = bytes.saturating_sub(before) as f64 / passed.as_secs_f64();
            self.last = Some((from, rate));
            self.mark = (now, bytes);
        }
    }

    /// Bytes per second in the last window, if it began at this time or later.
    pub(super) fn since(&self, at: Timestamp) -> Option<f64> {
        self.last.filter(|(from, _)| *from >= at).map(|(_, rate)| rate)
    }
}

/// How many there are to be.
#[derive(Clone, Debug)]
pub(super) struct Growth {
    wanted: usize,
    /// While one more is tried: bytes per second without it.
    before: Option<f64>,
    /// No try before this.
    rest_until: Option<Timestamp>,
}

impl Default for Growth {
    fn default() -> Self {
        Self { wanted: 1, before: None, rest_until: None }
    }
}

impl Growth {
    /// How many there are to be.
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    /// So many are there already: an operator that starts anew goes on from them.
    pub(super) fn begin_with(&mut self, fetchers: usize) {
        self.wanted = self.wanted.max(fetchers);
    }

    /// So many fetchers read so many bytes per second together.
    pub(super) fn look(&mut self, fetchers: usize, rate: f64, now: Timestamp) {
        // One is still on its way, or there is no node for it; and where nothing is read there is nothing to learn.
        if fetchers != self.wanted || rate < 1.0 {
            return;
        }
        if self.before.take().is_some_and(|before| rate < before * WORTH_IT) {
            self.wanted -= 1;
            self.rest_until = Some(now + REST);
        } else if self.wanted < MOST_FETCHERS && self.rest_until.is_none_or(|until| until <= now) {
            self.before = Some(rate);
            self.wanted += 1;
        }
    }

    /// Something failed: one that is being tried goes, and none is tried for a while. It may have been too much for the origin.
    pub(super) fn set_back(&mut self, now: Timestamp) {
        if self.before.take().is_some() {
            self.wanted -= 1;
        }
        self.rest_until = Some(now + REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    /// Looks at an origin that gives so much to each and so much to all, every 10 s, and says how many were wanted at each.
    fn try_out(growth: &mut Growth, each: f64, all: f64, seconds: std::ops::Range<i64>) -> Vec<usize> {
        let looks = seconds.step_by(10).map(|second| {
            let fetchers = growth.wanted();
            growth.look(fetchers, all.min(each * fetchers as f64), at(second));
            growth.wanted()
        });
        looks.collect()
    }

    #[test]
    fn it_grows_as_long_as_one_more_brings_more() {
        let mut growth = Growth::default();
        let wanted = try_out(&mut growth, 4e6, 24e6, 0..120);
        assert_eq!(
            wanted,
            [2, 3, 4, 5, 6, 7, 6, 6, 6, 6, 6, 6],
            "the seventh brought nothing, and a minute's rest"
        );
        assert_eq!(growth.wanted(), 6);
        assert_eq!(try_out(&mut growth, 4e6, 28e6, 120..160), [7, 8, 7, 7], "the origin gives more by now");
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let mut growth = Growth::default();
        assert_eq!(try_out(&mut growth, 5.0, 5.0, 0..60), [2, 1, 1, 1, 1, 1], "one gets everything");
        let mut growth = Growth::default();
        assert_eq!(try_out(&mut growth, 1e6, 1e9, 0..200).last(), Some(&MOST_FETCHERS));
        let mut growth = Growth::default();
        growth.look(1, 0.0, at(0));
        growth.look(3, 1e6, at(10));
        assert_eq!(growth.wanted(), 1, "nothing to learn from");
    }

    #[test]
    fn a_failure_ends_a_try() {
        let mut growth = Growth::default();
        assert_eq!(try_out(&mut growth, 4e6, 24e6, 0..20), [2, 3]);
        growth.set_back(at(20));
        assert_eq!(growth.wanted(), 2);
        assert_eq!(try_out(&mut growth, 4e6, 24e6, 30..100), [2, 2, 2, 2, 2, 3, 4]);
        let mut alone = Growth::default();
        alone.set_back(at(0));
        assert_eq!(alone.wanted(), 1);
    }

    #[test]
    fn a_pace_is_of_one_window() {
        let mut pace = Pace::new(at(0));
        pace.note(100, at(2));
        assert_eq!(pace.since(at(0)), None, "too short to tell");
        pace.note(500, at(5));
        assert_eq!(pace.since(at(0)), Some(100.0));
        assert_eq!(pace.since(at(1)), None, "it began before");
        pace.note(1500, at(10));
        assert_eq!((pace.since(at(1)), pace.since(at(6))), (Some(200.0), None));
    }
}
