//! The bytes of a file, held against what was resolved.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use operator_api::GrantedFile;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use crate::client::{Answer, Origin, Timeouts, status_error, unreachable};
use crate::error::OriginError;
use crate::pace::Pace;
use crate::probe::{header, strong_etag};
use crate::redact::redacted;

/// An answer that brings less than this in [`Timeouts::slow`](crate::Timeouts::slow) of waiting has stalled.
const SLOW_BYTES: u64 = 64 * 1024;

/// What a file was when it was resolved; a read of anything else fails with [`OriginError::Changed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validator {
    /// Its length in bytes.
    pub size: u64,
    /// Its strong ETag, quotes and all. Where there is one it decides alone.
    pub etag: Option<String>,
    /// Its `Last-Modified`, the validator where there is no ETag.
    pub last_modified: Option<String>,
}

impl Validator {
    /// Whether it tells one version from another of the same length.
    pub fn is_telling(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }
}

impl From<&GrantedFile> for Validator {
    fn from(file: &GrantedFile) -> Self {
        Self { size: file.size, etag: file.etag.clone(), last_modified: file.last_modified.clone() }
    }
}

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRange {
    /// The first byte wanted. Above 0 it is asked for with `Range` and `If-Range`.
    pub from: u64,
    /// Behind the last byte wanted; `None`: all to the end, which is asked for without a `Range` if it is the whole file.
    pub until: Option<u64>,
    /// What the file must be.
    pub validator: Validator,
}

impl Origin {
    /// Reads a document of at most `cap` bytes into memory.
    pub async fn get_small(&self, url: &str, cap: u64) -> Result<Bytes, OriginError> {
        let answer = self.send(Method::GET, url, HeaderMap::new()).await?;
        if answer.response.status() != StatusCode::OK {
            return Err(status_error(&answer));
        }
        self.collect(answer, cap).await
    }

    /// All of an answer, at most `cap` bytes.
    pub(crate) async fn collect(&self, answer: Answer, cap: u64) -> Result<Bytes, OriginError> {
        let said = said_length(&answer.response);
        let too_large = || OriginError::TooLarge { url: redacted(&answer.url), cap };
        if said.is_some_and(|said| said > cap) {
            return Err(too_large());
        }
        let mut flow = Flow::new(answer.url.clone(), answer.response, self.timeouts);
        let mut whole = BytesMut::new();
        while let Some(chunk) = flow.chunk().await? {
            if whole.len() as u64 + chunk.len() as u64 > cap {
                return Err(too_large());
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// Opens a file of a grant, wherever its bytes are.
    pub async fn read_granted(&self, file: &GrantedFile, range: ReadRange) -> Result<Body, OriginError> {
        match &file.text {
            Some(text) => Ok(self.given(text, &range)),
            None => self.read(&file.url, range).await,
        }
    }

    /// The bytes that came with the grant, in the form of an answer.
    fn given(&self, text: &str, range: &ReadRange) -> Body {
        let size = text.len() as u64;
        let until = range.until.unwrap_or(size).min(size);
        let from = range.from.min(until);
        let part = Bytes::copy_from_slice(&text.as_bytes()[from as usize..until as usize]);
        let url = Url::parse("about:grant").expect("it is a URL");
        let flow = Flow::new(url, Response::from(http::Response::new(part)), self.timeouts);
        let seen = Validator { size, etag: None, last_modified: None };
        Body { flow, position: from, read: from..until, seen, pace: self.pace.clone() }
    }

    /// Opens a file for reading. See [`Body::start`]: an origin that knows no ranges starts at 0 again.
    pub async fn read(&self, url: &str, range: ReadRange) -> Result<Body, OriginError> {
        let ReadRange { from, until, validator } = range;
        let size = validator.size;
        let part = (from > 0 || until.is_some_and(|until| until < size))
            .then(|| from..until.unwrap_or(size).min(size));
        let answer = self.send(Method::GET, url, conditions(part.as_ref(), &validator)).await?;
        let read = match (answer.response.status(), part) {
            (StatusCode::OK, _) => check_whole(&answer, &validator)?,
            (StatusCode::PARTIAL_CONTENT, Some(part)) => check_part(&answer, part, &validator)?,
            (StatusCode::PRECONDITION_FAILED, _) => {
                return Err(changed(&answer.url, "the validator does not match any more".to_owned()));
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, _) => {
                return Err(unsatisfiable(&answer, from, validator.size));
            }
            _ => return Err(status_error(&answer)),
        };
        let Answer { url, response } = answer;
        let headers = response.headers();
        let seen = Validator {
            size: validator.size,
            etag: strong_etag(headers),
            last_modified: header(headers, LAST_MODIFIED.as_str()).map(str::to_owned),
        };
        let flow = Flow::new(url, response, self.timeouts);
        Ok(Body { flow, position: read.start, read, seen, pace: self.pace.clone() })
    }
}

/// An open file.
#[derive(Debug)]
pub struct Body {
    flow: Flow,
    read: Range<u64>,
    position: u64,
    seen: Validator,
    pace: Arc<Pace>,
}

impl Body {
    /// What the origin says that it sends: for a file that was resolved without a validator, the one to hold later reads against.
    pub fn validator(&self) -> &Validator {
        &self.seen
    }

    /// The position of the first byte that comes: what was asked for, or 0 if the origin ignores ranges. Then the bytes are
    /// still those of the same version, but the reader starts over.
    pub fn start(&self) -> u64 {
        self.read.start
    }

    /// Behind the last byte that comes: what was asked for, or the size of the file if the origin ignores ranges.
    pub fn end(&self) -> u64 {
        self.read.end
    }

    /// The next bytes; `None` after exactly as many as were asked for.
    ///
    /// [`OriginError::Length`] if there are more or fewer, [`OriginError::Unreachable`] if the connection breaks (go on
    /// from where you are), [`OriginError::Stalled`] if hardly anything comes. Waiting for the caller does not count.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, OriginError> {
        let chunk = self.flow.chunk().await?;
        let got = self.position + chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        let expected = self.read.end;
        if got > expected || (chunk.is_none() && got < expected) {
            return Err(OriginError::Length { url: redacted(&self.flow.url), expected, got });
        }
        self.position = got;
        self.pace.pass(chunk.as_ref().map_or(0, Bytes::len)).await;
        Ok(chunk)
    }
}

/// A response that must keep moving.
#[derive(Debug)]
struct Flow {
    url: Url,
    response: Response,
    timeouts: Timeouts,
    waited: Duration,
    brought: u64,
}

impl Flow {
    fn new(url: Url, response: Response, timeouts: Timeouts) -> Self {
        Self { url, response, timeouts, waited: Duration::ZERO, brought: 0 }
    }

    /// The clock runs only in here (reqwest's own `read_timeout` would also count a reader that waits for its disk).
    async fn chunk(&mut self) -> Result<Option<Bytes>, OriginError> {
        let asked = Instant::now();
        let patience = self.timeouts.idle.min(self.timeouts.slow.saturating_sub(self.waited));
        let Ok(chunk) = tokio::time::timeout(patience, self.response.chunk()).await else {
            return Err(self.stalled(asked.elapsed()));
        };
        let chunk = chunk.map_err(|error| unreachable(&self.url, &error))?;
        self.waited += asked.elapsed();
        self.brought += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if self.brought >= SLOW_BYTES {
            (self.waited, self.brought) = (Duration::ZERO, 0);
        }
        Ok(chunk)
    }

    fn stalled(&self, last: Duration) -> OriginError {
        let seconds = (self.waited + last).as_secs();
        OriginError::Stalled { url: redacted(&self.url), bytes: self.brought, seconds }
    }
}

/// The headers that make the origin say so itself if the file has changed (RFC 9110 section 13).
fn conditions(part: Option<&Range<u64>>, validator: &Validator) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    let (etag, modified) = (validator.etag.as_deref(), validator.last_modified.as_deref());
    if let Some(part) = part {
        set(RANGE, &format!("bytes={}-{}", part.start, part.end.saturating_sub(1)));
        if let Some(value) = etag.or(modified) {
            set(IF_RANGE, value);
        }
    } else if let Some(etag) = etag {
        set(IF_MATCH, etag);
    } else if let Some(modified) = modified {
        set(IF_UNMODIFIED_SINCE, modified);
    }
    headers
}

/// 200: the whole file, of the version that was resolved.
fn check_whole(answer: &Answer, validator: &Validator) -> Result<Range<u64>, OriginError> {
    check_validator(answer, validator, false)?;
    match said_length(&answer.response) {
        Some(said) if said != validator.size => {
            Err(changed(&answer.url, format!("{said} bytes instead of {}", validator.size)))
        }
        _ => Ok(0..validator.size),
    }
}

/// 206: the part of the file that was asked for, of the version that was resolved.
fn check_part(answer: &Answer, part: Range<u64>, validator: &Validator) -> Result<Range<u64>, OriginError> {
    check_validator(answer, validator, true)?;
    let text = header(answer.response.headers(), CONTENT_RANGE.as_str());
    let range = text.and_then(content_range);
    let Some(ContentRange { span: Some((first, last)), size }) = range else {
        return Err(unusable(&answer.url, format!("206 with Content-Range {text:?}")));
    };
    if let Some(size) = size.filter(|&size| size != validator.size) {
        return Err(changed(&answer.url, format!("{size} bytes instead of {}", validator.size)));
    }
    if first != part.start || last.checked_add(1) != Some(part.end) {
        let why = format!("asked for bytes {}-{}, it sent {first}-{last}", part.start, part.end - 1);
        return Err(unusable(&answer.url, why));
    }
    Ok(part)
}

/// A part that was asked for with `If-Range` may leave out its `Last-Modified` (RFC 9110 section 15.3.7): that it is a part
/// says that the date still holds. An ETag it has to show.
fn check_validator(answer: &Answer, validator: &Validator, part: bool) -> Result<(), OriginError> {
    let headers = answer.response.headers();
    if let Some(expected) = &validator.etag {
        let found = strong_etag(headers);
        return match found {
            Some(found) if found == *expected => Ok(()),
            found => {
                let found = found.unwrap_or_else(|| "none".to_owned());
                Err(changed(&answer.url, format!("ETag {} instead of {}", short(&found), short(expected))))
            }
        };
    }
    let Some(expected) = &validator.last_modified else { return Ok(()) };
    match header(headers, LAST_MODIFIED.as_str()) {
        Some(found) if found == expected => Ok(()),
        None if part => Ok(()),
        found => Err(changed(
            &answer.url,
            format!("Last-Modified {} instead of {}", short(found.unwrap_or("none")), short(expected)),
        )),
    }
}

fn unsatisfiable(answer: &Answer, from: u64, expected: u64) -> OriginError {
    let range = header(answer.response.headers(), CONTENT_RANGE.as_str()).and_then(content_range);
    match range.and_then(|range| range.size) {
        Some(size) if size != expected => changed(&answer.url, format!("{size} bytes instead of {expected}")),
        _ => unusable(&answer.url, format!("it refuses the range from byte {from} of {expected} (416)")),
    }
}

/// `Content-Range: bytes first-last/size`, where the span or the size may be `*` (RFC 9110 section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContentRange {
    pub(crate) span: Option<(u64, u64)>,
    pub(crate) size: Option<u64>,
}

pub(crate) fn content_range(text: &str) -> Option<ContentRange> {
    let (unit, rest) = text.split_once(' ')?;
    let (span, size) = rest.trim().split_once('/')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let size = if size == "*" { None } else { Some(size.parse::<u64>().ok()?) };
    if span == "*" {
        return Some(ContentRange { span: None, size });
    }
    let (first, last) = span.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    let sane = first <= last && size.is_none_or(|size| last < size);
    sane.then_some(ContentRange { span: Some((first, last)), size })
}

fn said_length(response: &Response) -> Option<u64> {
    header(response.headers(), CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok())
}

fn changed(url: &Url, what: String) -> OriginError {
    OriginError::Changed { url: redacted(url), what }
}

fn unusable(url: &Url, why: String) -> OriginError {
    OriginError::Answer { url: redacted(url), why }
}

/// What an origin wrote, cut so that a message stays readable.
fn short(text: &str) -> String {
    text.chars().take(48).collect()
}
