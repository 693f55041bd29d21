//! The content manifest of a folder, and how it fits its torrent.

use torrent::manifest::{MAX_BYTES, Manifest, ManifestError};
use torrent::{InfoHashV1, InfoHashV2, Limits, Metainfo, MetainfoError, RelPath};

use crate::store::{Folder, Record, StoreError, read_file_capped};

/// Manifest or metainfo are not what the revision says.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// It is not a manifest.
    #[error("the manifest cannot be read: {0}")]
    Manifest(#[from] ManifestError),
    /// It is not metainfo.
    #[error("the metainfo cannot be read: {0}")]
    Metainfo(#[from] MetainfoError),
    /// It is another one.
    #[error("the {what} is not the one of this revision: expected {expected}, found {found}")]
    Other {
        /// `manifest` or `metainfo`.
        what: &'static str,
        /// Hex.
        expected: String,
        /// Hex.
        found: String,
    },
    /// They do not describe the same files.
    #[error("manifest and metainfo do not describe the same files: {0}")]
    Differ(String),
    /// It is not there.
    #[error("there is no {0}")]
    Missing(&'static str),
    /// It cannot be read from the disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A manifest, if it has this digest.
pub fn manifest(bytes: &[u8], digest: &str) -> Result<Manifest, ContentsError> {
    let manifest = Manifest::parse(bytes, MAX_BYTES)?;
    let found = hex(&manifest.digest());
    if found != digest {
        return Err(ContentsError::Other { what: "manifest", expected: digest.to_owned(), found });
    }
    Ok(manifest)
}

/// The manifest of a folder.
pub fn load_manifest(folder: &Folder, digest: &str) -> Result<Manifest, ContentsError> {
    let bytes = read_file_capped(&folder.manifest(), MAX_BYTES as u64)?;
    manifest(&bytes.ok_or(ContentsError::Missing("manifest"))?, digest)
}

/// Metainfo, if it has the infohashes of this record.
pub fn metainfo(bytes: &[u8], record: &Record) -> Result<Metainfo, ContentsError> {
    let metainfo = Metainfo::parse(bytes, &Limits::OWN)?;
    let v1 = metainfo.info_hash_v1().as_ref().map(InfoHashV1::to_string);
    let v2 = metainfo.info_hash_v2().as_ref().map(InfoHashV2::to_string);
    if (&v1, &v2) != (&record.info_hash_v1, &record.info_hash_v2) {
        let text =
            |a: &Option<String>, b: &Option<String>| b.clone().or_else(|| a.clone()).unwrap_or_default();
        let expected = text(&record.info_hash_v1, &record.info_hash_v2);
        return Err(ContentsError::Other { what: "metainfo", expected, found: text(&v1, &v2) });
    }
    Ok(metainfo)
}

/// The metainfo of a folder.
pub fn load_metainfo(folder: &Folder, record: &Record) -> Result<Metainfo, ContentsError> {
    let cap = Limits::OWN.bencode.bytes as u64;
    let bytes = read_file_capped(&folder.metainfo(), cap)?;
    metainfo(&bytes.ok_or(ContentsError::Missing("metainfo"))?, record)
}

/// Where each payload file of the torrent lies in the dataset. The manifest names the files, the torrent knows the bytes: a
/// single-file torrent is named after its digest, whatever the user calls the file.
pub fn layout(metainfo: &Metainfo, manifest: &Manifest) -> Result<Vec<RelPath>, ContentsError> {
    let (files, entries) = (metainfo.files(), manifest.entries());
    if files.len() != entries.len() {
        return Err(ContentsError::Differ(format!("{} files and {} files", entries.len(), files.len())));
    }
    let named = metainfo.is_single_file();
    for (file, entry) in files.iter().zip(entries) {
        if file.size != entry.size || (!named && file.path != entry.path) {
            return Err(ContentsError::Differ(format!(
                "{} of {} bytes and {} of {} bytes",
                entry.path, entry.size, file.path, file.size
            )));
        }
    }
    if let (true, Some(digest), Some(entry)) = (named, metainfo.content_digest(), entries.first())
        && digest != entry.sha256
    {
        return Err(ContentsError::Differ(format!("{} has another digest", entry.path)));
    }
    Ok(entries.iter().map(|entry| entry.path.clone()).collect())
}

/// Hex, as digests are written everywhere.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}
