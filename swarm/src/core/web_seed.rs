//! Web seeds (BEP 19) among the connections: sources that have everything and take nothing.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rand_core::RngCore;
use sha1::{Digest, Sha1};

use super::{Held, NewPeer, Peer, PeerKey, Refusal, Source, TorrentCore};
use crate::picker::PieceState;
use crate::wire::PeerId;

/// Where web seeds are for the torrent: a network in which nobody is (RFC 6666), so that no verdict on one hits a peer.
const NOWHERE: [u8; 8] = [0x01, 0, 0, 0, 0, 0, 0, 0];

/// How many pieces a web seed would like to reserve at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedRun {
    /// Up to so many neighbours, whoever else has them: they are worth the request that they save.
    pub least: u32,
    /// Up to so many as rare as the first one.
    pub most: u32,
}

/// Pieces that a web seed is to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservedRun {
    /// Which, one after the other.
    pub pieces: Vec<u32>,
    /// Another connection is at it too: end game. Then it is one.
    pub again: bool,
}

impl Source {
    /// The web seed at `url`, the same whenever it comes again.
    pub fn web_seed(url: &str) -> Self {
        let (mut id, mut ip) = ([0; 20], [0; 16]);
        id.copy_from_slice(&Sha1::digest(url));
        ip[..8].copy_from_slice(&NOWHERE);
        ip[8..].copy_from_slice(&id[..8]);
        Self { id: PeerId(id), ip: IpAddr::V6(Ipv6Addr::from(ip)) }
    }

    /// Whether it is a web seed, not a peer.
    pub fn is_web_seed(&self) -> bool {
        matches!(self.ip, IpAddr::V6(ip) if ip.octets()[..8] == NOWHERE)
    }
}

impl TorrentCore {
    /// The connections to peers: web seeds are none.
    pub fn connected_peers(&self) -> impl Iterator<Item = &Peer> + '_ {
        self.peers.values().filter(|peer| !peer.source.is_web_seed())
    }

    /// A web seed is about to be asked. [`Self::disconnected`] when it is not any more.
    pub fn web_seed_came(&mut self, source: Source, now: Duration) -> Result<PeerKey, Refusal> {
        if self.blame.is_banned(source) {
            return Err(Refusal::Banned);
        }
        if self.peers.values().any(|peer| peer.source == source) {
            return Err(Refusal::Duplicate);
        }
        let new = NewPeer { id: source.id, address: SocketAddr::new(source.ip, 0), outgoing: true };
        let key = self.admit_peer(new, now);
        // It cannot be too late: nothing was said before.
        self.peer_has_all(key, true).map(|()| key).map_err(|_| Refusal::Duplicate)
    }

    /// The pieces that a web seed should fetch next: the one that a peer would, and its neighbours that nobody is fetching.
    ///
    /// Runs lie on a grid of `most` pieces, so that they leave no holes behind that would each be a request.
    pub fn reserve_run(
        &mut self,
        begun: &[u32],
        key: PeerKey,
        wanted: WantedRun,
        now: Duration,
        rng: &mut impl RngCore,
    ) -> Option<ReservedRun> {
        let peer = self.peers.get(&key)?;
        let is_proved = peer.verified > 0;
        // One that has not proved itself yet may spoil one piece (T31).
        if !is_proved && !peer.held.is_empty() {
            return None;
        }
        let first = self.reserve_next(begun, key, now, rng)?;
        let pieces = if is_proved && !first.again {
            self.neighbours(first.piece, wanted)
        } else {
            first.piece..first.piece + 1
        };
        for piece in pieces.clone().filter(|piece| *piece != first.piece && self.picker.reserve_piece(*piece))
        {
            self.peers.get_mut(&key)?.held.push(Held { piece, since: now, coming: false });
        }
        Some(ReservedRun { pieces: pieces.collect(), again: first.again })
    }

    /// The open pieces around `first`, as many as are wanted.
    fn neighbours(&self, first: u32, wanted: WantedRun) -> std::ops::Range<u32> {
        let most = wanted.most.max(1);
        let cell = first / most * most;
        let cell = cell..cell.saturating_add(most).min(self.picker.have().len());
        let rarity = self.picker.copies(first);
        let fits = |piece: u32, len: u32| {
            let is_open = matches!(self.picker.state(piece), PieceState::Missing | PieceState::NobodyHas);
            is_open && (len < wanted.least || self.picker.copies(piece) <= rarity)
        };
        let mut run = first..first + 1;
        while run.end < cell.end && fits(run.end, run.end - run.start) {
            run.end += 1;
        }
        while run.start > cell.start && fits(run.start - 1, run.end - run.start) {
            run.start -= 1;
        }
        run
    }

    /// A web seed has come to this piece of its run: the time that it takes counts from now.
    pub fn begun(&mut self, key: PeerKey, piece: u32, now: Duration) {
        let held = self.peers.get_mut(&key).into_iter().flat_map(|peer| &mut peer.held);
        held.filter(|held| held.piece == piece).for_each(|held| held.since = now);
    }
}

#[cfg(test)]
mod tests {
    use torrent::WireId;

    use super::*;
    use crate::core::InnerId;
    use crate::test_rng::TestRng;

    const ZERO: Duration = Duration::ZERO;
    const WANTED: WantedRun = WantedRun { least: 2, most: 8 };

    fn core() -> TorrentCore {
        TorrentCore::new(InnerId([1; 32]), vec![WireId([2; 20])], 32, PeerId([5; 20]), 1)
    }

    fn proved() -> (TorrentCore, PeerKey) {
        let mut core = core();
        let key = core.web_seed_came(Source::web_seed("http://h/a"), ZERO).unwrap();
        core.handed_over(key, 0, &[], ZERO);
        core.arrived(0);
        (core, key)
    }

    fn peer(core: &mut TorrentCore, has: &[u32]) -> PeerKey {
        let address = SocketAddr::from(([10, 0, 0, 1], 6881));
        let (key, _) =
            core.connected(NewPeer { id: PeerId([7; 20]), address, outgoing: true }, ZERO).unwrap();
        for piece in has {
            core.peer_has(key, *piece).unwrap();
        }
        key
    }

    #[test]
    fn runs_fill_a_grid_without_holes() {
        let (mut core, key) = proved();
        let mut rng = TestRng(3);
        let mut runs = Vec::new();
        while let Some(run) = core.reserve_run(&[], key, WANTED, ZERO, &mut rng) {
            assert!(!run.again);
            runs.push((run.pieces[0], run.pieces.len()));
        }
        runs.sort_unstable();
        assert_eq!(runs, [(1, 7), (8, 8), (16, 8), (24, 8)]);
    }

    #[test]
    fn t031_the_first_run_is_one_piece_and_alone() {
        let mut core = core();
        let key = core.web_seed_came(Source::web_seed("http://h/a"), ZERO).unwrap();
        let mut rng = TestRng(3);
        assert_eq!(core.reserve_run(&[], key, WANTED, ZERO, &mut rng).unwrap().pieces.len(), 1);
        assert_eq!(core.reserve_run(&[], key, WANTED, ZERO, &mut rng), None);
    }

    #[test]
    fn what_a_peer_has_is_left_to_it_beyond_the_least() {
        let (mut core, key) = proved();
        let of_peer: Vec<u32> = (0..32).filter(|piece| *piece != 11).collect();
        peer(&mut core, &of_peer);
        let run = core.reserve_run(&[], key, WANTED, ZERO, &mut TestRng(3)).unwrap();
        assert_eq!(run.pieces, [11, 12]);
    }

    #[test]
    fn end_game_works_both_ways() {
        let (mut core, web) = proved();
        let mut rng = TestRng(3);
        while core.reserve_run(&[], web, WANTED, ZERO, &mut rng).is_some() {}
        let all: Vec<u32> = (0..32).collect();
        let peer = peer(&mut core, &all);
        let late = Duration::from_secs(30);
        assert_eq!(core.reserve(peer, ZERO, &mut rng), None);
        let again = core.reserve(peer, late, &mut rng).unwrap();
        assert!(again.again);
        core.arrived(again.piece);
        assert_eq!(core.superseded(web), [again.piece]);
        core.disconnected(web);
        let web = core.web_seed_came(Source::web_seed("http://h/a"), late).unwrap();
        core.release(peer, again.piece);
        let held = core.reserve(peer, late, &mut rng).unwrap();
        for piece in (0..32).filter(|piece| *piece != held.piece) {
            core.arrived(piece);
        }
        let run = core.reserve_run(&[], web, WANTED, late * 2, &mut rng).unwrap();
        assert_eq!(run, ReservedRun { pieces: vec![held.piece], again: true });
    }

    #[test]
    fn web_seeds_are_no_peers_and_take_no_place() {
        let (mut core, _) = proved();
        assert_eq!(core.connected_peers().count(), 0);
        peer(&mut core, &[]);
        assert_eq!(core.connected_peers().count(), 1);
        assert_eq!(core.web_seed_came(Source::web_seed("http://h/a"), ZERO), Err(Refusal::Duplicate));
        assert!(core.web_seed_came(Source::web_seed("http://h/b"), ZERO).is_ok());
    }

    #[test]
    fn one_that_lies_is_banned_and_others_are_not() {
        let mut core = core();
        let lies = Source::web_seed("http://h/lies");
        let key = core.web_seed_came(lies, ZERO).unwrap();
        let run = core.reserve_run(&[], key, WANTED, ZERO, &mut TestRng(3)).unwrap();
        core.failed(key, run.pieces[0], vec![(lies, [0; 32])]);
        assert!(core.is_doomed(key));
        core.disconnected(key);
        assert_eq!(core.web_seed_came(lies, ZERO), Err(Refusal::Banned));
        assert_eq!(core.banned(), 0, "it is no peer");
        assert!(core.web_seed_came(Source::web_seed("http://h/other"), ZERO).is_ok());
    }
}
