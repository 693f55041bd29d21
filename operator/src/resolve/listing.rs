//! The files that a source names, before anyone is asked about them.

use std::collections::BTreeSet;

use crds::HttpFile;
use operator_api::{GrantedFile, reason};
use torrent::{RelPath, check_paths};
use url::Url;

use super::ResolveError;

/// The most bytes of one revision: what fits into the API's numbers.
const MAX_BYTES: u64 = i64::MAX as u64;

/// One file as the user, or the manifest, names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where it goes.
    pub path: String,
    /// Where it comes from.
    pub url: String,
    /// Declared SHA-256 (hex).
    pub sha256: Option<String>,
    /// Declared length.
    pub size: Option<u64>,
}

/// The files of `source.http.files`.
pub fn inline(files: &[HttpFile]) -> Result<Vec<Wanted>, ResolveError> {
    if files.is_empty() {
        return Err(ResolveError::refused(
            "InvalidSpec",
            "http has neither files nor manifestURL: set one of them",
        ));
    }
    files.iter().map(wanted).collect()
}

fn wanted(file: &HttpFile) -> Result<Wanted, ResolveError> {
    let path = match &file.path {
        Some(path) => path.clone(),
        None => default_path(&file.url).ok_or_else(|| {
            let url = origin::redact(&file.url);
            ResolveError::refused(
                reason::INVALID_PATH,
                format!("{url} has no last segment to take a path from: set path"),
            )
        })?,
    };
    let size = file.size.map(u64::try_from).transpose().map_err(|_| {
        ResolveError::refused("InvalidSpec", format!("{path:?} has a negative size: correct it"))
    })?;
    Ok(Wanted { path, url: file.url.clone(), sha256: file.sha256.clone(), size })
}

/// The last segment of the URL's path, percent-decoded; none if it is empty or no UTF-8.
pub fn default_path(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let segment = url.path_segments()?.next_back()?;
    let decoded = decode_percent(segment)?;
    (!decoded.is_empty()).then_some(decoded)
}

fn decode_percent(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped =
            (first == b'%').then(|| tail.get(..2)).flatten().and_then(|digits| hex::decode(digits).ok());
        if let Some(byte) = escaped {
            bytes.extend(byte);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Refuses paths that cannot stand on disk, alone or beside each other (T9-T14).
pub fn check(wanted: &[Wanted]) -> Result<(), ResolveError> {
    let refuse = |message: String| ResolveError::refused(reason::INVALID_PATH, message);
    let mut paths = Vec::with_capacity(wanted.len());
    let mut seen = BTreeSet::new();
    for file in wanted {
        let path = RelPath::parse(&file.path).map_err(|error| {
            refuse(format!("path {:?} is refused: {error}; give the file another path", file.path))
        })?;
        if !seen.insert(file.path.as_str()) {
            return Err(refuse(format!("path {:?} is there twice: set path for one of them", file.path)));
        }
        paths.push(path);
    }
    check_paths(&paths).map_err(|conflict| refuse(format!("{conflict}; give one of them another path")))
}

/// Payload bytes of all files.
pub fn total(files: &[GrantedFile]) -> Result<u64, ResolveError> {
    let total = files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.size));
    total.filter(|total| *total <= MAX_BYTES).ok_or_else(|| {
        ResolveError::refused(
            reason::INVALID_MANIFEST,
            "the sizes add up to more than 2^63 bytes: correct them",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_comes_from_the_last_segment() {
        for (url, path) in [
            ("http://h/a/b.bin", Some("b.bin")),
            ("http://h/a/b%20c.bin?x=y#z", Some("b c.bin")),
            ("http://h/%C3%A4", Some("ä")),
            ("http://h/%ff", None),
            ("http://h/a/", None),
            ("http://h", None),
            ("http://h/100%", Some("100%")),
            ("http://h/a%2fb", Some("a/b")),
            ("not a url", None),
        ] {
            assert_eq!(default_path(url).as_deref(), path, "{url}");
        }
    }

    fn named(path: &str) -> Wanted {
        Wanted { path: path.into(), url: "http://h/x".into(), sha256: None, size: None }
    }

    #[test]
    fn paths_that_cannot_stand_are_named() {
        for paths in [&["../x"][..], &["/etc"], &["a", "a"], &["a", "a/b"], &["A", "a"], &["a//b"], &[""]] {
            let wanted: Vec<Wanted> = paths.iter().map(|path| named(path)).collect();
            let failure = check(&wanted).unwrap_err().failure();
            assert_eq!(failure.reason, reason::INVALID_PATH, "{paths:?}");
            assert!(paths.iter().any(|path| failure.message.contains(path)), "{}", failure.message);
        }
        check(&[named("a/b"), named("a/ö c"), named("...")]).unwrap();
    }

    #[test]
    fn a_file_without_a_usable_segment_asks_for_a_path() {
        let file = HttpFile { url: "http://h/?sig=secret".into(), path: None, sha256: None, size: None };
        let failure = inline(&[file]).unwrap_err().failure();
        assert_eq!(failure.reason, reason::INVALID_PATH);
        assert!(!failure.message.contains("secret"), "{}", failure.message);
    }
}
