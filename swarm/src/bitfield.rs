//! A set of pieces, one bit each, in the order of the wire (BEP 3: the high bit of the first byte is piece 0).

/// A set of pieces of a torrent of known size.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitfield {
    /// 64 pieces a word, the high bit first, so that words compare with the wire's bytes.
    words: Vec<u64>,
    len: u32,
    ones: u32,
}

/// Why the bytes of a BITFIELD message are not a set of pieces (T24).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BitfieldError {
    /// The message has not exactly one bit per piece, rounded up to bytes.
    #[error("bitfield of {found} bytes where {wanted} are needed")]
    Length {
        /// Bytes in the message.
        found: usize,
        /// Bytes that the torrent's piece count asks for.
        wanted: usize,
    },
    /// A bit behind the last piece is set.
    #[error("bitfield with spare bits set")]
    SpareBits,
}

impl Bitfield {
    /// The empty set over `len` pieces.
    pub fn new(len: u32) -> Self {
        Self { words: vec![0; (len as usize).div_ceil(64)], len, ones: 0 }
    }

    /// The set of all `len` pieces.
    pub fn full(len: u32) -> Self {
        let mut all = Self { words: vec![u64::MAX; (len as usize).div_ceil(64)], len, ones: len };
        let spare = all.words.len() as u32 * 64 - len;
        if let Some(last) = all.words.last_mut() {
            *last = u64::MAX << spare;
        }
        all
    }

    /// Reads the payload of a BITFIELD message.
    pub fn from_wire(bytes: &[u8], len: u32) -> Result<Self, BitfieldError> {
        let wanted = (len as usize).div_ceil(8);
        if bytes.len() != wanted {
            return Err(BitfieldError::Length { found: bytes.len(), wanted });
        }
        let mut set = Self::new(len);
        for (word, chunk) in set.words.iter_mut().zip(bytes.chunks(8)) {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_be_bytes(eight);
        }
        let spare = set.words.len() as u32 * 64 - len;
        if spare > 0 && set.words.last().is_some_and(|last| last << (64 - spare) != 0) {
            return Err(BitfieldError::SpareBits);
        }
        set.ones = set.words.iter().map(|word| word.count_ones()).sum();
        Ok(set)
    }

    /// The payload of a BITFIELD message.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.truncate((self.len as usize).div_ceil(8));
        bytes
    }

    /// How many pieces the torrent has.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether the torrent has no pieces at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many pieces are in the set.
    pub fn count(&self) -> u32 {
        self.ones
    }

    /// Whether every piece is in the set.
    pub fn is_full(&self) -> bool {
        self.ones == self.len
    }

    /// Whether `piece` is in the set; no piece behind the end is.
    pub fn contains(&self, piece: u32) -> bool {
        piece < self.len && self.words[piece as usize / 64] & Self::mask(piece) != 0
    }

    /// Adds `piece`; says whether it is new. A piece behind the end is not added.
    pub fn insert(&mut self, piece: u32) -> bool {
        if piece >= self.len || self.contains(piece) {
            return false;
        }
        self.words[piece as usize / 64] |= Self::mask(piece);
        self.ones += 1;
        true
    }

    /// Takes `piece` out; says whether it was in.
    pub fn remove(&mut self, piece: u32) -> bool {
        if !self.contains(piece) {
            return false;
        }
        self.words[piece as usize / 64] &= !Self::mask(piece);
        self.ones -= 1;
        true
    }

    /// The pieces of the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| bits(index, *word))
    }

    /// The pieces that are in this set and in `other`, ascending: 64 pieces a step, so that a scan of a million
    /// pieces costs microseconds.
    pub fn iter_common<'a>(&'a self, other: &'a Bitfield) -> impl Iterator<Item = u32> + 'a {
        self.words.iter().zip(&other.words).enumerate().flat_map(|(index, (a, b))| bits(index, a & b))
    }

    /// The pieces of this set that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Bitfield) -> Bitfield {
        self.with(other, |a, b| a & !b)
    }

    /// The pieces that are in both sets.
    #[must_use]
    pub fn common(&self, other: &Bitfield) -> Bitfield {
        self.with(other, |a, b| a & b)
    }

    fn with(&self, other: &Bitfield, op: impl Fn(u64, u64) -> u64) -> Bitfield {
        let words: Vec<u64> = self.words.iter().zip(&other.words).map(|(a, b)| op(*a, *b)).collect();
        let ones = words.iter().map(|word| word.count_ones()).sum();
        Bitfield { words, len: self.len, ones }
    }

    /// How many pieces are in both sets.
    pub fn count_common(&self, other: &Bitfield) -> u32 {
        self.words.iter().zip(&other.words).map(|(a, b)| (a & b).count_ones()).sum()
    }

    /// How many pieces are in this set and not in `other`.
    pub fn count_missing_in(&self, other: &Bitfield) -> u32 {
        self.words.iter().zip(&other.words).map(|(a, b)| (a & !b).count_ones()).sum()
    }

    fn mask(piece: u32) -> u64 {
        1 << (63 - piece % 64)
    }
}

impl std::fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bitfield({} of {})", self.ones, self.len)
    }
}

/// The set bits of one word as piece numbers.
fn bits(index: usize, mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let bit = word.leading_zeros();
        word &= !(1 << (63 - bit));
        Some(index as u32 * 64 + bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn t024_wrong_length_and_spare_bits_are_rejected() {
        assert_eq!(
            Bitfield::from_wire(&[0xff], 9).unwrap_err(),
            BitfieldError::Length { found: 1, wanted: 2 }
        );
        assert_eq!(Bitfield::from_wire(&[0xff, 0xc0], 9).unwrap_err(), BitfieldError::SpareBits);
        assert!(Bitfield::from_wire(&[0xff, 0x80], 9).unwrap().is_full());
        assert!(Bitfield::from_wire(&[0xff; 8], 64).unwrap().is_full());
        assert!(Bitfield::from_wire(&[], 0).unwrap().is_full());
    }

    proptest! {
        #[test]
        fn behaves_like_a_set(len in 1u32..300, steps in proptest::collection::vec((any::<bool>(), 0u32..320), 0..200)) {
            let mut set = Bitfield::new(len);
            let mut model = std::collections::BTreeSet::new();
            for (add, piece) in steps {
                if add {
                    prop_assert_eq!(set.insert(piece), piece < len && model.insert(piece));
                } else {
                    prop_assert_eq!(set.remove(piece), model.remove(&piece));
                }
            }
            prop_assert_eq!(set.count() as usize, model.len());
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            let again = Bitfield::from_wire(&set.to_wire(), len).unwrap();
            prop_assert_eq!(&again, &set);
            let full = Bitfield::full(len);
            prop_assert_eq!(full.count_missing_in(&set), len - set.count());
            prop_assert!(full.iter_common(&set).eq(set.iter()));
            prop_assert_eq!(full.count_common(&set), set.count());
        }
    }
}
