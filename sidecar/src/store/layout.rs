//! Where everything lies.

use std::path::{Path, PathBuf};

use super::root::ensure_folder;
use super::{ContentStore, StoreError};

/// The folder with the user's files, below a revision's.
pub const DATA: &str = "data";
/// Its presence says that a revision is whole.
pub const COMPLETE: &str = ".complete";

/// The paths under a data root.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    content: Option<ContentStore>,
}

/// A revision's folder, in `store/` or `incoming/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Layout {
    /// Of this root.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), content: None }
    }

    /// The same root, beside the container runtime's content store.
    #[must_use]
    pub fn beside(self, content: Option<ContentStore>) -> Self {
        Self { content, ..self }
    }

    /// Where layers of images may lie instead; none if it cannot be read from here.
    pub fn content(&self) -> Option<&ContentStore> {
        self.content.as_ref()
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the folders below the root that are not there.
    pub fn ensure(&self) -> Result<(), StoreError> {
        [self.store(), self.incoming(), self.datasets()].iter().try_for_each(|folder| ensure_folder(folder))
    }

    /// Removes what is left under the root when no revision is: our own files, and our folders if nothing is in them.
    pub fn purge(&self) {
        for file in [self.class_file(), self.root.join(".lock")] {
            if let Err(error) = super::remove_tree(&file) {
                tracing::warn!(%error, "left behind");
            }
        }
        if let Err(error) = super::remove_tree(&self.demand()) {
            tracing::warn!(%error, "left behind");
        }
        for folder in [self.store(), self.incoming(), self.datasets()] {
            // A folder with something in it holds what others have put there: it stays.
            if let Err(error) = std::fs::remove_dir(&folder) {
                tracing::debug!(%error, folder = %folder.display(), "left behind");
            }
        }
    }

    /// `<root>/store`.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// `<root>/incoming`.
    pub fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// `<root>/datasets`.
    pub fn datasets(&self) -> PathBuf {
        self.root.join("datasets")
    }

    /// `<root>/demand`: blobs that nodes keep for each other. There only while there are any.
    pub fn demand(&self) -> PathBuf {
        self.root.join("demand")
    }

    /// Where such a blob lies, by its digest in hex.
    pub fn demanded(&self, hex: &str) -> Folder {
        Folder(self.demand().join(hex))
    }

    /// What the class said last.
    pub fn class_file(&self) -> PathBuf {
        self.root.join(".class.json")
    }

    /// Where a whole revision lies.
    pub fn published(&self, revision: &str) -> Folder {
        Folder(self.store().join(revision))
    }

    /// Where a revision that is not whole yet lies.
    pub fn coming(&self, revision: &str) -> Folder {
        Folder(self.incoming().join(revision))
    }

    /// Where the link of a dataset belongs.
    pub fn link(&self, namespace: &str, name: &str) -> PathBuf {
        self.datasets().join(namespace).join(name)
    }

    /// What it says.
    pub fn link_target(revision: &str) -> PathBuf {
        Path::new("../../store").join(revision).join(DATA)
    }
}

impl Folder {
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The user's files.
    pub fn data(&self) -> PathBuf {
        self.0.join(DATA)
    }

    /// The metainfo.
    pub fn metainfo(&self) -> PathBuf {
        self.0.join("metainfo.torrent")
    }

    /// The content manifest.
    pub fn manifest(&self) -> PathBuf {
        self.0.join("manifest.json")
    }

    /// What is needed to go on without the API.
    pub fn record(&self) -> PathBuf {
        self.0.join("revision.json")
    }

    /// The engine's journal.
    pub fn journal(&self) -> PathBuf {
        self.0.join("journal")
    }

    /// Beside the journal: the hashes of content that is still being read.
    pub fn hashes(&self) -> PathBuf {
        self.0.join("journal.hashes")
    }

    /// What is known of content that is still being read.
    pub fn outline(&self) -> PathBuf {
        self.0.join("outline")
    }

    /// The fetcher's journal.
    pub fn fetch_journal(&self) -> PathBuf {
        self.0.join("fetch.journal")
    }

    /// The mark of a whole revision.
    pub fn complete(&self) -> PathBuf {
        self.0.join(COMPLETE)
    }
}

/// Checks a name that comes from the API before it becomes a folder's: as Kubernetes names are, so no leading dot.
pub fn safe_name(name: &str) -> Result<(), StoreError> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.is_empty() || name.len() > 253 || name.starts_with('.') || !name.chars().all(fits) {
        return Err(StoreError::Name { name: name.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_kubernetes_become_folders() {
        for good in ["a", "imagenet-0123456789ab", "a.b-c"] {
            assert!(safe_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".lock", "a/b", "A", "a b", "a\0", "ä"] {
            assert!(safe_name(bad).is_err(), "{bad:?}");
        }
    }
}
