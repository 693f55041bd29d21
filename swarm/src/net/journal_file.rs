//! The journal on disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bitfield::Bitfield;
use crate::core::InnerId;
use crate::journal::{self, JournalError, Record, Replay};

/// A journal that is longer is made anew, and holds 5 bytes a piece then. A download takes some 20 bytes a piece; only pieces that
/// come and go take more.
const MAX_LEN: u64 = 64 << 10;
/// And so much more for each piece.
const MAX_LEN_PER_PIECE: u64 = 64;

/// An open journal, positioned behind its last whole record.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    inner: InnerId,
    file: Arc<File>,
    len: u64,
    most: u64,
    /// A sync has failed: nobody knows what of the file is on the medium, and a second sync would say yes to anything.
    broken: bool,
}

/// What the file at `path` says; `None` if there is none.
pub fn load(path: &Path, inner: InnerId, pieces: u32) -> io::Result<Option<Result<Replay, JournalError>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(journal::replay(&bytes, &inner.0, pieces))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl JournalFile {
    /// Writes a new journal and puts it in the place of the old one: it says that `durable` is here and that `unproven` may be.
    pub fn create(path: &Path, inner: InnerId, durable: &Bitfield, unproven: Vec<u32>) -> io::Result<Self> {
        let mut bytes = journal::header(&inner.0, durable.len()).to_vec();
        Record::Snapshot(durable.clone()).encode(&mut bytes);
        if !unproven.is_empty() {
            Record::Written(unproven).encode(&mut bytes);
        }
        let fresh = with_suffix(path, ".new");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        let (path, file, len) = (path.to_owned(), Arc::new(file), bytes.len() as u64);
        let most = MAX_LEN + MAX_LEN_PER_PIECE * u64::from(durable.len());
        Ok(Self { path, inner, file, len, most, broken: false })
    }

    /// Whether it has to be made anew before anything can be appended.
    pub fn is_spent(&self) -> bool {
        self.broken || self.len > self.most
    }

    /// Makes it anew.
    pub fn recreate(&mut self, durable: &Bitfield, unproven: Vec<u32>) -> io::Result<()> {
        *self = Self::create(&self.path, self.inner, durable, unproven)?;
        Ok(())
    }

    /// Appends a record. After an error the next record takes the place of what may have been written of this one.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.file.write_all_at(&bytes, self.len)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// The file, to be synced by whoever does not want to hold the journal meanwhile.
    pub fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// A sync of `file` has failed.
    pub fn sync_failed(&mut self, file: &Arc<File>) {
        self.broken |= Arc::ptr_eq(&self.file, file);
    }

    /// Appends go on to succeed, and syncs do not.
    #[cfg(test)]
    pub fn lose_medium(&mut self) {
        self.file = Arc::new(OpenOptions::new().write(true).open("/dev/null").unwrap());
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
