//! SHA-256 of whole files that come in piece by piece, in whatever order.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};
use swarm::TorrentHandle;
use tokio_util::sync::CancellationToken;
use torrent::RelPath;
use torrent::ingest::Outline;
use torrent::manifest::{Entry, Manifest};

use super::FetchError;
use crate::store::{StoreError, open_beneath};

/// Read at a time.
const READ: usize = 1 << 20;

/// The digests of all files, in their order. Follows the pieces as they arrive, so that little is left to do after the last one; what is
/// read was written a moment ago, or lies on the disk from before.
pub async fn of(
    handle: &TorrentHandle,
    outline: &Outline,
    data: &Path,
    digested: &Arc<AtomicU64>,
    stop: &CancellationToken,
) -> Result<Vec<[u8; 32]>, FetchError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(data, flags, Mode::empty()).map_err(StoreError::sys("open", data))?;
    let folder = Arc::new(folder);
    let mut digests = Vec::new();
    for (index, (path, _)) in outline.plan().files().iter().enumerate() {
        let map = outline.plan().pieces();
        let mut hasher = Sha256::new();
        let mut pieces = map.of_file(index).peekable();
        while let Some(first) = pieces.next() {
            if !handle.arrived(first).await {
                return Err(FetchError::Stopped);
            }
            // Those behind it that are here too cost no further task.
            let mut end = first + 1;
            while pieces.peek().is_some_and(|piece| handle.has(*piece)) && end - first < 64 {
                end = pieces.next().map_or(end, |piece| piece + 1);
            }
            let from = map.segments(first).next().map_or(0, |segment| segment.offset_in_file);
            let len = (first..end).map(|piece| u64::from(map.len(piece))).sum();
            let part = Part { folder: folder.clone(), path: path.clone(), from, len };
            let (count, stop) = (Arc::clone(digested), stop.clone());
            let hashing = tokio::task::spawn_blocking(move || part.feed(hasher, &count, &stop));
            hasher = hashing.await.unwrap_or(Err(FetchError::Stopped))?;
        }
        digests.push(hasher.finalize().into());
    }
    Ok(digests)
}

/// The content manifest of files with these digests.
pub fn manifest(outline: &Outline, digests: &[[u8; 32]]) -> Result<Manifest, FetchError> {
    let entries = outline.plan().files().iter().zip(digests);
    let entries =
        entries.map(|((path, size), sha256)| Entry { path: path.clone(), size: *size, sha256: *sha256 });
    Ok(Manifest::new(entries.collect())?)
}

struct Part {
    folder: Arc<OwnedFd>,
    path: RelPath,
    from: u64,
    len: u64,
}

impl Part {
    fn feed(
        self,
        mut hasher: Sha256,
        digested: &AtomicU64,
        stop: &CancellationToken,
    ) -> Result<Sha256, FetchError> {
        let shown = Path::new(self.path.as_str());
        let file: File = open_beneath(&*self.folder, &self.path, OFlags::RDONLY)?;
        let mut buffer = vec![0; READ.min(self.len as usize)];
        let mut done = 0;
        while done < self.len {
            if stop.is_cancelled() {
                return Err(FetchError::Stopped);
            }
            let part = &mut buffer[..READ.min((self.len - done) as usize)];
            file.read_exact_at(part, self.from + done).map_err(StoreError::io("read", shown))?;
            hasher.update(&*part);
            done += part.len() as u64;
            digested.fetch_add(part.len() as u64, Ordering::Relaxed);
        }
        Ok(hasher)
    }
}
