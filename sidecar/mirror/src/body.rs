//! The bodies of blobs. A body that cannot go on ends early, which a runtime resumes elsewhere at the same byte.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::images::Growing;
use crate::metrics::Metrics;
use crate::name::Digest;
use crate::readers::{Reader, Readers};

/// Bytes that are read at a time, which is also what one reader holds in memory.
const CHUNK: usize = 256 << 10;

/// Times the patience that a reader waits behind others, at most: two minutes, of the five after which containerd gives up.
const MAX_WAITS: u32 = 6;

/// What every body of one mirror needs.
pub(crate) struct Shared {
    pub(crate) readers: Readers,
    pub(crate) metrics: Metrics,
    /// How long a reader waits for the next byte.
    pub(crate) patience: Duration,
}

/// One answer: which bytes, and its place among those that are under way.
pub(crate) struct Sending {
    pub(crate) digest: Digest,
    pub(crate) range: Range<u64>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) _place: OwnedSemaphorePermit,
}

/// The file at `path` if it is one of `length` bytes.
pub(crate) async fn open(path: &Path, length: u64) -> io::Result<tokio::fs::File> {
    let file = tokio::fs::File::open(path).await?;
    let metadata = file.metadata().await?;
    if !metadata.is_file() || metadata.len() != length {
        let what = format!("{} is not a file of {length} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(file)
}

/// The bytes of a file that does not change.
pub(crate) fn of_file(file: tokio::fs::File, sending: Sending) -> Body {
    Body::from_stream(stream::try_unfold(
        (file, sending, false),
        |(mut file, mut sending, placed)| async move {
            let Some(length) = sending.next_length() else { return Ok(None) };
            if !placed {
                file.seek(io::SeekFrom::Start(sending.range.start)).await?;
            }
            let mut chunk = vec![0; length];
            file.read_exact(&mut chunk).await?;
            Ok::<_, io::Error>(Some((sending.sent(chunk.into()), (file, sending, true))))
        },
    ))
}

/// The bytes of a blob as they are verified. Ends early if the next one does not come within the mirror's patience, or at once where
/// somebody has waited for it in vain already; but not while an earlier part of the blob is being read.
pub(crate) fn of_growing(blob: Arc<dyn Growing>, sending: Sending) -> Body {
    let reader = sending.shared.readers.enter(sending.digest, sending.range.start);
    Body::from_stream(stream::try_unfold((blob, sending, reader), |(blob, mut sending, reader)| async move {
        let Some(most) = sending.next_length() else { return Ok(None) };
        let at = sending.range.start;
        reader.advance(at);
        let verified = verified(&*blob, &sending, &reader).await?;
        let length = most.min(usize::try_from(verified).unwrap_or(most));
        let chunk = blob.read(at, length).await?;
        if chunk.is_empty() || chunk.len() > length {
            return Err(io::Error::other("a blob gave another number of bytes than it was asked for"));
        }
        Ok::<_, io::Error>(Some((sending.sent(chunk), (blob, sending, reader))))
    }))
}

/// How many bytes from the next one on can be sent; waits for the first.
async fn verified(blob: &dyn Growing, sending: &Sending, reader: &Reader) -> io::Result<u64> {
    let (at, shared) = (sending.range.start, &sending.shared);
    let began = Instant::now();
    loop {
        let verified = blob.verified(at);
        if verified > 0 {
            return Ok(verified);
        }
        if !blob.is_here(at) && reader.is_given_up(at, Instant::now(), shared.patience) {
            break;
        }
        let came = tokio::time::timeout(shared.patience, blob.wait(at)).await;
        if blob.verified(at) > 0 {
            continue;
        }
        let now = Instant::now();
        let is_first = !reader.is_behind_others(at, now, shared.patience);
        if is_first || now >= began + shared.patience * MAX_WAITS {
            let why = match came {
                Ok(Err(error)) => error.to_string(),
                _ => format!("not within {:?}", now - began),
            };
            tracing::info!(blob = %sending.digest, at, %why, "a byte has not come: the runtime goes on upstream");
            break;
        }
        if came.is_ok() {
            // It will not come; but those who read before it go first.
            tokio::time::sleep(shared.patience / 20).await;
        }
    }
    reader.cut(at, Instant::now());
    shared.metrics.stalled();
    Err(io::Error::new(io::ErrorKind::TimedOut, "the next byte has not come"))
}

impl Sending {
    /// How much to read next; none at the end.
    fn next_length(&self) -> Option<usize> {
        let left = self.range.end - self.range.start;
        (left > 0).then(|| usize::try_from(left).unwrap_or(CHUNK).min(CHUNK))
    }

    fn sent(&mut self, chunk: Bytes) -> Bytes {
        self.range.start += chunk.len() as u64;
        self.shared.metrics.sent(chunk.len());
        chunk
    }
}
