//! What was hashed before: a file for each torrent that was shared, so that a start does not read everything again.
//!
//! A line of JSON with what the files looked like, then the .torrent that was made of them, if one was. What cannot be read, or was
//! written by another version, means that the files are hashed.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::output;
use crate::torrent_command::State;

/// The version of the format.
const VERSION: u32 = 1;

/// A file that was hashed: its path in the torrent, and by what a change would show.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The path.
    pub path: String,
    /// The rest.
    pub state: State,
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    files: Vec<Fact>,
    /// SHA-256 of what follows, in hex.
    sha256: String,
}

/// What all versions have in common.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// The folder of these files.
#[derive(Clone, Debug)]
pub struct Known(Option<PathBuf>);

impl Known {
    /// In `folder`, or where the XDG base directory specification puts the state of programs.
    pub fn open(folder: Option<&Path>) -> Self {
        let folder = folder.map(Path::to_owned).or_else(|| {
            let absolute =
                |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
            let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
            Some(state?.join("samara"))
        });
        if folder.is_none() {
            output::say("there is no home folder to remember in what was hashed: name one with --state");
        }
        Self(folder)
    }

    /// What was remembered under `key`, if the files are as they were.
    pub fn recall(&self, key: &[u8; 32], files: &[Fact]) -> Option<Vec<u8>> {
        let path = self.path(key)?;
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => return doubt(&path, &error.to_string()),
            Ok(bytes) => bytes,
        };
        let (header, body) = match split(&bytes) {
            Ok(parts) => parts,
            Err(why) => return doubt(&path, why),
        };
        (header.files == files).then(|| body.to_owned())
    }

    /// Remembers `body` under `key`, for as long as the files are like this. It is there whole or as it was before.
    pub fn remember(&self, key: &[u8; 32], files: Vec<Fact>, body: &[u8]) {
        let Some(path) = self.path(key) else { return };
        if let Err(error) = write(&path, files, body) {
            output::say(&format!(
                "the next start will hash again: cannot write {}: {error:#}",
                path.display()
            ));
        }
    }

    fn path(&self, key: &[u8; 32]) -> Option<PathBuf> {
        Some(self.0.as_ref()?.join("seed").join(hex::encode(key)))
    }
}

fn doubt<T>(path: &Path, why: &str) -> Option<T> {
    output::say(&format!("{} is of no use ({why}): hashing", path.display()));
    None
}

fn split(bytes: &[u8]) -> Result<(Header, &[u8]), &'static str> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("it is damaged")?;
    let (line, body) = (&bytes[..end], &bytes[end + 1..]);
    let found: Versioned = serde_json::from_slice(line).map_err(|_| "it is damaged")?;
    if found.version != VERSION {
        return Err("another version of this program wrote it");
    }
    let header: Header = serde_json::from_slice(line).map_err(|_| "it is damaged")?;
    if header.sha256 != hex::encode(Sha256::digest(body)) {
        return Err("it is damaged");
    }
    Ok((header, body))
}

fn write(path: &Path, files: Vec<Fact>, body: &[u8]) -> Result<()> {
    let folder = path.parent().context("it has no folder")?;
    fs::create_dir_all(folder)?;
    let header = Header { version: VERSION, files, sha256: hex::encode(Sha256::digest(body)) };
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&mut file, &header)?;
    file.write_all(b"\n")?;
    file.write_all(body)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(path: &Path) -> Vec<Fact> {
        vec![Fact { path: "a".to_owned(), state: State::of(&fs::metadata(path).unwrap()) }]
    }

    #[test]
    fn what_is_remembered_holds_until_a_file_changes() {
        let temp = tempfile::TempDir::new().unwrap();
        let (file, known, key) = (temp.path().join("a"), Known(Some(temp.path().join("state"))), [7; 32]);
        fs::write(&file, "one").unwrap();
        assert_eq!(known.recall(&key, &facts(&file)), None);
        known.remember(&key, facts(&file), b"body\nof lines");
        assert_eq!(known.recall(&key, &facts(&file)).unwrap(), b"body\nof lines");
        assert_eq!(known.recall(&[8; 32], &facts(&file)), None);
        fs::remove_file(&file).unwrap();
        fs::write(&file, "two").unwrap();
        assert_eq!(known.recall(&key, &facts(&file)), None);
    }

    #[test]
    fn what_is_damaged_or_of_another_version_is_not_believed() {
        let temp = tempfile::TempDir::new().unwrap();
        let (file, known, key) = (temp.path().join("a"), Known(Some(temp.path().join("state"))), [7; 32]);
        fs::write(&file, "one").unwrap();
        known.remember(&key, facts(&file), b"body");
        let path = known.path(&key).unwrap();
        let good = fs::read(&path).unwrap();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let text = String::from_utf8(good.clone()).unwrap();
        let newer = text.replace("\"version\":1", "\"version\":2").into_bytes();
        for bad in [flipped, newer, good[..good.len() - 1].to_vec(), Vec::new()] {
            fs::write(&path, bad).unwrap();
            assert_eq!(known.recall(&key, &facts(&file)), None);
        }
        fs::write(&path, good).unwrap();
        assert!(known.recall(&key, &facts(&file)).is_some());
    }
}
