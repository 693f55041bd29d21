//! The v2 side: file tree and piece layers (BEP 52).

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::File;
use super::error::{MetainfoError, shown};
use super::v1::{FILE, attributes, is_link, size};
use crate::bencode::{Dict, Event, Selected, Value, Writer};
use crate::merkle::{self, Hash};
use crate::path::{MAX_COMPONENTS, PathError, RelPath};

/// The files of `file tree`, in its order, each starting on a piece.
pub(super) fn read_tree(tree: Dict<'_>, piece_length: u64) -> Result<Vec<File>, MetainfoError> {
    let (mut files, mut end) = (Vec::new(), 0u64);
    let mut events = tree.events();
    let mut path: Vec<&[u8]> = Vec::new();
    let mut empty = true;
    events.next(); // the tree's own opening
    while let Some(event) = events.next() {
        let bad_node = |path: &[&[u8]]| MetainfoError::FileTree { path: shown(path) };
        match event {
            Event::End if path.is_empty() => break,
            Event::End if empty => return Err(bad_node(&path)),
            Event::End => {
                path.pop();
            }
            Event::Bytes(b"") => {
                let entry =
                    events.value().and_then(|value| value.as_dict()).ok_or_else(|| bad_node(&path))?;
                // Keys ascend, so a sibling of the empty key can only follow it.
                if path.is_empty() || events.next() != Some(Event::End) {
                    return Err(bad_node(&path));
                }
                let file = file(&path, &entry.select(FILE), end.checked_next_multiple_of(piece_length))?;
                end = file.offset.checked_add(file.size).ok_or(MetainfoError::TooLarge)?;
                files.push(file);
                path.pop();
                empty = false;
            }
            Event::Bytes(component) => {
                if path.len() >= MAX_COMPONENTS {
                    return Err(MetainfoError::Path { path: shown(&path), error: PathError::TooLong });
                }
                path.push(component);
                if events.next() != Some(Event::Dict) {
                    return Err(bad_node(&path));
                }
                empty = true;
            }
            Event::Int(_) | Event::List | Event::Dict => return Err(bad_node(&path)),
        }
    }
    files.shrink_to_fit();
    if files.is_empty() { Err(MetainfoError::NoFiles) } else { Ok(files) }
}

fn file(components: &[&[u8]], entry: &Selected<'_>, offset: Option<u64>) -> Result<File, MetainfoError> {
    let size = size(entry.get("length").ok_or(MetainfoError::Missing { key: "length" })?)?;
    if is_link(entry) {
        return Err(MetainfoError::Symlink { path: shown(components) });
    }
    if attributes(entry).contains(&b'p') {
        return Err(MetainfoError::PadFile { size });
    }
    let path = RelPath::from_components(components.iter().copied())
        .map_err(|error| MetainfoError::Path { path: shown(components), error })?;
    let pieces_root = match entry.get("pieces root") {
        None => None,
        Some(root) => match root.as_bytes().and_then(|root| Hash::try_from(root).ok()) {
            Some(root) if root != [0; 32] => Some(root),
            _ => return Err(MetainfoError::PiecesRoot(path)),
        },
    };
    if pieces_root.is_some() == (size == 0) {
        return Err(MetainfoError::PiecesRoot(path));
    }
    Ok(File { path, size, pieces_root, offset: offset.ok_or(MetainfoError::TooLarge)? })
}

/// The piece layers, each checked against its root, and exactly those that the files need.
pub(super) fn read_layers(
    layers: Option<Value<'_>>,
    files: &[File],
    piece_length: u64,
) -> Result<BTreeMap<Hash, Arc<[Hash]>>, MetainfoError> {
    let mut found: BTreeMap<Hash, (Arc<[Hash]>, bool)> = BTreeMap::new();
    if let Some(layers) = layers {
        for (root, layer) in layers.as_dict().ok_or(MetainfoError::Invalid { key: "piece layers" })? {
            let wrong = || MetainfoError::LayerWrong(hex::encode(&root[..root.len().min(32)]));
            let key = Hash::try_from(root).map_err(|_| wrong())?;
            let (hashes, rest) = layer.as_bytes().ok_or_else(wrong)?.as_chunks::<32>();
            if hashes.is_empty()
                || !rest.is_empty()
                || merkle::root(hashes, merkle::piece_layer(piece_length)) != key
            {
                return Err(wrong());
            }
            found.insert(key, (hashes.into(), false));
        }
    }
    for file in files.iter().filter(|file| file.size > piece_length) {
        let root = file.pieces_root.ok_or_else(|| MetainfoError::PiecesRoot(file.path.clone()))?;
        let (layer, used) =
            found.get_mut(&root).ok_or_else(|| MetainfoError::LayerMissing(file.path.clone()))?;
        if layer.len() as u64 != file.size.div_ceil(piece_length) {
            return Err(MetainfoError::LayerWrong(hex::encode(root)));
        }
        *used = true;
    }
    let layers = found.into_iter().map(|(root, (layer, used))| {
        if used { Ok((root, layer)) } else { Err(MetainfoError::LayerExtra(hex::encode(root))) }
    });
    layers.collect()
}

/// Appends the canonical file tree of files in ascending order.
pub(crate) fn write_tree<'a>(
    writer: &mut Writer,
    files: impl IntoIterator<Item = (&'a RelPath, u64, Option<Hash>)>,
) {
    let mut open: Vec<&str> = Vec::new();
    writer.raw(b"d");
    for (path, size, root) in files {
        let components: Vec<&str> = path.components().collect();
        let (name, directories) = components.split_last().expect("a path has at least one component");
        let shared = open.iter().zip(directories).take_while(|(a, b)| a == b).count();
        for _ in open.drain(shared..) {
            writer.raw(b"e");
        }
        for directory in &directories[shared..] {
            writer.bytes(directory);
            writer.raw(b"d");
            open.push(directory);
        }
        writer.bytes(name);
        writer.dict(|node| {
            node.entry("").dict(|file| {
                file.entry("length").uint(size);
                if let Some(root) = root {
                    file.entry("pieces root").bytes(root);
                }
            });
        });
    }
    for _ in open {
        writer.raw(b"e");
    }
    writer.raw(b"e");
}

/// The SHA-256 of the canonical file tree: what a tree's torrent is named after.
pub(crate) fn tree_digest<'a>(files: impl IntoIterator<Item = (&'a RelPath, u64, Option<Hash>)>) -> [u8; 32] {
    let mut writer = Writer::new();
    write_tree(&mut writer, files);
    Sha256::digest(writer.into_bytes()).into()
}
