//! The names of the distribution specification: registries, repositories, tags, digests.
//!
//! Everything here is checked when it is made, so that what reaches an [`Images`](crate::Images) can be used in a path or a log.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// The longest host name of a registry, with its port, in bytes (RFC 1035, and a port).
const MAX_HOST: usize = 261;
/// The longest repository name in bytes: what registries agree on (distribution-spec, "Pulling manifests").
const MAX_REPOSITORY: usize = 255;
/// The longest tag in bytes (distribution-spec).
const MAX_TAG: usize = 128;

/// Text that is not a name of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a registry: `name`, `name:port`, `address`, `[address]:port`.
    #[error("not the name of a registry (host, or host:port)")]
    Host,
    /// Not a repository.
    #[error(
        "not the name of a repository (lower-case letters, digits, single separators, slashes; at most 255 bytes)"
    )]
    Repository,
    /// Neither tag nor digest.
    #[error("neither a tag nor a digest")]
    Reference,
    /// Not `algorithm:hex`.
    #[error("not a digest (sha256: and 64 lower-case hexadecimal digits)")]
    Digest,
}

/// A repository at a registry, such as `library/nginx` at `docker.io`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    host: String,
    path: String,
}

impl Repository {
    /// Of the registry `host`, as it stands in a reference (`docker.io`, not `registry-1.docker.io`).
    pub fn new(host: &str, path: &str) -> Result<Self, NameError> {
        if !is_host(host) {
            return Err(NameError::Host);
        }
        if !is_repository(path) {
            return Err(NameError::Repository);
        }
        Ok(Self { host: host.to_ascii_lowercase(), path: path.to_owned() })
    }

    /// The registry: host, and port where there is one; lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The name within the registry.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

/// A SHA-256 digest, `sha256:<64 hexadecimal digits>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits = text.strip_prefix("sha256:").ok_or(NameError::Digest)?;
        if digits.len() != 64 || digits.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(NameError::Digest);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| NameError::Digest)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which manifest of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// By a name that may point elsewhere tomorrow.
    Tag(String),
    /// By its bytes.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains(':') {
            return text.parse().map(Self::Digest);
        }
        if is_tag(text) { Ok(Self::Tag(text.to_owned())) } else { Err(NameError::Reference) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

/// Components between slashes, each `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_repository(text: &str) -> bool {
    text.len() <= MAX_REPOSITORY && text.split('/').all(is_component)
}

fn is_component(text: &str) -> bool {
    let word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(word) && bytes.last().is_some_and(word);
    // What stands between words: one dot, one or two underscores, any number of dashes.
    let separators = bytes.split(word).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
    });
    ends && separators
}

fn is_host(text: &str) -> bool {
    if text.is_empty() || text.len() > MAX_HOST {
        return false;
    }
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<std::net::Ipv6Addr>().is_ok() && port;
    }
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let label = |label: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        edge(label.bytes().next())
            && edge(label.bytes().last())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn repositories_follow_the_grammar_of_the_specification() {
        for good in ["nginx", "library/nginx", "a.b/c_d/e__f/g---h", "0/1"] {
            assert!(is_repository(good), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "-a", "a-", "a._b", "..", "../a", "a%2fb",
            "ä", &long,
        ] {
            assert!(!is_repository(bad), "{bad}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses_with_or_without_a_port() {
        for good in
            ["docker.io", "localhost", "127.0.0.1:5000", "[::1]:5000", "[fd00::1]", "Registry.example:1"]
        {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "", ".", "a..b", "a:", "a:0", "a:65536", "a:b", "a/b", "[::1", "[x]", "-a", "a b", "a@b",
            "a:1:2", "a:+1",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn references_are_tags_or_digests() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string().parse(), Ok(Reference::Digest(digest)));
        assert_eq!("v1.0-x_Y".parse(), Ok(Reference::Tag("v1.0-x_Y".into())));
        let long = "a".repeat(129);
        for bad in ["", ".a", "-a", "a/b", "a+b", "sha256:", "sha512:00", "md5:1", &long] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn t091_a_digest_is_sha256_in_lower_case() {
        let hex = "a".repeat(64);
        assert!(format!("sha256:{hex}").parse::<Digest>().is_ok());
        for bad in [
            hex.clone(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}a"),
            format!("sha512:{hex}{hex}"),
            format!("sha256:{}g", &hex[1..]),
        ] {
            assert_eq!(bad.parse::<Digest>(), Err(NameError::Digest), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_can_stand_in_a_path(text in "[a-z0-9./_%:-]{0,20}") {
            if is_repository(&text) {
                prop_assert!(text.split('/').all(|part| !part.is_empty() && part != ".." && part != "."));
            }
        }

        #[test]
        fn a_component_agrees_with_the_expression(words in proptest::collection::vec("[a-z0-9]{1,3}", 1..4),
                                                   separator in "[._-]{1,3}") {
            let text = words.join(&separator);
            let allowed = matches!(separator.as_str(), "." | "_" | "__") || separator.chars().all(|c| c == '-');
            prop_assert_eq!(is_component(&text), allowed || words.len() == 1);
        }
    }
}
