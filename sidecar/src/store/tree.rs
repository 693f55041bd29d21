//! Whole trees: syncing, sealing, unsealing, removing; and opening a file below a folder without leaving it.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use torrent::RelPath;

use super::StoreError;
use super::record::sync_folder;

/// Files and folders of a published revision.
const SEALED_FILE: u32 = 0o444;
const SEALED_FOLDER: u32 = 0o555;
/// And of one that is coming.
const OPEN_FILE: u32 = 0o644;
const OPEN_FOLDER: u32 = 0o755;

enum Entry {
    File(PathBuf),
    /// After everything in it.
    Folder(PathBuf),
    /// Neither: links, sockets, devices.
    Other(PathBuf),
}

/// Everything below and including `top`, depth first; `None` if it is not there. Links are not followed.
fn walk(top: &Path, visit: &mut impl FnMut(Entry) -> Result<(), StoreError>) -> Result<(), StoreError> {
    for entry in fs::read_dir(top).map_err(StoreError::io("list", top))? {
        let entry = entry.map_err(StoreError::io("list", top))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(StoreError::io("look at", &path))?;
        if kind.is_dir() {
            walk(&path, visit)?;
        } else if kind.is_file() {
            visit(Entry::File(path))?;
        } else {
            visit(Entry::Other(path))?;
        }
    }
    visit(Entry::Folder(top.to_owned()))
}

/// fsync of every file, then of every folder.
pub fn sync_tree(top: &Path) -> Result<(), StoreError> {
    walk(top, &mut |entry| match entry {
        Entry::File(path) => {
            File::open(&path).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", &path))
        }
        Entry::Folder(path) => sync_folder(&path),
        Entry::Other(_) => Ok(()),
    })
}

/// Read-only for everybody (T66: what is neither file nor folder is refused).
pub fn seal(top: &Path) -> Result<(), StoreError> {
    walk(top, &mut |entry| match entry {
        Entry::File(path) => chmod(&path, SEALED_FILE),
        Entry::Folder(path) => chmod(&path, SEALED_FOLDER),
        Entry::Other(path) => {
            Err(StoreError::Occupied { path, by: "something that is neither a file nor a folder" })
        }
    })
}

/// Writable again for its owner. Files with further names (hard links of other revisions) stay sealed: they are whole.
pub fn unseal(top: &Path) -> Result<(), StoreError> {
    if !top.exists() {
        return Ok(());
    }
    chmod(top, OPEN_FOLDER)?;
    for entry in fs::read_dir(top).map_err(StoreError::io("list", top))? {
        let entry = entry.map_err(StoreError::io("list", top))?;
        let path = entry.path();
        let metadata = entry.metadata().map_err(StoreError::io("look at", &path))?;
        if metadata.is_dir() {
            unseal(&path)?;
        } else if metadata.is_file() && std::os::unix::fs::MetadataExt::nlink(&metadata) == 1 {
            chmod(&path, OPEN_FILE)?;
        }
    }
    Ok(())
}

/// Removes a tree, sealed or not; nothing there is fine. A link is removed, never what it points to.
pub fn remove_tree(top: &Path) -> Result<(), StoreError> {
    match fs::symlink_metadata(top) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return fs::remove_file(top).map_err(StoreError::io("remove", top)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::io("look at", top)(error)),
    }
    open_folders(top)?;
    match fs::remove_dir_all(top) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove", top)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a file below `data` that is sealed, whose folder stays sealed; nothing there is fine. No link is followed on the way.
pub fn remove_sealed(data: &Path, path: &RelPath) -> Result<(), StoreError> {
    let shown = data.join(path.as_str());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (parents, name) = match path.as_str().rsplit_once('/') {
        Some((parents, name)) => (Some(parents), name),
        None => (None, path.as_str()),
    };
    let open = |at: &Path| rustix::fs::open(at, flags, Mode::empty());
    let mut folder = open(data).map_err(StoreError::sys("open", data))?;
    for part in parents.into_iter().flat_map(|parents| parents.split('/')) {
        let below = rustix::fs::openat(&folder, part, flags, Mode::empty());
        folder = below.map_err(StoreError::sys("open the folder of", &shown))?;
    }
    let mode = |mode| rustix::fs::fchmod(&folder, Mode::from_raw_mode(mode));
    mode(OPEN_FOLDER).map_err(StoreError::sys("chmod the folder of", &shown))?;
    let removed = match rustix::fs::unlinkat(&folder, name, rustix::fs::AtFlags::empty()) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        other => other.map_err(StoreError::sys("remove", &shown)),
    };
    mode(SEALED_FOLDER).map_err(StoreError::sys("chmod the folder of", &shown))?;
    removed
}

/// A folder's entries can only be removed by those who may write it.
fn open_folders(top: &Path) -> Result<(), StoreError> {
    chmod(top, OPEN_FOLDER)?;
    for entry in fs::read_dir(top).map_err(StoreError::io("list", top))? {
        let entry = entry.map_err(StoreError::io("list", top))?;
        if entry.file_type().map_err(StoreError::io("look at", &entry.path()))?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}

fn chmod(path: &Path, mode: u32) -> Result<(), StoreError> {
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).map_err(StoreError::sys("chmod", path))
}

/// Opens a file below `folder`, following no link and never leaving it (T64, T66). With `CREATE`, the folders on the way are
/// made; a file that is to be written may have no second name.
pub fn open_beneath(folder: impl AsFd, path: &RelPath, flags: OFlags) -> Result<File, StoreError> {
    let shown = PathBuf::from(path.to_string());
    let (parents, name) = match shown.parent() {
        Some(parents) => (parents, shown.file_name().expect("a RelPath has a last component")),
        None => (Path::new(""), shown.as_os_str()),
    };
    let within = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = folder.as_fd().try_clone_to_owned().map_err(StoreError::io("open", &shown))?;
    for component in parents.components() {
        if flags.contains(OFlags::CREATE) {
            match rustix::fs::mkdirat(&at, component.as_os_str(), Mode::from_raw_mode(OPEN_FOLDER)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(StoreError::sys("make the folder of", &shown)(error)),
            }
        }
        at = rustix::fs::openat(&at, component.as_os_str(), within, Mode::empty())
            .map_err(StoreError::sys("open the folder of", &shown))?;
    }
    let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(OPEN_FILE) } else { Mode::empty() };
    // Without NONBLOCK, opening a FIFO that somebody put there would wait for its other end.
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::openat(&at, name, flags, mode).map_err(StoreError::sys("open", &shown))?;
    let file = File::from(fd);
    let metadata = file.metadata().map_err(StoreError::io("look at", &shown))?;
    if !metadata.is_file() {
        return Err(StoreError::Occupied { path: shown, by: "something that is not a file" });
    }
    let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
    if writes && std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
        return Err(StoreError::Occupied { path: shown, by: "a file with a second name" });
    }
    Ok(file)
}
