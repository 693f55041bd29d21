//! The peers of one torrent. Pure: the time comes in with each call, and so does randomness.

mod told;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rand::Rng;

use crate::book::{Book, Spot};
use crate::interval::{Situation, interval};
use crate::limits::{COLD_AFTER, GONE_KEPT};
use crate::peer::{COUNTED, Contact, Peer, Place, State, Status, as_kept};
use crate::policy::Pick;
use crate::query::{Announce, Event};
use crate::registry::Node;
use crate::tick::Tick;

/// What a peer of unknown `left` counts as: not complete.
const UNKNOWN_LEFT: u64 = 1;

/// Ticks by which a word may be ahead of the clock: as many changes of mind within a tick are told apart.
pub const AHEAD: u32 = 2;

/// Who announces.
#[derive(Clone, Debug)]
pub enum Who {
    /// A sidecar that has shown the token, with what the operator registered for its node.
    Node(Arc<Node>),
    /// Any other client, by the address of its connection and the zone of its network.
    Stranger(IpAddr, Option<Arc<str>>),
}

/// Under which of its torrent's names a client announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// One that all clients of the torrent know: its only one, or the v1 infohash of a hybrid.
    Common,
    /// The v2 infohash of a hybrid. A client that knows only v1 closes connections that come under it, and libtorrent dials under
    /// the name that it was told of a peer by.
    V2OfHybrid,
}

/// How an announce is to be taken.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// What the client says.
    pub announce: &'a Announce,
    /// Under which name.
    pub name: Name,
    /// Now.
    pub now: Tick,
    /// See [`Situation::stretch`].
    pub stretch: u32,
    /// Whether siblings are told, so that who leaves must be remembered.
    pub replicated: bool,
}

/// The answer to an announce.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Seconds until the next announce.
    pub interval: u32,
    /// Peers that have everything.
    pub complete: usize,
    /// Peers that do not.
    pub incomplete: usize,
    /// Others to connect to, never the one that asks.
    pub peers: Vec<Contact>,
    /// False if there is no room for one more stranger: it got peers, but is not handed out.
    pub listed: bool,
}

/// What an announce has changed besides its answer.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The answer.
    pub reply: Reply,
    /// Whether a stranger's place has become free.
    pub freed: bool,
    /// Whether siblings must hear of this peer.
    pub news: bool,
    /// Whether the peer has just become complete.
    pub completed: bool,
}

/// The peers of one torrent, whichever of its names they announce.
#[derive(Debug, Default)]
pub struct Swarm {
    v4: Book<Ipv4Addr>,
    // Boxed: of a hundred thousand torrents few have either.
    v6: Option<Box<Book<Ipv6Addr>>>,
    nodes: Option<Box<Book<Arc<Node>>>>,
    downloaded: u32,
    /// Bytes by which `left` fell, from one announce here to the next.
    fetched: u64,
    /// When somebody wanted it last.
    wanted: Tick,
}

/// A kind of peer, and where a swarm keeps those.
pub trait Shelf: Place {
    /// The book, if there is one.
    fn book(swarm: &Swarm) -> Option<&Book<Self>>;
    /// The book, made if there is none.
    fn book_mut(swarm: &mut Swarm) -> &mut Book<Self>;
    /// How many groups stand before those of this book when all are counted.
    fn groups_before(swarm: &Swarm) -> usize;
}

impl Shelf for Ipv4Addr {
    fn book(swarm: &Swarm) -> Option<&Book<Self>> {
        Some(&swarm.v4)
    }

    fn book_mut(swarm: &mut Swarm) -> &mut Book<Self> {
        &mut swarm.v4
    }

    fn groups_before(_swarm: &Swarm) -> usize {
        0
    }
}

impl Shelf for Ipv6Addr {
    fn book(swarm: &Swarm) -> Option<&Book<Self>> {
        swarm.v6.as_deref()
    }

    fn book_mut(swarm: &mut Swarm) -> &mut Book<Self> {
        swarm.v6.get_or_insert_default()
    }

    fn groups_before(swarm: &Swarm) -> usize {
        swarm.v4.groups().len()
    }
}

impl Shelf for Arc<Node> {
    fn book(swarm: &Swarm) -> Option<&Book<Self>> {
        swarm.nodes.as_deref()
    }

    fn book_mut(swarm: &mut Swarm) -> &mut Book<Self> {
        swarm.nodes.get_or_insert_default()
    }

    fn groups_before(swarm: &Swarm) -> usize {
        Ipv6Addr::groups_before(swarm) + swarm.v6.as_ref().map_or(0, |book| book.groups().len())
    }
}

impl Swarm {
    /// Takes in an announce and answers it. `room` is asked when a stranger is new.
    pub fn announce(
        &mut self,
        who: Who,
        visit: Visit<'_>,
        room: impl FnOnce() -> bool,
        rng: &mut impl Rng,
    ) -> Outcome {
        match who {
            Who::Node(node) => {
                let zone = node.zone.clone();
                self.visit(node, zone.as_ref(), visit, || true, rng)
            }
            Who::Stranger(IpAddr::V4(address), zone) => self.visit(address, zone.as_ref(), visit, room, rng),
            Who::Stranger(IpAddr::V6(address), zone) => self.visit(address, zone.as_ref(), visit, room, rng),
        }
    }

    fn visit<P: Shelf>(
        &mut self,
        place: P,
        zone: Option<&Arc<str>>,
        visit: Visit<'_>,
        room: impl FnOnce() -> bool,
        rng: &mut impl Rng,
    ) -> Outcome {
        let Visit { announce, now, .. } = visit;
        let (spot, before) = self.known::<P>(&place.key(announce.port));
        let is_node = place.node().is_some();
        let mut status = next(before.as_ref(), visit, is_node);
        // Warm at first, also if only seeds come.
        if status.state == State::Leeching || self.wanted == Tick(0) {
            self.wanted = now;
        }
        let left_before = before.as_ref().map_or(0, |before| before.status().left);
        self.fetched = self.fetched.saturating_add(left_before.saturating_sub(as_kept(status.left)));
        let interval = interval(self.situation(status, is_node, visit), rng);
        let own = spot.map(|Spot { group, position }| Pick {
            group: P::groups_before(self) + group as usize,
            position: position as usize,
        });
        let peers = self.choose(zone.map(AsRef::as_ref), status, visit, (is_node, own), rng);
        let completed = announce.event == Event::Completed
            && status.left == 0
            && before.as_ref().is_some_and(|before| before.state() == State::Leeching);
        self.downloaded = self.downloaded.saturating_add(u32::from(completed));
        if announce.event == Event::Stopped {
            status = Status { state: State::Gone, kept: GONE_KEPT, ..status };
        } else {
            status.kept = interval.kept;
        }
        let mut peer = Peer::new(place, announce.port, now, status);
        let second = |before: &&Peer<()>| before.seen >= now && before.state() != peer.state();
        if let Some(before) = before.as_ref().filter(second) {
            // Two words in one tick: siblings must know which one came second.
            peer.seen = Tick((before.seen.0 + 1).min(now.0 + AHEAD));
        }
        let news = is_news(before.as_ref(), &peer.nowhere());
        let stays = announce.event != Event::Stopped;
        // Who leaves may be known to a sibling that has not told of it yet.
        let kept = (stays || visit.replicated) && (before.is_some() || room());
        if kept {
            P::book_mut(self).put(spot, zone, peer);
        } else if let Some(spot) = spot {
            drop(P::book_mut(self).take(spot));
        }
        let reply = Reply {
            interval: interval.seconds,
            complete: self.count(State::Seeding),
            incomplete: self.count(State::Leeching),
            peers,
            listed: kept || !stays,
        };
        Outcome { reply, freed: before.is_some() && !kept && !is_node, news: kept && news, completed }
    }

    /// Takes in what a sibling says of a peer, if that counts more than what is known. `room` is asked when a stranger is new.
    pub fn merge<P: Shelf>(
        &mut self,
        zone: Option<&Arc<str>>,
        peer: Peer<P>,
        completed: bool,
        now: Tick,
        room: impl FnOnce() -> bool,
    ) {
        let (spot, before) = self.known::<P>(&peer.key());
        if peer.expires() <= now || before.as_ref().is_some_and(|before| !peer.nowhere().outdates(before)) {
            return;
        }
        let was_leeching = before.is_none_or(|before| before.state() == State::Leeching);
        if spot.is_none() && peer.place().node().is_none() && !room() {
            return;
        }
        let counts = completed && was_leeching && peer.state() == State::Seeding;
        self.downloaded = self.downloaded.saturating_add(u32::from(counts));
        if peer.state() == State::Leeching {
            self.wanted = self.wanted.max(peer.seen);
        }
        P::book_mut(self).put(spot, zone, peer);
    }

    /// Takes in how often peers became complete as far as a sibling knows.
    pub fn merge_downloaded(&mut self, downloaded: u32) {
        self.downloaded = self.downloaded.max(downloaded);
    }

    /// Takes over the peers of a swarm that turned out to be this one. Answers the addresses of strangers that were in both, once for
    /// each time that one is counted too often.
    pub fn absorb(&mut self, other: &Swarm, zone: impl Fn(IpAddr) -> Option<Arc<str>>) -> Vec<IpAddr> {
        let mut twice = Vec::new();
        for peer in other.v4.peers() {
            let address = IpAddr::from(*peer.place());
            twice.extend(self.v4.find(&peer.key()).map(|_| address));
            self.merge(zone(address).as_ref(), peer.clone(), false, Tick(0), || true);
        }
        for peer in other.peers::<Ipv6Addr>() {
            let address = IpAddr::from(*peer.place());
            twice.extend(self.v6.as_ref().and_then(|book| book.find(&peer.key())).map(|_| address));
            self.merge(zone(address).as_ref(), peer.clone(), false, Tick(0), || true);
        }
        for peer in other.peers::<Arc<Node>>() {
            self.merge(peer.place().zone.clone().as_ref(), peer.clone(), false, Tick(0), || true);
        }
        self.downloaded = self.downloaded.saturating_add(other.downloaded);
        self.wanted = self.wanted.max(other.wanted);
        twice
    }

    /// Takes out all that have not announced in time, and hands the addresses of the strangers among them to `gone`.
    pub fn expire(&mut self, now: Tick, mut gone: impl FnMut(IpAddr)) {
        self.v4.retain(|peer| peer.expires() > now, |peer| gone((*peer.place()).into()));
        if let Some(v6) = &mut self.v6 {
            v6.retain(|peer| peer.expires() > now, |peer| gone((*peer.place()).into()));
        }
        if let Some(nodes) = &mut self.nodes {
            nodes.retain(|peer| peer.expires() > now, drop);
        }
    }

    /// Takes out the nodes that are not `registered`, and hands out the others where they are registered now.
    pub fn renew_nodes(&mut self, registered: &HashMap<Arc<str>, Arc<Node>>) {
        let Some(nodes) = &mut self.nodes else { return };
        let mut moved = Vec::new();
        let is_as_before = |peer: &Peer<Arc<Node>>| registered.get(&peer.place().name) == Some(peer.place());
        nodes.retain(is_as_before, |peer| moved.push(peer));
        for peer in moved {
            if let Some(node) = registered.get(&peer.place().name) {
                nodes.put(None, node.zone.as_ref(), peer.nowhere().at(Arc::clone(node)));
            }
        }
    }

    /// The peers in this state.
    pub fn count(&self, state: State) -> usize {
        let rare = self.v6.as_ref().map_or(0, |book| book.count(state))
            + self.nodes.as_ref().map_or(0, |book| book.count(state));
        self.v4.count(state) + rare
    }

    /// Whether it remembers nobody, not even one that has left.
    pub fn is_empty(&self) -> bool {
        self.strangers() == 0 && self.sidecars() == 0
    }

    /// Sidecars, those that are gone too.
    pub fn sidecars(&self) -> usize {
        self.nodes.as_ref().map_or(0, |book| book.len())
    }

    /// Other peers, those that are gone too.
    pub fn strangers(&self) -> usize {
        self.v4.len() + self.v6.as_ref().map_or(0, |book| book.len())
    }

    /// The addresses of all strangers.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v6 = self.v6.iter().flat_map(|book| book.peers()).map(|peer| (*peer.place()).into());
        self.v4.peers().map(|peer| (*peer.place()).into()).chain(v6)
    }

    /// How often a peer said that it has just become complete.
    pub fn downloaded(&self) -> u32 {
        self.downloaded
    }

    /// Bytes that peers fetched between their announces here.
    pub fn fetched(&self) -> u64 {
        self.fetched
    }

    /// The peers of one kind.
    pub fn peers<P: Shelf + 'static>(&self) -> impl Iterator<Item = &Peer<P>> {
        P::book(self).into_iter().flat_map(Book::peers)
    }

    fn situation(&self, status: Status, node: bool, visit: Visit<'_>) -> Situation {
        Situation {
            node,
            seeding: status.state == State::Seeding,
            announces: status.announces,
            cold: visit.now.seconds_since(self.wanted) >= COLD_AFTER,
            stretch: visit.stretch,
        }
    }

    /// The peer with this key, and where it stands.
    fn known<P: Shelf>(&self, key: &P::Key) -> (Option<Spot>, Option<Peer<()>>) {
        let Some(book) = P::book(self) else { return (None, None) };
        let spot = book.spot(key);
        (spot, spot.map(|spot| book.at(spot).nowhere()))
    }
}

/// How a peer is after an announce, given how it was `before`.
fn next<P>(before: Option<&Peer<P>>, visit: Visit<'_>, is_node: bool) -> Status {
    let announce = visit.announce;
    // Who comes back after it has left begins anew.
    let before = before.map(Peer::status).filter(|before| before.state != State::Gone);
    let unknown = match (announce.event, before) {
        (Event::Completed, _) => 0,
        (_, Some(before)) if before.state == State::Seeding => 0,
        (_, Some(before)) => before.left,
        (_, None) => UNKNOWN_LEFT,
    };
    let left = announce.left.unwrap_or(unknown);
    let mut status = Status {
        state: if left == 0 { State::Seeding } else { State::Leeching },
        left,
        v2: visit.name == Name::V2OfHybrid || is_node || before.is_some_and(|before| before.v2),
        announces: before.map_or(0, |before| before.announces).saturating_add(1).min(COUNTED),
        still: 0,
        kept: 0,
    };
    status.still = before
        .filter(|before| left > 0 && before.left == as_kept(left))
        .map_or(0, |before| before.still.saturating_add(1).min(COUNTED));
    status
}

/// Whether siblings must hear of this: something has changed, or they would soon take the peer for gone.
fn is_news<P>(before: Option<&Peer<P>>, after: &Peer<P>) -> bool {
    let Some(before) = before else { return true };
    let (was, is) = (before.status(), after.status());
    // Once in each half of the time for which it is kept, counted from a phase of its own lest all of them go at once. An announce
    // comes at least that often, so the siblings never wait longer than the whole.
    let phase = u32::from(after.port).wrapping_mul(977);
    let half = is.kept / 2;
    (was.state, was.v2, was.kept, before.port) != (is.state, is.v2, is.kept, after.port)
        || before.seen.span(half, phase) != after.seen.span(half, phase)
}

#[cfg(test)]
mod tests;
