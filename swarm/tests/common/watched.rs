//! A disk at which a test sees what is read, and says how much room there is.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use swarm::net::storage::{Disk, Room, Storage};

use super::TestTorrent;

/// A real disk, but for what is said of its room.
#[derive(Debug)]
pub struct Watched {
    disk: Disk,
    /// Bytes that were read.
    pub read: AtomicU64,
    room: Mutex<Option<Room>>,
}

impl Watched {
    /// The files of a torrent below `folder`. `room`: there seems to be so much, in bytes and files; `None`: nobody knows.
    pub fn new(torrent: &TestTorrent, folder: &Path, room: Option<(u64, u64)>) -> Arc<Self> {
        let sizes = torrent.metainfo.files().iter().map(|file| file.size);
        let disk = Disk::open(folder, sizes, &torrent.layout).unwrap();
        let watched = Arc::new(Self { disk, read: AtomicU64::new(0), room: Mutex::default() });
        if let Some(room) = room {
            watched.has_room(room);
        }
        watched
    }

    /// There seems to be room for so many bytes and files from now on.
    pub fn has_room(&self, (bytes, files): (u64, u64)) {
        *self.room.lock().unwrap() = Some(Room { bytes, files });
    }
}

impl Storage for Watched {
    fn read(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.disk.read(file, offset, buffer)
    }

    fn read_now(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.disk.read_now(file, offset, buffer)
    }

    fn cached(&self, file: usize, offset: u64, len: u64) -> io::Result<Option<Arc<File>>> {
        self.disk.cached(file, offset, len)
    }

    fn write(&self, file: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(file, offset, data)
    }

    fn sync(&self, files: &BTreeSet<usize>) -> io::Result<()> {
        self.disk.sync(files)
    }

    fn size(&self, file: usize) -> io::Result<Option<u64>> {
        self.disk.size(file)
    }

    fn create_empty(&self) -> io::Result<()> {
        self.disk.create_empty()
    }

    fn is_hole(&self, file: usize, offset: u64, len: u64) -> io::Result<bool> {
        self.disk.is_hole(file, offset, len)
    }

    fn room(&self) -> Option<Room> {
        *self.room.lock().unwrap()
    }

    fn occupies(&self, file: usize) -> io::Result<Option<u64>> {
        self.disk.occupies(file)
    }

    fn reserve(&self, file: usize, offset: u64, len: u64) -> io::Result<bool> {
        self.disk.reserve(file, offset, len)
    }
}
