//! The extension handshake of BEP 10: message 20, id 0.
//!
//! We offer no extension messages yet; what counts is what the peer says about its request queue and its port.

use torrent::bencode::{self, Limits, Writer};

/// The requests that we take from one peer before we reject more.
pub const REQQ: u32 = 500;
/// What a dictionary of an honest peer needs, with room (T36).
const LIMITS: Limits = Limits { bytes: 16 * 1024, tokens: 1_000, depth: 10 };
/// The longest client name that is kept.
const MAX_CLIENT: usize = 64;
/// How our own clients begin their name.
const OWN_CLIENT: &str = "Samara/";

/// What one side says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtensionHandshake {
    /// `v`: name and version.
    pub client: Option<String>,
    /// `reqq`: how many requests it queues.
    pub reqq: Option<u32>,
    /// `p`: the port it listens on.
    pub port: Option<u16>,
}

/// The payload is not a sane dictionary (T36); the connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed extension handshake")]
pub struct ExtensionError;

impl ExtensionHandshake {
    /// Ours.
    pub fn own(port: Option<u16>) -> Self {
        let client = Some(format!("{OWN_CLIENT}{}", env!("CARGO_PKG_VERSION")));
        Self { client, reqq: Some(REQQ), port }
    }

    /// Whether the other side calls itself one of ours. It proves nothing and grants nothing but politeness.
    pub fn is_own(&self) -> bool {
        self.client.as_deref().is_some_and(|client| client.starts_with(OWN_CLIENT))
    }

    /// The bencoded dictionary.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.dict(|dict| {
            dict.entry("m").dict(|_| {});
            if let Some(port) = self.port {
                dict.entry("p").uint(u64::from(port));
            }
            if let Some(reqq) = self.reqq {
                dict.entry("reqq").uint(u64::from(reqq));
            }
            if let Some(client) = &self.client {
                dict.entry("v").bytes(client);
            }
        });
        writer.into_bytes()
    }

    /// Reads the dictionary; keys that we do not know, and values of a wrong type, are ignored.
    pub fn decode(payload: &[u8]) -> Result<Self, ExtensionError> {
        let (value, _) = bencode::decode_prefix(payload, &LIMITS).map_err(|_| ExtensionError)?;
        let dict = value.as_dict().ok_or(ExtensionError)?;
        let int = |key: &str| dict.get(key).and_then(|value| value.as_int());
        let client = dict.get("v").and_then(|value| value.as_str()).map(printable);
        Ok(Self {
            client,
            reqq: int("reqq").and_then(|reqq| u32::try_from(reqq).ok()),
            port: int("p").and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
        })
    }
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_CLIENT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_said_is_heard() {
        let said = ExtensionHandshake::own(Some(6881));
        let heard = ExtensionHandshake::decode(&said.encode()).unwrap();
        assert_eq!(heard, said);
        assert!(heard.is_own());
    }

    #[test]
    fn t036_bombs_and_nonsense_are_refused_or_ignored() {
        let bomb = "l".repeat(100_000);
        assert_eq!(ExtensionHandshake::decode(bomb.as_bytes()), Err(ExtensionError));
        let deep = format!("d1:m{}{}e", "l".repeat(100), "e".repeat(100));
        assert_eq!(ExtensionHandshake::decode(deep.as_bytes()), Err(ExtensionError));
        let long = format!("d1:v20000:{}e", "x".repeat(20_000));
        assert_eq!(ExtensionHandshake::decode(long.as_bytes()), Err(ExtensionError));
        let odd = ExtensionHandshake::decode(
            b"d1:md11:ut_metadatai300ee13:metadata_sizei2147483648e1:pi0e4:reqqi-1ee",
        );
        assert_eq!(odd, Ok(ExtensionHandshake::default()));
        assert_eq!(ExtensionHandshake::decode(b"i3e"), Err(ExtensionError));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(heard) = ExtensionHandshake::decode(&bytes) {
                prop_assert!(heard.client.is_none_or(|client| client.chars().count() <= MAX_CLIENT));
            }
        }
    }
}
