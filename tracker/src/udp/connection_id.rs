//! Connection ids (BEP 15): they prove that a client receives what is sent to its address, and nothing is stored for them.
//!
//! An id is 56 bits of a keyed hash of address and time, and 8 bits of the time in seconds, masked by another keyed hash of
//! the former. So it is checked with the key alone, by every replica that has it, and looks random to all others.

use std::fmt;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::limits::{CLOCK_SKEW_SECONDS, CONNECTION_ID_SECONDS};
use crate::token::Token;

/// What a key that is derived from the class's token is for.
const PURPOSE: &[u8] = b"samara tracker: UDP connection ids";
/// The bits of an id that hold the masked time.
const TIME: u64 = 0xff;

/// A connection id, as it stands in packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// What issues ids and knows them again. Trackers with the same key take one another's.
#[derive(Clone)]
pub struct Key {
    tag: SipHasher24,
    mask: SipHasher24,
}

impl Key {
    /// From 32 secret random bytes.
    pub fn new(secret: [u8; 32]) -> Self {
        let [tag, mask] = [0, 16].map(|at| {
            let half = u128::from_be_bytes(std::array::from_fn(|nth| secret[at + nth]));
            SipHasher24::new_with_key(&half.to_be_bytes())
        });
        Key { tag, mask }
    }

    /// That of a class of trackers. Its ids let a token be guessed offline, so the token must be random too.
    pub fn of_token(token: &Token) -> Self {
        Key::new(token.derive(PURPOSE))
    }

    /// The id of a client at `source` that asks for one at `unix`, in seconds since 1970.
    pub fn issue(&self, source: IpAddr, unix: u64) -> ConnectionId {
        let tag = self.tag(source, unix);
        ConnectionId(tag | (u64::from(unix.to_be_bytes()[7]) ^ self.mask(tag)))
    }

    /// Whether a client at `source` got this id not longer ago than [`CONNECTION_ID_SECONDS`]. Takes the same time whatever the id
    /// is.
    pub fn accepts(&self, id: ConnectionId, source: IpAddr, unix: u64) -> bool {
        let issued = (id.0 & TIME) ^ self.mask(id.0 & !TIME);
        let age = unix.wrapping_sub(issued) & TIME;
        let ahead = issued.wrapping_sub(unix) & TIME;
        let valid = age <= u64::from(CONNECTION_ID_SECONDS);
        let skewed = ahead <= u64::from(CLOCK_SKEW_SECONDS);
        let issued = if skewed { unix.wrapping_add(ahead) } else { unix.wrapping_sub(age) };
        // The last byte is right if the others are: it has told the time that they are a hash of.
        let difference = self.tag(source, issued) ^ (id.0 & !TIME);
        (difference | u64::from(!(valid | skewed))) == 0
    }

    fn tag(&self, source: IpAddr, unix: u64) -> u64 {
        let address = match source {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut input = [0; 24];
        input[..16].copy_from_slice(&address.octets());
        input[16..].copy_from_slice(&unix.to_be_bytes());
        self.tag.hash(&input) & !TIME
    }

    fn mask(&self, tag: u64) -> u64 {
        self.mask.hash(&tag.to_be_bytes()) & TIME
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    const NOW: u64 = 1_800_000_000;

    fn key(text: &str) -> Key {
        Key::of_token(&Token::new(text).unwrap())
    }

    /// Chi-square of the bytes of `ids` at one position, with 255 degrees of freedom.
    fn chi_square(ids: &[u64], position: usize) -> f64 {
        let mut counts = [0u32; 256];
        for id in ids {
            counts[usize::from(id.to_be_bytes()[position])] += 1;
        }
        let expected = ids.len() as f64 / 256.0;
        counts.iter().map(|&count| (f64::from(count) - expected).powi(2) / expected).sum()
    }

    #[test]
    fn t057_an_id_is_taken_at_119_seconds_by_another_replica_and_not_at_121() {
        let id = key("class").issue(SOURCE, NOW);
        for (after, taken) in [(0, true), (119, true), (120, true), (121, false), (255, false), (256, false)]
        {
            assert_eq!(key("class").accepts(id, SOURCE, NOW + after), taken, "after {after} s");
        }
        assert!(!key("other class").accepts(id, SOURCE, NOW));
        assert!(!key("class").accepts(id, IpAddr::from([192, 0, 2, 8]), NOW));
    }

    #[test]
    fn a_replica_whose_clock_is_a_little_ahead_is_believed() {
        let id = key("class").issue(SOURCE, NOW);
        let skew = u64::from(CLOCK_SKEW_SECONDS);
        assert!(key("class").accepts(id, SOURCE, NOW - skew));
        assert!(!key("class").accepts(id, SOURCE, NOW - skew - 1));
    }

    #[test]
    fn t059_a_million_ids_have_no_repeats_and_look_random() {
        // The worst case for looking random: neighbours, within two seconds.
        let key = Key::new([7; 32]);
        let address = |nth: u32| IpAddr::from((0x0a00_0000 + nth / 2).to_be_bytes());
        let ids: Vec<u64> =
            (0..1_000_000).map(|nth| key.issue(address(nth), NOW + u64::from(nth % 2)).0).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        for position in 0..8 {
            // Beyond 360 a random byte comes once in 50,000 times; the key is fixed, so that this is always the same.
            let chi = chi_square(&ids, position);
            assert!(chi < 360.0, "byte {position}: {chi}");
        }
    }

    #[test]
    fn t059_ids_change_with_the_key() {
        let (a, b) = (Key::new([1; 32]), Key::new([2; 32]));
        assert_ne!(a.issue(SOURCE, NOW), b.issue(SOURCE, NOW));
        assert!(!format!("{a:?}").contains("tag"));
    }

    proptest! {
        #[test]
        fn an_id_is_valid_for_its_source_and_its_time_alone(
            secret: [u8; 32], address: [u8; 16], other: [u8; 16], unix in 1_000u64..1 << 40, after in 0u64..1_000, flipped in 0u32..64,
        ) {
            let (key, source) = (Key::new(secret), IpAddr::from(address).to_canonical());
            let id = key.issue(source, unix);
            prop_assert_eq!(key.accepts(id, source, unix + after), after <= u64::from(CONNECTION_ID_SECONDS));
            prop_assert!(!key.accepts(ConnectionId(id.0 ^ (1 << flipped)), source, unix));
            prop_assert!(address == other || !key.accepts(id, IpAddr::from(other), unix));
        }
    }
}
