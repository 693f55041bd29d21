//! The data root: fit to be one, and ours alone.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};

use super::{Layout, StoreError};

const OTHERS_MAY_WRITE: u32 = 0o002;

/// A data root that was checked and is locked for as long as this lives.
#[derive(Debug)]
pub struct Root {
    layout: Layout,
    _lock: File,
}

impl Root {
    /// Checks the folder (T65), takes its lock (T77), makes the folders below.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        check(path)?;
        let lock = lock(path)?;
        let layout = Layout::new(path);
        layout.ensure()?;
        Ok(Self { layout, _lock: lock })
    }

    /// The paths below.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}

fn check(path: &Path) -> Result<(), StoreError> {
    let refuse = |why: String| Err(StoreError::Root { path: path.to_owned(), why });
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refuse("does not exist: make the folder, or mount it".into());
        }
        Err(error) => return refuse(format!("cannot be looked at: {error}")),
    };
    if metadata.is_symlink() {
        return refuse("is a symlink: name the folder itself".into());
    }
    if !metadata.is_dir() {
        return refuse("is not a folder".into());
    }
    if metadata.mode() & OTHERS_MAY_WRITE != 0 {
        return refuse("is world-writable: chmod o-w".into());
    }
    let us = rustix::process::geteuid().as_raw();
    if us == 0 && metadata.uid() != 0 {
        return refuse(format!("belongs to user {} and not to root: chown it", metadata.uid()));
    }
    Ok(())
}

fn lock(root: &Path) -> Result<File, StoreError> {
    let path = root.join(".lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd =
        rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).map_err(StoreError::sys("open", &path))?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(File::from(fd)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked { path: root.to_owned() }),
        Err(error) => Err(StoreError::sys("lock", &path)(error)),
    }
}

/// Makes a folder of ours, 0755 whatever the umask; a symlink in its place is refused.
pub(super) fn ensure_folder(path: &Path) -> Result<(), StoreError> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => rustix::fs::chmod(path, Mode::from_raw_mode(0o755)).map_err(StoreError::sys("chmod", path)),
        Err(rustix::io::Errno::EXIST) => {
            let metadata = fs::symlink_metadata(path).map_err(StoreError::io("look at", path))?;
            if metadata.is_dir() {
                return Ok(());
            }
            Err(StoreError::Occupied { path: path.to_owned(), by: "something that is not a folder" })
        }
        Err(error) => Err(StoreError::sys("make", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn t65_an_unfit_root_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let why = |path: &Path| Root::open(path).unwrap_err().to_string();
        assert!(why(&temp.path().join("none")).contains("does not exist"));

        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(why(&file).contains("not a folder"));

        let real = temp.path().join("real");
        fs::create_dir(&real).unwrap();
        symlink(&real, temp.path().join("link")).unwrap();
        assert!(why(&temp.path().join("link")).contains("symlink"));

        fs::set_permissions(&real, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(why(&real).contains("world-writable"));
        fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&real, Some(1000), None).unwrap();
            assert!(why(&real).contains("not to root"));
            std::os::unix::fs::chown(&real, Some(0), None).unwrap();
        }
        Root::open(&real).unwrap();
    }

    #[test]
    fn t77_one_sidecar_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let first = Root::open(temp.path()).unwrap();
        assert!(Root::open(temp.path()).unwrap_err().to_string().contains("another sidecar"));
        drop(first);
        Root::open(temp.path()).unwrap();
    }
}
