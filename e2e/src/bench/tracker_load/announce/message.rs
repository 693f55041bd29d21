//! What is asked of a tracker, and what its answers say: UDP (BEP 15, 48) and HTTP (BEP 3, 23, 48).

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use sha1::{Digest as _, Sha1};

use super::Protocol;

/// Peers that an announce asks for: what aquatic's UDP tester asks for.
const WANTED: u32 = 30;
/// BEP 15's magic number of a connect request.
const PROTOCOL_ID: u64 = 0x0417_2710_1980;
/// Torrents of one scrape. aquatic reads datagrams of at most 512 bytes by io_uring, and HTTP requests of at most 2,048.
pub const SCRAPE_LENGTH: usize = 20;

/// BEP 15's actions.
const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// The infohash of our swarm `number`; the same in each run, so that it can be in a whitelist.
pub fn info_hash(number: u32) -> [u8; 20] {
    Sha1::digest(format!("samara tracker benchmark, swarm {number}")).into()
}

/// An announce: that a peer is there, and wants others.
#[derive(Debug, Clone, Copy)]
pub struct Announce {
    /// Of which torrent.
    pub info_hash: [u8; 20],
    /// Its number, for its peer id.
    pub peer: u32,
    /// Where it listens.
    pub port: u16,
    /// Whether it has everything.
    pub seed: bool,
}

/// The head of a datagram to a tracker (BEP 15).
pub fn udp_head(connection: u64, action: u32, transaction: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(98);
    bytes.extend(connection.to_be_bytes());
    bytes.extend(action.to_be_bytes());
    bytes.extend(transaction.to_be_bytes());
    bytes
}

/// A connect request.
pub fn udp_connect(transaction: u32) -> Vec<u8> {
    udp_head(PROTOCOL_ID, CONNECT, transaction)
}

/// The connection id in the answer to it.
pub fn udp_connected(answer: &[u8], transaction: u32) -> Option<u64> {
    let (head, id) = (answer.get(..8)?, answer.get(8..16)?);
    let right = head[..4] == CONNECT.to_be_bytes() && head[4..] == transaction.to_be_bytes();
    Some(u64::from_be_bytes(id.try_into().ok()?)).filter(|_| right)
}

impl Announce {
    fn peer_id(&self) -> [u8; 20] {
        let mut id = *b"-SB0001-000000000000";
        id[16..].copy_from_slice(&self.peer.to_be_bytes());
        id
    }

    /// As a datagram.
    pub fn udp(&self, connection: u64, transaction: u32) -> Vec<u8> {
        let mut bytes = udp_head(connection, ANNOUNCE, transaction);
        bytes.extend(self.info_hash);
        bytes.extend(self.peer_id());
        let left = if self.seed { 0_u64 } else { 50 };
        for number in [0, left, 0] {
            bytes.extend(number.to_be_bytes());
        }
        // The event started, no address of its own, no key.
        for number in [2, 0, 0, WANTED] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(self.port.to_be_bytes());
        bytes
    }

    /// As an HTTP request.
    pub fn http(&self) -> Result<Vec<u8>> {
        let mut text = String::from("GET /announce?info_hash=");
        escape(&mut text, &self.info_hash)?;
        text.push_str("&peer_id=");
        escape(&mut text, &self.peer_id())?;
        let left = if self.seed { 0 } else { 50 };
        write!(text, "&port={}&uploaded=0&downloaded=0&left={left}&event=started", self.port)?;
        write!(text, "&numwant={WANTED}&compact=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        Ok(text.into_bytes())
    }
}

/// A scrape as a datagram.
pub fn udp_scrape(hashes: &[[u8; 20]], connection: u64, transaction: u32) -> Vec<u8> {
    let mut bytes = udp_head(connection, SCRAPE, transaction);
    bytes.extend(hashes.as_flattened());
    bytes
}

/// A scrape as an HTTP request.
pub fn http_scrape(hashes: &[[u8; 20]]) -> Result<Vec<u8>> {
    let mut text = String::from("GET /scrape");
    for (index, hash) in hashes.iter().enumerate() {
        text.push_str(if index == 0 { "?info_hash=" } else { "&info_hash=" });
        escape(&mut text, hash)?;
    }
    text.push_str(" HTTP/1.1\r\nHost: localhost\r\n\r\n");
    Ok(text.into_bytes())
}

fn escape(text: &mut String, bytes: &[u8]) -> Result<()> {
    for byte in bytes {
        write!(text, "%{byte:02x}")?;
    }
    Ok(())
}

/// Why the tracker refused; nothing if it served.
pub fn refusal(protocol: Protocol, answer: &[u8]) -> Option<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match protocol {
        Protocol::Udp => answer.starts_with(&ERROR.to_be_bytes()).then(|| text(&answer[8..])),
        Protocol::Http => {
            let reason = find(answer, b"14:failure reason").map(|at| &answer[at..]);
            reason.or((!answer.starts_with(b"d")).then_some(answer)).map(text)
        }
    }
}

/// How many peers all the swarms in the answer to a scrape have.
pub fn scraped(protocol: Protocol, answer: &[u8]) -> Result<u64> {
    match protocol {
        Protocol::Udp => {
            ensure!(answer.starts_with(&SCRAPE.to_be_bytes()), "no answer to a scrape: {answer:?}");
            let (swarms, _) = answer[8..].as_chunks::<12>();
            let number = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
            Ok(swarms.iter().map(|swarm| number(&swarm[..4]) + number(&swarm[8..])).sum())
        }
        Protocol::Http => Ok(sum(answer, b"8:completei")? + sum(answer, b"10:incompletei")?),
    }
}

/// The sum of the numbers that follow `key`.
fn sum(mut bytes: &[u8], key: &[u8]) -> Result<u64> {
    let mut all = 0;
    while let Some(at) = find(bytes, key) {
        bytes = &bytes[at + key.len()..];
        let digits = bytes.split(|byte| *byte == b'e').next().unwrap_or_default();
        let digits = str::from_utf8(digits)?;
        all += digits.parse::<u64>().with_context(|| format!("{digits:?} is no number"))?;
    }
    Ok(all)
}

/// Where `needle` begins.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_counts_seeds_and_leechers_and_not_downloads() {
        let http = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei3e10:downloadedi9e10:incompletei4eeee";
        assert_eq!(scraped(Protocol::Http, http).unwrap(), 7);
        let numbers = [SCRAPE, 1, 3, 9, 4, 1, 0, 1];
        let udp: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        assert_eq!(scraped(Protocol::Udp, &udp).unwrap(), 9);
    }

    #[test]
    fn a_refusal_is_no_success() {
        assert!(refusal(Protocol::Http, b"d8:completei1ee").is_none());
        assert!(refusal(Protocol::Http, b"d14:failure reason4:fulle").unwrap().ends_with("4:fulle"));
        assert!(refusal(Protocol::Http, b"not found").is_some());
        assert_eq!(refusal(Protocol::Udp, b"\0\0\0\x03\0\0\0\x01full").as_deref(), Some("full"));
        assert!(refusal(Protocol::Udp, &udp_head(0, 0, 0)).is_none());
    }

    #[test]
    fn an_announce_has_the_length_of_the_standard() {
        let announce = Announce { info_hash: info_hash(1), peer: 1, port: 2000, seed: true };
        assert_eq!(announce.udp(1, 2).len(), 98);
    }
}
