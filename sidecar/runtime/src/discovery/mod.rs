//! Where the runtime looks for hosts files, read from its configuration: newer ones do not tell when they are asked.
//!
//! What is found here is what the files say. Whether the running containerd has read them, only a [canary](crate::Runtime::canary) tells.

mod known;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item};

pub use known::{KNOWN, Place};

/// Files that are read at most: the main one and its imports.
const MAX_FILES: usize = 64;
/// The longest of them in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Where CRI's images are configured, by the version of the configuration: 3, 2, 1.
const IMAGE_PLUGINS: [&str; 3] = ["io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri", "cri"];
/// What containerd has since 2.2.0 where nothing is configured.
const DEFAULT_SINCE_2_2: &str = "/etc/containerd/certs.d:/etc/docker/certs.d";
/// Where containerd keeps everything unless told otherwise.
const DEFAULT_ROOT: &str = "/var/lib/containerd";

/// The files of a host; a trait, so that looking is pure.
pub trait Files {
    /// A file's text; none if it is not there.
    fn read(&self, path: &Path) -> io::Result<Option<String>>;
    /// The names in a folder; none if it is not there.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
}

/// The files of the host whose file system is mounted here.
#[derive(Debug, Clone)]
pub struct Mounted(pub PathBuf);

impl Mounted {
    fn at(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }
}

impl Files for Mounted {
    fn read(&self, path: &Path) -> io::Result<Option<String>> {
        use io::Read as _;
        let file = match std::fs::File::open(self.at(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut text = String::new();
        if file.take(MAX_FILE + 1).read_to_string(&mut text)? as u64 > MAX_FILE {
            return Err(io::Error::other(format!("has more than {MAX_FILE} bytes")));
        }
        Ok(Some(text))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let entries = match std::fs::read_dir(self.at(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        names.collect()
    }
}

/// Why the configuration cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// A file that cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// On the host.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// A file that is no TOML: containerd would not start with it.
    #[error("{} is no TOML: {reason}", path.display())]
    Unparsable {
        /// On the host.
        path: PathBuf,
        /// The parser's word.
        reason: String,
    },
    /// More imports than anybody has.
    #[error("{} imports more than {MAX_FILES} files", path.display())]
    TooMany {
        /// The main file.
        path: PathBuf,
    },
}

/// What the configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where hosts files are looked for: a path, or several with colons between. None where nothing is said.
    pub config_path: Option<String>,
    /// Whether layers are thrown away once they are unpacked.
    pub discard_unpacked_layers: bool,
    /// Where containerd keeps its content store.
    pub root: PathBuf,
    /// What was read, in order; a later file overrides. Empty where there is no configuration at all.
    pub files: Vec<PathBuf>,
}

impl Found {
    /// Where hosts files are looked for by a runtime of this version (as CRI says it, `v2.2.0`); none: nowhere, and the configuration has
    /// to be changed.
    pub fn config_path_of(&self, version: &str) -> Option<&str> {
        let configured = self.config_path.as_deref();
        configured
            .or_else(|| (release(version) >= Some((2, 2))).then_some(DEFAULT_SINCE_2_2))
            .filter(|path| !path.is_empty())
    }
}

/// Reads the configuration whose main file is `place.config`, with its imports, in containerd's order.
pub fn discover(files: &impl Files, place: &Place) -> Result<Found, DiscoveryError> {
    let mut found = Found {
        config_path: None,
        discard_unpacked_layers: false,
        root: PathBuf::from(place.root.unwrap_or(DEFAULT_ROOT)),
        files: Vec::new(),
    };
    let mut queue = VecDeque::from([PathBuf::from(place.config)]);
    while let Some(path) = queue.pop_front() {
        if found.files.contains(&path) {
            continue;
        }
        if found.files.len() == MAX_FILES {
            return Err(DiscoveryError::TooMany { path: place.config.into() });
        }
        let text = files.read(&path).map_err(|error| DiscoveryError::File { path: path.clone(), error })?;
        let Some(text) = text else { continue };
        let document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
            let reason = error.message().lines().next().unwrap_or_default().to_owned();
            DiscoveryError::Unparsable { path: path.clone(), reason }
        })?;
        found.take(&document, place);
        queue.extend(imports(files, &document, &path)?);
        found.files.push(path);
    }
    Ok(found)
}

/// The distribution whose configuration is on this host; the first of [`KNOWN`] whose main file is there.
pub fn place(files: &impl Files) -> Result<Option<&'static Place>, DiscoveryError> {
    for place in &KNOWN {
        let path = Path::new(place.config);
        let is_there = files.read(path).map_err(|error| DiscoveryError::File { path: path.into(), error })?;
        if is_there.is_some() {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

impl Found {
    fn take(&mut self, document: &DocumentMut, place: &Place) {
        if let Some(root) = document.get("root").and_then(Item::as_str) {
            self.root = PathBuf::from(place.expand(root));
        }
        let plugins = IMAGE_PLUGINS.iter().rev().filter_map(|name| document.get("plugins")?.get(name));
        for plugin in plugins {
            let at = |path: &[&str]| path.iter().try_fold(plugin, |item, key| item.get(key));
            if let Some(path) = at(&["registry", "config_path"]).and_then(Item::as_str) {
                self.config_path = Some(place.expand(path));
            }
            // Version 3 has it beside the registry, the older ones below `containerd`.
            let discard =
                at(&["discard_unpacked_layers"]).or_else(|| at(&["containerd", "discard_unpacked_layers"]));
            if let Some(discard) = discard.and_then(Item::as_bool) {
                self.discard_unpacked_layers = discard;
            }
        }
    }
}

/// The files that `document`, which lies at `path`, imports: absolute or beside it, with wildcards in the last part.
fn imports(files: &impl Files, document: &DocumentMut, path: &Path) -> Result<Vec<PathBuf>, DiscoveryError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let imports = document.get("imports").and_then(Item::as_array);
    let patterns = imports.into_iter().flatten().filter_map(|import| import.as_str());
    let mut found = Vec::new();
    for pattern in patterns {
        let pattern = folder.join(pattern);
        let name = pattern.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.contains(['*', '?']) {
            found.push(pattern);
            continue;
        }
        let folder = pattern.parent().unwrap_or(Path::new("/"));
        let names = files.list(folder);
        let mut names = names.map_err(|error| DiscoveryError::File { path: folder.into(), error })?;
        names.sort();
        names.retain(|candidate| matches(name.as_bytes(), candidate.as_bytes()));
        found.extend(names.iter().map(|name| folder.join(name)));
    }
    Ok(found)
}

/// `*` is any text, `?` any character (Go's `filepath.Match`, without its classes).
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut found) = (0, 0);
    // The last star, and how far it reaches: only that one is ever tried again, so the work is bounded.
    let mut star = None;
    while found < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, found));
                at += 1;
            }
            Some(&wanted) if wanted == b'?' || wanted == name[found] => {
                at += 1;
                found += 1;
            }
            _ => {
                let Some((place, reach)) = star else { return false };
                star = Some((place, reach + 1));
                at = place + 1;
                found = reach + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// `v2.1.9`, `1.6.20~ds1`, `v2.1.5-k3s1`: major and minor.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.trim_start_matches('v').split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
