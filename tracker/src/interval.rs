//! When a client shall announce again, and how long it is kept without a word. Pure.

use rand::Rng;

use crate::limits::{
    INTERVAL_COLD, INTERVAL_LEECHING, INTERVAL_SEEDING, INTERVAL_STRANGER, INTERVALS_AT_FIRST, MAX_INTERVAL,
    MAX_STRETCH, MIN_KEPT, STRANGER_KEPT,
};

/// What decides about an interval.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// Whether it is a sidecar of ours.
    pub node: bool,
    /// Whether it has everything.
    pub seeding: bool,
    /// Announces so far, this one too.
    pub announces: u8,
    /// Whether nobody has wanted this torrent for long.
    pub cold: bool,
    /// By how much intervals are longer because the tracker is busy: 1 to [`MAX_STRETCH`].
    pub stretch: u32,
}

/// Seconds until the next announce, and seconds for which the client is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Until the next announce; in ten per cent either way, so that those who came together do not come together again.
    pub seconds: u32,
    /// How long it is kept: two and a half intervals for a sidecar, at least as long as its first ones need; longer for others.
    pub kept: u32,
}

/// The interval for a client.
pub fn interval(situation: Situation, rng: &mut impl Rng) -> Interval {
    let stretch = situation.stretch.clamp(1, MAX_STRETCH);
    let seconds = (usual(situation) * stretch).min(MAX_INTERVAL);
    let least = if situation.node { MIN_KEPT } else { STRANGER_KEPT };
    let kept = least.max(seconds * 5 / 2);
    let spread = seconds / 10;
    let seconds = if spread == 0 { seconds } else { rng.random_range(seconds - spread..=seconds + spread) };
    Interval { seconds, kept }
}

fn usual(situation: Situation) -> u32 {
    if !situation.seeding {
        let first = INTERVALS_AT_FIRST.get(usize::from(situation.announces).saturating_sub(1));
        return match first {
            Some(&first) if situation.node => first,
            _ if situation.node => INTERVAL_LEECHING,
            _ => INTERVAL_STRANGER,
        };
    }
    match (situation.cold, situation.node) {
        (true, _) => INTERVAL_COLD,
        (false, true) => INTERVAL_SEEDING,
        (false, false) => INTERVAL_STRANGER,
    }
}

/// By how much intervals become longer when `rate` announces come in a second and `capacity` are wanted.
pub fn stretch(rate: f64, capacity: f64) -> u32 {
    let over = (rate / capacity.max(1.0)).ceil();
    // The comparison is false for what is no number.
    if over > 1.0 { (over as u32).min(MAX_STRETCH) } else { 1 }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const NODE: Situation = Situation { node: true, seeding: false, announces: 3, cold: false, stretch: 1 };
    const STRANGER: Situation = Situation { node: false, ..NODE };

    fn range(situation: Situation) -> (u32, u32, u32) {
        let drawn: Vec<Interval> =
            (0..500).map(|seed| interval(situation, &mut StdRng::seed_from_u64(seed))).collect();
        let seconds = drawn.iter().map(|interval| interval.seconds);
        (seconds.clone().min().unwrap(), seconds.max().unwrap(), drawn[0].kept)
    }

    #[test]
    fn intervals_are_short_at_first_for_nodes_and_long_for_strangers() {
        assert_eq!(range(Situation { announces: 1, ..NODE }), (5, 5, 75));
        assert_eq!(range(Situation { announces: 2, ..NODE }), (9, 11, 75));
        assert_eq!(range(NODE), (27, 33, 75));
        assert_eq!(range(Situation { seeding: true, ..NODE }), (108, 132, 300));
        assert_eq!(range(Situation { announces: 1, ..STRANGER }), (270, 330, 1_260));
    }

    #[test]
    fn seeds_of_what_nobody_wants_come_less_often() {
        assert_eq!(range(Situation { seeding: true, cold: true, ..NODE }), (540, 660, 1_500));
        assert_eq!(range(Situation { seeding: true, cold: true, ..STRANGER }), (540, 660, 1_500));
        assert_eq!(range(Situation { cold: true, ..NODE }), range(NODE), "who wants it warms it");
    }

    #[test]
    fn a_busy_tracker_asks_for_fewer_announces_and_waits_longer_for_them() {
        assert_eq!((stretch(10.0, 100.0), stretch(101.0, 100.0), stretch(250.0, 100.0)), (1, 2, 3));
        assert_eq!((stretch(1e9, 100.0), stretch(f64::NAN, 0.0)), (MAX_STRETCH, 1));
        assert_eq!(range(Situation { seeding: true, stretch: 2, ..NODE }), (216, 264, 600));
        assert_eq!(range(Situation { stretch: 2, ..STRANGER }), (540, 660, 1_500));
    }

    #[test]
    fn everybody_is_kept_through_two_intervals() {
        for node in [true, false] {
            for seeding in [true, false] {
                for cold in [true, false] {
                    for stretch in 1..=MAX_STRETCH {
                        let (_, longest, kept) =
                            range(Situation { node, seeding, announces: 3, cold, stretch });
                        assert!(kept >= 2 * longest && kept <= 3_825, "{longest} {kept}");
                    }
                }
            }
        }
    }
}
