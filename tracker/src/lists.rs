//! Lists of torrents: which are served though nobody registered them, and which never are. Pure.

use std::collections::HashSet;

use torrent::WireId;

use crate::limits::MAX_LISTED;
use crate::registry::wire_id;

/// What is served beside and before what the registry says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Served though nobody registered them.
    pub allowed: HashSet<WireId>,
    /// Never served, whoever registered them.
    pub denied: HashSet<WireId>,
}

/// What is wrong with a line. It is not repeated: another file than meant may have secrets in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Neither a comment nor an infohash.
    #[error("not an infohash: 40 hexadecimal digits for v1, 64 for v2")]
    Infohash,
    /// One too many.
    #[error("a list may have {MAX_LISTED} infohashes, this is one more")]
    TooMany,
}

/// Reads a list: an infohash in a line, of 40 or 64 hexadecimal digits; what stands behind a `#` is a comment.
///
/// # Errors
/// The number of the first line that is wrong, from 1, and what is wrong with it.
pub fn parse(list: &[u8]) -> Result<HashSet<WireId>, (usize, LineError)> {
    let mut names = HashSet::new();
    for (nth, line) in list.split(|&byte| byte == b'\n').enumerate() {
        let line = line.split(|&byte| byte == b'#').next().unwrap_or_default().trim_ascii();
        if line.is_empty() {
            continue;
        }
        let name = str::from_utf8(line).ok().and_then(|hex| wire_id(hex).ok());
        names.insert(name.ok_or((nth + 1, LineError::Infohash))?);
        if names.len() > MAX_LISTED {
            return Err((nth + 1, LineError::TooMany));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn infohashes_of_both_kinds_are_read_and_comments_are_not() {
        let (v1, v2) = ("0123456789abcdefABCD0123456789abcdef0123", "fe".repeat(32));
        let list = format!("# ours\n\n  {v1}\t# a comment\r\n{v2}\n{v1}\n#{}", "zz");
        let wanted = [wire_id(v1).unwrap(), WireId([0xfe; 20])];
        assert_eq!(parse(list.as_bytes()), Ok(wanted.into()));
        assert_eq!(parse(b""), Ok(HashSet::new()));
    }

    #[test]
    fn what_is_no_infohash_is_named_by_its_line_and_not_repeated() {
        for wrong in ["xyz", &"1".repeat(39), &"1".repeat(41), &"g".repeat(40), &"11 ".repeat(20)] {
            let list = format!("{}\n\n{wrong}\n", "11".repeat(20));
            let (line, error) = parse(list.as_bytes()).unwrap_err();
            assert_eq!((line, error), (3, LineError::Infohash), "{wrong}");
            assert!(!error.to_string().contains(wrong));
        }
        assert_eq!(parse(b"\xff\xfe\n").unwrap_err().0, 1);
    }

    #[test]
    fn a_list_has_an_end() {
        let line = |nth: usize| format!("{nth:040x}\n");
        let mut list: String = (0..MAX_LISTED).map(line).collect();
        assert_eq!(parse(list.as_bytes()).unwrap().len(), MAX_LISTED);
        list.push_str(&line(0));
        assert_eq!(parse(list.as_bytes()).unwrap().len(), MAX_LISTED, "one that is there already");
        list.push_str(&line(MAX_LISTED));
        assert_eq!(parse(list.as_bytes()), Err((MAX_LISTED + 2, LineError::TooMany)));
    }

    proptest! {
        #[test]
        fn no_list_panics(list in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(parse(&list));
        }
    }
}
