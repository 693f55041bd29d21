//! A small image with several layers of noise, in memory.

use std::collections::HashMap;

use anyhow::Result;
use bytes::Bytes;
use mirror::Digest;
use serde_json::{Value, json};

use super::UPSTREAM;
use crate::payload;

/// Bytes of the file in each layer: more than what a socket buffers, and quickly hashed.
const LAYER: usize = 1_000_000;
/// Layers in an image.
pub const LAYERS: usize = 3;
/// Media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An object of the image.
#[derive(Debug, Clone)]
pub struct Object {
    /// `index`, `manifest`, `config`, `layer0`...
    pub name: String,
    /// Its media type.
    pub media_type: &'static str,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Object {
    fn new(name: &str, media_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        Self { name: name.into(), media_type, bytes: bytes.into() }
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Whether it is asked for as a manifest.
    pub fn is_manifest(&self) -> bool {
        matches!(self.media_type, INDEX | MANIFEST)
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest().to_string(), "size": self.bytes.len() })
    }
}

/// An image: an index, the manifest for this platform, a config, and layers.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its repository, without the registry.
    pub repository: String,
    objects: Vec<Object>,
}

impl Image {
    /// One with bytes of its own for each `seed`.
    pub fn new(repository: &str, seed: u64) -> Result<Self> {
        let layer = |number| {
            let content = payload::bytes(seed * 100 + number as u64, LAYER);
            xtask::oci::tar(&xtask::oci::Layer { path: format!("file{number}"), content })
        };
        Ok(Self::of_layers(repository, (0..LAYERS).map(layer).collect::<Result<_, _>>()?))
    }

    /// One of these tars.
    pub fn of_layers(repository: &str, tars: Vec<Vec<u8>>) -> Self {
        let layer = |(number, tar)| {
            Object::new(&format!("layer{number}"), "application/vnd.oci.image.layer.v1.tar", tar)
        };
        let mut layers: Vec<_> = tars.into_iter().enumerate().map(layer).collect();
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer.digest().to_string()).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": { "Entrypoint": ["/file0"] },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = Object::new("config", "application/vnd.oci.image.config.v1+json", config.to_string());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(),
            "layers": layers.iter().map(Object::descriptor).collect::<Vec<_>>(),
        });
        let manifest = Object::new("manifest", MANIFEST, manifest.to_string());
        let mut entry = manifest.descriptor();
        entry["platform"] = json!({ "architecture": "amd64", "os": "linux" });
        // Another platform's manifest, which nobody may ask for.
        let mut other =
            json!({ "mediaType": MANIFEST, "digest": Digest::of(b"other").to_string(), "size": 5 });
        other["platform"] = json!({ "architecture": "s390x", "os": "linux" });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [other, entry] });
        let mut objects = vec![Object::new("index", INDEX, index.to_string()), manifest, config];
        objects.append(&mut layers);
        Self { repository: repository.into(), objects }
    }

    /// What a user writes.
    pub fn reference(&self) -> String {
        format!("127.0.0.1:{UPSTREAM}/{}:v1", self.repository)
    }

    /// The digest of the index.
    pub fn digest(&self) -> String {
        self.object("index").digest().to_string()
    }

    /// All objects.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// One of them.
    pub fn object(&self, name: &str) -> &Object {
        self.objects.iter().find(|object| object.name == name).expect("a test knows its image's objects")
    }

    /// The digests of the layers.
    pub fn layers(&self) -> Vec<String> {
        let layers = self.objects.iter().filter(|object| object.name.starts_with("layer"));
        layers.map(|layer| layer.digest().to_string()).collect()
    }

    /// What each path below `/v2/` asks for.
    pub fn paths(&self) -> HashMap<String, (String, Object)> {
        let tag =
            (format!("{}/manifests/v1", self.repository), ("tag".to_owned(), self.object("index").clone()));
        let by_digest = self.objects.iter().map(|object| {
            let kind = if object.is_manifest() { "manifests" } else { "blobs" };
            let path = format!("{}/{kind}/{}", self.repository, object.digest());
            (path, (object.name.clone(), object.clone()))
        });
        by_digest.chain([tag]).collect()
    }
}
