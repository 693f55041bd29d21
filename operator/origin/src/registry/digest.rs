//! `sha256:<hex>`.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// The SHA-256 of a blob, as registries write it. Other algorithms are refused: the runtime would have to be trusted to know them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// Reads `sha256:` and 64 lower-case hex digits; says what is wrong with anything else.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err("it is no digest: sha256:<64 hex digits>");
        };
        if algorithm != "sha256" {
            return Err("only sha256 digests are taken");
        }
        let good = hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if good { Ok(Self(hex.to_owned())) } else { Err("a sha256 digest has 64 lower-case hex digits") }
    }

    /// That of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex::encode(Sha256::digest(bytes)))
    }

    /// The 64 hex digits.
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}
