//! Messages of `ut_metadata` (BEP 9): `info` in parts of 16 KiB.

use torrent::bencode::{self, Limits, Writer};

/// Bytes of a part, of every part but the last.
pub const PART: usize = 16 * 1024;
/// The longest `info` that is asked for: what libtorrent serves at most (T36).
pub const MAX_METADATA: usize = 30 << 20;
/// What the dictionary of an honest peer needs, with room; the bytes of a part follow it.
const LIMITS: Limits = Limits { bytes: 1024, tokens: 32, depth: 4 };

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metadata<'a> {
    /// 0: asks for a part.
    Request(u32),
    /// 1: a part.
    Data {
        /// Which.
        part: u32,
        /// Bytes of the whole `info`.
        total: u32,
        /// The bytes.
        data: &'a [u8],
    },
    /// 2: this part will not be sent.
    Reject(u32),
    /// Of a kind that we do not know: ignored, as BEP 9 wants it.
    Unknown,
}

/// The payload is no message of BEP 9 (T36, T37); the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed metadata message")]
pub struct MetadataError;

impl<'a> Metadata<'a> {
    /// The payload of an extension message.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, part, total, data) = match *self {
            Metadata::Request(part) => (0, part, None, &[][..]),
            Metadata::Data { part, total, data } => (1, part, Some(total), data),
            Metadata::Reject(part) => (2, part, None, &[][..]),
            Metadata::Unknown => return Vec::new(),
        };
        let mut writer = Writer::new();
        writer.dict(|dict| {
            dict.entry("msg_type").uint(kind);
            dict.entry("piece").uint(part.into());
            if let Some(total) = total {
                dict.entry("total_size").uint(total.into());
            }
        });
        let mut payload = writer.into_bytes();
        payload.extend_from_slice(data);
        payload
    }

    /// Reads the payload of an extension message.
    pub fn decode(payload: &'a [u8]) -> Result<Self, MetadataError> {
        let head = &payload[..payload.len().min(LIMITS.bytes)];
        let (value, used) = bencode::decode_prefix(head, &LIMITS).map_err(|_| MetadataError)?;
        let dict = value.as_dict().ok_or(MetadataError)?;
        let int = |key: &str| dict.get(key).and_then(|value| value.as_int());
        let number = |key: &str| int(key).and_then(|int| u32::try_from(int).ok()).ok_or(MetadataError);
        let data = &payload[used..];
        match int("msg_type").ok_or(MetadataError)? {
            0 => Ok(Metadata::Request(number("piece")?)),
            1 if data.len() > PART => Err(MetadataError),
            1 => Ok(Metadata::Data { part: number("piece")?, total: number("total_size")?, data }),
            2 => Ok(Metadata::Reject(number("piece")?)),
            _ => Ok(Metadata::Unknown),
        }
    }
}

/// The bytes of a part; `None` behind the end.
pub fn part(info: &[u8], part: u32) -> Option<&[u8]> {
    info.chunks(PART).nth(part as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_sent_is_read() {
        for message in [
            Metadata::Request(7),
            Metadata::Reject(0),
            Metadata::Data { part: 1, total: 16_400, data: b"d1:ae, or what looks like it" },
        ] {
            assert_eq!(Metadata::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn t037_a_part_of_more_than_16_kib_is_refused() {
        let data = vec![0; PART + 1];
        let long = Metadata::Data { part: 0, total: 40_000, data: &data }.encode();
        assert_eq!(Metadata::decode(&long), Err(MetadataError));
        assert_eq!(Metadata::decode(b"d8:msg_typei0ee"), Err(MetadataError));
        assert_eq!(Metadata::decode(b"d8:msg_typei0e5:piecei-1ee"), Err(MetadataError));
        assert_eq!(Metadata::decode(b"i0e"), Err(MetadataError));
        assert_eq!(Metadata::decode(b"d8:msg_typei9ee"), Ok(Metadata::Unknown));
        let bomb = "l".repeat(100_000);
        assert_eq!(Metadata::decode(bomb.as_bytes()), Err(MetadataError));
    }

    #[test]
    fn parts_make_the_whole() {
        let info: Vec<u8> = (0..40_000u32).map(|i| i as u8).collect();
        let parts: Vec<&[u8]> = (0..).map_while(|number| part(&info, number)).collect();
        assert_eq!(parts.concat(), info);
        assert_eq!(part(&info, u32::MAX), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _read = Metadata::decode(&bytes);
        }
    }
}
