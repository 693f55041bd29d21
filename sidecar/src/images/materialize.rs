//! An image's way into the container runtime: a lease on its layers, then a pull that the mirror answers.

use crds::RevisionImage;
use runtime::{Error, Runtime};

/// What the runtime has of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Materialized {
    /// It was there.
    Present,
    /// It has been pulled now.
    Pulled,
    /// It was there before, and is gone: the kubelet's garbage collection takes what no pod uses when the disk fills.
    Evicted,
}

/// Sees to it that the runtime has the image. `had`: it had it already, so that it is not pulled again if it is gone.
pub async fn materialize(
    runtime: &Runtime,
    owner: &str,
    revision: &str,
    image: &RevisionImage,
    layers: &[String],
    had: bool,
) -> Result<Materialized, Error> {
    let there = runtime.image(&image.reference).await?;
    let is_it = |digest: &String| digest.rsplit_once('@').is_some_and(|(_, digest)| digest == image.digest);
    let materialized = match there.filter(|there| there.digests.iter().any(is_it)) {
        Some(there) if there.pinned == image.pin => return Ok(Materialized::Present),
        Some(_) => Materialized::Present,
        None if had => {
            // Else the lease would keep on the disk what was taken away to free it.
            runtime.release(revision).await?;
            return Ok(Materialized::Evicted);
        }
        None => {
            // Before the pull: with `discard_unpacked_layers` they are gone right after it.
            runtime.lease(owner, revision, layers).await?;
            runtime.pull(&image.reference, &image.digest).await?;
            Materialized::Pulled
        }
    };
    // Each pull takes the label away, whoever has made it.
    if image.pin {
        runtime.pin(&image.reference).await?;
    }
    Ok(materialized)
}
