//! The image that only this mirror has: a pull of it proves that the runtime asks here.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::json;

use crate::images::{Access, Blob, Manifest};
use crate::name::{Digest, Reference, Repository};

/// The registry of the canary: a name that no resolver knows (RFC 6761).
pub const CANARY_HOST: &str = "mirror-check.invalid";
/// Its repository.
pub const CANARY_REPOSITORY: &str = "canary";
/// Pulls that may be under way.
const MAX_NONCES: usize = 4;
/// The layer: the end of a tar archive, and nothing before it.
const LAYER: [u8; 1024] = [0; 1024];

/// The canary's bytes, and the tags under which it may be pulled now.
#[derive(Debug)]
pub struct Canary {
    manifest: Manifest,
    config: Bytes,
    nonces: Mutex<VecDeque<String>>,
}

impl Canary {
    /// An image for this machine's platform.
    pub(crate) fn new() -> Self {
        let layer = Digest::of(&LAYER);
        let config = Bytes::from(
            json!({
                "architecture": architecture(), "os": "linux", "config": {},
                "rootfs": { "type": "layers", "diff_ids": [layer.to_string()] },
            })
            .to_string(),
        );
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": Digest::of(&config).to_string(), "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer.to_string(), "size": LAYER.len(),
            }],
        });
        let manifest = Manifest::new(MANIFEST, manifest.to_string().into(), Access::Node)
            .expect("a small manifest with a proper media type");
        Self { manifest, config, nonces: Mutex::default() }
    }

    /// From now on the canary can be pulled as [`canary_reference`]`(nonce)`, until four later ones were armed. `nonce` is at most 128
    /// letters and digits that nobody can guess: another program on our port would answer any.
    pub fn arm(&self, nonce: &str) {
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        if nonces.len() == MAX_NONCES {
            nonces.pop_front();
        }
        nonces.push_back(nonce.to_owned());
    }

    pub(crate) fn manifest(&self, repository: &Repository, reference: &Reference) -> Option<Manifest> {
        let known = match reference {
            Reference::Tag(tag) => {
                self.nonces.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|nonce| nonce == tag)
            }
            Reference::Digest(digest) => *digest == self.manifest.digest(),
        };
        let here = repository.host() == CANARY_HOST && repository.path() == CANARY_REPOSITORY;
        (here && known).then(|| self.manifest.clone())
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Option<Blob> {
        let bytes = [self.config.clone(), Bytes::from_static(&LAYER)];
        bytes.into_iter().find(|bytes| Digest::of(bytes) == *digest).map(Blob::Bytes)
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What to pull after [`Canary::arm`]`(nonce)`.
pub fn canary_reference(nonce: &str) -> String {
    format!("{CANARY_HOST}/{CANARY_REPOSITORY}:{nonce}")
}

/// This machine's, as Go calls it: what runtimes compare with.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull(canary: &Canary, tag: &str) -> bool {
        let repository = Repository::new(CANARY_HOST, CANARY_REPOSITORY).unwrap();
        canary.manifest(&repository, &Reference::Tag(tag.into())).is_some()
    }

    #[test]
    fn only_the_last_tags_that_were_armed_are_known() {
        let canary = Canary::new();
        assert!(!pull(&canary, "a"), "nothing was armed");
        for nonce in ["a", "b", "c", "d"] {
            canary.arm(nonce);
        }
        assert!(pull(&canary, "a") && pull(&canary, "d"));
        canary.arm("e");
        assert!(!pull(&canary, "a") && pull(&canary, "b"));
        let elsewhere = Repository::new("docker.io", CANARY_REPOSITORY).unwrap();
        assert!(canary.manifest(&elsewhere, &Reference::Tag("b".into())).is_none());
    }

    #[test]
    fn the_manifest_names_blobs_that_are_there() {
        let canary = Canary::new();
        let manifest: serde_json::Value = serde_json::from_slice(canary.manifest.bytes()).unwrap();
        for blob in [&manifest["config"], &manifest["layers"][0]] {
            let digest: Digest = blob["digest"].as_str().unwrap().parse().unwrap();
            let Some(Blob::Bytes(bytes)) = canary.blob(&digest) else { panic!("{digest} is not there") };
            assert_eq!(blob["size"], bytes.len());
        }
    }
}
