//! Signed hashes of a torrent that grows, on their way from its fetchers to all of our own.
//!
//! Every node passes on what is new to it, but not to who has brought it, nor to who has the pieces and so knows their hashes. A
//! batch counts only if it has taught us something, so there are at most as many as pieces.

use std::sync::Arc;

use super::{News, PeerKey, TorrentCore};

/// Bytes of hashes that a connection is told of at a time: a newcomer to a large torrent gets megabytes of them, and more than that
/// must not wait in memory for each.
const MAX_RELAYED: usize = 256 * 1024;

/// All batches that have come, in order.
#[derive(Debug, Default)]
pub(super) struct Relay(Vec<Relayed>);

#[derive(Debug)]
struct Relayed {
    bytes: Arc<[u8]>,
    /// The pieces that it made known.
    pieces: Vec<u32>,
    /// Who brought it; `None`: ourselves.
    from: Option<PeerKey>,
}

impl TorrentCore {
    /// The hashes of these pieces have become known from a batch that is genuine: they can be asked for, and others are told.
    pub fn hashes_known(&mut self, pieces: &[u32], batch: Arc<[u8]>, from: Option<PeerKey>) {
        for &piece in pieces {
            self.picker.hash_known(piece);
        }
        self.relay.0.push(Relayed { bytes: batch, pieces: pieces.to_vec(), from });
    }

    /// All hashes are known, from the torrent itself: nobody has to be told of them.
    pub fn know_all(&mut self) {
        for piece in 0..self.picker.have().len() {
            self.picker.hash_known(piece);
        }
    }

    /// Batches from number `from` on: what a start after this one has to know.
    pub fn batches(&self, from: usize) -> Vec<Arc<[u8]>> {
        self.relay.0.iter().skip(from).map(|relayed| relayed.bytes.clone()).collect()
    }

    /// Whether there are hashes that the peer has not been told of.
    pub fn has_hashes_for(&self, key: PeerKey) -> bool {
        let peer = self.peers.get(&key).filter(|peer| peer.is_own && peer.takes.hashes.is_some());
        peer.is_some_and(|peer| peer.relayed < self.relay.0.len())
    }

    /// The next batches for this peer.
    pub(super) fn relay_to(&mut self, key: PeerKey) -> Vec<News> {
        let Some(peer) = self.peers.get_mut(&key) else { return Vec::new() };
        let Some(id) = peer.takes.hashes.filter(|_| peer.is_own) else { return Vec::new() };
        let (mut news, mut bytes) = (Vec::new(), 0);
        for relayed in &self.relay.0[peer.relayed..] {
            if bytes >= MAX_RELAYED {
                break;
            }
            peer.relayed += 1;
            let knows =
                relayed.from == Some(key) || relayed.pieces.iter().all(|piece| peer.has.contains(*piece));
            if !knows {
                bytes += relayed.bytes.len();
                news.push(News::Hashes(id, relayed.bytes.clone()));
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::tests::{PIECES, core, join};
    use crate::picker::PieceState;
    use crate::test_rng::TestRng;
    use crate::wire::Notices;

    fn growing() -> TorrentCore {
        let mut core = core();
        core.grows();
        core
    }

    fn join_own(core: &mut TorrentCore, id: u8) -> PeerKey {
        let key = join(core, id);
        core.peer_is_own(key, true);
        core.peer_takes(key, Notices::own());
        key
    }

    fn batch(byte: u8) -> Arc<[u8]> {
        Arc::from([byte; 300])
    }

    fn told(core: &mut TorrentCore, key: PeerKey) -> Vec<u8> {
        let bytes = |news| match news {
            News::Hashes(_, batch) => Some(batch[0]),
            _ => None,
        };
        core.catch_up(key).into_iter().filter_map(bytes).collect()
    }

    #[test]
    fn a_piece_is_asked_for_when_its_hash_is_known_and_somebody_has_it() {
        let mut core = growing();
        let peer = join_own(&mut core, 1);
        core.peer_has(peer, 3).unwrap();
        core.peer_has(peer, 4).unwrap();
        let mut rng = TestRng(1);
        assert_eq!(core.reserve(peer, Duration::ZERO, &mut rng), None);
        assert_eq!(core.picker().state(3), PieceState::HashUnknown);
        core.hashes_known(&[3, 5], batch(1), None);
        assert_eq!(core.picker().state(5), PieceState::NobodyHas);
        assert_eq!(core.reserve(peer, Duration::ZERO, &mut rng).map(|next| next.piece), Some(3));
        assert!(!core.is_complete() && core.is_interesting(peer));
    }

    #[test]
    fn hashes_go_to_all_of_our_own_but_to_who_has_brought_them_or_needs_none() {
        let mut core = growing();
        let (bringer, other, stranger) = (join_own(&mut core, 1), join_own(&mut core, 2), join(&mut core, 3));
        core.peer_takes(stranger, Notices::own());
        core.peer_has(other, 2).unwrap();
        core.hashes_known(&[1], batch(1), Some(bringer));
        core.hashes_known(&[2], batch(2), None);
        assert_eq!((told(&mut core, bringer), told(&mut core, other)), (vec![2], vec![1]));
        assert!(told(&mut core, stranger).is_empty() && !core.has_hashes_for(stranger));
        assert!(told(&mut core, bringer).is_empty() && !core.has_hashes_for(bringer));
        let late = join_own(&mut core, 4);
        assert!(core.has_hashes_for(late));
        assert_eq!(told(&mut core, late), [1, 2]);
        assert_eq!(core.batches(1).len(), 1);
    }

    #[test]
    fn who_has_not_said_yet_that_it_takes_hashes_gets_them_later() {
        let mut core = growing();
        core.hashes_known(&[1], batch(1), None);
        let key = join(&mut core, 1);
        assert!(told(&mut core, key).is_empty());
        core.peer_is_own(key, true);
        core.peer_takes(key, Notices::own());
        assert_eq!(told(&mut core, key), [1]);
    }

    #[test]
    fn a_newcomer_is_told_of_many_hashes_in_portions() {
        let mut core = growing();
        for piece in 0..PIECES {
            core.hashes_known(&[piece], Arc::from(vec![1; MAX_RELAYED / 2]), None);
        }
        let key = join_own(&mut core, 1);
        let mut portions = 0;
        while core.has_hashes_for(key) {
            assert!((1..=2).contains(&told(&mut core, key).len()));
            portions += 1;
        }
        assert_eq!(portions, PIECES.div_ceil(2));
    }
}
