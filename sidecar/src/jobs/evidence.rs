//! What may be believed of the files in `incoming/` before the engine has looked at them.

use swarm::Assume;

/// All that speaks for them, and against. Everything here is on the disk: a restart at any moment finds the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a table of independent facts is what it is")]
pub struct Evidence {
    /// They were doubted, or are somebody else's, and have not been hashed to the end since.
    pub unproven: bool,
    /// The engine has a journal of them.
    pub journal: bool,
    /// This node read all of them from the origin, and hashed them meanwhile.
    pub fetched: bool,
    /// Each is there with its size. That alone says nothing: the engine's first write makes a file as long as it will be.
    pub whole: bool,
}

/// What the engine is to assume.
pub fn assume(evidence: Evidence) -> Assume {
    match evidence {
        // Also of a journal: hashing that was cut has entered only what it came to, and what it has not come to is here all the same.
        Evidence { unproven: true, .. } => Assume::Nothing,
        // The engine has had them since they were fetched: it may have written to them, and its journal knows what.
        Evidence { journal: true, .. } => Assume::Journal,
        Evidence { fetched: true, whole: true, .. } => Assume::Complete,
        Evidence { .. } => Assume::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_beats_the_journal_and_the_journal_beats_the_fetch() {
        use Assume::{Complete, Journal, Nothing};
        // In the order of unproven, journal, fetched, whole; 1 is true.
        let table = [
            ("0000", Nothing),
            ("0001", Nothing),
            ("0010", Nothing),
            ("0011", Complete),
            ("0100", Journal),
            ("0101", Journal),
            ("0110", Journal),
            ("0111", Journal),
            ("1000", Nothing),
            ("1001", Nothing),
            ("1010", Nothing),
            ("1011", Nothing),
            ("1100", Nothing),
            ("1101", Nothing),
            ("1110", Nothing),
            ("1111", Nothing),
        ];
        for (row, expected) in table {
            let fact = |at: usize| row.as_bytes()[at] == b'1';
            let evidence = Evidence { unproven: fact(0), journal: fact(1), fetched: fact(2), whole: fact(3) };
            assert_eq!(assume(evidence), expected, "{row}");
        }
    }
}
