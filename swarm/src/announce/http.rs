//! The HTTP tracker protocol as bytes: the query of an announce, and the answer (BEP 3, 7, 23, 24).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use torrent::bencode::{self, Dict, Limits, Value};

use super::{Announce, Answer, AnswerError, Event, MAX_PEERS, compact_v4, compact_v6, text};

/// The longest answer that is read (T54).
pub const MAX_RESPONSE: usize = 1 << 20;
/// Limits on the answer: 1 MiB holds 40,000 peers in the list form.
const LIMITS: Limits = Limits { bytes: MAX_RESPONSE, tokens: 400_000, depth: 8 };
/// The longest `tracker id` that is kept and echoed.
const MAX_TRACKER_ID: usize = 256;

impl Announce<'_> {
    /// The query string, percent-encoded byte by byte: URL libraries would take the infohash for text.
    pub fn query(&self) -> String {
        let mut query = format!(
            "info_hash={}&peer_id={}&port={}&uploaded={}&downloaded={}&left={}&compact=1&key={:08X}",
            percent(&self.id.0),
            percent(&self.peer_id.0),
            self.port,
            self.uploaded,
            self.downloaded,
            self.left,
            self.key,
        );
        append(&mut query, "numwant", &self.wanted().to_string());
        match self.event {
            Some(Event::Started) => append(&mut query, "event", "started"),
            Some(Event::Completed) => append(&mut query, "event", "completed"),
            Some(Event::Stopped) => append(&mut query, "event", "stopped"),
            Some(Event::Paused) => append(&mut query, "event", "paused"),
            None => {}
        }
        if let Some(id) = self.tracker_id {
            append(&mut query, "trackerid", &percent(id));
        }
        if let Some(node) = self.node {
            append(&mut query, "node", &percent(node.as_bytes()));
        }
        query
    }
}

fn append(query: &mut String, key: &str, value: &str) {
    for part in ["&", key, "=", value] {
        query.push_str(part);
    }
}

/// Letters, digits and `-._~` as they are, all other bytes as `%XX` (RFC 3986).
pub(crate) fn percent(bytes: &[u8]) -> String {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    bytes.iter().fold(String::with_capacity(bytes.len() * 3), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.extend(['%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        text
    })
}

impl Answer {
    /// Reads the body of a response.
    pub fn parse(body: &[u8]) -> Result<Self, AnswerError> {
        let (value, _) = bencode::decode_prefix(body, &LIMITS).map_err(|_| AnswerError::Malformed)?;
        let dict = value.as_dict().ok_or(AnswerError::Malformed)?;
        let said = |key: &str| dict.get(key).and_then(|v| v.as_bytes()).map(text);
        if let Some(reason) = said("failure reason") {
            return Err(AnswerError::Refused(reason));
        }
        let number = |key: &str| dict.get(key).and_then(|v| v.as_int()).and_then(|n| u64::try_from(n).ok());
        let id = dict.get("tracker id").and_then(|v| v.as_bytes()).filter(|id| id.len() <= MAX_TRACKER_ID);
        Ok(Self {
            interval: number("interval").map(Duration::from_secs),
            min_interval: number("min interval").map(Duration::from_secs),
            tracker_id: id.map(<[u8]>::to_vec),
            seeders: number("complete"),
            leechers: number("incomplete"),
            peers: peers(&dict)?,
            warning: said("warning message"),
        })
    }
}

fn peers(dict: &Dict<'_>) -> Result<Vec<SocketAddr>, AnswerError> {
    let mut found = match dict.get("peers") {
        Some(Value::Bytes(compact)) => compact_v4(compact)?,
        Some(Value::List(list)) => list.iter().filter_map(|peer| listed(&peer)).collect(),
        _ => Vec::new(),
    };
    if let Some(compact) = dict.get("peers6").and_then(|v| v.as_bytes()) {
        found.extend(compact_v6(compact)?);
    }
    found.truncate(MAX_PEERS);
    Ok(found)
}

/// One entry of the list form; host names are not looked up.
fn listed(peer: &Value<'_>) -> Option<SocketAddr> {
    let dict = peer.as_dict()?;
    let ip: IpAddr = dict.get("ip")?.as_str()?.parse().ok()?;
    let port = u16::try_from(dict.get("port")?.as_int()?).ok()?;
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use torrent::WireId;

    use super::*;
    use crate::announce::FOREIGN_MIN_INTERVAL;
    use crate::wire::PeerId;

    #[test]
    fn twenty_binary_bytes_survive() {
        let announce = Announce {
            id: WireId(*b"\x00\xff&= %+abcdefghijklm"),
            peer_id: PeerId(*b"-SM0001-abcdefghijkl"),
            key: 7,
            port: 6881,
            uploaded: 1,
            downloaded: 2,
            left: 3,
            event: Some(Event::Started),
            tracker_id: Some(b"a b"),
            node: Some("node-1"),
        };
        assert_eq!(
            announce.query(),
            "info_hash=%00%FF%26%3D%20%25%2Babcdefghijklm&peer_id=-SM0001-abcdefghijkl&port=6881&uploaded=1\
             &downloaded=2&left=3&compact=1&key=00000007&numwant=80&event=started&trackerid=a%20b&node=node-1"
        );
    }

    #[test]
    fn compact_and_list_forms_and_both_families() {
        let answer =
            Answer::parse(b"d8:completei1e8:intervali30e5:peers6:\x0a\x00\x00\x01\x1a\xe16:peers618:\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe110:tracker id2:e1e")
                .unwrap();
        assert_eq!(answer.peers, ["10.0.0.1:6881".parse().unwrap(), "[2001:db8::1]:6881".parse().unwrap()]);
        assert_eq!(answer.tracker_id.as_deref(), Some(&b"e1"[..]));
        assert_eq!(answer.wait(true), Duration::from_secs(30));
        assert_eq!(answer.wait(false), FOREIGN_MIN_INTERVAL);
        let list = Answer::parse(
            b"d5:peersld2:ip8:10.0.0.24:porti9eed2:ip5:host.4:porti9eed2:ip3:::14:porti70000eeee",
        );
        assert_eq!(list.unwrap().peers, ["10.0.0.2:9".parse().unwrap()]);
    }

    #[test]
    fn t053_nonsense_is_bounded() {
        assert_eq!(Answer::parse(b"d5:peers5:abcdee"), Err(AnswerError::PeerList));
        assert_eq!(Answer::parse(b"d6:peers65:abcdee"), Err(AnswerError::PeerList));
        assert_eq!(Answer::parse(b"d14:failure reason2:noe"), Err(AnswerError::Refused("no".into())));
        for (interval, own, foreign) in [("0", 5, 60), ("9223372036854775807", 3600, 3600), ("-5", 120, 120)]
        {
            let answer = Answer::parse(format!("d8:intervali{interval}ee").as_bytes()).unwrap();
            assert_eq!(answer.wait(true).as_secs(), own);
            assert_eq!(answer.wait(false).as_secs(), foreign);
        }
        let eager = Answer::parse(b"d8:intervali30e12:min intervali90ee").unwrap();
        assert_eq!(eager.wait(true).as_secs(), 90);
        let many = [b"d5:peers60000:".to_vec(), vec![1; 60_000], b"e".to_vec()].concat();
        assert_eq!(Answer::parse(&many).unwrap().peers.len(), MAX_PEERS);
        let huge = [b"d5:peers6000000:".to_vec(), vec![1; 6_000_000], b"e".to_vec()].concat();
        assert_eq!(Answer::parse(&huge), Err(AnswerError::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(answer) = Answer::parse(&bytes) {
                prop_assert!(answer.peers.len() <= MAX_PEERS);
            }
        }
    }
}
