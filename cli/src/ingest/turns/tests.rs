use super::pace::QUIET;
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

const ID: IngestId = IngestId([7; 32]);

fn turns_of(machine: usize, parts: bool) -> Turns {
    Turns::new(ID, name(machine), parts, 1 << 20)
}

fn name(machine: usize) -> Machine {
    format!("{machine:02}")
}

impl World {
    fn new(machines: usize) -> Self {
        Self::with_pieces(machines, 1 << 20)
    }

    fn with_pieces(machines: usize, length: u64) -> Self {
        let turns = (0..machines).map(|machine| Turns::new(ID, name(machine), false, length)).collect();
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
        self.turns.push(turns_of(self.turns.len(), false));
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
                in_vain: 0,
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
    let mut turns = turns_of(1, false);
    let sight = Sight { alone: true, ..Sight::default() };
    assert_eq!(turns.decide(&sight, 1, Duration::ZERO), Some(Seat { index: 0, of: 1 }));
    let mut turns = turns_of(1, false);
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
        let mut turns = turns_of(1, parts);
        let mut sight = Sight { connected: [name(2)].into(), ..Sight::default() };
        turns.decide(&sight, 2, Duration::ZERO);
        sight.signed = vec![(name(2), 1)];
        assert_eq!(turns.decide(&sight, 2, SETTLE).map(|seat| seat.of), Some(2));
        assert_eq!(turns.decide(&sight, 2, SETTLE + QUIET.0 * 2).map(|seat| seat.of), Some(of));
        let alone = turns.decide(&sight, 1, SETTLE + QUIET.0 * 2);
        assert_eq!(alone.map(|seat| seat.of), Some(1), "it was not wanted any more");
    }
}

#[test]
fn what_was_signed_before_a_start_holds_nobody_up() {
    let mut turns = turns_of(1, false);
    let signed = vec![(name(9), 5)];
    let sight = Sight { alone: true, signed, have: 5, ..Sight::default() };
    assert!(turns.decide(&sight, 1, Duration::ZERO).is_some());
}

#[test]
fn a_stalled_origin_is_read_by_a_few_however_many_wait_and_however_many_come() {
    for wanted in [1, 3] {
        let mut world = World::new(12);
        world.now = SETTLE;
        world.stuck.extend(0..200);
        let (mut most, mut have_read) = (0, BTreeSet::new());
        for step in 0..900 {
            if step % 60 == 59 && step < 600 {
                let late = world.join();
                world.began[late] = Duration::ZERO;
            }
            let reading = world.step(wanted);
            most = most.max(reading.len());
            have_read.extend(reading.iter().map(|(machine, _)| *machine));
        }
        assert_eq!(most, wanted + MOST_MORE, "one more at a time, up to a few: {have_read:?}");
    }
}

#[test]
fn long_pieces_are_waited_for_longer_before_anything_is_known_of_the_pace() {
    for mib in [1, 16] {
        let mut world = World::with_pieces(5, mib << 20);
        world.now = SETTLE;
        world.stuck.extend(0..5);
        let second = (0..2000).find(|_| world.step(1).len() > 1).map(|step| STEP * step);
        let second = second.expect("one more tries");
        assert!(second.abs_diff(QUIET.0 * mib as u32) < STEP * 3, "pieces of {mib} MiB: {second:?}");
    }
}

#[test]
fn who_reads_what_another_has_read_a_moment_before_stops_whatever_the_order_is() {
    let world = World::new(2);
    let order = world.order();
    let (mut turns, other) = (turns_of(order[0], true), name(order[1]));
    let mut sight = Sight { connected: [other.clone()].into(), ..Sight::default() };
    assert!(turns.decide(&sight, 1, SETTLE).is_some(), "it is the first in the order");
    sight.signed = vec![(other.clone(), 1)];
    assert!(turns.decide(&sight, 1, SETTLE + STEP).is_some(), "nor does it stop because another reads");
    (sight.signed, sight.in_vain) = (vec![(other, 2)], 1);
    assert_eq!(turns.decide(&sight, 1, SETTLE + 2 * STEP), None);
    assert_eq!(turns.decide(&sight, 1, SETTLE + 3 * STEP), None, "the other gets on");
    assert!(turns.decide(&sight, 1, SETTLE + 10 * QUIET.1).is_some(), "and now it does not");
}
