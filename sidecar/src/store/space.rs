//! Whether there is room: on the disk, and within the class's quota.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use operator_api::reason;

use super::StoreError;

/// Left free for journals, records and file-system metadata, in bytes.
const RESERVE: u64 = 8 << 20;

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
        /// Bytes that are free.
        free: u64,
    },
    /// The class allows less.
    #[error(
        "{needed} bytes are needed, {used} are in use, and the class's quota is {quota}: raise it, or delete another Distribution"
    )]
    Quota {
        /// Bytes of the revision.
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
    let stat = rustix::fs::statvfs(path).map_err(StoreError::sys("measure", path))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
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

/// Who takes how much, by revision; shared by all jobs of a sidecar.
#[derive(Debug, Default)]
pub struct Ledger {
    taken: Mutex<BTreeMap<String, u64>>,
}

impl Ledger {
    /// Books `total` bytes for a revision of which `here` are on the disk already, or says why not.
    pub fn book(
        &self,
        root: &Path,
        revision: &str,
        total: u64,
        here: u64,
        quota: Option<u64>,
    ) -> Result<(), SpaceError> {
        let free = free_bytes(root)?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let used = taken.iter().filter(|(name, _)| *name != revision).map(|(_, bytes)| bytes).sum::<u64>();
        check(root, total, here, free, used, quota)?;
        taken.insert(revision.to_owned(), total);
        Ok(())
    }

    /// What is on the disk anyway counts without being asked.
    pub fn note(&self, revision: &str, total: u64) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(revision.to_owned(), total);
    }

    /// It is gone.
    pub fn free(&self, revision: &str) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(revision);
    }

    /// Bytes of all.
    pub fn used(&self) -> u64 {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

fn check(
    root: &Path,
    total: u64,
    here: u64,
    free: u64,
    used: u64,
    quota: Option<u64>,
) -> Result<(), SpaceError> {
    if let Some(quota) = quota.filter(|&quota| used.saturating_add(total) > quota) {
        return Err(SpaceError::Quota { needed: total, used, quota });
    }
    let left = total.saturating_sub(here);
    let needed = left.saturating_add(RESERVE);
    if left > 0 && needed > free {
        return Err(SpaceError::Disk { root: root.display().to_string(), needed, free });
    }
    Ok(())
}

/// `500Gi`, `10G`, `1024`: bytes. `None` if it is none of these.
pub fn parse_quantity(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let unit: u64 = match suffix {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read() {
        assert_eq!(parse_quantity("1024"), Some(1024));
        assert_eq!(parse_quantity("500Gi"), Some(500 << 30));
        assert_eq!(parse_quantity("3k"), Some(3000));
        for bad in ["", "Gi", "1.5Gi", "-1", "1Pi", "99999999999999Ti"] {
            assert_eq!(parse_quantity(bad), None, "{bad}");
        }
    }

    #[test]
    fn t75_what_does_not_fit_is_refused_before_the_first_byte() {
        let root = Path::new("/r");
        assert!(check(root, 100 << 20, 0, 200 << 20, 0, None).is_ok());
        let full = check(root, 100 << 20, 0, 100 << 20, 0, None).unwrap_err();
        assert_eq!(full.reason(), reason::DISK_FULL);
        assert!(full.to_string().contains("104857600 are free"), "{full}");
        assert!(check(root, 100 << 20, 100 << 20, 0, 0, None).is_ok(), "nothing is left to write");
        let over = check(root, 60, 0, 1 << 40, 50, Some(100)).unwrap_err();
        assert_eq!(over.reason(), reason::QUOTA_EXCEEDED);
        assert!(check(root, 50, 0, 1 << 40, 50, Some(100)).is_ok());
    }

    #[test]
    fn the_ledger_counts_each_revision_once() {
        let ledger = Ledger::default();
        let root = Path::new("/");
        ledger.book(root, "a", 60, 60, Some(100)).unwrap();
        ledger.book(root, "a", 60, 60, Some(100)).unwrap();
        assert!(ledger.book(root, "b", 60, 60, Some(100)).is_err());
        ledger.free("a");
        ledger.book(root, "b", 60, 60, Some(100)).unwrap();
        assert_eq!(ledger.used(), 60);
    }
}
