//! Files below a folder that is held open: a rename of the folder does not matter, and no path leads out of it.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{self, FallocateFlags, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, ReadWriteFlags};
use torrent::RelPath;

use super::{Room, Storage};

/// Files that one torrent keeps open.
const MAX_OPEN: usize = 64;
/// Dirty files beyond which the whole file system is synced instead of each.
const SYNC_EACH: usize = 64;
/// Written with one call at most. On ext4 one of 1 MiB takes three times the processor time of four of this (measured, docs/benchmarks.md,
/// "Cost").
const WRITE: usize = 256 << 10;
/// Between two bytes that tell whether a range is in the page cache.
const PROBE: usize = 64 << 10;
/// No component of a path may be a link, and none may lead out (T64).
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// What statfs(2) says of a tmpfs and of a ramfs.
const MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// One payload file.
#[derive(Debug)]
struct Place {
    path: RelPath,
    size: u64,
}

/// An open file of the cache.
#[derive(Debug, Clone)]
struct Open {
    index: usize,
    writable: bool,
    file: Arc<File>,
}

/// Files on a real disk.
#[derive(Debug)]
pub struct Disk {
    folder: OwnedFd,
    /// To sync the file system by. Open from the start: the kernel tells each descriptor of the errors since it was opened.
    /// Not there if the folder cannot be listed.
    whole: Option<OwnedFd>,
    /// The folder lies in memory. There is no RWF_NOWAIT there, nor anything to wait for but swap.
    in_memory: bool,
    /// The file system knows no way to take space for a file.
    cannot_reserve: AtomicBool,
    places: Vec<Place>,
    /// The files used last, at the back.
    open: Mutex<VecDeque<Open>>,
}

impl Disk {
    /// Opens `folder` (made if missing); `layout` says where in it each file lies that has so many bytes.
    pub fn open(folder: &Path, sizes: impl IntoIterator<Item = u64>, layout: &[RelPath]) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let fd = fs::open(folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let whole = fs::openat2(&fd, ".", flags, Mode::empty(), BENEATH).ok();
        let places = sizes.into_iter().zip(layout).map(|(size, path)| Place { path: path.clone(), size });
        let in_memory = fs::fstatfs(&fd).is_ok_and(|fs| MEMORY.contains(&fs.f_type));
        Ok(Self {
            folder: fd,
            whole,
            in_memory,
            cannot_reserve: AtomicBool::new(false),
            places: places.collect(),
            open: Mutex::default(),
        })
    }

    /// How many files there are.
    pub(super) fn files(&self) -> usize {
        self.places.len()
    }

    /// Keeps a file open no longer than whoever uses it now.
    pub(super) fn close(&self, file: usize) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|open| open.index != file);
    }

    /// The file, from the cache or opened now.
    fn file(&self, index: usize, writable: bool) -> io::Result<Arc<File>> {
        let cached = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let at = open.iter().position(|o| o.index == index && (o.writable || !writable));
            at.and_then(|at| open.remove(at)).inspect(|found| open.push_back(found.clone()))
        };
        if let Some(found) = cached {
            return Ok(found.file);
        }
        let file = Arc::new(if writable { self.open_to_write(index)? } else { self.open_to_read(index)? });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|o| o.index != index);
        open.push_back(Open { index, writable, file: file.clone() });
        if open.len() > MAX_OPEN {
            open.pop_front();
        }
        Ok(file)
    }

    /// Fills `buffer` from the page cache. `false`: not cached, not supported, or short; the caller reads again where waiting is allowed.
    fn read_cached(&self, open: &File, offset: u64, buffer: &mut [u8]) -> bool {
        if self.in_memory {
            return open.read_exact_at(buffer, offset).is_ok();
        }
        let wanted = buffer.len();
        let read =
            rustix::io::preadv2(open, &mut [io::IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT);
        read.is_ok_and(|read| read == wanted)
    }

    fn open_to_read(&self, index: usize) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file: File =
            fs::openat2(&self.folder, self.places[index].path.as_str(), flags, Mode::empty(), BENEATH)?
                .into();
        regular(&file)?;
        Ok(file)
    }

    fn open_to_write(&self, index: usize) -> io::Result<File> {
        let place = &self.places[index];
        let file = match self.create(place) {
            Err(Errno::NOENT) => {
                self.make_parents(&place.path)?;
                self.create(place)?
            }
            other => other?,
        };
        let file = File::from(file);
        let metadata = regular(&file)?;
        if metadata.nlink() != 1 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} has a second name; it is not written to", place.path),
            ));
        }
        if metadata.len() != place.size {
            file.set_len(place.size)?;
        }
        Ok(file)
    }

    fn create(&self, place: &Place) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        fs::openat2(&self.folder, place.path.as_str(), flags, Mode::from_raw_mode(0o644), BENEATH)
    }

    /// Makes the folders above a file, each seen to be a real folder before the next is made in it.
    fn make_parents(&self, path: &RelPath) -> io::Result<()> {
        let mut above: Option<OwnedFd> = None;
        let parts: Vec<&str> = path.components().collect();
        for part in parts.iter().take(parts.len().saturating_sub(1)) {
            let folder = above.as_ref().unwrap_or(&self.folder);
            match fs::mkdirat(folder, *part, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            above = Some(fs::openat2(folder, *part, flags, Mode::empty(), BENEATH)?);
        }
        Ok(())
    }
}

/// Refuses what is no regular file (T66).
pub(super) fn regular(file: &File) -> io::Result<std::fs::Metadata> {
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok(metadata)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

impl Storage for Disk {
    fn read(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file(file, false)?.read_exact_at(buffer, offset)
    }

    fn read_now(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        Ok(self.read_cached(&*self.file(file, false)?, offset, buffer))
    }

    /// Looks at one byte of each 64 KiB, and at the last: the kernel reads ahead, and forgets, by runs of pages.
    fn cached(&self, file: usize, offset: u64, len: u64) -> io::Result<Option<Arc<File>>> {
        let Some(last) = len.checked_sub(1) else { return Ok(None) };
        let open = self.file(file, false)?;
        let mut looked_at = (0..last).step_by(PROBE).chain([last]);
        let all = looked_at.all(|at| self.read_cached(&open, offset + at, &mut [0]));
        Ok(all.then_some(open))
    }

    fn write(&self, file: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        let open = self.file(file, true)?;
        for (part, offset) in data.chunks(WRITE).zip((offset..).step_by(WRITE)) {
            open.write_all_at(part, offset)?;
        }
        Ok(())
    }

    fn sync(&self, files: &BTreeSet<usize>) -> io::Result<()> {
        if let Some(whole) = self.whole.as_ref().filter(|_| files.len() > SYNC_EACH) {
            return Ok(fs::syncfs(whole)?);
        }
        for &file in files {
            // Any open file will do; one that is only read may have a second name, which `open_to_write` refuses.
            self.file(file, false)?.sync_data()?;
        }
        Ok(())
    }

    fn size(&self, file: usize) -> io::Result<Option<u64>> {
        match self.open_to_read(file) {
            Ok(open) => Ok(Some(open.metadata()?.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create_empty(&self) -> io::Result<()> {
        for (index, place) in self.places.iter().enumerate() {
            if place.size == 0 {
                self.open_to_write(index)?;
            }
        }
        Ok(())
    }

    fn is_hole(&self, file: usize, offset: u64, len: u64) -> io::Result<bool> {
        is_hole(&*self.file(file, false)?, offset, len)
    }

    fn room(&self) -> Option<Room> {
        let stat = fs::fstatvfs(&self.folder).ok()?;
        // A file system that does not count says 0 of everything; many count bytes, and no files.
        let files = if stat.f_files == 0 { u64::MAX } else { stat.f_favail };
        (stat.f_blocks > 0).then(|| Room { bytes: stat.f_bavail.saturating_mul(stat.f_frsize), files })
    }

    fn occupies(&self, file: usize) -> io::Result<Option<u64>> {
        match self.open_to_read(file) {
            Ok(open) => Ok(Some(open.metadata()?.blocks() * 512)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// In memory nothing is taken: pages count against the memory of whoever takes them, who would be killed, not told.
    fn reserve(&self, file: usize, offset: u64, len: u64) -> io::Result<bool> {
        let is_too_long = || matches!(self.size(file), Ok(Some(size)) if size > self.places[file].size);
        if self.in_memory || self.cannot_reserve.load(Ordering::Relaxed) || is_too_long() {
            return Ok(false);
        }
        let open = self.file(file, true)?;
        let reserve = || fs::fallocate(&*open, FallocateFlags::KEEP_SIZE, offset, len);
        match rustix::io::retry_on_intr(reserve) {
            Err(error @ (Errno::OPNOTSUPP | Errno::NOSYS)) => {
                if !self.cannot_reserve.swap(true, Ordering::Relaxed) {
                    tracing::debug!(%error, "the file system cannot take space for files; they take it as they fill");
                }
                Ok(false)
            }
            other => Ok(other.map(|()| true)?),
        }
    }
}

/// Whether a range was never written; `false` where the file system does not know.
pub(super) fn is_hole(file: &File, offset: u64, len: u64) -> io::Result<bool> {
    match fs::seek(file, fs::SeekFrom::Data(offset)) {
        Ok(data) => Ok(data >= offset + len),
        Err(Errno::NXIO) => Ok(true),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
