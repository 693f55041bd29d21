//! Whether there is room: on the disk, and within the class's quota.

use std::path::Path;

use operator_api::reason;

use super::StoreError;

/// There is no room.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    /// The disk has too little.
    #[error(
        "{needed} bytes are needed and {free} are free under {root}: free some, or move the root to a larger disk"
    )]
    Disk {
        /// The data root.
        root: String,
        /// Bytes still to be written, with a reserve.
        needed: u64,
        /// Bytes that are free, without those that others are about to take.
        free: u64,
    },
    /// The class allows less.
    #[error(
        "{needed} bytes are needed, {used} are in use, and the class's quota is {quota}: raise it, or delete another Distribution"
    )]
    Quota {
        /// Bytes of the revision, without those that it shares with others.
        needed: u64,
        /// Bytes of all others.
        used: u64,
        /// The quota.
        quota: u64,
    },
    /// Nobody knows.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SpaceError {
    /// The reason that conditions and entries give.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Disk { .. } => reason::DISK_FULL,
            Self::Quota { .. } => reason::QUOTA_EXCEEDED,
            Self::Store(error) => error.reason(),
        }
    }
}

/// Bytes that we may still write on the file system of `path`.
pub fn free_bytes(path: &Path) -> Result<u64, StoreError> {
    Ok(disk_space(path)?.0)
}

/// The same, and all that the file system has.
pub fn disk_space(path: &Path) -> Result<(u64, u64), StoreError> {
    let stat = rustix::fs::statvfs(path).map_err(StoreError::sys("measure", path))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok((bytes(stat.f_bavail), bytes(stat.f_blocks)))
}

/// Bytes that a tree takes on the disk, reserved ones included; what cannot be read counts as nothing.
pub fn allocated(top: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(top) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok().map(|metadata| (entry, metadata)))
        .map(|(entry, metadata)| {
            if metadata.is_dir() {
                allocated(&entry.path())
            } else {
                std::os::unix::fs::MetadataExt::blocks(&metadata) * 512
            }
        })
        .sum()
}
