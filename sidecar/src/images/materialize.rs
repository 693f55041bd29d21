//! An image's way into the container runtime: a lease on its layers, then a pull that the mirror answers.

use crds::RevisionImage;
use origin::registry::Reference;
use runtime::{Error, Runtime};

use super::Images;

/// What the runtime has of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Materialized {
    /// It was there.
    Present,
    /// It has been pulled now.
    Pulled,
    /// It was there before, and is gone: the kubelet's garbage collection takes what no pod uses when the disk fills.
    Evicted,
    /// It was there before, and another image has its name now.
    Replaced,
}

/// Sees to it that the runtime has the image. `had`: it had it already, so that it is not pulled again if it is gone.
pub async fn materialize(
    images: &Images,
    runtime: &Runtime,
    revision: &str,
    image: &RevisionImage,
    layers: &[String],
    had: bool,
) -> Result<Materialized, Error> {
    let name = runtime_name(image);
    let there = runtime.image(&name).await?;
    let materialized = match there {
        Some(there) if is_in(&there, image) => {
            if there.pinned == image.pin {
                return Ok(Materialized::Present);
            }
            Materialized::Present
        }
        Some(_) if had => return Ok(Materialized::Replaced),
        None if had => {
            // Else the lease would keep on the disk what was taken away to free it.
            runtime.release(revision).await?;
            return Ok(Materialized::Evicted);
        }
        Some(_) | None => {
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

/// Whether what the runtime has under the image's name is that image.
pub fn is_in(there: &runtime::Image, image: &RevisionImage) -> bool {
    let is_it = |digest: &String| digest.rsplit_once('@').is_some_and(|(_, digest)| digest == image.digest);
    there.digests.iter().any(is_it)
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
