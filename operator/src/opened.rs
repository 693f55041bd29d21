//! What opens the origins of revisions that are being read: tokens, and passwords where a registry knows none. Kept for as long as
//! somebody reads, in memory only. Pure: time and chance are arguments.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use operator_api::Authorization;
use origin::registry::Opened;

use crate::backoff;
use crate::failure::Failure;

/// A token that is good for less than this is replaced: signs of life come every 5 s, asking takes 10 s at most, and one may be lost.
const MARGIN: Duration = Duration::from_secs(30);
/// A registry that asks to be left alone longer is asked after so long all the same.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);

/// By revision: those that are being read, or were tried to be.
#[derive(Debug, Default)]
pub struct OpenedOrigins(BTreeMap<String, Known>);

#[derive(Debug, Default)]
struct Known {
    opened: Option<Opened>,
    /// Another is asked for.
    asking: bool,
    /// Failures to get another, in a row.
    failures: u32,
    /// Nobody asks for another before this.
    retry_at: Option<Instant>,
    /// Why, where the registry itself named the time.
    refusal: Option<Failure>,
}

/// What holds for whoever shows a sign of life.
#[derive(Debug, PartialEq, Eq)]
pub struct Current {
    /// What is good now, if anything.
    pub authorization: Option<Authorization>,
    /// It lapses soon: the caller asks for another, and says how that ended.
    pub renew: bool,
}

impl OpenedOrigins {
    /// What was just opened for a revision, or that it is open to everyone.
    pub fn keep(&mut self, revision: &str, opened: Option<Opened>) {
        if opened.is_none() {
            return self.forget(revision);
        }
        self.0.insert(revision.to_owned(), Known { opened, ..Known::default() });
    }

    /// It cannot be had. `retry_after`: the registry asks to be left alone for so long.
    pub fn fail(
        &mut self,
        revision: &str,
        failure: Failure,
        retry_after: Option<Duration>,
        jitter: f64,
        now: Instant,
    ) {
        let known = self.0.entry(revision.to_owned()).or_default();
        known.asking = false;
        known.failures = known.failures.saturating_add(1);
        let pause = Duration::try_from(backoff::pause(known.failures, jitter)).unwrap_or_default();
        let asked = retry_after.map(|asked| asked.min(LONGEST_RETRY_AFTER));
        known.retry_at = Some(now + asked.map_or(pause, |asked| asked.max(pause)));
        known.refusal = asked.map(|_| failure);
    }

    /// Why a registry that asked to be left alone is not asked now, and for how long.
    pub fn refusal(&self, revision: &str, now: Instant) -> Option<(Failure, Duration)> {
        let known = self.0.get(revision)?;
        let left = known.retry_at?.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some((known.refusal.clone()?, left))
    }

    /// What is good now. Whoever is told to renew is the only one until it says how that ended.
    pub fn current(&mut self, revision: &str, now: Instant) -> Current {
        let Some(known) = self.0.get_mut(revision) else {
            return Current { authorization: None, renew: false };
        };
        let good_for = |time: Duration| {
            let opened = known.opened.as_ref()?;
            opened.until.is_none_or(|until| now + time < until).then(|| opened.authorization.clone())
        };
        let authorization = good_for(Duration::ZERO);
        let due = known.opened.is_some() && good_for(MARGIN).is_none();
        let renew = due && !known.asking && known.retry_at.is_none_or(|at| at <= now);
        known.asking |= renew;
        Current { authorization, renew }
    }

    /// The user changed something: no reason to wait any longer.
    pub fn retry_now(&mut self, revision: &str) {
        if let Some(known) = self.0.get_mut(revision) {
            known.retry_at = None;
        }
    }

    /// Nobody reads it now: what opens it is dropped. When the registry may be asked again stays.
    pub fn lock(&mut self, revision: &str) {
        if let Some(known) = self.0.get_mut(revision) {
            known.opened = None;
        }
    }

    /// It is built or gone, or everyone may read it.
    pub fn forget(&mut self, revision: &str) {
        self.0.remove(revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(value: &str, until: Option<Instant>) -> Opened {
        let authorization = Authorization { origin: "https://r".into(), value: value.into() };
        Opened { authorization, until }
    }

    fn shown(current: &Current) -> Option<&str> {
        current.authorization.as_ref().map(|authorization| authorization.value.as_str())
    }

    #[test]
    fn a_token_is_renewed_by_one_before_it_lapses_and_shown_until_then() {
        let (mut all, now) = (OpenedOrigins::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(all.current("r", now), Current { authorization: None, renew: false });
        all.keep("r", Some(opened("one", Some(after(60)))));
        assert!(!all.current("r", after(29)).renew);
        let due = all.current("r", after(30));
        assert_eq!((shown(&due), due.renew), (Some("one"), true));
        assert!(!all.current("r", after(31)).renew, "somebody asks already");
        all.keep("r", Some(opened("two", Some(after(120)))));
        assert_eq!(shown(&all.current("r", after(61))), Some("two"));

        assert!(all.current("r", after(95)).renew);
        all.fail("r", Failure::new("x", "y"), None, 0.0, after(100));
        assert!(!all.current("r", after(100)).renew);
        let again = all.current("r", after(101));
        assert_eq!((shown(&again), again.renew), (Some("two"), true));
        assert_eq!(shown(&all.current("r", after(121))), None, "it has lapsed");
        all.keep("r", None);
        assert_eq!(all.current("r", after(121)), Current { authorization: None, renew: false });
    }

    #[test]
    fn a_password_stays_and_shows_nowhere() {
        let (mut all, now) = (OpenedOrigins::default(), Instant::now());
        all.keep("r", Some(opened("Basic canary", None)));
        let current = all.current("r", now + Duration::from_hours(9));
        assert_eq!((shown(&current), current.renew), (Some("Basic canary"), false));
        assert!(!format!("{all:?} {current:?}").contains("canary"));
        all.lock("r");
        assert_eq!(all.current("r", now), Current { authorization: None, renew: false });
    }

    #[test]
    fn a_registry_that_asks_to_be_left_alone_is_for_five_minutes_at_most() {
        let (mut all, now) = (OpenedOrigins::default(), Instant::now());
        let failure = Failure::new("OriginUnavailable", "429");
        let after = |seconds| now + Duration::from_secs(seconds);
        all.fail("r", failure.clone(), Some(Duration::from_secs(100)), 0.0, now);
        assert_eq!(all.refusal("r", after(99)), Some((failure.clone(), Duration::from_secs(1))));
        assert_eq!(all.refusal("r", after(100)), None);
        all.fail("r", failure.clone(), Some(Duration::from_hours(1)), 0.0, now);
        all.lock("r");
        assert!(all.refusal("r", after(299)).is_some() && all.refusal("r", after(300)).is_none());
        all.retry_now("r");
        assert_eq!(all.refusal("r", now), None);
        all.fail("r", failure, None, 0.0, now);
        assert_eq!(all.refusal("r", now), None, "the seat's own pause is enough");
    }
}
