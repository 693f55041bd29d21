//! What a fetcher says that it has built, held against what lies at the trackers and against what was resolved. Pure.

use std::collections::BTreeMap;

use crds::TorrentVersion;
use operator_api::{Completed, GrantedFile};
use torrent::manifest::{MAX_BYTES, Manifest};
use torrent::{Limits, Metainfo};

use crate::grants::Built;

/// Why a completion is not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The metainfo cannot be read.
    #[error("the metainfo at the trackers cannot be read: {0}")]
    Metainfo(String),
    /// The manifest cannot be read.
    #[error("the manifest at the trackers cannot be read: {0}")]
    Manifest(String),
    /// The two, the fetcher, and the resolved source do not say the same.
    #[error("{0}")]
    Disagreement(String),
}

fn disagree(what: impl Into<String>) -> Rejection {
    Rejection::Disagreement(what.into())
}

/// Checks everything that can be checked without the payload. It hashes and parses up to 256 MiB: not for an async thread.
pub fn verify(
    said: &Completed,
    files: &[GrantedFile],
    version: TorrentVersion,
    expected_digest: Option<&str>,
    metainfo: &[u8],
    manifest: &[u8],
) -> Result<Built, Rejection> {
    let metainfo =
        Metainfo::parse(metainfo, &Limits::OWN).map_err(|error| Rejection::Metainfo(error.to_string()))?;
    let manifest =
        Manifest::parse(manifest, MAX_BYTES).map_err(|error| Rejection::Manifest(error.to_string()))?;
    let digest = hex::encode(manifest.digest());
    if digest != said.manifest_digest {
        return Err(disagree("the manifest at the trackers has another digest than the fetcher says"));
    }
    if expected_digest.is_some_and(|expected| expected.strip_prefix("sha256:") != Some(&digest)) {
        return Err(disagree(format!("the content is sha256:{digest}, and expectedDigest is another")));
    }
    let (v1, v2) =
        (metainfo.info_hash_v1().map(|h| h.to_string()), metainfo.info_hash_v2().map(|h| h.to_string()));
    if v1 != said.info_hash_v1 || v2 != said.info_hash_v2 {
        return Err(disagree("the metainfo at the trackers has other infohashes than the fetcher says"));
    }
    let form = match version {
        TorrentVersion::Hybrid => (true, true),
        TorrentVersion::V2 => (false, true),
        TorrentVersion::V1 => (true, false),
    };
    if (v1.is_some(), v2.is_some()) != form {
        return Err(disagree("the torrent has not the version that was asked for"));
    }
    same_files(&manifest, files)?;
    same_sizes(&manifest, &metainfo)?;
    let bytes = i64::try_from(metainfo.total_size()).map_err(|_| disagree("the torrent is too large"))?;
    Ok(Built {
        torrent: crds::Torrent { info_hash_v1: v1, info_hash_v2: v2, bytes },
        manifest_digest: digest,
    })
}

/// The manifest names the resolved files, with the declared digests.
fn same_files(manifest: &Manifest, files: &[GrantedFile]) -> Result<(), Rejection> {
    let resolved: BTreeMap<&str, &GrantedFile> =
        files.iter().map(|file| (file.path.as_str(), file)).collect();
    if manifest.entries().len() != resolved.len() {
        return Err(disagree("the manifest has another number of files than the source"));
    }
    for entry in manifest.entries() {
        let path = entry.path.as_str();
        let Some(file) = resolved.get(path) else {
            return Err(disagree(format!("the manifest names {path:?}, which the source does not")));
        };
        if file.size != entry.size {
            return Err(disagree(format!(
                "{path:?} has {} bytes, and was resolved with {}",
                entry.size, file.size
            )));
        }
        if file.sha256.as_deref().is_some_and(|declared| declared != hex::encode(entry.sha256)) {
            return Err(disagree(format!("{path:?} has another sha256 than declared")));
        }
    }
    Ok(())
}

/// The torrent carries the manifest's bytes. A single blob goes by its digest there, a tree by its paths.
fn same_sizes(manifest: &Manifest, metainfo: &Metainfo) -> Result<(), Rejection> {
    if let [only] = manifest.entries() {
        let [file] = metainfo.files() else { return Err(disagree("the torrent has not one file")) };
        if file.size != only.size || metainfo.content_digest() != Some(only.sha256) {
            return Err(disagree("the torrent is not that of the manifest's file"));
        }
        return Ok(());
    }
    let sizes: BTreeMap<&str, u64> =
        metainfo.files().iter().map(|file| (file.path.as_str(), file.size)).collect();
    let same = manifest.entries().iter().all(|entry| sizes.get(entry.path.as_str()) == Some(&entry.size));
    if same && sizes.len() == manifest.entries().len() {
        Ok(())
    } else {
        Err(disagree("the torrent has other files than the manifest"))
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};
    use torrent::manifest::Entry;
    use torrent::{Builder, RelPath, Version};

    use super::*;

    struct Case {
        said: Completed,
        files: Vec<GrantedFile>,
        metainfo: Vec<u8>,
        manifest: Vec<u8>,
    }

    fn case(contents: &[(&str, &[u8])]) -> Case {
        let builder = Builder::new(Version::Hybrid, 1 << 20).unwrap();
        let path = |path: &str| RelPath::parse(path).unwrap();
        let hashes = contents.iter().map(|(name, bytes)| {
            let mut hasher = builder.file_hasher(contents.len());
            hasher.update(bytes);
            (path(name), hasher.finish())
        });
        let metainfo = builder.build(hashes.collect()).unwrap();
        let entry = |(name, bytes): &(&str, &[u8])| Entry {
            path: path(name),
            size: bytes.len() as u64,
            sha256: Sha256::digest(bytes).into(),
        };
        let manifest = Manifest::new(contents.iter().map(entry).collect()).unwrap();
        let file = |(name, bytes): &(&str, &[u8])| GrantedFile {
            path: (*name).into(),
            url: "http://h/x".into(),
            text: None,
            size: bytes.len() as u64,
            sha256: Some(hex::encode(Sha256::digest(bytes))),
            etag: None,
            last_modified: None,
        };
        Case {
            said: Completed {
                grant: "g".into(),
                info_hash_v1: metainfo.info_hash_v1().map(|h| h.to_string()),
                info_hash_v2: metainfo.info_hash_v2().map(|h| h.to_string()),
                manifest_digest: hex::encode(manifest.digest()),
                bytes: manifest.total_size(),
                files: contents.len() as u64,
                origin_bytes: 0,
            },
            files: contents.iter().map(file).collect(),
            metainfo: metainfo.encode(),
            manifest: manifest.to_bytes(),
        }
    }

    fn check(case: &Case, expected: Option<&str>) -> Result<Built, Rejection> {
        verify(&case.said, &case.files, TorrentVersion::Hybrid, expected, &case.metainfo, &case.manifest)
    }

    #[test]
    fn what_fits_together_is_believed() {
        for contents in [&[("a", &b"x"[..])][..], &[("a", b""), ("b/c", b"yz")], &[("only", b"")]] {
            let case = case(contents);
            let built = check(&case, Some(&format!("sha256:{}", case.said.manifest_digest))).unwrap();
            assert_eq!(
                built.torrent.bytes,
                contents.iter().map(|(_, b)| i64::try_from(b.len()).unwrap()).sum::<i64>()
            );
        }
    }

    #[test]
    fn anything_else_is_not() {
        let good = || case(&[("a", b"x"), ("b", b"yz")]);
        let expect = |case: &Case, what: &str| {
            let error = check(case, None).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        };
        let mut bad = good();
        bad.said.info_hash_v1 = None;
        expect(&bad, "infohashes");
        let mut bad = good();
        bad.manifest = case(&[("a", b"y"), ("b", b"yz")]).manifest;
        expect(&bad, "digest");
        let mut bad = good();
        bad.metainfo.truncate(100);
        expect(&bad, "metainfo");
        let mut bad = good();
        bad.files[0].size = 2;
        expect(&bad, "resolved with 2");
        let mut bad = good();
        bad.files[1].sha256 = Some("00".repeat(32));
        expect(&bad, "declared");
        let mut bad = good();
        bad.files.pop();
        expect(&bad, "number of files");
        let other = case(&[("a", b"x"), ("c", b"yz")]);
        let mut bad = good();
        bad.metainfo = other.metainfo;
        bad.said.info_hash_v1 = other.said.info_hash_v1;
        bad.said.info_hash_v2 = other.said.info_hash_v2;
        expect(&bad, "other files");
        assert!(check(&good(), Some(&format!("sha256:{}", "0".repeat(64)))).is_err());
        let good = good();
        let v2 = verify(&good.said, &good.files, TorrentVersion::V2, None, &good.metainfo, &good.manifest);
        assert!(v2.unwrap_err().to_string().contains("version"));
    }
}
