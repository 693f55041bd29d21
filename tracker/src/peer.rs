//! What a tracker keeps of one peer: 16 bytes for IPv4, 28 for IPv6, 24 for a node.

use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::registry::Node;
use crate::tick::Tick;

/// How far a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It wants something.
    Leeching,
    /// It has everything.
    Seeding,
    /// It has said that it leaves. It is neither counted nor handed out, and kept only so that an older word of it, which comes
    /// late from a sibling, does not bring it back.
    Gone,
}

/// Where a peer is: an address of a stranger, or a node that the operator has registered.
pub trait Place: Clone + fmt::Debug {
    /// What makes a peer one peer.
    type Key: Clone + Eq + Hash + fmt::Debug;
    /// The key of the peer that listens here on `port`.
    fn key(&self, port: u16) -> Self::Key;
    /// The addresses to hand out.
    fn addresses(&self) -> (Option<Ipv4Addr>, Option<Ipv6Addr>);
    /// The node, if it is one.
    fn node(&self) -> Option<&Node> {
        None
    }
}

impl Place for Ipv4Addr {
    /// Address and port in one number, which is hashed in one step: most peers are looked for by it.
    type Key = u64;

    fn key(&self, port: u16) -> Self::Key {
        u64::from(self.to_bits()) << 16 | u64::from(port)
    }

    fn addresses(&self) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        (Some(*self), None)
    }
}

impl Place for Ipv6Addr {
    type Key = (Ipv6Addr, u16);

    fn key(&self, port: u16) -> Self::Key {
        (*self, port)
    }

    fn addresses(&self) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        (None, Some(*self))
    }
}

impl Place for Arc<Node> {
    /// A node has one entry whatever port it names (T51); it listens on one.
    type Key = Arc<str>;

    fn key(&self, _port: u16) -> Self::Key {
        Arc::clone(&self.name)
    }

    fn addresses(&self) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        (self.v4, self.v6)
    }

    fn node(&self) -> Option<&Node> {
        Some(self)
    }
}

/// One peer, packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer<P> {
    place: P,
    /// When it announced last, by this tracker's clock.
    pub seen: Tick,
    left: u32,
    /// Where it listens.
    pub port: u16,
    flags: u8,
    kept: u8,
}

/// Everything of a peer but where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// How far it is.
    pub state: State,
    /// Bytes that it still wants; kept to the next 16 KiB, and up to 64 TiB.
    pub left: u64,
    /// Whether it takes connections under the v2 name of a hybrid: it has announced under it, or is a sidecar.
    pub v2: bool,
    /// Announces so far; counted up to [`COUNTED`].
    pub announces: u8,
    /// Announces in a row in which `left` was the same; counted up to [`COUNTED`].
    pub still: u8,
    /// Seconds for which it is kept without a word; to the next quarter of a minute, and up to an hour.
    pub kept: u32,
}

/// Announces are counted no further than this.
pub const COUNTED: u8 = 3;
/// The unit of what is left.
const UNIT: u64 = 16 << 10;
/// The unit of how long a peer is kept, in seconds.
const KEPT_UNIT: u32 = 15;

/// Bits of the flags: two for the state, one, two, two.
const V2: u8 = 1 << 2;
const ANNOUNCES: u8 = 3;
const STILL: u8 = 5;

/// Bytes that are left, as a record keeps them.
pub fn as_kept(left: u64) -> u64 {
    u64::from(u32::try_from(left.div_ceil(UNIT)).unwrap_or(u32::MAX)) * UNIT
}

impl Status {
    fn flags(&self) -> u8 {
        let state = match self.state {
            State::Leeching => 0,
            State::Seeding => 1,
            State::Gone => 2,
        };
        let v2 = if self.v2 { V2 } else { 0 };
        state | v2 | self.announces.min(COUNTED) << ANNOUNCES | self.still.min(COUNTED) << STILL
    }
}

impl<P> Peer<P> {
    /// Packs a peer.
    pub fn new(place: P, port: u16, seen: Tick, status: Status) -> Self {
        let left = u32::try_from(status.left.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let kept = u8::try_from(status.kept.div_ceil(KEPT_UNIT)).unwrap_or(u8::MAX);
        Peer { place, seen, left, port, flags: status.flags(), kept }
    }

    /// Flags, `left` in units of 16 KiB, and `kept` in units of 15 s.
    pub fn packed(&self) -> (u8, u32, u8) {
        (self.flags, self.left, self.kept)
    }

    /// The same without where it is, as it is sent.
    pub fn nowhere(&self) -> Peer<()> {
        Peer {
            place: (),
            seen: self.seen,
            left: self.left,
            port: self.port,
            flags: self.flags,
            kept: self.kept,
        }
    }

    /// Where it is.
    pub fn place(&self) -> &P {
        &self.place
    }

    /// Unpacks what is not its address.
    pub fn status(&self) -> Status {
        Status {
            state: self.state(),
            left: u64::from(self.left) * UNIT,
            v2: self.flags & V2 != 0,
            announces: self.flags >> ANNOUNCES & COUNTED,
            still: self.flags >> STILL & COUNTED,
            kept: u32::from(self.kept) * KEPT_UNIT,
        }
    }

    /// How far it is.
    pub fn state(&self) -> State {
        match self.flags & 0x3 {
            0 => State::Leeching,
            1 => State::Seeding,
            _ => State::Gone,
        }
    }

    /// Whether it takes connections under the v2 name of a hybrid.
    pub fn knows_v2(&self) -> bool {
        self.flags & V2 != 0
    }

    /// When it is taken out unless it announces again.
    pub fn expires(&self) -> Tick {
        self.seen.plus_seconds(u32::from(self.kept) * KEPT_UNIT)
    }

    /// Whether this word about a peer counts more than another about the same one: the later one does. Of two at the same time it
    /// is the one that is further on, so that all trackers decide alike whatever order they hear them in.
    pub fn outdates(&self, other: &Self) -> bool {
        (self.seen, self.state(), self.flags, self.left, self.port, self.kept)
            > (other.seen, other.state(), other.flags, other.left, other.port, other.kept)
    }
}

impl Peer<()> {
    /// From what a sibling sent: flags, `left` and `kept` as [`Self::packed`] gives them. None if the flags are not of this version.
    pub fn unpack(port: u16, seen: Tick, (flags, left, kept): (u8, u32, u8)) -> Option<Self> {
        let known = flags & 0x3 <= 2 && flags >> 7 == 0;
        known.then_some(Peer { place: (), seen, left, port, flags, kept })
    }

    /// The same at a place.
    pub fn at<P>(self, place: P) -> Peer<P> {
        Peer { place, seen: self.seen, left: self.left, port: self.port, flags: self.flags, kept: self.kept }
    }
}

impl<P: Place> Peer<P> {
    /// What makes it one peer.
    pub fn key(&self) -> P::Key {
        self.place.key(self.port)
    }

    /// Where it is reached.
    pub fn contact(&self) -> Contact {
        let (v4, v6) = self.place.addresses();
        Contact { v4, v6, port: self.port }
    }
}

/// A peer as it is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Its port, for both.
    pub port: u16,
}

impl Contact {
    /// Its addresses with the port, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        let (v4, v6, port) = (self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6), self.port);
        v4.into_iter().chain(v6).map(move |address| SocketAddr::new(address, port))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_peer_is_as_small_as_it_says() {
        assert_eq!(size_of::<Peer<Ipv4Addr>>(), 16);
        assert_eq!(size_of::<Peer<Ipv6Addr>>(), 28);
        assert_eq!(size_of::<Peer<Arc<Node>>>(), 24);
    }

    fn statuses() -> impl Strategy<Value = Status> {
        let state = prop_oneof![Just(State::Leeching), Just(State::Seeding), Just(State::Gone)];
        (state, any::<u32>(), any::<bool>(), 0..=COUNTED, 0..=COUNTED, 0..=255u32).prop_map(
            |(state, left, v2, announces, still, kept)| Status {
                state,
                left: u64::from(left) * UNIT,
                v2,
                announces,
                still,
                kept: kept * KEPT_UNIT,
            },
        )
    }

    proptest! {
        #[test]
        fn a_peer_is_unpacked_as_it_was_packed(status in statuses(), seen: u32, port: u16) {
            let peer = Peer::new(Ipv4Addr::LOCALHOST, port, Tick(seen), status);
            prop_assert_eq!(peer.status(), status);
            let again = Peer::unpack(port, Tick(seen), peer.packed()).map(|peer| peer.at(Ipv4Addr::LOCALHOST));
            prop_assert_eq!(again, Some(peer));
        }

        #[test]
        fn of_two_words_one_counts_more(a in statuses(), b in statuses(), seen in 0..3u32, other in 0..3u32) {
            let a = Peer::new(Ipv4Addr::LOCALHOST, 1, Tick(seen), a);
            let b = Peer::new(Ipv4Addr::LOCALHOST, 1, Tick(other), b);
            prop_assert_eq!(a.outdates(&b) || b.outdates(&a), a != b);
            prop_assert!(!(a.outdates(&b) && b.outdates(&a)));
        }
    }

    #[test]
    fn what_is_left_is_0_only_if_nothing_is() {
        let status =
            |left| Status { state: State::Leeching, left, v2: false, announces: 0, still: 0, kept: 1 };
        let left = |bytes| Peer::new(Ipv4Addr::LOCALHOST, 1, Tick(0), status(bytes)).status();
        assert_eq!((left(0).left, left(1).left, left(UNIT + 1).left), (0, UNIT, 2 * UNIT));
        assert_eq!((left(u64::MAX).left, left(0).kept), (u64::from(u32::MAX) * UNIT, KEPT_UNIT));
    }
}
