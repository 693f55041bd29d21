//! The bytes of an answer.

use std::time::{Duration, Instant, SystemTime};

use axum::http::StatusCode;
use torrent::bencode::push_decimal;

use super::announce::CONTENT_TYPE;
use crate::request::Persistence;

/// Writes the head of an answer with a body of `length` bytes.
pub(super) fn push_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    length: usize,
    persistence: Persistence,
    date: &[u8],
) {
    let mut push = |part: &[u8]| out.extend_from_slice(part);
    push(b"HTTP/1.1 ");
    push(status.as_str().as_bytes());
    push(b" ");
    push(status.canonical_reason().unwrap_or_default().as_bytes());
    push(b"\r\ncontent-type: ");
    push(CONTENT_TYPE.as_bytes());
    push(b"\r\ndate: ");
    push(date);
    push(match persistence {
        Persistence::Stay => b"",
        Persistence::StayIfSaid => b"\r\nconnection: keep-alive",
        Persistence::Close => b"\r\nconnection: close",
    });
    push(b"\r\ncontent-length: ");
    push_decimal(out, length as u64);
    out.extend_from_slice(b"\r\n\r\n");
}

/// The value of `Date` (RFC 9110, section 6.6.1), written once a second: writing it takes as long as all the rest of an answer.
#[derive(Debug)]
pub(super) struct Date {
    text: String,
    written: Instant,
}

impl Date {
    pub(super) fn new(now: Instant) -> Self {
        Date { text: httpdate::fmt_http_date(SystemTime::now()), written: now }
    }

    /// It, at most a second old.
    pub(super) fn at(&mut self, now: Instant) -> &[u8] {
        if now.saturating_duration_since(self.written) >= Duration::from_secs(1) {
            *self = Date::new(now);
        }
        self.text.as_bytes()
    }
}
