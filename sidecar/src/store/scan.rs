//! What is on the disk at the start, and how it goes.

use std::collections::BTreeMap;
use std::fs;

use crate::desired::Data;

use super::record::sync_folder;
use super::{Folder, Layout, Record, StoreError, doubt, is_whole, remove_tree, safe_name, unlink, unseal};

/// A revision that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// How much of it is there.
    pub data: Data,
    /// Its own words; `None` if it has none that can be read.
    pub record: Option<Record>,
    /// Metainfo, manifest and record are there.
    pub startable: bool,
}

/// All revisions under the root. A folder in `store/` without its mark goes back to `incoming/`: what is in it is hashed again
/// before anybody gets to see it.
pub fn scan(layout: &Layout) -> Result<BTreeMap<String, Found>, StoreError> {
    let mut found = BTreeMap::new();
    for name in names(layout, &layout.store())? {
        if !is_whole(&layout.published(&name)) {
            withdraw(layout, &name)?;
        }
    }
    for (folder, published) in [(layout.incoming(), false), (layout.store(), true)] {
        for name in names(layout, &folder)? {
            let at = if published { layout.published(&name) } else { layout.coming(&name) };
            found.insert(name, look(&at, published));
        }
    }
    Ok(found)
}

/// One revision; `None` if nothing of it is there.
pub fn scan_one(layout: &Layout, revision: &str) -> Option<Found> {
    let (published, coming) = (layout.published(revision), layout.coming(revision));
    if is_whole(&published) {
        Some(look(&published, true))
    } else if coming.path().is_dir() {
        Some(look(&coming, false))
    } else if published.path().is_dir() {
        // Without its mark it is not whole.
        Some(look(&published, false))
    } else {
        None
    }
}

fn look(folder: &Folder, published: bool) -> Found {
    let record = Record::load(folder).unwrap_or_else(|error| {
        tracing::warn!(%error, "a revision's record cannot be read; its data is kept until the API server is heard");
        None
    });
    let retained = record.as_ref().is_some_and(|record| record.retained);
    let data = match (published, retained) {
        (true, true) => Data::Retained,
        (true, false) => Data::Published,
        (false, _) => Data::Incoming,
    };
    let named = record.as_ref().is_some_and(|r| {
        r.manifest_digest.is_some() && (r.info_hash_v1.is_some() || r.info_hash_v2.is_some())
    });
    let startable = named && folder.metainfo().is_file() && folder.manifest().is_file();
    Found { data, record, startable }
}

fn names(layout: &Layout, folder: &std::path::Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && layout.root().is_dir() => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(StoreError::io("list", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StoreError::io("list", folder))?;
        let is_folder = entry.file_type().map_err(StoreError::io("look at", &entry.path()))?.is_dir();
        if let (true, Ok(name)) = (is_folder, entry.file_name().into_string())
            && safe_name(&name).is_ok()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// Takes a revision that proved damaged out of the store: doubted, writable again, in `incoming/`. What was in `incoming/`
/// gives way.
pub fn withdraw(layout: &Layout, revision: &str) -> Result<(), StoreError> {
    let (from, to) = (layout.published(revision), layout.coming(revision));
    if !from.path().exists() {
        return Ok(());
    }
    doubt(&from)?;
    unseal(&from.data())?;
    remove_tree(to.path())?;
    super::root::ensure_folder(&layout.incoming())?;
    fs::rename(from.path(), to.path()).map_err(StoreError::io("rename", from.path()))?;
    sync_folder(&layout.store())
}

/// Removes a revision: first its name, then its mark, then its bytes.
pub fn remove(layout: &Layout, revision: &str, record: Option<&Record>) -> Result<(), StoreError> {
    safe_name(revision)?;
    if let Some(record) = record {
        unlink(layout, &record.namespace, &record.name, revision)?;
    }
    let published = layout.published(revision);
    remove_tree(&published.complete())?;
    remove_tree(published.path())?;
    remove_tree(layout.coming(revision).path())
}

/// Gives a revision to the user: link and files stay, nobody shares or removes them any more.
pub fn retain(layout: &Layout, revision: &str) -> Result<(), StoreError> {
    let folder = layout.published(revision);
    let mut record = Record::load(&folder)?
        .ok_or_else(|| StoreError::Damaged { path: folder.record(), why: "it is missing".into() })?;
    record.retained = true;
    record.save(&folder)
}

/// Removes retained revisions that no name leads to any more, after `record`'s revision has taken over the name they had.
pub fn clean_leftovers(layout: &Layout, record: &Record) -> Result<Vec<String>, StoreError> {
    let mut removed = Vec::new();
    for name in names(layout, &layout.store())? {
        let folder = layout.published(&name);
        let Ok(Some(other)) = Record::load(&folder) else { continue };
        let displaced = other.retained
            && other.revision != record.revision
            && (&other.namespace, &other.name) == (&record.namespace, &record.name);
        if displaced {
            remove(layout, &name, None)?;
            removed.push(name);
        }
    }
    Ok(removed)
}
