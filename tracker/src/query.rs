//! Announce and scrape queries, read from the raw query string.
//!
//! Infohashes and peer ids are 20 arbitrary bytes, percent-encoded. Anything that makes text of them on the way (as axum's
//! `Query` does) destroys them, so the bytes are decoded here. `+` is a plus sign (RFC 3986): clients that encode spaces
//! write `%20`.

use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;

use torrent::WireId;

use crate::limits::{DEFAULT_NUM_WANT, FIRST_UNPRIVILEGED_PORT, MAX_NUM_WANT, MAX_SCRAPE};

/// Why a query was refused. The text goes to the client as `failure reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A parameter that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A parameter came twice, so nobody can say which one is meant.
    #[error("{0} is given more than once")]
    Repeated(&'static str),
    /// A `%` without two hexadecimal digits behind it.
    #[error("{0} is not percent-encoded")]
    Encoding(&'static str),
    /// An infohash or a peer id of another length than 20.
    #[error("{0} must have 20 bytes")]
    Length(&'static str),
    /// Not a port that a peer may listen on.
    #[error("port must be between 1024 and 65535")]
    Port,
    /// A node's name that is empty, too long or no text.
    #[error("node is not a name")]
    Node,
    /// A scrape of everything.
    #[error("name the torrents to scrape with info_hash")]
    FullScrape,
}

/// What a client says about its state, besides that it is there (BEP 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A regular announce; also an event that we do not know (BEP 21's `paused`).
    None,
    /// The first announce of a download.
    Started,
    /// The last byte has just been verified.
    Completed,
    /// The client leaves the swarm.
    Stopped,
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// One announce (BEP 3, 7, 23). `ip`, `ipv4` and `ipv6` are passed over: addresses come from the connection or from the
/// registry (T46).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The torrent.
    pub info_hash: WireId,
    /// The client's name for itself.
    pub peer_id: [u8; 20],
    /// Where it listens.
    pub port: u16,
    /// Bytes it still wants; none if it does not say, as magnet links and some JavaScript clients do.
    pub left: Option<u64>,
    /// See [`Event`].
    pub event: Event,
    /// Peers it wants, at most [`MAX_NUM_WANT`].
    pub num_want: usize,
    /// False for the long form of peers, `compact=0`.
    pub compact: bool,
    /// The only family of which it can be told, as in UDP; over HTTP it is told of both.
    pub only: Option<Family>,
    /// The node that a sidecar speaks for; worth nothing without the token.
    pub node: Option<String>,
}

impl Announce {
    /// Reads what stands behind the `?`: bytes, since raw ones come too.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn parse(query: &(impl AsRef<[u8]> + ?Sized)) -> Result<Self, QueryError> {
        let mut fields = Fields::default();
        for (key, value) in pairs(query.as_ref()) {
            fields.take(key, value)?;
        }
        Ok(Announce {
            info_hash: WireId(id("info_hash", fields.info_hash)?),
            peer_id: id("peer_id", fields.peer_id)?,
            port: port(fields.port)?,
            left: fields.left.and_then(|left| number(left).ok()),
            event: event(fields.event),
            num_want: num_want(fields.num_want),
            compact: fields.compact != Some(b"0"),
            only: None,
            node: fields.node.map(node).transpose()?,
        })
    }
}

/// The raw values of the parameters that count.
#[derive(Default)]
struct Fields<'q> {
    info_hash: Option<&'q [u8]>,
    peer_id: Option<&'q [u8]>,
    port: Option<&'q [u8]>,
    left: Option<&'q [u8]>,
    event: Option<&'q [u8]>,
    num_want: Option<&'q [u8]>,
    compact: Option<&'q [u8]>,
    node: Option<&'q [u8]>,
}

impl<'q> Fields<'q> {
    fn take(&mut self, key: &[u8], value: &'q [u8]) -> Result<(), QueryError> {
        let (name, field) = match key {
            b"info_hash" => ("info_hash", &mut self.info_hash),
            b"peer_id" => ("peer_id", &mut self.peer_id),
            b"port" => ("port", &mut self.port),
            b"left" => ("left", &mut self.left),
            b"event" => ("event", &mut self.event),
            b"numwant" => ("numwant", &mut self.num_want),
            b"compact" => ("compact", &mut self.compact),
            key if key == tracker_api::NODE_PARAM.as_bytes() => (tracker_api::NODE_PARAM, &mut self.node),
            _ => return Ok(()),
        };
        match field.replace(value) {
            None => Ok(()),
            Some(_) => Err(QueryError::Repeated(name)),
        }
    }
}

/// The torrents that a scrape (BEP 48) asks for: the first [`MAX_SCRAPE`] of them.
///
/// # Errors
/// [`QueryError::FullScrape`] when it names none; else see [`QueryError`].
pub fn scrape(query: &(impl AsRef<[u8]> + ?Sized)) -> Result<Vec<WireId>, QueryError> {
    let hashes: Vec<WireId> = pairs(query.as_ref())
        .filter(|(key, _)| *key == b"info_hash")
        .take(MAX_SCRAPE)
        .map(|(_, value)| id("info_hash", Some(value)).map(WireId))
        .collect::<Result<_, _>>()?;
    if hashes.is_empty() { Err(QueryError::FullScrape) } else { Ok(hashes) }
}

/// The value of a text parameter, decoded; none if it is absent or no UTF-8.
pub fn text(query: &str, key: &str) -> Option<String> {
    let (_, value) = pairs(query.as_bytes()).find(|(found, _)| *found == key.as_bytes())?;
    String::from_utf8(decoded(value).collect::<Option<_>>()?).ok()
}

/// Keys and values, still encoded.
fn pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        match pair.iter().position(|&byte| byte == b'=') {
            Some(sign) => (&pair[..sign], &pair[sign + 1..]),
            None => (pair, &[][..]),
        }
    })
}

fn id(name: &'static str, value: Option<&[u8]>) -> Result<[u8; 20], QueryError> {
    /// 20 bytes, each as `%xx`.
    const LONGEST: usize = 60;
    let value = value.ok_or(QueryError::Missing(name))?;
    if value.len() > LONGEST {
        return Err(QueryError::Length(name));
    }
    let mut bytes = [0; LONGEST];
    let mut length = 0;
    for byte in decoded(value) {
        bytes[length] = byte.ok_or(QueryError::Encoding(name))?;
        length += 1;
    }
    bytes[..length].try_into().map_err(|_| QueryError::Length(name))
}

fn port(value: Option<&[u8]>) -> Result<u16, QueryError> {
    let port = number(value.ok_or(QueryError::Missing("port"))?).map_err(|_| QueryError::Port)?;
    if port >= FIRST_UNPRIVILEGED_PORT { Ok(port) } else { Err(QueryError::Port) }
}

fn event(value: Option<&[u8]>) -> Event {
    match value {
        Some(b"started") => Event::Started,
        Some(b"completed") => Event::Completed,
        Some(b"stopped") => Event::Stopped,
        _ => Event::None,
    }
}

/// -1 is "as many as you like" in BEP 15, and what is no number at all is no wish; both get the default.
fn num_want(value: Option<&[u8]>) -> usize {
    match value.map(number::<usize>) {
        Some(Ok(wanted)) => wanted.min(MAX_NUM_WANT),
        Some(Err(IntErrorKind::PosOverflow)) => MAX_NUM_WANT,
        Some(Err(_)) | None => DEFAULT_NUM_WANT,
    }
}

fn number<N: FromStr<Err = ParseIntError>>(value: &[u8]) -> Result<N, IntErrorKind> {
    let text = std::str::from_utf8(value).map_err(|_| IntErrorKind::InvalidDigit)?;
    text.parse().map_err(|error: ParseIntError| *error.kind())
}

fn node(value: &[u8]) -> Result<String, QueryError> {
    /// A Kubernetes node's name is a DNS subdomain.
    const LONGEST: usize = 253;
    let bytes: Option<Vec<u8>> = decoded(value).collect();
    let name = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(QueryError::Node)?;
    if name.is_empty() || name.len() > LONGEST { Err(QueryError::Node) } else { Ok(name) }
}

/// The bytes of a percent-encoded value; a none among them stands for a `%` that is not followed by two hexadecimal digits.
pub(crate) fn decoded(value: &[u8]) -> impl Iterator<Item = Option<u8>> {
    let mut rest = value;
    std::iter::from_fn(move || {
        let (&first, tail) = rest.split_first()?;
        rest = tail;
        if first != b'%' {
            return Some(Some(first));
        }
        let Some((digits, tail)) = rest.split_first_chunk() else { return Some(None) };
        rest = tail;
        Some(byte(*digits))
    })
}

/// The byte that two hexadecimal digits stand for.
fn byte([high, low]: [u8; 2]) -> Option<u8> {
    let (high, low) = (DIGITS[usize::from(high)], DIGITS[usize::from(low)]);
    (high | low < 16).then_some(high << 4 | low)
}

/// What each byte is as a hexadecimal digit; 255 if it is none. Most of a query is made of them.
const DIGITS: [u8; 256] = {
    let mut digits = [u8::MAX; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value] as usize] = value as u8;
        digits[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    digits
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "info_hash=%01%02%03%04%05%06%07%08%09%0a%0b%0c%0d%0e%0f%10%11%12%13%14&peer_id=-XX0001-abcdefghijkl&port=6881";

    fn with(more: &str) -> Result<Announce, QueryError> {
        Announce::parse(&format!("{GOOD}&{more}"))
    }

    fn encode(bytes: &[u8]) -> String {
        hex::encode(bytes)
            .as_bytes()
            .chunks(2)
            .flat_map(|digits| [b'%', digits[0], digits[1]])
            .map(char::from)
            .collect()
    }

    #[test]
    fn the_shortest_announce_gets_defaults() {
        let announce = Announce::parse(GOOD).unwrap();
        assert_eq!(announce.info_hash.0[..3], [1, 2, 3]);
        assert_eq!(&announce.peer_id, b"-XX0001-abcdefghijkl");
        assert_eq!((announce.left, announce.event), (None, Event::None));
        assert_eq!((announce.num_want, announce.compact, announce.only), (DEFAULT_NUM_WANT, true, None));
    }

    #[test]
    fn t045_an_id_that_has_not_20_bytes_is_refused() {
        for length in [0, 19, 21, 10_000] {
            let id = encode(&vec![0xff; length]);
            let query = format!("info_hash={id}&peer_id=-XX0001-abcdefghijkl&port=6881");
            assert_eq!(Announce::parse(&query), Err(QueryError::Length("info_hash")), "{length}");
            let query = format!("info_hash={}&peer_id={id}&port=6881", "a".repeat(20));
            assert_eq!(Announce::parse(&query), Err(QueryError::Length("peer_id")), "{length}");
        }
    }

    #[test]
    fn t045_bad_percent_encoding_is_refused() {
        for bad in ["%", "%1", "%zz", "%+1", "aaaaaaaaaaaaaaaaaaa%"] {
            let query = format!("info_hash={bad}&peer_id=-XX0001-abcdefghijkl&port=6881");
            assert_eq!(Announce::parse(&query), Err(QueryError::Encoding("info_hash")), "{bad}");
        }
    }

    #[test]
    fn t045_a_repeated_parameter_is_refused() {
        assert_eq!(with("info_hash=aaaaaaaaaaaaaaaaaaaa"), Err(QueryError::Repeated("info_hash")));
        assert_eq!(with("port=6882"), Err(QueryError::Repeated("port")));
        assert!(with("key=1&key=2").is_ok(), "what does not count may come as often as it likes");
    }

    #[test]
    fn t046_addresses_in_the_query_are_passed_over() {
        assert_eq!(with("ip=203.0.113.9&ipv4=203.0.113.9&ipv6=2001:db8::9"), Announce::parse(GOOD));
    }

    #[test]
    fn t047_ports_that_no_peer_listens_on_are_refused() {
        for port in ["0", "22", "1023", "65536", "-1", "", "x"] {
            let query = GOOD.replace("6881", port);
            assert_eq!(Announce::parse(&query), Err(QueryError::Port), "{port}");
        }
        assert_eq!(Announce::parse(&GOOD.replace("6881", "1024")).unwrap().port, 1024);
        assert_eq!(Announce::parse(&GOOD.replace("6881", "65535")).unwrap().port, 65535);
    }

    #[test]
    fn t048_numwant_is_capped() {
        for (wanted, got) in [
            ("0", 0),
            ("7", 7),
            ("200", 200),
            ("201", MAX_NUM_WANT),
            ("2147483648", MAX_NUM_WANT),
            ("99999999999999999999999", MAX_NUM_WANT),
            ("-1", DEFAULT_NUM_WANT),
            ("", DEFAULT_NUM_WANT),
            ("many", DEFAULT_NUM_WANT),
        ] {
            assert_eq!(with(&format!("numwant={wanted}")).unwrap().num_want, got, "{wanted}");
        }
    }

    #[test]
    fn what_stock_clients_send_is_taken() {
        // aria2's key is raw bytes, libtorrent's is hexadecimal, rtorrent has no numwant, JavaScript clients may omit left.
        let aria2 = with("uploaded=0&downloaded=0&left=268435456&compact=1&key=%00%ff%26%3d%25abc&numwant=50&no_peer_id=1&event=started&supportcrypto=1").unwrap();
        assert_eq!((aria2.left, aria2.event), (Some(268_435_456), Event::Started));
        assert_eq!(with("left=-1&corrupt=0&redundant=0").unwrap().left, None);
        assert_eq!(with("event=paused").unwrap().event, Event::None);
        assert_eq!(with("event=").unwrap().event, Event::None);
        assert!(!with("compact=0").unwrap().compact);
    }

    #[test]
    fn a_plus_is_a_plus() {
        let query = GOOD.replace("%14", "+");
        assert_eq!(Announce::parse(&query).unwrap().info_hash.0[19], b'+');
    }

    #[test]
    fn t055_a_scrape_of_everything_is_refused_and_a_long_one_is_cut() {
        assert_eq!(scrape(""), Err(QueryError::FullScrape));
        assert_eq!(scrape("x=1"), Err(QueryError::FullScrape));
        let many = vec!["info_hash=aaaaaaaaaaaaaaaaaaaa"; 10_000].join("&");
        assert_eq!(scrape(&many).unwrap().len(), MAX_SCRAPE);
        assert_eq!(scrape("info_hash=short"), Err(QueryError::Length("info_hash")));
    }

    proptest! {
        #[test]
        fn twenty_binary_bytes_survive(hash: [u8; 20], peer: [u8; 20], port in 1024u16.., raw: bool) {
            let info_hash = if raw {
                // As clients write it: what need not be encoded is not.
                hash.iter().map(|&byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
            } else {
                encode(&hash)
            };
            let announce = Announce::parse(&format!("info_hash={info_hash}&peer_id={}&port={port}", encode(&peer))).unwrap();
            prop_assert_eq!(announce.info_hash.0, hash);
            prop_assert_eq!(announce.peer_id, peer);
            prop_assert_eq!(announce.port, port);
        }

        #[test]
        fn no_query_panics(query in "\\PC*") {
            drop(Announce::parse(&query));
            drop(scrape(&query));
            drop(text(&query, "revision"));
        }

        #[test]
        fn no_query_of_known_words_panics(words in prop::collection::vec("(info_hash|peer_id|port|left|numwant|event|node|=|&|%|[0-9a-f]{1,3}|-1|%[0-9a-f]{2})", 0..64)) {
            drop(Announce::parse(&words.concat()));
        }
    }
}
