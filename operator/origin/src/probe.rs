//! What a URL stands for now.

use reqwest::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED, RANGE,
};
use reqwest::{Method, StatusCode};

use crate::client::{Answer, Origin, status_error};
use crate::error::OriginError;
use crate::read::content_range;

/// What an origin says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its length in bytes, if the origin tells.
    pub size: Option<u64>,
    /// Its ETag with the quotes, if it is a strong one (RFC 9110 section 8.8.3): a weak one does not vouch for bytes.
    pub etag: Option<String>,
    /// Its `Last-Modified`, as it stands in the answer.
    pub last_modified: Option<String>,
    /// Whether the origin says that it serves ranges.
    pub accepts_ranges: bool,
    /// Where the redirects ended. It may carry a signature in its query and stop to work: ask the URL you have again.
    pub final_url: String,
}

impl Origin {
    /// Asks with HEAD, and with GET for one byte where HEAD does not do (signed URLs are made for one method).
    pub async fn probe(&self, url: &str) -> Result<Probe, OriginError> {
        let head = self.send(Method::HEAD, url, HeaderMap::new()).await?;
        let size =
            header(head.response.headers(), CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok());
        match head.response.status() {
            StatusCode::OK if size.is_some() => Ok(probe(&head, size, false)),
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::TOO_MANY_REQUESTS => {
                Err(status_error(&head))
            }
            _ => self.probe_by_get(url).await,
        }
    }

    async fn probe_by_get(&self, url: &str) -> Result<Probe, OriginError> {
        let range = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-0"))]);
        let answer = self.send(Method::GET, url, range).await?;
        let headers = answer.response.headers();
        match answer.response.status() {
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                let size = header(headers, CONTENT_RANGE.as_str())
                    .and_then(content_range)
                    .and_then(|range| range.size);
                Ok(probe(&answer, size, true))
            }
            StatusCode::OK => {
                let size = header(headers, CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok());
                Ok(probe(&answer, size, false))
            }
            _ => Err(status_error(&answer)),
        }
    }
}

fn probe(answer: &Answer, size: Option<u64>, ranged: bool) -> Probe {
    let headers = answer.response.headers();
    let accepts =
        header(headers, ACCEPT_RANGES.as_str()).is_some_and(|value| value.eq_ignore_ascii_case("bytes"));
    Probe {
        size,
        etag: strong_etag(headers),
        last_modified: header(headers, LAST_MODIFIED.as_str()).map(str::to_owned),
        accepts_ranges: ranged || accepts,
        final_url: answer.url.to_string(),
    }
}

/// A header's value, if it is there once and printable.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok().map(str::trim)
}

/// The ETag, quotes and all, unless it is weak or not one at all.
pub(crate) fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let etag = header(headers, ETAG.as_str())?;
    let strong = etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"');
    strong.then(|| etag.to_owned())
}
