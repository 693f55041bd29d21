//! How far all nodes together are, in bytes, percents and words.

use std::collections::BTreeMap;

/// What the trackers see of one swarm now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwarmView {
    /// Bytes that each node still wants.
    pub left: BTreeMap<String, u64>,
    /// Peers that have all of it, strangers too.
    pub seeders: u32,
}

/// Whole percents of `have` in `whole`, and 100 only when it is all.
pub fn percent(have: u128, whole: u128) -> i32 {
    if whole == 0 || have >= whole {
        return 100;
    }
    i32::try_from(have * 100 / whole).unwrap_or(100).min(99)
}

/// A number of bytes for people: `1`, `1.5Ki`, `256Mi`.
pub fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut unit = 0;
    let mut scaled = bytes as f64;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    // One digit after the point where it says something, cut and not rounded: 1023.99 is not 1024.
    let tenths = (scaled * 10.0).floor() / 10.0;
    if tenths.fract() == 0.0 || tenths >= 10.0 {
        format!("{}{}", tenths.floor(), UNITS[unit])
    } else {
        format!("{tenths:.1}{}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_percent_is_all_of_it() {
        assert_eq!(percent(0, 10), 0);
        assert_eq!(percent(u128::from(u64::MAX) - 1, u128::from(u64::MAX)), 99);
        assert_eq!(percent(10, 10), 100);
        assert_eq!(percent(0, 0), 100);
    }

    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0"),
            (1, "1"),
            (1023, "1023"),
            (1536, "1.5Ki"),
            (256 << 20, "256Mi"),
            ((1 << 30) - 1, "1023Mi"),
            (5_368_709_120, "5Gi"),
            (u64::MAX, "16Ei"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }
}
