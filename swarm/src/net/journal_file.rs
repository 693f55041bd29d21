//! The journal on disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::bitfield::Bitfield;
use crate::core::InnerId;
use crate::journal::{self, JournalError, Record, Replay};

/// An open journal, positioned behind its last whole record.
#[derive(Debug)]
pub struct JournalFile {
    file: File,
    len: u64,
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
    /// Writes a new journal that says that `durable` is here and nothing else, and puts it in the place of the old one.
    pub fn create(path: &Path, inner: InnerId, durable: &Bitfield) -> io::Result<Self> {
        let mut bytes = journal::header(&inner.0, durable.len()).to_vec();
        Record::Snapshot(durable.clone()).encode(&mut bytes);
        let fresh = with_suffix(path, ".new");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { file, len: bytes.len() as u64 })
    }

    /// Appends a record. After an error the next record takes the place of what may have been written of this one.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        self.file.write_all_at(&bytes, self.len)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Returns when what was appended is on the medium.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
