//! What a torrent believes about the files it finds.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use torrent::merkle::{self, Hash};

use super::api::{AddError, Assume};
use super::hash_log::{self, HashLog};
use super::journal_file::{self, JournalFile};
use super::share::Place;
use super::storage::read_piece;
use super::store::blocking;
use super::torrent::Torrent;
use super::zeros::zeros;
use crate::bitfield::Bitfield;
use crate::journal::Record;
use crate::wire::BLOCK;

/// Durable pieces hashed at a start, spread over the torrent: a file that was zeroed or replaced behind us is noticed.
const SAMPLES: u32 = 16;
/// Memory for hashing what is on disk: read at a time.
const READ: usize = 1 << 20;

/// What was found.
struct Found {
    /// Believed without hashing.
    trusted: Bitfield,
    /// To be hashed before it counts.
    to_check: Vec<u32>,
}

/// Looks at files and journal, and takes in what can be believed at once. Returns the pieces to hash.
pub async fn open(torrent: &Arc<Torrent>, place: Place) -> Result<Vec<u32>, AddError> {
    let worker = torrent.clone();
    let opened = blocking(move || Ok(open_now(&worker, &place))).await;
    opened.unwrap_or_else(|source| Err(AddError::Storage { path: "the folder".into(), source }))
}

fn open_now(torrent: &Torrent, place: &Place) -> Result<Vec<u32>, AddError> {
    let storage = |source| AddError::Storage { path: place.folder.clone(), source };
    // Before it is read: who else writes to it may be taking back what it says.
    let writer = place.journal.as_deref().map(take_place).transpose()?;
    let wanted = torrent.ledger().wanted().clone();
    let none = Bitfield::new(wanted.len());
    if let Some(path) = place.journal.as_deref().filter(|_| torrent.subject.growth().is_some()) {
        load_hashes(torrent, &hash_log::beside(path))?;
    }
    let mut found = match place.assume {
        Assume::Complete => {
            check_sizes(torrent, place, &wanted)?;
            Found { trusted: wanted, to_check: Vec::new() }
        }
        Assume::Journal => match &place.journal {
            Some(path) => replay(torrent, path)?,
            None => Found { trusted: none, to_check: Vec::new() },
        },
        Assume::Nothing => Found { trusted: none, to_check: wanted.iter().collect() },
    };
    if place.assume != Assume::Complete {
        torrent.storage.create_empty().map_err(storage)?;
        let known: BTreeSet<u32> = found.to_check.iter().copied().collect();
        let zeros = zeros(torrent, &found.trusted).into_iter();
        found.to_check.extend(zeros.filter(|piece| !known.contains(piece)));
    }
    // A published tree is read, not written: its journal starts when a piece has to be fetched again.
    if let (Some(path), Some(writer)) = (&place.journal, writer) {
        // What is to be hashed is in it: a torrent that stops before that has not forgotten it.
        let to_check = found.to_check.clone();
        let journal = JournalFile::create(writer, torrent.subject.inner_id(), &found.trusted, to_check)
            .map_err(|source| AddError::Journal { path: path.clone(), source })?;
        *torrent.journal.lock().unwrap_or_else(PoisonError::into_inner) = Some(journal);
    }
    for piece in found.trusted.iter() {
        take_in(torrent, piece);
    }
    let mut ledger = torrent.ledger();
    found.to_check.iter().for_each(|piece| ledger.doubted(*piece));
    Ok(found.to_check)
}

/// The hashes of a torrent that grows, as far as they came before.
fn load_hashes(torrent: &Torrent, path: &Path) -> Result<(), AddError> {
    let believed = |batch: &[u8]| matches!(torrent.accept_hashes(batch, None), Ok(true));
    let log = HashLog::open(path, believed)
        .map_err(|source| AddError::Journal { path: path.to_owned(), source })?;
    *torrent.hash_log.lock().unwrap_or_else(PoisonError::into_inner) = Some(log);
    Ok(())
}

fn take_place(path: &Path) -> Result<journal_file::Place, AddError> {
    journal_file::Place::take(path).map_err(|source| match source.kind() {
        io::ErrorKind::ResourceBusy => AddError::InUse { path: path.to_owned() },
        _ => AddError::Journal { path: path.to_owned(), source },
    })
}

/// A piece that is here and durable.
fn take_in(torrent: &Torrent, piece: u32) {
    let bytes = torrent.payload(piece);
    torrent.core().arrived(piece);
    torrent.ledger().found(piece, bytes);
}

/// The files that wanted pieces lie in have to be there, and if all are wanted, empty ones too.
fn check_sizes(torrent: &Torrent, place: &Place, wanted: &Bitfield) -> Result<(), AddError> {
    let map = torrent.subject.pieces();
    for index in 0..torrent.subject.files() {
        if !wanted.is_full() && !map.of_file(index).any(|piece| wanted.contains(piece)) {
            continue;
        }
        if !matches!(torrent.storage.size(index), Ok(Some(size)) if size == torrent.subject.size(index)) {
            let Some(path) = place.layout.get(index).cloned() else { continue };
            return Err(AddError::Incomplete { path });
        }
    }
    Ok(())
}

/// Believes the journal as far as the files bear it out.
fn replay(torrent: &Torrent, path: &Path) -> Result<Found, AddError> {
    let journal = |source| AddError::Journal { path: path.to_owned(), source };
    let pieces = torrent.subject.pieces().count();
    let none = Found { trusted: Bitfield::new(pieces), to_check: Vec::new() };
    let replayed = match journal_file::load(path, torrent.subject.inner_id(), pieces).map_err(journal)? {
        None => return Ok(none),
        Some(Ok(replayed)) => replayed,
        Some(Err(error)) => {
            tracing::warn!(path = %path.display(), %error, "the journal is of no use; what is on disk is hashed");
            return Ok(Found { to_check: (0..pieces).collect(), ..none });
        }
    };
    let mut trusted = replayed.durable;
    let mut to_check: Vec<u32> = replayed.unproven.into_iter().collect();
    // What a piece of a torrent that grows must be, nobody knows without its hash.
    let unknown: Vec<u32> =
        trusted.iter().filter(|piece| torrent.subject.verifier(*piece).is_none()).collect();
    for piece in unknown {
        trusted.remove(piece);
    }
    let doubtful: Vec<u32> = trusted.iter().filter(|piece| !is_plausible(torrent, *piece)).collect();
    for piece in doubtful {
        trusted.remove(piece);
        to_check.push(piece);
    }
    let step = (trusted.count() / SAMPLES).max(1) as usize;
    let sampled: Vec<u32> = trusted.iter().step_by(step).chain(trusted.iter().last()).collect();
    if sampled.iter().any(|piece| !hash_piece(torrent, *piece).unwrap_or(false)) {
        tracing::warn!(path = %path.display(), "the files are not what the journal says; all are hashed");
        return Ok(Found { to_check: (0..pieces).collect(), ..none });
    }
    Ok(Found { trusted, to_check })
}

/// Whether the files could hold the piece: long enough, and written there.
fn is_plausible(torrent: &Torrent, piece: u32) -> bool {
    torrent.subject.pieces().segments(piece).all(|segment| {
        let end = segment.offset_in_file + u64::from(segment.len);
        matches!(torrent.storage.size(segment.file), Ok(Some(size)) if size >= end)
            && matches!(
                torrent.storage.is_hole(segment.file, segment.offset_in_file, u64::from(segment.len)),
                Ok(false)
            )
    })
}

/// Hashes pieces, and takes in the good ones; `false` if the torrent stopped meanwhile.
pub async fn check(torrent: &Arc<Torrent>, pieces: Vec<u32>) -> bool {
    for piece in pieces {
        if torrent.stop.is_cancelled() {
            return false;
        }
        let _turn = torrent.engine.disk.acquire().await;
        let worker = torrent.clone();
        if let Err(error) = blocking(move || check_piece(&worker, piece)).await {
            tracing::warn!(piece, %error, "a piece on disk could not be looked at; it is fetched");
        }
    }
    torrent.flush().await;
    !torrent.stop.is_cancelled()
}

/// Hashes a piece, and takes it in if it is good.
fn check_piece(torrent: &Torrent, piece: u32) -> io::Result<()> {
    let failures = torrent.ledger().failures();
    if hash_piece(torrent, piece)? {
        // It may have been written just before a crash: the next group makes it durable.
        let files = torrent.subject.pieces().segments(piece).map(|segment| segment.file).collect();
        torrent.count(piece, files, failures);
        return Ok(());
    }
    torrent.ledger().refuted(piece);
    torrent.record(&Record::Withdrawn(piece))
}

/// Whether the bytes on disk are the piece.
pub fn hash_piece(torrent: &Torrent, piece: u32) -> io::Result<bool> {
    let Some(mut verifier) = torrent.subject.verifier(piece) else { return Ok(false) };
    let read = each_part(torrent, piece, |begin, part| verifier.feed(begin, part).map_err(io::Error::other));
    match read {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
            Ok(false)
        }
        other => other.map(|()| verifier.finish()),
    }
}

/// The leaves of a piece that is on disk (BEP 52).
pub fn leaves(torrent: &Torrent, piece: u32) -> io::Result<Vec<Hash>> {
    let mut leaves = Vec::new();
    each_part(torrent, piece, |_, part| {
        leaves.extend(part.chunks(BLOCK as usize).map(merkle::leaf));
        Ok(())
    })?;
    Ok(leaves)
}

/// The payload of a piece, [`READ`] bytes at a time, each part with where it begins.
fn each_part(
    torrent: &Torrent,
    piece: u32,
    mut take: impl FnMut(u32, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let map = torrent.subject.pieces();
    let len = map.len(piece);
    let mut buffer = vec![0; READ.min(len as usize)];
    let mut begin = 0;
    while begin < len {
        let part = &mut buffer[..READ.min((len - begin) as usize)];
        read_piece(&*torrent.storage, map, piece, begin, part)?;
        take(begin, part)?;
        begin += part.len() as u32;
    }
    Ok(())
}
