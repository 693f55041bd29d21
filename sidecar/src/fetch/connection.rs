//! One connection to the origin, and the bytes of pieces from it: as many tries as it takes.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use origin::{Body, OriginError, ReadRange};
use swarm::Buffer;

use super::FetchError;
use super::reader::Reader;
use super::retries::Retries;

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
    /// The origin sends all of the file, whatever part is asked for.
    whole: bool,
}

impl Connection {
    /// Whether the bytes from `from` of a file can be had of it: at once, or behind others that are skipped.
    fn leads_to(&self, file: usize, from: u64) -> bool {
        let near = if self.whole { u64::MAX } else { SKIPPED };
        self.file == file
            && (self.position..self.position.saturating_add(near)).contains(&from)
            && from < self.body.end()
    }
}

impl Reader {
    /// Fills the buffer of a piece; `None` if it turns out that another node is to read it.
    pub(super) async fn fill(
        &self,
        place: Place,
        mut buffer: Buffer,
        connection: &mut Option<Connection>,
    ) -> Result<Option<Buffer>, FetchError> {
        let (mut filled, mut retries) = (0, Retries::new(0));
        while filled < buffer.as_ref().len() {
            if self.gives_way() {
                return Ok(None);
            }
            let Err(error) = self.fill_on(place, &mut buffer, &mut filled, connection).await else {
                continue;
            };
            *connection = None;
            let FetchError::Origin(origin) = &error else { return Err(error) };
            let Some(wait) = retries.after(origin, filled as u64) else { return Err(error) };
            tracing::debug!(file = self.files[place.file].path, error = %origin, "reading on in a moment");
            self.pause(wait).await?;
        }
        Ok(Some(buffer))
    }

    /// Fills it as far as one connection goes.
    async fn fill_on(
        &self,
        place: Place,
        buffer: &mut Buffer,
        filled: &mut usize,
        connection: &mut Option<Connection>,
    ) -> Result<(), FetchError> {
        let leads = |open: &Connection| open.leads_to(place.file, place.from + *filled as u64);
        let mut open = if let Some(open) = connection.take().filter(leads) {
            open
        } else {
            if !self.has_parts(place.file) {
                // Nothing would tell if the rest were of another version.
                *filled = 0;
            }
            let open = self.open(place, *filled as u64).await?;
            if self.gives_way() {
                return Ok(());
            }
            open
        };
        self.skip(&mut open, place.from + *filled as u64).await?;
        self.read_into(&mut open, buffer.as_mut(), filled).await?;
        *connection = Some(open);
        Ok(())
    }

    /// Whether parts of a file can be asked for: something tells its versions apart.
    pub(super) fn has_parts(&self, file: usize) -> bool {
        self.validator(file).is_telling() || self.files[file].sha256.is_some()
    }

    async fn open(&self, place: Place, filled: u64) -> Result<Connection, FetchError> {
        let granted = &self.files[place.file];
        let validator = self.validator(place.file);
        let until = place.until.min(granted.size);
        let part = self.has_parts(place.file).then_some(place.from + filled..until);
        let (from, asked) = part.map_or((0, None), |part| (part.start, Some(part.end)));
        let body = self.origin.read_granted(granted, ReadRange { from, until: asked, validator }).await?;
        self.validator_seen(place.file, body.validator());
        let whole = body.start() < from || asked.is_none_or(|until| until < body.end());
        if !whole && (from > 0 || until < granted.size) {
            self.gives_parts();
        }
        // What fits into one request costs nothing.
        if whole && (body.start() < place.from || until < granted.size) {
            self.no_parts(place.file);
        }
        let position = body.start();
        Ok(Connection { file: place.file, body, rest: Bytes::new(), position, whole })
    }

    /// Reads up to `to` for nothing. What is known of a file that can only be read from its start is compared: it may be
    /// another one by now.
    async fn skip(&self, open: &mut Connection, to: u64) -> Result<(), FetchError> {
        while open.position < to {
            let length = self.map().piece_length();
            let piece = self.map().of_file(open.file).start + (open.position / length) as u32;
            let len = self.map().len(piece);
            if open.whole && open.position.is_multiple_of(length) && open.position + u64::from(len) <= to {
                let mut buffer = self.handle.buffer(len).await.ok_or(FetchError::Stopped)?;
                self.read_into(open, buffer.as_mut(), &mut 0).await?;
                self.handle.compare(piece, buffer).await?;
            } else {
                self.next(open, (to - open.position) as usize).await?;
            }
        }
        Ok(())
    }

    /// Fills `into` from `filled` on; when it fails, `filled` says how far it came.
    async fn read_into(
        &self,
        open: &mut Connection,
        into: &mut [u8],
        filled: &mut usize,
    ) -> Result<(), FetchError> {
        while *filled < into.len() {
            let part = self.next(open, into.len() - *filled).await?;
            into[*filled..*filled + part.len()].copy_from_slice(&part);
            *filled += part.len();
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
