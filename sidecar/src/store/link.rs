//! `datasets/<namespace>/<name>`: made, swapped and removed relative to folders that are held open, so that nothing that is put
//! into their place leads us elsewhere.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::root::ensure_folder;
use super::{DATA, Layout, StoreError};

/// What stands where a dataset's link belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Nothing.
    Absent,
    /// A link of ours, to this revision.
    Ours(String),
    /// An empty folder: the kubelet makes them for hostPath volumes of type `DirectoryOrCreate`.
    EmptyFolder,
    /// Something else.
    Occupied(&'static str),
}

/// Looks.
pub fn link_state(layout: &Layout, namespace: &str, name: &str) -> Result<LinkState, StoreError> {
    match open_namespace(layout, namespace)? {
        Some(folder) => state_at(&folder, name, &layout.link(namespace, name)),
        None => Ok(LinkState::Absent),
    }
}

/// Lets the dataset's name point to a published revision: a link under a temporary name, then a rename over the old one.
pub fn link(layout: &Layout, namespace: &str, name: &str, revision: &str) -> Result<(), StoreError> {
    let path = layout.link(namespace, name);
    ensure_folder(&layout.datasets())?;
    ensure_folder(&layout.datasets().join(namespace))?;
    let folder = open_namespace(layout, namespace)?.ok_or(StoreError::Occupied {
        path: layout.datasets().join(namespace),
        by: "something that comes and goes",
    })?;
    match state_at(&folder, name, &path)? {
        LinkState::Ours(at) if at == revision => return Ok(()),
        LinkState::Ours(_) | LinkState::Absent => {}
        LinkState::EmptyFolder => {
            rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR)
                .map_err(StoreError::sys("remove", &path))?;
        }
        LinkState::Occupied(by) => return Err(StoreError::Occupied { path, by }),
    }
    // Names of Distributions never begin with a dot, so this is nobody's.
    let temporary = PathBuf::from(format!(".samara-{name}.new"));
    match rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(StoreError::sys("remove", &temporary)(error)),
    }
    rustix::fs::symlinkat(Layout::link_target(revision), &folder, &temporary)
        .map_err(StoreError::sys("make the link", &temporary))?;
    rustix::fs::renameat(&folder, &temporary, &folder, name).map_err(StoreError::sys("rename to", &path))?;
    rustix::fs::fsync(&folder).map_err(StoreError::sys("sync the folder of", &path))
}

/// Removes the dataset's link if it points to `revision`, and the namespace's folder if nothing else is in it.
pub fn unlink(layout: &Layout, namespace: &str, name: &str, revision: &str) -> Result<(), StoreError> {
    let Some(folder) = open_namespace(layout, namespace)? else { return Ok(()) };
    let path = layout.link(namespace, name);
    if state_at(&folder, name, &path)? != LinkState::Ours(revision.to_owned()) {
        return Ok(());
    }
    rustix::fs::unlinkat(&folder, name, AtFlags::empty()).map_err(StoreError::sys("remove", &path))?;
    rustix::fs::fsync(&folder).map_err(StoreError::sys("sync the folder of", &path))?;
    let namespace = layout.datasets().join(namespace);
    match rustix::fs::rmdir(&namespace) {
        Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::BUSY) => Ok(()),
        Err(error) => Err(StoreError::sys("remove", &namespace)(error)),
    }
}

/// `datasets/<namespace>`, no link followed on the way; `None` if it is not there.
fn open_namespace(layout: &Layout, namespace: &str) -> Result<Option<OwnedFd>, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let datasets = layout.datasets();
    let path = datasets.join(namespace);
    let open = rustix::fs::open(&datasets, flags, Mode::empty())
        .and_then(|above| rustix::fs::openat(&above, namespace, flags, Mode::empty()));
    match open {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            Err(StoreError::Occupied { path, by: "something that is not a folder" })
        }
        Err(error) => Err(StoreError::sys("open", &path)(error)),
    }
}

fn state_at(folder: &OwnedFd, name: &str, path: &Path) -> Result<LinkState, StoreError> {
    let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(LinkState::Absent),
        Err(error) => return Err(StoreError::sys("look at", path)(error)),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(folder, name, Vec::new())
                .map_err(StoreError::sys("read the link", path))?;
            let target = String::from_utf8_lossy(target.as_bytes()).into_owned();
            Ok(our_target(&target).map_or(LinkState::Occupied("a link that is not ours"), LinkState::Ours))
        }
        FileType::Directory => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inner = rustix::fs::openat(folder, name, flags, Mode::empty())
                .map_err(StoreError::sys("open", path))?;
            let mut entries = rustix::fs::Dir::read_from(&inner).map_err(StoreError::sys("list", path))?;
            let empty = entries
                .all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")));
            Ok(if empty {
                LinkState::EmptyFolder
            } else {
                LinkState::Occupied("a folder with something in it")
            })
        }
        _ => Ok(LinkState::Occupied("a file")),
    }
}

/// The revision, if the link is one that we make.
fn our_target(target: &str) -> Option<String> {
    let revision = target.strip_prefix("../../store/")?.strip_suffix(DATA)?.strip_suffix('/')?;
    super::safe_name(revision).ok()?;
    Some(revision.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn layout() -> (tempfile::TempDir, Layout) {
        let temp = tempfile::tempdir().unwrap();
        let layout = Layout::new(temp.path());
        fs::create_dir_all(layout.published("r1").data()).unwrap();
        fs::create_dir_all(layout.published("r2").data()).unwrap();
        (temp, layout)
    }

    #[test]
    fn a_link_is_made_swapped_and_removed() {
        let (_temp, layout) = layout();
        link(&layout, "ns", "set", "r1").unwrap();
        assert_eq!(fs::read_link(layout.link("ns", "set")).unwrap(), Path::new("../../store/r1/data"));
        assert!(layout.link("ns", "set").is_dir(), "the relative target leads to the data");
        link(&layout, "ns", "set", "r2").unwrap();
        assert_eq!(link_state(&layout, "ns", "set").unwrap(), LinkState::Ours("r2".into()));
        unlink(&layout, "ns", "set", "r1").unwrap();
        assert_eq!(link_state(&layout, "ns", "set").unwrap(), LinkState::Ours("r2".into()), "not r1's");
        unlink(&layout, "ns", "set", "r2").unwrap();
        assert!(!layout.datasets().join("ns").exists());
        unlink(&layout, "ns", "set", "r2").unwrap();
    }

    #[test]
    fn a_stray_empty_folder_gives_way_and_all_else_is_occupied() {
        let (_temp, layout) = layout();
        let place = layout.link("ns", "set");
        fs::create_dir_all(&place).unwrap();
        link(&layout, "ns", "set", "r1").unwrap();
        unlink(&layout, "ns", "set", "r1").unwrap();

        fs::create_dir_all(place.join("mine")).unwrap();
        assert!(matches!(link(&layout, "ns", "set", "r1"), Err(StoreError::Occupied { .. })));
        fs::remove_dir_all(&place).unwrap();
        fs::write(&place, "mine").unwrap();
        assert!(matches!(link(&layout, "ns", "set", "r1"), Err(StoreError::Occupied { .. })));
        fs::remove_file(&place).unwrap();
        for target in ["/etc", "../../store/../../etc/data", "../../store/r1", "../store/r1/data"] {
            symlink(target, &place).unwrap();
            assert!(matches!(link(&layout, "ns", "set", "r1"), Err(StoreError::Occupied { .. })), "{target}");
            unlink(&layout, "ns", "set", "r1").unwrap();
            fs::remove_file(&place).unwrap();
        }
        link(&layout, "ns", "set", "r1").unwrap();
    }

    #[test]
    fn t64_a_link_in_place_of_the_namespace_is_not_followed() {
        let (temp, layout) = layout();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir(layout.datasets()).unwrap();
        symlink(outside.path(), temp.path().join("datasets/ns")).unwrap();
        assert!(matches!(link(&layout, "ns", "set", "r1"), Err(StoreError::Occupied { .. })));
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
