//! The steps of sharing that are disk only. Synchronous: callers wrap them in `spawn_blocking`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use swarm::Assume;
use swarm::net::storage::Elsewhere;
use torrent::ingest::Outline;
use torrent::manifest::{Entry, Manifest};
use torrent::{IngestId, Limits, Plan, RelPath};

use super::elsewhere::lies_there;
use super::evidence::{Evidence, assume};
use crate::store::{
    Folder, Layout, Record, Reused, StoreError, allocated, clean_leftovers, is_whole, link, open_beneath,
    publish, read_file_capped, remove_tree, reuse_files, shared_bytes, unseal, withdraw, write_durably,
};

/// Where a revision lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Whole.
    Store,
    /// Coming.
    Incoming,
}

/// Finds the revision, finishing or undoing what was cut. `spec` is what the API says of it, `known` what this process knew.
pub fn find(
    layout: &Layout,
    revision: &str,
    spec: Option<&crds::DistributionRevisionSpec>,
    known: Option<Record>,
) -> Result<(Place, Record), StoreError> {
    layout.ensure()?;
    let (published, coming) = (layout.published(revision), layout.coming(revision));
    if !is_whole(&published) {
        withdraw(layout, revision)?;
    }
    let place = if published.path().exists() { Place::Store } else { Place::Incoming };
    let folder = if place == Place::Store { &published } else { &coming };
    // Of bytes in `incoming/` nothing is known without their folder's own word.
    let unproven = place == Place::Incoming;
    let known = known.map(|known| Record { fetched: false, unproven, ..known });
    let record = record_in(folder, revision, spec, known)?;
    if place == Place::Store || !is_whole(&coming) {
        return Ok((place, record));
    }
    match publish(layout, &record) {
        Ok(()) | Err(StoreError::Occupied { .. }) if published.complete().exists() => {
            Ok((Place::Store, record))
        }
        Ok(()) => Ok((place, record)),
        Err(error) => Err(error),
    }
}

/// The record of a folder, else what is known of it, brought up to date and written down.
fn record_in(
    folder: &Folder,
    revision: &str,
    spec: Option<&crds::DistributionRevisionSpec>,
    known: Option<Record>,
) -> Result<Record, StoreError> {
    let stored = match Record::load(folder) {
        Err(StoreError::Damaged { path, why }) => {
            tracing::warn!(path = %path.display(), why, "the record is made anew");
            None
        }
        other => other?,
    };
    let on_disk = stored.clone();
    let mut record = match (stored.or(known), spec) {
        (Some(record), _) => record,
        (None, Some(spec)) => Record::new(revision, spec),
        (None, None) => {
            return Err(StoreError::Damaged { path: folder.record(), why: "it is missing".into() });
        }
    };
    if let Some(spec) = spec {
        record.update(spec);
        record.retained = false;
    }
    if on_disk.as_ref() != Some(&record) {
        fs::create_dir_all(folder.path()).map_err(StoreError::io("make", folder.path()))?;
        record.save(folder)?;
    }
    Ok(record)
}

/// What is here before the engine starts.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Linked from other revisions.
    pub reused: Reused,
    /// What the engine is to make of the files.
    pub assume: Assume,
    /// Bytes taken on the disk.
    pub here: u64,
    /// Bytes that other revisions have too.
    pub shared: BTreeMap<String, u64>,
    /// Nothing is known of what is here: what else this node has may be put beside it.
    pub is_open: bool,
}

/// Gets the folder in `incoming/` ready: writable, empty files made, files of other revisions linked.
///
/// With `alone`, files that other revisions have too are let go instead: what is to be mended must not be theirs.
pub fn prepare(
    layout: &Layout,
    record: &mut Record,
    manifest: &Manifest,
    alone: bool,
) -> Result<Prepared, StoreError> {
    let folder = layout.coming(&record.revision);
    let data = folder.data();
    fs::create_dir_all(&data).map_err(StoreError::io("make", &data))?;
    unseal(&data)?;
    if alone {
        let_go(&data, manifest)?;
    }
    make_empty_files(&data, manifest)?;
    let journal = folder.journal().exists();
    let reused = if journal || record.fetched || alone {
        Reused::default()
    } else {
        let wanted = manifest.entries().iter().map(|entry| (entry.path.clone(), (entry.sha256, entry.size)));
        reuse_files(layout, &record.revision, &wanted.collect::<Vec<_>>())?
    };
    let (unproven, fetched, whole) = (record.unproven, record.fetched, whole(&data, manifest));
    let assume = assume(Evidence { unproven, journal, fetched, whole });
    if assume == Assume::Nothing && !record.unproven {
        record.unproven = true;
        record.save(&folder)?;
    }
    let shared = shared_bytes(layout, &record.revision, &data, manifest)?;
    let is_open = !journal && !record.fetched;
    Ok(Prepared { reused, assume, here: allocated(&data), shared, is_open })
}

/// Everything that is here has been hashed: from now on the engine's journal speaks for it.
pub fn proved(layout: &Layout, record: &mut Record) -> Result<(), StoreError> {
    record.unproven = false;
    record.save(&layout.coming(&record.revision))
}

/// The outline in a revision's folder, if it is the one of this name.
pub fn outline_of(folder: &Folder, id: IngestId) -> Result<Option<Outline>, StoreError> {
    let cap = Limits::OWN.bencode.bytes as u64;
    let bytes = read_file_capped(&folder.outline(), cap)?;
    Ok(bytes.filter(|bytes| IngestId::of(bytes) == id).and_then(|bytes| Outline::parse(&bytes).ok()))
}

/// Reading begins by this outline. What came by another one is dropped: it proved wrong, or is of other files.
pub fn begin_outline(folder: &Folder, outline: &Outline) -> Result<(), StoreError> {
    fs::create_dir_all(folder.path()).map_err(StoreError::io("make", folder.path()))?;
    for old in [folder.outline(), folder.journal(), folder.hashes(), folder.data()] {
        remove_tree(&old)?;
    }
    write_durably(&folder.outline(), &outline.encode())
}

/// Gets the folder in `incoming/` ready for files that come in by an outline; answers the bytes that are taken.
pub fn prepare_growth(folder: &Folder, plan: &Plan) -> Result<u64, StoreError> {
    let data = folder.data();
    fs::create_dir_all(&data).map_err(StoreError::io("make", &data))?;
    unseal(&data)?;
    make_files(&data, plan.files().iter().filter(|(_, size)| *size == 0).map(|(path, _)| path))?;
    Ok(allocated(&data))
}

fn let_go(data: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    for entry in manifest.entries() {
        let path = data.join(entry.path.as_str());
        let shared =
            fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() > 1);
        if shared {
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
    }
    Ok(())
}

fn make_empty_files(data: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    make_files(data, manifest.entries().iter().filter(|entry| entry.size == 0).map(|entry| &entry.path))
}

fn make_files<'a>(data: &Path, paths: impl Iterator<Item = &'a RelPath>) -> Result<(), StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(data, flags, Mode::empty()).map_err(StoreError::sys("open", data))?;
    for path in paths {
        open_beneath(&folder, path, OFlags::WRONLY | OFlags::CREATE)?;
    }
    Ok(())
}

/// Whether every file is there with its size.
pub fn whole(data: &Path, manifest: &Manifest) -> bool {
    manifest.entries().iter().all(|entry| stands(data, entry))
}

/// Whether a file is there with its size.
pub fn stands(data: &Path, entry: &Entry) -> bool {
    fs::symlink_metadata(data.join(entry.path.as_str()))
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() == entry.size)
}

/// Whether `count` files from number `from` on (round and round) are there with their sizes, or where they lie instead.
fn sound(data: &Path, manifest: &Manifest, look: &Look<'_>) -> bool {
    let (entries, Look { from, count, places, .. }) = (manifest.entries(), *look);
    let round = entries.iter().enumerate().cycle().skip(from % entries.len().max(1));
    round.take(count.min(entries.len())).all(|(index, entry)| match places {
        Some(places) if places.is_elsewhere(index) => lies_there(places, index, entry),
        _ => stands(data, entry),
    })
}

/// How publishing ended.
#[derive(Debug)]
pub enum Published {
    /// The dataset's name leads to it, or is not meant to. These revisions had to go for that.
    Linked(Vec<String>),
    /// It is in the store, but something stands where its link belongs.
    Occupied(StoreError),
    /// A file is not there or has another size.
    Damaged,
}

/// Publishes what the engine has verified.
pub fn publish_verified(
    layout: &Layout,
    record: &Record,
    manifest: &Manifest,
) -> Result<Published, StoreError> {
    let folder = layout.coming(&record.revision);
    make_empty_files(&folder.data(), manifest)?;
    if !whole(&folder.data(), manifest) {
        return Ok(Published::Damaged);
    }
    match publish(layout, record) {
        Ok(()) => tidy(layout, record).map(Published::Linked),
        Err(error @ StoreError::Occupied { .. }) if is_published(&layout.published(&record.revision)) => {
            Ok(Published::Occupied(error))
        }
        Err(error) => Err(error),
    }
}

fn is_published(folder: &Folder) -> bool {
    folder.complete().exists()
}

fn tidy(layout: &Layout, record: &Record) -> Result<Vec<String>, StoreError> {
    if !record.current {
        return Ok(Vec::new());
    }
    let removed = clean_leftovers(layout, record)?;
    for revision in &removed {
        tracing::info!(revision, "removed: it was kept for the user under a name that is now another's");
    }
    Ok(removed)
}

/// What of a published revision is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// What the API says of it.
    pub spec: Option<&'a crds::DistributionRevisionSpec>,
    /// The first file.
    pub from: usize,
    /// How many files.
    pub count: usize,
    /// Where files lie that are not below the data root.
    pub places: Option<&'a Elsewhere>,
}

/// Looks after a published revision: its record follows the API, its link is there, its files are.
pub fn look_after(
    layout: &Layout,
    record: &mut Record,
    manifest: &Manifest,
    look: Look<'_>,
) -> Result<Published, StoreError> {
    let folder = layout.published(&record.revision);
    if !is_published(&folder) || !sound(&folder.data(), manifest, &look) {
        return Ok(Published::Damaged);
    }
    if look.spec.is_some_and(|spec| record.update(spec)) {
        record.save(&folder)?;
    }
    if !record.current {
        return Ok(Published::Linked(Vec::new()));
    }
    match link(layout, &record.namespace, &record.name, &record.revision) {
        Ok(()) => tidy(layout, record).map(Published::Linked),
        Err(error @ StoreError::Occupied { .. }) => Ok(Published::Occupied(error)),
        Err(error) => Err(error),
    }
}
