//! One file: from the origin into its sink, over as many connections as it takes.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use operator_api::GrantedFile;
use origin::{OriginError, ReadRange, Validator};
use tokio::sync::mpsc;
use torrent::{FileHashes, RelPath};

use super::FetchError;
use super::read::Reading;
use super::retries::Retries;
use super::sink::{Command, QUEUE, Sink, hash_linked};
use crate::contents::hex;
use crate::store::remove_tree;

/// Reads a file to its end and checks its declared digest.
pub(super) async fn fetch_file(
    reading: &Arc<Reading>,
    granted: &GrantedFile,
    path: &RelPath,
) -> Result<FileHashes, FetchError> {
    if let Some(hashes) = reuse(reading, granted, path).await? {
        return Ok(hashes);
    }
    let (common, owned, at) = (Arc::clone(&reading.common), granted.clone(), path.clone());
    let open = reading.threads.spawn_blocking(move || Sink::open(&common, &owned, &at));
    let sink = joined(open.await)?;
    let mut position = sink.position();
    let (commands, queue) = mpsc::channel(QUEUE);
    let thread = reading.threads.spawn_blocking(move || sink.run(queue));
    let sent = pump(reading, granted, &mut position, commands).await;
    let hashes = joined(thread.await);
    // A disk that fails shows as a closed queue: what the thread says is the cause.
    match (sent, hashes) {
        (Err(FetchError::Stopped), Err(cause)) => Err(cause),
        (Err(error), _) => Err(error),
        (Ok(()), hashes) => check(reading, granted, hashes?),
    }
}

fn joined<T>(result: Result<Result<T, FetchError>, tokio::task::JoinError>) -> Result<T, FetchError> {
    result.unwrap_or(Err(FetchError::Stopped))
}

/// Sends the rest of the file to the sink. The queue closes when this returns.
async fn pump(
    reading: &Reading,
    granted: &GrantedFile,
    position: &mut u64,
    commands: mpsc::Sender<Command>,
) -> Result<(), FetchError> {
    let mut retries = Retries::new(*position);
    let mut validator = Validator::from(granted);
    while *position < granted.size {
        let read = connection(reading, granted, &mut validator, position, &commands);
        let Err(error) = read.await else { continue };
        let FetchError::Origin(origin) = &error else { return Err(error) };
        let Some(wait) = retries.after(origin, *position) else { return Err(error) };
        tracing::debug!(path = granted.path, position, error = %origin, "reading on in a moment");
        tokio::time::sleep(wait).await;
    }
    Ok(())
}

/// Reads as far as one connection goes. A file that was resolved without a validator gets the one that its first answer shows.
async fn connection(
    reading: &Reading,
    granted: &GrantedFile,
    validator: &mut Validator,
    position: &mut u64,
    commands: &mpsc::Sender<Command>,
) -> Result<(), FetchError> {
    // Nothing would tell if the rest were of another version.
    let continued = validator.is_telling() || granted.sha256.is_some();
    let from = if continued { *position } else { 0 };
    let mut body = reading
        .origin
        .read_granted(granted, ReadRange { from, until: None, validator: validator.clone() })
        .await?;
    if !validator.is_telling() {
        validator.clone_from(body.validator());
    }
    if body.start() != *position {
        tracing::info!(path = granted.path, "it cannot be read on from where it broke: starting over");
        commands.send(Command::Restart).await.map_err(|_| FetchError::Stopped)?;
        *position = body.start();
    }
    while let Some(chunk) = body.chunk().await? {
        let length = chunk.len() as u64;
        reading.origin_bytes.fetch_add(length, Ordering::Relaxed);
        commands.send(Command::Data(chunk)).await.map_err(|_| FetchError::Stopped)?;
        *position += length;
    }
    if *position < granted.size {
        let url = origin::redact(&granted.url);
        return Err(OriginError::Length { url, expected: granted.size, got: *position }.into());
    }
    Ok(())
}

/// The file may be in another revision already, or in the container runtime: then it is linked or copied, and only hashed.
async fn reuse(
    reading: &Arc<Reading>,
    granted: &GrantedFile,
    path: &RelPath,
) -> Result<Option<FileHashes>, FetchError> {
    let declared = granted.declared();
    let (shared, owned, at) = (Arc::clone(reading), granted.clone(), path.clone());
    let hashing = reading.threads.spawn_blocking(move || {
        let to = shared.data.join(at.as_str());
        let Some(declared) = declared else {
            // Linked while it was to come from peers. What is written to must be nobody else's.
            if std::fs::symlink_metadata(&to).is_ok_and(|file| file.nlink() > 1) {
                remove_tree(&to)?;
            }
            return Ok(None);
        };
        let taken = shared.donors.take(&(declared, owned.size), &to, &shared.common.stop)?;
        let Some(hashes) = hash_linked(&shared.common, &owned, &at, taken)? else { return Ok(None) };
        if hashes.sha256 == declared {
            shared.common.on_disk.fetch_add(owned.size, Ordering::Relaxed);
            return Ok(Some(hashes));
        }
        // The other revision's file is damaged; it is not ours to repair it.
        remove_tree(&to)?;
        Ok(None)
    });
    joined(hashing.await)
}

fn check(reading: &Reading, granted: &GrantedFile, hashes: FileHashes) -> Result<FileHashes, FetchError> {
    let found = hex(&hashes.sha256);
    match &granted.sha256 {
        Some(expected) if *expected != found => {
            // Read anew next time: nothing of it can be trusted.
            reading.common.journal.flush()?;
            reading.common.journal.record(granted, 0)?;
            Err(FetchError::Digest { what: granted.path.clone(), expected: expected.clone(), found })
        }
        _ => Ok(hashes),
    }
}
