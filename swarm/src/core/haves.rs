//! What has changed about which piece, in order, so that each connection tells its peer from where it stands and nothing is lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{PeerKey, TorrentCore};
use crate::bitfield::Bitfield;
use crate::wire::{Message, PieceNotice};

/// The changes of one torrent. A piece counts as of its last change, so that the list is never longer than twice the torrent's pieces.
#[derive(Debug, Default)]
pub(super) struct Haves(Vec<u32>);

impl Haves {
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// What a peer is to be told of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It is here.
    Have(u32),
    /// It is coming in, and is passed on meanwhile; the id under which the peer takes this.
    Coming(u8, u32),
    /// It is not here (any more), and does not come; the id under which the peer takes this.
    Lost(u8, u32),
    /// Hashes that its fetcher has signed; the id under which the peer takes this.
    Hashes(u8, Arc<[u8]>),
}

impl News {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Have(piece) => Message::Have(*piece).encode(out),
            Self::Coming(id, piece) | Self::Lost(id, piece) => {
                Message::Extended { id: *id, payload: &PieceNotice(*piece).encode() }.encode(out);
            }
            Self::Hashes(id, batch) => Message::Extended { id: *id, payload: batch }.encode(out),
        }
    }
}

impl TorrentCore {
    /// What has changed since the connection asked last, or was made, as far as it is of interest to its peer: first the hashes, so
    /// that it can ask for what is here.
    pub fn catch_up(&mut self, key: PeerKey) -> Vec<News> {
        let mut news = self.relay_to(key);
        news.extend(self.changes_for(key));
        news
    }

    fn changes_for(&mut self, key: PeerKey) -> Vec<News> {
        let Some(peer) = self.peers.get_mut(&key) else { return Vec::new() };
        let since = std::mem::replace(&mut peer.caught_up, self.haves.0.len());
        let changed = &self.haves.0[since..];
        // Each once, at its last change.
        let mut told = BTreeSet::new();
        let mut last: Vec<u32> = changed.iter().rev().copied().filter(|piece| told.insert(*piece)).collect();
        last.reverse();
        let peer = &*peer;
        let news = |piece| {
            if self.picker.have().contains(piece) {
                return Some(News::Have(piece));
            }
            if self.passing.contains_key(&piece) {
                return Some(News::Coming(peer.takes_coming()?, piece));
            }
            Some(News::Lost(peer.takes.dont_have?, piece))
        };
        last.into_iter().filter_map(news).collect()
    }

    pub(super) fn note_change(&mut self, piece: u32) {
        self.haves.0.push(piece);
        let pieces = self.picker.have().len();
        if self.haves.0.len() > 2 * pieces as usize {
            self.forget_earlier_changes(Bitfield::new(pieces));
        }
    }

    /// Keeps the last change of each piece; every connection stays between the same two.
    fn forget_earlier_changes(&mut self, mut seen: Bitfield) {
        let all = std::mem::take(&mut self.haves.0);
        let mut last: Vec<bool> = all.iter().rev().map(|piece| seen.insert(*piece)).collect();
        last.reverse();
        for peer in self.peers.values_mut() {
            peer.caught_up = last[..peer.caught_up].iter().filter(|last| **last).count();
        }
        self.haves.0 = all.into_iter().zip(last).filter(|(_, last)| *last).map(|(piece, _)| piece).collect();
    }
}
