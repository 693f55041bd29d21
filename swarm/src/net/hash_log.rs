//! The hashes of a torrent that grows, on disk: what its pieces are verified by after a start.
//!
//! Batches as they came, each behind its length (4 bytes, big-endian). A batch is signed, so that nothing else guards it: one that
//! was torn or changed is not believed, and what follows a torn one is not read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::wire::MAX_EXTENDED;

/// What a journal's name is followed by.
const SUFFIX: &str = ".hashes";
/// The longest log that is read: a batch for each of the most pieces that a torrent of ours has, with its signatures.
const MAX_LEN: u64 = 4 << 30;

/// An open log.
#[derive(Debug)]
pub struct HashLog {
    file: File,
    len: u64,
    /// Batches in it.
    count: usize,
}

/// Where the log of the torrent with this journal lies.
pub fn beside(journal: &Path) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(SUFFIX);
    name.into()
}

impl HashLog {
    /// Opens or makes the log at `path`; hands each batch to `take`, which says whether it is to be kept.
    pub fn open(path: &Path, mut take: impl FnMut(&[u8]) -> bool) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        (&file).take(MAX_LEN).read_to_end(&mut bytes)?;
        let (mut rest, mut kept) = (&bytes[..], Vec::new());
        let mut count = 0;
        while let Some((batch, behind)) = split(rest) {
            if take(batch) {
                frame(&mut kept, batch);
                count += 1;
            }
            rest = behind;
        }
        if kept != bytes {
            file.write_all_at(&kept, 0)?;
            file.set_len(kept.len() as u64)?;
            file.sync_data()?;
        }
        Ok(Self { file, len: kept.len() as u64, count })
    }

    /// How many batches it has.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Appends batches, and returns when they are on the medium. After an error the next ones take their place.
    pub fn append(&mut self, batches: &[Arc<[u8]>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for batch in batches {
            frame(&mut bytes, batch);
        }
        self.file.write_all_at(&bytes, self.len)?;
        self.file.sync_data()?;
        self.len += bytes.len() as u64;
        self.count += batches.len();
        Ok(())
    }
}

fn frame(bytes: &mut Vec<u8>, batch: &[u8]) {
    bytes.extend_from_slice(&(batch.len() as u32).to_be_bytes());
    bytes.extend_from_slice(batch);
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let len = u32::from_be_bytes(*len) as usize;
    if len > MAX_EXTENDED { None } else { rest.split_at_checked(len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        HashLog::open(path, |batch| {
            found.push(batch.to_vec());
            true
        })
        .unwrap();
        found
    }

    #[test]
    fn batches_are_there_after_a_start_and_a_torn_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = beside(&folder.path().join("journal"));
        let mut log = HashLog::open(&path, |_| unreachable!("it is empty")).unwrap();
        log.append(&[Arc::from([1; 10]), Arc::from([2; 300])]).unwrap();
        log.append(&[Arc::from([3; 1])]).unwrap();
        assert_eq!((log.count(), read(&path)), (3, vec![vec![1; 10], vec![2; 300], vec![3]]));
        let whole = std::fs::read(&path).unwrap();
        for cut in [whole.len() - 1, whole.len() - 4, whole.len() - 5] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(read(&path).len(), 2);
            assert_eq!(std::fs::read(&path).unwrap().len(), 14 + 304, "what was torn is gone");
        }
    }

    #[test]
    fn what_is_not_believed_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hashes");
        HashLog::open(&path, |_| true).unwrap().append(&[Arc::from([1; 10]), Arc::from([2; 300])]).unwrap();
        let log = HashLog::open(&path, |batch| batch[0] == 2).unwrap();
        assert_eq!((log.count(), read(&path)), (1, vec![vec![2; 300]]));
    }
}
