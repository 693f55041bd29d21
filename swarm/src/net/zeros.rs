//! Pieces of zeros, which are known by their hashes: they are holes in their files, and asked of nobody.

use torrent::{PieceHashes, PieceMap, Sides};

use super::torrent::Torrent;

/// The wanted pieces of a torrent that are nothing but zeros, as long as a whole piece; those that are shorter are few. Their files are
/// made, full of holes, where they are not there: a file that is there may hold something else, so that the pieces have to be hashed.
pub fn zeros(torrent: &Torrent) -> Vec<u32> {
    let map = torrent.metainfo.pieces();
    let whole = (0..map.count()).find(|piece| u64::from(map.len(*piece)) == map.piece_length());
    let Some(zero) = whole.map(|piece| hash_of_zeros(map, piece)) else { return Vec::new() };
    let wanted = torrent.core().picker().lacking().clone();
    let is_zero = |piece: &u32| {
        u64::from(map.len(*piece)) == map.piece_length() && map.expected(*piece, sides(map)) == zero
    };
    wanted.iter().filter(is_zero).filter(|piece| make_files(torrent, *piece)).collect()
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

/// Files are made, of their full size, by a write of nothing. One that cannot be made now is made, or complained of, when bytes come.
fn make_files(torrent: &Torrent, piece: u32) -> bool {
    let mut segments = torrent.metainfo.pieces().segments(piece);
    segments.all(|segment| torrent.storage.write(segment.file, 0, &[]).is_ok())
}
