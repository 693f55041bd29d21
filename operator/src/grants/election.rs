//! The state of one revision's fetching, and what moves it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use operator_api::{Progress, reason};

use super::growth::Growth;
use super::seat::{Running, Seat, Trouble};
use super::witness::Second;
use super::{Built, PASSED_OVER, Place, Reading, Refusal, seconds_until};
use crate::backoff;
use crate::failure::Failure;

/// After so many failures of the origin in a row without a new byte, another node tries: the fault may lie in between.
const TRIES_PER_NODE: u32 = 3;
/// The longest pause, in seconds, before wrong bytes are read again although the origin shows no change.
const REREAD_SECONDS: f64 = 600.0;

/// The state of one revision's fetching.
#[derive(Clone, Debug, Default)]
pub struct Election {
    /// Who reads; the first makes the torrent.
    pub(super) seats: Vec<Seat>,
    /// Nodes that are passed over, and until when.
    pub(super) passed_over: BTreeMap<String, Timestamp>,
    growth: Growth,
    doubt: Option<Doubt>,
    /// The second word on what is declared, in this epoch.
    pub(super) second: Second,
    /// Nodes whose words stood against each other: one of two was wrong, and neither is asked for a second word before others.
    pub(super) contradicted: BTreeSet<String>,
    /// Nodes that were not asked, and have said that fetchers are faulty.
    pub(super) heard: BTreeSet<String>,
    /// The result.
    pub built: Option<Built>,
}

/// Why what was read is wrong, until it was read beyond that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Why.
    pub failure: Failure,
    /// So often in a row.
    times: u32,
    /// Whoever has more than this has read beyond it.
    bytes: u64,
    /// The epoch in which it was read; none if nobody shared it.
    epoch: Option<i32>,
    /// No grant before this.
    pub until: Option<Timestamp>,
}

impl Election {
    /// Whether anyone was elected here: if not, what stands in the policy is of an operator before this one.
    pub fn is_begun(&self) -> bool {
        !self.seats.is_empty()
    }

    /// The elected nodes, seat by seat.
    pub fn fetchers(&self) -> Vec<String> {
        self.seats.iter().map(|seat| seat.node.clone()).collect()
    }

    /// Which of the fetchers a node is.
    pub fn place(&self, node: &str) -> Option<Place> {
        let index = self.seats.iter().position(|seat| seat.node == node)?;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Some(Place { index: count(index), of: count(self.seats.len()) })
    }

    /// The grant of a node.
    pub fn grant(&self, node: &str) -> Option<&Running> {
        self.seats.iter().find(|seat| seat.node == node)?.grant.as_ref()
    }

    /// How many grants run.
    pub fn running(&self) -> usize {
        self.seats.iter().filter(|seat| seat.grant.is_some()).count()
    }

    /// How far reading is, where others get what is read; none if they get it when it is whole.
    pub fn reading(&self) -> Option<Reading> {
        let grants = self.seats.iter().filter_map(|seat| seat.grant.as_ref());
        let sharing: Vec<u64> =
            grants.filter(|grant| grant.epoch.is_some()).map(|grant| grant.bytes).collect();
        let bytes = sharing.iter().copied().max()?;
        Some(Reading { fetchers: sharing.len(), bytes })
    }

    /// What keeps all of it from getting on.
    pub fn failure(&self) -> Option<&Failure> {
        let stuck = self.seats.iter().all(|seat| seat.trouble.failure.is_some());
        let first = self.seats.first().and_then(|seat| seat.trouble.failure.as_ref()).filter(|_| stuck);
        self.doubt.as_ref().map(|doubt| &doubt.failure).or(first)
    }

    /// Why what was read in this epoch has to be read anew.
    pub fn doubt(&self, epoch: i32) -> Option<&Doubt> {
        self.doubt.as_ref().filter(|doubt| doubt.epoch == Some(epoch))
    }

    /// How many fetchers the origin is worth. `written`: so many stand in the policy.
    pub fn worth(&self, written: usize) -> usize {
        let wanted = self.growth.wanted();
        if self.is_begun() { wanted } else { wanted.max(written) }
    }

    pub(super) fn is_passed_over(&self, node: &str, now: Timestamp) -> bool {
        self.passed_over.get(node).is_some_and(|until| *until > now)
    }

    /// When a seat is lost.
    pub(super) fn deadline(&self, seat: &Seat) -> Timestamp {
        // Where another node hashes what was built there is nothing left to read.
        seat.deadline(self.doubt.as_ref().and_then(|doubt| doubt.until), self.awaits_witness())
    }

    pub(super) fn is_overdue(&self, seat: &Seat, now: Timestamp) -> bool {
        self.deadline(seat) <= now
    }

    /// Takes note of who is elected. Those whose seat went to another are passed over for a while, and so are those that lost it by
    /// silence; one that goes because fewer are wanted is not.
    pub fn elect(&mut self, fetchers: &[String], now: Timestamp) {
        if !self.is_begun() {
            self.growth.begin_with(fetchers.len());
        }
        let fewer = fetchers.len() < self.seats.len();
        let gone: Vec<&Seat> = self.seats.iter().filter(|seat| !fetchers.contains(&seat.node)).collect();
        let lost = gone.into_iter().filter(|seat| !fewer || self.is_overdue(seat, now));
        let lost: Vec<String> = lost.map(|seat| seat.node.clone()).collect();
        for node in lost {
            let until = self.passed_over.entry(node).or_insert(now + PASSED_OVER);
            *until = (*until).max(now + PASSED_OVER);
        }
        let seats = fetchers.iter().enumerate().map(|(at, node)| self.seat(at, node, fetchers, now));
        self.seats = seats.collect();
    }

    /// The seat of a node: as it was, or a new one, with the trouble of whoever was in its place.
    fn seat(&self, at: usize, node: &str, fetchers: &[String], now: Timestamp) -> Seat {
        let Some(seat) = self.seats.iter().find(|seat| seat.node == node) else {
            let before = self.seats.get(at).filter(|before| !fetchers.contains(&before.node));
            return Seat::new(
                node,
                before.map_or_else(Trouble::default, |before| before.trouble.clone()),
                now,
            );
        };
        let mut seat = seat.clone();
        if seat.grant.is_none() && self.is_overdue(&seat, now) {
            seat.elected_at = now;
        }
        seat
    }

    /// Gives an elected node its grant. Asking again (a restarted sidecar) makes another id. `epoch`: of the ingest by which others get
    /// what it reads; none if they get it when it is whole.
    pub fn open(
        &mut self,
        node: &str,
        id: String,
        epoch: Option<i32>,
        now: Timestamp,
    ) -> Result<Place, Refusal> {
        let place = self.place(node).ok_or(Refusal::NotElected)?;
        if place.index > 0 && epoch.is_none() {
            return Err(Refusal::CannotShare);
        }
        let paused_until = self.doubt.as_ref().and_then(|doubt| doubt.until);
        let seat = self.seats.iter_mut().find(|seat| seat.node == node).ok_or(Refusal::NotElected)?;
        let wait = [seat.trouble.retry_at, paused_until].into_iter().flatten().max();
        if let Some(wait) = wait.filter(|at| *at > now) {
            return Err(Refusal::Later(seconds_until(wait, now)));
        }
        if self.doubt.as_ref().is_some_and(|doubt| epoch.is_some() && doubt.epoch == epoch) {
            return Err(Refusal::Anew);
        }
        seat.trouble.retry_at = None;
        seat.grant = Some(Running::new(id, epoch, now));
        self.second.reads(node);
        Ok(place)
    }

    /// A sign of life: the grant goes on for another [`super::GRANT`]. The answer is which of the fetchers the node is now.
    pub fn progress(&mut self, node: &str, said: &Progress, now: Timestamp) -> Result<Place, Refusal> {
        self.holding(node, &said.grant)?.take_in(said, now);
        if self.doubt.as_ref().is_some_and(|doubt| said.bytes > doubt.bytes) {
            self.doubt = None;
        }
        if let Some(rate) = self.rate() {
            self.growth.look(self.seats.len(), rate, now);
        }
        self.place(node).ok_or(Refusal::Lost)
    }

    /// Bytes per second that all read together since the last of them joined; none while one does not read, or not well.
    fn rate(&self) -> Option<f64> {
        let well = |seat: &Seat| seat.trouble.failure.is_none() && seat.trouble.failures == 0;
        let grants = self
            .seats
            .iter()
            .map(|seat| seat.grant.as_ref().filter(|grant| well(seat) && grant.epoch.is_some()));
        let grants: Vec<&Running> = grants.collect::<Option<_>>()?;
        let joined = grants.iter().map(|grant| grant.opened_at).max()?;
        grants.iter().map(|grant| grant.pace.since(joined)).sum()
    }

    /// The fetch failed; the answer is after how many seconds this node may ask again.
    pub fn fail(
        &mut self,
        node: &str,
        id: &str,
        failure: Failure,
        jitter: f64,
        now: Timestamp,
    ) -> Result<u64, Refusal> {
        self.holding(node, id)?;
        self.growth.set_back(now);
        let pause = if failure.is_of_the_bytes() {
            let read = self.grant(node).map_or((None, 0), |grant| (grant.epoch, grant.bytes));
            self.begin_doubt(node, failure, read, jitter, now)
        } else {
            self.fail_alone(node, failure, jitter, now)
        };
        Ok(seconds_until(now + pause, now))
    }

    /// What was read is wrong, as `node` says, whoever has it: nobody goes on with it. `epoch` and `bytes`: under which name it was read, and
    /// how much there was.
    pub(super) fn begin_doubt(
        &mut self,
        node: &str,
        failure: Failure,
        (epoch, bytes): (Option<i32>, u64),
        jitter: f64,
        now: Timestamp,
    ) -> SignedDuration {
        let times = self.doubt.as_ref().map_or(0, |doubt| doubt.times).saturating_add(1);
        let pause = if failure.reason == reason::SOURCE_CHANGED {
            backoff::pause(times, jitter)
        } else {
            backoff::pause_up_to(REREAD_SECONDS, times.saturating_add(2), jitter)
        };
        // A digest is known to be right when all of it was read.
        let bytes = if failure.reason == reason::DIGEST_MISMATCH { u64::MAX } else { bytes };
        self.pass_over(node, &failure.accused, now + pause + PASSED_OVER);
        let failure = match epoch {
            Some(_) => Failure::new(&failure.reason, format!("reading anew: {}", failure.message)),
            None => failure,
        };
        for seat in &mut self.seats {
            seat.grant = None;
        }
        self.second = Second::default();
        self.doubt = Some(Doubt { failure, times, bytes, epoch, until: Some(now + pause) });
        pause
    }

    /// Others read, where there are any: what the accused have signed is wrong, or whoever says so is. Where there are none, who says so.
    fn pass_over(&mut self, by: &str, accused: &[String], until: Timestamp) {
        let seated = self.seats.iter().map(|seat| seat.node.clone());
        let seated: Vec<String> = seated.filter(|node| accused.contains(node)).collect();
        if seated.is_empty() {
            return;
        }
        self.passed_over.insert(by.to_owned(), until - SignedDuration::from_secs(1));
        self.contradicted.insert(by.to_owned());
        for node in seated {
            self.passed_over.insert(node.clone(), until);
            self.contradicted.insert(node);
        }
    }

    /// One node does not get on.
    fn fail_alone(&mut self, node: &str, failure: Failure, jitter: f64, now: Timestamp) -> SignedDuration {
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.node == node) else {
            return SignedDuration::ZERO;
        };
        seat.grant = None;
        seat.trouble.failures += 1;
        let pause = backoff::pause(seat.trouble.failures, jitter);
        let tries_are_over = seat.trouble.failures.is_multiple_of(TRIES_PER_NODE);
        if failure.is_of_the_node() || (tries_are_over && failure.is_of_the_way()) {
            self.passed_over.insert(node.to_owned(), now + pause.max(SignedDuration::from_secs(5)));
            // Another may try at once; this one by itself waits for `until`, or for the pause if it is alone.
            seat.trouble.retry_at = Some(now + pause.min(SignedDuration::from_secs(1)));
        } else {
            seat.trouble.retry_at = Some(now + pause);
        }
        seat.trouble.failure = Some(failure);
        pause
    }

    /// The origin itself wants to be left alone until then: the grant ends, its node keeps the seat, and nothing counts as a failure of the
    /// node or of the way to the origin.
    pub fn rest(&mut self, node: &str, id: &str, failure: Failure, until: Timestamp) -> Result<(), Refusal> {
        let seat = self.holding(node, id)?;
        seat.grant = None;
        seat.trouble.retry_at = Some(until);
        seat.trouble.failure = Some(failure);
        Ok(())
    }

    /// The source shows another face than the one that failed: no reason to wait any longer.
    pub fn retry_now(&mut self) {
        for seat in &mut self.seats {
            seat.trouble.retry_at = None;
        }
        if let Some(doubt) = &mut self.doubt {
            doubt.until = None;
        }
    }

    /// Whether this node holds this grant.
    pub fn check(&mut self, node: &str, id: &str) -> Result<(), Refusal> {
        self.holding(node, id).map(|_| ())
    }

    /// The content was read, and what the fetcher says of it was checked: whichever it is, that is the end of all seats.
    pub fn complete(&mut self, node: &str, id: &str, built: Built) -> Result<(), Refusal> {
        self.holding(node, id)?.trouble = Trouble::default();
        self.conclude(built);
        Ok(())
    }

    pub(super) fn conclude(&mut self, built: Built) {
        self.doubt = None;
        self.built = Some(built);
    }

    fn holding(&mut self, node: &str, id: &str) -> Result<&mut Seat, Refusal> {
        let seat = self.seats.iter_mut().find(|seat| seat.node == node).ok_or(Refusal::Lost)?;
        let holds = seat.grant.as_ref().is_some_and(|grant| grant.id == id);
        if holds { Ok(seat) } else { Err(Refusal::Lost) }
    }
}
