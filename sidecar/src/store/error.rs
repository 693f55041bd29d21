//! What can go wrong under the data root.

use std::io;
use std::path::{Path, PathBuf};

use operator_api::reason;

/// An operation under the data root failed. Messages say on what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {what} {path}: {source}; {}", advice(source))]
    Io {
        /// What was tried: `write`, `rename`...
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something that is not ours stands where a dataset's link belongs.
    #[error("{path} is occupied by {by}: move it away, the link is made then")]
    Occupied {
        /// Where the link belongs.
        path: PathBuf,
        /// What stands there.
        by: &'static str,
    },
    /// The data root is not fit to be one (T65, T77).
    #[error("the data root {path} {why}")]
    Root {
        /// The root.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// Another sidecar has the data root (T77).
    #[error("the data root {path} is in use by another sidecar: give each its own root")]
    Locked {
        /// The root.
        path: PathBuf,
    },
    /// A name that cannot be a folder's.
    #[error("{name:?} cannot be the name of a folder")]
    Name {
        /// The name.
        name: String,
    },
    /// A file of ours does not say what it must.
    #[error("{path} is damaged: {why}; delete it, it is made again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl StoreError {
    /// For `map_err`: the system call and its object.
    pub fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// The same for rustix.
    pub fn sys(what: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.to_owned();
        move |errno| Self::Io { what, path, source: errno.into() }
    }

    /// The reason that conditions and entries give.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Io { source, .. } if is_full(source) => reason::DISK_FULL,
            Self::Occupied { .. } => reason::PATH_OCCUPIED,
            Self::Name { .. } => reason::INVALID_PATH,
            Self::Io { .. } | Self::Root { .. } | Self::Locked { .. } | Self::Damaged { .. } => {
                reason::DISK_ERROR
            }
        }
    }
}

fn advice(error: &io::Error) -> &'static str {
    if is_full(error) { "free some space or inodes there" } else { "look at the disk of this node" }
}

/// No space, no inodes, or no quota left.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
