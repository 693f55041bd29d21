//! The journal on disk.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
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
/// What the name of a journal that is not yet whole ends with.
const FRESH: &str = ".new";

/// The right to write the journal at a path. Who else wants it is refused until this, or the journal that is made of it, is dropped
/// (T77).
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    fresh: File,
    /// The journal that is there.
    _old: Option<File>,
}

impl Place {
    /// Takes the place at `path`; an error of kind `ResourceBusy` if it is taken.
    pub fn take(path: &Path) -> io::Result<Self> {
        // First the name under which every new journal begins: from here on nobody else puts one in the place of the old one.
        let fresh = locked_fresh(path)?;
        let old = match File::open(path) {
            Ok(old) => locked(old).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        match old {
            Ok(old) => Ok(Self { path: path.to_owned(), fresh, _old: old }),
            Err(error) => {
                // It was made in vain; nobody else has got hold of it.
                drop(std::fs::remove_file(with_suffix(path, FRESH)));
                Err(error)
            }
        }
    }
}

/// What becomes the journal at `path`, locked, with whatever an earlier attempt has left in it.
fn locked_fresh(path: &Path) -> io::Result<File> {
    let path = with_suffix(path, FRESH);
    locked(OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?)
}

/// The lock is that of the open file, and goes with it.
fn locked(file: File) -> io::Result<File> {
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::ResourceBusy.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

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
    pub fn create(place: Place, inner: InnerId, durable: &Bitfield, unproven: Vec<u32>) -> io::Result<Self> {
        let mut bytes = journal::header(&inner.0, durable.len()).to_vec();
        Record::Snapshot(durable.clone()).encode(&mut bytes);
        if !unproven.is_empty() {
            Record::Written(unproven).encode(&mut bytes);
        }
        let Place { path, fresh: file, _old } = place;
        file.set_len(0)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_all()?;
        std::fs::rename(with_suffix(&path, FRESH), &path)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        let (file, len) = (Arc::new(file), bytes.len() as u64);
        let most = MAX_LEN + MAX_LEN_PER_PIECE * u64::from(durable.len());
        Ok(Self { path, inner, file, len, most, broken: false })
    }

    /// Whether it has to be made anew before anything can be appended.
    pub fn is_spent(&self) -> bool {
        self.broken || self.len > self.most
    }

    /// Makes it anew, under the name that its torrent has now.
    pub fn rename(&mut self, inner: InnerId, durable: &Bitfield, unproven: Vec<u32>) -> io::Result<()> {
        self.inner = inner;
        self.recreate(durable, unproven)
    }

    /// Makes it anew.
    pub fn recreate(&mut self, durable: &Bitfield, unproven: Vec<u32>) -> io::Result<()> {
        let fresh = locked_fresh(&self.path)?;
        let place = Place { path: self.path.clone(), fresh, _old: None };
        *self = Self::create(place, self.inner, durable, unproven)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const INNER: InnerId = InnerId([9; 32]);

    fn create(path: &Path, durable: &Bitfield) -> io::Result<JournalFile> {
        JournalFile::create(Place::take(path)?, INNER, durable, Vec::new())
    }

    #[test]
    fn t077_a_journal_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let is_busy =
            || matches!(Place::take(&path), Err(error) if error.kind() == io::ErrorKind::ResourceBusy);
        let place = Place::take(&path).unwrap();
        assert!(is_busy());
        let mut journal = JournalFile::create(place, INNER, &Bitfield::new(8), Vec::new()).unwrap();
        assert!(is_busy());
        journal.recreate(&Bitfield::full(8), Vec::new()).unwrap();
        assert!(is_busy());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "who is refused leaves nothing behind");
        drop(journal);
        assert!(!is_busy());
    }

    #[test]
    fn t068_a_journal_that_cannot_be_made_anew_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = create(&path, &Bitfield::full(8)).unwrap();
        journal.append(&Record::Withdrawn(3)).unwrap();
        std::fs::create_dir(with_suffix(&path, FRESH)).unwrap();
        assert!(journal.recreate(&Bitfield::new(8), Vec::new()).is_err());
        journal.append(&Record::Withdrawn(4)).unwrap();
        let replayed = load(&path, INNER, 8).unwrap().unwrap().unwrap();
        assert_eq!(replayed.durable.iter().collect::<Vec<_>>(), [0, 1, 2, 5, 6, 7]);
    }
}
