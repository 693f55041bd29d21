//! What the mirror serves: the images of all published revisions.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use crds::RevisionImage;
use mirror::{Blob, Digest, Manifest, Reference, Repository};

use super::layout::{Layout, LayoutError};

/// Images by revision. Their manifests are in memory: at most 65 of 4 MiB for each, and as many revisions as a node has.
#[derive(Debug, Default)]
pub struct Shelf(RwLock<BTreeMap<String, Arc<Layout>>>);

/// An image's place on the shelf; it goes with this.
#[derive(Debug)]
pub struct Place {
    shelf: Arc<Shelf>,
    revision: String,
    layout: Arc<Layout>,
}

impl Place {
    /// The layers' digests (`sha256:...`).
    pub fn layers(&self) -> &[String] {
        &self.layout.layers
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shelf.0.write().unwrap_or_else(PoisonError::into_inner).remove(&self.revision);
    }
}

impl Shelf {
    /// Serves the layout below `data` until the place is dropped. Reads its manifests: not for an async thread.
    pub fn put(
        self: &Arc<Self>,
        revision: &str,
        image: &RevisionImage,
        data: &Path,
    ) -> Result<Place, LayoutError> {
        let layout = Arc::new(Layout::read(image, data)?);
        let mut images = self.0.write().unwrap_or_else(PoisonError::into_inner);
        images.insert(revision.to_owned(), layout.clone());
        Ok(Place { shelf: self.clone(), revision: revision.to_owned(), layout })
    }

    fn find<T>(&self, look: impl FnMut(&Arc<Layout>) -> Option<T>) -> Option<T> {
        // The names of revisions grow: of two that have the same tag the newer one counts.
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().rev().find_map(look)
    }
}

impl mirror::Images for Shelf {
    fn manifest(&self, repository: &Repository, reference: &Reference) -> Option<Manifest> {
        self.find(|image| {
            if image.repository != *repository {
                return None;
            }
            let digest = match reference {
                Reference::Tag(tag) => (image.tag.as_ref() == Some(tag)).then_some(image.digest)?,
                Reference::Digest(digest) => *digest,
            };
            image.manifests.iter().find(|manifest| manifest.digest() == digest).cloned()
        })
    }

    fn blob(&self, digest: &Digest) -> Option<Blob> {
        self.find(|image| {
            let (_, path, length) = image.blobs.iter().find(|(blob, ..)| blob == digest)?;
            Some(Blob::Whole { path: path.clone(), length: *length })
        })
    }
}
