//! The name under which a revision's content is shared while it is still being read. Pure.
//!
//! It is the SHA-256 of the content's [`Outline`], which every node can make from what it is granted, or have from others: whoever
//! knows the name knows which files there are, and whose word counts for who may read them.

use std::collections::BTreeMap;

use crds::TorrentVersion;
use operator_api::GrantedFile;
use torrent::ingest::{Outline, OutlineError, PublicKey};
use torrent::{IngestId, RelPath, Version, piece_length_for};

/// What a revision's content goes by while it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlined {
    /// How often reading was begun anew before.
    pub epoch: i32,
    /// The operator's ingest key.
    pub key: PublicKey,
    /// The name.
    pub name: Name,
}

/// A name that takes a while to make: there may be a million files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// It is being made.
    Pending,
    /// This one.
    Known(IngestId),
    /// The files cannot be outlined: their content is shared when it is whole.
    Impossible,
}

/// Makes the name. It encodes and hashes all paths: not for an async thread.
pub fn name(
    revision: &str,
    epoch: i32,
    key: PublicKey,
    version: TorrentVersion,
    files: &[GrantedFile],
) -> Result<IngestId, OutlineError> {
    let version = match version {
        TorrentVersion::Hybrid => Version::Hybrid,
        TorrentVersion::V2 => Version::V2,
        TorrentVersion::V1 => return Err(OutlineError::V1Only),
    };
    let epoch = u32::try_from(epoch).map_err(|_| OutlineError::Field("epoch"))?;
    let piece_length = piece_length_for(files.iter().map(|file| file.size).sum());
    let (mut sized, mut declared) = (Vec::with_capacity(files.len()), BTreeMap::new());
    for file in files {
        let path = RelPath::parse(&file.path)
            .map_err(|error| OutlineError::Path { path: file.path.clone(), error })?;
        declared.extend(file.declared().map(|digest| (path.clone(), digest)));
        sized.push((path, file.size));
    }
    Ok(Outline::new(revision, epoch, key, version, piece_length, sized)?.declaring(&declared).id())
}

#[cfg(test)]
mod tests {
    use torrent::ingest::SigningKey;

    use super::*;

    fn file(path: &str, size: u64) -> GrantedFile {
        let url = format!("http://h/{path}?secret");
        GrantedFile {
            path: path.into(),
            url,
            text: None,
            size,
            sha256: None,
            etag: None,
            last_modified: None,
        }
    }

    #[test]
    fn a_name_is_of_files_revision_epoch_and_key() {
        let key = |seed| SigningKey::from_seed(&[seed; 32]).public();
        let files = [file("a", 1), file("b/c", 5 << 30)];
        let hybrid = TorrentVersion::Hybrid;
        let first = name("r", 0, key(1), hybrid, &files).unwrap();
        assert_eq!(first, name("r", 0, key(1), hybrid, &files).unwrap());
        let mut elsewhere = files.clone();
        elsewhere[0].url = "http://mirror/a".into();
        assert_eq!(
            first,
            name("r", 0, key(1), hybrid, &elsewhere).unwrap(),
            "where it comes from says nothing"
        );
        let mut longer = files.clone();
        longer[0].size = 2;
        let mut declared = files.clone();
        declared[0].sha256 = Some("ab".repeat(32));
        for other in [
            name("s", 0, key(1), hybrid, &files),
            name("r", 1, key(1), hybrid, &files),
            name("r", 0, key(2), hybrid, &files),
            name("r", 0, key(1), TorrentVersion::V2, &files),
            name("r", 0, key(1), hybrid, &longer),
            name("r", 0, key(1), hybrid, &declared),
        ] {
            assert_ne!(first, other.unwrap());
        }
        assert!(name("r", 0, key(1), TorrentVersion::V1, &files).is_err());
        assert!(name("r", 0, key(1), hybrid, &[file("../a", 1)]).is_err());
    }
}
