//! Which of the machines reads at the origin. Pure: nobody decides for the others, each comes to the same end from what it sees.
//!
//! Machines stand in an order that the ingest id and their peer ids make, the same for all of them. Who finds nobody at the trackers
//! begins at once; else those that are first in the order begin when a moment has passed in which the others could show that they
//! read. Who reads shows by its signatures. As long as enough others get on, one watches; when one that has read is gone, the next in
//! the order takes its place at once, and when nothing new has come for a while, one more at a time, up to a few.

mod pace;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sidecar::fetch::Seat;
use torrent::IngestId;

use pace::Pace;

/// Nobody but who is alone begins sooner after the start than this: the others are being found.
const SETTLE: Duration = Duration::from_secs(1);

/// When nothing new comes, so many more than are wanted read at most: an origin that has stalled is not asked by all at once.
const MOST_MORE: usize = 3;

/// A machine, by the random part of its peer id.
pub type Machine = String;

/// What is to be seen at one moment.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// Machines that are connected.
    pub connected: BTreeSet<Machine>,
    /// Of how many pieces each has said what they hash to, this one among them.
    pub signed: Vec<(Machine, u32)>,
    /// Bytes that are here.
    pub have: u64,
    /// The trackers had nobody to name when they were asked first: whoever came later knows of this machine.
    pub alone: bool,
    /// Pieces that this machine has read and another had read by then.
    pub in_vain: u64,
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
    pace: Pace,
    /// Whether this is not the first look: what is known then is from before this start.
    looked: bool,
    /// See [`Sight::in_vain`].
    in_vain: u64,
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
    /// `parts`: the origin gives parts of the file, which has pieces of so many bytes.
    pub fn new(ingest: IngestId, me: Machine, parts: bool, piece_length: u64) -> Self {
        Self {
            ingest,
            me,
            parts,
            readers: BTreeMap::new(),
            met: BTreeSet::new(),
            have: 0,
            pace: Pace::new(piece_length),
            looked: false,
            in_vain: 0,
            reading: None,
        }
    }

    /// Which of how many readers this machine is now; `None`: it watches. `wanted`: so many should read. `now`: since the start.
    pub fn decide(&mut self, sight: &Sight, wanted: usize, now: Duration) -> Option<Seat> {
        self.look(sight, now);
        let in_vain = sight.in_vain > std::mem::replace(&mut self.in_vain, sight.in_vain);
        let reads = !sight.barred
            && match &self.reading {
                Some(_) => self.goes_on(sight, wanted, in_vain, now),
                None => self.begins(sight, wanted, now),
            };
        match (reads, self.reading.is_some()) {
            (true, false) => self.reading = Some((now, self.expected(sight, wanted, now))),
            (false, true) => self.reading = None,
            _ => {}
        }
        reads.then(|| self.seat(sight, wanted, now))
    }

    /// How many read and show it, this machine among them.
    pub fn active(&self, sight: &Sight, now: Duration) -> usize {
        let me = self.readers.get(&self.me).and_then(|reader| reader.last);
        let reads =
            self.reading.is_some() && me.is_some_and(|last| now.saturating_sub(last) < self.pace.quiet());
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
            self.pace.news(now);
        }
        self.looked = true;
    }

    /// The others that get on.
    fn others(&self, sight: &Sight, now: Duration) -> BTreeSet<Machine> {
        let here = |machine: &Machine| sight.connected.contains(machine) || !self.met.contains(machine);
        let gets_on =
            |reader: &Reader| reader.last.is_some_and(|last| now.saturating_sub(last) < self.pace.quiet());
        let is_at_it = |(machine, reader): &(&Machine, &Reader)| {
            **machine != self.me && here(machine) && gets_on(reader)
        };
        self.readers.iter().filter(is_at_it).map(|(machine, _)| machine.clone()).collect()
    }

    /// Who is at it is not held up by one that is no better.
    fn goes_on(&self, sight: &Sight, wanted: usize, in_vain: bool, now: Duration) -> bool {
        let began = self.reading.as_ref().map_or(now, |(began, _)| *began);
        let shown = self.readers.get(&self.me).and_then(|reader| reader.last);
        let is_recent = |at: Duration| now.saturating_sub(at) < self.pace.quiet();
        let stands_still = !is_recent(shown.map_or(began, |last| last.max(began)));
        let others = self.others(sight, now);
        // Others are always a moment ahead of it, and do not see it: it has nothing to show.
        if in_vain && others.len() >= wanted && !shown.is_some_and(is_recent) {
            return false;
        }
        // Those before it that have come since begin too when nothing new comes; all of them together would be too many.
        let may_go = stands_still || (!sight.alone && !shown.is_some_and(is_recent));
        if may_go && self.before(sight, &others) >= wanted + MOST_MORE {
            return false;
        }
        let me = self.rank(&self.me);
        let better = others.iter().filter(|other| stands_still || self.rank(other) < me);
        better.count() < wanted
    }

    fn begins(&self, sight: &Sight, wanted: usize, now: Duration) -> bool {
        let others = self.others(sight, now);
        if others.len() >= wanted || now < SETTLE {
            // Those that have come since know of this machine, and wait for it.
            return others.is_empty() && sight.alone;
        }
        let since = self.pace.last_news().unwrap_or(SETTLE).max(SETTLE);
        let patience = now.saturating_sub(since).div_duration_f64(self.pace.quiet()) as usize;
        let allowed = wanted - others.len() + patience.min(MOST_MORE);
        self.before(sight, &others) < allowed
    }

    /// How many that do not get on stand before this machine in the order.
    fn before(&self, sight: &Sight, others: &BTreeSet<Machine>) -> usize {
        let me = self.rank(&self.me);
        let waits = |other: &&Machine| !others.contains(*other) && self.rank(other) < me;
        sight.connected.iter().filter(waits).count()
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

    fn seat(&self, sight: &Sight, wanted: usize, now: Duration) -> Seat {
        let mut readers = self.others(sight, now);
        let are_enough = readers.len() + 1 >= wanted;
        if let Some((began, expected)) = &self.reading
            && now.saturating_sub(*began) < self.pace.quiet()
        {
            readers.extend(expected.iter().filter(|machine| sight.connected.contains(*machine)).cloned());
        }
        if self.parts && !are_enough {
            // One that is slow to show itself keeps its stripes until they lie there too long: that is seen stripe by stripe. One that was
            // not wanted any more has left them, and the file is read from the front: its digest goes by the first gap.
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
