//! One connection to the origin, and the bytes of pieces from it: as many tries as it takes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use origin::{Body, OriginError, ReadRange};
use rand::Rng;
use swarm::Buffer;

use super::reader::Reader;
use super::{FetchError, MAX_PAUSE};

/// Tries in a row that bring nothing before a fetch is given up.
const TRIES: u32 = 5;
/// The first pause between two of them; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Bytes that are read for nothing rather than asking anew.
const SKIPPED: u64 = 256 * 1024;

/// The bytes of a piece in its file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Which file.
    pub file: usize,
    /// Where the piece starts in it.
    pub from: u64,
    /// Where the stripe ends that is being read: a request goes no further.
    pub until: u64,
}

/// An open body, and how far it has been read.
pub(super) struct Connection {
    file: usize,
    body: Body,
    rest: Bytes,
    position: u64,
}

impl Connection {
    /// Whether the bytes from `from` of a file can be had of it: at once, or behind others that are skipped.
    fn leads_to(&self, file: usize, from: u64, whole: bool) -> bool {
        let near = if whole { u64::MAX } else { SKIPPED };
        self.file == file
            && (self.position..self.position.saturating_add(near)).contains(&from)
            && from < self.body.end()
    }
}

impl Reader {
    /// Fills the buffer of a piece.
    pub(super) async fn fill(
        &self,
        place: Place,
        mut buffer: Buffer,
        connection: &mut Option<Connection>,
    ) -> Result<Buffer, FetchError> {
        let (mut filled, mut best, mut failures, mut pause) = (0, 0, 0, FIRST_PAUSE);
        while filled < buffer.as_ref().len() {
            let Err(error) = self.fill_on(place, &mut buffer, &mut filled, connection).await else {
                continue;
            };
            *connection = None;
            let FetchError::Origin(origin) = &error else { return Err(error) };
            if filled > best {
                (best, failures, pause) = (filled, 0, FIRST_PAUSE);
            } else {
                failures += 1;
            }
            if !origin.is_transient() || failures >= TRIES {
                return Err(error);
            }
            let wait = origin.retry_after().unwrap_or_else(|| rand::rng().random_range(pause / 2..pause));
            if wait > MAX_PAUSE {
                return Err(error);
            }
            tracing::debug!(file = self.files[place.file].path, error = %origin, "reading on in a moment");
            self.pause(wait).await?;
            pause *= 2;
        }
        Ok(buffer)
    }

    /// Fills it as far as one connection goes.
    async fn fill_on(
        &self,
        place: Place,
        buffer: &mut Buffer,
        filled: &mut usize,
        connection: &mut Option<Connection>,
    ) -> Result<(), FetchError> {
        let whole = !self.has_parts(place.file);
        if connection
            .as_ref()
            .is_none_or(|open| !open.leads_to(place.file, place.from + *filled as u64, whole))
        {
            *connection = None;
        }
        if whole && connection.is_none() {
            // Nothing would tell if the rest were of another version.
            *filled = 0;
        }
        let open = if let Some(open) = connection {
            open
        } else {
            connection.insert(self.open(place, *filled as u64, whole).await?)
        };
        let wanted = place.from + *filled as u64;
        if open.position < wanted {
            self.skip(open, wanted, whole).await?;
        }
        while *filled < buffer.as_ref().len() {
            let part = self.next(open, buffer.as_ref().len() - *filled).await?;
            buffer.as_mut()[*filled..*filled + part.len()].copy_from_slice(&part);
            *filled += part.len();
        }
        Ok(())
    }

    /// Whether parts of a file can be asked for: something tells its versions apart.
    fn has_parts(&self, file: usize) -> bool {
        self.validator(file).is_telling() || self.files[file].sha256.is_some()
    }

    async fn open(&self, place: Place, filled: u64, whole: bool) -> Result<Connection, FetchError> {
        let granted = &self.files[place.file];
        let validator = self.validator(place.file);
        let (from, until) =
            if whole { (0, None) } else { (place.from + filled, Some(place.until.min(granted.size))) };
        let body = self.origin.read(&granted.url, ReadRange { from, until, validator }).await?;
        self.validator_seen(place.file, body.validator());
        if body.start() < from {
            tracing::info!(path = granted.path, "the origin gives no parts: reading it from the start");
        }
        let position = body.start();
        Ok(Connection { file: place.file, body, rest: Bytes::new(), position })
    }

    /// Reads up to `to` for nothing. What is known of a file that can only be read from its start is compared: it may be
    /// another one by now.
    async fn skip(&self, open: &mut Connection, to: u64, whole: bool) -> Result<(), FetchError> {
        while open.position < to {
            let first = self.map().of_file(open.file).start;
            let piece = first + (open.position / self.map().piece_length()) as u32;
            let aligned = open.position.is_multiple_of(self.map().piece_length());
            let len = u64::from(self.map().len(piece));
            if whole && aligned && open.position + len <= to {
                let mut buffer = self.handle.buffer(len as u32).await.ok_or(FetchError::Stopped)?;
                let mut filled = 0;
                while filled < len as usize {
                    let part = self.next(open, len as usize - filled).await?;
                    buffer.as_mut()[filled..filled + part.len()].copy_from_slice(&part);
                    filled += part.len();
                }
                self.handle.compare(piece, buffer).await?;
            } else {
                self.next(open, (to - open.position) as usize).await?;
            }
        }
        Ok(())
    }

    /// The next bytes, `most` at most and at least one.
    async fn next(&self, open: &mut Connection, most: usize) -> Result<Bytes, FetchError> {
        while open.rest.is_empty() {
            let Some(chunk) = open.body.chunk().await? else {
                let url = origin::redact(&self.files[open.file].url);
                return Err(OriginError::Length { url, expected: open.body.end(), got: open.position }.into());
            };
            self.counters.origin.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            open.rest = chunk;
        }
        let part = open.rest.split_to(most.min(open.rest.len()));
        open.position += part.len() as u64;
        Ok(part)
    }
}
