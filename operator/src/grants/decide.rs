//! Who is to read: seats that are kept, that move up, and that are given anew.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::seat::Seat;
use super::{Candidate, Election, GRANT, PASSED_OVER, rank};

/// Who is to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The nodes, seat by seat; none if no one can.
    pub fetchers: Vec<String>,
    /// When to decide again if nothing else happens.
    pub wake_at: Option<Timestamp>,
}

/// What one decision looks at.
struct Ballot<'a> {
    election: &'a Election,
    revision: &'a str,
    candidates: &'a [Candidate],
    /// Seat by seat: who keeps or gets it.
    seated: Vec<Option<&'a str>>,
    now: Timestamp,
}

impl Election {
    /// Keeps the fetchers or chooses others; `wanted` of them, if there are so many. `written` are those in the revision's policy.
    pub fn decide(
        &self,
        revision: &str,
        written: &[String],
        wanted: usize,
        candidates: &[Candidate],
        now: Timestamp,
    ) -> Decision {
        let wanted = wanted.max(1);
        if !self.is_begun() {
            // An operator before us elected them, and their 30 s begin when we take note.
            let present = written.iter().filter(|node| candidates.iter().any(|c| c.node == **node));
            let fetchers: Vec<String> = present.take(wanted).cloned().collect();
            if !fetchers.is_empty() {
                return Decision { fetchers, wake_at: Some(now + GRANT) };
            }
        }
        let mut ballot = Ballot { election: self, revision, candidates, seated: Vec::new(), now };
        ballot.keep(wanted);
        ballot.fill();
        let fetchers: Vec<String> = ballot.seated.iter().flatten().map(|node| (*node).to_owned()).collect();
        Decision { wake_at: ballot.wake_at(), fetchers }
    }
}

impl<'a> Ballot<'a> {
    /// Who stays. Where the first has lost its seat, another who reads already takes it, the one with most bytes: it has least to do
    /// before the content is whole.
    fn keep(&mut self, wanted: usize) {
        let mut kept: Vec<Option<&Seat>> = self
            .election
            .seats
            .iter()
            .take(wanted)
            .map(|seat| Some(seat).filter(|seat| self.keeps(seat)))
            .collect();
        kept.resize(wanted, None);
        if kept[0].is_none() {
            let bytes = |at: &usize| kept[*at].and_then(|seat| seat.grant.as_ref()).map(|grant| grant.bytes);
            let reading = (1..wanted).filter(|at| bytes(at).is_some());
            if let Some(heir) = reading.max_by_key(|at| (bytes(at), Reverse(*at))) {
                kept.swap(0, heir);
            }
        }
        self.seated = kept.into_iter().map(|seat| seat.map(|seat| seat.node.as_str())).collect();
    }

    fn keeps(&self, seat: &Seat) -> bool {
        self.is_there(&seat.node)
            && !self.election.is_overdue(seat, self.now)
            && !self.election.is_passed_over(&seat.node, self.now)
    }

    fn is_there(&self, node: &str) -> bool {
        self.candidates.iter().any(|candidate| candidate.node == node)
    }

    /// Gives away what is free. Whoever has just failed gets a seat again only where else nobody would read.
    fn fill(&mut self) {
        if self.seated[0].is_none() {
            self.seated[0] = self.first();
        }
        for seat in 1..self.seated.len() {
            if self.seated[seat].is_none() {
                self.seated[seat] = self.freshest();
            }
        }
    }

    /// The best of those without a seat that have not failed lately.
    fn freshest(&self) -> Option<&'a str> {
        let lost = |node: &str| self.election.seats.iter().any(|seat| seat.node == node && !self.keeps(seat));
        let fresh = |node: &&str| !lost(node) && !self.election.is_passed_over(node, self.now);
        self.free().filter(fresh).min_by_key(|node| self.order(node))
    }

    /// Whoever may have signed what is wrong comes after all others.
    fn order(&self, node: &str) -> (bool, [u8; 8]) {
        (self.election.contradicted.contains(node), rank(self.revision, node))
    }

    fn free(&self) -> impl Iterator<Item = &'a str> {
        let electable = self.candidates.iter().filter(|candidate| candidate.electable);
        let free = electable.filter(|candidate| !self.seated.contains(&Some(&*candidate.node)));
        free.map(|candidate| candidate.node.as_str())
    }

    /// The best candidate but the first fetcher; that one itself if there is no other.
    fn first(&self) -> Option<&'a str> {
        if let Some(best) = self.freshest() {
            return Some(best);
        }
        let holder = self.election.seats.first().map(|seat| seat.node.as_str());
        let holder = holder.filter(|node| self.is_there(node));
        let others = self.free().filter(|node| Some(*node) != holder);
        let best = others.min_by_key(|node| (self.back_at(node), self.order(node)));
        match (best, holder) {
            // Everyone has failed: the one that may try again first.
            (Some(best), Some(holder)) => {
                let until = self.election.passed_over.get(holder).copied().unwrap_or(Timestamp::MIN);
                Some(if until <= self.back_at(best) { holder } else { best })
            }
            (best, holder) => best.or(holder),
        }
    }

    /// When a node that has failed is as good as any other.
    fn back_at(&self, node: &str) -> Timestamp {
        let until = self.election.passed_over.get(node).copied().filter(|until| *until > self.now);
        until.unwrap_or(self.now + PASSED_OVER)
    }

    fn wake_at(&self) -> Option<Timestamp> {
        let seated = self.seated.iter().flatten().map(|node| {
            let held = self.election.seats.iter().find(|seat| seat.node == **node && self.keeps(seat));
            held.map_or(self.now + GRANT, |seat| self.election.deadline(seat))
        });
        let free = self.seated.iter().any(Option::is_none);
        let back = self.election.passed_over.values().copied().filter(|until| free && *until > self.now);
        seated.chain(back).min()
    }
}
