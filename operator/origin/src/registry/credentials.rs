//! Pull secrets: docker's configuration, read and matched as the kubelet does (`pkg/credentialprovider`). Pure.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::Reference;

/// The most entries of all secrets together.
const MAX_ENTRIES: usize = 256;
/// The most that are tried at one registry.
const MAX_TRIED: usize = 8;
/// The name that Docker's own registry goes by in old configurations.
const DOCKER_KEY: &str = "index.docker.io";
/// With or without padding, as the kubelet takes it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A pull secret is not what its type says. Says nothing of what is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no docker configuration: {0}")]
pub struct KeyringError(pub &'static str);

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    user: String,
    password: String,
}

impl Login {
    /// The value of an `Authorization` header (RFC 7617).
    pub(super) fn basic(&self) -> String {
        format!("Basic {}", BASE64.encode(format!("{}:{}", self.user, self.password)))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
}

/// What a `Distribution`'s pull secrets hold.
#[derive(Debug, Clone, Default)]
pub struct Keyring(Vec<(String, Login)>);

impl Keyring {
    /// Takes in `.dockerconfigjson` of a `kubernetes.io/dockerconfigjson`.
    pub fn add_config(&mut self, json: &[u8]) -> Result<(), KeyringError> {
        // The parser's own words would show what it read.
        let config: Config = serde_json::from_slice(json).map_err(|_| {
            KeyringError(".dockerconfigjson is not {\"auths\": {\"<registry>\": {\"auth\": ...}}}")
        })?;
        self.add(config.auths)
    }

    /// Takes in `.dockercfg` of a `kubernetes.io/dockercfg`.
    pub fn add_legacy(&mut self, json: &[u8]) -> Result<(), KeyringError> {
        let auths: BTreeMap<String, Entry> = serde_json::from_slice(json)
            .map_err(|_| KeyringError(".dockercfg is not {\"<registry>\": {\"auth\": ...}}"))?;
        self.add(auths)
    }

    fn add(&mut self, auths: BTreeMap<String, Entry>) -> Result<(), KeyringError> {
        for (location, entry) in auths {
            if let Some(login) = login(entry)? {
                self.0.push((key(&location), login));
            }
        }
        if self.0.len() > MAX_ENTRIES {
            return Err(KeyringError("together with the others it has more than 256 entries"));
        }
        // The more telling first; those of the same place in the order of the secrets.
        self.0.sort_by(|(a, _), (b, _)| b.cmp(a));
        Ok(())
    }

    /// The logins for an image, the most telling first, at most 8.
    pub fn logins(&self, image: &Reference) -> Vec<Login> {
        let name = image.name();
        let of = |wanted: &dyn Fn(&str) -> bool| -> Vec<Login> {
            let fitting = self.0.iter().filter(|(key, _)| wanted(key)).map(|(_, login)| login.clone());
            fitting.take(MAX_TRIED).collect()
        };
        let mut found = of(&|key| fits(key, &name));
        if found.is_empty() && image.registry() == "docker.io" {
            found = of(&|key| key == DOCKER_KEY);
        }
        found
    }
}

fn login(entry: Entry) -> Result<Option<Login>, KeyringError> {
    let Entry { username: user, password, auth } = entry;
    if auth.is_empty() {
        return Ok((!user.is_empty()).then_some(Login { user, password }));
    }
    let wrong = KeyringError("auth is not base64 of user:password");
    let decoded = BASE64.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or_else(|| wrong.clone())?;
    let (user, password) = decoded.split_once(':').ok_or(wrong)?;
    Ok(Some(Login { user: user.to_owned(), password: password.trim_end_matches('\0').to_owned() }))
}

/// `host[:port][/path]`, without scheme and API version.
fn key(location: &str) -> String {
    let bare =
        location.strip_prefix("https://").or_else(|| location.strip_prefix("http://")).unwrap_or(location);
    let (host, path) = bare.split_at(bare.find('/').unwrap_or(bare.len()));
    let path = if path.starts_with("/v1/") || path.starts_with("/v2/") { &path[3..] } else { path };
    if path == "/" { host.to_owned() } else { format!("{host}{path}") }
}

/// Whether a key, in which labels may have wildcards, is of an image: the same number of labels, the same port, and a path that
/// begins like the image's.
fn fits(key: &str, image: &str) -> bool {
    let split = |text: &str| -> (String, String) {
        let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        (host.to_ascii_lowercase(), path.to_owned())
    };
    let ((key_host, key_path), (host, path)) = (split(key), split(image));
    let port = |host: &str| {
        host.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map(|(_, port)| port.to_owned())
    };
    if port(&key_host) != port(&host) || !path.starts_with(&key_path) {
        return false;
    }
    let (globs, labels): (Vec<&str>, Vec<&str>) = (key_host.split('.').collect(), host.split('.').collect());
    globs.len() == labels.len() && globs.iter().zip(&labels).all(|(glob, label)| matches_glob(glob, label))
}

/// `*` is any number of characters; nothing else is special in a host.
fn matches_glob(glob: &str, label: &str) -> bool {
    let Some((start, rest)) = glob.split_once('*') else { return glob == label };
    let Some(mut label) = label.strip_prefix(start) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return label.ends_with(part);
        }
        let Some(at) = label.find(part) else { return false };
        label = &label[at + part.len()..];
    }
    true
}
