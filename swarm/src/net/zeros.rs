//! Pieces of zeros, which are known by their hashes: they are holes in their files, and asked of nobody.

use std::collections::BTreeSet;

use torrent::{PieceHashes, PieceMap, Sides};

use super::torrent::Torrent;

/// The wanted pieces of a torrent that are nothing but zeros, as long as a whole piece; those that are shorter are few. Their files are
/// made, full of holes, where they are not there: a file that is there may hold something else, so that the pieces have to be hashed.
pub fn zeros(torrent: &Torrent) -> Vec<u32> {
    let map = torrent.metainfo.pieces();
    let whole = (0..map.count()).find(|piece| u64::from(map.len(*piece)) == map.piece_length());
    let Some(zero) = whole.map(|piece| hash_of_zeros(map, piece)) else { return Vec::new() };
    let wanted = torrent.core().picker().lacking().clone();
    let is_whole = |piece: &u32| u64::from(map.len(*piece)) == map.piece_length();
    let zeros = wanted.iter().filter(|piece| is_whole(piece) && map.expected(*piece, sides(map)) == zero);
    let zeros: Vec<u32> = zeros.collect();
    let touched: BTreeSet<usize> = zeros.iter().flat_map(|piece| files(map, *piece)).collect();
    // Of its full size, by a write of nothing. One that cannot be made now is made, or complained of, when bytes come.
    let made = touched.into_iter().filter(|file| torrent.storage.write(*file, 0, &[]).is_ok());
    let made: BTreeSet<usize> = made.collect();
    zeros.into_iter().filter(|piece| files(map, *piece).all(|file| made.contains(&file))).collect()
}

fn files(map: &PieceMap, piece: u32) -> impl Iterator<Item = usize> + '_ {
    map.segments(piece).map(|segment| segment.file)
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
