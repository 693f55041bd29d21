//! Some files of a torrent: what belongs to the others, because it shares a piece with a selected file, lies in a file of its own.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;
use torrent::File as Payload;

use super::disk::{is_hole, regular};
use super::{Room, Storage};

/// Where a file's bytes are.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Under its own name.
    Here,
    /// In the parts file, from this offset on.
    Parts(u64),
}

/// The files of `inner`, but those that are neither selected nor there: see [`crate::net::Selection`].
#[derive(Debug)]
pub struct Selected<S> {
    inner: S,
    places: Vec<Place>,
    sizes: Vec<u64>,
    parts: PathBuf,
    open: Mutex<Option<Arc<File>>>,
}

impl<S: Storage> Selected<S> {
    /// Of `files`, those that are `selected` lie in `inner`, and so do others that are there with their full size.
    pub fn new(inner: S, files: &[Payload], selected: &BTreeSet<usize>, parts: PathBuf) -> io::Result<Self> {
        let place = |(index, file): (usize, &Payload)| {
            let here = selected.contains(&index) || inner.size(index)? == Some(file.size);
            Ok(if here { Place::Here } else { Place::Parts(file.offset) })
        };
        let places = files.iter().enumerate().map(place).collect::<io::Result<_>>()?;
        let sizes = files.iter().map(|file| file.size).collect();
        Ok(Self { inner, places, sizes, parts, open: Mutex::default() })
    }

    /// The parts file.
    fn parts(&self, create: bool) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*open {
            return Ok(file.clone());
        }
        // Nothing that someone put there in its place is followed or waited for.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(create).mode(0o644).custom_flags(flags.bits().cast_signed());
        let file = Arc::new(options.open(&self.parts)?);
        regular(&file)?;
        *open = Some(file.clone());
        Ok(file)
    }
}

impl<S: Storage> Storage for Selected<S> {
    fn read(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.places[file] {
            Place::Here => self.inner.read(file, offset, buffer),
            Place::Parts(start) => self.parts(false)?.read_exact_at(buffer, start + offset),
        }
    }

    fn read_now(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        match self.places[file] {
            Place::Here => self.inner.read_now(file, offset, buffer),
            Place::Parts(_) => Ok(false),
        }
    }

    fn cached(&self, file: usize, offset: u64, len: u64) -> io::Result<Option<Arc<File>>> {
        match self.places[file] {
            Place::Here => self.inner.cached(file, offset, len),
            Place::Parts(_) => Ok(None),
        }
    }

    fn write(&self, file: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.places[file] {
            Place::Here => self.inner.write(file, offset, data),
            Place::Parts(start) => self.parts(true)?.write_all_at(data, start + offset),
        }
    }

    fn sync(&self, files: &BTreeSet<usize>) -> io::Result<()> {
        let is_here = |file: &usize| matches!(self.places[*file], Place::Here);
        let (here, parts): (BTreeSet<usize>, BTreeSet<usize>) = files.iter().copied().partition(is_here);
        if !parts.is_empty() {
            self.parts(false)?.sync_data()?;
        }
        self.inner.sync(&here)
    }

    fn size(&self, file: usize) -> io::Result<Option<u64>> {
        match self.places[file] {
            Place::Here => self.inner.size(file),
            Place::Parts(_) => match self.parts(false) {
                Ok(_) => Ok(Some(self.sizes[file])),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    fn create_empty(&self) -> io::Result<()> {
        for (file, place) in self.places.iter().enumerate() {
            if matches!(place, Place::Here) && self.sizes[file] == 0 {
                self.inner.write(file, 0, &[])?;
            }
        }
        Ok(())
    }

    fn is_hole(&self, file: usize, offset: u64, len: u64) -> io::Result<bool> {
        match self.places[file] {
            Place::Here => self.inner.is_hole(file, offset, len),
            Place::Parts(start) => is_hole(&*self.parts(false)?, start + offset, len),
        }
    }

    fn room(&self) -> Option<Room> {
        self.inner.room()
    }

    fn occupies(&self, file: usize) -> io::Result<Option<u64>> {
        match self.places[file] {
            Place::Here => self.inner.occupies(file),
            // One file for all, of at most two pieces for each that is selected.
            Place::Parts(_) => Ok(Some(0)),
        }
    }

    fn reserve(&self, file: usize, offset: u64, len: u64) -> io::Result<bool> {
        match self.places[file] {
            Place::Here => self.inner.reserve(file, offset, len),
            Place::Parts(_) => Ok(false),
        }
    }
}
