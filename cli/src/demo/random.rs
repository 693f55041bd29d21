//! Made-up content: bytes that do not compress, the same for the same seed, from any position.

/// Bytes that come from one state of the generator.
const BLOCK: u64 = 4096;

/// A stream of bytes without an end.
#[derive(Clone, Copy, Debug)]
pub struct Random {
    /// Which stream.
    pub seed: u64,
}

impl Random {
    /// Fills `buffer` with the bytes from `offset` on.
    pub fn fill(self, offset: u64, buffer: &mut [u8]) {
        let mut at = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let within = (at % BLOCK) as usize;
            let now = rest.len().min(BLOCK as usize - within);
            let (part, later) = rest.split_at_mut(now);
            let block = self.block(at / BLOCK);
            part.copy_from_slice(&block[within..within + now]);
            at += now as u64;
            rest = later;
        }
    }

    fn block(self, number: u64) -> [u8; BLOCK as usize] {
        let mut state = self.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut block = [0; BLOCK as usize];
        for word in block.chunks_exact_mut(8) {
            word.copy_from_slice(&split_mix(&mut state).to_le_bytes());
        }
        block
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_is_a_part_of_the_whole() {
        let mut whole = vec![0; 20_000];
        Random { seed: 7 }.fill(0, &mut whole);
        for (from, to) in [(0, 1), (4095, 4097), (5, 13_000), (8192, 20_000)] {
            let mut part = vec![0; to - from];
            Random { seed: 7 }.fill(from as u64, &mut part);
            assert_eq!(part, whole[from..to]);
        }
        let mut other = vec![0; 20_000];
        Random { seed: 8 }.fill(0, &mut other);
        assert_ne!(other, whole);
    }
}
