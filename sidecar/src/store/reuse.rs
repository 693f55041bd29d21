//! Files that another revision already holds are linked, not got again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use torrent::RelPath;
use torrent::manifest::Manifest;

use super::{Layout, Record, StoreError};

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

/// Where whole revisions keep each content; read from their manifests when it is made.
#[derive(Debug, Default)]
pub struct Donors {
    files: BTreeMap<Content, std::path::PathBuf>,
}

impl Donors {
    /// Of all published revisions but `revision` itself. What cannot be read is no donor.
    pub fn gather(layout: &Layout, revision: &str) -> Self {
        let mut donors = Self::default();
        let Ok(entries) = fs::read_dir(layout.store()) else { return donors };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let folder = layout.published(&name);
            if name == revision || !folder.complete().exists() {
                continue;
            }
            let record = Record::load(&folder).ok().flatten();
            let Some(digest) = record.and_then(|record| record.manifest_digest) else { continue };
            match crate::contents::load_manifest(&folder, &digest) {
                Ok(manifest) => donors.add(&folder.data(), &manifest),
                Err(error) => tracing::debug!(%error, revision = name, "no donor"),
            }
        }
        donors
    }

    fn add(&mut self, data: &std::path::Path, manifest: &Manifest) {
        for file in manifest.entries() {
            self.files.entry((file.sha256, file.size)).or_insert_with(|| data.join(file.path.as_str()));
        }
    }

    /// Links the file that holds this content to `to`, if there is one of that size and nothing stands there yet.
    pub fn link(&self, content: &Content, to: &std::path::Path) -> Result<bool, StoreError> {
        let Some(from) = self.files.get(content).filter(|_| content.1 > 0) else { return Ok(false) };
        let whole = fs::symlink_metadata(from).is_ok_and(|m| m.is_file() && m.size() == content.1);
        if !whole {
            return Ok(false);
        }
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
