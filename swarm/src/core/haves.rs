//! What came in which order, so that each connection announces from where it stands and none is lost.

use super::{PeerKey, TorrentCore};
use crate::bitfield::Bitfield;

/// The arrivals of one torrent. A piece that was withdrawn and came again counts as of the second time, so that the list is never
/// longer than the torrent has pieces.
#[derive(Debug, Default)]
pub(super) struct Haves(Vec<u32>);

impl Haves {
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }
}

impl TorrentCore {
    /// The pieces that came, in order.
    pub fn haves(&self) -> &[u32] {
        self.haves.as_slice()
    }

    /// The pieces that are here and came since the connection asked last, or was made.
    pub fn catch_up(&mut self, key: PeerKey) -> Vec<u32> {
        let Some(peer) = self.peers.get_mut(&key) else { return Vec::new() };
        let since = std::mem::replace(&mut peer.caught_up, self.haves.0.len());
        let news = self.haves.0[since..].iter().copied();
        news.filter(|piece| self.picker.have().contains(*piece)).collect()
    }

    pub(super) fn note_arrival(&mut self, piece: u32) {
        self.haves.0.push(piece);
        let pieces = self.picker.have().len();
        if self.haves.0.len() > pieces as usize {
            self.forget_earlier_arrivals(Bitfield::new(pieces));
        }
    }

    /// Keeps the last arrival of each piece; every connection stays between the same two.
    fn forget_earlier_arrivals(&mut self, mut seen: Bitfield) {
        let all = std::mem::take(&mut self.haves.0);
        let mut last: Vec<bool> = all.iter().rev().map(|piece| seen.insert(*piece)).collect();
        last.reverse();
        for peer in self.peers.values_mut() {
            peer.caught_up = last[..peer.caught_up].iter().filter(|last| **last).count();
        }
        self.haves.0 = all.into_iter().zip(last).filter(|(_, last)| *last).map(|(piece, _)| piece).collect();
    }
}
