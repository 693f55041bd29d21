//! Byte ranges (RFC 9110, section 14): single ones are honoured, everything else gets the whole.

use std::ops::Range;

/// What part of something is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of it, with 200.
    Whole,
    /// These bytes, with 206; never empty.
    Part(Range<u64>),
    /// Nothing that is in it: 416.
    Unsatisfiable,
}

/// Reads a `Range` header against something of `length` bytes. What is malformed, in other units or of several parts is as good as absent.
pub fn wanted(header: Option<&str>, length: u64) -> Wanted {
    let Some(set) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let Some((first, last)) = set.split_once('-') else { return Wanted::Whole };
    let (first, last) = (first.trim(), last.trim());
    match (first.is_empty(), last.is_empty()) {
        (true, true) => Wanted::Whole,
        (true, false) => {
            number(last).map_or(Wanted::Whole, |count| part(length.saturating_sub(count)..length))
        }
        (false, true) => number(first).map_or(Wanted::Whole, |first| part(first..length)),
        (false, false) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => part(first..last.saturating_add(1).min(length)),
            _ => Wanted::Whole,
        },
    }
}

fn part(range: Range<u64>) -> Wanted {
    if range.is_empty() { Wanted::Unsatisfiable } else { Wanted::Part(range) }
}

/// Only digits: `u64::from_str` would take a sign. What is too large for 64 bits lies beyond the end of anything.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn single_ranges_are_read_as_the_rfc_says() {
        let at_10 = |header| wanted(Some(header), 10);
        assert_eq!(wanted(None, 10), Wanted::Whole);
        assert_eq!(at_10("bytes=0-"), Wanted::Part(0..10));
        assert_eq!(at_10("bytes=3-4"), Wanted::Part(3..5));
        assert_eq!(at_10("bytes=3-99999999999999999999999"), Wanted::Part(3..10));
        assert_eq!(at_10("bytes=-4"), Wanted::Part(6..10));
        assert_eq!(at_10("bytes=-40"), Wanted::Part(0..10));
        assert_eq!(at_10("bytes=9-99"), Wanted::Part(9..10));
        assert_eq!(at_10("bytes=0-0"), Wanted::Part(0..1));
        assert_eq!(at_10("bytes=10-"), Wanted::Unsatisfiable);
        assert_eq!(at_10("bytes=99999999999999999999999-"), Wanted::Unsatisfiable);
        assert_eq!(at_10("bytes=-0"), Wanted::Unsatisfiable);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn what_is_no_single_range_gets_the_whole() {
        for header in
            ["bytes=0-1,3-4", "bytes=4-3", "bytes=-", "bytes=a-", "bytes=+1-", "lines=0-1", "bytes 0-1", ""]
        {
            assert_eq!(wanted(Some(header), 10), Wanted::Whole, "{header}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_lies_within(header in "bytes=[0-9]{0,22}-[0-9]{0,22}", length: u64) {
            if let Wanted::Part(range) = wanted(Some(&header), length) {
                prop_assert!(range.start < range.end && range.end <= length);
            }
        }
    }
}
