//! Blobs that are here, as the mirror gives them out.
//!
//! A runtime that gets one wrong bit fails the pull and asks nobody else, and the next pull would get the same bit. So each piece is
//! hashed once more before a byte of it is given out (T73): what is read for that is in memory when it is sent.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use mirror::Growing;

use super::arriving::Arriving;

/// Before a piece that could not be read is looked at again.
const PAUSE: Duration = Duration::from_millis(200);

/// A blob for one reader: it remembers the piece that was looked at last. One that proves wrong is fetched again by its torrent, and waited
/// for as if it had never been here.
#[derive(Debug)]
pub struct Checked {
    blob: Arc<Arriving>,
    /// Where it lies, unless that is where its torrent says.
    path: Option<PathBuf>,
    /// It, once something of it was read: it may go from there meanwhile.
    file: OnceLock<Arc<File>>,
    /// The piece, and one more; 0: none yet.
    good: AtomicU64,
}

impl Checked {
    /// For a new reader.
    pub fn new(blob: Arc<Arriving>, path: Option<PathBuf>) -> Self {
        Self { blob, path, file: OnceLock::new(), good: AtomicU64::new(0) }
    }
}

#[async_trait]
impl Growing for Checked {
    fn length(&self) -> u64 {
        self.blob.length()
    }

    fn verified(&self, from: u64) -> u64 {
        if from >= self.length() {
            return 0;
        }
        let (piece, end) = self.blob.piece(from);
        let is_good = self.good.load(Ordering::Relaxed) == u64::from(piece) + 1;
        if is_good && self.blob.handle().has(piece) { end - from } else { 0 }
    }

    fn is_here(&self, from: u64) -> bool {
        from < self.length() && self.blob.handle().has(self.blob.piece(from).0)
    }

    async fn wait(&self, from: u64) -> io::Result<()> {
        let (piece, _) = self.blob.piece(from.min(self.length().saturating_sub(1)));
        let handle = self.blob.handle();
        while handle.has(piece) && !handle.recheck(piece).await {
            if handle.has(piece) {
                tokio::time::sleep(PAUSE).await;
            }
        }
        if !handle.has(piece) {
            // It is verified as it comes.
            self.blob.wait(from).await?;
        }
        self.good.store(u64::from(piece) + 1, Ordering::Relaxed);
        Ok(())
    }

    async fn read(&self, from: u64, length: usize) -> io::Result<Bytes> {
        let Some(path) = self.path.clone() else { return self.blob.read(from, length).await };
        let open = self.file.get().cloned();
        let read = tokio::task::spawn_blocking(move || {
            let file = open.map_or_else(|| File::open(path).map(Arc::new), Ok)?;
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, from)?;
            Ok::<_, io::Error>((file, bytes.into()))
        });
        let (file, bytes) = read.await.map_err(io::Error::other)??;
        self.file.get_or_init(|| file);
        Ok(bytes)
    }
}
