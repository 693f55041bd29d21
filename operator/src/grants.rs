//! Who reads the origin: election of one fetcher per revision, and its grant, which lasts 30 s without a sign of life.
//!
//! All of it is in memory. The elected node stands in the revision's policy too, so that an operator that starts anew finds it
//! there; its grant then begins with a fresh 30 s. Time, ids and chance are arguments.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use operator_api::{GRANT_SECONDS, Progress, reason};
use sha2::{Digest, Sha256};

use crate::backoff;
use crate::failure::Failure;

/// A grant without a sign of life, and an election without a grant, last so long.
pub const GRANT: SignedDuration = SignedDuration::from_secs(GRANT_SECONDS.cast_signed());
/// A fetcher that neither reads, writes nor hashes for so long makes room for another.
pub const STANDSTILL: SignedDuration = SignedDuration::from_secs(60);
/// A node that lost an election by silence or by its disk is passed over for so long, if there are others.
const PASSED_OVER: SignedDuration = SignedDuration::from_secs(60);
/// After so many failures of the origin in a row without a new byte, another node tries: the fault may lie in between.
const TRIES_PER_NODE: u32 = 3;
/// The longest pause, in seconds, before bytes with a wrong digest are read again although the origin shows no change.
const REREAD_SECONDS: f64 = 600.0;

/// What a node that wants bytes can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: String,
    /// Its sidecar is Ready and so is it: it can be elected. Others may only go on with what they have.
    pub electable: bool,
}

/// Which of the fetchers a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub index: u32,
    /// How many there are.
    pub of: u32,
}

/// How far content is that is shared while it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// How many read it.
    pub fetchers: usize,
    /// The most that one of them has.
    pub bytes: u64,
}

/// A running grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Names it.
    pub id: String,
    /// The epoch of the ingest by which others get what is read; none if they get it when it is whole.
    pub epoch: Option<i32>,
    /// The last sign of life.
    pub renewed_at: Timestamp,
    /// When its work last grew.
    pub grown_at: Timestamp,
    /// Bytes read, written or hashed.
    worked: u64,
    /// Bytes on the fetcher's disk.
    pub bytes: u64,
    /// Bytes read from the origin under this grant.
    pub origin_bytes: u64,
}

/// What a fetcher built, checked against the trackers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The torrent.
    pub torrent: crds::Torrent,
    /// SHA-256 (hex) of the content manifest.
    pub manifest_digest: String,
}

/// The state of one revision's fetching.
#[derive(Clone, Debug, Default)]
pub struct Election {
    /// The elected node.
    pub fetcher: Option<String>,
    /// Since when.
    elected_at: Timestamp,
    /// Its grant, once it has asked for it.
    pub grant: Option<Running>,
    /// Nodes that are passed over, and until when.
    passed_over: BTreeMap<String, Timestamp>,
    /// Failures in a row without a new byte.
    failures: u32,
    /// Most bytes that any fetcher had.
    high_water: u64,
    /// What went wrong last, until bytes grow again.
    pub failure: Option<Failure>,
    /// No grant before this.
    pub retry_at: Option<Timestamp>,
    /// The result.
    pub built: Option<Built>,
}

/// Who is to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The node; none if no one can.
    pub fetcher: Option<String>,
    /// When to decide again if nothing else happens.
    pub wake_at: Option<Timestamp>,
}

impl Election {
    /// Keeps the fetcher or chooses another. `written` is the one in the revision's policy.
    pub fn decide(
        &self,
        revision: &str,
        written: Option<&str>,
        candidates: &[Candidate],
        now: Timestamp,
    ) -> Decision {
        let holder = self.fetcher.as_deref().or(written);
        let present = holder.filter(|holder| candidates.iter().any(|c| c.node == *holder));
        let deadline = match (present, &self.fetcher) {
            // Not ours yet: an operator before us elected it, and its 30 s begin when we take note.
            (Some(holder), None) => {
                return Decision { fetcher: Some(holder.to_owned()), wake_at: Some(now + GRANT) };
            }
            (Some(_), Some(_)) => Some(self.deadline()),
            (None, _) => None,
        };
        if let (Some(holder), Some(deadline)) = (present, deadline)
            && now < deadline
            && !self.is_passed_over(holder, now)
        {
            return Decision { fetcher: Some(holder.to_owned()), wake_at: Some(deadline) };
        }
        let fetcher = self.choose(revision, present, candidates, now);
        let wake_at = fetcher.is_some().then(|| now + GRANT);
        Decision { fetcher, wake_at }
    }

    /// The best candidate but the holder; the holder itself if there is no other.
    fn choose(
        &self,
        revision: &str,
        holder: Option<&str>,
        candidates: &[Candidate],
        now: Timestamp,
    ) -> Option<String> {
        let others = candidates.iter().filter(|c| c.electable && Some(c.node.as_str()) != holder);
        let rank = |candidate: &&Candidate| {
            let until = self.passed_over.get(&candidate.node).copied().filter(|until| *until > now);
            (until, rank(revision, &candidate.node))
        };
        let best = others.min_by_key(rank);
        match (best, holder) {
            (Some(best), Some(holder)) if self.is_passed_over(&best.node, now) => {
                // Everyone has failed: the one that may try again first.
                let until = |node: &str| self.passed_over.get(node).copied().unwrap_or(Timestamp::MIN);
                let holder_first = until(holder) <= until(&best.node);
                Some(if holder_first { holder.to_owned() } else { best.node.clone() })
            }
            (Some(best), _) => Some(best.node.clone()),
            (None, holder) => holder.map(str::to_owned),
        }
    }

    fn is_passed_over(&self, node: &str, now: Timestamp) -> bool {
        self.passed_over.get(node).is_some_and(|until| *until > now)
    }

    /// When the present fetcher has lost it, unless it shows itself.
    fn deadline(&self) -> Timestamp {
        let waiting = self.retry_at.map_or(self.elected_at, |at| at.max(self.elected_at));
        match &self.grant {
            Some(grant) => (grant.renewed_at + GRANT).min(grant.grown_at + STANDSTILL),
            None => waiting + GRANT,
        }
    }

    /// Takes note of who is elected. The one who was before is passed over for a while.
    pub fn elect(&mut self, node: Option<&str>, now: Timestamp) {
        if self.fetcher.as_deref() == node {
            if node.is_some() && self.grant.is_none() && now >= self.deadline() {
                self.elected_at = now;
            }
            return;
        }
        if let Some(before) = self.fetcher.take() {
            let until = self.passed_over.entry(before).or_insert(now + PASSED_OVER);
            *until = (*until).max(now + PASSED_OVER);
        }
        self.fetcher = node.map(str::to_owned);
        self.elected_at = now;
        self.grant = None;
        self.high_water = 0;
    }

    /// Whether anyone was elected here: if not, what stands in the policy is of an operator before this one.
    pub fn is_begun(&self) -> bool {
        self.fetcher.is_some()
    }

    /// How far reading is, where others get what is read; none if they get it when it is whole.
    pub fn reading(&self) -> Option<Reading> {
        let grant = self.grant.as_ref().filter(|grant| grant.epoch.is_some())?;
        Some(Reading { fetchers: 1, bytes: grant.bytes })
    }

    /// Which of the fetchers a node is.
    pub fn place(&self, node: &str) -> Option<Place> {
        (self.fetcher.as_deref() == Some(node)).then_some(Place { index: 0, of: 1 })
    }

    /// Gives the elected node its grant. Asking again (a restarted sidecar) makes another id.
    pub fn open(
        &mut self,
        node: &str,
        id: String,
        epoch: Option<i32>,
        now: Timestamp,
    ) -> Result<Place, Refusal> {
        let place = self.place(node).ok_or(Refusal::NotElected)?;
        if let Some(wait) = self.retry_at.filter(|at| *at > now) {
            return Err(Refusal::Later(seconds_until(wait, now)));
        }
        self.retry_at = None;
        let (renewed_at, grown_at) = (now, now);
        self.grant = Some(Running { id, epoch, renewed_at, grown_at, worked: 0, bytes: 0, origin_bytes: 0 });
        Ok(place)
    }

    /// A sign of life: the grant goes on for another [`GRANT`]. The answer is which of the fetchers the node is now.
    pub fn progress(&mut self, node: &str, said: &Progress, now: Timestamp) -> Result<Place, Refusal> {
        let high_water = self.high_water;
        let grant = self.holding(node, &said.grant)?;
        grant.renewed_at = now;
        if said.worked > grant.worked {
            grant.grown_at = now;
        }
        grant.worked = said.worked;
        grant.bytes = said.bytes;
        grant.origin_bytes = grant.origin_bytes.max(said.origin_bytes);
        if said.bytes > high_water {
            self.high_water = said.bytes;
            self.failures = 0;
            self.failure = None;
        }
        self.place(node).ok_or(Refusal::Lost)
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
        self.grant = None;
        self.failures += 1;
        let pause = if failure.reason == reason::DIGEST_MISMATCH {
            backoff::pause_up_to(REREAD_SECONDS, self.failures + 2, jitter)
        } else {
            backoff::pause(self.failures, jitter)
        };
        if failure.is_of_the_node() || self.failures.is_multiple_of(TRIES_PER_NODE) && failure.is_of_the_way()
        {
            self.passed_over.insert(node.to_owned(), now + pause.max(SignedDuration::from_secs(5)));
            // Another may try at once; this one by itself waits for `until`, or for the pause if it is alone.
            self.retry_at = Some(now + pause.min(SignedDuration::from_secs(1)));
        } else {
            self.retry_at = Some(now + pause);
        }
        self.failure = Some(failure);
        Ok(seconds_until(now + pause, now))
    }

    /// The source shows another face than the one that failed: no reason to wait any longer.
    pub fn retry_now(&mut self) {
        self.retry_at = None;
    }

    /// Whether this node holds this grant.
    pub fn check(&mut self, node: &str, id: &str) -> Result<(), Refusal> {
        self.holding(node, id).map(|_| ())
    }

    /// The content was read, and what the fetcher says of it was checked.
    pub fn complete(&mut self, node: &str, id: &str, built: Built) -> Result<(), Refusal> {
        self.holding(node, id)?;
        self.failure = None;
        self.built = Some(built);
        Ok(())
    }

    fn holding(&mut self, node: &str, id: &str) -> Result<&mut Running, Refusal> {
        if self.fetcher.as_deref() != Some(node) {
            return Err(Refusal::Lost);
        }
        self.grant.as_mut().filter(|grant| grant.id == id).ok_or(Refusal::Lost)
    }
}

impl Failure {
    /// Whether the way from a node to the origin may be at fault, so that another node may fare better.
    fn is_of_the_way(&self) -> bool {
        self.reason == reason::ORIGIN_UNAVAILABLE
    }
}

/// Why a node gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another node is elected, or none.
    #[error("this node is not elected to read the origin of this revision")]
    NotElected,
    /// Seconds until it may ask again.
    #[error("the last try failed; ask again in {0} s")]
    Later(u64),
    /// The grant lapsed, or a newer one was given.
    #[error("this grant is lost; stop reading and ask for another if the revision still names this node")]
    Lost,
}

/// Elections of all revisions that are being fetched.
#[derive(Debug, Default)]
pub struct Grants(BTreeMap<String, Election>);

impl Grants {
    /// The election of a revision as it is now.
    pub fn view(&self, revision: &str) -> Election {
        self.0.get(revision).cloned().unwrap_or_default()
    }

    /// The election of a revision, to change.
    pub fn of(&mut self, revision: &str) -> &mut Election {
        self.0.entry(revision.to_owned()).or_default()
    }

    /// Forgets revisions that are built or gone.
    pub fn forget(&mut self, revision: &str) {
        self.0.remove(revision);
    }

    /// How many grants run.
    pub fn running(&self) -> i64 {
        let running = self.0.values().filter(|election| election.grant.is_some()).count();
        i64::try_from(running).unwrap_or(i64::MAX)
    }
}

/// Spreads fetchers over nodes: the same for everyone who asks, different for each revision.
fn rank(revision: &str, node: &str) -> [u8; 8] {
    let digest = Sha256::new().chain_update(revision).chain_update([0]).chain_update(node).finalize();
    let mut rank = [0; 8];
    rank.copy_from_slice(&digest[..8]);
    rank
}

fn seconds_until(at: Timestamp, now: Timestamp) -> u64 {
    let left = at.duration_since(now).as_millis().max(0) as u64;
    left.div_ceil(1000).max(1)
}

#[cfg(test)]
mod tests;
