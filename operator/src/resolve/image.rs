//! An image as files: an OCI image layout (OCI image-spec, `image-layout.md`). Pure.

use std::collections::BTreeSet;

use crds::{ImageSource, PlatformManifest, RevisionImage, TorrentVersion};
use operator_api::{GrantedFile, reason};
use origin::registry::{Digest, Image, Platform, Platforms, Reference, Registry};
use serde_json::json;

use super::{ResolveError, Resolved, listing, pin};

/// The whole of the file that says that a folder is a layout.
const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// Which platforms of an image are wanted. `nodes`: those of the nodes that are to have it.
pub fn platforms(source: &ImageSource, nodes: &BTreeSet<String>) -> Result<Platforms, ResolveError> {
    if !source.is_auto() {
        let parse = |text: &String| {
            let wrong = format!(
                "platform {text:?} is not os/architecture[/variant], like linux/arm64 or linux/arm/v7: correct it"
            );
            Platform::parse(text).ok_or_else(|| ResolveError::refused("InvalidSpec", wrong))
        };
        return Ok(Platforms::All(source.platforms.iter().map(parse).collect::<Result<_, _>>()?));
    }
    // A node that says something odd of itself must not keep the others from theirs.
    let nodes: BTreeSet<Platform> = nodes.iter().filter_map(|text| Platform::parse(text)).collect();
    if nodes.is_empty() {
        return Err(ResolveError::refused(
            reason::NO_SUCH_PLATFORM,
            "platforms is Auto, and no node is selected yet that says what it is: it goes on when there is one, or name the platforms",
        ));
    }
    Ok(Platforms::OfNodes(nodes))
}

/// Those of the nodes' platforms, at most 6, for which an image is not there.
pub fn lacking(image: &RevisionImage, nodes: &BTreeSet<String>) -> Vec<String> {
    const SHOWN: usize = 6;
    let has: Vec<Platform> =
        image.manifests.iter().filter_map(|manifest| Platform::parse(&manifest.platform)).collect();
    let there = |node: &&String| {
        Platform::parse(node).is_some_and(|node| has.iter().any(|platform| platform.is_like(&node)))
    };
    nodes.iter().filter(|node| !there(node)).take(SHOWN).cloned().collect()
}

/// The image as the files of a layout. What is small and known already comes with its text: registries count each request for a
/// manifest, and give some of them only to who names their type.
pub fn as_layout(
    registry: &Registry,
    reference: &Reference,
    image: Image,
    source: &ImageSource,
    version: TorrentVersion,
) -> Result<Resolved, ResolveError> {
    let index = index(reference, &image);
    let mut files = vec![
        text("index.json", String::new(), index),
        text("oci-layout", String::new(), OCI_LAYOUT.to_owned()),
    ];
    let described = describe(reference, &image, source);
    let documents: BTreeSet<Digest> =
        image.documents.iter().map(|document| document.digest.clone()).collect();
    for document in image.documents {
        files.push(text(&path(&document.digest), registry.manifest_url(&document.digest), document.text));
    }
    for (digest, size) in image.blobs.into_iter().filter(|(digest, _)| !documents.contains(digest)) {
        files.push(GrantedFile {
            path: path(&digest),
            url: registry.blob_url(&digest),
            text: None,
            size,
            sha256: Some(digest.hex().to_owned()),
            etag: None,
            last_modified: None,
        });
    }
    files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    let bytes = listing::total(&files)?;
    let pin = pin::image_pin(&pin::pin(&files, version), &described);
    Ok(Resolved::new(pin, files, bytes, Some(described)))
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn text(path: &str, url: String, text: String) -> GrantedFile {
    GrantedFile {
        path: path.to_owned(),
        url,
        size: text.len() as u64,
        sha256: Some(Digest::of(text.as_bytes()).hex().to_owned()),
        text: Some(text),
        etag: None,
        last_modified: None,
    }
}

/// `index.json`: the way in. Its annotations are what tools name the image by.
fn index(reference: &Reference, image: &Image) -> String {
    let top = image.documents.iter().find(|document| document.digest == image.digest);
    let size = top.map_or(0, |document| document.text.len());
    let mut annotations = json!({"io.containerd.image.name": reference.to_string()});
    if let Some(tag) = reference.tag() {
        annotations["org.opencontainers.image.ref.name"] = tag.into();
    }
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": image.media_type, "digest": image.digest.to_string(), "size": size, "annotations": annotations,
        }],
    })
    .to_string()
}

/// What sidecars need to know of it.
fn describe(reference: &Reference, image: &Image, source: &ImageSource) -> RevisionImage {
    let manifests = image.manifests.iter().map(|manifest| PlatformManifest {
        platform: manifest.platform.to_string(),
        digest: manifest.digest.to_string(),
        media_type: manifest.media_type.clone(),
    });
    RevisionImage {
        reference: reference.to_string(),
        digest: image.digest.to_string(),
        media_type: image.media_type.clone(),
        manifests: manifests.collect(),
        left_out: i32::try_from(image.left_out).unwrap_or(i32::MAX),
        access: source.access(),
        materialize: source.materialize(),
        pin: source.pin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(platforms: &[&str]) -> ImageSource {
        serde_json::from_value(json!({"reference": "a", "platforms": platforms})).unwrap()
    }

    fn named(platforms: &[&str]) -> Result<Platforms, String> {
        super::platforms(&source(platforms), &BTreeSet::new()).map_err(|error| error.failure().message)
    }

    #[test]
    fn platforms_are_taken_in_the_words_of_others_and_refused_with_what_to_write() {
        assert_eq!(
            named(&["linux/arm64/v8", "Linux/X86_64", "linux/amd64"]),
            named(&["linux/arm64", "linux/amd64"])
        );
        for wrong in ["linux", "linux/amd64/v2/x", "linux/amd64/", "linux//v7", "linux/amd 64"] {
            let message = named(&["linux/amd64", wrong]).unwrap_err();
            assert!(message.contains(wrong) && message.contains("like linux/arm64"), "{message}");
        }
    }

    #[test]
    fn what_an_image_lacks_is_told_whatever_words_its_nodes_have() {
        let manifests: Vec<_> = ["linux/amd64/v2", "linux/arm/v7"]
            .iter()
            .map(|platform| json!({"platform": platform, "digest": "d", "mediaType": "m"}))
            .collect();
        let image: RevisionImage = serde_json::from_value(json!({
            "reference": "a", "digest": "d", "mediaType": "m", "manifests": manifests,
            "access": "Cluster", "materialize": "Image", "pin": false,
        }))
        .unwrap();
        let nodes = ["linux/amd64", "linux/x86_64", "linux/arm", "linux/arm64", "windows/amd64", "x y/z"];
        let nodes = nodes.iter().map(|&node| node.to_owned()).collect();
        assert_eq!(lacking(&image, &nodes), ["linux/arm64", "windows/amd64", "x y/z"]);
    }

    #[test]
    fn a_node_that_says_something_odd_is_passed_over() {
        let nodes =
            |all: &[&str]| super::platforms(&source(&["Auto"]), &all.iter().map(|&n| n.to_owned()).collect());
        assert_eq!(nodes(&["linux/amd64", "x y/z"]).unwrap(), nodes(&["linux/amd64"]).unwrap());
        assert_eq!(nodes(&["x y/z"]).unwrap_err().failure().reason, reason::NO_SUCH_PLATFORM);
    }
}
