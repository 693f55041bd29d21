//! Announces and scrapes as HTTP requests (RFC 9112), read from the bytes of a connection. Pure, and without a copy.
//!
//! Only what BitTorrent clients send is read here. Whatever else may be legal HTTP (other resources, bodies, upgrades) and whatever
//! is not is [`Parsed::Foreign`]: a complete implementation of HTTP finds out what it is.

use std::mem::MaybeUninit;

use httparse::{Header, Status};

use crate::limits::MAX_REQUEST_HEADERS;
use crate::query::decoded;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// To be told of peers, and to be told of to them (BEP 3).
    Announce,
    /// The counts of torrents (BEP 48).
    Scrape,
}

/// A request to answer, however it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'b> {
    /// For what.
    pub resource: Resource,
    /// What stands behind the `?`, as it came.
    pub query: &'b [u8],
    /// The value of `Authorization`.
    pub authorization: Option<&'b [u8]>,
}

/// A request, and what HTTP says about its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'b> {
    /// What is asked for.
    pub asked: Asked<'b>,
    /// `HEAD`: the answer is to have no body.
    pub head: bool,
    /// Whether further requests may follow on the connection.
    pub persistence: Persistence,
}

/// What becomes of a connection after an answer (RFC 9112, section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It stays, as HTTP/1.1 has it.
    Stay,
    /// It stays, and the answer has to say so: an HTTP/1.0 client has asked for it.
    StayIfSaid,
    /// It is closed.
    Close,
}

/// What stands at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'b> {
    /// A whole request, and its length.
    Whole(Request<'b>, usize),
    /// The beginning of a request, or nothing.
    Part,
    /// Something that is not for this module.
    Foreign,
}

impl Resource {
    /// What lies at a path: `/announce` or `/scrape`, with or without one segment before it, since many clients are set up with the
    /// tokens of other trackers there. It may be percent-encoded.
    pub fn at(path: &[u8]) -> Option<Self> {
        let mut segments = path.strip_prefix(b"/")?.split(|&byte| byte == b'/').rev();
        let (last, _token, None) = (segments.next()?, segments.next(), segments.next()) else { return None };
        let is = |name: &[u8]| decoded(last).eq(name.iter().map(|&byte| Some(byte)));
        match () {
            () if is(b"announce") => Some(Resource::Announce),
            () if is(b"scrape") => Some(Resource::Scrape),
            () => None,
        }
    }
}

impl<'b> Parsed<'b> {
    /// Reads the start of `bytes`.
    pub fn of(bytes: &'b [u8]) -> Self {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_REQUEST_HEADERS];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, &mut headers) {
            Ok(Status::Complete(length)) => {
                read(&request).map_or(Parsed::Foreign, |request| Parsed::Whole(request, length))
            }
            Ok(Status::Partial) => Parsed::Part,
            Err(_) => Parsed::Foreign,
        }
    }
}

/// Whether the head of a request may end in `bytes`, behind the first `seen` of them. Looking is cheaper than reading the head
/// again for each byte of it that comes.
pub fn may_end(bytes: &[u8], seen: usize) -> bool {
    // The longest end is three bytes: a line feed, and an empty line.
    let new = &bytes[seen.saturating_sub(2).min(bytes.len())..];
    new.windows(2).any(|end| end == b"\n\n") || new.windows(3).any(|end| end == b"\n\r\n")
}

/// The request of a whole head; none if it is not for us.
fn read<'b>(request: &httparse::Request<'_, 'b>) -> Option<Request<'b>> {
    let head = match request.method? {
        "GET" => false,
        "HEAD" => true,
        _ => return None,
    };
    let (path, query) = split(request.path?.as_bytes())?;
    let resource = Resource::at(path)?;
    let (mut close, mut keep_alive, mut authorization) = (false, false, None);
    for &Header { name, value } in request.headers.iter() {
        if name.eq_ignore_ascii_case("connection") {
            close |= has_option(value, b"close");
            keep_alive |= has_option(value, b"keep-alive");
        } else if name.eq_ignore_ascii_case("authorization") {
            authorization = authorization.or(Some(value));
        } else if is_foreign(name, value) {
            return None;
        }
    }
    let persistence = match (close, request.version?, keep_alive) {
        (true, _, _) | (false, 0, false) => Persistence::Close,
        (false, 0, true) => Persistence::StayIfSaid,
        (false, _, _) => Persistence::Stay,
    };
    Some(Request { asked: Asked { resource, query, authorization }, head, persistence })
}

/// Whether a header makes a request more than a question: it has a body, or wants to speak another protocol.
fn is_foreign(name: &str, value: &[u8]) -> bool {
    (name.eq_ignore_ascii_case("content-length") && value != b"0")
        || ["transfer-encoding", "upgrade", "expect"].iter().any(|foreign| name.eq_ignore_ascii_case(foreign))
}

/// Path and query of a request's target, in origin form or absolute form (RFC 9112, section 3.2).
fn split(target: &[u8]) -> Option<(&[u8], &[u8])> {
    const SCHEME: &[u8] = b"http://";
    let target = match target.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => {
            &rest[rest.iter().position(|byte| b"/?".contains(byte))?..]
        }
        _ => target,
    };
    Some(match target.iter().position(|&byte| byte == b'?') {
        Some(mark) => (&target[..mark], &target[mark + 1..]),
        None => (target, b""),
    })
}

/// Whether a list such as that of `Connection` has this member.
fn has_option(list: &[u8], option: &[u8]) -> bool {
    list.split(|&byte| byte == b',').any(|member| member.trim_ascii().eq_ignore_ascii_case(option))
}

#[cfg(test)]
mod tests;
