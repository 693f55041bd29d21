//! Files that another revision, or the container runtime, already holds are linked or copied, not got again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;
use torrent::RelPath;
use torrent::manifest::Manifest;

use super::{ContentStore, Layout, Record, StoreError};

/// Identity of a file's bytes: SHA-256 and size.
pub type Content = ([u8; 32], u64);

/// What was found here already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reused {
    /// Files that were linked.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Published revisions but `revision` itself, each with its record. One whose record cannot be read is left out.
pub(super) fn others(layout: &Layout, revision: &str) -> impl Iterator<Item = (String, Record)> {
    let entries = fs::read_dir(layout.store()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(move |name| name != revision).filter_map(|name| {
        let folder = layout.published(&name);
        let record = Record::load(&folder).ok().flatten().filter(|record| !record.unproven)?;
        folder.complete().exists().then_some((name, record))
    })
}

/// Where whole revisions keep each content, read from their manifests when it is made; and the container runtime's content store, where
/// their layers may have gone.
#[derive(Debug, Default)]
pub struct Donors {
    revisions: Vec<String>,
    /// Whose it is, and where.
    files: BTreeMap<Content, (usize, PathBuf)>,
    store: Option<ContentStore>,
}

impl Donors {
    /// Of all published revisions but `revision` itself. What cannot be read is no donor.
    pub fn gather(layout: &Layout, revision: &str) -> Self {
        let record = Record::load(&layout.coming(revision)).ok().flatten().unwrap_or_default();
        Self::of(layout, &record, others(layout, revision))
    }

    /// Of those that are the same torrent as `record`'s revision and that are ours to look after.
    pub fn twins(layout: &Layout, record: &Record) -> Self {
        let twin = |(_, other): &(String, Record)| !other.retained && other.same_torrent(record);
        Self::of(layout, record, others(layout, &record.revision).filter(twin))
    }

    /// The runtime's content store gives to images alone: what was never given to us, somebody's private layer too, would else be had by
    /// whoever declares its digest in a dataset.
    fn of(layout: &Layout, record: &Record, revisions: impl Iterator<Item = (String, Record)>) -> Self {
        let store = layout.content().filter(|_| record.image.is_some()).cloned();
        let mut donors = Self { store, ..Self::default() };
        for (name, record) in revisions {
            let folder = layout.published(&name);
            let Some(digest) = record.manifest_digest else { continue };
            match crate::contents::load_manifest(&folder, &digest) {
                Ok(manifest) => donors.add(name, &folder.data(), &manifest),
                Err(error) => tracing::debug!(%error, revision = name, "no donor"),
            }
        }
        donors
    }

    fn add(&mut self, revision: String, data: &Path, manifest: &Manifest) {
        let whose = self.revisions.len();
        self.revisions.push(revision);
        for file in manifest.entries() {
            let place = || (whose, data.join(file.path.as_str()));
            self.files.entry((file.sha256, file.size)).or_insert_with(place);
        }
    }

    /// The revision whose file stands at `path` under a second name, if it is the one that would be linked.
    pub fn lender(&self, content: &Content, path: &Path) -> Option<&str> {
        let (whose, from) = self.files.get(content)?;
        let identity = |path: &Path| fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()));
        let same = identity(from)? == identity(path)?;
        same.then(|| self.revisions[*whose].as_str())
    }

    /// A file that holds this content, if there is one of that size.
    pub fn file(&self, content: &Content) -> Option<PathBuf> {
        let own = self.own(content).map(Path::to_owned);
        own.or_else(|| self.store.as_ref().filter(|_| content.1 > 0)?.file(content))
    }

    fn own(&self, content: &Content) -> Option<&Path> {
        let (_, path) = self.files.get(content)?;
        let whole = fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && m.size() == content.1);
        whole.then_some(path)
    }

    /// As [`Self::link`], or else copies it from the content store, if it is there and has these bytes.
    pub fn take(&self, content: &Content, to: &Path, stop: &CancellationToken) -> Result<bool, StoreError> {
        if content.1 == 0 || self.link(content, to)? {
            return Ok(content.1 > 0);
        }
        self.store.as_ref().map_or(Ok(false), |store| store.copy(content, to, stop))
    }

    /// Links the file that holds this content to `to`, if there is one of that size and nothing stands there yet.
    pub fn link(&self, content: &Content, to: &Path) -> Result<bool, StoreError> {
        let Some(from) = self.own(content).filter(|_| content.1 > 0) else { return Ok(false) };
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(StoreError::io("make", parent))?;
        }
        match fs::hard_link(from, to) {
            Ok(()) => Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists
                        | io::ErrorKind::TooManyLinks
                        | io::ErrorKind::CrossesDevices
                ) =>
            {
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("link", to)(error)),
        }
    }
}

/// Links every file of `wanted` that a published revision holds into the folder of `revision` in `incoming/`.
pub fn reuse_files(
    layout: &Layout,
    revision: &str,
    wanted: &[(RelPath, Content)],
) -> Result<Reused, StoreError> {
    let donors = Donors::gather(layout, revision);
    let data = layout.coming(revision).data();
    let mut reused = Reused::default();
    for (path, content) in wanted {
        if donors.link(content, &data.join(path.as_str()))? {
            reused.files += 1;
            reused.bytes += content.1;
        }
    }
    Ok(reused)
}
