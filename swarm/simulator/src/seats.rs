//! Who reads the origin: the operator's own election says so, with its grants, heirs and those that are passed over.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use operator::grants::{Candidate, Election};
use operator_api::Progress;

use crate::queue::NodeId;

/// A fetcher shows itself so often, as a sidecar does.
const SHOWS_ITSELF: Duration = Duration::from_secs(5);

/// The seats at an origin.
#[derive(Debug)]
pub struct Seats {
    election: Election,
    /// Chance is in the name: the order of the nodes follows from it.
    revision: String,
    wanted: usize,
    /// Who has them, seat by seat; one whose node has died is not free before its grant has lapsed.
    held: Vec<NodeId>,
    grants: u64,
    /// Since when nobody that lives has one.
    unattended_since: Option<Duration>,
    unattended: Duration,
}

impl Seats {
    /// So many, all free.
    pub fn new(wanted: usize, seed: u64) -> Self {
        Self {
            election: Election::default(),
            revision: format!("simulated-{seed}"),
            wanted,
            held: Vec::new(),
            grants: 0,
            unattended_since: Some(Duration::ZERO),
            unattended: Duration::ZERO,
        }
    }

    /// Who has them, seat by seat.
    pub fn held(&self) -> &[NodeId] {
        &self.held
    }

    /// Which of the seats a node has.
    pub fn of(&self, node: NodeId) -> Option<usize> {
        self.held.iter().position(|holder| *holder == node)
    }

    /// Gives them as the operator does that sees these nodes, each of which is alive or not; answers who has got one, and who has lost one.
    pub fn decide(
        &mut self,
        nodes: impl Iterator<Item = (NodeId, bool)>,
        now: Duration,
    ) -> (Vec<NodeId>, Vec<NodeId>) {
        let candidate = |(node, alive)| Candidate { node: name(node), electable: alive };
        let candidates: Vec<Candidate> = nodes.map(candidate).collect();
        let written = self.election.fetchers();
        let decision = self.election.decide(&self.revision, &written, self.wanted, &candidates, at(now));
        self.election.elect(&decision.fetchers, at(now));
        let before = std::mem::take(&mut self.held);
        self.held = decision.fetchers.iter().filter_map(|name| number(name)).collect();
        let not_in = |others: &[NodeId], all: &[NodeId]| {
            all.iter().filter(|node| !others.contains(node)).copied().collect::<Vec<_>>()
        };
        (not_in(&before, &self.held), not_in(&self.held, &before))
    }

    /// A node that has a seat begins: it asks for its grant, and says why if it gets none.
    pub fn begin(&mut self, node: NodeId, now: Duration) -> Result<(), operator::grants::Refusal> {
        self.grants += 1;
        self.election.open(&name(node), self.grants.to_string(), Some(0), at(now)).map(|_| ())
    }

    /// A fetcher that lives shows itself when it is time to; so many bytes are on its disk.
    pub fn show(&mut self, node: NodeId, bytes: u64, now: Duration) {
        let name = name(node);
        let Some(grant) = self.election.grant(&name).map(|grant| grant.id.clone()) else { return };
        if now.as_secs().is_multiple_of(SHOWS_ITSELF.as_secs()) {
            let said = Progress { grant, bytes, origin_bytes: 0, worked: bytes };
            // Whoever has lost its seat hears of it when the next decision is made.
            self.election.progress(&name, &said, at(now)).ok();
        }
    }

    /// Takes note of whether anybody who lives has a seat.
    pub fn attend(&mut self, attended: bool, now: Duration) {
        match (attended, self.unattended_since) {
            (true, Some(since)) => {
                self.unattended += now.saturating_sub(since);
                self.unattended_since = None;
            }
            (false, None) => self.unattended_since = Some(now),
            _ => {}
        }
    }

    /// For how long nobody that lived had a seat, until now.
    pub fn unattended(&self, now: Duration) -> Duration {
        let open = self.unattended_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        self.unattended + open
    }
}

fn name(node: NodeId) -> String {
    node.to_string()
}

fn number(name: &str) -> Option<NodeId> {
    name.parse().ok()
}

fn at(now: Duration) -> Timestamp {
    let since = SignedDuration::try_from(now).unwrap_or(SignedDuration::MAX);
    Timestamp::UNIX_EPOCH.saturating_add(since).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// All live but those that are named; second by second, who has the seats after each.
    fn play(seats: &mut Seats, seconds: std::ops::Range<u32>, dead: &[NodeId]) -> Vec<Vec<NodeId>> {
        let mut held = Vec::new();
        for second in seconds {
            let now = SECOND * second;
            for node in seats.held().to_vec() {
                if !dead.contains(&node) {
                    seats.show(node, second.into(), now);
                }
            }
            let (got, _) = seats.decide((0..10).map(|node| (node, !dead.contains(&node))), now);
            for node in got {
                seats.begin(node, now).unwrap();
            }
            seats.attend(seats.held().iter().any(|node| !dead.contains(node)), now);
            held.push(seats.held().to_vec());
        }
        held
    }

    #[test]
    fn a_seat_is_free_when_the_grant_has_lapsed_and_the_first_is_taken_by_one_that_reads() {
        let mut seats = Seats::new(3, 1);
        let first = play(&mut seats, 0..6, &[]).pop().unwrap();
        assert_eq!(first.len(), 3);
        let dead = [first[0]];
        let later = play(&mut seats, 6..50, &dead);
        let lost = later.iter().position(|held| !held.contains(&first[0])).unwrap();
        assert_eq!(lost + 6, 35, "it had shown itself after five seconds");
        assert!(first[1..].contains(&later[lost][0]), "an heir that reads has the first seat: {later:?}");
        assert_eq!(seats.unattended(SECOND * 50), Duration::ZERO);
        let back = play(&mut seats, 50..100, &[]);
        assert!(back.iter().all(|held| !held.contains(&first[0])), "it is passed over for a while");
    }

    #[test]
    fn the_time_in_which_nobody_has_a_seat_is_counted() {
        let mut seats = Seats::new(2, 1);
        let first = play(&mut seats, 0..6, &[]).pop().unwrap();
        play(&mut seats, 6..60, &first);
        assert_eq!(seats.unattended(SECOND * 60), SECOND * (35 - 6));
        play(&mut seats, 60..70, &(0..10).collect::<Vec<_>>());
        assert_eq!(seats.unattended(SECOND * 75), SECOND * (35 - 6 + 15), "it goes on");
    }
}
