//! Indexes and manifests (OCI image-spec, Docker image manifest version 2 schema 2), read strictly. Pure.

use serde::Deserialize;
use serde_json::Value;

use super::strict::{Strict, check_spelling};
use super::{Digest, Platform};

/// The largest index or manifest, in bytes: what containerd and registries take at most.
pub(super) const MAX_DOCUMENT: u64 = 4 << 20;
/// The most manifests of an index, and the most layers of a manifest.
pub(super) const MAX_ENTRIES: usize = 512;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// `Accept` of every request for a manifest: a registry may give something else to who does not name it.
pub(super) const ACCEPTED: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];
/// What the `config` of an image is.
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// Names that a reader must not find spelled otherwise.
const TOP: [&str; 7] =
    ["schemaVersion", "mediaType", "manifests", "layers", "config", "fsLayers", "artifactType"];
const DESCRIPTOR: [&str; 6] = ["mediaType", "digest", "size", "urls", "platform", "data"];
const PLATFORM: [&str; 3] = ["os", "architecture", "variant"];

/// What a document is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Document {
    /// A list of manifests, one for each platform.
    Index(Vec<Descriptor>),
    /// An image.
    Manifest(Manifest),
}

/// An image of one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

/// Something by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    /// For which, if it says something that can be one.
    pub platform: Option<Platform>,
    /// It lies elsewhere, or is not to be passed on.
    pub foreign: bool,
}

impl Descriptor {
    pub fn is_index(&self) -> bool {
        is_index(&self.media_type)
    }
}

fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

/// Reads a document; `said` is what the registry, or whoever points to it, calls it. Gives its media type too.
pub(super) fn parse(bytes: &[u8], said: Option<&str>) -> Result<(Document, String), String> {
    let Strict(value) = serde_json::from_slice(bytes).map_err(|error| format!("it is not JSON: {error}"))?;
    let Value::Object(top) = &value else { return Err("it is not a JSON object".to_owned()) };
    check_spelling(top, &TOP)?;
    let written = match top.get("mediaType") {
        Some(Value::String(written)) => Some(written.as_str()),
        None => None,
        Some(_) => return Err("its mediaType is no text".to_owned()),
    };
    let media_type = media_type(top, written, said)?;
    if top.get("schemaVersion") != Some(&Value::from(2)) {
        return Err("its schemaVersion is not 2".to_owned());
    }
    let (lists, layers) = (top.contains_key("manifests"), top.contains_key("layers"));
    if (lists, layers || top.contains_key("config")) != (is_index(&media_type), !is_index(&media_type)) {
        return Err(format!(
            "an index has manifests, a manifest config and layers, and this is neither ({media_type})"
        ));
    }
    let document = if lists { index(&top["manifests"])? } else { manifest(&value)? };
    Ok((document, media_type))
}

/// The type as the document itself says it, which must be what it is called from outside.
fn media_type(
    top: &serde_json::Map<String, Value>,
    written: Option<&str>,
    said: Option<&str>,
) -> Result<String, String> {
    let said = said.map(|said| said.split(';').next().unwrap_or_default().trim());
    // What serves files without knowing them says one of these.
    let said = said
        .filter(|said| !matches!(*said, "" | "application/json" | "application/octet-stream" | "text/plain"));
    let old = |kind: &str| kind.contains("docker.distribution.manifest.v1");
    if top.get("schemaVersion") == Some(&Value::from(1)) || said.is_some_and(old) || written.is_some_and(old)
    {
        return Err("it is in Docker's schema 1, which runtimes have dropped: push the image again with a \
                    current client"
            .to_owned());
    }
    let media_type = match (written, said) {
        (Some(written), Some(said)) if written != said => {
            return Err(format!("it is called {said:.80} and calls itself {written:.80}"));
        }
        (Some(kind), _) | (None, Some(kind)) => kind,
        // OCI 1.0 had no mediaType in the document.
        (None, None) if top.contains_key("manifests") => OCI_INDEX,
        (None, None) => OCI_MANIFEST,
    };
    if ACCEPTED.contains(&media_type) {
        Ok(media_type.to_owned())
    } else {
        Err(format!("{media_type:.80} is neither an image nor an index of images"))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
    #[serde(default)]
    platform: Option<RawPlatform>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawPlatform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl RawPlatform {
    fn read(&self) -> Option<Platform> {
        Platform::of_image(&self.os, &self.architecture, self.variant.as_deref())
    }
}

fn descriptor(value: &Value) -> Result<Descriptor, String> {
    let object = value.as_object().ok_or("a descriptor is no object")?;
    check_spelling(object, &DESCRIPTOR)?;
    if let Some(platform) = object.get("platform").and_then(Value::as_object) {
        check_spelling(platform, &PLATFORM)?;
    }
    let raw = RawDescriptor::deserialize(value).map_err(|error| format!("a descriptor: {error}"))?;
    let digest = Digest::parse(&raw.digest).map_err(|why| format!("digest {:.100}: {why}", raw.digest))?;
    if raw.size == 0 || i64::try_from(raw.size).is_err() {
        return Err(format!("{digest} has the size {}", raw.size));
    }
    let foreign = raw.urls.is_some_and(|urls| !urls.is_empty())
        || raw.media_type.contains(".nondistributable.")
        || raw.media_type.contains(".foreign.");
    // What is no platform is nobody's: it is never wanted.
    let platform = raw.platform.and_then(|platform| platform.read());
    Ok(Descriptor { media_type: raw.media_type, digest, size: raw.size, platform, foreign })
}

fn descriptors(value: &Value, what: &str) -> Result<Vec<Descriptor>, String> {
    let list = value.as_array().ok_or_else(|| format!("its {what} are no list"))?;
    if list.len() > MAX_ENTRIES {
        return Err(format!("it has {} {what}, more than {MAX_ENTRIES}", list.len()));
    }
    list.iter().map(descriptor).collect()
}

fn index(manifests: &Value) -> Result<Document, String> {
    descriptors(manifests, "manifests").map(Document::Index)
}

fn manifest(value: &Value) -> Result<Document, String> {
    let config = descriptor(value.get("config").ok_or("it has no config")?)?;
    if !CONFIGS.contains(&config.media_type.as_str()) {
        return Err(format!("its config is {:.80}: it is an artifact, not an image", config.media_type));
    }
    let layers = descriptors(value.get("layers").ok_or("it has no layers")?, "layers")?;
    if layers.is_empty() {
        return Err("it has no layers: there is nothing to distribute".to_owned());
    }
    Ok(Document::Manifest(Manifest { config, layers }))
}

/// What the manifest of an image names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Its configuration.
    pub config: Digest,
    /// Its layers, also those that lie elsewhere.
    pub layers: Vec<Digest>,
}

impl Contents {
    /// Reads a manifest of this media type; says what is wrong with it.
    pub fn read(bytes: &[u8], media_type: &str) -> Result<Self, String> {
        let (Document::Manifest(manifest), _) = parse(bytes, Some(media_type))? else {
            return Err("it is an index, not the manifest of an image".to_owned());
        };
        let layers = manifest.layers.into_iter().map(|layer| layer.digest).collect();
        Ok(Self { config: manifest.config.digest, layers })
    }
}

/// The platform that an image's configuration says.
pub(super) fn config_platform(bytes: &[u8]) -> Result<Platform, String> {
    let Strict(value) = serde_json::from_slice(bytes).map_err(|error| format!("it is not JSON: {error}"))?;
    check_spelling(value.as_object().ok_or("it is not a JSON object")?, &PLATFORM)?;
    let raw = RawPlatform::deserialize(&value).map_err(|error| error.to_string())?;
    raw.read().ok_or_else(|| "it does not say for which os and architecture it is".to_owned())
}
