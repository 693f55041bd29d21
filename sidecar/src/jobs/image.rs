//! What becomes of a published image: the mirror serves it, and the container runtime gets it if it is to.

use std::collections::BTreeSet;
use std::time::Duration;

use crds::{Materialize, NodePhase, RevisionImage};
use operator_api::reason;
use tokio::time::Instant;
use torrent::{PieceMap, RelPath};

use super::documents::Documents;
use super::elsewhere::copy_here;
use super::end::{End, RETRY, disk};
use super::share::Sharing;
use super::state::stoppable;
use crate::desired::Problem;
use crate::images::{
    Arriving, Coming, Images, Materialized, Place, Touched, Wanted, materialize, runtime_name,
};

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
    /// When it was missed first, until the runtime has it again.
    evicted: Option<Instant>,
    /// The layers are kept in the runtime for us.
    pub(super) is_leased: bool,
    /// Blobs, by their number in the torrent, that are not in the content store what their names say.
    pub(super) refused: BTreeSet<usize>,
}

impl ImageState {
    /// What the next round is to know.
    pub(super) fn for_next_round(&self) -> Self {
        Self { evicted: self.evicted, ..Self::default() }
    }

    /// The layers' digests (`sha256:...`), as far as they are known.
    pub(super) fn layers(&self) -> &[String] {
        self.place.as_ref().map_or(&[], Place::layers)
    }

    fn is_evicted(&self) -> bool {
        self.evicted.is_some_and(|at| at.elapsed() < EVICTED)
    }
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

    pub(super) fn known_image(&self) -> Option<&RevisionImage> {
        self.known_record().and_then(|record| record.image.as_ref())
    }

    /// Serves the image, and sees to it that the runtime has it; says so. Answers when to look again.
    pub(super) async fn look_after_image(
        &mut self,
        documents: &Documents,
        pause: Duration,
    ) -> Result<Duration, End> {
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
        let current = self.is_current();
        if let Some(place) = &mut self.image.place {
            place.set_current(current);
            if let Some(handle) = &self.handle {
                let sizes = documents.metainfo.files().iter().map(|file| file.size);
                let files = documents.layout.iter().zip(sizes);
                place.look_at(|| Arriving::among(handle, documents.metainfo.pieces(), files));
            }
        }
        match image.materialize {
            Materialize::Blobs => {
                self.image_ready();
                self.follow_kubelet(&images, &image, documents).await?;
                Ok(pause)
            }
            Materialize::Image => Ok(self.see_to_it(&images, &image, documents).await?.unwrap_or(pause)),
        }
    }

    /// Sees to it that the runtime has the image; answers when to try again, if it does not.
    async fn see_to_it(
        &mut self,
        images: &Images,
        image: &RevisionImage,
        documents: &Documents,
    ) -> Result<Option<Duration>, End> {
        if !self.can_pull(images) {
            return Ok(Some(RETRY));
        }
        let Some(problem) = self.hand_to_runtime(images, image, documents).await? else { return Ok(None) };
        if self.has_lost_layers(documents).await? {
            // Nothing of it is given out any more.
            return Err(End::Problem(problem));
        }
        self.image_problem(problem.reason, problem.message);
        Ok(Some(PULL_RETRY))
    }

    /// The runtime has let go of an image, and its layers were nowhere else: they are got again when it is to be pulled again, or are there
    /// again when somebody else has pulled it.
    pub(super) async fn wait_while_evicted(&mut self, documents: &Documents) -> Result<(), End> {
        let mut touched = self.touched();
        while self.image.is_evicted() && self.is_incomplete(documents).await? {
            self.job.problem(evicted());
            tokio::select! {
                biased;
                () = self.job.stop.cancelled() => return Err(End::Stopped),
                () = happened(touched.as_mut()) => {}
                () = tokio::time::sleep(PULL_RETRY) => {}
            }
        }
        Ok(())
    }

    /// What is wrong if layers are missing because the runtime has no such image any more, and so let go of them.
    pub(super) async fn went_with_image(&mut self, documents: &Documents) -> Result<Option<Problem>, End> {
        let is_ours_to_keep = |image: &&RevisionImage| image.materialize == Materialize::Image && !image.pin;
        let image = self.known_image().filter(is_ours_to_keep).filter(|_| self.image.had).cloned();
        let runtime = self.context.images.as_ref().and_then(|images| images.host.borrow().runtime.clone());
        let (Some(image), Some(runtime)) = (image, runtime) else { return Ok(None) };
        if !self.has_lost_layers(documents).await? {
            return Ok(None);
        }
        let there = stoppable(&self.job.stop, runtime.image(&runtime_name(&image))).await?;
        if !matches!(there, Ok(None)) {
            return Ok(None);
        }
        self.release(&runtime).await?;
        self.image.evicted.get_or_insert_with(Instant::now);
        Ok(Some(evicted()))
    }

    /// Takes what the container runtime has of an image that is coming in. Answers the bytes.
    pub(super) async fn copy_from_runtime(&self, documents: &Documents) -> Result<u64, End> {
        if self.known_image().is_none() {
            return Ok(0);
        }
        let (layout, revision) = (self.context.layout.clone(), self.job.revision.clone());
        let (manifest, stop) = (documents.manifest.clone(), self.job.stop.clone());
        disk(move || copy_here(&layout, &revision, &manifest, &stop)).await
    }

    /// What happens to the image in the runtime from now on.
    pub(super) fn touched(&self) -> Option<Touched> {
        Some(self.context.images.as_ref()?.touched(self.known_image()?))
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
        let (to, image, current) = (images.shelf.clone(), image.clone(), self.is_current());
        let (layout, revision) = (self.context.layout.clone(), self.job.revision.clone());
        let put = move || to.put(&image, &layout.published(&revision).data(), layout.content(), current);
        let put = tokio::task::spawn_blocking(put).await;
        Ok(put.map_err(|_| End::Stopped)?.map_err(|error| error.to_string()))
    }

    async fn hand_to_runtime(
        &mut self,
        images: &Images,
        image: &RevisionImage,
        documents: &Documents,
    ) -> Result<Option<Problem>, End> {
        let Some(runtime) = images.host.borrow().runtime.clone() else { return Ok(None) };
        let layers = self.image.layers();
        let had = (self.image.had || self.image.is_evicted()) && !image.pin;
        let revision = self.job.revision.as_str();
        let wanted = Wanted { revision, image, layers, had, current: self.is_current() };
        let work = materialize(images, &runtime, wanted);
        match stoppable(&self.job.stop, work).await? {
            Ok(Materialized::Evicted) => {
                (self.image.had, self.image.is_leased) = (false, false);
                self.image.evicted.get_or_insert_with(Instant::now);
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
        self.leave_layers(images, &runtime, documents).await?;
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

/// Waits for what happens to an image; for ever where nobody tells.
pub(super) async fn happened(touched: Option<&mut Touched>) {
    match touched {
        Some(touched) => touched.wait().await,
        None => std::future::pending().await,
    }
}

fn evicted() -> Problem {
    let message = "the kubelet's garbage collection has removed the image; it is pulled again in 10 minutes, and its layers are got \
                   again before if they were with it; pin: true keeps it";
    Problem { reason: reason::IMAGE_EVICTED, message: message.to_owned() }
}

fn replaced(reference: &str) -> Problem {
    let message = format!(
        "the container runtime has another image under the name {reference}: another Distribution of the same tag, or somebody's \
         pull, has replaced it"
    );
    Problem { reason: reason::IMAGE_REPLACED, message }
}
