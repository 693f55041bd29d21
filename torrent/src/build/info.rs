//! The bytes of `info` and of the piece layers.

use super::{BuildError, Builder};
use crate::bencode::{DictWriter, Writer};
use crate::hash::FileHashes;
use crate::limits::Limits;
use crate::merkle;
use crate::metainfo::{Metainfo, Version, tree_digest, write_tree};
use crate::path::RelPath;

impl Builder {
    /// `digest`: SHA-256 of the bytes, for the canonical name of a single file.
    pub(super) fn write(
        &self,
        mut files: Vec<Hashed>,
        pieces: Option<&[u8]>,
        digest: Option<[u8; 32]>,
    ) -> Result<Metainfo, BuildError> {
        let single = !self.is_tree(files.len());
        let name = match (&self.name, single) {
            _ if files.is_empty() => return Err(BuildError::NoFiles),
            (Some(name), _) => name.clone(),
            (None, true) => canonical(digest.ok_or(BuildError::NoDigest)?),
            (None, false) => canonical(tree_digest(files.iter().map(Hashed::node))),
        };
        if single && let [file] = files.as_mut_slice() {
            file.path = name.clone();
        }
        let mut writer = Writer::new();
        writer.dict(|top| {
            let name = name.as_str();
            top.entry("info").dict(|info| self.write_info(info, name, &files, single, pieces));
            if self.version.has_v2() {
                top.entry("piece layers").dict(|layers| write_layers(layers, &files));
            }
        });
        Ok(Metainfo::parse(&writer.into_bytes(), &Limits::OWN)?)
    }

    /// `info` as it is frozen: any other key or order would change every infohash.
    fn write_info(
        &self,
        info: &mut DictWriter<'_>,
        name: &str,
        files: &[Hashed],
        single: bool,
        v1_pieces: Option<&[u8]>,
    ) {
        if self.version.has_v2() {
            write_tree(info.entry("file tree"), files.iter().map(Hashed::node));
        }
        if self.version.has_v1() && !single {
            info.entry("files").list(|list| self.write_v1_files(list, files));
        }
        if self.version.has_v1() && single {
            info.entry("length").uint(files.iter().map(|file| file.size).sum());
        }
        if self.version.has_v2() {
            info.entry("meta version").int(2);
        }
        info.entry("name").bytes(name);
        info.entry("piece length").uint(self.piece_length);
        if let Some(pieces) = v1_pieces {
            info.entry("pieces").bytes(pieces);
        }
        if self.private {
            info.entry("private").int(1);
        }
        if let Some(source) = &self.source {
            info.entry("source").bytes(source);
        }
    }

    fn write_v1_files(&self, list: &mut Writer, files: &[Hashed]) {
        for hashed in files {
            list.dict(|file| {
                file.entry("length").uint(hashed.size);
                let components = hashed.path.components();
                file.entry("path").list(|list| components.for_each(|component| list.bytes(component)));
            });
            let padding = hashed.size.next_multiple_of(self.piece_length) - hashed.size;
            if self.version == Version::Hybrid && padding > 0 {
                list.dict(|file| {
                    file.entry("attr").bytes("p");
                    file.entry("length").uint(padding);
                    file.entry("path").list(|list| {
                        list.bytes(".pad");
                        list.bytes(padding.to_string());
                    });
                });
            }
        }
    }
}

/// What `info` and the piece layers say of a file.
#[derive(Debug)]
pub(super) struct Hashed {
    pub path: RelPath,
    pub size: u64,
    pub root: Option<merkle::Hash>,
    pub layer: Vec<merkle::Hash>,
}

impl Hashed {
    pub fn new(path: RelPath, hashes: FileHashes) -> Self {
        Self { path, size: hashes.size, root: hashes.pieces_root, layer: hashes.layer }
    }

    pub fn node(&self) -> (&RelPath, u64, Option<merkle::Hash>) {
        (&self.path, self.size, self.root)
    }
}

fn canonical(digest: [u8; 32]) -> RelPath {
    RelPath::parse(&format!("sha256-{}", hex::encode(digest))).expect("hexadecimal digits make a path")
}

/// Files with the same bytes share a layer.
fn write_layers(layers: &mut DictWriter<'_>, files: &[Hashed]) {
    let mut sorted: Vec<(merkle::Hash, &Hashed)> = files
        .iter()
        .filter(|file| !file.layer.is_empty())
        .filter_map(|file| Some((file.root?, file)))
        .collect();
    sorted.sort_unstable_by_key(|(root, _)| *root);
    sorted.dedup_by_key(|(root, _)| *root);
    for (root, file) in sorted {
        layers.entry(root).bytes(file.layer.as_flattened());
    }
}
