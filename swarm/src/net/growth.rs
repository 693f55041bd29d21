//! Torrents that grow: hashes that come in, pieces that are read at the origin, and the moment when the torrent is known whole.

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tokio::sync::watch;
use torrent::ingest::{Batch, HashTable, IngestError, SigningKey, Warrant};
use torrent::{Metainfo, PieceHashes};

use super::api::Fault;
use super::budget::{Buffer, Filling};
use super::handle::TorrentHandle;
use super::storage::read_piece;
use super::store::{Counted, blocking};
use super::torrent::Torrent;
use crate::core::{InnerId, PeerKey};

/// One in so many pieces that come from peers is hashed with SHA-1 too: nobody else than its fetcher has vouched for that.
const SHA1_OF: u32 = 8;

/// Who reads at the origin, and may say what the pieces hash to.
#[derive(Debug, Clone)]
pub struct Fetcher {
    /// Signs hashes.
    pub key: SigningKey,
    /// Says that this key may.
    pub warrant: Warrant,
}

/// Why a piece that was read at the origin is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// Other bytes than the ones whose hash is known.
    #[error("piece {piece} has other bytes than {before} read before: the source has changed")]
    Changed {
        /// Which piece.
        piece: u32,
        /// Who read it before, or that the torrent says so.
        before: String,
    },
    /// Not as many bytes as the piece has.
    #[error("piece {piece} has {wanted} bytes, not {given}")]
    Length {
        /// Which piece.
        piece: u32,
        /// Bytes of it.
        wanted: u32,
        /// Bytes given.
        given: usize,
    },
    /// The hashes are not believed, by the fetcher's own node.
    #[error(transparent)]
    Hashes(#[from] IngestError),
    /// They could not be computed.
    #[error("a piece could not be hashed: {0}")]
    Io(#[from] io::Error),
    /// The torrent has been removed.
    #[error("the torrent is not shared any more")]
    Stopped,
}

/// Why a torrent that grew is not taken for the one that it is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GraduateError {
    /// Other files or other hashes.
    #[error("the torrent is not the one that has grown here")]
    Another,
    /// The engine shares a torrent with the same infohash already.
    #[error("the torrent is already being shared")]
    Duplicate,
}

impl TorrentHandle {
    /// This node begins, or ceases, to read at the origin: what it reads goes to one peer first, as from a seed in a cold swarm.
    pub fn read_origin(&self, reads: bool) {
        self.torrent.core().reads_origin(reads);
    }

    /// Takes the first of these pieces that has to be read at the origin: nobody has read it, or nobody is left that has it. It is given
    /// to nobody else of this node until [`Self::put`], [`Self::unclaim`] or the end of [`Self::read_origin`].
    pub fn claim(&self, pieces: Range<u32>) -> Option<u32> {
        let now = self.torrent.engine.clock.now();
        self.torrent.core().claim(pieces, now)
    }

    /// How many of these pieces have to be read at the origin, those that have been taken not among them.
    pub fn unread(&self, pieces: Range<u32>) -> u32 {
        let now = self.torrent.engine.clock.now();
        self.torrent.core().unread(pieces, now)
    }

    /// Whether the hash of a piece is known.
    pub fn knows(&self, piece: u32) -> bool {
        self.torrent.subject.verifier(piece).is_some()
    }

    /// Whether a piece is here and verified.
    pub fn has(&self, piece: u32) -> bool {
        self.torrent.core().have().contains(piece)
    }

    /// Whether all pieces are.
    pub fn is_whole(&self) -> bool {
        self.torrent.core().is_seed()
    }

    /// A piece that was taken is not read after all.
    pub fn unclaim(&self, piece: u32) {
        self.torrent.core().unclaim(piece);
    }

    /// Memory for a piece that is to be read: waits until there is some, and room on the disk. `None` when the torrent is removed.
    pub async fn buffer(&self, len: u32) -> Option<Buffer> {
        if !self.torrent.has_space().await {
            return None;
        }
        let mut news = self.torrent.news.subscribe();
        loop {
            if let Some(buffer) = self.torrent.engine.buffer(len as usize) {
                return Some(buffer);
            }
            tokio::select! {
                _ = news.changed() => {}
                () = tokio::time::sleep(super::store::RETRY / 20) => {}
                () = self.torrent.stop.cancelled() => return None,
            }
        }
    }

    /// Takes in a piece that was read at the origin: signs its hashes if nobody knows them, tells all, writes and serves it. Returns when
    /// it is on disk as far as the kernel says; while the disk is full it waits.
    pub async fn put(&self, fetcher: &Fetcher, piece: u32, bytes: Buffer) -> Result<(), PutError> {
        let torrent = &self.torrent;
        let wanted = torrent.subject.pieces().len(piece);
        if wanted == 0 || bytes.as_ref().len() != wanted as usize {
            return Err(PutError::Length { piece, wanted, given: bytes.as_ref().len() });
        }
        let (worker, hashed) = (torrent.clone(), fetcher.clone());
        let bytes =
            blocking(move || Ok(worker.vouch(&hashed, piece, bytes.as_ref()).map(|()| bytes))).await??;
        torrent.clone().store(piece, Filling::from(bytes)).await;
        if torrent.stop.is_cancelled() { Err(PutError::Stopped) } else { Ok(()) }
    }

    /// These pieces are not held any more ([`GrowTorrent::held`](super::api::GrowTorrent::held)): they are fetched like all others.
    pub fn unhold(&self, pieces: Range<u32>) {
        let map = self.torrent.subject.pieces();
        let mut core = self.torrent.core();
        // No space was taken for them.
        let bytes: u64 = core.held(pieces.clone()).iter().map(|piece| u64::from(map.len(*piece))).sum();
        pieces.for_each(|piece| core.unhold(piece));
        drop(core);
        let more = |unreserved: u64| Some(unreserved.saturating_add(bytes));
        self.torrent.unreserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok();
        self.torrent.bump();
    }

    /// Takes in a piece that is held, and writes nothing: its bytes must have the hash that is known; if none is, `by` vouches for them,
    /// and without that the answer is `false`, and it stays held.
    pub async fn adopt(&self, by: Option<&Fetcher>, piece: u32) -> Result<bool, PutError> {
        let (worker, by) = (self.torrent.clone(), by.cloned());
        let adopted = blocking(move || Ok(worker.adopt(by.as_ref(), piece))).await?;
        match &adopted {
            Err(PutError::Changed { before, .. }) => self.torrent.fault(Fault {
                what: format!(
                    "a file that has the declared digest has other bytes in piece {piece} than {before} has read"
                ),
                fetchers: vec![before.clone()],
            }),
            Err(PutError::Hashes(error)) => self.torrent.fault(Fault::from(error)),
            _ => {}
        }
        let adopted = adopted?;
        match adopted {
            Some(Counted::Doubtful) => self.unhold(piece..piece + 1),
            Some(Counted::New) => self.torrent.stored(piece, true),
            Some(Counted::Again) | None => {}
        }
        Ok(adopted.is_some())
    }

    /// Whether bytes are those of a piece whose hash is known; of others nothing is said.
    pub async fn compare(&self, piece: u32, bytes: Buffer) -> Result<(), PutError> {
        let worker = self.torrent.clone();
        blocking(move || Ok(worker.hash(piece, bytes.as_ref()).map(drop))).await?
    }

    /// Changes when a piece has come, or the hash of one has.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.torrent.news.subscribe()
    }

    /// Those of these pieces that are held.
    pub fn held(&self, among: Range<u32>) -> Vec<u32> {
        self.torrent.core().held(among)
    }

    /// Waits until a piece is here and verified; `false` if the torrent is removed before.
    pub async fn arrived(&self, piece: u32) -> bool {
        let mut news = self.torrent.news.subscribe();
        while !self.torrent.core().have().contains(piece) {
            tokio::select! {
                _ = news.changed() => {}
                () = self.torrent.stop.cancelled() => return false,
            }
        }
        true
    }

    /// How many pieces have known hashes: all, unless the torrent grows.
    pub fn known_pieces(&self) -> usize {
        let subject = &self.torrent.subject;
        match (subject.metainfo(), subject.growth()) {
            (None, Some(growth)) => growth.read(HashTable::known),
            _ => subject.pieces().count() as usize,
        }
    }

    /// The torrent of which all hashes are known. `digest`: SHA-256 of the bytes, where the content is one file.
    pub fn grown(&self, digest: Option<[u8; 32]>) -> Option<Result<Metainfo, torrent::BuildError>> {
        Some(self.torrent.subject.growth()?.read(|table| table.finish(digest)))
    }

    /// The torrent is known whole now: it is shared under its infohashes too, over the same connections, and nothing is hashed again.
    pub async fn graduate(&self, metainfo: Arc<Metainfo>) -> Result<(), GraduateError> {
        let torrent = &self.torrent;
        if !torrent.subject.graduate(&metainfo) {
            return Err(GraduateError::Another);
        }
        torrent.core().know_all();
        torrent.bump();
        torrent.engine.rename(torrent).map_err(|_| GraduateError::Duplicate)?;
        torrent.core().set_wire_ids(torrent.subject.wire_ids());
        // The same trackers, and more to tell them.
        torrent.trackers.send_modify(|_| {});
        let worker = torrent.clone();
        let renamed = blocking(move || worker.rename_journal(InnerId::of(&metainfo))).await;
        if let Err(error) = renamed {
            tracing::warn!(torrent = torrent.subject.name(), %error, "the journal keeps its old name: a start hashes what is here");
        }
        Ok(())
    }
}

impl Torrent {
    /// Takes in signed hashes; `false` if nobody vouches for them.
    pub fn take_hashes(&self, batch: &[u8], from: Option<PeerKey>) -> bool {
        match self.accept_hashes(batch, from) {
            Ok(_) => true,
            Err(error @ (IngestError::Contradiction { .. } | IngestError::TooManyFetchers)) => {
                // Who passes it on cannot know: the fetchers have signed both.
                self.fault(Fault::from(&error));
                true
            }
            Err(error) => {
                tracing::info!(torrent = self.subject.name(), %error, "hashes are refused");
                false
            }
        }
    }

    /// As [`Self::take_hashes`]; says whether there was anything new in them.
    pub fn accept_hashes(&self, batch: &[u8], from: Option<PeerKey>) -> Result<bool, IngestError> {
        // Of a torrent that is known whole nothing can be learned.
        let Some(growth) = self.subject.growth().filter(|_| self.subject.metainfo().is_none()) else {
            return Ok(false);
        };
        let pieces = growth.learn(batch)?;
        if pieces.is_empty() {
            return Ok(false);
        }
        self.core().hashes_known(&pieces, Arc::from(batch), from);
        self.bump();
        Ok(true)
    }

    fn adopt(&self, by: Option<&Fetcher>, piece: u32) -> Result<Option<Counted>, PutError> {
        let map = self.subject.pieces();
        if by.is_none() && self.subject.verifier(piece).is_none() {
            return Ok(None);
        }
        let failures = self.ledger().failures();
        let mut bytes = vec![0; map.len(piece) as usize];
        read_piece(&*self.storage, map, piece, 0, &mut bytes)?;
        match by {
            Some(by) => self.vouch(by, piece, &bytes)?,
            None => drop(self.hash(piece, &bytes)?),
        }
        let files = map.segments(piece).map(|segment| segment.file).collect();
        Ok(Some(self.count(piece, files, failures)))
    }

    /// Hashes a piece that was read at the origin, and signs that if it is news.
    fn vouch(&self, fetcher: &Fetcher, piece: u32, bytes: &[u8]) -> Result<(), PutError> {
        let (found, is_known) = self.hash(piece, bytes)?;
        let Some(growth) = self.subject.growth().filter(|_| !is_known) else { return Ok(()) };
        let batch = Batch::sign(&fetcher.key, &fetcher.warrant, growth.id(), piece, vec![found])?;
        self.accept_hashes(&batch.encode(), None)?;
        Ok(())
    }

    /// The hashes of a piece that was read at the origin, and whether they were known; an error if others were.
    fn hash(&self, piece: u32, bytes: &[u8]) -> Result<(PieceHashes, bool), PutError> {
        let map = self.subject.pieces();
        let mut hasher = map.hasher(piece, map.sides());
        hasher.update(bytes);
        let found = hasher.finish();
        match self.subject.expected(piece, map.sides()) {
            known if known == found => Ok((found, true)),
            known if known == PieceHashes::default() => Ok((found, false)),
            _ => {
                let before = self.signer(piece).unwrap_or_else(|| "whoever made the torrent".to_owned());
                Err(PutError::Changed { piece, before })
            }
        }
    }

    fn signer(&self, piece: u32) -> Option<String> {
        self.subject.growth()?.read(|table| table.signer(piece).map(str::to_owned))
    }

    /// Whether a piece that has come is one of those whose SHA-1 is looked at.
    pub fn is_to_be_checked(&self) -> bool {
        self.subject.metainfo().is_none() && rand::random_range(0..SHA1_OF) == 0
    }

    /// Whether the SHA-1 of a piece that verifies is what its fetcher has signed.
    pub fn check_sha1(&self, piece: u32, bytes: &[u8]) {
        let Some(mut v1) = self.subject.v1_verifier(piece) else { return };
        if v1.feed(0, bytes).is_err() || !v1.finish() {
            let signer = self.signer(piece).unwrap_or_default();
            self.fault(Fault {
                what: format!("the fetcher {signer} has signed a wrong SHA-1 of piece {piece}"),
                fetchers: vec![signer],
            });
        }
    }

    /// Writes down the hashes that have come since the last time. Before the journal says that pieces are durable: without their
    /// hashes they are worth nothing.
    pub fn log_hashes(&self) -> io::Result<()> {
        let mut log = self.hash_log.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(log) = log.as_mut() else { return Ok(()) };
        let fresh = self.core().batches(log.count());
        if fresh.is_empty() { Ok(()) } else { log.append(&fresh) }
    }
}
