//! Whom of the strangers to serve (BEP 3): those that give most, and one at random to find better ones.
//!
//! Our own nodes are not choked at all: they are one another's, and none has to prove itself. A stranger in a public swarm is served if it
//! serves us; while we have everything, if it takes fast. What counts is payload that verified, so that junk earns nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use rand_core::RngCore;

use crate::core::PeerKey;

/// Strangers that are served at a time: what libtorrent has by default. One of them is the optimistic one.
pub const SLOTS: usize = 8;
/// How often it is decided anew (BEP 3).
const ROUND: Duration = Duration::from_secs(10);
/// How long the optimistic one stays (BEP 3).
const OPTIMISTIC: Duration = Duration::from_secs(30);

/// A stranger that wants something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub key: PeerKey,
    /// Payload of this round: from it, or to it while we have everything. The unit does not matter.
    pub payload: u64,
}

/// The choker of one torrent.
#[derive(Debug, Default)]
pub struct Choker {
    last: Option<Duration>,
    optimistic: Option<(PeerKey, Duration)>,
}

impl Choker {
    /// Whether a round is over.
    pub fn is_due(&self, now: Duration) -> bool {
        self.last.is_none_or(|last| now.saturating_sub(last) >= ROUND)
    }

    /// Whom to serve in the next round.
    pub fn choose(
        &mut self,
        mut candidates: Vec<Candidate>,
        now: Duration,
        rng: &mut impl RngCore,
    ) -> BTreeSet<PeerKey> {
        self.last = Some(now);
        if candidates.len() <= SLOTS {
            return candidates.into_iter().map(|candidate| candidate.key).collect();
        }
        candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.payload));
        let mut chosen: BTreeSet<PeerKey> =
            candidates[..SLOTS - 1].iter().map(|candidate| candidate.key).collect();
        chosen.insert(self.optimistic(&candidates[SLOTS - 1..], now, rng));
        chosen
    }

    /// One of the others: the same for three rounds, if it is still among them.
    fn optimistic(&mut self, others: &[Candidate], now: Duration, rng: &mut impl RngCore) -> PeerKey {
        let stays = self.optimistic.filter(|(key, since)| {
            now.saturating_sub(*since) < OPTIMISTIC && others.iter().any(|other| other.key == *key)
        });
        let chosen = stays.unwrap_or_else(|| (others[rng.next_u32() as usize % others.len()].key, now));
        self.optimistic = Some(chosen);
        chosen.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::TestRng;

    fn candidates(bytes: &[u64]) -> Vec<Candidate> {
        bytes
            .iter()
            .zip(0..)
            .map(|(bytes, key)| Candidate { key: PeerKey::of(key), payload: *bytes })
            .collect()
    }

    #[test]
    fn all_are_served_while_there_are_slots() {
        let mut choker = Choker::default();
        let chosen = choker.choose(candidates(&[0; SLOTS]), Duration::ZERO, &mut TestRng(1));
        assert_eq!(chosen.len(), SLOTS);
        assert!(choker.choose(Vec::new(), Duration::ZERO, &mut TestRng(1)).is_empty());
    }

    #[test]
    fn who_gives_most_is_served_and_everyone_else_has_a_turn() {
        let mut choker = Choker::default();
        let bytes: Vec<u64> = (0..20).map(|key| if key < 7 { 100 + key } else { key }).collect();
        let mut rng = TestRng(1);
        let mut lucky = BTreeSet::new();
        for round in 0..300 {
            let chosen = choker.choose(candidates(&bytes), ROUND * round, &mut rng);
            assert_eq!(chosen.len(), SLOTS);
            assert!((0..7).all(|key| chosen.contains(&PeerKey::of(key))));
            lucky.extend(chosen.into_iter().filter(|key| *key >= PeerKey::of(7)));
        }
        assert_eq!(lucky.len(), 13);
    }

    #[test]
    fn the_optimistic_one_stays_for_thirty_seconds_unless_it_goes() {
        let mut choker = Choker::default();
        let mut rng = TestRng(3);
        let bytes: Vec<u64> = (0..40).map(|key| 100 - key).collect();
        let lucky = |chosen: BTreeSet<PeerKey>| *chosen.last().unwrap();
        let first = lucky(choker.choose(candidates(&bytes), Duration::ZERO, &mut rng));
        assert_eq!(lucky(choker.choose(candidates(&bytes), ROUND, &mut rng)), first);
        assert_eq!(lucky(choker.choose(candidates(&bytes), ROUND * 2, &mut rng)), first);
        let without: Vec<_> = candidates(&bytes).into_iter().filter(|c| c.key != first).collect();
        assert_ne!(lucky(choker.choose(without, ROUND * 2, &mut rng)), first);
    }

    #[test]
    fn a_round_takes_ten_seconds() {
        let mut choker = Choker::default();
        assert!(choker.is_due(Duration::ZERO));
        choker.choose(Vec::new(), Duration::ZERO, &mut TestRng(1));
        assert!(!choker.is_due(ROUND / 2));
        assert!(choker.is_due(ROUND));
    }
}
