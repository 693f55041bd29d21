//! Where a file lies while it comes, and where it goes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use torrent::{IngestId, RelPath};

use crate::digest;

/// Digits of the ingest id in a folder's name.
const DIGITS: usize = 16;
/// What such a folder's name ends in.
const SUFFIX: &str = ".samara-get";
/// What is in it: the file.
const DATA: &str = "data";

/// The folder that hides in the output folder until the file is whole, and the file.
#[derive(Debug, Clone)]
pub struct Place {
    hidden: PathBuf,
    name: String,
    file: PathBuf,
}

/// What is there before anything is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing, or a part.
    Open,
    /// All of it: an earlier start has put it there and was ended before it could tidy up, or it has the declared digest.
    Whole,
}

impl Place {
    /// In an output folder.
    pub fn new(output: &Path, name: &RelPath, id: IngestId) -> Self {
        let hidden = output.join(format!(".{}{SUFFIX}", &id.to_string()[..DIGITS]));
        Self { hidden, name: name.as_str().to_owned(), file: output.join(name.as_str()) }
    }

    /// Where the file is when it is whole.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What is noted as durable.
    pub fn journal(&self) -> PathBuf {
        self.hidden.join("journal")
    }

    /// Where its bytes lie until then.
    pub fn data(&self) -> PathBuf {
        self.hidden.join(DATA)
    }

    fn coming(&self) -> PathBuf {
        self.data().join(&self.name)
    }

    /// Makes the folders, and looks what is there. A file that is there and is not known to be this one is an error: it is not
    /// written over.
    pub fn open(&self, size: u64, sha256: Option<[u8; 32]>) -> Result<Before> {
        let shown = self.file.display();
        if let Some(parent) = self.file.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        let there = match fs::symlink_metadata(&self.file) {
            Ok(there) => Some(there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        };
        if let Some(there) = there {
            let ours =
                there.is_file() && there.len() == size && self.journal().exists() && !self.coming().exists();
            let same = || -> Result<bool> {
                let Some(sha256) = sha256.filter(|_| there.is_file()) else { return Ok(false) };
                Ok(digest::of_file(&self.file).with_context(|| format!("cannot read {shown}"))? == sha256)
            };
            if (ours && sha256.is_none()) || same()? {
                return Ok(Before::Whole);
            }
            bail!(
                "{shown} is there already, and may be anything: remove it, choose another folder with -o, or say with --sha256 what it must be"
            );
        }
        fs::create_dir_all(self.data()).with_context(|| format!("cannot make {}", self.data().display()))?;
        Ok(Before::Open)
    }

    /// Folders beside it in which a file of this name came from another URL or was another version: nothing here goes on with them.
    pub fn others(&self) -> Vec<PathBuf> {
        let parent = self.hidden.parent().unwrap_or(Path::new("."));
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let is_other = |folder: &PathBuf| {
            let named = folder.file_name().and_then(|name| name.to_str());
            let is_ours = named.is_some_and(|name| name.starts_with('.') && name.ends_with(SUFFIX));
            is_ours && *folder != self.hidden && folder.join(DATA).join(&self.name).exists()
        };
        entries.map(|entry| entry.path()).filter(is_other).collect()
    }

    /// Puts the whole file where it belongs, durably.
    pub fn publish(&self) -> Result<()> {
        let (from, shown) = (self.coming(), self.file.display());
        match renameat_with(CWD, &from, CWD, &self.file, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            // Some file systems do not know how.
            Err(Errno::INVAL | Errno::NOSYS) if !self.file.exists() => {
                fs::rename(&from, &self.file).with_context(|| format!("cannot make {shown}"))?;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot make {shown}")),
        }
        let parent = self.file.parent().unwrap_or(Path::new("."));
        let synced = File::open(parent).and_then(|folder| folder.sync_all());
        synced.with_context(|| format!("cannot write to {}", parent.display()))
    }

    /// A file without a byte: there is nothing to read or to share.
    pub fn publish_empty(&self) -> Result<()> {
        let coming = self.coming();
        let made = File::create(&coming).and_then(|file| file.sync_all());
        made.with_context(|| format!("cannot make {}", coming.display()))?;
        self.publish()
    }

    /// Removes what hides.
    pub fn tidy(&self) -> Result<()> {
        match fs::remove_dir_all(&self.hidden) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.hidden.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn a_strange_file_in_the_way_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let place = Place::new(temp.path(), &RelPath::parse("a.bin").unwrap(), IngestId([7; 32]));
        assert_eq!(place.open(5, None).unwrap(), Before::Open);
        fs::write(place.coming(), "12345").unwrap();
        fs::write(place.file(), "mine").unwrap();
        assert!(place.open(5, None).is_err());
        assert!(place.publish().is_err());
        assert_eq!(fs::read(place.file()).unwrap(), b"mine");
        let sha256 = Sha256::digest("mine").into();
        assert_eq!(place.open(4, Some(sha256)).unwrap(), Before::Whole);
        assert!(place.open(4, Some([0; 32])).is_err());
    }

    #[test]
    fn what_came_of_another_version_is_found() {
        let temp = tempfile::tempdir().unwrap();
        let place =
            |name: &str, id| Place::new(temp.path(), &RelPath::parse(name).unwrap(), IngestId([id; 32]));
        let (one, two, other) = (place("a.bin", 1), place("a.bin", 2), place("b.bin", 3));
        for place in [&one, &two, &other] {
            place.open(5, None).unwrap();
            fs::write(place.coming(), "123").unwrap();
        }
        fs::create_dir(temp.path().join("strange.samara-get")).unwrap();
        assert_eq!(one.others(), std::slice::from_ref(&two.hidden));
        two.tidy().unwrap();
        assert!(one.others().is_empty());
    }

    #[test]
    fn what_an_earlier_start_has_published_is_known() {
        let temp = tempfile::tempdir().unwrap();
        let place = Place::new(temp.path(), &RelPath::parse("a.bin").unwrap(), IngestId([7; 32]));
        place.open(5, None).unwrap();
        fs::write(place.coming(), "12345").unwrap();
        fs::write(place.journal(), "").unwrap();
        place.publish().unwrap();
        assert_eq!(place.open(5, None).unwrap(), Before::Whole);
        place.tidy().unwrap();
        assert!(place.open(5, None).is_err(), "nothing tells what it is any more");
    }
}
