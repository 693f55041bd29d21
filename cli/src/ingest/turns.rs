//! Which of the machines reads at the origin. Pure: nobody decides for the others, each comes to the same end from what it sees.
//!
//! Machines stand in an order that the ingest id and their peer ids make, the same for all of them. Who finds nobody at the trackers
//! begins at once; else those that are first in the order begin when a moment has passed in which the others could show that they
//! read. Who reads shows by its signatures. As long as enough others get on, one watches; when one that has read is gone, the next in
//! the order takes its place at once, and when nothing new has come for a while, one more at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sidecar::fetch::Seat;
use torrent::IngestId;

/// Nobody but who is alone begins sooner after the start than this: the others are being found.
const SETTLE: Duration = Duration::from_secs(1);
/// Nothing new for the time of so many pieces...
const LEFT_LYING: u32 = 3;
/// ...but not for less or more than this: then one more may read.
const QUIET: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(30));

/// A machine, by the random part of its peer id.
pub type Machine = String;

/// What is to be seen at one moment.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// Machines that are connected.
    pub connected: BTreeSet<Machine>,
    /// Of how many pieces each was the first to say what they hash to, this one among them.
    pub signed: Vec<(Machine, u32)>,
    /// Bytes that are here.
    pub have: u64,
    /// The trackers had nobody to name when they were asked first: whoever came later knows of this machine.
    pub alone: bool,
    /// This machine cannot read now.
    pub barred: bool,
}

/// Decides whether this machine reads.
#[derive(Debug)]
pub struct Turns {
    ingest: IngestId,
    me: Machine,
    parts: bool,
    readers: BTreeMap<Machine, Reader>,
    met: BTreeSet<Machine>,
    have: u64,
    /// When something new came last.
    news: Option<Duration>,
    /// Between one and the next.
    pace: Duration,
    /// Whether this is not the first look: what is known then is from before this start.
    looked: bool,
    /// Since when this machine reads, and whom it took for readers then.
    reading: Option<(Duration, BTreeSet<Machine>)>,
}

/// One that has signed something.
#[derive(Debug, Clone, Copy)]
struct Reader {
    pieces: u32,
    /// When it was seen to; `None`: before this start.
    last: Option<Duration>,
}

impl Turns {
    /// Of the machine that is called `me`.
    /// `parts`: the origin gives parts of the file.
    pub fn new(ingest: IngestId, me: Machine, parts: bool) -> Self {
        Self {
            ingest,
            me,
            parts,
            readers: BTreeMap::new(),
            met: BTreeSet::new(),
            have: 0,
            news: None,
            pace: Duration::ZERO,
            looked: false,
            reading: None,
        }
    }

    /// Which of how many readers this machine is now; `None`: it watches. `wanted`: so many should read. `now`: since the start.
    pub fn decide(&mut self, sight: &Sight, wanted: usize, now: Duration) -> Option<Seat> {
        self.look(sight, now);
        let reads = !sight.barred
            && match &self.reading {
                Some(_) => self.goes_on(sight, wanted, now),
                None => self.begins(sight, wanted, now),
            };
        match (reads, self.reading.is_some()) {
            (true, false) => self.reading = Some((now, self.expected(sight, wanted, now))),
            (false, true) => self.reading = None,
            _ => {}
        }
        reads.then(|| self.seat(sight, now))
    }

    /// How many read and show it, this machine among them.
    pub fn active(&self, sight: &Sight, now: Duration) -> usize {
        let me = self.readers.get(&self.me).and_then(|reader| reader.last);
        let reads = self.reading.is_some() && me.is_some_and(|last| now.saturating_sub(last) < self.quiet());
        self.others(sight, now).len() + usize::from(reads)
    }

    fn look(&mut self, sight: &Sight, now: Duration) {
        self.met.extend(sight.connected.iter().cloned());
        let mut is_news = sight.have > self.have;
        self.have = self.have.max(sight.have);
        for (machine, pieces) in &sight.signed {
            let before = self.readers.get(machine).map_or(0, |reader| reader.pieces);
            if before != *pieces {
                let last = self.looked.then_some(now);
                self.readers.insert(machine.clone(), Reader { pieces: *pieces, last });
                is_news = true;
            }
        }
        if is_news && self.looked {
            if let Some(gap) = self.news.map(|last| now.saturating_sub(last)) {
                self.pace = if self.pace.is_zero() { gap } else { (self.pace * 7 + gap) / 8 };
            }
            self.news = Some(now);
        }
        self.looked = true;
    }

    fn quiet(&self) -> Duration {
        (self.pace * LEFT_LYING).clamp(QUIET.0, QUIET.1)
    }

    /// The others that get on.
    fn others(&self, sight: &Sight, now: Duration) -> BTreeSet<Machine> {
        let here = |machine: &Machine| sight.connected.contains(machine) || !self.met.contains(machine);
        let gets_on =
            |reader: &Reader| reader.last.is_some_and(|last| now.saturating_sub(last) < self.quiet());
        let is_at_it = |(machine, reader): &(&Machine, &Reader)| {
            **machine != self.me && here(machine) && gets_on(reader)
        };
        self.readers.iter().filter(is_at_it).map(|(machine, _)| machine.clone()).collect()
    }

    /// Who is at it is not held up by one that is no better.
    fn goes_on(&self, sight: &Sight, wanted: usize, now: Duration) -> bool {
        let began = self.reading.as_ref().map_or(now, |(began, _)| *began);
        let last =
            self.readers.get(&self.me).and_then(|reader| reader.last).map_or(began, |last| last.max(began));
        let stands_still = now.saturating_sub(last) >= self.quiet();
        let me = self.rank(&self.me);
        let better =
            self.others(sight, now).into_iter().filter(|other| stands_still || self.rank(other) < me);
        better.count() < wanted
    }

    fn begins(&self, sight: &Sight, wanted: usize, now: Duration) -> bool {
        let others = self.others(sight, now);
        if others.len() >= wanted || now < SETTLE {
            // Those that have come since know of this machine, and wait for it.
            return others.is_empty() && sight.alone;
        }
        let since = self.news.unwrap_or(SETTLE).max(SETTLE);
        let patience = now.saturating_sub(since).div_duration_f64(self.quiet()) as usize;
        let allowed = wanted - others.len() + patience;
        let me = self.rank(&self.me);
        let before = sight.connected.iter().filter(|other| !others.contains(*other) && self.rank(other) < me);
        before.count() < allowed
    }

    /// Those that begin together with this machine, or are at it and do not show it.
    fn expected(&self, sight: &Sight, wanted: usize, now: Duration) -> BTreeSet<Machine> {
        let others = self.others(sight, now);
        let mut waiting: Vec<&Machine> =
            sight.connected.iter().chain([&self.me]).filter(|machine| !others.contains(*machine)).collect();
        waiting.sort_by_key(|machine| self.rank(machine));
        let free = wanted.saturating_sub(others.len());
        if sight.alone && now < SETTLE {
            waiting.retain(|machine| **machine != self.me);
            return waiting.into_iter().take(free.saturating_sub(1)).chain([&self.me]).cloned().collect();
        }
        let until =
            waiting.iter().position(|machine| **machine == self.me).unwrap_or(0).max(free.saturating_sub(1));
        let mut expected: BTreeSet<Machine> = waiting.into_iter().take(until + 1).cloned().collect();
        if others.is_empty() {
            let slow = self.readers.keys().filter(|machine| sight.connected.contains(*machine));
            expected.extend(slow.cloned());
        }
        expected
    }

    fn seat(&self, sight: &Sight, now: Duration) -> Seat {
        let mut readers = self.others(sight, now);
        if let Some((began, expected)) = &self.reading
            && now.saturating_sub(*began) < self.quiet()
        {
            readers.extend(expected.iter().filter(|machine| sight.connected.contains(*machine)).cloned());
        }
        if self.parts {
            // One that is slow to show itself keeps its stripes until they lie there too long: that is seen stripe by stripe.
            readers.extend(self.readers.keys().filter(|machine| sight.connected.contains(*machine)).cloned());
        }
        let me = self.rank(&self.me);
        let before = readers.iter().filter(|other| **other != self.me && self.rank(other) < me).count();
        let others = readers.iter().filter(|other| **other != self.me).count();
        Seat { index: before as u32, of: others as u32 + 1 }
    }

    fn rank(&self, machine: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.ingest.0).chain_update(machine).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    /// Machines that all see each other, and a piece for each step of one that reads.
    struct World {
        now: Duration,
        turns: Vec<Turns>,
        signed: Vec<u32>,
        /// Gone for good.
        dead: BTreeSet<usize>,
        /// Is there and brings nothing.
        stuck: BTreeSet<usize>,
        began: Vec<Duration>,
    }

    fn name(machine: usize) -> Machine {
        format!("{machine:02}")
    }

    impl World {
        fn new(machines: usize) -> Self {
            let turns =
                (0..machines).map(|machine| Turns::new(IngestId([7; 32]), name(machine), false)).collect();
            Self {
                now: Duration::ZERO,
                turns,
                signed: vec![0; machines],
                dead: BTreeSet::new(),
                stuck: BTreeSet::new(),
                began: vec![Duration::ZERO; machines],
            }
        }

        /// The machines in their order.
        fn order(&self) -> Vec<usize> {
            let mut order: Vec<usize> = (0..self.turns.len()).collect();
            order.sort_by_key(|machine| self.turns[0].rank(&name(*machine)));
            order
        }

        fn join(&mut self) -> usize {
            self.turns.push(Turns::new(IngestId([7; 32]), name(self.turns.len()), false));
            self.signed.push(0);
            self.began.push(self.now);
            self.turns.len() - 1
        }

        /// One step; who reads in it, with their seats.
        fn step(&mut self, wanted: usize) -> Vec<(usize, Seat)> {
            let signed: Vec<(Machine, u32)> = self
                .signed
                .iter()
                .enumerate()
                .map(|(machine, count)| (name(machine), *count))
                .filter(|(_, count)| *count > 0)
                .collect();
            let mut reading = Vec::new();
            for machine in 0..self.turns.len() {
                if self.dead.contains(&machine) {
                    continue;
                }
                let others =
                    (0..self.turns.len()).filter(|other| *other != machine && !self.dead.contains(other));
                let sight = Sight {
                    connected: others.map(name).collect(),
                    signed: signed.clone(),
                    have: signed.iter().map(|(_, count)| u64::from(*count)).sum(),
                    alone: false,
                    barred: false,
                };
                let now = self.now.saturating_sub(self.began[machine]);
                if let Some(seat) = self.turns[machine].decide(&sight, wanted, now) {
                    reading.push((machine, seat));
                }
            }
            for (machine, _) in &reading {
                self.signed[*machine] += u32::from(!self.stuck.contains(machine));
            }
            self.now += STEP;
            reading
        }

        /// The same readers in each of some steps.
        fn steadily(&mut self, wanted: usize, time: Duration) -> Vec<usize> {
            let first: Vec<usize> = self.step(wanted).into_iter().map(|(machine, _)| machine).collect();
            for _ in 0..time.div_duration_f64(STEP) as usize {
                let now: Vec<usize> = self.step(wanted).into_iter().map(|(machine, _)| machine).collect();
                assert_eq!(now, first, "at {:?}", self.now);
            }
            first
        }
    }

    #[test]
    fn the_first_in_the_order_reads_and_a_newcomer_leaves_it_to_it() {
        let mut world = World::new(5);
        while world.now < SETTLE {
            assert_eq!(world.step(1), []);
        }
        let first = world.order()[0];
        assert_eq!(world.steadily(1, Duration::from_secs(20)), [first]);
        for _ in 0..20 {
            world.join();
        }
        assert_eq!(world.steadily(1, Duration::from_secs(20)), [first]);
    }

    #[test]
    fn who_finds_nobody_begins_at_once() {
        let mut turns = Turns::new(IngestId([7; 32]), name(1), false);
        let sight = Sight { alone: true, ..Sight::default() };
        assert_eq!(turns.decide(&sight, 1, Duration::ZERO), Some(Seat { index: 0, of: 1 }));
        let mut turns = Turns::new(IngestId([7; 32]), name(1), false);
        let come_since = Sight { connected: (2..50).map(name).collect(), ..sight.clone() };
        let first = Some(Seat { index: 0, of: 1 });
        assert_eq!(turns.decide(&come_since, 1, STEP), first, "whatever the order is");
        let barred = Sight { barred: true, ..sight };
        assert_eq!(turns.decide(&barred, 1, STEP), None);
    }

    #[test]
    fn the_next_one_reads_at_once_when_the_reader_is_gone() {
        let mut world = World::new(5);
        world.now = SETTLE;
        let order = world.order();
        assert_eq!(world.steadily(1, Duration::from_secs(5)), [order[0]]);
        world.dead.insert(order[0]);
        assert_eq!(world.steadily(1, Duration::from_secs(5)), [order[1]]);
    }

    #[test]
    fn one_that_is_there_and_brings_nothing_is_relieved_and_the_relief_reads_alone() {
        let mut world = World::new(5);
        world.now = SETTLE;
        let order = world.order();
        world.steadily(1, Duration::from_secs(5));
        world.stuck.insert(order[0]);
        for _ in 0..100 {
            world.step(1);
        }
        assert_eq!(world.step(1), [(order[1], Seat { index: 0, of: 1 })]);
    }

    #[test]
    fn several_have_seats_that_fit_together_from_the_start() {
        let mut world = World::new(6);
        world.now = SETTLE;
        let order = world.order();
        for _ in 0..100 {
            let mut reading = world.step(3);
            reading.sort_by_key(|(_, seat)| seat.index);
            let seats = (0..3).map(|index| (order[index as usize], Seat { index, of: 3 }));
            assert_eq!(reading, seats.collect::<Vec<_>>());
        }
        assert_eq!(world.steadily(1, Duration::from_secs(5)), [order[0]], "fewer are wanted");
    }

    #[test]
    fn of_two_that_began_apart_one_stops() {
        let mut world = World::new(2);
        world.now = SETTLE;
        let order = world.order();
        // Each was alone at first.
        for machine in [0, 1] {
            let sight = Sight { alone: true, ..Sight::default() };
            assert!(world.turns[machine].decide(&sight, 1, Duration::ZERO).is_some());
        }
        assert_eq!(world.step(1).len(), 2);
        assert_eq!(world.steadily(1, Duration::from_secs(5)), [order[0]]);
    }

    #[test]
    fn one_that_goes_quiet_keeps_its_seat_where_parts_can_be_had() {
        for (parts, of) in [(true, 2), (false, 1)] {
            let mut turns = Turns::new(IngestId([7; 32]), name(1), parts);
            let mut sight = Sight { connected: [name(2)].into(), ..Sight::default() };
            turns.decide(&sight, 2, Duration::ZERO);
            sight.signed = vec![(name(2), 1)];
            assert_eq!(turns.decide(&sight, 2, SETTLE).map(|seat| seat.of), Some(2));
            assert_eq!(turns.decide(&sight, 2, SETTLE + QUIET.0 * 2).map(|seat| seat.of), Some(of));
        }
    }

    #[test]
    fn what_was_signed_before_a_start_holds_nobody_up() {
        let mut turns = Turns::new(IngestId([7; 32]), name(1), false);
        let signed = vec![(name(9), 5)];
        let sight = Sight { alone: true, signed, have: 5, ..Sight::default() };
        assert!(turns.decide(&sight, 1, Duration::ZERO).is_some());
    }
}
