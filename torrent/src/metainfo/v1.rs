//! The v1 side of `info` (BEP 3, 47).

use super::File;
use super::error::{MetainfoError, shown};
use crate::bencode::{Selected, Value};
use crate::path::RelPath;

/// What is read of an entry, of either side.
pub(super) const FILE: &[&str] = &["attr", "length", "path", "pieces root", "symlink path"];

/// The v1 side without its hashes.
pub(super) struct V1Files {
    pub single: bool,
    pub files: Vec<File>,
    /// Bytes with padding.
    pub total: u64,
}

pub(super) fn read(info: &Selected<'_>, name: &RelPath, piece_length: u64) -> Result<V1Files, MetainfoError> {
    match (info.get("length"), info.get("files")) {
        (Some(_), Some(_)) => Err(MetainfoError::Invalid { key: "files" }),
        (None, None) => Err(MetainfoError::Missing { key: "length" }),
        (Some(length), None) => {
            let size = size(length)?;
            if is_link(info) {
                return Err(MetainfoError::Symlink { path: name.to_string() });
            }
            let file = File { path: name.clone(), size, pieces_root: None, offset: 0 };
            Ok(V1Files { single: true, files: vec![file], total: size })
        }
        (None, Some(files)) => tree(files, piece_length),
    }
}

fn tree(list: Value<'_>, piece_length: u64) -> Result<V1Files, MetainfoError> {
    let list = list.as_list().ok_or(MetainfoError::Invalid { key: "files" })?;
    let mut files = Vec::new();
    let mut total = 0u64;
    let mut components = Vec::new();
    for file in list {
        let file = &file.as_dict().ok_or(MetainfoError::Invalid { key: "files" })?.select(FILE);
        let size = size(file.get("length").ok_or(MetainfoError::Missing { key: "length" })?)?;
        let path = file.get("path").ok_or(MetainfoError::Missing { key: "path" })?;
        components.clear();
        for component in path.as_list().ok_or(MetainfoError::Invalid { key: "path" })? {
            components.push(component.as_bytes().ok_or(MetainfoError::Invalid { key: "path" })?);
        }
        if is_link(file) {
            return Err(MetainfoError::Symlink { path: shown(&components) });
        }
        let offset = total;
        total = offset
            .checked_add(size)
            .filter(|total| i64::try_from(*total).is_ok())
            .ok_or(MetainfoError::TooLarge)?;
        if attributes(file).contains(&b'p') {
            // Padding aligns the next file to a piece, so a whole piece of it has no use but to fill disks.
            if size >= piece_length {
                return Err(MetainfoError::PadFile { size });
            }
            continue;
        }
        let path = RelPath::from_components(components.iter().copied())
            .map_err(|error| MetainfoError::Path { path: shown(&components), error })?;
        files.push(File { path, size, pieces_root: None, offset });
    }
    files.shrink_to_fit();
    if files.is_empty() { Err(MetainfoError::NoFiles) } else { Ok(V1Files { single: false, files, total }) }
}

/// A length: not negative.
pub(super) fn size(value: Value<'_>) -> Result<u64, MetainfoError> {
    let size = value.as_int().and_then(|size| u64::try_from(size).ok());
    size.ok_or(MetainfoError::Invalid { key: "length" })
}

/// Whether an entry is a symbolic link, by either sign of BEP 47.
pub(super) fn is_link(entry: &Selected<'_>) -> bool {
    attributes(entry).contains(&b'l') || entry.get("symlink path").is_some()
}

/// The letters of `attr` (BEP 47). `x` and `h` mean nothing here: modes come from elsewhere.
pub(super) fn attributes<'a>(entry: &Selected<'a>) -> &'a [u8] {
    entry.get("attr").and_then(|attr| attr.as_bytes()).unwrap_or_default()
}
