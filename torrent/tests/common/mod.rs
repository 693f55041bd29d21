//! Torrents of bytes in memory.

use torrent::{Builder, Metainfo, RelPath, Version};

/// A file: where it lies, what it holds.
pub type Content = (String, Vec<u8>);

/// All versions, for loops.
pub const VERSIONS: [Version; 3] = [Version::V1, Version::V2, Version::Hybrid];

/// A path that the test knows to be good.
pub fn path(path: &str) -> RelPath {
    RelPath::parse(path).expect("the test's paths are good")
}

/// The canonical torrent of some files, fed in pieces of an odd size.
pub fn build(version: Version, piece_length: u64, files: &[Content]) -> Metainfo {
    let mut builder = Builder::new(version, piece_length).expect("the test's piece length is good");
    let hashed = files.iter().map(|(name, bytes)| {
        let mut hasher = builder.file_hasher(files.len());
        bytes.chunks(7_001).for_each(|chunk| hasher.update(chunk));
        (path(name), hasher.finish())
    });
    let hashed: Vec<_> = hashed.collect();
    if builder.needs_v1_pass(files.len()) {
        let mut sorted: Vec<_> = files.iter().map(|(name, bytes)| (path(name), bytes)).collect();
        sorted.sort();
        let mut concatenation = builder.v1_hasher();
        for (_, bytes) in &sorted {
            concatenation.update(bytes);
        }
        builder = builder.v1_pieces(concatenation.finish());
    }
    builder.build(hashed).expect("the test's files make a torrent")
}

/// The bytes of a piece as peers exchange them, padding included.
pub fn piece(metainfo: &Metainfo, files: &[Content], index: u32) -> Vec<u8> {
    let mut bytes = vec![0; metainfo.pieces().padded_len(index) as usize];
    for segment in metainfo.pieces().segments(index) {
        let file = &metainfo.files()[segment.file];
        // A single file carries the canonical name, not the user's.
        let content = files.iter().find(|(name, _)| files.len() == 1 || *name == file.path.as_str());
        let content = &content.expect("every file of the torrent was given").1;
        let from = segment.offset_in_file as usize;
        let at = segment.offset_in_piece as usize;
        let len = segment.len as usize;
        bytes[at..at + len].copy_from_slice(&content[from..from + len]);
    }
    bytes
}

/// Bytes that differ from place to place, the same in every run.
pub fn pattern(len: u64) -> Vec<u8> {
    (0..len).map(|i| ((i * i + 7 * i) % 251) as u8).collect()
}
