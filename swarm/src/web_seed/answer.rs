//! What an HTTP server answers to a request for a range of a file (RFC 9110 sections 14 and 15).

use std::time::{Duration, SystemTime};

use super::Failure;

/// Bytes before the wanted ones that are read and thrown away where a server ignores Range and sends the whole file: no more than a
/// run. Beyond, each run would cost more bytes than it brings, and a file would be read many times over.
pub const MAX_SKIP: u64 = super::MAX_RUN;

/// The range that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Where it starts in the file.
    pub offset: u64,
    /// Its bytes, at least one.
    pub len: u64,
    /// Bytes of the file.
    pub size: u64,
}

impl Asked {
    /// The value of the header `Range`.
    pub fn range(&self) -> String {
        format!("bytes={}-{}", self.offset, self.offset + self.len - 1)
    }
}

/// What matters of the head of a response.
#[derive(Debug, Clone, Copy, Default)]
pub struct Head<'a> {
    /// Status code.
    pub status: u16,
    /// Content-Range.
    pub content_range: Option<&'a str>,
    /// Content-Length.
    pub content_length: Option<u64>,
    /// Content-Encoding.
    pub content_encoding: Option<&'a str>,
    /// Location.
    pub location: Option<&'a str>,
    /// Retry-After.
    pub retry_after: Option<&'a str>,
}

/// What to do with the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// The wanted bytes are in it behind so many others.
    Skip(u64),
    /// Ask there instead.
    Redirect(&'a str),
}

impl<'a> Head<'a> {
    /// Whether the body is of use. `now` is for a Retry-After that names a date.
    pub fn read(&self, asked: Asked, now: SystemTime) -> Result<Body<'a>, Failure> {
        match self.status {
            206 => {
                self.check_encoding()?;
                self.check_range(asked)?;
                Ok(Body::Skip(0))
            }
            200 => {
                self.check_encoding()?;
                self.whole_file(asked)
            }
            301 | 302 | 303 | 307 | 308 => {
                self.location.map(Body::Redirect).ok_or(Failure::Refused(self.status))
            }
            429 | 503 => {
                let wait = self.retry_after.and_then(|text| retry_after(text, now));
                Err(Failure::Busy { status: self.status, wait })
            }
            408 | 500..=599 => Err(Failure::Broken(self.status)),
            _ => Err(Failure::Refused(self.status)),
        }
    }

    fn check_encoding(&self) -> Result<(), Failure> {
        match self.content_encoding {
            None => Ok(()),
            Some(encoding) if encoding.eq_ignore_ascii_case("identity") => Ok(()),
            Some(encoding) => Err(Failure::Encoded(short(encoding))),
        }
    }

    fn check_range(&self, asked: Asked) -> Result<(), Failure> {
        let wrong = || Failure::WrongRange {
            wanted: asked.range(),
            found: self.content_range.map_or_else(|| "none".into(), short),
        };
        let (first, last, size) = self.content_range.and_then(content_range).ok_or_else(wrong)?;
        check_size(size, asked)?;
        let fits = first == asked.offset && last == asked.offset + asked.len - 1;
        if fits && self.content_length.is_none_or(|len| len == asked.len) { Ok(()) } else { Err(wrong()) }
    }

    /// The server ignores Range: what is wanted has to be near the start.
    fn whole_file(&self, asked: Asked) -> Result<Body<'a>, Failure> {
        check_size(self.content_length, asked)?;
        if asked.offset > MAX_SKIP {
            return Err(Failure::IgnoresRange);
        }
        Ok(Body::Skip(asked.offset))
    }
}

fn check_size(found: Option<u64>, asked: Asked) -> Result<(), Failure> {
    match found {
        Some(found) if found != asked.size => Err(Failure::WrongSize { wanted: asked.size, found }),
        _ => Ok(()),
    }
}

/// `bytes first-last/size`, where the size may be `*`.
fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (unit, rest) = text.trim().split_once(' ')?;
    let (span, size) = rest.trim().split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let size = if size == "*" { None } else { Some(number(size)?) };
    unit.eq_ignore_ascii_case("bytes").then_some((number(first)?, number(last)?, size))
}

/// Digits only: `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Seconds, or a date (RFC 9110 section 10.2.3); a date that is over is no wait.
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    number(text).map(Duration::from_secs).or_else(|| {
        let date = httpdate::parse_http_date(text).ok()?;
        Some(date.duration_since(now).unwrap_or_default())
    })
}

/// What a server says is shown, but not all of it.
fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked = Asked { offset: 100, len: 50, size: 1000 };
    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn part(content_range: &str) -> Result<Body<'static>, Failure> {
        let head = Head { status: 206, content_range: Some(content_range), ..Head::default() };
        head.read(ASKED, NOW)
            .map(|body| if body == Body::Skip(0) { Body::Skip(0) } else { panic!("{body:?}") })
    }

    #[test]
    fn the_very_range_is_taken_and_no_other() {
        assert_eq!(ASKED.range(), "bytes=100-149");
        for good in ["bytes 100-149/1000", "bytes 100-149/*", "Bytes 100-149/1000"] {
            assert_eq!(part(good), Ok(Body::Skip(0)), "{good}");
        }
        for bad in [
            "bytes 100-150/1000",
            "bytes 0-49/1000",
            "bytes 100-149",
            "100-149/1000",
            "bytes +100-149/1000",
            "",
        ] {
            assert!(matches!(part(bad), Err(Failure::WrongRange { .. })), "{bad}");
        }
        assert_eq!(part("bytes 100-149/999"), Err(Failure::WrongSize { wanted: 1000, found: 999 }));
        assert!(matches!(
            Head { status: 206, ..Head::default() }.read(ASKED, NOW),
            Err(Failure::WrongRange { .. })
        ));
        let longer = Head {
            status: 206,
            content_range: Some("bytes 100-149/1000"),
            content_length: Some(51),
            ..Head::default()
        };
        assert!(matches!(longer.read(ASKED, NOW), Err(Failure::WrongRange { .. })));
    }

    #[test]
    fn a_whole_file_is_used_if_the_range_is_near_its_start() {
        let whole = |offset, size, content_length| {
            Head { status: 200, content_length, ..Head::default() }.read(Asked { offset, len: 1, size }, NOW)
        };
        assert_eq!(whole(0, 1 << 40, Some(1 << 40)), Ok(Body::Skip(0)));
        assert_eq!(whole(MAX_SKIP, 1 << 40, None), Ok(Body::Skip(MAX_SKIP)));
        assert_eq!(whole(MAX_SKIP + 1, 1 << 40, None), Err(Failure::IgnoresRange));
        assert_eq!(whole(0, 9, Some(8)), Err(Failure::WrongSize { wanted: 9, found: 8 }));
    }

    #[test]
    fn statuses_are_told_apart() {
        let read = |status| Head { status, ..Head::default() }.read(ASKED, NOW);
        for status in [400, 401, 403, 404, 410, 416, 204, 304, 301, 100] {
            assert_eq!(read(status), Err(Failure::Refused(status)));
        }
        assert_eq!(read(500), Err(Failure::Broken(500)));
        assert_eq!(read(503), Err(Failure::Busy { status: 503, wait: None }));
        let moved = Head { status: 302, location: Some("/there"), ..Head::default() };
        assert_eq!(moved.read(ASKED, NOW), Ok(Body::Redirect("/there")));
        let packed = Head { status: 200, content_encoding: Some("gzip"), ..Head::default() };
        assert_eq!(packed.read(ASKED, NOW), Err(Failure::Encoded("gzip".into())));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let busy = |text| {
            let head = Head { status: 503, retry_after: Some(text), ..Head::default() };
            match head.read(ASKED, NOW) {
                Err(Failure::Busy { wait, .. }) => wait,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(busy("120"), Some(Duration::from_mins(2)));
        assert_eq!(busy("Thu, 01 Jan 1970 00:01:00 GMT"), Some(Duration::from_mins(1)));
        assert_eq!(busy("-5"), None);
        assert_eq!(busy("soon"), None);
    }
}
