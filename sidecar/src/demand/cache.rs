//! Which blobs may come and which have to go. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use mirror::Digest;
use operator_api::MAX_HELD;

use crate::brief::Brief;

/// Blobs that are asked for or on their way at a time; what is asked for beyond goes upstream.
pub const MAX_COMING: usize = 16;
/// Blobs that are not asked for again for a while: so many are remembered.
pub const MAX_REFUSED: usize = 1024;

/// What there is room for, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    /// The class's word.
    pub limit: u64,
    /// Free on the disk.
    pub free: u64,
    /// Of that, left alone.
    pub spare: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Asked,
    Coming,
    Whole,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    stage: Stage,
    size: u64,
    /// When somebody asked for it last.
    asked: Duration,
}

/// Whether a blob may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is.
    Yes,
    /// Not again so soon.
    Refused,
    /// Too many are on their way.
    Full,
}

/// The blobs in numbers.
#[derive(Debug)]
pub struct Cache {
    blobs: BTreeMap<Digest, Kept>,
    refused: Brief<Digest, (), Duration>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { blobs: BTreeMap::new(), refused: Brief::new(MAX_REFUSED) }
    }
}

impl Cache {
    /// A blob is asked for that is not here.
    pub fn begin(&mut self, digest: Digest, now: Duration) -> Begun {
        if self.refused.get(&digest, now).is_some() {
            return Begun::Refused;
        }
        if self.blobs.values().filter(|kept| kept.stage != Stage::Whole).count() >= MAX_COMING {
            return Begun::Full;
        }
        self.blobs.insert(digest, Kept { stage: Stage::Asked, size: 0, asked: now });
        Begun::Yes
    }

    /// It is to come, with so many bytes. These have to go for that; `None`: there is no room for it.
    pub fn admit(&mut self, digest: Digest, size: u64, space: Space) -> Option<Vec<Digest>> {
        let others = self.bytes();
        // What is on its way is counted whole: it is about to be on the disk.
        let ahead: u64 = self.coming().map(|kept| kept.size).sum();
        let over_limit = (others + size).saturating_sub(space.limit);
        let over_disk = (ahead + size).saturating_add(space.spare).saturating_sub(space.free);
        let over_count = (self.with_size() + 1).saturating_sub(MAX_HELD);
        let gone = self.oldest(over_limit.max(over_disk), over_count)?;
        let kept = self.blobs.get_mut(&digest)?;
        (kept.stage, kept.size) = (Stage::Coming, size);
        for blob in &gone {
            self.blobs.remove(blob);
        }
        Some(gone)
    }

    /// Somebody asks for one that is here.
    pub fn asked(&mut self, digest: &Digest, now: Duration) {
        if let Some(kept) = self.blobs.get_mut(digest) {
            kept.asked = now;
        }
    }

    /// All of it is here: from now on it may go.
    pub fn whole(&mut self, digest: &Digest) {
        if let Some(kept) = self.blobs.get_mut(digest) {
            kept.stage = Stage::Whole;
        }
    }

    /// It is gone.
    pub fn remove(&mut self, digest: &Digest) {
        self.blobs.remove(digest);
    }

    /// It is not asked for before this.
    pub fn refuse(&mut self, digest: Digest, until: Duration, now: Duration) {
        self.refused.put(digest, (), until, now);
    }

    /// So many bytes are wanted by somebody else: these go, as far as any may.
    pub fn give_way(&mut self, bytes: u64) -> Vec<Digest> {
        let whole = self.blobs.values().filter(|kept| kept.stage == Stage::Whole).map(|kept| kept.size).sum();
        let gone = self.oldest(bytes.min(whole), 0).unwrap_or_default();
        for blob in &gone {
            self.blobs.remove(blob);
        }
        gone
    }

    /// Bytes of all that are here or on their way.
    pub fn bytes(&self) -> u64 {
        self.blobs.values().map(|kept| kept.size).sum()
    }

    fn coming(&self) -> impl Iterator<Item = &Kept> {
        self.blobs.values().filter(|kept| kept.stage == Stage::Coming)
    }

    fn with_size(&self) -> usize {
        self.blobs.values().filter(|kept| kept.stage != Stage::Asked).count()
    }

    /// Those that nobody has asked for for the longest time, so many bytes of them and so many; `None` if there are not enough.
    fn oldest(&self, mut bytes: u64, mut count: usize) -> Option<Vec<Digest>> {
        let whole = self.blobs.iter().filter(|(_, kept)| kept.stage == Stage::Whole);
        let mut whole: Vec<(&Digest, &Kept)> = whole.collect();
        whole.sort_by_key(|(_, kept)| kept.asked);
        let mut gone = Vec::new();
        for (digest, kept) in whole {
            if bytes == 0 && count == 0 {
                break;
            }
            gone.push(*digest);
            (bytes, count) = (bytes.saturating_sub(kept.size), count.saturating_sub(1));
        }
        (bytes == 0 && count == 0).then_some(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMY: Space = Space { limit: 100, free: 1000, spare: 100 };

    fn digest(number: usize) -> Digest {
        Digest::of(&number.to_be_bytes())
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    /// With these whole blobs, asked for in this order.
    fn with(sizes: &[u64]) -> Cache {
        let mut cache = Cache::default();
        for (number, size) in sizes.iter().enumerate() {
            assert_eq!(cache.begin(digest(number), at(number as u64)), Begun::Yes);
            assert_eq!(cache.admit(digest(number), *size, ROOMY), Some(Vec::new()));
            cache.whole(&digest(number));
        }
        cache
    }

    #[test]
    fn the_one_that_nobody_has_asked_for_for_longest_goes_first() {
        let mut cache = with(&[40, 40, 20]);
        cache.asked(&digest(0), at(10));
        assert_eq!(cache.begin(digest(9), at(11)), Begun::Yes);
        assert_eq!(cache.admit(digest(9), 30, ROOMY), Some(vec![digest(1)]));
        assert_eq!(cache.bytes(), 90);
        assert_eq!(cache.give_way(1), [digest(2)]);
        assert_eq!(cache.give_way(1000), [digest(0)], "what is on its way stays");
        assert_eq!(cache.bytes(), 30);
        cache.remove(&digest(9));
        assert_eq!(cache.bytes(), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_removes_nothing() {
        let mut cache = with(&[60]);
        cache.begin(digest(8), at(5));
        assert_eq!(cache.admit(digest(8), 101, ROOMY), None);
        assert_eq!(cache.bytes(), 60);
        assert_eq!(cache.admit(digest(8), 30, ROOMY), Some(Vec::new()));
        cache.begin(digest(9), at(6));
        let full = Space { free: 160, ..ROOMY };
        assert_eq!(
            cache.admit(digest(9), 31, full),
            Some(vec![digest(0)]),
            "30 are on their way, 100 are left alone"
        );
        cache.begin(digest(10), at(7));
        assert_eq!(cache.admit(digest(10), 30, Space { free: 100, ..ROOMY }), None);
    }

    #[test]
    fn everything_has_an_end() {
        let mut cache = Cache::default();
        let begun = (0..100).map(|number| cache.begin(digest(number), at(0)));
        let (taken, others): (Vec<_>, Vec<_>) = begun.partition(|begun| *begun == Begun::Yes);
        assert_eq!(taken.len(), MAX_COMING);
        assert!(others.iter().all(|begun| *begun == Begun::Full), "{others:?}");
        let mut cache = Cache::default();
        for number in 0..MAX_HELD + 5 {
            assert_eq!(cache.begin(digest(number), at(number as u64)), Begun::Yes);
            let gone = cache.admit(digest(number), 0, ROOMY).unwrap();
            assert_eq!(gone.len(), usize::from(number >= MAX_HELD), "{number}");
            cache.whole(&digest(number));
        }
        for number in 0..MAX_REFUSED + 5 {
            cache.refuse(digest(number), at(number as u64 + 9), at(0));
        }
        assert_eq!(cache.begin(digest(5), at(0)), Begun::Refused);
        let mut forgotten = (0..5).map(|number| cache.begin(digest(number), at(0)));
        assert!(forgotten.all(|begun| begun != Begun::Refused), "those that end first");
    }

    #[test]
    fn what_was_refused_is_not_asked_for_for_a_while() {
        let mut cache = Cache::default();
        cache.refuse(digest(1), at(60), at(0));
        assert_eq!(cache.begin(digest(1), at(59)), Begun::Refused);
        assert_eq!(cache.begin(digest(1), at(60)), Begun::Yes);
    }
}
