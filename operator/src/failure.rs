//! Why something does not get on, in the words of a condition.

use operator_api::reason;

/// The longest message that is kept, in bytes: what fits into a condition beside the others.
const LONGEST_MESSAGE: usize = 256;
/// The most nodes that are accused: there are no more fetchers at a time.
const MAX_ACCUSED: usize = 8;
/// The longest name of a node (RFC 1123).
const LONGEST_NODE: usize = 253;

/// A reason and a message, as conditions carry them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// CamelCase.
    pub reason: String,
    /// What failed, on what, and what to do; without secrets.
    pub message: String,
    /// Nodes that have signed what is wrong: others read next, where there are any.
    pub accused: Vec<String>,
}

impl Failure {
    /// A failure with its message cut to what a condition holds.
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: cut(&message.into(), LONGEST_MESSAGE),
            accused: Vec::new(),
        }
    }

    /// The same, with the nodes that have signed what is wrong.
    #[must_use]
    pub fn accusing(self, accused: Vec<String>) -> Self {
        let accused = accused.into_iter().filter(|node| node.len() <= LONGEST_NODE).take(MAX_ACCUSED);
        Self { accused: accused.collect(), ..self }
    }

    /// Whether another node may well succeed where this one failed.
    pub fn is_of_the_node(&self) -> bool {
        matches!(
            self.reason.as_str(),
            reason::DISK_FULL
                | reason::QUOTA_EXCEEDED
                | reason::DISK_ERROR
                | reason::PATH_OCCUPIED
                | reason::ROOT_MISMATCH
        )
    }

    /// Whether the way from a node to the origin may be at fault, so that another node may fare better.
    pub fn is_of_the_way(&self) -> bool {
        self.reason == reason::ORIGIN_UNAVAILABLE
    }

    /// Whether what was read is wrong, wherever it lies by now.
    pub fn is_of_the_bytes(&self) -> bool {
        matches!(
            self.reason.as_str(),
            reason::DIGEST_MISMATCH | reason::SOURCE_CHANGED | reason::FETCHER_FAULTY
        )
    }

    /// Whether the source has to be resolved again before the next try.
    pub fn asks_for_resolving(&self) -> bool {
        matches!(
            self.reason.as_str(),
            reason::SOURCE_CHANGED
                | reason::ORIGIN_NOT_FOUND
                | reason::ORIGIN_LENGTH_MISMATCH
                | reason::DIGEST_MISMATCH
                | reason::FETCHER_FAULTY
        )
    }
}

/// A text of at most `limit` bytes, with an ellipsis where it was cut; control characters become spaces.
pub fn cut(text: &str, limit: usize) -> String {
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.len() > limit {
        let end = (0..=limit - 3).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_at_a_character() {
        assert_eq!(cut("short\n", 10), "short ");
        let long = cut(&"ä".repeat(200), 256);
        assert!(long.len() <= 256 && long.ends_with('…'), "{long}");
    }
}
