//! `info` alone, as peers send it to who has a magnet link (BEP 9): all of a torrent but its piece layers (BEP 52), which are asked
//! for afterwards.

use std::collections::BTreeMap;

use super::error::MetainfoError;
use super::parse::{Layers, extents, parse};
use super::{Metainfo, Version};
use crate::bencode::Writer;
use crate::ids::{InfoHashV1, InfoHashV2};
use crate::limits::Limits;
use crate::merkle::{self, Hash};

/// A checked `info` whose piece layers are still to come.
#[derive(Debug, Clone)]
pub struct Info(Metainfo);

/// A piece layer that a torrent needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerShape {
    /// `pieces root` of the file.
    pub root: Hash,
    /// Hashes of the layer: pieces of the file.
    pub pieces: u64,
}

impl Info {
    /// Reads the raw `info` dictionary. Whether it is the right one is told by its hashes.
    pub fn parse(raw: &[u8], limits: &Limits) -> Result<Self, MetainfoError> {
        let mut writer = Writer::new();
        writer.dict(|dict| dict.entry("info").raw(raw));
        let metainfo = parse(&writer.into_bytes(), limits, Layers::ToCome)?;
        // Bytes behind the dictionary would be read as another key.
        if **metainfo.info_bytes() == *raw {
            Ok(Self(metainfo))
        } else {
            Err(MetainfoError::Invalid { key: "info" })
        }
    }

    /// The v1 infohash; `None` in a v2-only torrent.
    pub fn info_hash_v1(&self) -> Option<InfoHashV1> {
        self.0.info_hash_v1()
    }

    /// The v2 infohash; `None` in a v1-only torrent.
    pub fn info_hash_v2(&self) -> Option<InfoHashV2> {
        self.0.info_hash_v2()
    }

    /// Bytes of a piece.
    pub fn piece_length(&self) -> u64 {
        self.0.piece_length()
    }

    /// The layers that are missing: of each `pieces root` of a file that is longer than a piece, ascending.
    pub fn layers(&self) -> Vec<LayerShape> {
        let long = self.0.files.iter().filter(|file| file.size > self.piece_length());
        let shapes =
            long.filter_map(|file| Some((file.pieces_root?, file.size.div_ceil(self.piece_length()))));
        let once: BTreeMap<Hash, u64> = shapes.collect();
        once.into_iter().map(|(root, pieces)| LayerShape { root, pieces }).collect()
    }

    /// The torrent, with all its layers. Each is checked.
    pub fn complete(self, mut layers: BTreeMap<Hash, Vec<Hash>>) -> Result<Metainfo, MetainfoError> {
        let height = merkle::piece_layer(self.piece_length());
        let mut checked = BTreeMap::new();
        for file in self.0.files.iter().filter(|file| file.size > self.0.piece_length()) {
            let Some(root) = file.pieces_root.filter(|root| !checked.contains_key(root)) else { continue };
            let layer = layers.remove(&root).ok_or_else(|| MetainfoError::LayerMissing(file.path.clone()))?;
            let pieces = file.size.div_ceil(self.piece_length());
            if layer.len() as u64 != pieces || merkle::root(&layer, height) != root {
                return Err(MetainfoError::LayerWrong(hex::encode(root)));
            }
            checked.insert(root, layer.into());
        }
        Ok(self.with(checked))
    }

    /// The torrent of a hybrid whose layers nobody has: pieces of files that are longer than one are proved by SHA-1. `None` if there
    /// is no v1 side to prove them by.
    pub fn without_layers(self) -> Option<Metainfo> {
        (self.0.version() != Version::V2 || self.layers().is_empty()).then_some(self.0)
    }

    fn with(self, layers: BTreeMap<Hash, std::sync::Arc<[Hash]>>) -> Metainfo {
        let mut metainfo = self.0;
        metainfo.pieces.extents = extents(&metainfo.files, &layers, metainfo.pieces.piece_length);
        metainfo.layers = layers;
        metainfo
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, RelPath};

    /// Four files, of which the first and the last are the same.
    fn made(version: Version) -> Metainfo {
        let files: Vec<Vec<u8>> = [100_000, 10, 16 << 10, 100_000].map(|size| vec![1; size]).to_vec();
        let names = ["a", "b", "c", "d"].iter().zip(&files);
        let names = names.map(|(name, bytes)| (RelPath::parse(name).unwrap(), bytes.len() as u64)).collect();
        let plan = Builder::new(version, 16 << 10).unwrap().plan(names).unwrap();
        let map = plan.pieces();
        let hash = |piece| {
            let mut hasher = map.hasher(piece, map.sides());
            for part in map.segments(piece) {
                hasher.update(&files[part.file][part.offset_in_file as usize..][..part.len as usize]);
            }
            hasher.finish()
        };
        let hashes: Vec<_> = (0..map.count()).map(hash).collect();
        plan.finish(&hashes, None).unwrap()
    }

    fn layers(metainfo: &Metainfo) -> BTreeMap<Hash, Vec<Hash>> {
        let roots = metainfo.files().iter().filter_map(|file| file.pieces_root);
        roots.filter_map(|root| Some((root, metainfo.layer(&root)?.to_vec()))).collect()
    }

    #[test]
    fn info_and_its_layers_make_the_torrent() {
        for version in [Version::V1, Version::V2, Version::Hybrid] {
            let whole = made(version);
            let info = Info::parse(whole.info_bytes(), &Limits::FOREIGN).unwrap();
            // Two files with the same bytes have one layer.
            assert_eq!(info.layers().len(), usize::from(version.has_v2()));
            let again = info.complete(layers(&whole)).unwrap();
            assert_eq!(again.encode(), whole.encode());
            for piece in 0..whole.pieces().count() {
                assert_eq!(again.pieces().v2_hash(piece), whole.pieces().v2_hash(piece));
            }
        }
    }

    #[test]
    fn wrong_and_missing_layers_are_refused() {
        let whole = made(Version::V2);
        let info = Info::parse(whole.info_bytes(), &Limits::FOREIGN).unwrap();
        let missing = info.clone().complete(BTreeMap::new());
        assert!(matches!(missing, Err(MetainfoError::LayerMissing(_))));
        for spoil in [|layer: &mut Vec<Hash>| layer[0][0] ^= 1, |layer: &mut Vec<Hash>| layer.truncate(1)] {
            let mut layers = layers(&whole);
            layers.values_mut().for_each(spoil);
            assert!(matches!(info.clone().complete(layers), Err(MetainfoError::LayerWrong(_))));
        }
        assert!(info.without_layers().is_none());
    }

    #[test]
    fn a_hybrid_without_layers_is_proved_by_v1() {
        let whole = made(Version::Hybrid);
        let metainfo = Info::parse(whole.info_bytes(), &Limits::FOREIGN).unwrap().without_layers().unwrap();
        assert_eq!(metainfo.wire_ids(), whole.wire_ids());
        let mut piece = metainfo.pieces().verifier(0).unwrap();
        piece.feed(0, &[1; 16 << 10]).unwrap();
        assert!(piece.finish());
        assert!(metainfo.pieces().v2_hash(0).is_none());
        // A file of one piece needs no layer.
        let single = metainfo.pieces().of_file(1).start;
        assert_eq!(metainfo.pieces().v2_hash(single), whole.pieces().v2_hash(single));
    }

    #[test]
    fn bytes_behind_info_are_refused() {
        let whole = made(Version::V1);
        for more in [&b"7:privatei1e"[..], b"i1e", b"e"] {
            let raw = [whole.info_bytes(), more].concat();
            assert!(Info::parse(&raw, &Limits::FOREIGN).is_err(), "{more:?}");
        }
        assert!(Info::parse(b"", &Limits::FOREIGN).is_err());
        assert!(Info::parse(b"i1e", &Limits::FOREIGN).is_err());
    }
}
