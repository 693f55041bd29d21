//! How a swarm goes, as a reader follows it line by line. Pure.

use std::collections::VecDeque;

use tracker_api::SwarmChange;

use crate::tick::Tick;

/// Rates are over so many seconds: peers tell how far they are every half minute, and two of those make a mean.
const WINDOW: u32 = 60;
/// Ticks by which the word of a sibling may be late.
const LATE: u32 = 3;
/// Every so many seconds all peers are sent, so that a reader knows who has silently gone.
const ALL: u32 = 60;

/// What was sent last.
#[derive(Debug, Default)]
pub struct Watch {
    last: Option<SwarmChange>,
    /// When all was sent last, and when anything was looked at.
    all: Tick,
    looked: Tick,
    /// Bytes fetched, by time.
    fetched: VecDeque<(Tick, u64)>,
}

impl Watch {
    /// From when on peers that have announced are wanted for the next line. [`Tick`] 0 means all.
    pub fn since(&self, now: Tick) -> Tick {
        if self.last.is_none() || now.seconds_since(self.all) >= ALL { Tick(0) } else { self.looked }
    }

    /// The next line; none if nothing has changed.
    pub fn next(&mut self, mut change: SwarmChange, now: Tick) -> Option<SwarmChange> {
        change.bytes_per_second = self.rate(change.fetched_bytes, now);
        // What siblings tell comes a little after it was said; so some come twice.
        self.looked = Tick(now.0.saturating_sub(LATE));
        if change.all {
            self.all = now;
        }
        let counts = SwarmChange { all: false, peers: Vec::new(), ..change.clone() };
        let changed = change.all || !change.peers.is_empty() || self.last.as_ref() != Some(&counts);
        self.last = Some(counts);
        changed.then_some(change)
    }

    fn rate(&mut self, fetched: u64, now: Tick) -> u64 {
        while self.fetched.front().is_some_and(|(then, _)| now.seconds_since(*then) > WINDOW) {
            self.fetched.pop_front();
        }
        self.fetched.push_back((now, fetched));
        let Some(&(then, before)) = self.fetched.front() else { return 0 };
        fetched.saturating_sub(before) / u64::from(now.seconds_since(then)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use tracker_api::PeerReport;

    use super::*;

    fn change(all: bool, leechers: u32, fetched_bytes: u64, peers: usize) -> SwarmChange {
        let peer = PeerReport { node: None, address: "10.0.0.1:1".to_owned(), left: 1, age_seconds: 0 };
        SwarmChange {
            all,
            seeders: 0,
            leechers,
            downloaded: 0,
            left_bytes: 0,
            fetched_bytes,
            bytes_per_second: 0,
            peers: vec![peer; peers],
        }
    }

    fn at(seconds: u32) -> Tick {
        Tick::START.plus_seconds(seconds)
    }

    #[test]
    fn all_comes_first_and_each_minute_and_changes_between() {
        let mut watch = Watch::default();
        assert_eq!(watch.since(at(0)), Tick(0));
        assert!(watch.next(change(true, 1, 0, 1), at(0)).is_some());
        assert_eq!(watch.since(at(1)), Tick(at(0).0 - LATE));
        assert_eq!(watch.next(change(false, 1, 0, 0), at(1)), None, "nothing has changed");
        assert!(watch.next(change(false, 2, 0, 0), at(2)).is_some(), "a count has");
        assert!(watch.next(change(false, 2, 0, 1), at(3)).is_some(), "somebody has announced");
        assert_eq!((watch.since(at(59)), watch.since(at(60))), (Tick(at(3).0 - LATE), Tick(0)));
    }

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        let mut watch = Watch::default();
        let mut rate = |seconds, fetched| {
            let line = watch.next(change(true, 1, fetched, 0), at(seconds));
            line.map(|line| line.bytes_per_second).unwrap()
        };
        assert_eq!(rate(0, 1_000), 0);
        assert_eq!(rate(10, 2_000), 100);
        assert_eq!(rate(60, 7_000), 100);
        assert_eq!(rate(200, 7_000), 0, "nothing for more than a minute");
        assert_eq!(rate(201, 0), 0, "it has begun anew");
    }
}
