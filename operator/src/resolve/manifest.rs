//! The document behind `manifestURL`: `{"files": [{"path", "url", "sha256", "size"}]}`.

use operator_api::reason;
use serde::Deserialize;
use url::Url;

use super::{ResolveError, Wanted, default_path};

/// The largest document.
pub const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// The most files in it.
pub const MAX_FILES: usize = 1_000_000;

/// What paths and URLs may come to together, in bytes, once all URLs are whole: short paths under a long URL of the manifest grow to
/// many times the document.
const MAX_LISTING_BYTES: usize = 256 << 20;

#[derive(Deserialize)]
struct Document {
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    path: Option<String>,
    url: Option<String>,
    sha256: Option<String>,
    size: Option<u64>,
}

/// Reads the document that came from `url`.
pub fn parse(url: &str, document: &[u8]) -> Result<Vec<Wanted>, ResolveError> {
    let refuse = |what: String| {
        ResolveError::refused(
            reason::INVALID_MANIFEST,
            format!("the manifest {} {what}", origin::redact(url)),
        )
    };
    let base = Url::parse(url).map_err(|_| refuse("has no usable URL".to_owned()))?;
    let document: Document = serde_json::from_slice(document).map_err(|error| {
        refuse(format!("is not {{\"files\": [{{\"path\", \"url\", \"sha256\", \"size\"}}]}}: {error}"))
    })?;
    if document.files.is_empty() {
        return Err(refuse("names no files: add some".to_owned()));
    }
    if document.files.len() > MAX_FILES {
        return Err(refuse(format!("names {} files, more than {MAX_FILES}: split it", document.files.len())));
    }
    list(&base, document.files, MAX_LISTING_BYTES).map_err(refuse)
}

/// Every entry, as long as they stay below `limit` bytes.
fn list(base: &Url, entries: Vec<Entry>, limit: usize) -> Result<Vec<Wanted>, String> {
    let mut bytes = 0;
    let mut listed = Vec::with_capacity(entries.len());
    for (nth, entry) in entries.into_iter().enumerate() {
        let file = wanted(base, entry).map_err(|what| format!("entry {nth}: {what}"))?;
        bytes += file.path.len() + file.url.len();
        if bytes > limit {
            return Err(format!("has more than {limit} bytes of paths and URLs: shorten them, or split it"));
        }
        listed.push(file);
    }
    Ok(listed)
}

fn wanted(base: &Url, entry: Entry) -> Result<Wanted, String> {
    let url = match (&entry.url, &entry.path) {
        (Some(url), _) => base.join(url).map_err(|_| "url is not a URL".to_owned())?,
        (None, Some(path)) => beside(base, path).ok_or("it cannot lie beside the manifest")?,
        (None, None) => return Err("it has neither path nor url".to_owned()),
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err("url is neither http nor https".to_owned());
    }
    if entry.sha256.as_deref().is_some_and(|digest| !is_digest(digest)) {
        return Err("sha256 is not 64 lower-case hex digits".to_owned());
    }
    let path = match entry.path {
        Some(path) => path,
        None => default_path(url.as_str()).ok_or("it has no path, and its url no last segment")?,
    };
    Ok(Wanted { path, url: url.into(), sha256: entry.sha256, size: entry.size })
}

/// The URL of a path beside the manifest: each component is one segment, whatever characters it has.
fn beside(base: &Url, path: &str) -> Option<Url> {
    let mut url = base.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.path_segments_mut().ok()?.pop().extend(path.split('/'));
    Some(url)
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "https://h/sets/v1/manifest.json?token=secret";

    #[test]
    fn relative_urls_and_bare_paths_lie_beside_it() {
        let document = br#"{"version": 1, "files": [
            {"path": "a b/c#?.bin", "size": 3},
            {"url": "../shared/d.bin"},
            {"path": "e", "url": "http://other/x", "sha256": "0000000000000000000000000000000000000000000000000000000000000000", "size": 0}
        ]}"#;
        let files = parse(AT, document).unwrap();
        let brief: Vec<_> = files.iter().map(|f| (f.path.as_str(), f.url.as_str(), f.size)).collect();
        assert_eq!(
            brief,
            [
                ("a b/c#?.bin", "https://h/sets/v1/a%20b/c%23%3F.bin", Some(3)),
                ("d.bin", "https://h/sets/shared/d.bin", None),
                ("e", "http://other/x", Some(0)),
            ]
        );
    }

    #[test]
    fn a_long_url_of_the_manifest_does_not_multiply_for_ever() {
        let base = Url::parse(&format!("https://h/{}/m", "x".repeat(1000))).unwrap();
        let entry = || Entry { path: Some("a".into()), url: None, sha256: None, size: None };
        assert_eq!(list(&base, vec![entry(), entry()], 2100).map(|listed| listed.len()), Ok(2));
        let refusal = list(&base, vec![entry(), entry(), entry()], 2100).unwrap_err();
        assert!(refusal.contains("2100 bytes of paths and URLs"), "{refusal}");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_query() {
        for (document, what) in [
            (&b"[]"[..], "is not"),
            (br#"{"files": []}"#, "names no files"),
            (br#"{"files": [{"size": 1}]}"#, "entry 0: it has neither"),
            (br#"{"files": [{"url": "ftp://h/x"}]}"#, "neither http nor https"),
            (br#"{"files": [{"path": "a", "sha256": "ABC"}]}"#, "64 lower-case"),
            (br#"{"files": [{"path": "a", "size": -1}]}"#, "is not"),
            (b"deadbeef  file\n", "is not"),
        ] {
            let failure = parse(AT, document).unwrap_err().failure();
            assert_eq!(failure.reason, reason::INVALID_MANIFEST);
            assert!(failure.message.contains(what), "{}", failure.message);
            assert!(!failure.message.contains("secret"), "{}", failure.message);
        }
    }
}
