//! When the node's report may be written. Pure: `now` is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use crds::{NodeDistributionStatus, NodeEntry, NodePhase};

/// Changes that are not urgent wait this long for others.
const COALESCE: Duration = Duration::from_secs(5);
/// Urgent changes wait this long for others.
const URGENT: Duration = Duration::from_millis(500);
/// In the long run there is one write in so much time.
const REFILL: Duration = Duration::from_secs(30);
/// Writes that may come at once after quiet.
const BURST: u32 = 3;
/// The same end of the same revision is urgent once in so much time: something that flaps is not.
const REPEAT: Duration = Duration::from_mins(1);

/// How much a change matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Not at all: counters, wording.
    None,
    /// A phase on the way.
    Ordinary,
    /// The end of something: ready, failed, gone; or a condition.
    Terminal,
}

/// A token bucket with a short queue of one.
#[derive(Debug)]
pub struct Gate {
    tokens: u32,
    /// Since when the next token grows.
    growing: Duration,
    /// When a write is due, but for tokens.
    pending: Option<(Change, Duration)>,
    last_write: Option<Duration>,
    ends: BTreeMap<(String, NodePhase, Option<String>), Duration>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            tokens: BURST,
            growing: Duration::ZERO,
            pending: None,
            last_write: None,
            ends: BTreeMap::new(),
        }
    }
}

impl Gate {
    /// Compares what was written with what is true now. `jitter` (up to 1 s) spreads the writes of many nodes.
    pub fn offer(
        &mut self,
        now: Duration,
        written: &NodeDistributionStatus,
        actual: &NodeDistributionStatus,
        jitter: Duration,
    ) {
        let change = self.classify(now, written, actual);
        if change == Change::None {
            self.pending = None;
            return;
        }
        let quiet = self.last_write.is_none_or(|last| now.saturating_sub(last) >= COALESCE);
        let wait = match change {
            Change::Terminal => URGENT,
            _ if quiet && self.pending.is_none() => Duration::ZERO,
            _ => COALESCE + jitter,
        };
        let due = now + wait;
        self.pending = Some(match self.pending {
            Some((before, at)) => (before.max(change), at.min(due)),
            None => (change, due),
        });
    }

    /// When to write, if there is anything to write.
    pub fn due(&mut self, now: Duration) -> Option<Duration> {
        self.refill(now);
        let (change, at) = self.pending?;
        if change == Change::Terminal || self.tokens > 0 {
            Some(at)
        } else {
            Some(at.max(self.growing + REFILL))
        }
    }

    /// It was written.
    pub fn written(&mut self, now: Duration, status: &NodeDistributionStatus) {
        self.refill(now);
        self.tokens = self.tokens.saturating_sub(1);
        self.pending = None;
        self.last_write = Some(now);
        self.ends.retain(|_, at| now.saturating_sub(*at) < REPEAT);
        for entry in status.revisions.iter().filter(|entry| is_end(entry)) {
            self.ends.entry(key(entry)).or_insert(now);
        }
    }

    fn refill(&mut self, now: Duration) {
        if self.tokens >= BURST {
            self.growing = now;
        }
        while self.tokens < BURST && now.saturating_sub(self.growing) >= REFILL {
            self.tokens += 1;
            self.growing += REFILL;
        }
    }

    fn classify(
        &self,
        now: Duration,
        written: &NodeDistributionStatus,
        actual: &NodeDistributionStatus,
    ) -> Change {
        let conditions = |status: &NodeDistributionStatus| {
            status
                .conditions
                .iter()
                .map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone()))
                .collect::<Vec<_>>()
        };
        let mut change = Change::None;
        if conditions(written) != conditions(actual) {
            change = Change::Terminal;
        }
        for entry in &actual.revisions {
            let before = written.revisions.iter().find(|before| before.revision == entry.revision);
            let same =
                before.is_some_and(|before| before.phase == entry.phase && before.reason == entry.reason);
            if same {
                continue;
            }
            let fresh = self.ends.get(&key(entry)).is_none_or(|at| now.saturating_sub(*at) >= REPEAT);
            change = change.max(if is_end(entry) && fresh { Change::Terminal } else { Change::Ordinary });
        }
        let gone =
            written.revisions.iter().any(|b| !actual.revisions.iter().any(|a| a.revision == b.revision));
        if gone { Change::Terminal } else { change }
    }
}

fn key(entry: &NodeEntry) -> (String, NodePhase, Option<String>) {
    (entry.revision.clone(), entry.phase, entry.reason.clone())
}

fn is_end(entry: &NodeEntry) -> bool {
    matches!(entry.phase, NodePhase::Ready | NodePhase::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn status(entries: &[(&str, NodePhase)]) -> NodeDistributionStatus {
        let revisions = entries
            .iter()
            .map(|(name, phase)| NodeEntry {
                revision: (*name).into(),
                phase: *phase,
                reason: None,
                message: None,
                origin_bytes: 0,
                peer_bytes: 0,
                since: Time("2026-01-01T00:00:00Z".parse().expect("a timestamp")),
            })
            .collect();
        NodeDistributionStatus { revisions, conditions: Vec::new() }
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Offers and, if due, writes.
    fn step(
        gate: &mut Gate,
        now: Duration,
        written: &mut NodeDistributionStatus,
        actual: &NodeDistributionStatus,
    ) -> bool {
        gate.offer(now, written, actual, Duration::ZERO);
        let write = gate.due(now).is_some_and(|at| at <= now);
        if write {
            gate.written(now, actual);
            written.clone_from(actual);
        }
        write
    }

    #[test]
    fn nothing_changed_nothing_written() {
        let mut gate = Gate::default();
        let mut written = status(&[("a", NodePhase::Ready)]);
        let mut louder = written.clone();
        louder.revisions[0].peer_bytes = 7;
        louder.revisions[0].message = Some("other words".into());
        for second in 0..3600 {
            assert!(!step(&mut gate, s(second), &mut written, &louder));
        }
    }

    #[test]
    fn the_first_change_goes_at_once_the_next_is_coalesced() {
        let mut gate = Gate::default();
        let mut written = status(&[]);
        assert!(step(&mut gate, s(100), &mut written, &status(&[("a", NodePhase::Pending)])));
        let next = status(&[("a", NodePhase::Downloading)]);
        assert!(!step(&mut gate, s(101), &mut written, &next));
        assert_eq!(gate.due(s(101)), Some(s(106)));
        assert!(step(&mut gate, s(106), &mut written, &next));
    }

    #[test]
    fn ends_go_at_once_even_without_tokens_but_not_when_they_flap() {
        let mut gate = Gate::default();
        let mut written = status(&[]);
        let (ready, failed) = (status(&[("a", NodePhase::Ready)]), status(&[("a", NodePhase::Failed)]));
        let mut writes = 0;
        for half in 0..1200_u64 {
            let actual = if half / 4 % 2 == 0 { &ready } else { &failed };
            writes += u32::from(step(&mut gate, Duration::from_millis(half * 500), &mut written, actual));
        }
        assert!(writes <= 10 * 2 + 20 + BURST, "{writes} writes in 10 minutes of flapping");
        gate.pending = None;
        let now = s(700);
        gate.tokens = 0;
        gate.growing = now;
        assert!(!step(&mut gate, now, &mut written, &status(&[("b", NodePhase::Ready)])));
        assert!(step(&mut gate, now + URGENT, &mut written, &status(&[("b", NodePhase::Ready)])));
    }

    #[test]
    fn in_the_long_run_one_write_in_30_seconds() {
        let mut gate = Gate::default();
        let mut written = status(&[]);
        let mut writes = 0;
        for second in 0..600 {
            let phase = if second % 2 == 0 { NodePhase::Pending } else { NodePhase::Downloading };
            writes += u32::from(step(&mut gate, s(second), &mut written, &status(&[("a", phase)])));
        }
        assert!(writes <= 600 / 30 + BURST, "{writes}");
        assert!(writes >= 600 / 30 - 1, "{writes}");
    }
}
