//! The content manifest: what a revision holds, whatever the torrents look like that carry it.
//!
//! Canonical JSON (RFC 8785), entries ascending by path ([`RelPath`]'s order):
//!
//! ```json
//! {"entries":[{"path":"a.txt","sha256":"<hex>","size":3}],"version":1}
//! ```
//!
//! An entry is a regular file. The SHA-256 of these bytes is the identity of the revision: it does not depend on piece length
//! or torrent version. There is one form only: a reader refuses what it would have written differently, so a digest can never
//! have two meanings.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::path::{PathConflict, RelPath, check_paths};

/// The format that is written and read.
const VERSION: u32 = 1;

/// Largest size of a file: what every JSON reader can tell apart (2^53 - 1, RFC 8785).
pub const MAX_FILE_SIZE: u64 = (1 << 53) - 1;

/// Largest manifest that is read from our own store: 128 MiB, as metainfo ([`crate::Limits::OWN`]).
pub const MAX_BYTES: usize = 128 << 20;

/// Why a manifest cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than the limit.
    #[error("{bytes} bytes are more than the limit of {limit}")]
    TooLarge {
        /// Length of the input.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not JSON of the right shape, with acceptable paths and digests.
    #[error("not a content manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// A version that is not known.
    #[error("content manifest of version {0}, this program reads {VERSION}")]
    Version(u32),
    /// Two paths do not fit together.
    #[error(transparent)]
    Conflict(#[from] PathConflict),
    /// A file of more than [`MAX_FILE_SIZE`].
    #[error("{0:?} has more than 2^53 bytes")]
    FileTooLarge(RelPath),
    /// No entries.
    #[error("a content manifest without files")]
    Empty,
    /// Right, but not written as canonical JSON or not in order.
    #[error("the content manifest is not in its canonical form")]
    NotCanonical,
}

/// A file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where the file lies in the dataset.
    pub path: RelPath,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

/// The files of a revision, ascending by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}

// Fields in the order of their names, as RFC 8785 sorts them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    #[serde(borrow)]
    entries: Vec<Row<'a>>,
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow)]
    sha256: Cow<'a, str>,
    size: u64,
}

impl Manifest {
    /// Of these files, in any order.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, ManifestError> {
        if entries.is_empty() {
            return Err(ManifestError::Empty);
        }
        if let Some(entry) = entries.iter().find(|entry| entry.size > MAX_FILE_SIZE) {
            return Err(ManifestError::FileTooLarge(entry.path.clone()));
        }
        check_paths(entries.iter().map(|entry| &entry.path))?;
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { entries })
    }

    /// Reads a manifest of at most `max_bytes`; [`MAX_BYTES`] for our own store.
    pub fn parse(bytes: &[u8], max_bytes: usize) -> Result<Self, ManifestError> {
        if bytes.len() > max_bytes {
            return Err(ManifestError::TooLarge { bytes: bytes.len(), limit: max_bytes });
        }
        let document: Document<'_> = serde_json::from_slice(bytes)?;
        if document.version != VERSION {
            return Err(ManifestError::Version(document.version));
        }
        let entries = document.entries.iter().map(entry).collect::<Result<_, _>>()?;
        let manifest = Self::new(entries)?;
        if manifest.to_bytes() == bytes { Ok(manifest) } else { Err(ManifestError::NotCanonical) }
    }

    /// The files, ascending by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Bytes of all files.
    pub fn total_size(&self) -> u64 {
        self.entries.iter().map(|entry| entry.size).sum()
    }

    /// The canonical form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let entries = self.entries.iter().map(|entry| Row {
            path: entry.path.as_str().into(),
            sha256: hex::encode(entry.sha256).into(),
            size: entry.size,
        });
        let document = Document { entries: entries.collect(), version: VERSION };
        serde_json::to_vec(&document).expect("strings and numbers always make JSON")
    }

    /// SHA-256 of the canonical form: the identity of the revision.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }
}

fn entry(row: &Row<'_>) -> Result<Entry, serde_json::Error> {
    let invalid = |error: &dyn std::fmt::Display| {
        <serde_json::Error as serde::de::Error>::custom(format_args!("{:?}: {error}", row.path))
    };
    let path = RelPath::parse(&row.path).map_err(|error| invalid(&error))?;
    let mut sha256 = [0; 32];
    hex::decode_to_slice(row.sha256.as_bytes(), &mut sha256).map_err(|error| invalid(&error))?;
    Ok(Entry { path, size: row.size, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let entry = |path: &str, content: &[u8]| Entry {
            path: RelPath::parse(path).unwrap(),
            size: content.len() as u64,
            sha256: Sha256::digest(content).into(),
        };
        Manifest::new(vec![entry("sub/ü \"q\".bin", b"\0\x01"), entry("empty", b""), entry("a.txt", b"abc")])
            .unwrap()
    }

    /// Frozen: a change here changes the identity of everything ever published.
    #[test]
    fn vector() {
        let expected = concat!(
            r#"{"entries":[{"path":"a.txt","sha256":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","size":3},"#,
            r#"{"path":"empty","sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0},"#,
            r#"{"path":"sub/ü \"q\".bin","sha256":"b413f47d13ee2fe6c845b2ee141af81de858df4ec549a58b7970bb96645bc8d2","size":2}],"version":1}"#
        );
        assert_eq!(String::from_utf8(sample().to_bytes()).unwrap(), expected);
        assert_eq!(
            hex::encode(sample().digest()),
            "9f028377e0316842839dcccccc95539b6770b05fc7d8b2ad2decf2f1a07a38cc"
        );
    }

    #[test]
    fn only_the_canonical_form_is_read() {
        let bytes = sample().to_bytes();
        assert_eq!(Manifest::parse(&bytes, MAX_BYTES).unwrap(), sample());
        let text = String::from_utf8(bytes.clone()).unwrap();
        let first = text.find(r#"{"path":"empty""#).unwrap();
        let second = text.find(r#"{"path":"sub"#).unwrap();
        let swapped = format!(
            "{{\"entries\":[{},{}{}",
            text[first..second].trim_end_matches(','),
            &text[12..first],
            &text[second..]
        );
        for (what, text) in [
            ("space", text.replace("\":", "\": ")),
            ("upper case", text.replace("ba7816bf", "BA7816BF")),
            ("escape", text.replace('ü', "\\u00fc")),
            ("order", swapped),
            ("field", text.replace(",\"version\"", ",\"more\":1,\"version\"")),
            ("twice", text.replace("\"size\":3", "\"size\":3,\"size\":3")),
            ("version", text.replace("\"version\":1", "\"version\":2")),
            ("path", text.replace("a.txt", "../x")),
            ("absolute", text.replace("a.txt", "/x")),
            ("twin", text.replace("a.txt", "EMPTY")),
            ("digest", text.replace("ba7816bf", "ba7816b")),
            ("negative", text.replace("\"size\":3", "\"size\":-3")),
            ("float", text.replace("\"size\":3", "\"size\":3.0")),
            ("wide", text.replace("\"size\":3", "\"size\":9007199254740992")),
            ("trailing", format!("{text}\n")),
            ("nothing", r#"{"entries":[],"version":1}"#.to_owned()),
        ] {
            assert!(Manifest::parse(text.as_bytes(), MAX_BYTES).is_err(), "{what}");
        }
        assert!(matches!(Manifest::parse(&bytes, bytes.len() - 1), Err(ManifestError::TooLarge { .. })));
    }

    #[test]
    fn one_byte_flips_never_panic_nor_pass() {
        let bytes = sample().to_bytes();
        for at in 0..bytes.len() {
            for flip in [1, 0x20, 0x80] {
                let mut bent = bytes.clone();
                bent[at] ^= flip;
                if let Ok(read) = Manifest::parse(&bent, MAX_BYTES) {
                    assert_eq!(read.to_bytes(), bent);
                }
            }
        }
    }
}
