//! The hosts files in which containerd is told where to pull from (`config_path`, usually `/etc/containerd/certs.d`). They are read at
//! every pull, so nothing is restarted.
//!
//! The mirror goes first in `_default/hosts.toml`, and in the file of every registry that has a folder of its own, since those never get as
//! far as `_default`. Files of others are edited in place, keep everything that they say, and get it back to the byte.

mod copies;
mod file;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use file::FileError;
pub use text::{Block, Made, TextError, add, remove};

/// The folder of registries that have none.
const DEFAULT: &str = "_default";
/// Registries that may have a folder in one place; with more, the place is left alone.
const MAX_REGISTRIES: usize = 1024;

/// The places of a `config_path`.
#[derive(Debug, Clone)]
pub struct Hosts {
    /// Where the host's file system is mounted.
    mount: PathBuf,
    /// As the runtime knows them, in the order in which it looks.
    roots: Vec<PathBuf>,
    /// The whole `config_path` as one path, where it is a list: containerd from 2.1 on, pulling with its transfer service, takes it for one
    /// (containerd #12415).
    literal: Option<PathBuf>,
}

/// What became of one file.
#[derive(Debug)]
pub struct Report {
    /// On the host.
    pub path: PathBuf,
    /// How it went.
    pub outcome: Outcome,
}

/// How it went with one file.
#[derive(Debug)]
pub enum Outcome {
    /// It is as it was wanted already.
    Unchanged,
    /// It was written, or taken away.
    Changed,
    /// The registry's folder has certificates and no hosts file. One that we made would hide them from the runtime, so this registry has no
    /// mirror.
    Certificates,
    /// It stays as it is.
    Failed(FileError),
}

impl Hosts {
    /// Those of `config_path`, one path or several with colons between, on a host whose file system is mounted at `mount`.
    pub fn new(mount: &Path, config_path: &str) -> Self {
        let roots: Vec<PathBuf> =
            config_path.split(':').filter(|root| root.starts_with('/')).map(PathBuf::from).collect();
        let literal = (roots.len() > 1).then(|| PathBuf::from(config_path));
        Self { mount: mount.to_owned(), roots, literal }
    }

    /// Puts `block` in everywhere, once. Repeat it slowly: distributions write these files anew when they restart, and registries come and go.
    pub fn apply(&self, block: &Block) -> Vec<Report> {
        let mut reports = Vec::new();
        // What the runtime would read for each registry: the first place that has its folder counts.
        let mut effective: BTreeMap<String, PathBuf> = BTreeMap::new();
        for root in &self.roots {
            for name in self.registries(root, &mut reports) {
                let folder = root.join(&name);
                reports.push(self.apply_to(&folder, block));
                effective.entry(name).or_insert(folder);
            }
        }
        if !effective.contains_key(DEFAULT)
            && let Some(last) = self.roots.last()
        {
            // In the last one: `_default` in an earlier place hides all registries of the later ones.
            let folder = last.join(DEFAULT);
            reports.push(self.apply_to(&folder, block));
            effective.insert(DEFAULT.into(), folder);
        }
        if let Some(literal) = &self.literal {
            self.apply_copies(literal, &effective, block, &mut reports);
        }
        reports
    }

    /// Takes it out everywhere, and what was made for it.
    pub fn undo(&self) -> Vec<Report> {
        let mut reports = Vec::new();
        for root in self.roots.iter().chain(&self.literal) {
            for name in self.registries(root, &mut reports) {
                reports.push(self.report(&root.join(name), undo_in));
            }
        }
        if let Some(literal) = &self.literal {
            self.remove_empty(literal);
        }
        reports
    }

    /// Puts it in one registry's file.
    fn apply_to(&self, folder: &Path, block: &Block) -> Report {
        self.report(folder, |on_disk| apply_in(on_disk, block))
    }

    fn apply_copies(
        &self,
        literal: &Path,
        effective: &BTreeMap<String, PathBuf>,
        block: &Block,
        reports: &mut Vec<Report>,
    ) {
        for (name, original) in effective {
            let from = self.on_disk(original);
            reports.push(self.report(&literal.join(name), |folder| copy_in(folder, &from, original, block)));
        }
        for name in self.registries(literal, reports) {
            if !effective.contains_key(&name) {
                reports.push(self.report(&literal.join(name), undo_copy));
            }
        }
    }

    fn report(&self, folder: &Path, work: impl FnOnce(&Path) -> Result<Outcome, FileError>) -> Report {
        let outcome = work(&self.on_disk(folder)).unwrap_or_else(Outcome::Failed);
        Report { path: folder.join(file::HOSTS), outcome }
    }

    /// The names of the folders in `root` that can be registries'; a place that is not there has none.
    fn registries(&self, root: &Path, reports: &mut Vec<Report>) -> Vec<String> {
        let listing = fs::read_dir(self.on_disk(root)).and_then(|entries| {
            let mut names = Vec::new();
            for entry in entries {
                let entry = entry?;
                if names.len() == MAX_REGISTRIES {
                    return Err(io::Error::other(format!("has more than {MAX_REGISTRIES} registries")));
                }
                let name = entry.file_name().into_string().unwrap_or_default();
                if is_registry(&name) && entry.path().is_dir() {
                    names.push(name);
                }
            }
            names.sort();
            Ok(names)
        });
        listing.unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                reports.push(Report { path: root.to_owned(), outcome: Outcome::Failed(error.into()) });
            }
            Vec::new()
        })
    }

    /// The folders that only the literal reading of a list needs, from the deepest up to the one with the colon in its name.
    fn remove_empty(&self, literal: &Path) {
        for folder in literal.ancestors() {
            let has_colon = folder.components().any(|part| part.as_os_str().to_string_lossy().contains(':'));
            // Not empty: somebody else's.
            if !has_colon || fs::remove_dir(self.on_disk(folder)).is_err() {
                return;
            }
        }
    }

    fn on_disk(&self, path: &Path) -> PathBuf {
        self.mount.join(path.strip_prefix("/").unwrap_or(path))
    }
}

/// Letters, digits and what stands in host names, addresses and ports: not `..data`, not `lost+found`.
fn is_registry(name: &str) -> bool {
    let word =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(word)
}

fn apply_in(folder: &Path, block: &Block) -> Result<Outcome, FileError> {
    let is_there = folder.try_exists()?;
    let before = file::read(folder)?;
    // An empty file is as good as none to containerd: it looks for certificates.
    if before.as_deref().is_none_or(str::is_empty) && has_certificates(folder)? {
        return Ok(Outcome::Certificates);
    }
    let made = match (&before, is_there) {
        (Some(_), _) => Made::Lines,
        (None, true) => Made::File,
        (None, false) => Made::Folder,
    };
    let text = before.as_deref().unwrap_or_default();
    let after = add(text, block, made)?;
    if before.as_deref() == Some(after.as_str()) {
        return Ok(Outcome::Unchanged);
    }
    fs::create_dir_all(folder)?;
    if before.is_some() && remove(text)?.is_none() {
        file::keep_original(folder, text)?;
    }
    file::replace(folder, before.as_deref(), &after)?;
    Ok(Outcome::Changed)
}

/// Docker's layout: what containerd reads in a folder without a hosts file.
fn has_certificates(folder: &Path) -> io::Result<bool> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
        Ok(entries) => {
            for entry in entries {
                let path = entry?.path();
                if path.extension().is_some_and(|end| end == "crt" || end == "cert" || end == "key") {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

fn undo_in(folder: &Path) -> Result<Outcome, FileError> {
    let Some(text) = file::read(folder)? else { return Ok(Outcome::Unchanged) };
    if copies::is_copy(&text) {
        return undo_copy(folder);
    }
    let Some((before, made)) = remove(&text)? else { return Ok(Outcome::Unchanged) };
    let was_made = matches!(made, Made::File | Made::Folder);
    if was_made && before.is_empty() {
        file::remove(folder)?;
    } else {
        file::replace(folder, Some(&text), &before)?;
    }
    file::forget_original(folder)?;
    if made == Made::Folder {
        // Not empty: somebody else has put something there.
        fs::remove_dir(folder).ok();
    }
    Ok(Outcome::Changed)
}

/// The hosts file of `original` (at `from` on this disk) once more in `folder`, where nobody else has one.
fn copy_in(folder: &Path, from: &Path, original: &Path, block: &Block) -> Result<Outcome, FileError> {
    let before = file::read(folder)?;
    if before.as_deref().is_some_and(|text| !copies::is_copy(text)) {
        return apply_in(folder, block);
    }
    // A registry with certificates only has nothing to copy.
    let Some(text) = file::read(from)? else { return Ok(Outcome::Unchanged) };
    let after = copies::copy_of(&text, original, block)?;
    if before.as_deref() == Some(after.as_str()) {
        return Ok(Outcome::Unchanged);
    }
    fs::create_dir_all(folder)?;
    file::replace(folder, before.as_deref(), &after)?;
    Ok(Outcome::Changed)
}

fn undo_copy(folder: &Path) -> Result<Outcome, FileError> {
    if !file::read(folder)?.as_deref().is_some_and(copies::is_copy) {
        return Ok(Outcome::Unchanged);
    }
    file::remove(folder)?;
    file::forget_original(folder)?;
    // Not empty: somebody else has put something there.
    fs::remove_dir(folder).ok();
    Ok(Outcome::Changed)
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
