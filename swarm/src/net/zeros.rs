//! Pieces of zeros, which are known by their hashes: they are holes in their files, and asked of nobody.

use std::collections::BTreeSet;

use torrent::{PieceHashes, PieceMap, Sides};

use super::torrent::Torrent;
use crate::bitfield::Bitfield;

/// How pieces of zeros are known. Those that are shorter than a whole piece are few, and one that lies in several files may be in the
/// parts file, which is not made for nothing.
pub struct Zeros<'a> {
    torrent: &'a Torrent,
    /// Of a whole piece; `None` if there is none.
    zero: Option<PieceHashes>,
}

impl<'a> Zeros<'a> {
    /// Those of a torrent.
    pub fn of(torrent: &'a Torrent) -> Self {
        let map = torrent.subject.pieces();
        let whole = (0..map.count()).find(|piece| u64::from(map.len(*piece)) == map.piece_length());
        Self { torrent, zero: whole.map(|piece| hash_of_zeros(map, piece)) }
    }

    /// The file that a piece lies in, if it is one of them.
    pub fn file(&self, piece: u32) -> Option<usize> {
        let map = self.torrent.subject.pieces();
        let zero = self.zero.as_ref().filter(|_| u64::from(map.len(piece)) == map.piece_length())?;
        let mut segments = map.segments(piece);
        let only = segments.next().filter(|_| segments.next().is_none())?;
        (self.torrent.subject.expected(piece, sides(map)) == *zero).then_some(only.file)
    }
}

/// The wanted pieces of a torrent that are nothing but zeros and not `known` to be here. Their files are made, full of holes,
/// where they are not there: a file that is there may hold something else, so that the pieces have to be hashed.
pub fn zeros(torrent: &Torrent, known: &Bitfield) -> Vec<u32> {
    let wanted = torrent.core().picker().lacking().without(known);
    let all = Zeros::of(torrent);
    let zeros: Vec<(u32, usize)> =
        wanted.iter().filter_map(|piece| Some((piece, all.file(piece)?))).collect();
    let touched: BTreeSet<usize> = zeros.iter().map(|(_, file)| *file).collect();
    // Of its full size, by a write of nothing. One that cannot be made now is made, or complained of, when bytes come.
    let made = touched.into_iter().filter(|file| torrent.storage.write(*file, 0, &[]).is_ok());
    let made: BTreeSet<usize> = made.collect();
    zeros.into_iter().filter(|(_, file)| made.contains(file)).map(|(piece, _)| piece).collect()
}

/// The side that proves pieces.
fn sides(map: &PieceMap) -> Sides {
    Sides { v1: !map.sides().v2, v2: map.sides().v2 }
}

fn hash_of_zeros(map: &PieceMap, piece: u32) -> PieceHashes {
    let mut hasher = map.hasher(piece, sides(map));
    hasher.update_zeros(map.len(piece));
    hasher.finish()
}
