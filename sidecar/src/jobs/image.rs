//! What becomes of a published image: the mirror serves it, and the container runtime gets it if it is to.

use std::time::Duration;

use crds::{Materialize, NodePhase, RevisionImage};
use operator_api::reason;
use tokio::time::Instant;
use torrent::{PieceMap, RelPath};

use super::end::{End, RETRY};
use super::share::Sharing;
use super::state::stoppable;
use crate::desired::Problem;
use crate::images::{Arriving, Coming, Images, Materialized, Place, materialize};

/// An image that the kubelet's garbage collection has taken is pulled again after so long, when it was not pinned.
const EVICTED: Duration = Duration::from_mins(10);
/// Pause after a pull that did not work.
const PULL_RETRY: Duration = Duration::from_secs(30);

/// How far an image is on this node.
#[derive(Debug, Default)]
pub(super) struct ImageState {
    /// While it comes in.
    coming: Option<Coming>,
    place: Option<Place>,
    /// What was asked for is so, as far as is known.
    is_ready: bool,
    /// It was so once.
    had: bool,
    evicted: Option<Instant>,
}

impl Sharing {
    /// Whether the revision is ready as soon as it is published.
    pub(super) fn is_only_files(&self) -> bool {
        self.known_image().is_none() || self.image.is_ready
    }

    /// Lets the mirror serve what is here of an image that is coming in: a pod's pull may not wait for the rest.
    pub(super) fn serve_what_comes<'a>(
        &mut self,
        map: &PieceMap,
        files: impl Iterator<Item = (&'a RelPath, u64)>,
    ) {
        let (Some(images), Some(handle)) = (&self.context.images, &self.handle) else { return };
        let coming = |image| images.shelf.announce(image, Arriving::among(handle, map, files));
        self.image.coming = self.known_image().map(coming);
    }

    fn known_image(&self) -> Option<&RevisionImage> {
        self.known_record().and_then(|record| record.image.as_ref())
    }

    /// Serves the image, and sees to it that the runtime has it; says so. Answers when to look again.
    pub(super) async fn look_after_image(&mut self, pause: Duration) -> Result<Duration, End> {
        let Some(image) = self.known_image().cloned() else { return Ok(pause) };
        let Some(images) = self.context.images.clone() else {
            let message =
                "this class's sidecars do not handle images: set images.enabled in the chart".to_owned();
            return Ok(self.image_problem(reason::IMAGES_OFF, message));
        };
        if self.image.place.is_none() {
            match self.put_on_shelf(&images, &image).await? {
                Ok(place) => {
                    self.image.place = Some(place);
                    self.image.coming = None;
                }
                Err(error) => return Ok(self.image_problem(reason::INVALID_MANIFEST, error)),
            }
        }
        match image.materialize {
            Materialize::Blobs => self.image_ready(),
            Materialize::Image => {
                if !self.can_pull(&images) {
                    return Ok(RETRY);
                }
                if let Some(problem) = self.hand_to_runtime(&images, &image).await? {
                    self.image_problem(problem.reason, problem.message);
                    return Ok(PULL_RETRY);
                }
            }
        }
        Ok(pause)
    }

    /// Whether the runtime is there and asks the mirror: else every node would pull from the registry. Says what is wrong, unless nothing
    /// is known yet.
    fn can_pull(&mut self, images: &Images) -> bool {
        let host = images.host.borrow().clone();
        if !host.ready && host.is_known() {
            let message =
                format!("the container runtime does not pull through this node's mirror: {}", host.message);
            self.image_problem(reason::RUNTIME_UNAVAILABLE, message);
        }
        host.ready
    }

    async fn put_on_shelf(
        &self,
        images: &Images,
        image: &RevisionImage,
    ) -> Result<Result<Place, String>, End> {
        let (to, image) = (images.shelf.clone(), image.clone());
        let data = self.context.layout.published(&self.job.revision).data();
        let put = tokio::task::spawn_blocking(move || to.put(&image, &data)).await;
        Ok(put.map_err(|_| End::Stopped)?.map_err(|error| error.to_string()))
    }

    async fn hand_to_runtime(
        &mut self,
        images: &Images,
        image: &RevisionImage,
    ) -> Result<Option<Problem>, End> {
        let Some(runtime) = images.host.borrow().runtime.clone() else { return Ok(None) };
        if self.image.evicted.is_some_and(|at| at.elapsed() < EVICTED) {
            return Ok(Some(evicted()));
        }
        let layers = self.image.place.as_ref().map_or(&[][..], Place::layers);
        let had = self.image.had && !image.pin;
        let revision = self.job.revision.clone();
        let work = materialize(images, &runtime, &revision, image, layers, had);
        match stoppable(&self.job.stop, work).await? {
            Ok(Materialized::Evicted) => {
                (self.image.had, self.image.evicted) = (false, Some(Instant::now()));
                return Ok(Some(evicted()));
            }
            // The one that replaces this one took the name over.
            Ok(Materialized::Replaced) if !self.is_current() => {}
            Ok(Materialized::Replaced) => return Ok(Some(replaced(&image.reference))),
            Ok(Materialized::Pulled) => {
                tracing::info!(revision, image = image.reference, "the runtime has the image");
            }
            Ok(Materialized::Present) => {}
            Err(error) => {
                let message = format!("the container runtime does not take {}: {error}", image.reference);
                return Ok(Some(Problem { reason: reason::IMAGE_PULL_FAILED, message }));
            }
        }
        self.image.evicted = None;
        self.image_ready();
        Ok(None)
    }

    fn is_current(&self) -> bool {
        self.known_record().is_some_and(|record| record.current)
    }

    fn image_ready(&mut self) {
        (self.image.is_ready, self.image.had) = (true, true);
        if self.job.state.borrow().linked {
            self.job.phase(NodePhase::Ready);
        }
    }

    fn image_problem(&mut self, reason: &'static str, message: String) -> Duration {
        self.image.is_ready = false;
        self.job.problem(Problem { reason, message });
        RETRY
    }
}

fn evicted() -> Problem {
    let message = "the kubelet's garbage collection has removed the image; its bytes are here and a pod's pull finds them, and it is \
                   pulled again in 10 minutes; pin: true keeps it";
    Problem { reason: reason::IMAGE_EVICTED, message: message.to_owned() }
}

fn replaced(reference: &str) -> Problem {
    let message = format!(
        "the container runtime has another image under the name {reference}: another Distribution of the same tag, or somebody's \
         pull, has replaced it"
    );
    Problem { reason: reason::IMAGE_REPLACED, message }
}
