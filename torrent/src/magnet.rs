//! Magnet links (BEP 9, 52, 53): which torrent, and where to ask for it.

use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::ids::{InfoHashV1, InfoHashV2};

/// Bytes of a link, as it is given and in its canonical form.
const MAX_LINK_BYTES: usize = 64 * 1024;

/// Trackers, web seeds and peers of a link, of each.
const MAX_ADDRESSES: usize = 100;

/// Ranges of selected files.
const MAX_RANGES: usize = 1_000;

/// Longest host name (RFC 1035).
const MAX_HOST_BYTES: usize = 253;

const SCHEME: &str = "magnet:?";

/// Why a link is refused. Trackers and web seeds are not repeated in messages: they may hold a passkey.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MagnetError {
    /// Longer than the limit, as given or in its canonical form.
    #[error("a link of {bytes} bytes is longer than the limit of {limit}")]
    TooLong {
        /// Length of the link.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not a magnet link at all.
    #[error("a magnet link starts with `magnet:?`")]
    Scheme,
    /// A `%` without two hexadecimal digits behind it.
    #[error("bad percent escape in {key:?} at byte {at}")]
    Escape {
        /// The parameter.
        key: &'static str,
        /// Where the `%` stands in the link.
        at: usize,
    },
    /// A value that is not UTF-8 once it is decoded.
    #[error("{key:?} at byte {at} is not valid UTF-8")]
    NotUtf8 {
        /// The parameter.
        key: &'static str,
        /// Where its value starts in the link.
        at: usize,
    },
    /// A value with a control character in it.
    #[error("{key:?} at byte {at} has a control character in it")]
    Control {
        /// The parameter.
        key: &'static str,
        /// Where its value starts in the link.
        at: usize,
    },
    /// `urn:btih:` with something else than a v1 infohash.
    #[error("{0:?} is no v1 infohash: 40 hexadecimal digits or 32 of base32")]
    V1Hash(String),
    /// `urn:btmh:` with something else than a v2 infohash.
    #[error("{0:?} is no v2 infohash: 1220 and 64 hexadecimal digits")]
    V2Hash(String),
    /// `urn:btmh:` with a multihash of another function than SHA-256.
    #[error("a multihash of {0}; torrents are known by sha2-256 (1220) only")]
    Multihash(String),
    /// Two different infohashes of one kind.
    #[error("two different infohashes urn:{0}")]
    TwoTopics(&'static str),
    /// No `xt` with an infohash.
    #[error("no infohash: xt=urn:btih: or xt=urn:btmh: is missing")]
    NoTopic,
    /// `xl` is not a number of bytes.
    #[error("{0:?} in \"xl\" is no number of bytes")]
    Size(String),
    /// `x.pe` is not `host:port`.
    #[error("{0:?} in \"x.pe\" is no host:port, IPv6 in brackets, port from 1 to 65535")]
    Peer(String),
    /// `so` has something in it that is neither an index nor an ascending range of them.
    #[error("{0:?} in \"so\" is no file index and no range of them")]
    Select(String),
    /// More of one kind than the limit.
    #[error("more than {limit} values of {key:?}")]
    TooMany {
        /// The parameter.
        key: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// A magnet link. What [`Magnet::parse`] returns has at least one infohash.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Magnet {
    /// `xt=urn:btih:` (BEP 9).
    pub v1: Option<InfoHashV1>,
    /// `xt=urn:btmh:` (BEP 52).
    pub v2: Option<InfoHashV2>,
    /// `dn`: what to show until the metadata is there. Not checked as a path.
    pub name: Option<String>,
    /// `xl`: bytes of the payload. A claim of whoever made the link.
    pub size: Option<u64>,
    /// `tr`: trackers, in the order of the link. Not checked as URLs.
    pub trackers: Vec<String>,
    /// `ws`: web seeds (BEP 19). Not checked as URLs.
    pub web_seeds: Vec<String>,
    /// `x.pe`: peers as `host:port`, IPv6 in brackets.
    pub peers: Vec<String>,
    /// `so`: the files to download, as ranges of their indices (BEP 53). Empty: all of them.
    pub select: Vec<RangeInclusive<u32>>,
}

impl Magnet {
    /// Reads a link. Scheme, keys and urns are taken in either case, keys also with a number (`tr.1`); unknown keys and urns
    /// are passed over. Of several names or sizes the last one counts, as in libtorrent.
    pub fn parse(link: &str) -> Result<Self, MagnetError> {
        check_length(link.len())?;
        let (scheme, parameters) = link.split_at_checked(SCHEME.len()).ok_or(MagnetError::Scheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(MagnetError::Scheme);
        }
        let mut magnet = Self::default();
        let mut at = SCHEME.len();
        for parameter in parameters.split('&') {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            magnet.take(&key.to_ascii_lowercase(), value, at + key.len() + 1)?;
            at += parameter.len() + 1;
        }
        if magnet.v1.is_none() && magnet.v2.is_none() {
            return Err(MagnetError::NoTopic);
        }
        // Escapes make a link up to three times as long: what is read here must be readable again once it is written.
        check_length(magnet.to_string().len())?;
        Ok(magnet)
    }

    /// Takes one parameter; `at` is where its value starts.
    fn take(&mut self, key: &str, value: &str, at: usize) -> Result<(), MagnetError> {
        match without_number(key) {
            "xt" => self.take_topic(&decode("xt", value, at)?)?,
            "dn" => {
                // Names are written as forms write them. In URLs a plus stays what it is.
                let name = decode("dn", &value.replace('+', " "), at)?;
                self.name = Some(name).filter(|name| !name.is_empty());
            }
            "xl" => {
                let size = decode("xl", value, at)?;
                self.size = Some(number(&size).ok_or_else(|| MagnetError::Size(shown(&size)))?);
            }
            "tr" => push("tr", &mut self.trackers, decode("tr", value, at)?)?,
            "ws" => push("ws", &mut self.web_seeds, decode("ws", value, at)?)?,
            "x.pe" => {
                let peer = decode("x.pe", value, at)?;
                if !is_peer(&peer) {
                    return Err(MagnetError::Peer(shown(&peer)));
                }
                push("x.pe", &mut self.peers, peer)?;
            }
            "so" => self.take_selection(&decode("so", value, at)?)?,
            _ => {}
        }
        Ok(())
    }

    fn take_topic(&mut self, urn: &str) -> Result<(), MagnetError> {
        let (kind, hash) = urn.split_at_checked("urn:btih:".len()).unwrap_or_default();
        match kind.to_ascii_lowercase().as_str() {
            "urn:btih:" => set(&mut self.v1, v1_hash(hash)?, "btih"),
            "urn:btmh:" => set(&mut self.v2, v2_hash(hash)?, "btmh"),
            _ => Ok(()),
        }
    }

    fn take_selection(&mut self, ranges: &str) -> Result<(), MagnetError> {
        for item in ranges.split(',') {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let range = number(first).zip(number(last)).filter(|(first, last)| first <= last);
            let (first, last) = range.ok_or_else(|| MagnetError::Select(shown(item)))?;
            if self.select.len() >= MAX_RANGES {
                return Err(MagnetError::TooMany { key: "so", limit: MAX_RANGES });
            }
            self.select.push(first..=last);
        }
        Ok(())
    }
}

impl FromStr for Magnet {
    type Err = MagnetError;

    fn from_str(link: &str) -> Result<Self, MagnetError> {
        Self::parse(link)
    }
}

/// The canonical link.
impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("magnet:")?;
        let mut separator = '?';
        let mut write = |key: &str, value: &dyn fmt::Display| {
            write!(f, "{separator}{key}={value}")?;
            separator = '&';
            Ok(())
        };
        self.v1.iter().try_for_each(|hash| write("xt", &format_args!("urn:btih:{hash}")))?;
        self.v2.iter().try_for_each(|hash| write("xt", &format_args!("urn:btmh:1220{hash}")))?;
        self.name.iter().try_for_each(|name| write("dn", &Escaped(name, "")))?;
        self.size.iter().try_for_each(|size| write("xl", size))?;
        self.trackers.iter().try_for_each(|url| write("tr", &Escaped(url, "")))?;
        self.web_seeds.iter().try_for_each(|url| write("ws", &Escaped(url, "")))?;
        // libtorrent decodes neither `x.pe` nor `so`: what they need stands there as it is.
        self.peers.iter().try_for_each(|peer| write("x.pe", &Escaped(peer, ":[]")))?;
        if self.select.is_empty() { Ok(()) } else { write("so", &Selection(&self.select)) }
    }
}

/// Text with everything percent-encoded but unreserved characters (RFC 3986) and those of the second text.
struct Escaped<'a>(&'a str, &'static str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'-' | b'.' | b'_' | b'~' => f.write_char(byte.into()),
            _ if byte.is_ascii_alphanumeric() || self.1.as_bytes().contains(&byte) => {
                f.write_char(byte.into())
            }
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

/// Ranges as BEP 53 writes them.
struct Selection<'a>(&'a [RangeInclusive<u32>]);

impl fmt::Display for Selection<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(index, range)| {
            let (comma, first, last) = (if index > 0 { "," } else { "" }, range.start(), range.end());
            if first == last { write!(f, "{comma}{first}") } else { write!(f, "{comma}{first}-{last}") }
        })
    }
}

fn check_length(bytes: usize) -> Result<(), MagnetError> {
    let limit = MAX_LINK_BYTES;
    if bytes > limit { Err(MagnetError::TooLong { bytes, limit }) } else { Ok(()) }
}

/// The key without the number that some write behind it: it means nothing.
fn without_number(key: &str) -> &str {
    match key.rsplit_once('.') {
        Some((stem, number)) if is_digits(number) => stem,
        _ => key,
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Digits only: Rust takes a sign too.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok().filter(|_| is_digits(text))
}

/// A value without its percent escapes. `at` is where it starts in the link.
fn decode(key: &'static str, value: &str, at: usize) -> Result<String, MagnetError> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        let mut byte = [first];
        if first == b'%' {
            let bad = MagnetError::Escape { key, at: at + value.len() - behind.len() - 1 };
            let (digits, behind) = behind.split_at_checked(2).ok_or_else(|| bad.clone())?;
            hex::decode_to_slice(digits, &mut byte).map_err(|_| bad)?;
            rest = behind;
        }
        bytes.extend(byte);
    }
    let text = String::from_utf8(bytes).map_err(|_| MagnetError::NotUtf8 { key, at })?;
    if text.chars().any(char::is_control) { Err(MagnetError::Control { key, at }) } else { Ok(text) }
}

/// Adds an address; one without text is none.
fn push(key: &'static str, list: &mut Vec<String>, address: String) -> Result<(), MagnetError> {
    if address.is_empty() {
        return Ok(());
    }
    if list.len() >= MAX_ADDRESSES {
        return Err(MagnetError::TooMany { key, limit: MAX_ADDRESSES });
    }
    list.push(address);
    Ok(())
}

/// Links name their torrent once for each kind of hash.
fn set<T: PartialEq>(topic: &mut Option<T>, hash: T, kind: &'static str) -> Result<(), MagnetError> {
    let same = topic.as_ref().is_none_or(|known| *known == hash);
    *topic = Some(hash);
    if same { Ok(()) } else { Err(MagnetError::TwoTopics(kind)) }
}

fn v1_hash(text: &str) -> Result<InfoHashV1, MagnetError> {
    let hash = text.parse().ok().or_else(|| base32(text).map(InfoHashV1));
    hash.ok_or_else(|| MagnetError::V1Hash(shown(text)))
}

fn v2_hash(text: &str) -> Result<InfoHashV2, MagnetError> {
    /// Other functions that the table of multihashes has, by the digits they start with.
    const OTHERS: [(&str, &str); 8] = [
        ("11", "sha1"),
        ("13", "sha2-512"),
        ("14", "sha3-512"),
        ("15", "sha3-384"),
        ("16", "sha3-256"),
        ("1b", "keccak-256"),
        ("1e", "blake3"),
        ("a0e402", "blake2b-256"),
    ];
    let digits = text.to_ascii_lowercase();
    if let Some(hash) = digits.strip_prefix("1220") {
        return hash.parse().map_err(|_| MagnetError::V2Hash(shown(text)));
    }
    if digits.starts_with("12") || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(MagnetError::V2Hash(shown(text)));
    }
    let other = OTHERS.iter().find(|(prefix, _)| digits.starts_with(prefix));
    match (other, digits.get(..2)) {
        (Some((_, name)), _) => Err(MagnetError::Multihash((*name).to_owned())),
        (None, Some(code)) => Err(MagnetError::Multihash(format!("an unknown function (0x{code})"))),
        (None, None) => Err(MagnetError::V2Hash(shown(text))),
    }
}

/// The 20 bytes of 32 characters of base32 (RFC 4648), in either case.
fn base32(text: &str) -> Option<[u8; 20]> {
    let (groups, rest) = text.as_bytes().as_chunks::<8>();
    let mut bytes = [0; 20];
    if groups.len() != 4 || !rest.is_empty() {
        return None;
    }
    for (group, bytes) in groups.iter().zip(bytes.as_chunks_mut::<5>().0) {
        let bits = group.iter().try_fold(0u64, |bits, digit| {
            let value = match digit.to_ascii_uppercase() {
                letter @ b'A'..=b'Z' => letter - b'A',
                digit @ b'2'..=b'7' => digit - b'2' + 26,
                _ => return None,
            };
            Some(bits << 5 | u64::from(value))
        })?;
        let [_, _, _, low @ ..] = bits.to_be_bytes();
        *bytes = low;
    }
    Some(bytes)
}

/// Whether text is `host:port`. Names are those of DNS: others have no address.
fn is_peer(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_name = |host: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        (1..=MAX_HOST_BYTES).contains(&host.len()) && host.bytes().all(fits)
    };
    let host_fits = in_brackets.map_or_else(|| is_name(host), |host| host.parse::<Ipv6Addr>().is_ok());
    host_fits && number::<u16>(port).is_some_and(|port| port > 0)
}

/// A value for a message, cut to a length that a log line can bear.
fn shown(text: &str) -> String {
    const SHOWN_CHARS: usize = 100;
    text.chars().take(SHOWN_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_is_that_of_the_rfc() {
        // RFC 4648, 10: "foobar" is MZXW6YTBOI======, here "fooba" four times.
        assert_eq!(base32(&"MZXW6YTB".repeat(4)).as_ref(), Some(b"foobafoobafoobafooba"));
        assert_eq!(base32(&"mzxw6ytb".repeat(4)).as_ref(), Some(b"foobafoobafoobafooba"));
        assert_eq!(base32(&"MZXW6YT1".repeat(4)), None);
        assert_eq!(base32("MZXW6YTB"), None);
        assert_eq!(base32(&"MZXW6YTB".repeat(5)), None);
    }
}
