//! Who reads the origin: election of the fetchers of a revision, and their grants, which last 30 s without a sign of life.
//!
//! A revision has one seat or several. The node in the first makes metainfo and manifest when the content is whole; those in the others
//! read their part. What keeps one node from reading moves its seat and leaves the others alone; what shows that the bytes are wrong
//! ends all grants, and after a pause everything is read anew. Where digests are declared, a node that did not read gives a second word.
//!
//! All of it is in memory. The elected nodes stand in the revision's policy too, so that an operator that starts anew finds them
//! there; their grants then begin with a fresh 30 s. Time, ids and chance are arguments.

mod decide;
mod election;
mod growth;
mod seat;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use operator_api::GRANT_SECONDS;
use sha2::{Digest, Sha256};

pub use decide::Decision;
pub use election::{Doubt, Election};
pub use growth::{MOST_FETCHERS, REST, WORTH_IT, WORTH_SEVERAL};
pub use seat::Running;
pub use witness::Summons;

/// A grant without a sign of life, and an election without a grant, last so long.
pub const GRANT: SignedDuration = SignedDuration::from_secs(GRANT_SECONDS.cast_signed());
/// A fetcher that neither reads, writes nor hashes for so long makes room for another.
pub const STANDSTILL: SignedDuration = SignedDuration::from_secs(60);
/// A node that lost an election by silence or by its disk is passed over for so long, if there are others.
const PASSED_OVER: SignedDuration = SignedDuration::from_secs(60);

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

/// What a fetcher built, checked against the trackers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The torrent.
    pub torrent: crds::Torrent,
    /// SHA-256 (hex) of the content manifest.
    pub manifest_digest: String,
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
    /// What was read is wrong; it gets another name first.
    #[error("what was read is wrong, and it is about to be read anew; ask again")]
    Anew,
    /// Another node is to give the second word, or none.
    #[error("this node is not asked for a second word on this revision")]
    NotWitness,
    /// A helper is of no use if it keeps for itself what it reads.
    #[error("this node is to help to read the origin and sent no key to share with: upgrade its sidecar")]
    CannotShare,
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

    /// Whether anybody reads a revision.
    pub fn is_read(&self, revision: &str) -> bool {
        self.0.get(revision).is_some_and(|election| election.running() > 0)
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
        let running = self.0.values().map(Election::running).sum::<usize>();
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
