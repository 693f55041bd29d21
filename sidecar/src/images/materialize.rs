//! An image's way into the container runtime: a lease on its layers, then a pull that the mirror answers.

use crds::RevisionImage;
use origin::registry::Reference;
use runtime::{Error, Image, Runtime};

use super::Images;
use super::names::Names;

/// What the runtime has of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Materialized {
    /// It was there.
    Present,
    /// It has been pulled now.
    Pulled,
    /// It was there before, and is gone: the kubelet's garbage collection takes what no pod uses when the disk fills.
    Evicted,
    /// Another image has its name now, or is to have it.
    Replaced,
}

/// What a revision wants of the runtime, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Whose it is.
    pub revision: &'a str,
    /// The image.
    pub image: &'a RevisionImage,
    /// Its layers' digests.
    pub layers: &'a [String],
    /// The runtime had it already, so that it is not pulled again if it is gone.
    pub had: bool,
    /// No other revision has replaced this one.
    pub current: bool,
}

/// Sees to it that the runtime has the image.
pub async fn materialize(
    images: &Images,
    runtime: &Runtime,
    wanted: Wanted<'_>,
) -> Result<Materialized, Error> {
    let Wanted { revision, image, layers, .. } = wanted;
    let name = runtime_name(image);
    images.names.hold(revision, image, wanted.current);
    let there = runtime.image(&name).await?;
    let materialized = match what_is_there(there.as_ref(), &images.names, wanted) {
        Some(Materialized::Present) if there.is_some_and(|there| there.pinned == image.pin) => {
            return Ok(Materialized::Present);
        }
        Some(Materialized::Evicted) => {
            // Else the lease would keep on the disk what was taken away to free it.
            runtime.release(revision).await?;
            return Ok(Materialized::Evicted);
        }
        Some(Materialized::Replaced) => return Ok(Materialized::Replaced),
        Some(there) => there,
        None => {
            // What all images of a node unpack at a time is bounded.
            let _turn = images.pulls.acquire().await;
            // Before the pull: with `discard_unpacked_layers` they are gone right after it.
            runtime.lease(&images.owner, revision, layers).await?;
            runtime.pull(&name, &image.digest).await?;
            Materialized::Pulled
        }
    };
    // Each pull takes the label away, whoever has made it.
    if image.pin {
        runtime.pin(&name).await?;
    }
    Ok(materialized)
}

/// What has become of the image; `None` if it is to be pulled. The name is taken from what this revision has replaced, and never by one
/// that is replaced itself: two that take it from each other would pull for ever, and the mirror gives the newer one for the tag.
fn what_is_there(there: Option<&Image>, names: &Names, wanted: Wanted<'_>) -> Option<Materialized> {
    let Wanted { image, had, current, .. } = wanted;
    match there {
        Some(there) if has(there, &image.digest) => Some(Materialized::Present),
        None if had => Some(Materialized::Evicted),
        _ if !current => Some(Materialized::Replaced),
        Some(there) if had => {
            let former = names.is_former(&runtime_name(image), |digest| has(there, digest));
            (!former).then_some(Materialized::Replaced)
        }
        _ => None,
    }
}

/// Whether what the runtime has under the image's name is that image.
pub fn is_in(there: &Image, image: &RevisionImage) -> bool {
    has(there, &image.digest)
}

/// Whether the runtime's image is the one with this digest.
fn has(there: &Image, digest: &str) -> bool {
    there.digests.iter().any(|known| known.rsplit_once('@').is_some_and(|(_, known)| known == digest))
}

/// What the runtime calls the image: without the tag where there is a digest (containerd's `ParseDockerRef`).
pub fn runtime_name(image: &RevisionImage) -> String {
    match Reference::parse(&image.reference) {
        Ok(reference) => match reference.digest() {
            Some(digest) => format!("{}@{digest}", reference.name()),
            None => image.reference.clone(),
        },
        // The operator has parsed it; the runtime will say what is wrong.
        Err(_) => image.reference.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_is(digest: &str) -> Image {
        let digests = vec![format!("r.example/a@{digest}")];
        Image { id: "i".into(), tags: Vec::new(), digests, size: 1, pinned: false }
    }

    #[test]
    fn a_name_goes_from_what_was_replaced_to_what_replaced_it_and_never_back() {
        let image = |digest: &str| -> RevisionImage {
            serde_json::from_value(serde_json::json!({
                "reference": "r.example/a:1", "digest": digest, "mediaType": "a/b", "manifests": [],
                "access": "Cluster", "materialize": "Image", "pin": true,
            }))
            .unwrap()
        };
        let (names, old, new) = (Names::default(), image("old"), image("new"));
        names.hold("a-1", &old, false);
        names.hold("a-2", &new, true);
        let found = |image: &RevisionImage, there: Option<&str>, had: bool, current: bool, known: &Names| {
            let there = there.map(there_is);
            what_is_there(there.as_ref(), known, Wanted { revision: "a", image, layers: &[], had, current })
        };
        for had in [false, true] {
            assert_eq!(found(&new, Some("old"), had, true, &names), None, "it is pulled");
            let left = found(&old, Some("new"), had, false, &names);
            assert_eq!(left, Some(Materialized::Replaced), "nor after a restart, nor when it is pinned");
            assert_eq!(found(&old, Some("old"), had, false, &names), Some(Materialized::Present));
        }
        let other = found(&new, Some("other"), true, true, &names);
        assert_eq!(other, Some(Materialized::Replaced), "nobody knows whose that is");
        assert_eq!(found(&new, Some("other"), false, true, &names), None);
        assert_eq!(found(&new, None, true, true, &names), Some(Materialized::Evicted));
        assert_eq!(found(&new, None, false, true, &names), None);
        assert_eq!(found(&old, None, false, false, &names), Some(Materialized::Replaced));
    }

    #[test]
    fn the_runtime_knows_an_image_with_a_digest_by_that_alone() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let image = |reference: &str| -> RevisionImage {
            serde_json::from_value(serde_json::json!({
                "reference": reference, "digest": digest, "mediaType": "a/b", "manifests": [], "leftOut": 0,
                "access": "Cluster", "materialize": "Image", "pin": true,
            }))
            .unwrap()
        };
        let named = |reference: &str| runtime_name(&image(reference));
        assert_eq!(named("docker.io/library/a:1"), "docker.io/library/a:1");
        assert_eq!(
            named(&format!("docker.io/library/a:1@{digest}")),
            format!("docker.io/library/a@{digest}")
        );
    }
}
