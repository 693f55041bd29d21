//! Whom an announce is told of: what the peer policy needs to know of a swarm, and who stands where it points to.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rand::Rng;

use super::{Name, Shelf, Swarm, Visit};
use crate::book::Book;
use crate::peer::{Contact, Peer, State, Status};
use crate::policy::{Asker, Group, Pick, choose};
use crate::query::{Event, Family};
use crate::registry::Node;

/// A leecher whose `left` came the same so often in a row gets one list without regard to zones.
const STALLED_AFTER: u8 = 2;

impl Swarm {
    /// Peers for one that stands at `own`, if it is known yet.
    pub(super) fn choose(
        &self,
        zone: Option<&str>,
        status: Status,
        visit: Visit<'_>,
        (is_node, own): (bool, Option<Pick>),
        rng: &mut impl Rng,
    ) -> Vec<Contact> {
        if visit.announce.event == Event::Stopped || visit.announce.num_want == 0 {
            return Vec::new();
        }
        let asker = Asker {
            zone,
            seeding: status.state == State::Seeding,
            stalled: status.still == STALLED_AFTER,
            want: visit.announce.num_want,
        };
        // Sidecars try both names themselves.
        let only_v2 = visit.name == Name::V2OfHybrid && !is_node;
        let mut groups = self.groups(only_v2, visit.announce.only);
        // Nobody is told of itself: its group has one less, and the last of it stands in its place.
        let last = own.map(|own| {
            let len = &mut groups[own.group].len;
            *len = len.saturating_sub(1);
            Pick { position: *len, ..own }
        });
        let mut chosen = choose(&groups, asker, rng);
        if let (Some(own), Some(last)) = (chosen.iter_mut().find(|pick| Some(**pick) == own), last) {
            *own = last;
        }
        self.contacts(&chosen)
    }

    /// Who stands at these places.
    fn contacts(&self, chosen: &[Pick]) -> Vec<Contact> {
        /// Adds those of a run that stand in this book; answers false if its group is one of the next book's.
        fn add<P: Shelf>(swarm: &Swarm, first: &mut Pick, len: usize, contacts: &mut Vec<Contact>) -> bool {
            let groups = P::book(swarm).map(Book::groups).unwrap_or_default();
            let Some(group) = groups.get(first.group) else {
                first.group -= groups.len();
                return false;
            };
            contacts.extend(group.peers().run(first.position, len).map(Peer::contact));
            true
        }
        let mut contacts = Vec::with_capacity(chosen.len());
        // Neighbours at once. Hardly any of them is in the cache of a processor, which can fetch several at a time if little stands between.
        let are_neighbours =
            |one: &Pick, next: &Pick| (one.group, one.position + 1) == (next.group, next.position);
        for run in chosen.chunk_by(are_neighbours) {
            let mut first = run[0];
            if !add::<Ipv4Addr>(self, &mut first, run.len(), &mut contacts)
                && !add::<Ipv6Addr>(self, &mut first, run.len(), &mut contacts)
            {
                add::<Arc<Node>>(self, &mut first, run.len(), &mut contacts);
            }
        }
        contacts
    }

    /// All groups in the order that [`Self::contacts`] counts in; those that are not handed out are as good as empty.
    fn groups(&self, only_v2: bool, only: Option<Family>) -> Vec<Group<'_>> {
        fn add<'s, P: Shelf + 's>(
            swarm: &'s Swarm,
            only_v2: bool,
            useful: bool,
            groups: &mut Vec<Group<'s>>,
        ) {
            for group in P::book(swarm).into_iter().flat_map(Book::groups) {
                let out = !useful || group.state() == State::Gone || (only_v2 && !group.knows_v2());
                let len = if out { 0 } else { group.peers().len() };
                groups.push(Group { zone: group.zone(), seeding: group.state() == State::Seeding, len });
            }
        }
        let mut groups = Vec::with_capacity(4);
        add::<Ipv4Addr>(self, only_v2, only != Some(Family::V6), &mut groups);
        add::<Ipv6Addr>(self, only_v2, only != Some(Family::V4), &mut groups);
        add::<Arc<Node>>(self, only_v2, true, &mut groups);
        groups
    }
}
