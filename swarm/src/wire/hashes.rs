//! Hash requests of BEP 52: messages 21 to 23, and which of them make sense.

use super::message::word;

/// The most hashes asked for at a time. The BEP says 512; libtorrent asks for all leaves of a piece after a failure
/// (1,024 at 16 MiB) and accepts 8,192.
pub const MAX_HASHES: u32 = 8192;
/// More levels than any tree over 2^63 bytes has.
const MAX_LAYERS: u32 = 64;

/// Asks for `length` hashes of layer `base`, from `index` on, and for `proofs` layers of uncle hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashRequest {
    /// `pieces root` of the file.
    pub root: [u8; 32],
    /// Layer, counted from the leaves.
    pub base: u32,
    /// First hash in that layer.
    pub index: u32,
    /// How many: a power of two, at least 2.
    pub length: u32,
    /// How many layers of proof.
    pub proofs: u32,
}

impl HashRequest {
    /// Length of the body of messages 21 and 23.
    pub const LEN: usize = 48;

    /// Reads a body of at least [`Self::LEN`] bytes.
    pub(super) fn decode(body: &[u8]) -> Self {
        let mut root = [0; 32];
        root.copy_from_slice(&body[..32]);
        Self {
            root,
            base: word(body, 32),
            index: word(body, 36),
            length: word(body, 40),
            proofs: word(body, 44),
        }
    }

    pub(super) fn encode(&self, id: u8, out: &mut Vec<u8>) {
        out.push(id);
        out.extend_from_slice(&self.root);
        for word in [self.base, self.index, self.length, self.proofs] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }

    /// Whether a correct client could ask this of some file (T33): one that does not is closed, not answered.
    pub fn is_sane(&self) -> bool {
        self.length >= 2
            && self.length.is_power_of_two()
            && self.length <= MAX_HASHES
            && self.index.is_multiple_of(self.length)
            && self.base < MAX_LAYERS
            && self.proofs < MAX_LAYERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t033_requests_of_no_correct_client() {
        let good = HashRequest { root: [1; 32], base: 6, index: 512, length: 512, proofs: 3 };
        assert!(good.is_sane());
        for bad in [
            HashRequest { length: 0, ..good },
            HashRequest { length: 1, ..good },
            HashRequest { length: 3, ..good },
            HashRequest { length: 1 << 31, index: 0, ..good },
            HashRequest { index: 5, ..good },
            HashRequest { proofs: 255, ..good },
            HashRequest { base: 200, ..good },
        ] {
            assert!(!bad.is_sane(), "{bad:?}");
        }
    }
}
