//! The end of the pipe: a thread that writes a file and hashes it while the bytes are hot.
//!
//! One positional write for each chunk, no copy, no second read. It is a blocking thread because hashing and disks block.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use operator_api::GrantedFile;
use rustix::fs::{FallocateFlags, OFlags};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use torrent::{Builder, FileHasher, FileHashes, RelPath};

use super::{FetchError, Journal};
use crate::store::{StoreError, is_full, open_beneath};

/// Chunks that may wait for the disk. Times the size of a chunk (64 KiB mostly) that is the memory of a file.
pub const QUEUE: usize = 32;
/// A file is synced and journalled after so many bytes...
const SYNC_BYTES: u64 = 64 << 20;
/// ...or after so long, if it has grown by [`SYNC_LEAST`].
const SYNC_TIME: Duration = Duration::from_secs(1);
/// See [`SYNC_TIME`]; also the size up to which a file is synced together with others.
const SYNC_LEAST: u64 = 1 << 20;
/// Read at once when what is on the disk is hashed again.
const READ: usize = 1 << 20;

/// What the thread is told.
pub enum Command {
    /// The next bytes.
    Data(Bytes),
    /// The origin starts over.
    Restart,
}

/// What all files of a fetch have in common.
#[derive(Debug)]
pub struct Common {
    /// The open data folder.
    pub data: OwnedFd,
    /// Makes hashers.
    pub builder: Builder,
    /// How many files there are.
    pub files: usize,
    /// What is durable.
    pub journal: Journal,
    /// Bytes of all files on the disk.
    pub on_disk: Arc<AtomicU64>,
    /// Bytes written or hashed.
    pub worked: Arc<AtomicU64>,
    /// Ends threads that read.
    pub stop: CancellationToken,
}

impl Common {
    /// Hands a file to `take` from its start to its end, and answers its length. It counts as work, and ends when it is told to stop.
    pub fn each_chunk(
        &self,
        mut file: &File,
        shown: &Path,
        mut take: impl FnMut(&[u8]),
    ) -> Result<u64, FetchError> {
        let mut buffer = vec![0; READ];
        let mut length = 0;
        loop {
            if self.stop.is_cancelled() {
                return Err(FetchError::Stopped);
            }
            match file.read(&mut buffer) {
                Ok(0) => return Ok(length),
                Ok(count) => {
                    take(&buffer[..count]);
                    length += count as u64;
                    self.worked.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::io("read", shown)(error).into()),
            }
        }
    }
}

/// One file being written.
pub struct Sink {
    common: Arc<Common>,
    granted: GrantedFile,
    file: File,
    hasher: FileHasher,
    synced: u64,
    synced_at: Instant,
}

impl Sink {
    /// Opens the file and hashes what of it is durable; [`Sink::position`] is where it goes on.
    pub fn open(common: &Arc<Common>, granted: &GrantedFile, path: &RelPath) -> Result<Self, FetchError> {
        let flags = OFlags::RDWR | OFlags::CREATE;
        let file = open_beneath(&common.data, path, flags)?;
        let shown = Path::new(&granted.path);
        let length = file.metadata().map_err(StoreError::io("look at", shown))?.len();
        let prefix = common.journal.durable(granted).min(length);
        file.set_len(prefix).map_err(StoreError::io("shorten", shown))?;
        let mut sink = Self {
            common: Arc::clone(common),
            granted: granted.clone(),
            file,
            hasher: common.builder.file_hasher(common.files),
            synced: prefix,
            synced_at: Instant::now(),
        };
        sink.reserve()?;
        let read = common.each_chunk(&sink.file, shown, |bytes| sink.hasher.update(bytes))?;
        sink.common.on_disk.fetch_add(read, Ordering::Relaxed);
        Ok(sink)
    }

    /// Where the next byte goes.
    pub fn position(&self) -> u64 {
        self.hasher.size()
    }

    /// Writes until the sender is gone. Then the file is whole and its hashes come back, or what there is of it is durable.
    pub fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<FileHashes, FetchError> {
        while let Some(command) = commands.blocking_recv() {
            match command {
                Command::Data(bytes) => self.write(&bytes)?,
                Command::Restart => self.restart()?,
            }
        }
        if self.position() < self.granted.size {
            self.sync()?;
            return Err(FetchError::Stopped);
        }
        if self.granted.size > SYNC_LEAST {
            self.sync()?;
        } else {
            self.common.journal.whole(&self.granted, self.file)?;
        }
        Ok(self.hasher.finish())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        let shown = Path::new(&self.granted.path);
        self.file.write_all_at(bytes, self.position()).map_err(StoreError::io("write", shown))?;
        self.hasher.update(bytes);
        self.common.on_disk.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.common.worked.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let fresh = self.position() - self.synced;
        if fresh >= SYNC_BYTES || (fresh >= SYNC_LEAST && self.synced_at.elapsed() >= SYNC_TIME) {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), FetchError> {
        let shown = Path::new(&self.granted.path);
        self.file.sync_data().map_err(StoreError::io("sync", shown))?;
        self.synced = self.position();
        self.synced_at = Instant::now();
        Ok(self.common.journal.record(&self.granted, self.synced)?)
    }

    fn restart(&mut self) -> Result<(), FetchError> {
        let shown = Path::new(&self.granted.path);
        self.common.journal.record(&self.granted, 0)?;
        self.file.set_len(0).map_err(StoreError::io("shorten", shown))?;
        self.common.on_disk.fetch_sub(self.position(), Ordering::Relaxed);
        self.hasher = self.common.builder.file_hasher(self.common.files);
        self.synced = 0;
        self.reserve()
    }

    /// Takes the space now, so that a disk that is too full says so before the origin is read. Not every file system can.
    fn reserve(&self) -> Result<(), FetchError> {
        if self.granted.size <= SYNC_LEAST {
            return Ok(());
        }
        match rustix::fs::fallocate(self.file.as_fd(), FallocateFlags::KEEP_SIZE, 0, self.granted.size) {
            Err(error) if is_full(&error.into()) => {
                Err(StoreError::sys("reserve the space of", Path::new(&self.granted.path))(error).into())
            }
            _ => Ok(()),
        }
    }
}

/// The hashes of a file that is here already under another revision's name too; `None` if it is not such a file.
pub fn hash_linked(
    common: &Common,
    granted: &GrantedFile,
    path: &RelPath,
    is_copied: bool,
) -> Result<Option<FileHashes>, FetchError> {
    let shown = Path::new(&granted.path);
    let Ok(file) = open_beneath(&common.data, path, OFlags::RDONLY) else { return Ok(None) };
    let metadata = file.metadata().map_err(StoreError::io("look at", shown))?;
    if (metadata.nlink() < 2 && !is_copied) || metadata.len() != granted.size {
        return Ok(None);
    }
    let mut hasher = common.builder.file_hasher(common.files);
    common.each_chunk(&file, shown, |bytes| hasher.update(bytes))?;
    Ok(Some(hasher.finish()))
}
