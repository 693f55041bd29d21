//! The second word on declared digests: that of a node which has read nothing at the origin. Pure.
//!
//! A fetcher that reads wrong bytes and says that they are right would be believed by all: it signs what they verify. So what it
//! builds waits until another node, the witness, has hashed the files that it got from its peers and has come to the same
//! manifest. Where no other node can, the fetcher's word alone counts.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use operator_api::reason;

use super::{Built, Candidate, Election, GRANT, Refusal, rank};
use crate::failure::Failure;

/// At least so many bytes per second a witness hashes; one that takes longer makes room for another.
const SLOWEST: u64 = 50 << 20;
/// After so many that said nothing no other is asked: they may all have sidecars that know of no second word, or full disks.
const MOST_ASKED: usize = 3;

/// What is known of the second word, for one epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct Second {
    /// Who is to give it, and since when.
    witness: Option<(String, Timestamp)>,
    /// Who has read at the origin: no witness any more.
    readers: BTreeSet<String>,
    /// Who was asked in vain.
    silent: BTreeSet<String>,
    /// What a fetcher has built.
    claim: Option<Claim>,
    /// What the witness has come to, which may be before the claim.
    word: Option<Word>,
}

#[derive(Clone, Debug)]
struct Claim {
    built: Built,
    fetcher: String,
    /// Of the ingest under which it was read.
    epoch: Option<i32>,
    /// When it was said first.
    at: Timestamp,
}

#[derive(Clone, Debug)]
struct Word {
    node: String,
    manifest_digest: String,
}

/// Who is to be the witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summons {
    /// None if there is no other node.
    pub node: Option<String>,
    /// When to decide again if nothing else happens.
    pub wake_at: Option<Timestamp>,
}

impl Second {
    /// This node reads at the origin.
    pub(super) fn reads(&mut self, node: &str) {
        self.readers.insert(node.to_owned());
        self.witness.take_if(|(witness, _)| witness == node);
        self.word.take_if(|word| word.node == node);
    }

    /// Until when the witness has time for its word, once there is something to confirm.
    fn deadline(&self, since: Timestamp, bytes: u64) -> Option<Timestamp> {
        let hashing = SignedDuration::from_secs((bytes / SLOWEST).cast_signed());
        self.claim.as_ref().map(|claim| claim.at.max(since) + GRANT + hashing)
    }
}

impl Election {
    /// The node whose word is waited for.
    pub fn witness(&self) -> Option<&str> {
        self.second.witness.as_ref().map(|(node, _)| node.as_str())
    }

    /// Whether something was built that waits for a second word.
    pub fn awaits_witness(&self) -> bool {
        self.second.claim.is_some()
    }

    /// What a node has said already that it built, while it waits for a second word.
    pub fn claimed(&self, node: &str) -> Option<&Built> {
        self.second.claim.as_ref().filter(|claim| claim.fetcher == node).map(|claim| &claim.built)
    }

    /// Keeps the witness or chooses another. `written` is who stands in the revision's policy, `fetchers` who reads from now on;
    /// `bytes`: so much has to be hashed.
    pub fn summon(
        &self,
        revision: &str,
        written: Option<&str>,
        candidates: &[Candidate],
        fetchers: &[String],
        bytes: u64,
        now: Timestamp,
    ) -> Summons {
        let second = &self.second;
        let may = |node: &str| {
            let has_read = second.readers.contains(node) || fetchers.iter().any(|fetcher| fetcher == node);
            !has_read && !second.silent.contains(node)
        };
        let there = |node: &str| candidates.iter().any(|candidate| candidate.node == node);
        let (held, since) = match &second.witness {
            Some((node, since)) => (Some(node.as_str()), *since),
            None => (written, now),
        };
        let held = held.filter(|node| may(node));
        let stays =
            |node: &str, until: Option<Timestamp>| Summons { node: Some(node.to_owned()), wake_at: until };
        let deadline = second.deadline(since, bytes);
        if let Some(held) = held.filter(|node| there(node) && deadline.is_none_or(|at| at > now)) {
            return stays(held, deadline);
        }
        let lapsed = usize::from(held.is_some() && second.claim.is_some());
        let electable = candidates.iter().filter(|candidate| candidate.electable);
        let others = electable.map(|candidate| candidate.node.as_str());
        let others = others
            .filter(|node| may(node) && held != Some(node) && second.silent.len() + lapsed < MOST_ASKED);
        // Not whoever is next to read; and who has contradicted before is not asked first.
        let order = |node: &&str| {
            (self.contradicted.contains(*node), rank(&format!("second word on {revision}"), node))
        };
        if let Some(other) = others.min_by_key(order) {
            return stays(other, second.deadline(now, bytes));
        }
        // One whose sidecar is just being replaced gets as long to come back as a fetcher does.
        let back_by = second.claim.as_ref().map(|claim| claim.at + GRANT).filter(|at| *at > now);
        match held.filter(|node| !there(node)).zip(back_by) {
            Some((held, back_by)) => stays(held, Some(back_by)),
            None => Summons { node: None, wake_at: None },
        }
    }

    /// Takes note of who is the witness. Where nobody can be, what was built counts as it is; the answer is whether that is so now.
    pub fn appoint(&mut self, node: Option<&str>, now: Timestamp) -> bool {
        if self.witness() != node {
            let before = self.second.witness.take();
            if self.second.claim.is_some() {
                self.second.silent.extend(before.map(|(node, _)| node));
            }
            self.second.witness = node.map(|node| (node.to_owned(), now));
        }
        let alone = node.is_none() && self.second.claim.is_some();
        if alone {
            self.settle();
        }
        alone
    }

    /// A fetcher has built it, and what can be checked of that is right. The answer is whether it counts already.
    pub fn claim(
        &mut self,
        node: &str,
        id: &str,
        built: Built,
        jitter: f64,
        now: Timestamp,
    ) -> Result<bool, Refusal> {
        self.check(node, id)?;
        let epoch = self.grant(node).and_then(|grant| grant.epoch);
        let before = self.second.claim.as_ref().filter(|claim| claim.built == built);
        let at = before.map_or(now, |claim| claim.at);
        self.second.claim = Some(Claim { built, fetcher: node.to_owned(), epoch, at });
        self.compare(jitter, now)
    }

    /// The witness has come to this manifest. The answer is whether what was built counts now.
    pub fn testify(
        &mut self,
        node: &str,
        manifest_digest: &str,
        jitter: f64,
        now: Timestamp,
    ) -> Result<bool, Refusal> {
        self.check_witness(node)?;
        self.second.word = Some(Word { node: node.to_owned(), manifest_digest: manifest_digest.to_owned() });
        self.compare(jitter, now)
    }

    /// The witness found out that something is wrong with the bytes of this epoch. That fetchers have signed what cannot be right, any node
    /// may see; who was not asked is heard once, since nobody can tell whether it is so.
    pub fn contradict(
        &mut self,
        node: &str,
        epoch: i32,
        failure: Failure,
        jitter: f64,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let is_unasked = self.check_witness(node).is_err();
        let is_heard = failure.reason == reason::FETCHER_FAULTY && self.built.is_none();
        if is_unasked && !(is_heard && self.heard.insert(node.to_owned())) {
            return Err(Refusal::NotWitness);
        }
        let message = format!("node {node}, which got the content from its peers: {}", failure.message);
        // Where digests differ it may be any of those that read.
        let accused = if failure.accused.is_empty() { self.fetchers() } else { failure.accused };
        let read = self.seats.iter().filter_map(|seat| seat.grant.as_ref()).map(|grant| grant.bytes);
        let bytes = read.max().unwrap_or_default();
        let failure = Failure::new(&failure.reason, message).accusing(accused);
        self.begin_doubt(node, failure, (Some(epoch), bytes), jitter, now);
        Ok(())
    }

    fn check_witness(&self, node: &str) -> Result<(), Refusal> {
        if self.witness() == Some(node) { Ok(()) } else { Err(Refusal::NotWitness) }
    }

    fn compare(&mut self, jitter: f64, now: Timestamp) -> Result<bool, Refusal> {
        let (Some(claim), Some(word)) = (&self.second.claim, &self.second.word) else { return Ok(false) };
        if claim.built.manifest_digest == word.manifest_digest {
            self.settle();
            return Ok(true);
        }
        let (fetcher, epoch, node) = (claim.fetcher.clone(), claim.epoch, word.node.clone());
        let message = format!("the files on node {node} have other digests than fetcher {fetcher} says");
        // Either of the two is wrong: another reads next, and another is asked.
        let failure = Failure::new(reason::DIGEST_MISMATCH, message).accusing(vec![fetcher]);
        self.begin_doubt(&node, failure, (epoch, u64::MAX), jitter, now);
        Err(Refusal::Anew)
    }

    fn settle(&mut self) {
        if let Some(claim) = self.second.claim.take() {
            self.conclude(claim.built);
        }
    }
}
