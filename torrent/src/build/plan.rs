//! Torrents from pieces that are hashed in any order.

use super::info::Hashed;
use super::{BuildError, Builder};
use crate::limits::Limits;
use crate::merkle;
use crate::metainfo::{Metainfo, MetainfoError, Version};
use crate::path::{RelPath, check_paths};
use crate::piece_hash::{PieceHashes, Sides};
use crate::pieces::PieceMap;

impl Builder {
    /// The pieces that these files make, for hashing in any order. Sizes in bytes.
    pub fn plan(self, mut files: Vec<(RelPath, u64)>) -> Result<Plan, BuildError> {
        if files.is_empty() {
            return Err(BuildError::NoFiles);
        }
        files.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let padded = self.version == Version::Hybrid && self.is_tree(files.len());
        let sides = Sides { v1: self.version.has_v1(), v2: self.version.has_v2() };
        let lengths: Vec<u64> = files.iter().map(|(_, length)| *length).collect();
        let pieces = PieceMap::to_be_hashed(sides, padded, self.piece_length, &lengths)
            .ok_or(MetainfoError::TooLarge)?;
        let (count, limit) = (pieces.end.div_ceil(self.piece_length), Limits::OWN.pieces);
        if count > u64::from(limit) {
            return Err(MetainfoError::TooManyPieces { pieces: count, limit }.into());
        }
        check_paths(files.iter().map(|(path, _)| path)).map_err(MetainfoError::from)?;
        Ok(Plan { builder: self, files, pieces })
    }
}

/// The pieces of files whose paths and sizes are known and whose hashes are not yet.
///
/// ```
/// use torrent::{Builder, RelPath, Version};
///
/// let builder = Builder::new(Version::Hybrid, 16 * 1024)?.named("greetings")?.private(false);
/// let plan = builder.plan(vec![(RelPath::parse("a")?, 5), (RelPath::parse("b")?, 20_000)])?;
/// let content = [vec![b'a'; 5], vec![b'b'; 20_000]];
/// let mut hashes = Vec::new();
/// for piece in 0..plan.pieces().count() {
///     let mut hasher = plan.pieces().hasher(piece, plan.pieces().sides());
///     for segment in plan.pieces().segments(piece) {
///         let start = segment.offset_in_file as usize;
///         hasher.update(&content[segment.file][start..start + segment.len as usize]);
///     }
///     hashes.push(hasher.finish());
/// }
/// let metainfo = plan.finish(&hashes, None)?;
/// assert_eq!(metainfo.name(), "greetings");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Plan {
    builder: Builder,
    files: Vec<(RelPath, u64)>,
    pieces: PieceMap,
}

impl Plan {
    /// The files in torrent order: what [`crate::Segment::file`] counts.
    pub fn files(&self) -> &[(RelPath, u64)] {
        &self.files
    }

    /// Where pieces lie.
    pub fn pieces(&self) -> &PieceMap {
        &self.pieces
    }

    /// Whether the name depends on the SHA-256 of the one file, which [`Plan::finish`] needs then.
    pub fn needs_digest(&self) -> bool {
        self.builder.name.is_none() && self.files.len() == 1
    }

    /// The torrent, from the hashes of all pieces in their order. `digest`: see [`Plan::needs_digest`].
    pub fn finish(self, hashes: &[PieceHashes], digest: Option<[u8; 32]>) -> Result<Metainfo, BuildError> {
        let (sides, pieces) = (self.pieces.sides(), self.pieces.count() as usize);
        let complete =
            |hash: &PieceHashes| (hash.v1.is_some() || !sides.v1) && (hash.v2.is_some() || !sides.v2);
        if hashes.len() != pieces || !hashes.iter().all(complete) {
            return Err(BuildError::PiecesMissing { pieces });
        }
        let v1: Option<Vec<u8>> =
            sides.v1.then(|| hashes.iter().filter_map(|hash| hash.v1).flatten().collect());
        let files = self.files.into_iter().enumerate().map(|(index, (path, size))| {
            let range = self.pieces.of_file(index);
            let nodes = if sides.v2 { &hashes[range.start as usize..range.end as usize] } else { &[] };
            let nodes: Vec<merkle::Hash> = nodes.iter().filter_map(|hash| hash.v2).collect();
            match nodes.as_slice() {
                [] => Hashed { path, size, root: None, layer: nodes },
                [root] => Hashed { path, size, root: Some(*root), layer: Vec::new() },
                nodes => {
                    let root = merkle::root(nodes, merkle::piece_layer(self.builder.piece_length));
                    Hashed { path, size, root: Some(root), layer: nodes.to_vec() }
                }
            }
        });
        self.builder.write(files.collect(), v1.as_deref(), digest)
    }
}
