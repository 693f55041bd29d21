//! The extension handshake of BEP 10: message 20, id 0.
//!
//! It says what else the sender understands: of the extensions we speak `ut_metadata` (BEP 9), `upload_only` (BEP 21) and `lt_donthave` (BEP 54), and of our own `sm_bad`,
//! `sm_coming`, `sm_hashes` and `sm_run`.

use torrent::bencode::{self, Limits, Writer};

use super::metadata::MAX_METADATA;
use super::notice::Notices;
use crate::near::Place;

/// The requests that we take from one peer before we reject more.
pub const REQQ: u32 = 500;
/// What a dictionary of an honest peer needs, with room (T36).
const LIMITS: Limits = Limits { bytes: 16 * 1024, tokens: 1_000, depth: 10 };
/// The longest client name that is kept.
const MAX_CLIENT: usize = 64;
/// The id under which we take messages of `ut_metadata`.
pub const UT_METADATA: u8 = 1;
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
    /// `m.ut_metadata`: the id under which it takes messages of BEP 9.
    pub ut_metadata: Option<u8>,
    /// `m.lt_donthave`, `m.sm_bad`, `m.sm_coming`, `m.sm_hashes` and `m.sm_run`.
    pub notices: Notices,
    /// `metadata_size`: bytes of `info`, if it has it.
    pub metadata_size: Option<u32>,
    /// `sm_place`, a key of our own: where the sender is, so that near peers are asked first.
    pub place: Place,
    /// `upload_only`: whether the sender wants nothing (more), although it may not have everything (BEP 21); `None`: as before.
    pub upload_only: Option<bool>,
}

/// The payload is not a sane dictionary (T36); the connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed extension handshake")]
pub struct ExtensionError;

impl ExtensionHandshake {
    /// Ours; `metadata_size`: bytes of `info`, once it is known; `place`: where we are.
    pub fn own(port: Option<u16>, metadata_size: Option<u32>, place: Place) -> Self {
        let client = Some(format!("{OWN_CLIENT}{}", env!("CARGO_PKG_VERSION")));
        let (ut_metadata, notices) = (Some(UT_METADATA), Notices::own());
        Self { client, reqq: Some(REQQ), port, ut_metadata, notices, metadata_size, place, upload_only: None }
    }

    /// Whether the other side calls itself one of ours. It is a name that anyone can use, and it proves nothing. Who uses it is never
    /// choked ([`crate::core::TorrentCore::chokes`]), is banned for the second bad piece, not for the first, and is sent to other pieces by
    /// a cold seed.
    pub fn is_own(&self) -> bool {
        self.client.as_deref().is_some_and(|client| client.starts_with(OWN_CLIENT))
    }

    /// The bencoded dictionary.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.dict(|dict| {
            dict.entry("m").dict(|extensions| {
                let ids = [
                    ("lt_donthave", self.notices.dont_have),
                    ("sm_bad", self.notices.bad),
                    ("sm_coming", self.notices.coming),
                    ("sm_hashes", self.notices.hashes),
                    ("sm_run", self.notices.run),
                    ("ut_metadata", self.ut_metadata),
                ];
                for (name, id) in ids {
                    if let Some(id) = id {
                        extensions.entry(name).uint(u64::from(id));
                    }
                }
            });
            if let Some(size) = self.metadata_size {
                dict.entry("metadata_size").uint(u64::from(size));
            }
            if let Some(port) = self.port {
                dict.entry("p").uint(u64::from(port));
            }
            if let Some(reqq) = self.reqq {
                dict.entry("reqq").uint(u64::from(reqq));
            }
            if !self.place.is_unknown() {
                dict.entry("sm_place").dict(|place| {
                    place.entry("rack").bytes(&self.place.rack);
                    place.entry("region").bytes(&self.place.region);
                    place.entry("zone").bytes(&self.place.zone);
                });
            }
            if let Some(upload_only) = self.upload_only {
                dict.entry("upload_only").uint(u64::from(upload_only));
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
        let extensions = dict.get("m").and_then(|value| value.as_dict());
        let extension = |name: &str| extensions.and_then(|m| m.get(name)).and_then(|value| value.as_int());
        // 0 takes an extension back.
        let id = |name| extension(name).and_then(|id| u8::try_from(id).ok()).filter(|id| *id != 0);
        let place = dict.get("sm_place").and_then(|value| value.as_dict());
        let part = |name: &str| place.and_then(|place| place.get(name)).and_then(|value| value.as_str());
        let part = |name: &str| part(name).unwrap_or_default();
        Ok(Self {
            client,
            reqq: int("reqq").and_then(|reqq| u32::try_from(reqq).ok()),
            port: int("p").and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
            ut_metadata: id("ut_metadata"),
            notices: Notices {
                dont_have: id("lt_donthave"),
                coming: id("sm_coming"),
                hashes: id("sm_hashes"),
                bad: id("sm_bad"),
                run: id("sm_run"),
            },
            metadata_size: int("metadata_size")
                .and_then(|size| u32::try_from(size).ok())
                .filter(|size| (1..=MAX_METADATA).contains(&(*size as usize))),
            place: Place::new(part("region"), part("zone"), part("rack")),
            upload_only: int("upload_only").map(|is| is != 0),
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
        let mut said = ExtensionHandshake::own(Some(6881), Some(1234), Place::new("eu", "a", ""));
        said.upload_only = Some(true);
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
