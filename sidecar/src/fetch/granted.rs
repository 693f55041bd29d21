//! What a grant says, checked and in the words of torrents.

use operator_api::{Grant, GrantedFile, TorrentVersion};
use torrent::ingest::Warrant;
use torrent::manifest::Manifest;
use torrent::{RelPath, Version, check_paths};

use super::FetchError;
use crate::contents::hex;

/// Paths of a grant, checked: nothing is written before all of them are known to be good.
pub fn check_grant(grant: &Grant) -> Result<Vec<RelPath>, FetchError> {
    let parse = |file: &GrantedFile| {
        RelPath::parse(&file.path).map_err(|source| FetchError::Path { path: file.path.clone(), source })
    };
    let paths = grant.files.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    check_paths(&paths)?;
    Ok(paths)
}

/// The operator's word that this node may read, as it comes: in hex.
pub fn warrant(text: &str) -> Result<Warrant, FetchError> {
    let warrant = hex::decode(text).ok().and_then(|bytes| Warrant::decode(&bytes).ok());
    warrant.ok_or_else(|| FetchError::Refused("its warrant cannot be read".to_owned()))
}

/// Which form the torrent gets.
pub(super) fn version(granted: TorrentVersion) -> Version {
    match granted {
        TorrentVersion::Hybrid => Version::Hybrid,
        TorrentVersion::V2 => Version::V2,
        TorrentVersion::V1 => Version::V1,
    }
}

/// The manifest must be the one that the user declared, if any was.
pub(super) fn check_manifest(grant: &Grant, manifest: &Manifest) -> Result<(), FetchError> {
    let found = hex(&manifest.digest());
    match &grant.expected_digest {
        Some(expected) if *expected != found => {
            let what = "the content manifest".to_owned();
            Err(FetchError::Digest { what, expected: expected.clone(), found })
        }
        _ => Ok(()),
    }
}
