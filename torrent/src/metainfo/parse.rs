//! From bytes to a checked [`Metainfo`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::MetainfoError;
use super::outer::Outer;
use super::v1::{self, V1Files};
use super::v2;
use super::{File, Metainfo, Version};
use crate::bencode::{self, Selected, Value};
use crate::ids::{InfoHashV1, InfoHashV2};
use crate::limits::{Limits, MAX_PIECE_LENGTH, MIN_PIECE_LENGTH};
use crate::merkle::Hash;
use crate::path::{RelPath, check_paths};
use crate::pieces::{Extent, PieceMap, Tree, V1Side};

/// What is read of the outer dictionary, and of `info`.
const TOP: &[&str] = &[
    "announce",
    "announce-list",
    "comment",
    "created by",
    "creation date",
    "httpseeds",
    "info",
    "piece layers",
    "url-list",
];
const INFO: &[&str] = &[
    "attr",
    "file tree",
    "files",
    "length",
    "meta version",
    "name",
    "piece length",
    "pieces",
    "private",
    "source",
    "symlink path",
];

/// Whether `piece layers` is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layers {
    /// With all that the files need: a .torrent.
    Here,
    /// Not yet: `info` came alone.
    ToCome,
}

pub(super) fn parse(bytes: &[u8], limits: &Limits, layers: Layers) -> Result<Metainfo, MetainfoError> {
    let top = bencode::decode(bytes, &limits.bencode)?;
    let top = top.as_dict().ok_or(MetainfoError::Invalid { key: "info" })?.select(TOP);
    let info = top.get("info").ok_or(MetainfoError::Missing { key: "info" })?;
    let info = &info.as_dict().ok_or(MetainfoError::Invalid { key: "info" })?.select(INFO);

    let version = version(info)?;
    let name = name(info)?;
    let piece_length = piece_length(info)?;
    let v1 = if version.has_v1() { Some(v1::read(info, &name, piece_length)?) } else { None };
    let v2 = if version.has_v2() { Some(file_tree(info, piece_length)?) } else { None };

    let single_file = match (&v1, &v2) {
        (Some(v1), _) => v1.single,
        (None, Some(files)) => files.len() == 1 && files[0].path == name,
        (None, None) => false,
    };
    let v1_total = v1.as_ref().map(|v1| v1.total);
    let files = match (v1, v2) {
        (Some(v1), Some(v2)) => same_files(&v1, v2)?,
        (v1, v2) => v2.or(v1.map(|v1| v1.files)).unwrap_or_default(),
    };
    check_paths(files.iter().map(|file| &file.path))?;

    let end = piece_space(v1_total, version.has_v2(), &files, piece_length)?;
    let pieces = end.div_ceil(piece_length);
    if pieces > u64::from(limits.pieces) {
        return Err(MetainfoError::TooManyPieces { pieces, limit: limits.pieces });
    }
    let layers = if version.has_v2() && layers == Layers::Here {
        v2::read_layers(top.get("piece layers"), &files, piece_length)?
    } else {
        BTreeMap::new()
    };
    let raw: Arc<[u8]> = info.dict().raw().into();
    let v1_side = if version.has_v1() { Some(v1_hashes(info, &raw, pieces)?) } else { None };
    let extents = extents(&files, &layers, piece_length);
    Ok(Metainfo {
        info_hash_v1: version.has_v1().then(|| InfoHashV1::of(&raw)),
        info_hash_v2: version.has_v2().then(|| InfoHashV2::of(&raw)),
        private: info.get("private").and_then(|private| private.as_int()) == Some(1),
        source: info.get("source").and_then(|source| source.as_str()).map(str::to_owned),
        outer: Outer::read(&top, own_keys(&layers))?,
        pieces: PieceMap { piece_length, end, extents, v1: v1_side, v2: version.has_v2() },
        info: raw,
        version,
        name,
        single_file,
        files,
        layers,
    })
}

/// Where the files that have bytes lie in piece space. A file whose layer is not known has no tree: only v1 can prove its pieces.
pub(super) fn extents(
    files: &[File],
    layers: &BTreeMap<Hash, Arc<[Hash]>>,
    piece_length: u64,
) -> Vec<Extent> {
    let tree = |file: &File| {
        let root = file.pieces_root?;
        let layer = layers.get(&root).cloned();
        (layer.is_some() || file.size <= piece_length).then(|| Box::new(Tree { root, layer }))
    };
    let mut extents = Vec::with_capacity(files.iter().filter(|file| file.size > 0).count());
    extents.extend(files.iter().enumerate().filter(|(_, file)| file.size > 0).map(|(index, file)| Extent {
        file: index,
        start: file.offset,
        size: file.size,
        tree: tree(file),
    }));
    extents
}

/// What is not kept as it was read: `info` has a place of its own, and layers are checked. Without layers there may be an empty
/// dictionary or none.
fn own_keys(layers: &BTreeMap<Hash, Arc<[Hash]>>) -> &'static [&'static [u8]] {
    if layers.is_empty() { &[b"info"] } else { &[b"info", b"piece layers"] }
}

/// Which sides `info` has; an unknown `meta version` is refused before anything else is looked at (BEP 52).
fn version(info: &Selected<'_>) -> Result<Version, MetainfoError> {
    let v2 = match info.get("meta version") {
        None => false,
        Some(Value::Int(2)) => true,
        Some(Value::Int(other)) => return Err(MetainfoError::MetaVersion(other)),
        Some(_) => return Err(MetainfoError::Invalid { key: "meta version" }),
    };
    match (v2, info.get("pieces").is_some()) {
        (true, true) => Ok(Version::Hybrid),
        (true, false) if info.get("files").is_some() || info.get("length").is_some() => {
            Err(MetainfoError::Missing { key: "pieces" })
        }
        (true, false) => Ok(Version::V2),
        (false, true) => Ok(Version::V1),
        (false, false) => Err(MetainfoError::Missing { key: "pieces" }),
    }
}

fn name(info: &Selected<'_>) -> Result<RelPath, MetainfoError> {
    let name = info.get("name").ok_or(MetainfoError::Missing { key: "name" })?;
    let name = name.as_bytes().ok_or(MetainfoError::Invalid { key: "name" })?;
    RelPath::from_components([name])
        .map_err(|error| MetainfoError::Path { path: super::error::shown(&[name]), error })
}

fn piece_length(info: &Selected<'_>) -> Result<u64, MetainfoError> {
    let length = info.get("piece length").ok_or(MetainfoError::Missing { key: "piece length" })?;
    let length = length.as_int().ok_or(MetainfoError::Invalid { key: "piece length" })?;
    u64::try_from(length)
        .ok()
        .filter(|length| length.is_power_of_two() && (MIN_PIECE_LENGTH..=MAX_PIECE_LENGTH).contains(length))
        .ok_or(MetainfoError::PieceLength(length))
}

fn file_tree(info: &Selected<'_>, piece_length: u64) -> Result<Vec<File>, MetainfoError> {
    let tree = info.get("file tree").ok_or(MetainfoError::Missing { key: "file tree" })?;
    v2::read_tree(tree.as_dict().ok_or(MetainfoError::Invalid { key: "file tree" })?, piece_length)
}

/// The files of a hybrid, if both sides describe the same ones at the same places.
fn same_files(v1: &V1Files, v2: Vec<File>) -> Result<Vec<File>, MetainfoError> {
    let differ = |what: String| Err(MetainfoError::SidesDiffer(what));
    if v1.files.len() != v2.len() {
        return differ(format!("{} files and {}", v1.files.len(), v2.len()));
    }
    for (a, b) in v1.files.iter().zip(&v2) {
        if a.path != b.path {
            return differ(format!("{:?} and {:?}", a.path, b.path));
        }
        if a.size != b.size {
            return differ(format!("{:?} has {} bytes and {}", a.path, a.size, b.size));
        }
        if a.size > 0 && a.offset != b.offset {
            return differ(format!("{:?} does not start on a piece", a.path));
        }
    }
    Ok(v2)
}

/// The end of piece space: of the last file, or of the padding behind it that only v1 writes down.
fn piece_space(
    v1_total: Option<u64>,
    v2: bool,
    files: &[File],
    piece_length: u64,
) -> Result<u64, MetainfoError> {
    let payload = files.last().map_or(0, |file| file.offset + file.size);
    let padded = payload.checked_next_multiple_of(piece_length);
    if padded.is_none_or(|padded| i64::try_from(padded).is_err()) {
        return Err(MetainfoError::TooLarge);
    }
    let Some(total) = v1_total else { return Ok(payload) };
    if v2 && total.div_ceil(piece_length) != payload.div_ceil(piece_length) {
        return Err(MetainfoError::SidesDiffer("another number of pieces".to_owned()));
    }
    Ok(total)
}

/// Where in the raw `info` the SHA-1 hashes lie.
fn v1_hashes(info: &Selected<'_>, raw: &Arc<[u8]>, pieces: u64) -> Result<V1Side, MetainfoError> {
    let hashes = info.get("pieces").ok_or(MetainfoError::Missing { key: "pieces" })?;
    let hashes = hashes.as_bytes().ok_or(MetainfoError::Invalid { key: "pieces" })?;
    let expected = 20 * pieces;
    if hashes.len() as u64 != expected {
        return Err(MetainfoError::PiecesLength { expected, found: hashes.len() });
    }
    // Both are slices of one buffer: the distance of their addresses is the offset.
    let start = hashes.as_ptr().addr() - info.dict().raw().as_ptr().addr();
    Ok(V1Side { info: Arc::clone(raw), hashes: start..start + hashes.len() })
}
