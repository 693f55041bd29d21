//! Blobs that are their registry's to give, so that a registry is not asked for them again at once.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::Asked;

/// A registry that says no is not asked again for so long; the longest that one may ask to be left alone.
pub const LASTING: SignedDuration = SignedDuration::from_mins(5);
/// One that does not answer.
pub const PASSING: SignedDuration = SignedDuration::from_secs(10);
/// The most that are remembered.
pub const MAX_REFUSALS: usize = 4096;

/// Why a blob is not shared on demand, and for how long nobody asks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Without secrets.
    pub why: String,
    /// At most [`LASTING`].
    pub pause: SignedDuration,
}

impl Refusal {
    /// It will not be another in a moment.
    pub fn lasting(why: impl Into<String>) -> Self {
        Self { why: why.into(), pause: LASTING }
    }

    /// It may be another in a moment, or when the registry says.
    pub fn passing(why: impl Into<String>, retry_after: Option<SignedDuration>) -> Self {
        let pause = retry_after.map_or(PASSING, |asked| asked.clamp(PASSING, LASTING));
        Self { why: why.into(), pause }
    }
}

/// The refusals that hold.
#[derive(Debug, Default)]
pub struct Refusals(BTreeMap<Asked, (Timestamp, String)>);

impl Refusals {
    /// Remembers one. When there are too many, the one that ends first goes.
    pub fn add(&mut self, asked: Asked, refusal: Refusal, now: Timestamp) {
        if self.0.len() >= MAX_REFUSALS {
            self.0.retain(|_, (until, _)| *until > now);
        }
        if self.0.len() >= MAX_REFUSALS
            && let Some(first) =
                self.0.iter().min_by_key(|(_, (until, _))| *until).map(|(asked, _)| asked.clone())
        {
            self.0.remove(&first);
        }
        self.0.insert(asked, (now + refusal.pause, refusal.why));
    }

    /// Why this blob is not asked for now.
    pub fn of(&self, asked: &Asked, now: Timestamp) -> Option<&str> {
        self.0.get(asked).filter(|(until, _)| *until > now).map(|(_, why)| why.as_str())
    }
}
