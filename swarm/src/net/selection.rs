//! Which files of a torrent are fetched.

use std::collections::BTreeSet;
use std::path::PathBuf;

use torrent::Metainfo;

use crate::bitfield::Bitfield;

/// Some files of a torrent.
///
/// A piece of a v1 torrent can hold the end of a file that is wanted and the start of one that is not. It is fetched whole, since only
/// a whole piece verifies, can be served, and is recognised by the next start. What belongs to the other file goes into it if it is there
/// with its full size, and else into `parts`: nobody is to take a file of holes for a download. libtorrent keeps such a file too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Indices into [`Metainfo::files`].
    pub files: BTreeSet<usize>,
    /// A sparse file, made when it is needed: what belongs to files that are not selected, where it lies in piece space. Whoever
    /// adds the torrent removes it when the torrent has ended.
    pub parts: PathBuf,
}

impl Selection {
    /// The pieces that hold bytes of these files.
    pub fn pieces(&self, metainfo: &Metainfo) -> Bitfield {
        let mut pieces = Bitfield::new(metainfo.pieces().count());
        for piece in self.files.iter().flat_map(|file| metainfo.pieces().of_file(*file)) {
            pieces.insert(piece);
        }
        pieces
    }
}
