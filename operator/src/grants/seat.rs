//! One fetcher's place in the reading of an origin.

use jiff::Timestamp;
use operator_api::Progress;

use super::growth::Pace;
use super::{GRANT, STANDSTILL};
use crate::failure::Failure;

/// A running grant.
#[derive(Clone, Debug)]
pub struct Running {
    /// Names it.
    pub id: String,
    /// The epoch of the ingest by which others get what is read; none if they get it when it is whole.
    pub epoch: Option<i32>,
    /// When it was given.
    pub(super) opened_at: Timestamp,
    /// The last sign of life.
    renewed_at: Timestamp,
    /// When its work last grew.
    grown_at: Timestamp,
    /// Bytes read, written or hashed.
    worked: u64,
    /// Bytes on the fetcher's disk.
    pub bytes: u64,
    /// Bytes read from the origin under this grant.
    pub origin_bytes: u64,
    /// How fast it reads.
    pub(super) pace: Pace,
}

impl Running {
    /// A new one.
    pub(super) fn new(id: String, epoch: Option<i32>, now: Timestamp) -> Self {
        Self {
            id,
            epoch,
            opened_at: now,
            renewed_at: now,
            grown_at: now,
            worked: 0,
            bytes: 0,
            origin_bytes: 0,
            pace: Pace::new(now),
        }
    }

    fn take_in(&mut self, said: &Progress, now: Timestamp) {
        self.renewed_at = now;
        if said.worked > self.worked {
            self.grown_at = now;
        }
        self.worked = said.worked;
        self.bytes = said.bytes;
        self.origin_bytes = self.origin_bytes.max(said.origin_bytes);
        self.pace.note(self.origin_bytes, now);
    }
}

/// What went wrong at a seat, until bytes grow again; whoever takes the seat takes it over.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    /// Failures in a row without a new byte.
    pub failures: u32,
    /// The last of them.
    pub failure: Option<Failure>,
    /// No grant before this.
    pub retry_at: Option<Timestamp>,
}

/// An elected node.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    /// The node.
    pub node: String,
    /// Since when; or since when it has got another 30 s, for lack of others.
    pub(super) elected_at: Timestamp,
    /// Its grant, once it has asked for it.
    pub grant: Option<Running>,
    /// Most bytes that it had.
    high_water: u64,
    pub(super) trouble: Trouble,
}

impl Seat {
    pub(super) fn new(node: &str, trouble: Trouble, now: Timestamp) -> Self {
        Self { node: node.to_owned(), elected_at: now, grant: None, high_water: 0, trouble }
    }

    /// When it is lost, unless its node shows itself. `paused_until`: nobody gets a grant before that. `idle`: it has nothing to do.
    pub(super) fn deadline(&self, paused_until: Option<Timestamp>, idle: bool) -> Timestamp {
        let waiting =
            [self.trouble.retry_at, paused_until].into_iter().flatten().fold(self.elected_at, Ord::max);
        match &self.grant {
            Some(grant) if idle => grant.renewed_at + GRANT,
            Some(grant) => (grant.renewed_at + GRANT).min(grant.grown_at + STANDSTILL),
            None => waiting + GRANT,
        }
    }

    /// A sign of life. Bytes that no one at this seat had before end its trouble.
    pub(super) fn take_in(&mut self, said: &Progress, now: Timestamp) {
        if let Some(grant) = &mut self.grant {
            grant.take_in(said, now);
        }
        if said.bytes > self.high_water {
            self.high_water = said.bytes;
            self.trouble = Trouble::default();
        }
    }
}
