//! What a busy tracker does about it: longer intervals first, and when those do not help, strangers are asked to come later. Pure.
//!
//! The trouble is that the effect is late, and comes in waves: clients hear of another interval only when they come, and those who heard of it
//! one after the other come back one after the other. So rates are means over an interval, in which each client comes once wherever it
//! stands in the wave; what a step has done is looked at when all have heard of it and have come again; and a step back is made
//! only if there is room to spare for what it will bring.

use std::collections::VecDeque;

use crate::interval;
use crate::limits::{INTERVAL_STRANGER, MAX_STRETCH, SWEEP};
use crate::tick::Tick;

/// Intervals become shorter again when what then comes is expected to be this share of what is wanted: less is noise.
const ROOM: f64 = 0.8;
/// Seconds over which is measured whether announces must be refused now.
const AT_ONCE: u32 = 10;
/// Counts that are kept: one each sweep, for the longest interval.
const MAX_COUNTS: usize = (INTERVAL_STRANGER * MAX_STRETCH) as usize / SWEEP.as_secs() as usize + 2;

/// What is asked of clients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pressure {
    /// See [`interval::Situation::stretch`].
    pub stretch: u32,
    /// The share of strangers' announces that is refused, 0 to 1.
    pub refused: f64,
}

impl Default for Pressure {
    /// That of a tracker with time to spare.
    fn default() -> Self {
        Pressure { stretch: 1, refused: 0.0 }
    }
}

/// Follows how much comes.
#[derive(Clone, Debug)]
pub struct Load {
    /// Announces in a second that are wanted.
    capacity: f64,
    /// How many there had been, and when; the last is the newest.
    counts: VecDeque<(Tick, u64)>,
    pressure: Pressure,
    /// When all clients have heard of the last step.
    heard: Tick,
}

impl Load {
    /// Of a tracker that has just started, and wants at most `capacity` announces a second.
    pub fn new(capacity: u32, now: Tick) -> Self {
        let capacity = f64::from(capacity.max(1));
        Load { capacity, counts: [(now, 0)].into(), pressure: Pressure::default(), heard: now }
    }

    /// What to do now that there were so many `announces` since the start, refused ones too.
    pub fn measure(&mut self, announces: u64, now: Tick) -> Pressure {
        if self.counts.len() == MAX_COUNTS {
            self.counts.pop_front();
        }
        self.counts.push_back((now, announces));
        let before = self.pressure.stretch;
        let round = INTERVAL_STRANGER * before;
        let all_came_again = now >= self.heard.plus_seconds(round);
        let settled = all_came_again.then(|| self.rate(round));
        let stretch = step(before, self.rate(INTERVAL_STRANGER), settled, self.capacity);
        if stretch != before {
            // An interval is ten per cent longer at most. Those of cold torrents are longer still, but they are few of all.
            self.heard = now.plus_seconds(round + round / 10);
        }
        self.pressure = Pressure { stretch, refused: surplus(self.rate(AT_ONCE), self.capacity) };
        self.pressure
    }

    /// What was decided last.
    pub fn pressure(&self) -> Pressure {
        self.pressure
    }

    /// Announces a second, over the last so many seconds; before the start there were none.
    fn rate(&self, seconds: u32) -> f64 {
        let Some(&(now, announces)) = self.counts.back() else { return 0.0 };
        let before = self.counts.iter().rev().find(|(at, _)| at.plus_seconds(seconds) <= now);
        let before = before.or(self.counts.front()).map_or(0, |&(_, before)| before);
        announces.saturating_sub(before) as f64 / f64::from(seconds)
    }
}

/// The next stretch after `stretch`. `recent` came over the shortest interval. `settled` came over the present one, if all have heard of
/// it.
fn step(stretch: u32, recent: f64, settled: Option<f64>, capacity: f64) -> u32 {
    // More than comes now would come if intervals had never been longer.
    let at_once = interval::stretch(recent, capacity);
    let Some(settled) = settled else { return stretch.max(at_once) };
    let unstretched = settled * f64::from(stretch);
    let wanted = interval::stretch(unstretched, capacity).max(at_once);
    let shorter = stretch - 1;
    if wanted < stretch && unstretched <= ROOM * capacity * f64::from(shorter) {
        shorter
    } else {
        stretch.max(wanted)
    }
}

/// The share of `rate` that is more than a tracker takes even when intervals are as long as they may be.
fn surplus(rate: f64, capacity: f64) -> f64 {
    let most = f64::from(MAX_STRETCH) * capacity;
    if rate > most { 1.0 - most / rate } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::interval::{Situation, interval};

    #[test]
    fn a_step_up_is_made_at_once_or_when_the_last_one_was_not_enough() {
        assert_eq!(step(1, 100.0, Some(100.0), 100.0), 1);
        assert_eq!(step(1, 250.0, None, 100.0), 3, "at once to where it must lead");
        assert_eq!(step(3, 250.0, None, 100.0), 3, "not all have heard of it");
        assert_eq!(step(3, 250.0, Some(120.0), 100.0), 4, "all have, and too many come");
        assert_eq!(step(4, 1e9, Some(1e9), 100.0), MAX_STRETCH);
    }

    #[test]
    fn a_step_down_is_made_only_with_room_to_spare() {
        assert_eq!(step(2, 41.0, Some(41.0), 100.0), 2, "82 would come");
        assert_eq!(step(2, 39.0, Some(39.0), 100.0), 1);
        assert_eq!(step(4, 0.0, Some(0.0), 100.0), 3, "one at a time");
        assert_eq!(step(4, 0.0, None, 100.0), 4, "not before all have come again");
        assert_eq!(step(1, 0.0, Some(0.0), 100.0), 1);
        assert_eq!(step(3, 250.0, Some(0.0), 100.0), 3, "a wave is no reason");
    }

    #[test]
    fn what_is_too_much_even_then_is_refused_and_no_more() {
        assert_eq!((surplus(0.0, 100.0), surplus(400.0, 100.0)), (0.0, 0.0));
        assert!((surplus(500.0, 100.0) - 0.2).abs() < 1e-9 && (surplus(800.0, 100.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn a_rate_is_of_the_time_that_is_asked_for() {
        let mut load = Load::new(100, Tick::START);
        load.measure(500, Tick::START.plus_seconds(5));
        assert_eq!(
            (load.rate(10), load.rate(300)),
            (50.0, 500.0 / 300.0),
            "before the start there were none"
        );
        for nth in 2..1_000u32 {
            load.measure(u64::from(nth) * 500, Tick::START.plus_seconds(5 * nth));
        }
        assert_eq!((load.rate(10), load.rate(300), load.rate(1_200)), (100.0, 100.0, 100.0));
        assert_eq!(load.counts.len(), MAX_COUNTS);
    }

    #[test]
    fn a_short_burst_is_refused_and_changes_nothing() {
        let mut load = Load::new(100, Tick::START);
        let pressure = load.measure(8_000, Tick::START.plus_seconds(5));
        assert_eq!((pressure.stretch, pressure.refused), (1, 0.5), "800 a second, 400 too many");
        for nth in 3..500 {
            assert_eq!(load.measure(8_000, Tick::START.plus_seconds(5 * nth)), Pressure::default(), "{nth}");
        }
    }

    /// In the middle of a simulation, clients leave.
    const MIDDLE: u32 = 4 * 3_600;

    /// How the stretch changes, as (second, stretch), when `clients` come as they are told, and from the middle on only `stay` of them.
    fn simulate(clients: u32, stay: u32, capacity: u32) -> Vec<(u32, u32)> {
        let mut rng = StdRng::seed_from_u64(clients.into());
        // In tenths of a second, the earliest first; at the start evenly over an interval.
        let mut visits: BinaryHeap<_> = (0..clients)
            .map(|client| Reverse((rng.random_range(0..INTERVAL_STRANGER * 10), client)))
            .collect();
        let (mut load, mut pressure) = (Load::new(capacity, Tick::START), Pressure::default());
        let (mut announces, mut steps) = (0, Vec::new());
        for now in (0..2 * MIDDLE).step_by(SWEEP.as_secs() as usize) {
            while visits.peek().is_some_and(|Reverse((visit, _))| *visit <= now * 10) {
                let Reverse((visit, client)) = visits.pop().expect("it was there");
                announces += 1;
                let stretch = pressure.stretch;
                let situation = Situation { node: false, seeding: false, announces: 3, cold: false, stretch };
                if now < MIDDLE || client < stay {
                    visits.push(Reverse((visit + interval(situation, &mut rng).seconds * 10, client)));
                }
            }
            let before = pressure.stretch;
            pressure = load.measure(announces, Tick::START.plus_seconds(now));
            if pressure.stretch != before {
                steps.push((now, pressure.stretch));
            }
        }
        steps
    }

    #[test]
    fn simulation_it_settles_whatever_comes_and_does_not_swing() {
        const CAPACITY: u32 = 3;
        // From half of that to six times as much would come.
        for tenths in [5, 8, 9, 10, 11, 12, 15, 16, 18, 19, 20, 21, 24, 27, 29, 30, 31, 35, 39, 40, 45, 60] {
            let clients = tenths * CAPACITY * INTERVAL_STRANGER / 10;
            let steps = simulate(clients, clients, CAPACITY);
            assert!(
                steps.iter().zip(steps.iter().skip(1)).all(|(a, b)| a.1 < b.1),
                "{tenths}: only up: {steps:?}"
            );
            assert!(steps.iter().all(|step| step.0 < 3_600), "{tenths}: and soon: {steps:?}");
            let stretch = steps.last().map_or(1, |step| step.1);
            let fits = tenths.div_ceil(10).min(MAX_STRETCH);
            assert!((fits..=fits + 1).contains(&stretch), "{tenths}: {stretch}");
        }
    }

    #[test]
    fn simulation_it_comes_down_as_far_as_there_is_room_to_spare() {
        for (tenths_that_stay, wanted) in [(0, &[2, 1][..]), (7, &[2, 1]), (9, &[2]), (15, &[2]), (20, &[])] {
            let steps = simulate(10 * INTERVAL_STRANGER, tenths_that_stay * 4 * INTERVAL_STRANGER / 10, 4);
            let (up, down): (Vec<_>, Vec<_>) = steps.into_iter().partition(|step| step.0 < MIDDLE);
            assert_eq!(up.last().map(|step| step.1), Some(3));
            assert_eq!(
                down.iter().map(|step| step.1).collect::<Vec<_>>(),
                wanted,
                "{tenths_that_stay}: {down:?}"
            );
        }
    }
}
