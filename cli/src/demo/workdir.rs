//! Where the nodes' disks are: a folder that goes with the demo, or one that the user keeps.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::units;

/// A folder that is removed when this is dropped, unless it is to be kept.
pub struct Workdir {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Workdir {
    /// A new folder among the temporary ones, or `keep`, which must be empty or not exist.
    pub fn new(keep: Option<&Path>) -> Result<Self> {
        let Some(path) = keep else {
            let temporary =
                tempfile::Builder::new().prefix("samara-demo-").tempdir().context("cannot make a folder")?;
            return Ok(Self { path: temporary.path().to_owned(), temporary: Some(temporary) });
        };
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let mut entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        if entries.next().is_some() {
            bail!("{} is not empty: name a folder that is, or one that does not exist", path.display());
        }
        let path = fs::canonicalize(path).with_context(|| format!("cannot find {}", path.display()))?;
        Ok(Self { path, temporary: None })
    }

    /// The data root of a node.
    pub fn root(&self, node: &str) -> PathBuf {
        self.path.join(node)
    }

    /// Fails if the disk has no room for so many bytes.
    pub fn check_space(&self, needed: u64) -> Result<()> {
        let stat = rustix::fs::statvfs(&self.path).with_context(|| self.path.display().to_string())?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < needed {
            bail!(
                "the nodes need {} under {}, which has {}: take fewer --nodes, a smaller --size, or set TMPDIR",
                units::bytes(needed),
                self.path.display(),
                units::bytes(free),
            );
        }
        Ok(())
    }

    /// Where it is, if it stays.
    pub fn kept(&self) -> Option<&Path> {
        self.temporary.is_none().then_some(&self.path)
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        let Some(temporary) = self.temporary.take() else { return };
        // What sidecars have published is read-only, folders too.
        make_writable(&self.path);
        if let Err(error) = temporary.close() {
            tracing::error!(path = %self.path.display(), %error, "cannot remove the demo's folder");
        }
    }
}

fn make_writable(folder: &Path) {
    // What fails here is said when the removal fails.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).ok();
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_read_only_trees() {
        let workdir = Workdir::new(None).unwrap();
        let (root, path) = (workdir.root("n"), workdir.path.clone());
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/c"), "x").unwrap();
        fs::set_permissions(root.join("a/b"), fs::Permissions::from_mode(0o555)).unwrap();
        drop(workdir);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_kept_was_empty_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        drop(Workdir::new(Some(&path)).unwrap());
        assert!(path.exists());
        fs::write(path.join("x"), "").unwrap();
        assert!(Workdir::new(Some(&path)).is_err());
    }
}
