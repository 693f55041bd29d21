//! A revision whose bytes the engine already shares under another revision's name: it is made of hard links to that one, and of copies
//! of what that one has left to the container runtime.
//!
//! The engine takes each torrent once, so nobody downloads for the second revision and nobody verifies it: what is published is
//! hashed here, against the manifest. Synchronous, as all that is disk only.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use torrent::manifest::{Entry, Manifest};

use crate::store::{Donors, Layout, Record, StoreError, doubt, open_beneath, remove_tree};

/// Read at once.
const READ: usize = 1 << 20;

/// How far it has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Twin {
    /// Every byte is here, and hashed.
    Whole,
    /// The other revision is not whole yet.
    Waits,
    /// A file that is here, linked from a third revision maybe, is not what it must be, and nothing can take its place yet.
    Unlike,
    /// A file of the other revision is not what its manifest says: that one is taken out of the store, to be mended.
    Damaged(String),
    /// Told to stop.
    Stopped,
}

/// Gets whole what is in `incoming/` of this revision, from what a revision that is the same torrent has published.
pub fn complete(
    layout: &Layout,
    record: &Record,
    manifest: &Manifest,
    stop: &CancellationToken,
) -> Result<Twin, StoreError> {
    let doubted = Cell::new(false);
    let making = Making { layout, record, donors: Donors::twins(layout, record), stop, doubted };
    let filled = || manifest.entries().iter().filter(|entry| entry.size > 0);
    for entry in filled() {
        if !making.link_missing(entry)? {
            return Ok(Twin::Waits);
        }
    }
    for entry in filled() {
        let twin = making.prove(entry)?;
        if twin != Twin::Whole {
            return Ok(twin);
        }
    }
    Ok(Twin::Whole)
}

struct Making<'a> {
    layout: &'a Layout,
    record: &'a Record,
    donors: Donors,
    stop: &'a CancellationToken,
    doubted: Cell<bool>,
}

impl Making<'_> {
    fn path(&self, entry: &Entry) -> PathBuf {
        self.layout.coming(&self.record.revision).data().join(entry.path.as_str())
    }

    /// Whether a file of this size is there now.
    fn link_missing(&self, entry: &Entry) -> Result<bool, StoreError> {
        let path = self.path(entry);
        let stands = fs::symlink_metadata(&path).is_ok_and(|m| m.is_file() && m.len() == entry.size);
        Ok(stands || self.replace(entry, &path)?)
    }

    fn replace(&self, entry: &Entry, path: &Path) -> Result<bool, StoreError> {
        // A journal that may be here speaks of the file that goes.
        if !self.doubted.replace(true) {
            doubt(&self.layout.coming(&self.record.revision))?;
        }
        remove_tree(path)?;
        self.donors.take(&(entry.sha256, entry.size), path, self.stop)
    }

    /// Hashes a file, and once more if the other revision's can take its place: half a download has its full size too.
    fn prove(&self, entry: &Entry) -> Result<Twin, StoreError> {
        let path = self.path(entry);
        let content = (entry.sha256, entry.size);
        for _ in 0..2 {
            match self.hash(entry)? {
                None => return Ok(Twin::Stopped),
                Some(found) if found == entry.sha256 => return Ok(Twin::Whole),
                Some(_) => {}
            }
            if let Some(lender) = self.donors.lender(&content, &path) {
                doubt(&self.layout.published(lender))?;
                remove_tree(&path)?;
                return Ok(Twin::Damaged(lender.to_owned()));
            }
            if !self.replace(entry, &path)? {
                break;
            }
        }
        Ok(Twin::Unlike)
    }

    /// `None` if it was told to stop.
    fn hash(&self, entry: &Entry) -> Result<Option<[u8; 32]>, StoreError> {
        let data = self.layout.coming(&self.record.revision).data();
        let folder = File::open(&data).map_err(StoreError::io("open", &data))?;
        let mut file = open_beneath(&folder, &entry.path, OFlags::RDONLY)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; READ];
        loop {
            if self.stop.is_cancelled() {
                return Ok(None);
            }
            match file.read(&mut buffer) {
                Ok(0) => return Ok(Some(hasher.finalize().into())),
                Ok(count) => hasher.update(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::io("read", &self.path(entry))(error)),
            }
        }
    }
}
