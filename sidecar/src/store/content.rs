//! The content store of the node's container runtime: blobs by their SHA-256, which are read there and never changed.
//!
//! containerd writes a blob under another name, checks its digest, makes it durable, and only then gives it this one. It lies on another
//! mount than the data root, so that nothing can be linked from there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use torrent::RelPath;
use torrent::manifest::Entry;

use super::{Content, StoreError, open_beneath, remove_tree};

/// Read at once.
const READ: usize = 1 << 20;

/// Where the runtime keeps blobs: `<folder>/blobs/sha256/<hex>`, named as in an OCI image layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentStore {
    folder: PathBuf,
}

impl ContentStore {
    /// The store in this folder, if that is there and may be listed.
    pub fn open(folder: PathBuf) -> Result<Self, StoreError> {
        fs::read_dir(&folder).map_err(StoreError::io("list", &folder))?;
        Ok(Self { folder })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where it would keep a blob.
    pub fn place(&self, sha256: &[u8; 32]) -> PathBuf {
        self.folder.join(blob_path(sha256).as_str())
    }

    /// Where it keeps this content, if it has a blob of that size. What is in it has the digest that its name says, as long as the disk
    /// keeps it: who gives it out or copies it checks.
    pub fn file(&self, content: &Content) -> Option<PathBuf> {
        let path = self.place(&content.0);
        fs::symlink_metadata(&path).is_ok_and(|m| m.is_file() && m.len() == content.1).then_some(path)
    }

    /// Whether every byte can be read and is what its name says; `None` if it was told to stop.
    pub fn prove(&self, content: &Content, stop: &CancellationToken) -> Option<bool> {
        self.read(content, stop, |_| Ok(())).unwrap_or(Some(false))
    }

    /// Copies a blob to `to`, where nothing may stand; `false` if there is none, or not with these bytes, or it cannot be read, or if it was
    /// told to stop: then nothing stands there, and the content is to be got elsewhere. An error is one of `to`.
    pub fn copy(&self, content: &Content, to: &Path, stop: &CancellationToken) -> Result<bool, StoreError> {
        if self.file(content).is_none() {
            return Ok(false);
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(StoreError::io("make", parent))?;
        }
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o644).open(to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            other => other.map_err(StoreError::io("make", to))?,
        };
        let copied = self.read(content, stop, |bytes| file.write_all(bytes));
        if matches!(copied, Ok(Some(true))) {
            return Ok(true);
        }
        remove_tree(to)?;
        copied.map(|_| false).map_err(StoreError::io("write", to))
    }

    /// Whether it is what it has to be. That it cannot be read is somebody else's disk, or their garbage collection: no failure of ours. The only
    /// errors are those of `take`.
    fn read(
        &self,
        content: &Content,
        stop: &CancellationToken,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Option<bool>> {
        let blob = blob_path(&content.0);
        let unlike = |why: &dyn std::fmt::Display| {
            tracing::warn!(%blob, %why, "the container runtime's blob is of no use");
            Ok(Some(false))
        };
        let mut file = match self.open_blob(&blob) {
            Ok(file) => file,
            Err(error) => return unlike(&error),
        };
        let (mut hasher, mut buffer, mut length) = (Sha256::new(), vec![0; READ], 0);
        while !stop.is_cancelled() {
            match file.read(&mut buffer) {
                Ok(0) if (hasher.finalize_reset().into(), length) == *content => return Ok(Some(true)),
                Ok(0) => return unlike(&"it has other bytes"),
                Ok(count) => {
                    length += count as u64;
                    hasher.update(&buffer[..count]);
                    take(&buffer[..count])?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return unlike(&error),
            }
        }
        Ok(None)
    }

    fn open_blob(&self, blob: &RelPath) -> Result<File, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&self.folder, flags, Mode::empty());
        open_beneath(&folder.map_err(StoreError::sys("open", &self.folder))?, blob, OFlags::RDONLY)
    }
}

/// Whether a file of a revision is a blob that lies in the content store under the same path: an image's.
pub fn is_blob(entry: &Entry) -> bool {
    entry.size > 0 && entry.path == blob_path(&entry.sha256)
}

fn blob_path(sha256: &[u8; 32]) -> RelPath {
    RelPath::parse(&format!("blobs/sha256/{}", hex::encode(sha256))).expect("hex is a name like any other")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, ContentStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = ContentStore::open(folder.path().to_owned()).unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        (folder, store)
    }

    /// Puts `bytes` under the name of `named`.
    fn put(store: &ContentStore, named: &[u8], bytes: &[u8]) -> Content {
        let digest: [u8; 32] = Sha256::digest(named).into();
        fs::write(store.folder().join(blob_path(&digest).as_str()), bytes).unwrap();
        (digest, named.len() as u64)
    }

    #[test]
    fn a_blob_is_copied_only_if_it_is_what_its_name_says() {
        let (folder, store) = store();
        let (to, go) = (folder.path().join("copies/copy"), CancellationToken::new());
        let good = put(&store, b"layer", b"layer");
        let (rotten, short) = (put(&store, b"rotten", b"rottem"), put(&store, b"short", b"sho"));
        assert!(!store.copy(&rotten, &to, &go).unwrap() && !to.exists());
        assert_eq!(store.prove(&rotten, &go), Some(false));
        assert!(store.file(&short).is_none() && !store.copy(&short, &to, &go).unwrap());
        let stopped = CancellationToken::new();
        stopped.cancel();
        assert!(!store.copy(&good, &to, &stopped).unwrap() && !to.exists(), "half a copy is none");
        assert!(store.copy(&good, &to, &go).unwrap());
        assert_eq!(fs::read(&to).unwrap(), b"layer");
        assert!(!store.copy(&good, &to, &go).unwrap(), "what stands there stays");
        assert_eq!(store.prove(&good, &go), Some(true));
        assert!(!store.copy(&([0; 32], 5), &folder.path().join("none"), &go).unwrap());
    }

    #[test]
    fn t064_a_link_in_the_content_store_is_no_blob() {
        let (folder, store) = store();
        fs::write(folder.path().join("secret"), "layer").unwrap();
        let content = put(&store, b"layer", b"");
        let path = store.folder().join(blob_path(&content.0).as_str());
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("../../secret", path).unwrap();
        assert!(store.file(&content).is_none());
        assert_eq!(store.prove(&content, &CancellationToken::new()), Some(false));
    }

    #[test]
    fn a_blob_that_cannot_be_read_is_to_be_got_elsewhere_and_no_error() {
        let (folder, store) = store();
        let (to, go) = (folder.path().join("copy"), CancellationToken::new());
        let content = put(&store, b"layer", b"layer");
        let read = |take: fn(&[u8]) -> io::Result<()>| store.read(&content, &go, take);
        assert!(read(|_| Err(io::ErrorKind::StorageFull.into())).is_err(), "that is of where it goes");
        fs::remove_file(store.place(&content.0)).unwrap();
        assert_eq!(read(|_| Ok(())).unwrap(), Some(false), "garbage collection was faster");
        assert!(!store.copy(&content, &to, &go).unwrap() && !to.exists());
    }

    #[test]
    fn only_files_that_are_named_by_their_digests_are_blobs() {
        let sha256 = [7; 32];
        let entry = |path: &str, size| Entry { path: RelPath::parse(path).unwrap(), size, sha256 };
        let named = format!("blobs/sha256/{}", "07".repeat(32));
        assert!(is_blob(&entry(&named, 1)));
        assert!(!is_blob(&entry(&named, 0)) && !is_blob(&entry("blobs/sha256/07", 1)));
    }
}
