//! Files in memory, for benchmarks of the wire and for tests.

use std::collections::BTreeSet;
use std::io;
use std::sync::{PoisonError, RwLock};

use super::Storage;

/// Files in memory.
#[derive(Debug)]
pub struct Memory {
    files: Vec<RwLock<Option<Vec<u8>>>>,
    sizes: Vec<u64>,
}

impl Memory {
    /// None of these files exists yet.
    pub fn empty(sizes: Vec<u64>) -> Self {
        Self { files: sizes.iter().map(|_| RwLock::new(None)).collect(), sizes }
    }

    /// All files are there with these bytes.
    pub fn full(files: Vec<Vec<u8>>) -> Self {
        let sizes = files.iter().map(|file| file.len() as u64).collect();
        Self { files: files.into_iter().map(|file| RwLock::new(Some(file))).collect(), sizes }
    }

    /// The bytes of a file as they are now.
    pub fn contents(&self, file: usize) -> Option<Vec<u8>> {
        self.files[file].read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Storage for Memory {
    fn read(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let held = self.files[file].read().unwrap_or_else(PoisonError::into_inner);
        let bytes = held.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let from = offset as usize;
        let part = bytes.get(from..from + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    fn read_now(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        self.read(file, offset, buffer).map(|()| true)
    }

    fn write(&self, file: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut held = self.files[file].write().unwrap_or_else(PoisonError::into_inner);
        let bytes = held.get_or_insert_with(|| vec![0; self.sizes[file] as usize]);
        let from = offset as usize;
        let part = bytes.get_mut(from..from + data.len()).ok_or(io::ErrorKind::InvalidInput)?;
        part.copy_from_slice(data);
        Ok(())
    }

    fn sync(&self, _files: &BTreeSet<usize>) -> io::Result<()> {
        Ok(())
    }

    fn size(&self, file: usize) -> io::Result<Option<u64>> {
        let held = self.files[file].read().unwrap_or_else(PoisonError::into_inner);
        Ok(held.as_ref().map(|bytes| bytes.len() as u64))
    }

    fn create_empty(&self) -> io::Result<()> {
        for (file, size) in self.files.iter().zip(&self.sizes) {
            if *size == 0 {
                *file.write().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
            }
        }
        Ok(())
    }

    fn is_hole(&self, _file: usize, _offset: u64, _len: u64) -> io::Result<bool> {
        Ok(false)
    }
}
