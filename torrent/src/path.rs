//! The one path type. A path is accepted as it is or refused; nothing is ever repaired.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

/// Longest component in bytes: what Linux file systems take.
pub const MAX_COMPONENT_BYTES: usize = 255;

/// Most components of a path: as many as a v2 file tree can hold within the nesting that stock clients read
/// ([`crate::bencode::MAX_DEPTH`]), less some room.
pub const MAX_COMPONENTS: usize = 90;

/// Longest path in bytes: `PATH_MAX` of Linux (4,096) less 256 for the folder that it lies in.
pub const MAX_PATH_BYTES: usize = 3_840;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path, or a component of it, is empty (an absolute path starts with an empty component).
    #[error("an empty component; paths are relative, without a slash at either end")]
    Empty,
    /// A component is `.` or `..`.
    #[error("a component `.` or `..`")]
    Dots,
    /// A component holds a slash.
    #[error("a slash inside a component")]
    Slash,
    /// A component holds NUL, a control character, or a character that turns the direction of the text after it.
    #[error("a control character")]
    Control,
    /// A component is not UTF-8.
    #[error("not valid UTF-8")]
    NotUtf8,
    /// A component is longer than [`MAX_COMPONENT_BYTES`].
    #[error("a component of more than {MAX_COMPONENT_BYTES} bytes")]
    ComponentTooLong,
    /// The path has more than [`MAX_COMPONENTS`] or is longer than [`MAX_PATH_BYTES`].
    #[error("more than {MAX_COMPONENTS} components or {MAX_PATH_BYTES} bytes")]
    TooLong,
}

/// A relative path of a payload file: `/` between components, each of them safe to create on a Linux file system.
///
/// Refused are absolute paths, `.`, `..`, empty components, `/` inside one, NUL and other control characters, bidirectional
/// overrides, invalid UTF-8, and more bytes or levels than a file system takes. `...`, `..foo` and `foo... bar` are fine.
/// Ordered by the raw bytes of the components, one after the other: the order of a v2 file tree (BEP 52).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelPath(Box<str>);

impl RelPath {
    /// From text with `/` between the components.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        if path.len() > MAX_PATH_BYTES || path.split('/').count() > MAX_COMPONENTS {
            return Err(PathError::TooLong);
        }
        path.split('/').try_for_each(check_component)?;
        Ok(Self(path.into()))
    }

    /// From single components, as metainfo has them: bytes that may hold anything.
    pub fn from_components<'a>(components: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, PathError> {
        let mut path = String::new();
        for (index, component) in components.into_iter().enumerate() {
            if index >= MAX_COMPONENTS || path.len() + component.len() >= MAX_PATH_BYTES {
                return Err(PathError::TooLong);
            }
            let component = std::str::from_utf8(component).map_err(|_| PathError::NotUtf8)?;
            check_component(component)?;
            if index > 0 {
                path.push('/');
            }
            path.push_str(component);
        }
        if path.is_empty() { Err(PathError::Empty) } else { Ok(Self(path.into())) }
    }

    /// The path with `/` between the components.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components, at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.0.split('/')
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

fn check_component(component: &str) -> Result<(), PathError> {
    match component {
        "" => return Err(PathError::Empty),
        "." | ".." => return Err(PathError::Dots),
        _ if component.len() > MAX_COMPONENT_BYTES => return Err(PathError::ComponentTooLong),
        _ => {}
    }
    if component.contains('/') {
        return Err(PathError::Slash);
    }
    if component.chars().any(is_deceptive) { Err(PathError::Control) } else { Ok(()) }
}

/// Control characters, and those that make a name read as another one (embeddings, overrides and isolates of UAX 9).
fn is_deceptive(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By components: the same as by bytes, if the separator sorts before every byte that a component can hold.
fn compare(a: &str, b: &str) -> Ordering {
    let key = |byte: u8| if byte == b'/' { 0 } else { byte };
    a.bytes().map(key).cmp(b.bytes().map(key))
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for RelPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<std::path::Path> for RelPath {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(self.as_str())
    }
}

impl std::str::FromStr for RelPath {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        Self::parse(path)
    }
}

impl TryFrom<String> for RelPath {
    type Error = PathError;

    fn try_from(path: String) -> Result<Self, PathError> {
        Self::parse(&path)
    }
}

impl From<RelPath> for String {
    fn from(path: RelPath) -> Self {
        path.0.into()
    }
}

/// Two paths that cannot lie in one folder on every file system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathConflict {
    /// The same path twice, or two that differ only by case or by Unicode normalisation.
    #[error("{first:?} and {second:?} are the same name where case or Unicode normalisation does not count")]
    Twins {
        /// One of them.
        first: RelPath,
        /// The other.
        second: RelPath,
    },
    /// A file where another path needs a directory.
    #[error("{file:?} is a file, and a directory in {inside:?}")]
    FileAndDirectory {
        /// The file.
        file: RelPath,
        /// The path that runs through it.
        inside: RelPath,
    },
}

/// Checks the paths of one torrent or manifest against each other: no twins (also after NFC and case folding), no file in
/// the place of a directory.
pub fn check_paths<'a>(paths: impl IntoIterator<Item = &'a RelPath>) -> Result<(), PathConflict> {
    let mut folded: Vec<(Cow<'_, str>, &RelPath)> =
        paths.into_iter().map(|path| (fold(path.as_str()), path)).collect();
    folded.sort_unstable_by(|(a, _), (b, _)| compare(a, b));
    // In this order a path is followed at once by what equals it and by what lies below it.
    for pair in folded.windows(2) {
        let [(above, first), (below, second)] = pair else { continue };
        if above == below {
            return Err(PathConflict::Twins { first: (*first).clone(), second: (*second).clone() });
        }
        if below.strip_prefix(&**above).is_some_and(|rest| rest.starts_with('/')) {
            return Err(PathConflict::FileAndDirectory { file: (*first).clone(), inside: (*second).clone() });
        }
    }
    Ok(())
}

/// What two paths have in common when a file system takes them for one: upper, then lower case stands for case folding (it
/// makes `ß` and `ss` one, as the full folding does), then NFC.
fn fold(path: &str) -> Cow<'_, str> {
    if path.is_ascii() {
        let lower = path.bytes().all(|byte| !byte.is_ascii_uppercase());
        return if lower { path.into() } else { path.to_ascii_lowercase().into() };
    }
    path.nfd().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(paths: &[&str]) -> Result<(), PathConflict> {
        let paths: Vec<RelPath> = paths.iter().map(|path| RelPath::parse(path).unwrap()).collect();
        check_paths(&paths)
    }

    #[test]
    fn t009_parent_component_is_rejected() {
        for (path, error) in [
            ("..", PathError::Dots),
            ("a/../b", PathError::Dots),
            ("./a", PathError::Dots),
            ("", PathError::Empty),
            ("/etc/passwd", PathError::Empty),
            ("a//b", PathError::Empty),
            ("a/", PathError::Empty),
            ("a\0b", PathError::Control),
        ] {
            assert_eq!(RelPath::parse(path), Err(error), "{path:?}");
        }
        assert_eq!(RelPath::from_components([&b"a/b"[..]]), Err(PathError::Slash));
        assert_eq!(RelPath::from_components([&b"a"[..], b".."]), Err(PathError::Dots));
        assert_eq!(RelPath::from_components([]), Err(PathError::Empty));
        assert_eq!(RelPath::from_components([&b""[..]]), Err(PathError::Empty));
    }

    #[test]
    fn t010_names_that_look_odd_are_accepted() {
        let long = "ä".repeat(127) + "x";
        assert_eq!(long.len(), 255);
        for path in ["foo... bar", "..foo", "...", "a b/ü.txt", "back\\slash", "-rf", long.as_str()] {
            assert_eq!(RelPath::parse(path).unwrap().as_str(), path);
        }
    }

    #[test]
    fn t011_what_no_file_system_or_terminal_takes_is_rejected() {
        assert_eq!(RelPath::parse(&"x".repeat(256)), Err(PathError::ComponentTooLong));
        assert_eq!(RelPath::parse(&vec!["d"; 10_000].join("/")), Err(PathError::TooLong));
        assert_eq!(RelPath::parse(&vec!["d"; 91].join("/")), Err(PathError::TooLong));
        assert!(RelPath::parse(&vec!["d"; 90].join("/")).is_ok());
        assert_eq!(RelPath::from_components(std::iter::repeat_n(&b"d"[..], 10_000)), Err(PathError::TooLong));
        assert_eq!(RelPath::parse(&vec!["x".repeat(255); 16].join("/")), Err(PathError::TooLong));
        for text in ["a\nb", "a\u{7f}", "a\u{85}", "gpj.\u{202e}exe", "\u{2066}a"] {
            assert_eq!(RelPath::parse(text), Err(PathError::Control), "{text:?}");
        }
        assert_eq!(RelPath::from_components([&b"\xff\xfe"[..]]), Err(PathError::NotUtf8));
    }

    #[test]
    fn t012_twins_and_files_in_place_of_directories_are_rejected() {
        for twins in [["a", "a"], ["A/x", "a/X"], ["\u{e9}", "e\u{301}"], ["Straße", "STRASSE"], ["Σς", "σσ"]]
        {
            assert!(matches!(conflict(&twins), Err(PathConflict::Twins { .. })), "{twins:?}");
        }
        for pair in [["a", "a/b"], ["a/b/c", "a/B"], ["x/y/z", "x"]] {
            assert!(matches!(conflict(&pair), Err(PathConflict::FileAndDirectory { .. })), "{pair:?}");
        }
        assert_eq!(conflict(&["a", "a.b", "a b/c", "ab", "b/a"]), Ok(()));
        assert_eq!(conflict(&["a", "a!", "a-b/c", "b/a", "B/c"]), Ok(()));
    }

    #[test]
    fn order_is_that_of_the_components() {
        let mut paths: Vec<RelPath> =
            ["a.b", "a/c", "a", "a-", "ä", "Z"].iter().map(|path| RelPath::parse(path).unwrap()).collect();
        paths.sort();
        let sorted: Vec<&str> = paths.iter().map(RelPath::as_str).collect();
        assert_eq!(sorted, ["Z", "a", "a/c", "a-", "a.b", "ä"]);
    }
}
