//! Torrents of given bytes for tests.

use std::sync::Arc;

use torrent::{Builder, Metainfo, RelPath, Version};

/// The torrent of these files, which are called `0`, `1` and so on.
pub(crate) fn of(version: Version, piece_length: u64, files: &[Vec<u8>]) -> Arc<Metainfo> {
    let names = files.iter().enumerate();
    let names = names.map(|(i, bytes)| (RelPath::parse(&format!("{i}")).unwrap(), bytes.len() as u64));
    let plan = Builder::new(version, piece_length).unwrap().plan(names.collect()).unwrap();
    let hash = |piece| {
        let mut hasher = plan.pieces().hasher(piece, plan.pieces().sides());
        for part in plan.pieces().segments(piece) {
            hasher.update(&files[part.file][part.offset_in_file as usize..][..part.len as usize]);
        }
        hasher.finish()
    };
    let hashes: Vec<_> = (0..plan.pieces().count()).map(hash).collect();
    let digest = plan.needs_digest().then_some([0; 32]);
    Arc::new(plan.finish(&hashes, digest).unwrap())
}
