//! Near first: what peers nearby have is fetched from them, and only little of it from far away.
//!
//! Each crossing of a border costs: money between zones and regions, a thin uplink between racks. A node that asks for whatever is
//! rarest asks two times of three in another zone, if there are three. So what somebody nearer has is asked of a peer behind a border
//! only within a budget, which is never nothing: a swarm that knows only its neighbours falls apart when they stand still. What nobody
//! nearer has is fetched from afar by one of those nearby ([`crate::core`] says who).

use crate::bitfield::Bitfield;

/// The longest name of a part of a place.
const MAX_NAME: usize = 63;

/// Where a node is, as the cluster calls it. A part that is not known is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// `topology.kubernetes.io/region`.
    pub region: String,
    /// `topology.kubernetes.io/zone`.
    pub zone: String,
    /// A rack, or whatever shares a switch.
    pub rack: String,
}

impl Place {
    /// Of names as a stranger gives them; those that are too long are not known.
    pub fn new(region: &str, zone: &str, rack: &str) -> Self {
        let [region, zone, rack] = [region, zone, rack].map(|name| {
            let sane = name.len() <= MAX_NAME && !name.chars().any(char::is_control);
            if sane { name.to_owned() } else { String::new() }
        });
        Self { region, zone, rack }
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// The widest border between two places. Where one of them does not say, there is none.
    pub fn border(&self, other: &Self) -> Option<Border> {
        let differ = |one: &str, other: &str| !one.is_empty() && !other.is_empty() && one != other;
        if differ(&self.region, &other.region) {
            Some(Border::Region)
        } else if differ(&self.zone, &other.zone) {
            Some(Border::Zone)
        } else if differ(&self.rack, &other.rack) {
            Some(Border::Rack)
        } else {
            None
        }
    }
}

/// What lies between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Border {
    /// They are in one zone, in different racks.
    Rack,
    /// They are in one region, in different zones.
    Zone,
    /// They are in different regions.
    Region,
}

impl Border {
    /// So many percent of the pieces that have come may come over this border although they are to be had on this side.
    pub fn budget(self) -> u64 {
        match self {
            Self::Rack => 50,
            Self::Zone => 5,
            Self::Region => 2,
        }
    }
}

/// What the leechers on this side of each border have, or have on its way.
#[derive(Debug)]
pub struct Nearness {
    sides: [Side; 3],
}

#[derive(Debug)]
struct Side {
    copies: Vec<u16>,
    here: Bitfield,
}

impl Nearness {
    /// They have nothing.
    pub fn new(pieces: u32) -> Self {
        let side = || Side { copies: vec![0; pieces as usize], here: Bitfield::new(pieces) };
        Self { sides: [side(), side(), side()] }
    }

    /// The sides of borders that do not lie between us and a peer behind `border`.
    fn this_side(&mut self, border: Option<Border>) -> impl Iterator<Item = &mut Side> {
        let beyond = border.map_or(0, |border| border as usize + 1);
        self.sides[beyond..].iter_mut()
    }

    /// A leecher behind `border` (or none) has one more piece.
    pub fn peer_has(&mut self, border: Option<Border>, piece: u32) {
        for side in self.this_side(border) {
            side.copies[piece as usize] = side.copies[piece as usize].saturating_add(1);
            side.here.insert(piece);
        }
    }

    /// It has one piece fewer, or is gone.
    pub fn peer_lost(&mut self, border: Option<Border>, piece: u32) {
        for side in self.this_side(border) {
            let copies = &mut side.copies[piece as usize];
            *copies = copies.saturating_sub(1);
            if *copies == 0 {
                side.here.remove(piece);
            }
        }
    }

    /// What leechers on this side of a border have, or have on its way.
    pub fn here(&self, border: Border) -> &Bitfield {
        &self.sides[border as usize].here
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(region: &str, zone: &str, rack: &str) -> Place {
        Place::new(region, zone, rack)
    }

    #[test]
    fn the_widest_border_counts_and_what_is_not_known_is_none() {
        let here = place("eu", "a", "1");
        for (there, border) in [
            (place("eu", "a", "1"), None),
            (place("eu", "a", "2"), Some(Border::Rack)),
            (place("eu", "b", "1"), Some(Border::Zone)),
            (place("us", "a", "1"), Some(Border::Region)),
            (place("", "b", ""), Some(Border::Zone)),
            (place("", "", ""), None),
            (place("eu", "", "2"), Some(Border::Rack)),
        ] {
            assert_eq!(here.border(&there), border, "{there:?}");
            assert_eq!(there.border(&here), border, "{there:?}");
        }
        assert!(place(&"x".repeat(64), "a\nb", "").is_unknown());
    }

    #[test]
    fn what_is_on_this_side_is_known_for_each_border() {
        let mut near = Nearness::new(4);
        near.peer_has(None, 0);
        near.peer_has(Some(Border::Rack), 1);
        near.peer_has(Some(Border::Zone), 2);
        near.peer_has(Some(Border::Region), 3);
        let here = |near: &Nearness, border| near.here(border).iter().collect::<Vec<_>>();
        assert_eq!(here(&near, Border::Rack), [0]);
        assert_eq!(here(&near, Border::Zone), [0, 1]);
        assert_eq!(here(&near, Border::Region), [0, 1, 2]);
        near.peer_has(None, 1);
        near.peer_lost(Some(Border::Rack), 1);
        assert_eq!(here(&near, Border::Zone), [0, 1]);
        near.peer_lost(None, 1);
        assert_eq!(here(&near, Border::Zone), [0]);
    }
}
