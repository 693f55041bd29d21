//! From `incoming/` to `store/` to the dataset's name, in steps that can be cut anywhere.

use std::fs;

use super::record::sync_folder;
use super::{Layout, Record, StoreError, is_whole, link, remove_tree, seal, sync_tree, write_durably};

/// One step. Doing a step again changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Files, then folders, durable.
    Sync,
    /// Read-only for everybody.
    Seal,
    /// The mark that makes it whole.
    Complete,
    /// The journals are of no use any more. Not before the mark: until then they spare a restart the hashing.
    DropJournals,
    /// From `incoming/` to `store/`.
    Rename,
    /// Both parents durable.
    SyncParents,
    /// The dataset's name, if this is the current revision.
    Link,
}

/// All steps, in order.
pub fn publish_steps() -> [Step; 7] {
    [Step::Sync, Step::Seal, Step::Complete, Step::DropJournals, Step::Rename, Step::SyncParents, Step::Link]
}

/// Publishes a revision whose every byte was verified. After a cut, calling it again finishes the job.
///
/// [`StoreError::Occupied`] comes from the last step: the revision then is in the store and only its name is missing.
pub fn publish(layout: &Layout, record: &Record) -> Result<(), StoreError> {
    let coming = layout.coming(&record.revision);
    let steps = publish_steps();
    // What is sealed and marked needs no second pass over its files.
    let done = if !coming.path().exists() {
        5
    } else if is_whole(&coming) {
        3
    } else {
        0
    };
    steps[done..].iter().try_for_each(|step| step.apply(layout, record))
}

impl Step {
    /// Does it.
    pub fn apply(self, layout: &Layout, record: &Record) -> Result<(), StoreError> {
        let (from, to) = (layout.coming(&record.revision), layout.published(&record.revision));
        match self {
            Self::Sync => {
                record.save(&from)?;
                sync_tree(from.path())
            }
            Self::Seal => seal(&from.data()),
            Self::Complete => write_durably(&from.complete(), b""),
            Self::DropJournals => {
                for journal in [from.journal(), from.hashes(), from.outline(), from.fetch_journal()] {
                    remove_tree(&journal)?;
                }
                Ok(())
            }
            Self::Rename => {
                // What stands there is not whole, else nobody would have got it again.
                remove_tree(to.path())?;
                fs::rename(from.path(), to.path()).map_err(StoreError::io("rename", from.path()))
            }
            Self::SyncParents => {
                sync_folder(&layout.store())?;
                sync_folder(&layout.incoming())
            }
            Self::Link if record.current => link(layout, &record.namespace, &record.name, &record.revision),
            Self::Link => Ok(()),
        }
    }
}
