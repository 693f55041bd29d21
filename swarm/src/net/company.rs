//! Who else is at a torrent: for those who decide among themselves which of them reads at the origin.

use torrent::ingest::HashTable;

use super::handle::TorrentHandle;
use crate::core::Peer;
use crate::wire::PeerId;

impl TorrentHandle {
    /// The connected peers of our own kind, in no order.
    pub fn own_peers(&self) -> Vec<PeerId> {
        self.torrent.core().own_peers().map(|peer: &Peer| peer.source.id).collect()
    }

    /// Whether a connected peer of our own kind lacks a piece that only complete ones have. Who leaves then takes something along.
    pub fn is_needed(&self) -> bool {
        self.torrent.core().is_needed()
    }

    /// Who has signed hashes of a torrent that grows, in the order in which that was seen, and of how many pieces, also where
    /// another was the first to say them. Nobody, if it was known whole from the start.
    pub fn fetchers(&self) -> Vec<(String, u32)> {
        let told =
            |table: &HashTable| table.fetchers().map(|(name, count)| (name.to_owned(), count)).collect();
        self.torrent.subject.growth().map(|growth| growth.read(told)).unwrap_or_default()
    }
}
