//! .torrent files: parsed, checked, written.

mod error;
mod info;
mod outer;
mod parse;
mod v1;
mod v2;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use error::MetainfoError;
pub use info::{Info, LayerShape};
use outer::Outer;

use crate::bencode::Writer;
use crate::ids::{InfoHashV1, InfoHashV2, WireId};
use crate::limits::Limits;
use crate::merkle::Hash;
use crate::path::RelPath;
use crate::pieces::PieceMap;

/// Which sides a torrent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Version {
    /// v1 and v2: clients of either kind can join.
    #[default]
    Hybrid,
    /// BEP 52 only.
    V2,
    /// BEP 3 only.
    V1,
}

impl Version {
    /// Whether there is a v1 side: SHA-1 pieces.
    pub fn has_v1(self) -> bool {
        self != Self::V2
    }

    /// Whether there is a v2 side: merkle trees.
    pub fn has_v2(self) -> bool {
        self != Self::V1
    }
}

/// A payload file. Padding files (BEP 47) are not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Inside the torrent's folder; for a single-file torrent the name of the torrent.
    pub path: RelPath,
    /// Bytes.
    pub size: u64,
    /// Root of the merkle tree; `None` if the file is empty or there is no v2 side.
    pub pieces_root: Option<Hash>,
    /// Where the file starts in piece space, padding included.
    pub offset: u64,
}

/// A .torrent, parsed and checked: paths are safe, piece layers lead to their roots, both sides of a hybrid describe the same
/// files. The raw bytes of `info` are kept, unknown keys and all; infohashes are computed over them.
#[derive(Debug, Clone)]
pub struct Metainfo {
    info: Arc<[u8]>,
    version: Version,
    name: RelPath,
    single_file: bool,
    private: bool,
    files: Vec<File>,
    pieces: PieceMap,
    layers: BTreeMap<Hash, Arc<[Hash]>>,
    source: Option<String>,
    outer: Outer,
    info_hash_v1: Option<InfoHashV1>,
    info_hash_v2: Option<InfoHashV2>,
}

impl Metainfo {
    /// Reads a .torrent (BEP 3, 12, 17, 19, 27, 47, 52).
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, MetainfoError> {
        parse::parse(bytes, limits, parse::Layers::Here)
    }

    /// The file: what was read, byte for byte, but for what the methods named `with_...` have changed.
    pub fn encode(&self) -> Vec<u8> {
        let mut entries: BTreeMap<&[u8], Cow<'_, [u8]>> =
            self.outer.entries().map(|(key, value)| (key, value.into())).collect();
        entries.insert(b"info", (&*self.info).into());
        if !self.layers.is_empty() {
            entries.insert(b"piece layers", self.encoded_layers().into());
        }
        let mut writer = Writer::new();
        writer.dict(|dict| entries.iter().for_each(|(key, value)| dict.entry(key).raw(value)));
        writer.into_bytes()
    }

    fn encoded_layers(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.dict(|layers| {
            for (root, layer) in &self.layers {
                layers.entry(root).bytes(layer.as_flattened());
            }
        });
        writer.into_bytes()
    }

    /// The same torrent with these trackers, in tiers (BEP 12), and no others. They are outside `info`, as all that follows
    /// here: the infohashes stay. Empty tiers are left out.
    #[must_use]
    pub fn with_trackers(mut self, tiers: Vec<Vec<String>>) -> Self {
        self.outer.set_trackers(tiers);
        self
    }

    /// The same torrent with these web seeds of BEP 19, and no others.
    #[must_use]
    pub fn with_web_seeds(mut self, urls: Vec<String>) -> Self {
        self.outer.set_web_seeds(urls);
        self
    }

    /// The same torrent with these web seeds of BEP 17, and no others.
    #[must_use]
    pub fn with_http_seeds(mut self, urls: Vec<String>) -> Self {
        self.outer.set_http_seeds(urls);
        self
    }

    /// The same torrent with this comment, or none.
    #[must_use]
    pub fn with_comment(mut self, comment: Option<String>) -> Self {
        self.outer.set_comment(comment);
        self
    }

    /// The same torrent with this program as its maker, or none.
    #[must_use]
    pub fn with_created_by(mut self, program: Option<String>) -> Self {
        self.outer.set_created_by(program);
        self
    }

    /// The same torrent with this date of creation, in seconds since 1970, or none.
    #[must_use]
    pub fn with_creation_date(mut self, date: Option<i64>) -> Self {
        self.outer.set_creation_date(date);
        self
    }

    /// Trackers, in tiers (BEP 12).
    pub fn trackers(&self) -> &[Vec<String>] {
        &self.outer.trackers
    }

    /// Web seeds that serve the files as they are (BEP 19).
    pub fn web_seeds(&self) -> &[String] {
        &self.outer.web_seeds
    }

    /// Web seeds that serve pieces (BEP 17).
    pub fn http_seeds(&self) -> &[String] {
        &self.outer.http_seeds
    }

    /// What the maker says of it.
    pub fn comment(&self) -> Option<&str> {
        self.outer.comment.as_deref()
    }

    /// The program that made it.
    pub fn created_by(&self) -> Option<&str> {
        self.outer.created_by.as_deref()
    }

    /// When it was made, in seconds since 1970.
    pub fn creation_date(&self) -> Option<i64> {
        self.outer.creation_date
    }

    /// Where it is meant to be shared: text inside `info` by which the same files get another infohash on another tracker.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// The raw `info` dictionary: what BEP 9 transfers and infohashes are computed over.
    pub fn info_bytes(&self) -> &Arc<[u8]> {
        &self.info
    }

    /// Which sides there are.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The v1 infohash; `None` in a v2-only torrent.
    pub fn info_hash_v1(&self) -> Option<InfoHashV1> {
        self.info_hash_v1
    }

    /// The v2 infohash; `None` in a v1-only torrent.
    pub fn info_hash_v2(&self) -> Option<InfoHashV2> {
        self.info_hash_v2
    }

    /// Under which ids the torrent is found on the wire: v2 (cut to 20 bytes) first. At least one.
    pub fn wire_ids(&self) -> Vec<WireId> {
        let v2 = self.info_hash_v2.map(WireId::from);
        v2.into_iter().chain(self.info_hash_v1.map(WireId::from)).collect()
    }

    /// The torrent's name: of the file if it is one, else of the folder that clients put the files in.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Whether the torrent is one file without a folder around it.
    pub fn is_single_file(&self) -> bool {
        self.single_file
    }

    /// Whether peers come from the trackers only (BEP 27).
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// Bytes of a piece.
    pub fn piece_length(&self) -> u64 {
        self.pieces.piece_length
    }

    /// Bytes of all payload files, without padding.
    pub fn total_size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The payload files in torrent order. With a v2 side, and in all torrents made here: ascending by path.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Where pieces lie, and their hashes.
    pub fn pieces(&self) -> &PieceMap {
        &self.pieces
    }

    /// The piece layer of a file that is longer than a piece, by its `pieces root`.
    pub fn layer(&self, pieces_root: &Hash) -> Option<&[Hash]> {
        self.layers.get(pieces_root).map(|layer| &**layer)
    }

    /// The digest in a canonical name, `sha256-<hex>`: of the bytes of a single file, or of the v2 file tree of a tree. A
    /// claim of whoever made the torrent: for a single file it holds once the bytes have been hashed; for a tree with a v2
    /// side it was checked here, and `None` is the answer if it is wrong.
    pub fn content_digest(&self) -> Option<[u8; 32]> {
        let mut digest = [0; 32];
        let digits = self.name().strip_prefix("sha256-")?;
        if digits.bytes().any(|digit| digit.is_ascii_uppercase()) {
            return None;
        }
        hex::decode_to_slice(digits, &mut digest).ok()?;
        if self.single_file || !self.version.has_v2() {
            return Some(digest);
        }
        (v2::tree_digest(self.files.iter().map(|file| (&file.path, file.size, file.pieces_root))) == digest)
            .then_some(digest)
    }
}

pub(crate) use v2::{tree_digest, write_tree};
