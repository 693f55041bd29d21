//! Blobs of images that are still coming in, as the mirror serves them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mirror::{Digest, Growing};
use rustix::fs::{Mode, OFlags};
use swarm::TorrentHandle;
use torrent::{PieceMap, RelPath};

use crate::store::open_beneath;

/// Pieces from the one that is waited for on that are fetched before all others: what a runtime reads while the next come.
const WINDOW: u32 = 8;

/// A blob of which some pieces are here. What is not verified is not read.
#[derive(Clone, Debug)]
pub struct Arriving {
    handle: TorrentHandle,
    path: RelPath,
    length: u64,
    /// It begins with this piece.
    first: u32,
    piece_length: u64,
}

impl Arriving {
    /// The blobs among a torrent's files: those that are named as in an OCI image layout and begin at a piece. `files`: in the torrent's
    /// order.
    pub fn among<'a>(
        handle: &TorrentHandle,
        map: &PieceMap,
        files: impl Iterator<Item = (&'a RelPath, u64)>,
    ) -> Vec<(Digest, Arc<Self>)> {
        let arriving = |(index, (path, length)): (usize, (&RelPath, u64))| {
            let digest = format!("sha256:{}", path.as_str().strip_prefix("blobs/sha256/")?).parse().ok()?;
            let first = map.of_file(index).next()?;
            let begins = |part: torrent::Segment| part.file == index && part.offset_in_piece == 0;
            map.segments(first).next().filter(|part| begins(*part))?;
            let (handle, path, piece_length) = (handle.clone(), path.clone(), map.piece_length());
            Some((digest, Arc::new(Self { handle, path, length, first, piece_length })))
        };
        files.enumerate().filter_map(arriving).collect()
    }

    /// The torrent that it is of.
    pub(super) fn handle(&self) -> &TorrentHandle {
        &self.handle
    }

    /// The piece in which a byte lies, and where that ends.
    pub(super) fn piece(&self, at: u64) -> (u32, u64) {
        let number = at / self.piece_length;
        let end = (number + 1).saturating_mul(self.piece_length).min(self.length);
        (self.first + number as u32, end)
    }

    fn read_now(&self, from: u64, length: usize) -> io::Result<Bytes> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::open(self.handle.folder(), flags, Mode::empty())?;
        let file: File = open_beneath(&folder, &self.path, OFlags::RDONLY).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, from)?;
        Ok(bytes.into())
    }
}

#[async_trait]
impl Growing for Arriving {
    fn length(&self) -> u64 {
        self.length
    }

    fn verified(&self, from: u64) -> u64 {
        if from >= self.length {
            return 0;
        }
        let (piece, end) = self.piece(from);
        if !self.handle.has(piece) {
            return 0;
        }
        let next = self.piece(end.min(self.length - 1));
        if next.1 > end && self.handle.has(next.0) { next.1 - from } else { end - from }
    }

    async fn wait(&self, from: u64) -> io::Result<()> {
        let (piece, _) = self.piece(from.min(self.length.saturating_sub(1)));
        let last = self.piece(self.length.saturating_sub(1)).0;
        let _hurry = self.handle.hurry(piece..(piece + WINDOW).min(last + 1));
        if self.handle.arrived(piece).await {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::NotConnected, "the image is not fetched any more"))
        }
    }

    async fn read(&self, from: u64, length: usize) -> io::Result<Bytes> {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            // Between the two the folder may have been renamed: it is published.
            this.read_now(from, length).or_else(|_| this.read_now(from, length))
        });
        read.await.map_err(io::Error::other)?
    }
}
