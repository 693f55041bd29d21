//! Names of images, read and completed as Docker and containerd do (the grammar of `distribution/reference`).

use std::fmt;

use url::Host;

use super::Digest;

/// What a name without a registry belongs to.
const DOCKER: &str = "docker.io";
/// Where Docker's registry really is.
const DOCKER_API: &str = "registry-1.docker.io";
/// The longest name, registry and repository together.
const MAX_NAME: usize = 255;
/// The longest tag.
const MAX_TAG: usize = 128;

/// A name is not one of an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reference:?} is no image reference: {why}")]
pub struct ReferenceError {
    /// As it was written, cut.
    pub reference: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// `registry/repository[:tag][@digest]`, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads what a pod would have as `image`.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|why| ReferenceError { reference: text.chars().take(120).collect(), why })
    }

    /// `docker.io`, `registry.example.com:5000`: as it stands in the reference.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` if there is neither tag nor digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that is asked for.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same name, at this digest.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Where the registry's API is: `host[:port]`.
    pub fn api_host(&self) -> &str {
        if self.registry == DOCKER { DOCKER_API } else { &self.registry }
    }

    /// The host of that, without port.
    pub fn host(&self) -> &str {
        let host = self.api_host();
        let end = if host.starts_with('[') { host.find(']').map(|at| at + 1) } else { host.find(':') };
        &host[..end.unwrap_or(host.len())]
    }

    /// Whether it is on this machine by its very name: then it is spoken to without TLS, as container runtimes do.
    pub fn is_loopback(&self) -> bool {
        let host = self.host().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) => (named, Some(Digest::parse(digest)?)),
        None => (text, None),
    };
    let (registry, rest) = match named.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest),
        _ => (DOCKER, named),
    };
    let (repository, tag) = match rest.rsplit_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(
            "a tag has at most 128 letters, digits, '_', '.' and '-', and begins with none of the last two",
        );
    }
    check_registry(registry)?;
    if repository.len() == 64 && repository.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("64 hex digits are the id of an image, not its name");
    }
    if !repository.split('/').all(is_component) {
        return Err("a repository is lower-case letters and digits, joined by '.', '_', '__', '-' and '/'");
    }
    let registry = if registry == "index.docker.io" { DOCKER } else { registry };
    let official = registry == DOCKER && !repository.contains('/');
    let repository = if official { format!("library/{repository}") } else { repository.to_owned() };
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err("registry and repository have more than 255 characters");
    }
    let tag = tag.or(digest.is_none().then_some("latest")).map(str::to_owned);
    Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
}

/// Whether what stands before the first slash is a registry, and not a part of the repository.
fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), &'static str> {
    const WHY: &str = "a registry is host[:port]";
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(WHY)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| WHY)?;
            ("v6", if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(WHY)?) })
        }
        None => registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port))),
    };
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if port.is_some_and(|port| !digits(port) || port.parse::<u16>().is_err()) {
        return Err(WHY);
    }
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = bytes.first().zip(bytes.last());
        ends.is_some_and(|(first, last)| first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    if !host.split('.').all(label) {
        return Err(WHY);
    }
    // A URL reads `127.1` and `0x7f.1` as addresses, and `300.1.1.1` not at all: what is dialled would not be what rules and passwords
    // were matched with.
    let same = Host::parse(host).is_ok_and(|read| read.to_string().eq_ignore_ascii_case(host));
    if same {
        Ok(())
    } else {
        Err("its registry is neither a host name nor an address as they are written in full")
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = tag.as_bytes();
    bytes.len() <= MAX_TAG
        && bytes.first().is_some_and(|first| word(*first))
        && bytes.iter().all(|&byte| word(byte) || matches!(byte, b'.' | b'-'))
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn is_component(component: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut separators = component.split(word).filter(|separator| !separator.is_empty());
    component.starts_with(word)
        && component.ends_with(word)
        && separators.all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|byte| byte == b'-'))
}
