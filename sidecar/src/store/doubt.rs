//! Taking back what a folder says of its own bytes.

use super::record::sync_folder;
use super::{Folder, Record, StoreError, remove_tree};

/// Takes back, durably, all that speaks for the bytes of a folder: from here on only hashing them does. The record goes first,
/// so that a cut anywhere leaves nothing behind that is believed.
pub fn doubt(folder: &Folder) -> Result<(), StoreError> {
    if !folder.path().exists() {
        return Ok(());
    }
    match Record::load(folder) {
        Ok(Some(mut record)) if record.fetched || !record.unproven => {
            record.fetched = false;
            record.unproven = true;
            record.save(folder)?;
        }
        // One that cannot be read speaks for nothing.
        Ok(_) | Err(StoreError::Damaged { .. }) => {}
        Err(error) => return Err(error),
    }
    for mark in [folder.complete(), folder.journal(), folder.hashes(), folder.fetch_journal()] {
        remove_tree(&mark)?;
    }
    sync_folder(folder.path())
}

/// Whether a folder is marked whole, and nobody began to doubt it since.
pub fn is_whole(folder: &Folder) -> bool {
    let doubted = || matches!(Record::load(folder), Ok(Some(record)) if record.unproven);
    folder.complete().exists() && !doubted()
}
