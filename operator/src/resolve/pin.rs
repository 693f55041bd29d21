//! Digests that name things: a resolved listing, a source as written, a revision.

use crds::{DistributionSpec, RevisionImage, TorrentVersion};
use operator_api::GrantedFile;
use sha2::{Digest, Sha256};

/// Characters of the `Distribution`'s name that a revision's name keeps.
const NAME_KEPT: usize = 40;
/// Hex digits of the digest in a revision's name.
const NAME_DIGITS: usize = 12;

/// SHA-256 (hex) over the canonical listing: every path with its size and what pins it. A declared digest alone pins a file;
/// without one the validators do. So a mirror with the same declared bytes is the same pin.
pub fn pin(files: &[GrantedFile], version: TorrentVersion) -> String {
    let mut hash = Sha256::new();
    field(&mut hash, b"samara pin 1");
    field(&mut hash, version_name(version).as_bytes());
    for file in files {
        field(&mut hash, file.path.as_bytes());
        hash.update(file.size.to_be_bytes());
        if let Some(sha256) = &file.sha256 {
            field(&mut hash, b"sha256");
            field(&mut hash, sha256.as_bytes());
        } else {
            field(&mut hash, b"validators");
            field(&mut hash, file.etag.as_deref().unwrap_or_default().as_bytes());
            field(&mut hash, file.last_modified.as_deref().unwrap_or_default().as_bytes());
        }
    }
    hex::encode(hash.finalize())
}

/// The same for an image: what is done with it stands in the immutable part of a revision, so that an edit of that is another.
pub fn image_pin(listing: &str, image: &RevisionImage) -> String {
    let mut hash = Sha256::new();
    field(&mut hash, b"samara image pin 1");
    field(&mut hash, listing.as_bytes());
    field(&mut hash, &serde_json::to_vec(image).unwrap_or_default());
    hex::encode(hash.finalize())
}

/// With its length, so that no two listings run together into the same bytes.
fn field(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

fn version_name(version: TorrentVersion) -> &'static str {
    match version {
        TorrentVersion::Hybrid => "hybrid",
        TorrentVersion::V2 => "v2",
        TorrentVersion::V1 => "v1",
    }
}

/// SHA-256 (hex) of the source as the user wrote it, with the torrent's version: an edit of either asks for another revision, and an
/// image's tag is looked up again, whatever was edited.
pub fn source_hash(spec: &DistributionSpec) -> String {
    let source = serde_json::to_vec(&spec.source).unwrap_or_default();
    let mut hash = Sha256::new();
    field(&mut hash, &source);
    field(&mut hash, version_name(spec.torrent.version).as_bytes());
    hex::encode(hash.finalize())
}

/// `<name cut to 40>-<12 hex digits over UID and pin>`: at most 53 characters, fit for a label's value.
pub fn revision_name(distribution: &str, uid: &str, pin: &str) -> String {
    let kept: String = distribution.chars().take(NAME_KEPT).collect();
    let kept = kept.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    let digest = Sha256::new().chain_update(uid).chain_update(pin).finalize();
    format!("{kept}-{}", &hex::encode(digest)[..NAME_DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, sha256: Option<&str>, etag: Option<&str>) -> GrantedFile {
        GrantedFile {
            path: path.into(),
            url: "http://h/x".into(),
            text: None,
            size: 1,
            sha256: sha256.map(str::to_owned),
            etag: etag.map(str::to_owned),
            last_modified: None,
        }
    }

    #[test]
    fn validators_pin_what_no_digest_does() {
        let hybrid = |file: GrantedFile| pin(&[file], TorrentVersion::Hybrid);
        let declared = hybrid(file("a", Some("d"), Some("1")));
        assert_eq!(declared, hybrid(file("a", Some("d"), Some("2"))));
        assert_ne!(hybrid(file("a", None, Some("1"))), hybrid(file("a", None, Some("2"))));
        assert_ne!(declared, hybrid(file("b", Some("d"), Some("1"))));
        assert_ne!(declared, pin(&[file("a", Some("d"), Some("1"))], TorrentVersion::V2));
    }

    #[test]
    fn every_edit_of_a_source_is_another_source_and_no_other_edit_is() {
        let hash = |image: serde_json::Value, rest: serde_json::Value| {
            let with = |whole: serde_json::Value, part: serde_json::Value| {
                let members = [whole, part].into_iter().flat_map(|value| value.as_object().unwrap().clone());
                serde_json::Value::Object(members.collect())
            };
            let image = with(serde_json::json!({"reference": "r.example/a:1"}), image);
            source_hash(
                &serde_json::from_value(with(serde_json::json!({"source": {"image": image}}), rest)).unwrap(),
            )
        };
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let written = hash(json("{}"), json("{}"));
        for edit in [
            r#"{"pin": true}"#,
            r#"{"access": "UpstreamManifests"}"#,
            r#"{"access": "Relay"}"#,
            r#"{"materialize": "Blobs"}"#,
            r#"{"pullSecrets": [{"name": "s"}]}"#,
            r#"{"platforms": ["linux/amd64"]}"#,
        ] {
            assert_ne!(hash(json(edit), json("{}")), written, "{edit}");
        }
        assert_ne!(hash(json("{}"), json(r#"{"torrent": {"version": "V2"}}"#)), written);
        let elsewhere = r#"{"placement": {"nodeSelector": {"a": "b"}}, "origin": {"fetchers": 2}, "retention": {"onDelete": "Retain"}}"#;
        assert_eq!(hash(json("{}"), json(elsewhere)), written);
    }

    #[test]
    fn names_fit_labels() {
        let name = revision_name(&format!("{}.bert", "a".repeat(39)), "uid", "pin");
        assert!(name.len() <= 53 && name.starts_with(&"a".repeat(39)), "{name}");
        assert_eq!(name.as_bytes()[39], b'-');
        assert_ne!(revision_name("a", "u", "p"), revision_name("a", "u", "q"));
        assert_ne!(revision_name("a", "u", "p"), revision_name("a", "v", "p"));
    }
}
