//! Infohashes as types, so that the two kinds cannot be mixed up.

use std::fmt;
use std::str::FromStr;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Text that is not the hexadecimal form of a hash of the wanted length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits")]
pub struct ParseHashError {
    /// Digits that the type has: 40 or 64.
    pub expected: usize,
}

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// The bytes, in the order of the wire.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseHashError;

            fn from_str(text: &str) -> Result<Self, ParseHashError> {
                let mut bytes = [0; $bytes];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseHashError { expected: 2 * $bytes })?;
                Ok(Self(bytes))
            }
        }

        impl From<[u8; $bytes]> for $name {
            fn from(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = ParseHashError;

            fn try_from(bytes: &[u8]) -> Result<Self, ParseHashError> {
                Ok(Self(bytes.try_into().map_err(|_| ParseHashError { expected: 2 * $bytes })?))
            }
        }
    };
}

hash_type! {
    /// The v1 infohash: SHA-1 of the raw `info` dictionary (BEP 3). Text form: 40 hexadecimal digits.
    InfoHashV1, 20
}

hash_type! {
    /// The v2 infohash: SHA-256 of the raw `info` dictionary (BEP 52). Text form: 64 hexadecimal digits.
    InfoHashV2, 32
}

hash_type! {
    /// The name of a swarm whose content is still being read: SHA-256 of its [`crate::ingest::Outline`]. Text form: 64
    /// hexadecimal digits.
    IngestId, 32
}

hash_type! {
    /// What handshakes, announces and scrapes carry: a v1 infohash, or a v2 infohash cut to 20 bytes (BEP 52).
    WireId, 20
}

impl InfoHashV1 {
    /// Of the raw bytes of an `info` dictionary.
    pub fn of(info: &[u8]) -> Self {
        Self(Sha1::digest(info).into())
    }
}

impl InfoHashV2 {
    /// Of the raw bytes of an `info` dictionary.
    pub fn of(info: &[u8]) -> Self {
        Self(Sha256::digest(info).into())
    }

    /// The first 20 bytes: how this torrent is called on the wire.
    pub fn truncated(&self) -> WireId {
        let mut id = [0; 20];
        id.copy_from_slice(&self.0[..20]);
        WireId(id)
    }
}

impl IngestId {
    /// Of the bytes of an outline.
    pub fn of(outline: &[u8]) -> Self {
        Self(Sha256::digest(outline).into())
    }
}

impl From<IngestId> for WireId {
    /// Cut to 20 bytes, as a v2 infohash is.
    fn from(id: IngestId) -> Self {
        InfoHashV2(id.0).truncated()
    }
}

impl From<InfoHashV1> for WireId {
    fn from(hash: InfoHashV1) -> Self {
        Self(hash.0)
    }
}

impl From<InfoHashV2> for WireId {
    fn from(hash: InfoHashV2) -> Self {
        hash.truncated()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let hash = InfoHashV2(std::array::from_fn(|i| i as u8));
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.truncated().to_string(), hash.to_string()[..40]);
    }

    #[test]
    fn wrong_length_is_refused() {
        assert_eq!("00".parse::<InfoHashV1>(), Err(ParseHashError { expected: 40 }));
        assert_eq!(InfoHashV1::try_from(&[0u8; 26][..]), Err(ParseHashError { expected: 40 }));
        assert!("zz".repeat(20).parse::<WireId>().is_err());
    }
}
