//! One hosts file on the disk: read, changed and replaced whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use super::text::{MAX_FILE, TextError};

/// The file in a registry's folder.
pub(crate) const HOSTS: &str = "hosts.toml";
/// What it was before our first change.
const ORIGINAL: &str = "hosts.toml.samara.orig";
/// Where the new one is written.
const NEW: &str = ".hosts.toml.samara.new";

/// Why a file stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// What it says.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A link, a folder, a device.
    #[error("is no ordinary file: replace a link by what it points to")]
    NotAFile,
    /// Somebody else has written it meanwhile.
    #[error("has changed meanwhile; it is tried again")]
    Changed,
    /// The disk.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The text of `folder`'s hosts file; none if there is no file.
pub(crate) fn read(folder: &Path) -> Result<Option<String>, FileError> {
    let path = folder.join(HOSTS);
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
        Ok(metadata) if !metadata.is_file() => return Err(FileError::NotAFile),
        Ok(metadata) if metadata.len() > MAX_FILE as u64 => {
            return Err(TextError::TooLong(usize::try_from(metadata.len()).unwrap_or(usize::MAX)).into());
        }
        Ok(_) => {}
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE as u64 + 1).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Replaces `before`, which is what was read, by `after`. A crash leaves one of them, never a part. The rights stay.
pub(crate) fn replace(folder: &Path, before: Option<&str>, after: &str) -> Result<(), FileError> {
    let path = folder.join(HOSTS);
    let new = write_new(folder, before.map(|_| path.as_path()), after)?;
    if read(folder)?.as_deref() != before {
        fs::remove_file(new)?;
        return Err(FileError::Changed);
    }
    fs::rename(new, path)?;
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Keeps `text`, a file of somebody else's, as a copy beside it.
pub(crate) fn keep_original(folder: &Path, text: &str) -> Result<(), FileError> {
    let new = write_new(folder, Some(&folder.join(HOSTS)), text)?;
    fs::rename(new, folder.join(ORIGINAL))?;
    Ok(())
}

/// Takes away the copy, and what a crash may have left.
pub(crate) fn forget_original(folder: &Path) -> io::Result<()> {
    for name in [ORIGINAL, NEW] {
        remove_if_there(&folder.join(name))?;
    }
    Ok(())
}

/// Takes away a hosts file that we made.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    remove_if_there(&folder.join(HOSTS))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write_new(folder: &Path, like: Option<&Path>, text: &str) -> io::Result<PathBuf> {
    let path = folder.join(NEW);
    remove_if_there(&path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path)?;
    if let Some(like) = like {
        let metadata = fs::metadata(like)?;
        fchown(&file, Some(metadata.uid()), Some(metadata.gid()))?;
        file.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(path)
}
