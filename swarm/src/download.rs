//! What one connection is fetching: its reserved pieces, the requests that are out, and how many there should be.
//!
//! Pure: the driver feeds it messages and the time, and sends what it asks to send. Outstanding requests are about
//! twice rate times round trip, with a small floor: towards a slow seed a deep queue only fixes early which pieces come
//! from it, when other peers could have had them sooner. They go out several at a time: a message for each block costs both sides a wake-up.

use std::collections::VecDeque;
use std::time::Duration;

use crate::assembly::{Assembly, Keep, Leaf, Put};
use crate::rate::Rate;
use crate::wire::{BLOCK, Block};

/// Requests kept out at least, so that a fast link starts fast: 128 KiB.
const MIN_OUTSTANDING: usize = 8;
/// Requests kept out at most: 8 MiB.
const MAX_OUTSTANDING: usize = 512;
/// What peers that say nothing take in requests (BEP 10's `reqq` default in the field).
pub const DEFAULT_REQQ: usize = 250;
/// Data that the queue covers whatever the round trip, so that wake-ups of a loaded machine do not empty it.
const COVER: Duration = Duration::from_millis(60);
/// A peer that owes blocks and has sent none for so long is snubbing us (T40).
pub const SNUB_AFTER: Duration = Duration::from_secs(10);
/// A block that was asked for and taken back may still arrive; so many are forgiven (T29).
const FORGIVEN: u32 = 2048;

/// A request that is out.
#[derive(Debug, Clone, Copy)]
struct Outstanding {
    block: Block,
    since: Duration,
}

/// One reserved piece and which of its blocks have been asked for.
#[derive(Debug)]
struct InFlight<B, P> {
    assembly: Assembly<B, P>,
    asked: Vec<bool>,
}

/// What an arriving block did.
#[derive(Debug)]
pub enum Arrival<B, P> {
    /// One block of a piece that is not complete yet.
    Block,
    /// The last block of a piece: it is no longer in flight here.
    Complete(Assembly<B, P>),
    /// One block of a piece whose blocks are proved as they come.
    Proved,
    /// It is not what its proof says; the piece is still in flight.
    Wrong(Leaf),
    /// Nobody asked, or no longer; dropped (T28, T29).
    Unwanted,
    /// So much that nobody asked for that the connection should end (T28).
    Flood,
}

/// The downloading side of a connection; `B` is the buffer type, `P` names the peer.
#[derive(Debug)]
pub struct Download<B, P> {
    peer: P,
    pieces: Vec<InFlight<B, P>>,
    outstanding: VecDeque<Outstanding>,
    rate: Rate,
    round_trip: Option<Duration>,
    reqq: usize,
    last_block: Duration,
    unwanted: u32,
    forgiven: u32,
}

impl<B: Keep, P: Copy + PartialEq> Download<B, P> {
    /// Nothing in flight.
    pub fn new(peer: P, now: Duration) -> Self {
        Self {
            peer,
            pieces: Vec::new(),
            outstanding: VecDeque::new(),
            rate: Rate::new(now),
            round_trip: None,
            reqq: DEFAULT_REQQ,
            last_block: now,
            unwanted: 0,
            forgiven: FORGIVEN,
        }
    }

    /// The peer has said how many requests it takes.
    pub fn set_reqq(&mut self, reqq: usize) {
        self.reqq = reqq.max(1);
    }

    /// Bytes per second over the last seconds.
    pub fn rate(&self, now: Duration) -> u64 {
        self.rate.per_second(now)
    }

    /// How many requests should be out at most.
    pub fn target(&self, now: Duration) -> usize {
        let round_trips = self.round_trip.unwrap_or_default() * 2;
        let bytes = self.rate.per_second(now) as f64 * (round_trips + COVER).as_secs_f64();
        (bytes as usize / BLOCK as usize).clamp(MIN_OUTSTANDING, MAX_OUTSTANDING).min(self.reqq)
    }

    /// How many requests are out.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// The pieces in flight.
    pub fn pieces(&self) -> impl Iterator<Item = u32> + '_ {
        self.pieces.iter().map(|p| p.assembly.piece())
    }

    /// A piece in flight.
    pub fn piece_mut(&mut self, piece: u32) -> Option<&mut Assembly<B, P>> {
        self.pieces
            .iter_mut()
            .map(|in_flight| &mut in_flight.assembly)
            .find(|assembly| assembly.piece() == piece)
    }

    /// Takes a reserved piece in; parts of it may be there already.
    pub fn add(&mut self, assembly: Assembly<B, P>, now: Duration) {
        if self.outstanding.is_empty() {
            self.last_block = now;
        }
        let asked = (0..assembly.block_count()).map(|i| assembly.has(i)).collect();
        self.pieces.push(InFlight { assembly, asked });
    }

    /// When a quarter of the target is answered, asks for blocks up to the target, which are added to `requests`; says whether there is
    /// room for another piece.
    pub fn fill(&mut self, now: Duration, requests: &mut Vec<Block>) -> bool {
        let target = self.target(now);
        if requests.is_empty() && self.outstanding.len() > target - target / 4 {
            return false;
        }
        if self.outstanding.is_empty() {
            self.last_block = now;
        }
        for piece in &mut self.pieces {
            for index in 0..piece.assembly.block_count() {
                if self.outstanding.len() >= target {
                    return false;
                }
                if !piece.asked[index as usize] {
                    piece.asked[index as usize] = true;
                    let block = piece.assembly.block(index);
                    self.outstanding.push_back(Outstanding { block, since: now });
                    requests.push(block);
                }
            }
        }
        self.outstanding.len() < target
    }

    /// A PIECE message.
    pub fn arrived(&mut self, piece: u32, begin: u32, data: &[u8], now: Duration) -> Arrival<B, P> {
        let asked = self.outstanding.iter().position(|o| {
            o.block.piece == piece && o.block.begin == begin && o.block.len as usize == data.len()
        });
        let Some(at) = asked else {
            return self.unwanted();
        };
        if let Some(request) = self.outstanding.remove(at) {
            let waited = now.saturating_sub(request.since);
            self.round_trip = Some(self.round_trip.map_or(waited, |best| best.min(waited)));
        }
        self.last_block = now;
        self.rate.add(data.len() as u64, now);
        let Some(slot) = self.pieces.iter().position(|p| p.assembly.piece() == piece) else {
            return Arrival::Unwanted;
        };
        match self.pieces[slot].assembly.put(begin, data, self.peer) {
            Put::Accepted if self.pieces[slot].assembly.is_proved() => Arrival::Proved,
            Put::Accepted => Arrival::Block,
            Put::Wrong(leaf) => Arrival::Wrong(leaf),
            Put::Complete => Arrival::Complete(self.pieces.swap_remove(slot).assembly),
            Put::Duplicate | Put::NotABlock => Arrival::Unwanted,
        }
    }

    fn unwanted(&mut self) -> Arrival<B, P> {
        self.unwanted += 1;
        if self.unwanted > self.forgiven { Arrival::Flood } else { Arrival::Unwanted }
    }

    /// The peer will not send this block: it may be asked for again.
    pub fn rejected(&mut self, block: Block) -> bool {
        let Some(at) = self.outstanding.iter().position(|o| o.block == block) else {
            return false;
        };
        self.outstanding.remove(at);
        if let Some(piece) = self.pieces.iter_mut().find(|p| p.assembly.piece() == block.piece) {
            piece.asked[(block.begin / BLOCK) as usize] = false;
        }
        true
    }

    /// The peer choked us without the fast extension: everything that is out is forgotten.
    pub fn choked(&mut self) {
        // Some of it may be on its way.
        self.forgiven += self.outstanding.len() as u32;
        self.outstanding.clear();
        for piece in &mut self.pieces {
            for (index, asked) in piece.asked.iter_mut().enumerate() {
                *asked = piece.assembly.has(index as u32);
            }
        }
    }

    /// Gives a piece up: what is there of it, and the requests to cancel.
    pub fn give_up(&mut self, piece: u32) -> Option<(Assembly<B, P>, Vec<Block>)> {
        let slot = self.pieces.iter().position(|p| p.assembly.piece() == piece)?;
        let assembly = self.pieces.swap_remove(slot).assembly;
        let mut cancelled = Vec::new();
        self.outstanding.retain(|o| {
            if o.block.piece == piece {
                cancelled.push(o.block);
            }
            o.block.piece != piece
        });
        self.forgiven += cancelled.len() as u32;
        Some((assembly, cancelled))
    }

    /// For so long nothing was taken from the peer, so that its silence means nothing.
    pub fn looked_away(&mut self, time: Duration) {
        self.last_block += time;
    }

    /// Whether the peer owes us blocks and sends none.
    pub fn is_snubbed(&self, now: Duration) -> bool {
        !self.outstanding.is_empty() && now.saturating_sub(self.last_block) > SNUB_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn download(pieces: &[u32]) -> Download<Vec<u8>, u8> {
        let mut download = Download::new(1, Duration::ZERO);
        for &piece in pieces {
            download.add(Assembly::new(piece, 16 * BLOCK, vec![0; 16 * BLOCK as usize]), Duration::ZERO);
        }
        download
    }

    #[test]
    fn requests_go_out_several_at_a_time_and_never_run_out() {
        let mut download = download(&[3, 4]);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        assert!(!download.fill(SECOND, &mut first));
        assert_eq!(first.len(), MIN_OUTSTANDING);
        let data = [5; BLOCK as usize];
        // So slow that the target stays what it is.
        for (block, at) in first.iter().zip(2..) {
            assert!(matches!(download.arrived(3, block.begin, &data, at * SECOND), Arrival::Block));
            let out = download.outstanding();
            second.clear();
            download.fill(at * SECOND, &mut second);
            let quarter = MIN_OUTSTANDING / 4;
            let is_due = out == MIN_OUTSTANDING - quarter;
            assert!(out >= MIN_OUTSTANDING - quarter && second.len() == if is_due { quarter } else { 0 });
        }
    }

    #[test]
    fn requests_run_over_pieces_and_a_fast_peer_is_asked_for_more() {
        let mut download = download(&[3]);
        let mut requests = Vec::new();
        assert!(!download.fill(SECOND, &mut requests));
        let (data, asked) = ([5; BLOCK as usize], requests.len());
        for block in requests.drain(..) {
            assert!(matches!(download.arrived(block.piece, block.begin, &data, SECOND), Arrival::Block));
        }
        // So much at once is a fast peer: the rest of the piece is asked for, and there is room for more.
        assert_eq!(download.fill(SECOND, &mut requests), requests.len() < download.target(SECOND));
        assert_eq!(requests.len(), 16 - asked);
        assert_eq!(requests[0].begin, asked as u32 * BLOCK);
    }

    #[test]
    fn no_more_is_asked_of_a_peer_than_it_takes() {
        let mut download = download(&[3]);
        download.set_reqq(2);
        let mut requests = Vec::new();
        assert!(!download.fill(SECOND, &mut requests));
        assert_eq!(requests.len(), 2);
    }

    #[test]
    fn the_last_block_hands_the_piece_over() {
        let mut download = Download::new(1, Duration::ZERO);
        download.add(Assembly::new(0, 10, vec![0; 10]), Duration::ZERO);
        let mut requests = Vec::new();
        assert!(download.fill(SECOND, &mut requests));
        let Arrival::Complete(piece) = download.arrived(0, 0, &[1; 10], SECOND) else {
            panic!("one block is the whole piece");
        };
        assert_eq!(piece.buffer().as_slice(), [1; 10]);
        assert_eq!(download.pieces().count(), 0);
    }

    #[test]
    fn t028_nobody_asked() {
        let mut download = download(&[3]);
        assert!(matches!(download.arrived(3, 0, &[0; BLOCK as usize], SECOND), Arrival::Unwanted));
        let mut requests = Vec::new();
        download.fill(SECOND, &mut requests);
        assert!(matches!(download.arrived(3, 0, &[0; 17], SECOND), Arrival::Unwanted));
        for _ in 0..FORGIVEN {
            download.arrived(9, 0, &[0; 17], SECOND);
        }
        assert!(matches!(download.arrived(9, 0, &[0; 17], SECOND), Arrival::Flood));
    }

    #[test]
    fn t029_a_cancelled_block_that_comes_late_is_dropped() {
        let mut download = download(&[3]);
        let mut requests = Vec::new();
        download.fill(SECOND, &mut requests);
        let (_, cancelled) = download.give_up(3).unwrap();
        assert_eq!(cancelled, requests);
        assert!(matches!(download.arrived(3, 0, &[0; BLOCK as usize], SECOND), Arrival::Unwanted));
    }

    #[test]
    fn rejected_and_choked_blocks_are_asked_for_again() {
        let mut download = download(&[3]);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        download.fill(SECOND, &mut first);
        for block in &first[2..6] {
            assert!(download.rejected(*block));
            assert!(!download.rejected(*block));
        }
        download.fill(SECOND, &mut second);
        assert_eq!(second, first[2..6]);
        download.choked();
        assert_eq!(download.outstanding(), 0);
        second.clear();
        download.fill(SECOND, &mut second);
        assert_eq!(second, first);
    }

    #[test]
    fn t040_a_peer_that_owes_and_is_silent_snubs() {
        let mut download = download(&[3]);
        assert!(!download.is_snubbed(100 * SECOND));
        download.fill(SECOND, &mut Vec::new());
        assert!(!download.is_snubbed(9 * SECOND));
        assert!(download.is_snubbed(12 * SECOND));
    }

    #[test]
    fn t040_who_chokes_for_long_and_then_unchokes_does_not_snub() {
        let mut download = download(&[3]);
        download.fill(SECOND, &mut Vec::new());
        download.choked();
        download.fill(60 * SECOND, &mut Vec::new());
        assert!(!download.is_snubbed(69 * SECOND));
        assert!(download.is_snubbed(71 * SECOND));
    }

    #[test]
    fn t040_time_in_which_we_did_not_listen_is_no_silence() {
        let mut download = download(&[3]);
        download.fill(SECOND, &mut Vec::new());
        download.looked_away(30 * SECOND);
        assert!(!download.is_snubbed(40 * SECOND));
        assert!(download.is_snubbed(42 * SECOND));
    }

    #[test]
    fn t029_blocks_that_were_on_their_way_when_the_peer_choked_are_forgiven() {
        let mut download = download(&[3]);
        let mut requests = Vec::new();
        download.fill(SECOND, &mut requests);
        download.choked();
        let data = [0; BLOCK as usize];
        for _ in 0..FORGIVEN as usize + requests.len() {
            assert!(matches!(download.arrived(3, 0, &data, SECOND), Arrival::Unwanted));
        }
        assert!(matches!(download.arrived(3, 0, &data, SECOND), Arrival::Flood));
    }
}
