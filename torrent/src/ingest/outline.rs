//! What is known of content before it has been read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bencode::{self, Writer};
use crate::build::{BuildError, Builder, Plan};
use crate::ids::IngestId;
use crate::limits::Limits;
use crate::metainfo::Version;
use crate::path::{PathError, RelPath};

use super::PublicKey;

/// The format that is written and read.
const FORMAT: &str = "samara outline 1";
/// Longest text that tells one ingest from another.
const MAX_ABOUT: usize = 512;

/// Why something is no outline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutlineError {
    /// Not bencoded, or over the limits.
    #[error("not an outline: {0}")]
    Bencode(#[from] bencode::DecodeError),
    /// A key is missing, or has a wrong value.
    #[error("not an outline: `{0}` is missing or wrong")]
    Field(&'static str),
    /// A path that could not be written.
    #[error("the path {path:?} is refused: {error}")]
    Path {
        /// As it came.
        path: String,
        /// What is wrong with it.
        error: PathError,
    },
    /// Written otherwise than here; one outline has one form.
    #[error("the outline is not in its canonical form")]
    NotCanonical,
    /// v1-only torrents have no hashes by which parts of them could be shared before the whole is known.
    #[error("content of a v1-only torrent is not shared before it is whole")]
    V1Only,
    /// No torrent can be made of these files.
    #[error(transparent)]
    Plan(#[from] BuildError),
}

/// The files of content that is to be read, and how they become a torrent. Its SHA-256 names the swarm: whoever knows the id
/// knows that key, files and lengths are the right ones, wherever the outline comes from.
#[derive(Debug, Clone)]
pub struct Outline {
    about: String,
    epoch: u32,
    key: PublicKey,
    version: Version,
    plan: Arc<Plan>,
    /// By file, in the plan's order; empty if none has one.
    digests: Vec<Option<[u8; 32]>>,
    id: IngestId,
}

impl Outline {
    /// Of these files, in any order. `about` and `epoch` tell it from others with the same files: what it is read for, and how
    /// often it was begun anew. `key` says who may read. `piece_length` comes from [`crate::piece_length_for`].
    pub fn new(
        about: &str,
        epoch: u32,
        key: PublicKey,
        version: Version,
        piece_length: u64,
        files: Vec<(RelPath, u64)>,
    ) -> Result<Self, OutlineError> {
        if !version.has_v2() {
            return Err(OutlineError::V1Only);
        }
        if about.len() > MAX_ABOUT {
            return Err(OutlineError::Field("about"));
        }
        let plan = Arc::new(Builder::new(version, piece_length)?.plan(files)?);
        let (about, id) = (about.to_owned(), IngestId([0; 32]));
        Ok(Self { about, epoch, key, version, plan, digests: Vec::new(), id }.named())
    }

    /// With the SHA-256 that files are said to have: a node that has such a file already need not get it.
    #[must_use]
    pub fn declaring(self, declared: &BTreeMap<RelPath, [u8; 32]>) -> Self {
        let digests: Vec<_> = self.plan.files().iter().map(|(path, _)| declared.get(path).copied()).collect();
        let digests = if digests.iter().all(Option::is_none) { Vec::new() } else { digests };
        Self { digests, ..self }.named()
    }

    fn named(self) -> Self {
        Self { id: IngestId::of(&self.encode()), ..self }
    }

    /// Reads an outline. Limits are those of our own store ([`Limits::OWN`]).
    pub fn parse(bytes: &[u8]) -> Result<Self, OutlineError> {
        let value = bencode::decode(bytes, &Limits::OWN.bencode)?;
        let dict = value.as_dict().ok_or(OutlineError::Field("the dictionary"))?;
        let field = |key: &'static str| dict.get(key).ok_or(OutlineError::Field(key));
        let wrong = |key: &'static str| move || OutlineError::Field(key);
        if field("format")?.as_str() != Some(FORMAT) {
            return Err(OutlineError::Field("format"));
        }
        let about = field("about")?.as_str().ok_or_else(wrong("about"))?;
        let epoch = field("epoch")?.as_int().and_then(|epoch| u32::try_from(epoch).ok());
        let key = field("key")?.as_bytes().and_then(|key| key.try_into().ok()).ok_or_else(wrong("key"))?;
        let length = field("piece length")?.as_int().and_then(|length| u64::try_from(length).ok());
        let version = match field("version")?.as_str() {
            Some("hybrid") => Version::Hybrid,
            Some("v2") => Version::V2,
            _ => return Err(OutlineError::Field("version")),
        };
        let files = field("files")?.as_list().ok_or_else(wrong("files"))?;
        let (mut sized, mut declared) = (Vec::new(), BTreeMap::new());
        for file in files {
            let (path, size, digest) = read_file(&file)?;
            declared.extend(digest.map(|digest| (path.clone(), digest)));
            sized.push((path, size));
        }
        let (epoch, length) = (epoch.ok_or_else(wrong("epoch"))?, length.ok_or_else(wrong("piece length"))?);
        let outline = Self::new(about, epoch, PublicKey(key), version, length, sized)?.declaring(&declared);
        if outline.id == IngestId::of(bytes) { Ok(outline) } else { Err(OutlineError::NotCanonical) }
    }

    /// The one form in which it is written.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.dict(|dict| {
            dict.entry("about").bytes(&self.about);
            dict.entry("epoch").uint(self.epoch.into());
            dict.entry("files").list(|files| {
                for (index, (path, size)) in self.plan.files().iter().enumerate() {
                    files.list(|file| {
                        file.bytes(path.as_str());
                        file.uint(*size);
                        if let Some(digest) = self.digest(index) {
                            file.bytes(digest);
                        }
                    });
                }
            });
            dict.entry("format").bytes(FORMAT);
            dict.entry("key").bytes(self.key.0);
            dict.entry("piece length").uint(self.plan.pieces().piece_length());
            dict.entry("version").bytes(if self.version == Version::V2 { "v2" } else { "hybrid" });
        });
        writer.into_bytes()
    }

    /// The name of the swarm: SHA-256 of the encoded form.
    pub fn id(&self) -> IngestId {
        self.id
    }

    /// What it is read for.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// How often reading was begun anew before.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Who says which nodes may read the origin.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// The files, and the pieces that they make.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The SHA-256 that a file of the plan is said to have.
    pub fn digest(&self, file: usize) -> Option<[u8; 32]> {
        self.digests.get(file).copied().flatten()
    }

    /// Whether any file is said to have one.
    pub fn declares_digests(&self) -> bool {
        !self.digests.is_empty()
    }

    /// Bytes of all files.
    pub fn total_size(&self) -> u64 {
        self.plan.files().iter().map(|(_, size)| size).sum()
    }
}

/// Path, length, and the digest if there is one.
fn read_file(file: &bencode::Value<'_>) -> Result<(RelPath, u64, Option<[u8; 32]>), OutlineError> {
    const WRONG: OutlineError = OutlineError::Field("files");
    let mut parts = file.as_list().ok_or(WRONG)?.iter();
    let (path, size, digest) = (parts.next().ok_or(WRONG)?, parts.next().ok_or(WRONG)?, parts.next());
    if parts.next().is_some() {
        return Err(WRONG);
    }
    let path = path.as_str().ok_or(WRONG)?;
    let size = size.as_int().and_then(|size| u64::try_from(size).ok()).ok_or(WRONG)?;
    let digest = digest.map(|digest| digest.as_bytes().and_then(|bytes| bytes.try_into().ok()).ok_or(WRONG));
    let parsed = RelPath::parse(path).map_err(|error| OutlineError::Path { path: path.to_owned(), error })?;
    Ok((parsed, size, digest.transpose()?))
}
