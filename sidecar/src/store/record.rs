//! `revision.json`: what a folder is, so that it can be shared, published and freed without the API.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use crds::{DistributionRevisionSpec, OnDelete, RevisionImage};
use serde::{Deserialize, Serialize};

use super::{Folder, StoreError};

/// The version of the format that is written. Newer ones are left alone.
const VERSION: u32 = 1;
/// The largest record that is read, in bytes.
const MAX_RECORD: u64 = 64 * 1024;

/// A revision's folder in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent facts, each with a name in the file")]
pub struct Record {
    /// Of this format.
    pub version: u32,
    /// The revision's name.
    pub revision: String,
    /// The `Distribution`'s namespace.
    pub namespace: String,
    /// The `Distribution`'s name.
    pub name: String,
    /// The `Distribution`'s UID.
    pub distribution_uid: String,
    /// The pin of its content: what a half-read origin must still be.
    pub pin: String,
    /// Payload bytes.
    pub bytes: u64,
    /// Whether the dataset's link is to point here.
    pub current: bool,
    /// What becomes of it when the `Distribution` goes.
    pub on_delete: OnDelete,
    /// Hex, if the torrent has a v1 side.
    pub info_hash_v1: Option<String>,
    /// Hex, if the torrent has a v2 side.
    pub info_hash_v2: Option<String>,
    /// SHA-256 (hex) of the manifest.
    pub manifest_digest: Option<String>,
    /// The image that it is.
    pub image: Option<RevisionImage>,
    /// This node read the origin to the end: every byte is here, hashed, and durable.
    pub fetched: bool,
    /// What is here has yet to be hashed to its end: neither a journal nor sizes speak for it.
    pub unproven: bool,
    /// It was given to the user: neither shared nor removed.
    pub retained: bool,
    /// Payload bytes read from the origin for it.
    pub origin_bytes: u64,
    /// Payload bytes got from peers for it.
    pub peer_bytes: u64,
}

impl Record {
    /// Of a revision as the API has it now.
    pub fn new(revision: &str, spec: &DistributionRevisionSpec) -> Self {
        let mut record = Self { revision: revision.to_owned(), ..Self::default() };
        record.update(spec);
        record
    }

    /// Takes over what the API says; true if that changed anything.
    pub fn update(&mut self, spec: &DistributionRevisionSpec) -> bool {
        let before = self.clone();
        self.version = VERSION;
        self.namespace.clone_from(&spec.distribution.namespace);
        self.name.clone_from(&spec.distribution.name);
        self.distribution_uid.clone_from(&spec.distribution.uid);
        self.pin.clone_from(&spec.content.pin);
        self.image.clone_from(&spec.content.image);
        self.bytes = u64::try_from(spec.content.bytes).unwrap_or(0);
        self.current = spec.policy.current;
        self.on_delete = spec.policy.on_delete;
        if let Some(torrent) = spec.torrents.first() {
            self.info_hash_v1.clone_from(&torrent.info_hash_v1);
            self.info_hash_v2.clone_from(&torrent.info_hash_v2);
            self.manifest_digest.clone_from(&spec.manifest_digest);
        }
        *self != before
    }

    /// Whether two revisions are the same torrent.
    pub fn same_torrent(&self, other: &Self) -> bool {
        let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
        same(&self.info_hash_v2, &other.info_hash_v2)
            || (self.info_hash_v2.is_none()
                && other.info_hash_v2.is_none()
                && same(&self.info_hash_v1, &other.info_hash_v1))
    }

    /// The record of a folder, if there is one that can be read.
    pub fn load(folder: &Folder) -> Result<Option<Self>, StoreError> {
        let path = folder.record();
        let Some(bytes) = read_file_capped(&path, MAX_RECORD)? else { return Ok(None) };
        let damaged = |why: String| StoreError::Damaged { path: path.clone(), why };
        let record: Self = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if record.version > VERSION {
            return Err(damaged(format!("version {} is newer than this sidecar", record.version)));
        }
        Ok(Some(record))
    }

    /// Writes it durably.
    pub fn save(&self, folder: &Folder) -> Result<(), StoreError> {
        let json = serde_json::to_vec(self).expect("a record has string keys only");
        write_durably(&folder.record(), &json)
    }
}

/// Reads a small file; `None` if there is none. Symlinks are not followed.
pub fn read_file_capped(path: &Path, cap: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let open = rustix::fs::open(
        path,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    let file = match open {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(StoreError::sys("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(cap + 1).read_to_end(&mut bytes).map_err(StoreError::io("read", path))?;
    if bytes.len() as u64 > cap {
        return Err(StoreError::Damaged { path: path.to_owned(), why: format!("over {cap} bytes") });
    }
    Ok(Some(bytes))
}

/// Replaces a file so that a crash leaves the old or the new one (T68).
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let parent = path.parent().expect("files of the store have a folder");
    let mut name = std::ffi::OsString::from(".tmp-");
    name.push(path.file_name().expect("files of the store have a name"));
    let temporary = parent.join(name);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(StoreError::io("write", &temporary))?;
    fs::rename(&temporary, path).map_err(StoreError::io("rename", &temporary))?;
    sync_folder(parent)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(StoreError::io("sync", path))
}
