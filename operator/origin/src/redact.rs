//! URLs as they may be shown: without user, password, query and fragment (signatures live there).

use url::Url;

/// The longest URL that is shown whole; messages in a status have 256 characters for everything.
const SHOWN: usize = 120;

/// `scheme://host:port/path`, with `?..` where a query was left out; at most about 120 characters.
///
/// What does not parse as a URL is not shown at all.
pub fn redact(url: &str) -> String {
    Url::parse(url).map_or_else(|_| "<not a URL>".to_owned(), |url| redacted(&url))
}

pub(crate) fn redacted(url: &Url) -> String {
    let mut shown = url.scheme().to_owned();
    shown.push_str("://");
    shown.push_str(url.host_str().unwrap_or_default());
    if let Some(port) = url.port() {
        shown.push(':');
        shown.push_str(&port.to_string());
    }
    shown.push_str(url.path());
    if shown.len() > SHOWN {
        let end = (0..=SHOWN).rev().find(|&at| shown.is_char_boundary(at)).unwrap_or(0);
        shown.truncate(end);
        shown.push_str("...");
    }
    if url.query().is_some() {
        shown.push_str("?..");
    }
    shown
}
