//! Files that are somebody else's: shared, and never written to.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::Arc;

use super::Storage;

/// The files of `S`, to be read only. A piece that cannot be read any more is fetched from others, and then not stored: the torrent has
/// trouble that says so, and the file stays as its owner has left it.
#[derive(Debug)]
pub struct ReadOnly<S>(pub S);

impl<S: Storage> Storage for ReadOnly<S> {
    fn read(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read(file, offset, buffer)
    }

    fn read_now(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        self.0.read_now(file, offset, buffer)
    }

    fn cached(&self, file: usize, offset: u64, len: u64) -> io::Result<Option<Arc<File>>> {
        self.0.cached(file, offset, len)
    }

    fn write(&self, _file: usize, _offset: u64, _data: &[u8]) -> io::Result<()> {
        Err(refused())
    }

    fn sync(&self, files: &BTreeSet<usize>) -> io::Result<()> {
        self.0.sync(files)
    }

    fn size(&self, file: usize) -> io::Result<Option<u64>> {
        self.0.size(file)
    }

    fn create_empty(&self) -> io::Result<()> {
        Err(refused())
    }

    fn is_hole(&self, file: usize, offset: u64, len: u64) -> io::Result<bool> {
        self.0.is_hole(file, offset, len)
    }
}

fn refused() -> io::Error {
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        "a file that is shared has changed or is gone, and is not written to",
    )
}
