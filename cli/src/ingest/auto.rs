//! How many machines an origin is worth: as in a cluster, and found by each machine for itself. Pure.
//!
//! All of them see the same: how many sign hashes, and how fast hashes come. When one more reads, the rate is held against what it was
//! without it: a tenth more, and the next one is tried; else one goes, and there is peace for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use operator::grants::{REST, WORTH_IT, WORTH_SEVERAL};

use super::args::{Fetchers, MOST};

/// A rate is taken over at least so long, and so many pieces...
const WINDOW: (Duration, u32) = (Duration::from_secs(3), 16);
/// ...or half of that when it ends because others read now.
const CUT_SHORT: u32 = 2;

/// Says how many should read.
#[derive(Debug)]
pub struct Auto {
    most: usize,
    wanted: usize,
    /// Pieces per second when so many read, as it was last.
    rates: BTreeMap<usize, f64>,
    window: Option<Window>,
    /// None is tried before this.
    rest_until: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    readers: usize,
    from: Duration,
    known: u32,
}

impl Auto {
    /// For so many bytes, of which parts can be had.
    pub fn new(fetchers: Fetchers, size: u64) -> Self {
        let (wanted, most) = match fetchers {
            Fetchers::Exactly(count) => (count, count),
            Fetchers::Auto if size < WORTH_SEVERAL => (1, 1),
            Fetchers::Auto => (1, MOST),
        };
        Self { most, wanted, rates: BTreeMap::new(), window: None, rest_until: None }
    }

    /// So many should read. `readers` do, and the hashes of `known` pieces have come until `now`.
    pub fn look(&mut self, readers: usize, known: u32, now: Duration) -> usize {
        if self.wanted == self.most && self.rates.is_empty() {
            return self.wanted;
        }
        if self.window.is_some_and(|window| window.readers != readers) {
            self.measure(known, now, CUT_SHORT);
            self.window = None;
        }
        if readers > 0 && self.window.is_none() {
            self.window = Some(Window { readers, from: now, known });
        }
        let rests = self.rest_until.is_some_and(|until| now < until);
        if !rests {
            // Another machine tries one more: there is something to be learned.
            self.wanted = self.wanted.max(readers).min(self.most);
        }
        if self.measure(known, now, 1) {
            self.window = None;
            self.decide(readers, rests, now);
        }
        self.wanted
    }

    /// Takes note of the rate if the window is long enough.
    fn measure(&mut self, known: u32, now: Duration, part: u32) -> bool {
        let Some(window) = self.window else { return false };
        let (passed, pieces) = (now.saturating_sub(window.from), known.saturating_sub(window.known));
        let enough = passed >= WINDOW.0 / part && pieces >= WINDOW.1 / part;
        if enough {
            self.rates.insert(window.readers, f64::from(pieces) / passed.as_secs_f64());
        }
        enough
    }

    fn decide(&mut self, readers: usize, rests: bool, now: Duration) {
        let Some(rate) = self.rates.get(&readers) else { return };
        let without = self.rates.get(&(readers - 1));
        if without.is_some_and(|without| *rate < without * WORTH_IT) {
            if !rests {
                self.wanted = readers - 1;
                self.rest_until = Some(now + REST.unsigned_abs());
                // By then the origin may be another.
                self.rates.clear();
            }
        } else if !rests && self.wanted == readers {
            self.wanted = (readers + 1).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(100);

    /// How many are wanted after each second, of an origin that gives so many pieces a second to each and so many to all.
    fn try_out(auto: &mut Auto, machines: usize, (each, all): (f64, f64), seconds: u64) -> Vec<usize> {
        let (mut known, mut readers, mut wanted) = (0.0, 1, Vec::new());
        for step in 0..seconds * 10 {
            known += (each * readers as f64).min(all) / 10.0;
            readers = auto.look(readers, known as u32, STEP * step as u32).min(machines);
            if step % 10 == 9 {
                wanted.push(readers);
            }
        }
        wanted
    }

    #[test]
    fn it_grows_as_long_as_one_more_brings_more() {
        let mut auto = Auto::new(Fetchers::Auto, 1 << 30);
        let wanted = try_out(&mut auto, 100, (8.0, 48.0), 60);
        assert!(wanted.windows(2).all(|pair| pair[0] <= pair[1] || pair == [7, 6]), "{wanted:?}");
        assert_eq!(wanted.last(), Some(&6), "the seventh brought nothing: {wanted:?}");
        assert!(wanted[20] >= 6, "{wanted:?}");
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let last = |auto: &mut Auto, machines, origin| *try_out(auto, machines, origin, 90).last().unwrap();
        assert_eq!(last(&mut Auto::new(Fetchers::Auto, 1 << 30), 100, (20.0, 1e9)), MOST);
        assert_eq!(last(&mut Auto::new(Fetchers::Auto, 1 << 30), 3, (20.0, 1e9)), 3);
        assert_eq!(
            last(&mut Auto::new(Fetchers::Auto, 1 << 30), 100, (20.0, 20.0)),
            1,
            "one gets everything"
        );
        assert_eq!(last(&mut Auto::new(Fetchers::Auto, 100 << 20), 100, (20.0, 1e9)), 1, "it is there soon");
        assert_eq!(last(&mut Auto::new(Fetchers::Exactly(3), 1 << 30), 100, (20.0, 20.0)), 3);
    }

    #[test]
    fn who_sees_more_read_than_it_would_have_follows() {
        let mut auto = Auto::new(Fetchers::Auto, 1 << 30);
        assert_eq!(auto.look(4, 100, Duration::ZERO), 4);
    }
}
