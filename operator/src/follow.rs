//! When a source that is followed is asked whether it is another by now. Pure: time and chance are arguments.
//!
//! All of it is in memory: a check that finds nothing new writes nothing. So an operator that starts anew does not know when a source was
//! asked last, and begins somewhere within the interval, each source elsewhere.

use jiff::{SignedDuration, Timestamp};

use crate::backoff;
use crate::failure::Failure;

/// A pause is shorter or longer than the interval by as much of it at most: sources that were made together drift apart.
const SPREAD: f64 = 0.1;
/// The user hears of checks that fail after so many in a row: one that the origin sleeps through is not worth two writes.
const TOLD_AFTER: u32 = 3;

/// What is known of the checks of one source.
#[derive(Clone, Debug)]
pub struct Follow {
    /// When it was asked last, or is taken to have been.
    asked_at: Timestamp,
    /// The pause after that, as a part of the interval.
    pace: f64,
    /// Checks in a row that failed.
    failures: u32,
    /// Why the first of them did, that failed for that reason.
    failure: Option<Failure>,
    /// No check before this, while they fail.
    retry_at: Option<Timestamp>,
}

impl Follow {
    /// Begins with a check somewhere within the interval. `chance` is from 0, at its end, to 1, at once.
    pub fn begin(every: SignedDuration, chance: f64, now: Timestamp) -> Self {
        let since = SignedDuration::from_secs_f64(every.as_secs_f64() * chance.clamp(0.0, 1.0));
        let asked_at = now.checked_sub(since).unwrap_or(Timestamp::MIN);
        Self { asked_at, pace: 1.0, failures: 0, failure: None, retry_at: None }
    }

    /// The source has said what it is now. `chance` is from 0 to 1.
    pub fn answered(&mut self, chance: f64, now: Timestamp) {
        let pace = 1.0 + SPREAD * (2.0 * chance.clamp(0.0, 1.0) - 1.0);
        *self = Self { asked_at: now, pace, failures: 0, failure: None, retry_at: None };
    }

    /// It could not be asked, or what it is now is not acceptable: it is asked again after a pause that doubles up to the interval, and
    /// not before the time that it names.
    pub fn failed(
        &mut self,
        failure: Failure,
        retry_after: Option<SignedDuration>,
        every: SignedDuration,
        chance: f64,
        now: Timestamp,
    ) {
        self.failures = self.failures.saturating_add(1);
        let pause = backoff::pause_up_to(every.as_secs_f64(), self.failures, chance);
        let pause = retry_after.map_or(pause, |asked| asked.max(pause));
        self.retry_at = Some(now.checked_add(pause).unwrap_or(Timestamp::MAX));
        // In the words of the first: each that differs would be a write.
        if self.failure.as_ref().is_none_or(|first| first.reason != failure.reason) {
            self.failure = Some(failure);
        }
    }

    /// The user changed something: what was wrong may have been put right.
    pub fn edited(&mut self) {
        self.retry_at = None;
    }

    /// When the source is to be asked.
    pub fn due(&self, every: SignedDuration) -> Timestamp {
        let pause = SignedDuration::from_secs_f64(every.as_secs_f64() * self.pace);
        self.retry_at.unwrap_or_else(|| self.asked_at.checked_add(pause).unwrap_or(Timestamp::MAX))
    }

    /// Why it cannot be found out what the source is now, once that has lasted.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref().filter(|_| self.failures >= TOLD_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: SignedDuration = SignedDuration::from_mins(10);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn failure() -> Failure {
        Failure::new("OriginUnavailable", "no")
    }

    #[test]
    fn a_thousand_that_begin_together_are_spread_over_the_interval() {
        let chances = (0..1000).map(|nth| f64::from(nth) / 1000.0);
        let mut minutes = [0; 10];
        for chance in chances {
            let due = Follow::begin(EVERY, chance, at(0)).due(EVERY).duration_since(at(0)).as_secs();
            minutes[usize::try_from((due - 1).max(0) / 60).unwrap()] += 1;
        }
        assert!(minutes.iter().all(|due| (95..=105).contains(due)), "{minutes:?}");
        assert_eq!(Follow::begin(EVERY, 1.0, at(0)).due(EVERY), at(0));
    }

    #[test]
    fn a_pause_is_the_interval_give_or_take_a_tenth() {
        let mut follow = Follow::begin(EVERY, 1.0, at(0));
        for (chance, due) in [(0.0, 540), (0.5, 600), (1.0, 660)] {
            follow.answered(chance, at(0));
            assert_eq!(follow.due(EVERY), at(due), "{chance}");
        }
        follow.answered(0.5, at(0));
        assert_eq!(follow.due(SignedDuration::from_mins(1)), at(60), "another interval counts at once");
    }

    #[test]
    fn failures_double_the_pause_up_to_the_interval_and_are_told_when_they_last() {
        let mut follow = Follow::begin(EVERY, 1.0, at(0));
        for (nth, pause) in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600].into_iter().enumerate() {
            follow.failed(failure(), None, EVERY, 0.0, at(0));
            assert_eq!(follow.due(EVERY), at(pause));
            assert_eq!(follow.failure().is_some(), nth >= 2, "{nth}");
        }
        follow.edited();
        assert!(follow.due(EVERY) <= at(600) && follow.failure().is_some());
        follow.answered(0.5, at(0));
        assert_eq!((follow.failure(), follow.due(EVERY)), (None, at(600)));
    }

    #[test]
    fn an_origin_that_names_a_time_is_not_asked_before() {
        let mut follow = Follow::begin(EVERY, 1.0, at(0));
        follow.failed(failure(), Some(SignedDuration::from_secs(1800)), EVERY, 0.0, at(0));
        assert_eq!(follow.due(EVERY), at(1800));
        follow.failed(failure(), Some(SignedDuration::from_secs(1)), EVERY, 0.0, at(0));
        assert_eq!(follow.due(EVERY), at(2));
    }

    #[test]
    fn a_failure_keeps_its_words_until_it_is_another() {
        let mut follow = Follow::begin(EVERY, 1.0, at(0));
        for words in ["one", "two", "three"] {
            follow.failed(Failure::new("OriginUnavailable", words), None, EVERY, 0.0, at(0));
        }
        assert_eq!(follow.failure().unwrap().message, "one");
        follow.failed(Failure::new("OriginNotFound", "four"), None, EVERY, 0.0, at(0));
        assert_eq!(follow.failure().unwrap().message, "four");
    }
}
