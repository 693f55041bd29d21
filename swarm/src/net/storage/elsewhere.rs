//! Files of which some lie in somebody else's folder: read there, and never written, cut or removed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Disk, Room, Storage};

/// The files of a torrent in a folder of its own, but those that lie elsewhere. A file is at one place or the other, as a whole: it begins
/// where [`Self::new`] says, and goes from here to there with [`Self::leave`], never back.
///
/// A piece that cannot be read elsewhere any more is fetched from others, and then not stored: the torrent has trouble that says so, and who
/// has added it decides what is to become of it.
#[derive(Debug)]
pub struct Elsewhere {
    own: Disk,
    other: Disk,
    /// By the file's index.
    is_there: Vec<AtomicBool>,
}

impl Elsewhere {
    /// Files in `own`, but those of these indices, which lie in `other`. Both have the same files in the same order, with paths of their own;
    /// of `other` only what lies there is ever opened.
    pub fn new(own: Disk, other: Disk, there: &BTreeSet<usize>) -> Self {
        let is_there = (0..own.files()).map(|file| AtomicBool::new(there.contains(&file))).collect();
        Self { own, other, is_there }
    }

    /// From now on the file is read at the other place, where it is whole; that is the caller's word. The file in the own folder is closed: it may
    /// be removed.
    pub fn leave(&self, file: usize) {
        self.is_there[file].store(true, Ordering::Release);
        self.own.close(file);
    }

    /// Whether the file lies elsewhere.
    pub fn is_elsewhere(&self, file: usize) -> bool {
        self.is_there[file].load(Ordering::Acquire)
    }

    /// Does something with the file where it lies.
    fn at<T>(&self, file: usize, act: impl FnOnce(&Disk) -> io::Result<T>) -> io::Result<T> {
        if self.is_elsewhere(file) {
            return act(&self.other);
        }
        let done = act(&self.own);
        if self.is_elsewhere(file) {
            // It has left meanwhile, and may have been opened after that was heard of.
            self.own.close(file);
        }
        done
    }
}

impl Storage for Elsewhere {
    fn read(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.at(file, |disk| disk.read(file, offset, buffer))
    }

    fn read_now(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        self.at(file, |disk| disk.read_now(file, offset, buffer))
    }

    fn cached(&self, file: usize, offset: u64, len: u64) -> io::Result<Option<Arc<File>>> {
        self.at(file, |disk| disk.cached(file, offset, len))
    }

    fn write(&self, file: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        if self.is_elsewhere(file) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "a file that is shared from another store has changed or is gone, and is not written to",
            ));
        }
        self.own.write(file, offset, data)
    }

    fn sync(&self, files: &BTreeSet<usize>) -> io::Result<()> {
        self.own.sync(&files.iter().copied().filter(|file| !self.is_elsewhere(*file)).collect())
    }

    fn size(&self, file: usize) -> io::Result<Option<u64>> {
        self.at(file, |disk| disk.size(file))
    }

    fn create_empty(&self) -> io::Result<()> {
        self.own.create_empty()
    }

    fn is_hole(&self, file: usize, offset: u64, len: u64) -> io::Result<bool> {
        self.at(file, |disk| disk.is_hole(file, offset, len))
    }

    fn room(&self) -> Option<Room> {
        self.own.room()
    }

    fn occupies(&self, file: usize) -> io::Result<Option<u64>> {
        self.at(file, |disk| disk.occupies(file))
    }

    fn reserve(&self, file: usize, offset: u64, len: u64) -> io::Result<bool> {
        Ok(!self.is_elsewhere(file) && self.own.reserve(file, offset, len)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use torrent::RelPath;

    use super::*;

    const BYTES: &[u8; 16] = b"sixteen bytes...";

    /// Two files, of which the second lies elsewhere if `there`.
    fn files(folder: &Path, there: &[usize]) -> Elsewhere {
        let disk = |name: &str, paths: [&str; 2]| {
            let paths = paths.map(|path| RelPath::parse(path).unwrap());
            Disk::open(&folder.join(name), [16, 16], &paths).unwrap()
        };
        let (own, other) = (disk("own", ["blobs/a", "blobs/b"]), disk("other", ["a", "b"]));
        Elsewhere::new(own, other, &there.iter().copied().collect())
    }

    fn read(files: &Elsewhere, file: usize) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        files.read(file, 0, &mut bytes).map(|()| bytes)
    }

    #[test]
    fn what_lies_elsewhere_is_read_there_and_nothing_is_done_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), &[1]);
        let there = folder.path().join("other/b");
        fs::write(&there, BYTES).unwrap();
        files.write(0, 0, BYTES).unwrap();
        assert_eq!((read(&files, 0).unwrap(), read(&files, 1).unwrap()), (*BYTES, *BYTES));
        assert_eq!(files.write(1, 0, &[0; 16]).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(!files.reserve(1, 0, 16).unwrap());
        files.sync(&BTreeSet::from([0, 1])).unwrap();
        assert_eq!(fs::read(&there).unwrap(), BYTES);
        assert!(!folder.path().join("own/blobs/b").exists());
        assert_eq!(files.size(1).unwrap(), Some(16));
        fs::remove_file(there).unwrap();
        assert_eq!(files.size(1).unwrap(), None, "who looks sees that it is gone");
    }

    #[test]
    fn a_file_that_leaves_is_closed_and_read_at_its_other_place() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), &[]);
        files.write(0, 0, BYTES).unwrap();
        let (own, there) = (folder.path().join("own/blobs/a"), folder.path().join("other/a"));
        fs::write(&there, b"the same in bold").unwrap();
        assert_eq!(read(&files, 0).unwrap(), *BYTES);
        files.leave(0);
        fs::remove_file(&own).unwrap();
        assert!(files.is_elsewhere(0) && !files.is_elsewhere(1));
        assert_eq!(&read(&files, 0).unwrap(), b"the same in bold");
        let open = fs::read_dir("/proc/self/fd").unwrap();
        let own = own.to_str().unwrap().to_owned();
        let holds = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
        assert!(!holds.into_iter().any(|path| path.to_string_lossy().starts_with(&own)), "its space is free");
    }

    #[test]
    fn t064_a_link_in_the_other_folder_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), &[1]);
        fs::write(folder.path().join("secret"), BYTES).unwrap();
        symlink("../secret", folder.path().join("other/b")).unwrap();
        assert!(read(&files, 1).is_err() && files.size(1).is_err());
    }
}
