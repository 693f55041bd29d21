//! What of each file is durable, so that a fetch that was cut goes on from there.
//!
//! Lines of JSON, appended after the bytes they speak of were synced; the last line of a file counts. A line that cannot be
//! read ends the journal: what a power cut left behind it is not believed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use operator_api::GrantedFile;
use serde::{Deserialize, Serialize};

use crate::store::{StoreError, read_file_capped};

/// Whole small files wait for each other this long to be synced together.
const GROUP_TIME: Duration = Duration::from_secs(1);
/// And at most so many do.
const GROUP_FILES: usize = 256;
/// From so many on, one sync of the file system is cheaper than one of each file.
const SYNC_ALL_FROM: usize = 16;
/// The largest journal that is read, in bytes.
const MAX_JOURNAL: u64 = 512 << 20;

#[derive(Serialize, Deserialize)]
struct Line {
    path: String,
    validator: String,
    durable: u64,
}

/// The journal of one fetch. Shared by the threads that write files.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    known: BTreeMap<String, (String, u64)>,
    writer: Mutex<Writer>,
}

#[derive(Debug)]
struct Writer {
    file: File,
    /// Whole, but not yet synced.
    group: Vec<(File, Vec<u8>)>,
    since: Instant,
}

impl Journal {
    /// Reads what is there and appends to it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let bytes = read_file_capped(path, MAX_JOURNAL)?.unwrap_or_default();
        let (known, sound) = replay(&bytes);
        let file =
            OpenOptions::new().append(true).create(true).open(path).map_err(StoreError::io("open", path))?;
        file.set_len(sound).map_err(StoreError::io("shorten", path))?;
        let writer = Mutex::new(Writer { file, group: Vec::new(), since: Instant::now() });
        Ok(Self { path: path.to_owned(), known, writer })
    }

    /// How many bytes of a file were durable when the journal was opened, if the file is still the same version. Of a file that
    /// nothing tells from another of its length, all or nothing: what is missing might be of the other.
    pub fn durable(&self, file: &GrantedFile) -> u64 {
        let told = file.etag.is_some() || file.last_modified.is_some() || file.sha256.is_some();
        match self.known.get(&file.path) {
            Some((validator, durable)) if *validator == validator_of(file) => {
                let durable = (*durable).min(file.size);
                if told || durable == file.size { durable } else { 0 }
            }
            _ => 0,
        }
    }

    /// So many bytes of it are durable: the caller has synced them. 0 takes back what was said before.
    pub fn record(&self, file: &GrantedFile, durable: u64) -> Result<(), StoreError> {
        let line = line(file, durable);
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.file.write_all(&line).map_err(StoreError::io("write", &self.path))
    }

    /// It is whole, but not yet synced: that is done together with others.
    pub fn whole(&self, file: &GrantedFile, handle: File) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.group.is_empty() {
            writer.since = Instant::now();
        }
        writer.group.push((handle, line(file, file.size)));
        if writer.group.len() >= GROUP_FILES || writer.since.elapsed() >= GROUP_TIME {
            return self.flush_group(&mut writer);
        }
        Ok(())
    }

    /// Syncs what waits.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.flush_group(&mut self.writer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn flush_group(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let group = std::mem::take(&mut writer.group);
        let Some((first, _)) = group.first() else { return Ok(()) };
        if group.len() >= SYNC_ALL_FROM {
            rustix::fs::syncfs(first.as_fd())
                .map_err(StoreError::sys("sync the file system of", &self.path))?;
        } else {
            for (file, _) in &group {
                file.sync_data().map_err(StoreError::io("sync a file of", &self.path))?;
            }
        }
        let lines: Vec<u8> = group.into_iter().flat_map(|(_, line)| line).collect();
        writer.file.write_all(&lines).map_err(StoreError::io("write", &self.path))
    }
}

/// What is known, and how many bytes of the journal say it.
fn replay(bytes: &[u8]) -> (BTreeMap<String, (String, u64)>, u64) {
    let mut known = BTreeMap::new();
    let mut sound = 0;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let Some(text) = line.strip_suffix(b"\n") else { break };
        let Ok(Line { path, validator, durable }) = serde_json::from_slice(text) else { break };
        known.insert(path, (validator, durable));
        sound += line.len() as u64;
    }
    (known, sound)
}

fn line(file: &GrantedFile, durable: u64) -> Vec<u8> {
    let line = Line { path: file.path.clone(), validator: validator_of(file), durable };
    let mut bytes = serde_json::to_vec(&line).expect("strings and numbers always make JSON");
    bytes.push(b'\n');
    bytes
}

/// What tells versions of a file apart. Where an origin gives no validator at all, only its declared digest does.
fn validator_of(file: &GrantedFile) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}|{}|{}|{}", file.size, part(&file.etag), part(&file.last_modified), part(&file.sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, etag: &str) -> GrantedFile {
        GrantedFile {
            path: path.into(),
            url: String::new(),
            text: None,
            size: 100,
            sha256: None,
            etag: Some(etag.into()),
            last_modified: None,
        }
    }

    #[test]
    fn the_last_word_counts_and_only_for_the_same_version() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal");
        let journal = Journal::open(&path).unwrap();
        journal.record(&file("a", "1"), 10).unwrap();
        journal.record(&file("a", "1"), 20).unwrap();
        journal.record(&file("b", "1"), 1000).unwrap();
        journal.whole(&file("c", "1"), File::create(temp.path().join("c")).unwrap()).unwrap();
        journal.flush().unwrap();
        let again = Journal::open(&path).unwrap();
        assert_eq!(again.durable(&file("a", "1")), 20);
        assert_eq!(again.durable(&file("a", "2")), 0);
        assert_eq!(again.durable(&file("b", "1")), 100, "never more than there is");
        assert_eq!(again.durable(&file("c", "1")), 100);
        assert_eq!(again.durable(&file("d", "1")), 0);
    }

    #[test]
    fn a_file_without_validator_is_whole_or_read_anew() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal");
        let blind = |path: &str| GrantedFile { etag: None, ..file(path, "") };
        let journal = Journal::open(&path).unwrap();
        journal.record(&blind("part"), 99).unwrap();
        journal.record(&blind("whole"), 100).unwrap();
        let again = Journal::open(&path).unwrap();
        assert_eq!((again.durable(&blind("part")), again.durable(&blind("whole"))), (0, 100));
    }

    #[test]
    fn what_follows_a_torn_line_is_not_believed() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal");
        Journal::open(&path).unwrap().record(&file("a", "1"), 10).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, [&whole[..], &whole[..cut]].concat()).unwrap();
            let journal = Journal::open(&path).unwrap();
            assert_eq!(journal.durable(&file("a", "1")), 10);
            journal.record(&file("b", "1"), 7).unwrap();
            assert_eq!(Journal::open(&path).unwrap().durable(&file("b", "1")), 7, "cut at {cut}");
        }
        std::fs::write(&path, [&whole[..], &[0; 64], b"\n"].concat()).unwrap();
        assert_eq!(Journal::open(&path).unwrap().durable(&file("a", "1")), 10);
    }
}
