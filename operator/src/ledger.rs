//! What the operator knows besides the API server: elections, resolved sources, what trackers see. It is lost with the
//! process and found again: nothing in it is needed to go on, only to go on sooner.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::backoff;
use crate::demands::Demands;
use crate::follow::Follow;
use crate::grants::{Built, Grants};
use crate::opened::OpenedOrigins;
use crate::outline::Outlined;
use crate::plan::{Resolution, SwarmView};
use crate::resolve::{ResolveError, Resolved};

/// A rate is taken over so much time.
const RATE_WINDOW: SignedDuration = SignedDuration::from_secs(30);
/// A sample for the rate at most this often.
const RATE_STEP: SignedDuration = SignedDuration::from_secs(2);
/// An origin that asks to be left alone longer is asked after so long all the same.
const LONGEST_RETRY_AFTER: SignedDuration = SignedDuration::from_secs(300);

/// The longest pause, in seconds, before a source that every read finds changed is resolved again: each time costs a revision.
const LONGEST_DOUBT: f64 = 300.0;

/// A `Distribution`, by UID.
pub type Uid = String;

/// Everything in memory.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Who reads which origin.
    pub grants: Grants,
    /// What is known of each `Distribution`.
    pub distributions: BTreeMap<Uid, Known>,
    /// What was built and is about to be written, by revision: the trackers have to serve it before a node hears of it.
    pub coming: BTreeMap<String, Built>,
    /// What content goes by that is to be read, by revision.
    pub outlines: BTreeMap<String, Outlined>,
    /// What opens the origins of revisions that are being read.
    pub opened: OpenedOrigins,
    /// What is shared although no revision has it.
    pub demands: Demands,
    /// What the trackers see, by revision.
    pub swarms: BTreeMap<String, SwarmView>,
    /// Whether each tracker answers and has the registry, by its name.
    pub trackers: BTreeMap<String, bool>,
    /// The tracker token of each class.
    pub tokens: BTreeMap<String, String>,
}

impl Ledger {
    /// Forgets a revision that is gone.
    pub fn forget(&mut self, revision: &str) {
        self.grants.forget(revision);
        self.coming.remove(revision);
        self.outlines.remove(revision);
        self.opened.forget(revision);
        self.swarms.remove(revision);
    }
}

/// What is known of one `Distribution`.
#[derive(Debug, Default)]
pub struct Known {
    /// Its source.
    pub resolution: Resolution,
    /// Failures to resolve it in a row.
    failures: u32,
    /// Doubts in a row: reads that found something else than what was resolved.
    doubts: u32,
    /// The generation that was seen last.
    pub generation: i64,
    /// Where its source is followed: the checks.
    pub follow: Option<Follow>,
    /// When its deletion was first seen.
    pub deleting_since: Option<Timestamp>,
    /// Since when no whole copy is seen.
    pub copy_missing_since: Option<Timestamp>,
    /// How fast its nodes get on.
    pub rate: Rate,
}

impl Known {
    /// A try to resolve begins.
    pub fn begin(&mut self, source_hash: &str) {
        if self.resolution.source_hash != source_hash {
            self.resolution = Resolution { source_hash: source_hash.to_owned(), ..Resolution::default() };
            self.failures = 0;
            self.doubts = 0;
        }
        self.resolution.running = true;
    }

    /// A try to resolve ends. Says whether the origin shows something else than before. With what was found comes for which platforms
    /// of nodes it was looked for: what was found before was for others.
    pub fn end(
        &mut self,
        source_hash: &str,
        result: Result<(Resolved, BTreeSet<String>), ResolveError>,
        jitter: f64,
        now: Timestamp,
    ) -> bool {
        let resolution = &mut self.resolution;
        if resolution.source_hash != source_hash {
            // The source was edited meanwhile: another try has begun, or will.
            return false;
        }
        resolution.running = false;
        match result {
            Ok((resolved, platforms)) => {
                let changed = resolution.resolved.as_ref() != Some(&resolved);
                self.failures = 0;
                self.found(resolved, platforms, jitter, now);
                changed
            }
            Err(error) => {
                self.failures += 1;
                let asked = error.retry_after().and_then(|asked| SignedDuration::try_from(asked).ok());
                let pause = backoff::pause(self.failures, jitter);
                let pause = asked.map_or(pause, |asked| asked.min(LONGEST_RETRY_AFTER).max(pause));
                resolution.retry_at = Some(now + pause);
                resolution.failure = Some(error.failure());
                false
            }
        }
    }

    /// A check of a source that is followed ends, with what it is now if that is another. Says whether it is. One that failed leaves all as
    /// it was.
    pub fn end_check(
        &mut self,
        source_hash: &str,
        result: Result<Option<(Resolved, BTreeSet<String>)>, ResolveError>,
        every: SignedDuration,
        jitter: f64,
        now: Timestamp,
    ) -> bool {
        if self.resolution.source_hash != source_hash {
            return false;
        }
        self.resolution.running = false;
        // Its user may have pinned it meanwhile.
        let Some(follow) = &mut self.follow else { return false };
        match result {
            Ok(Some((resolved, platforms))) => {
                self.found(resolved, platforms, jitter, now);
                true
            }
            Ok(None) => {
                follow.answered(jitter, now);
                false
            }
            Err(error) => {
                let asked = error.retry_after().and_then(|asked| SignedDuration::try_from(asked).ok());
                follow.failed(error.failure(), asked, every, jitter, now);
                false
            }
        }
    }

    /// This is what the source is now.
    fn found(&mut self, resolved: Resolved, platforms: BTreeSet<String>, jitter: f64, now: Timestamp) {
        let source_hash = std::mem::take(&mut self.resolution.source_hash);
        self.resolution =
            Resolution { source_hash, resolved: Some(resolved), platforms, ..Resolution::default() };
        if let Some(follow) = &mut self.follow {
            follow.answered(jitter, now);
        }
    }

    /// Takes note of whether the source is followed, and how often it is then asked. `first`: this operator sees it for the first time;
    /// else its user has just asked for it, and the first check is due.
    pub fn follow(&mut self, every: Option<SignedDuration>, first: bool, chance: f64, now: Timestamp) {
        let Some(every) = every else {
            self.follow = None;
            return;
        };
        let chance = if first { chance } else { 1.0 };
        self.follow.get_or_insert_with(|| Follow::begin(every, chance, now));
    }

    /// The result is doubted: it is renewed after a pause that grows with the doubts, or when the last failure's pause is over. An
    /// origin that shows another face each time resolves well and fails every read, so that only doubts tell.
    pub fn doubt(&mut self, jitter: f64, now: Timestamp) {
        self.resolution.stale = true;
        self.doubts = self.doubts.saturating_add(1);
        if self.resolution.retry_at.is_none_or(|at| at <= now) {
            self.resolution.retry_at = Some(now + backoff::pause_up_to(LONGEST_DOUBT, self.doubts, jitter));
        }
    }

    /// The content was read as it was resolved.
    pub fn confirm(&mut self) {
        self.doubts = 0;
    }

    /// The user changed something: it is tried at once.
    pub fn edited(&mut self) {
        self.doubts = 0;
        self.resolution.retry_at = None;
        if let Some(follow) = &mut self.follow {
            follow.edited();
        }
    }

    /// Drops the list of files: nobody reads them any more, and there may be a million. A copy that is lost has its source
    /// resolved anew.
    pub fn drop_list(&mut self) {
        let Resolution { source_hash, running, .. } = std::mem::take(&mut self.resolution);
        self.resolution = Resolution { source_hash, running, ..Resolution::default() };
    }
}

/// Bytes per second over the last half minute.
#[derive(Clone, Debug, Default)]
pub struct Rate(VecDeque<(Timestamp, u64)>);

impl Rate {
    /// Takes in how much there is now.
    pub fn add(&mut self, have: u64, now: Timestamp) {
        if self.0.back().is_some_and(|(at, last)| now.duration_since(*at) < RATE_STEP && have >= *last) {
            return;
        }
        if self.0.back().is_some_and(|(_, last)| have < *last) {
            // Another revision, or a node that went: what was before says nothing any more.
            self.0.clear();
        }
        self.0.push_back((now, have));
        while self.0.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_WINDOW) {
            self.0.pop_front();
        }
    }

    /// Bytes per second; none with less than two samples.
    pub fn per_second(&self) -> Option<f64> {
        let ((from, first), (to, last)) = (self.0.front()?, self.0.back()?);
        let seconds = to.duration_since(*from).as_secs_f64();
        (seconds > 0.0).then(|| (last - first) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn a_rate_forgets_what_is_long_ago() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), None);
        for second in 0..=60 {
            rate.add(if second < 30 { 0 } else { 100 * (second as u64 - 30) }, at(second));
        }
        assert_eq!(rate.per_second().map(f64::round), Some(100.0));
        rate.add(5, at(70));
        assert_eq!(rate.per_second(), None);
    }

    #[test]
    fn failures_wait_longer_and_an_edit_starts_anew() {
        let mut known = Known::default();
        let error = || ResolveError::refused("OriginUnavailable", "no");
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            known.begin("a");
            known.end("a", Err(error()), 0.0, at(0));
            assert_eq!(known.resolution.retry_at, Some(at(expected)));
            assert!(!known.resolution.running);
        }
        known.begin("b");
        assert_eq!(known.resolution.failure, None);
        assert!(!known.end("a", Err(error()), 0.0, at(0)), "the answer for the old source says nothing");
        assert!(known.resolution.running);
    }

    #[test]
    fn an_origin_that_asks_to_be_left_alone_is_for_five_minutes_at_most() {
        let mut known = Known::default();
        for (asked, waited) in [(1, 2), (90, 90), (3600, 300)] {
            known.begin("a");
            let retry_after = Some(std::time::Duration::from_secs(asked));
            let error = origin::OriginError::Status { url: "http://h".into(), status: 429, retry_after };
            known.failures = 1;
            known.end("a", Err(error.into()), 0.0, at(0));
            assert_eq!(known.resolution.retry_at, Some(at(waited)), "{asked}");
        }
    }

    #[test]
    fn a_doubted_result_stays_until_another_is_there() {
        let mut known = Known::default();
        let resolved = || Resolved::new("p".into(), Vec::new(), 0, None);
        known.begin("a");
        assert!(known.end("a", Ok((resolved(), BTreeSet::new())), 0.0, at(0)));
        known.doubt(0.0, at(0));
        assert_eq!(known.resolution.retry_at, Some(at(1)));
        assert!(known.resolution.stale && known.resolution.resolved.is_some());
        known.begin("a");
        assert!(!known.end("a", Ok((resolved(), BTreeSet::new())), 0.0, at(2)), "nothing has changed");
        assert!(!known.resolution.stale);
    }

    #[test]
    fn a_check_leaves_all_as_it_was_unless_it_finds_another() {
        const EVERY: SignedDuration = SignedDuration::from_mins(10);
        let mut known = Known::default();
        known.follow(Some(EVERY), true, 1.0, at(0));
        let due = |known: &Known| known.follow.as_ref().unwrap().due(EVERY);
        assert_eq!(due(&known), at(0));
        let check = |known: &mut Known, result: Result<Option<char>, ResolveError>, second: i64| {
            known.begin("a");
            let found = |pin: char| (Resolved::new(pin.to_string(), Vec::new(), 0, None), BTreeSet::new());
            let result = result.map(|pin| pin.map(found));
            let moved = known.end_check("a", result, EVERY, 0.5, at(second));
            assert!(!known.resolution.running);
            moved
        };
        assert!(!check(&mut known, Ok(None), 0));
        assert_eq!((due(&known), known.resolution.resolved.is_none()), (at(600), true));
        let error = origin::OriginError::Status {
            url: "http://h".into(),
            status: 429,
            retry_after: Some(std::time::Duration::from_mins(15)),
        };
        assert!(!check(&mut known, Err(error.into()), 600));
        assert_eq!(due(&known), at(1500));
        assert_eq!(
            (&known.resolution.failure, known.resolution.retry_at),
            (&None, None),
            "nobody waits for it"
        );
        assert!(check(&mut known, Ok(Some('b')), 1500));
        assert_eq!(known.resolution.resolved.as_ref().unwrap().pin, "b");
        assert_eq!(due(&known), at(2100));

        known.begin("b");
        assert!(!known.end_check("a", Ok(None), EVERY, 0.5, at(1600)), "its source was edited meanwhile");
        assert!(known.resolution.running);
        known.follow(None, false, 1.0, at(1600));
        assert!(!check(&mut known, Ok(Some('c')), 1600) && known.resolution.resolved.is_none(), "or pinned");
        known.follow(Some(EVERY), false, 0.0, at(1600));
        assert_eq!(due(&known), at(1600), "whoever asks for it gets a look at once");
    }

    #[test]
    fn what_was_found_stays_together_with_what_it_was_looked_for_for() {
        let mut known = Known::default();
        let kinds = |kinds: &[&str]| kinds.iter().map(|&kind| kind.to_owned()).collect::<BTreeSet<String>>();
        let found = || Resolved::new("p".into(), Vec::new(), 0, None);
        known.begin("a");
        known.end("a", Ok((found(), kinds(&["amd64"]))), 0.0, at(0));
        known.begin("a");
        assert_eq!(known.resolution.platforms, kinds(&["amd64"]), "more is only asked for");
        known.end("a", Err(ResolveError::refused("OriginUnavailable", "no")), 0.0, at(1));
        assert_eq!(known.resolution.platforms, kinds(&["amd64"]), "and was not found");
        known.begin("a");
        known.end("a", Ok((found(), kinds(&["amd64", "arm64"]))), 0.0, at(9));
        assert_eq!(known.resolution.platforms, kinds(&["amd64", "arm64"]));
    }

    #[test]
    fn a_source_that_every_read_finds_changed_waits_longer_each_time() {
        let mut known = Known::default();
        let mut second = 0;
        let mut change = |known: &mut Known| {
            second += 1000;
            known.begin("a");
            let resolved = Resolved::new(second.to_string(), Vec::new(), 0, None);
            assert!(
                known.end("a", Ok((resolved, BTreeSet::new())), 0.0, at(second)),
                "it resolves well, to something else"
            );
            known.doubt(0.0, at(second));
            known.resolution.retry_at.unwrap().duration_since(at(second)).as_secs()
        };
        let pauses: Vec<i64> = (0..11).map(|_| change(&mut known)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        known.confirm();
        assert_eq!(change(&mut known), 1, "it was read as it was resolved");
        known.edited();
        assert_eq!(known.resolution.retry_at, None, "an edit waits for nothing");
        assert_eq!(change(&mut known), 1);
    }
}
