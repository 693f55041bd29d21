//! A disk that counts the bytes that are read.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use swarm::AddTorrent;
use swarm::net::storage::{Disk, Storage};

/// A disk that counts the bytes that are read.
#[derive(Debug)]
pub struct Metered {
    disk: Disk,
    pub read: AtomicU64,
}

impl Metered {
    pub fn new(spec: &AddTorrent) -> Self {
        let disk = Disk::open(&spec.folder, spec.metainfo.files().iter().map(|file| file.size), &spec.layout)
            .unwrap();
        Self { disk, read: AtomicU64::new(0) }
    }
}

impl Storage for Metered {
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
}
