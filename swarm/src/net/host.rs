//! What conversations find of a torrent at work.

use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::budget::Filling;
use super::torrent::{Piece, Torrent};
use crate::assembly::Leaf;
use crate::conversation::Host;
use crate::core::{PeerKey, Source, TorrentCore};
use crate::hashes::Answer;
use crate::wire::HashRequest;

impl Host for Arc<Torrent> {
    type Buffer = Filling;

    fn core(&self) -> impl DerefMut<Target = TorrentCore> {
        Torrent::core(self)
    }

    fn len(&self, piece: u32) -> u32 {
        self.subject.pieces().len(piece)
    }

    fn padded_len(&self, piece: u32) -> u32 {
        self.subject.pieces().padded_len(piece)
    }

    fn buffer(&self, len: u32) -> Option<Filling> {
        self.engine.buffer(len as usize).map(Filling::from)
    }

    fn shelved(&self) -> Vec<u32> {
        Torrent::shelved(self)
    }

    fn unshelve(&self, piece: u32) -> Option<Piece> {
        Torrent::unshelve(self, piece)
    }

    fn shelve(&self, piece: Piece) {
        Torrent::shelve(self, piece);
    }

    /// Against the v2 tree if there is one, else against SHA-1.
    fn is_genuine(&self, piece: &Piece, from: Source) -> bool {
        let index = piece.piece();
        let genuine = match self.subject.v2_hash(index) {
            Some(expected) => expected.is_of(&piece.leaves()),
            None => self
                .subject
                .v1_verifier(index)
                .is_some_and(|mut v1| v1.feed(0, piece.buffer().bytes().as_ref()).is_ok() && v1.finish()),
        };
        if !genuine {
            tracing::info!(piece = index, ?from, "a piece does not verify");
        }
        genuine
    }

    fn snubbed(&self, by: Source) {
        tracing::debug!(from = ?by, "a peer owes blocks and sends none");
    }

    fn gives(&self, piece: u32) {
        self.sample(piece);
    }

    fn look_at(&self, piece: u32, by: PeerKey) {
        Torrent::look_at(self, piece, Some(by));
    }

    fn store(&self, piece: Piece) {
        let (number, bytes) = (piece.piece(), piece.buffer().clone());
        if self.is_to_be_checked() {
            let (torrent, bytes) = (Arc::clone(self), bytes.clone());
            self.tasks.spawn_blocking(move || torrent.check_sha1(number, bytes.bytes().as_ref()));
        }
        self.tasks.spawn(Arc::clone(self).store(number, bytes));
    }

    fn wasted(&self, bytes: u64) {
        self.counters.wasted.fetch_add(bytes, Ordering::Relaxed);
    }

    fn bump(&self) {
        Torrent::bump(self);
    }

    fn info(&self) -> Option<Arc<[u8]>> {
        self.subject.metainfo().map(|metainfo| metainfo.info_bytes().clone())
    }

    fn take_hashes(&self, batch: &[u8], from: PeerKey) -> bool {
        Torrent::take_hashes(self, batch, Some(from))
    }

    fn hashes(&self, request: &HashRequest) -> Answer {
        match self.subject.answer(request) {
            Answer::OfPiece(piece) => match self.passing.leaves(piece).or_else(|| self.leaves.of(piece)) {
                Some(leaves) => Answer::Hashes(self.subject.answer_from(request, &leaves)),
                None if self.core().have().contains(piece) => Answer::OfPiece(piece),
                // Others have it.
                None => Answer::Reject,
            },
            answer => answer,
        }
    }

    fn leaf_request(&self, piece: u32) -> Option<HashRequest> {
        self.subject.leaf_request(piece)
    }

    fn leaves(&self, piece: u32, hashes: &[u8]) -> Option<Arc<[Leaf]>> {
        self.subject.leaves(piece, hashes).map(Arc::from)
    }

    fn pass_on(&self, piece: &Piece, leaves: Arc<[Leaf]>) -> bool {
        Torrent::pass_on(self, piece, leaves)
    }

    fn pass_block(&self, piece: u32, begin: u32) {
        Torrent::pass_block(self, piece, begin);
    }

    fn stop_passing(&self, piece: u32) -> bool {
        Torrent::stop_passing(self, piece)
    }
}
