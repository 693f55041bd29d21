//! Pieces of zeros, which are known by their hashes: they are holes in their files, and asked of nobody.

use std::collections::BTreeSet;

use torrent::{PieceHashes, PieceMap, Sides};

use super::torrent::Torrent;
use crate::bitfield::Bitfield;

/// The wanted pieces of a torrent that are nothing but zeros and not `known` to be here. Those that are shorter than a whole piece are few,
/// and one that lies in several files may be in the parts file, which is not made for nothing. Their files are made, full of holes,
/// where they are not there: a file that is there may hold something else, so that the pieces have to be hashed.
pub fn zeros(torrent: &Torrent, known: &Bitfield) -> Vec<u32> {
    let map = torrent.subject.pieces();
    let whole = (0..map.count()).find(|piece| u64::from(map.len(*piece)) == map.piece_length());
    let Some(zero) = whole.map(|piece| hash_of_zeros(map, piece)) else { return Vec::new() };
    let wanted = torrent.core().picker().lacking().without(known);
    let in_one_file = |piece: u32| {
        let mut segments = map.segments(piece);
        segments.next().filter(|_| segments.next().is_none()).map(|segment| (piece, segment.file))
    };
    let is_whole = |piece: &u32| u64::from(map.len(*piece)) == map.piece_length();
    let zeros =
        wanted.iter().filter(|piece| is_whole(piece) && torrent.subject.expected(*piece, sides(map)) == zero);
    let zeros: Vec<(u32, usize)> = zeros.filter_map(in_one_file).collect();
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
