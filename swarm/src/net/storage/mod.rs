//! Where the bytes of a torrent lie.
//!
//! Deliberately synchronous, because (1) there is no asynchronous file I/O on Linux that works in an unprivileged pod,
//! (2) the callers already run on a bounded set of blocking threads, and (3) a fault-injecting or simulated storage is then
//! a plain struct.

mod disk;
mod elsewhere;
mod memory;
mod read_only;
mod selected;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;
use torrent::{PieceMap, Segment};

pub use disk::Disk;
pub use elsewhere::Elsewhere;
pub use memory::Memory;
pub use read_only::ReadOnly;
pub use selected::Selected;

/// The payload files of one torrent, by their index in the metainfo. All methods may be called from many threads at once.
pub trait Storage: Send + Sync + std::fmt::Debug + 'static {
    /// Fills `buffer` from `offset` of a file; an error of kind `UnexpectedEof` if the file is too short.
    fn read(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// As [`Self::read`], but only if it does not have to wait for a device; `false` if it would.
    fn read_now(&self, _file: usize, _offset: u64, _buffer: &mut [u8]) -> io::Result<bool> {
        Ok(false)
    }

    /// The open file, if so many bytes from `offset` on lie in it and in the page cache, so that sending them is not likely to wait for a device;
    /// else `None`. Whoever has it holds the file open, also when it is removed.
    fn cached(&self, _file: usize, _offset: u64, _len: u64) -> io::Result<Option<Arc<File>>> {
        Ok(None)
    }

    /// Writes at `offset`; makes the file, of its full size, if it is not there.
    fn write(&self, file: usize, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Returns when everything written to these files is on the medium.
    fn sync(&self, files: &BTreeSet<usize>) -> io::Result<()>;

    /// The size that a file has now; `None` if it does not exist.
    fn size(&self, file: usize) -> io::Result<Option<u64>>;

    /// Makes the files that have no bytes: no piece would.
    fn create_empty(&self) -> io::Result<()>;

    /// Whether a range was never written, as far as the file system knows. What says so wrongly costs a download.
    fn is_hole(&self, file: usize, offset: u64, len: u64) -> io::Result<bool>;

    /// What else may be written; `None` if nobody knows.
    fn room(&self) -> Option<Room> {
        None
    }

    /// Bytes of the medium that a file takes, with what is reserved for it; `None` if it does not exist.
    fn occupies(&self, _file: usize) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// Takes the space of a range; makes the file, of its full size, if it is not there. What lies in the range stays as it is. `false`
    /// where the file system cannot; the only error that stops a download is one of [`is_full`].
    fn reserve(&self, _file: usize, _offset: u64, _len: u64) -> io::Result<bool> {
        Ok(false)
    }
}

/// What a file system has left for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub bytes: u64,
    /// Files that may be made.
    pub files: u64,
}

/// Reads `buffer.len()` bytes of a piece from `begin`; what is padding is zeros.
pub fn read_piece(
    storage: &dyn Storage,
    map: &PieceMap,
    piece: u32,
    begin: u32,
    buffer: &mut [u8],
) -> io::Result<()> {
    each_part(map, piece, begin, buffer, |file, offset, part| storage.read(file, offset, part).map(|()| true))
        .map(drop)
}

/// As [`read_piece`], but only if no part has to wait for a device.
pub fn read_piece_now(
    storage: &dyn Storage,
    map: &PieceMap,
    piece: u32,
    begin: u32,
    buffer: &mut [u8],
) -> io::Result<bool> {
    each_part(map, piece, begin, buffer, |file, offset, part| storage.read_now(file, offset, part))
}

/// A range of a file that lies in the page cache.
#[derive(Debug)]
pub struct Extent {
    /// It stays open as long as it is needed.
    pub file: Arc<File>,
    /// Of the first byte.
    pub offset: u64,
}

/// Where so many bytes of a piece from `begin` lie, if all of them lie in one file and none has to be waited for.
pub fn cached_extent(
    storage: &dyn Storage,
    map: &PieceMap,
    piece: u32,
    begin: u32,
    len: u32,
) -> io::Result<Option<Extent>> {
    let holds = |segment: &Segment| {
        let from = segment.offset_in_piece;
        from <= begin && begin + len <= from + segment.len
    };
    let Some(segment) = map.segments(piece).find(holds) else { return Ok(None) };
    let offset = segment.offset_in_file + u64::from(begin - segment.offset_in_piece);
    let file = storage.cached(segment.file, offset, u64::from(len))?;
    Ok(file.map(|file| Extent { file, offset }))
}

/// Calls `read` for the part of each file, until one says `false`.
fn each_part(
    map: &PieceMap,
    piece: u32,
    begin: u32,
    buffer: &mut [u8],
    mut read: impl FnMut(usize, u64, &mut [u8]) -> io::Result<bool>,
) -> io::Result<bool> {
    let end = begin + buffer.len() as u32;
    let mut filled = begin;
    for segment in map.segments(piece) {
        let from = segment.offset_in_piece.max(begin);
        let to = (segment.offset_in_piece + segment.len).min(end);
        if from >= to {
            continue;
        }
        buffer[(filled - begin) as usize..(from - begin) as usize].fill(0);
        let offset = segment.offset_in_file + u64::from(from - segment.offset_in_piece);
        if !read(segment.file, offset, &mut buffer[(from - begin) as usize..(to - begin) as usize])? {
            return Ok(false);
        }
        filled = to;
    }
    buffer[(filled - begin) as usize..].fill(0);
    Ok(true)
}

/// Writes a verified piece, without its padding; says which files it touched.
pub fn write_piece(
    storage: &dyn Storage,
    map: &PieceMap,
    piece: u32,
    data: &[u8],
) -> io::Result<BTreeSet<usize>> {
    let mut touched = BTreeSet::new();
    for segment in map.segments(piece) {
        let from = segment.offset_in_piece as usize;
        storage.write(segment.file, segment.offset_in_file, &data[from..from + segment.len as usize])?;
        touched.insert(segment.file);
    }
    Ok(touched)
}

/// Bytes of a file that were written, as far as its file system knows: space that was only taken is a hole (lseek(2)).
pub fn written(path: &Path) -> io::Result<u64> {
    let file = std::fs::File::open(path)?;
    let (mut bytes, mut at) = (0, 0);
    while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
        at = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(data))?;
        bytes += at - data;
    }
    Ok(bytes)
}

/// Whether an error means that there is no room: space, quota or inodes.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Whether the system lacked something else than space: what is on disk is as it was (T76).
pub fn is_shortage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory || lacks_descriptors(error)
}

/// Whether no file could be opened: nothing was done with one.
pub fn lacks_descriptors(error: &io::Error) -> bool {
    let lacking = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|errno| lacking.contains(&errno))
}
