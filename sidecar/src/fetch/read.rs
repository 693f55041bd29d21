//! All files of a grant: read, written, hashed, made into a torrent.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use operator_api::{Grant, GrantedFile};
use origin::Origin;
use rustix::fs::{Mode, OFlags};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use torrent::manifest::{Entry, Manifest};
use torrent::{Builder, FileHashes, Metainfo, RelPath, piece_length_for};

use super::file::fetch_file;
use super::granted::{check_grant, check_manifest, version};
use super::sink::Common;
use super::{FetchError, Journal};
use crate::store::{Donors, Folder, Layout, StoreError, open_beneath, remove_tree, unseal};

/// Files that are read at the same time.
pub const MAX_FILES: usize = 8;
/// Bytes so far, for signs of life. Shared with whoever sends them.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// On this disk.
    pub on_disk: Arc<AtomicU64>,
    /// Read from the origin since the start of the fetch.
    pub origin: Arc<AtomicU64>,
    /// Pieces that somebody else has read meanwhile.
    pub in_vain: Arc<AtomicU64>,
    /// Hashed to digests of whole files.
    pub digested: Arc<AtomicU64>,
    /// Written or hashed since the start of the fetch: what shows that it gets on where the others stand still.
    pub worked: Arc<AtomicU64>,
}

/// The content is whole, durable, and has a torrent.
#[derive(Debug)]
pub struct Whole {
    /// Its torrent.
    pub metainfo: Metainfo,
    /// Its manifest.
    pub manifest: Manifest,
}

/// A fetch under way.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) origin: Origin,
    pub(super) common: Arc<Common>,
    pub(super) donors: Donors,
    pub(super) data: PathBuf,
    pub(super) origin_bytes: Arc<AtomicU64>,
    pub(super) threads: TaskTracker,
}

/// Reads everything that a grant names into a revision's folder in `incoming/`. When `stop` is cancelled it returns
/// [`FetchError::Stopped`]; in every case no thread of it writes any more once it has returned.
pub async fn read_all(
    layout: &Layout,
    revision: &str,
    grant: &Grant,
    origin: Origin,
    counters: &Counters,
    stop: &CancellationToken,
) -> Result<Whole, FetchError> {
    let paths = check_grant(grant)?;
    let threads = TaskTracker::new();
    let halt = stop.child_token();
    let prepared = {
        let (layout, revision, grant) = (layout.clone(), revision.to_owned(), grant.clone());
        let (counters, halt) = (counters.clone(), halt.clone());
        threads.spawn_blocking(move || prepare(&layout, &revision, &grant, &counters, halt))
    };
    let (common, donors, data) = prepared.await.unwrap_or(Err(FetchError::Stopped))?;
    let origin_bytes = Arc::clone(&counters.origin);
    let reading = Arc::new(Reading { origin, common, donors, data, origin_bytes, threads: threads.clone() });
    let result = tokio::select! {
        biased;
        () = stop.cancelled() => Err(FetchError::Stopped),
        result = read_files(&reading, &grant.files, &paths) => result,
    };
    if result.is_err() {
        halt.cancel();
    }
    threads.close();
    threads.wait().await;
    let hashes = result?;
    let (grant, finishing) = (grant.clone(), Arc::clone(&reading));
    let whole = tokio::task::spawn_blocking(move || finish(&finishing, &grant, paths, hashes));
    whole.await.unwrap_or(Err(FetchError::Stopped))
}

fn prepare(
    layout: &Layout,
    revision: &str,
    grant: &Grant,
    counters: &Counters,
    stop: CancellationToken,
) -> Result<(Arc<Common>, Donors, PathBuf), FetchError> {
    let folder = layout.coming(revision);
    // It speaks of files that are written to from now on.
    remove_tree(&folder.journal())?;
    let data = open_data(&folder)?;
    let size = grant.files.iter().map(|file| file.size).sum();
    let common = Common {
        data,
        builder: Builder::new(version(grant.torrent_version), piece_length_for(size))?,
        files: grant.files.len(),
        journal: Journal::open(&folder.fetch_journal())?,
        on_disk: Arc::clone(&counters.on_disk),
        worked: Arc::clone(&counters.worked),
        stop,
    };
    // Only a declared digest tells before reading that a file is here already.
    let declared = grant.files.iter().any(|file| file.sha256.is_some());
    let donors = if declared { Donors::gather(layout, revision) } else { Donors::default() };
    Ok((Arc::new(common), donors, folder.data()))
}

fn open_data(folder: &Folder) -> Result<rustix::fd::OwnedFd, StoreError> {
    let data = folder.data();
    std::fs::create_dir_all(&data).map_err(StoreError::io("make", &data))?;
    unseal(&data)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(&data, flags, Mode::empty()).map_err(StoreError::sys("open", &data))
}

/// The hashes of all files, in their order; the first error ends all.
async fn read_files(
    reading: &Arc<Reading>,
    files: &[GrantedFile],
    paths: &[RelPath],
) -> Result<Vec<FileHashes>, FetchError> {
    let mut hashes: Vec<Option<FileHashes>> = files.iter().map(|_| None).collect();
    let mut rest = files.iter().zip(paths).enumerate();
    let start = |(at, (file, path))| async move { (at, fetch_file(reading, file, path).await) };
    let mut running: FuturesUnordered<_> = rest.by_ref().take(MAX_FILES).map(start).collect();
    while let Some((at, result)) = running.next().await {
        hashes[at] = Some(result?);
        running.extend(rest.next().map(start));
    }
    Ok(hashes.into_iter().flatten().collect())
}

fn finish(
    reading: &Reading,
    grant: &Grant,
    paths: Vec<RelPath>,
    hashes: Vec<FileHashes>,
) -> Result<Whole, FetchError> {
    reading.common.journal.flush()?;
    let entries = paths.iter().zip(&hashes).map(|(path, hashes)| Entry {
        path: path.clone(),
        size: hashes.size,
        sha256: hashes.sha256,
    });
    let manifest = Manifest::new(entries.collect())?;
    check_manifest(grant, &manifest)?;
    let mut builder = reading.common.builder.clone();
    if builder.needs_v1_pass(paths.len()) {
        let pieces = concatenated(&reading.common, &manifest)?;
        builder = builder.v1_pieces(pieces);
    }
    let metainfo = builder.build(paths.into_iter().zip(hashes).collect())?;
    Ok(Whole { metainfo, manifest })
}

/// SHA-1 over all files one behind the other: the one torrent that costs a second read of the disk.
fn concatenated(common: &Common, manifest: &Manifest) -> Result<Vec<u8>, FetchError> {
    let mut hasher = common.builder.v1_hasher();
    for entry in manifest.entries() {
        let file = open_beneath(&common.data, &entry.path, OFlags::RDONLY)?;
        common.each_chunk(&file, entry.path.as_ref(), |bytes| hasher.update(bytes))?;
    }
    Ok(hasher.finish())
}
