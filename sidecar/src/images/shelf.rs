//! What the mirror serves: the images of all published revisions, and blobs of those that are on their way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use crds::RevisionImage;
use mirror::{Blob, Digest, Manifest, Reference, Repository};

use super::arriving::Arriving;
use super::checked::Checked;
use super::layout::{Layout, LayoutError};
use crate::store::ContentStore;

/// Images in the order in which they were put here. Their manifests are in memory: at most 65 of 4 MiB for each, and as many images as a
/// node has revisions.
#[derive(Debug, Default)]
pub struct Shelf(RwLock<Images>);

#[derive(Debug, Default)]
struct Images {
    next: u64,
    by_number: BTreeMap<u64, Standing>,
    coming: BTreeMap<u64, BTreeMap<Digest, Arc<Arriving>>>,
}

#[derive(Debug)]
struct Standing {
    layout: Arc<Layout>,
    /// No other revision has replaced its own.
    current: bool,
    /// Its blobs, as the torrent that shares them has them.
    shared: BTreeMap<Digest, Arc<Arriving>>,
}

/// An image's place on the shelf; it goes with this.
#[derive(Debug)]
pub struct Place {
    shelf: Arc<Shelf>,
    number: u64,
    layout: Arc<Layout>,
    is_looked_at: bool,
}

impl Place {
    /// The layers' digests (`sha256:...`).
    pub fn layers(&self) -> &[String] {
        &self.layout.layers
    }

    /// Whether no other revision has replaced the image's. One that was stands behind all that were not where both have the same tag.
    pub fn set_current(&self, current: bool) {
        let mut images = self.shelf.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(standing) = images.by_number.get_mut(&self.number) {
            standing.current = current;
        }
    }

    /// The torrent that shares the image is there: from now on what is given out of these blobs is looked at before.
    pub fn look_at(&mut self, blobs: impl FnOnce() -> Vec<(Digest, Arc<Arriving>)>) {
        if std::mem::replace(&mut self.is_looked_at, true) {
            return;
        }
        let blobs = blobs();
        let mut images = self.shelf.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(standing) = images.by_number.get_mut(&self.number) {
            standing.shared = blobs.into_iter().collect();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shelf.0.write().unwrap_or_else(PoisonError::into_inner).by_number.remove(&self.number);
    }
}

/// Blobs on their way; they leave the shelf with this.
#[derive(Debug)]
pub struct Coming {
    shelf: Arc<Shelf>,
    number: u64,
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.shelf.0.write().unwrap_or_else(PoisonError::into_inner).coming.remove(&self.number);
    }
}

impl Shelf {
    /// Serves blobs that are still coming in, as far as they are here, until the answer is dropped. `image` says what is no blob: who may
    /// have manifests is decided when they are here.
    pub fn announce(self: &Arc<Self>, image: &RevisionImage, blobs: Vec<(Digest, Arc<Arriving>)>) -> Coming {
        let manifests = image.manifests.iter().map(|manifest| manifest.digest.as_str());
        let manifests: BTreeSet<&str> = manifests.chain([image.digest.as_str()]).collect();
        let blobs = blobs.into_iter().filter(|(digest, _)| !manifests.contains(digest.to_string().as_str()));
        let mut images = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let number = images.next;
        images.next += 1;
        images.coming.insert(number, blobs.collect());
        Coming { shelf: self.clone(), number }
    }

    /// Serves the layout below `data`, with blobs that lie in `content` instead, until the place is dropped; of two images with the same tag
    /// the one that is current, and then the one that was put here last. Reads manifests: not for an async thread.
    pub fn put(
        self: &Arc<Self>,
        image: &RevisionImage,
        data: &Path,
        content: Option<&ContentStore>,
        current: bool,
    ) -> Result<Place, LayoutError> {
        let layout = Arc::new(Layout::read(image, data, content)?);
        let mut images = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let number = images.next;
        images.next += 1;
        let standing = Standing { layout: layout.clone(), current, shared: BTreeMap::new() };
        images.by_number.insert(number, standing);
        Ok(Place { shelf: self.clone(), number, layout, is_looked_at: false })
    }
}

impl Images {
    /// The current images before the others, the last first.
    fn standing(&self) -> impl Iterator<Item = &Standing> {
        let those =
            |current| self.by_number.values().rev().filter(move |standing| standing.current == current);
        those(true).chain(those(false))
    }
}

impl mirror::Images for Shelf {
    fn manifest(&self, repository: &Repository, reference: &Reference) -> Option<Manifest> {
        let images = self.0.read().unwrap_or_else(PoisonError::into_inner);
        images.standing().find_map(|standing| {
            let image = &standing.layout;
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
        let images = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let has_it = |standing: &&Standing| standing.layout.blobs.iter().any(|blob| blob.digest == *digest);
        let those = images.standing().filter(has_it);
        let those = those.map(|standing| (standing.layout.clone(), standing.shared.get(digest).cloned()));
        let mut those: Vec<_> = those.collect();
        drop(images);
        // One that can be looked at before others.
        those.sort_by_key(|(_, shared)| shared.is_none());
        // The disk is asked without the lock: it may hang.
        let mut whole = those.into_iter().filter_map(|(image, shared)| {
            let blob = image.blobs.iter().find(|blob| blob.digest == *digest)?;
            let (path, length) = (blob.path()?.to_owned(), blob.length);
            Some(match shared {
                Some(shared) => Blob::Growing(Arc::new(Checked::new(shared, Some(path)))),
                None => Blob::Whole { path, length },
            })
        });
        whole.next().or_else(|| {
            let images = self.0.read().unwrap_or_else(PoisonError::into_inner);
            let coming = images.coming.values().find_map(|blobs| blobs.get(digest));
            coming.map(|blob| Blob::Growing(blob.clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crds::{ImageAccess, Materialize, PlatformManifest};
    use mirror::Images as _;

    use super::*;

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

    /// A layout with one layer of these bytes.
    fn layout(layer: &str, access: ImageAccess) -> (tempfile::TempDir, RevisionImage) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |bytes: &str| {
            let digest = Digest::of(bytes.as_bytes());
            fs::write(blobs.join(hex::encode(digest.as_bytes())), bytes).unwrap();
            digest.to_string()
        };
        let (config, layer) = (put("{}"), put(layer));
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 1 }],
        });
        let (digest, media_type) = (put(&manifest.to_string()), MANIFEST.to_owned());
        let platform = "linux/amd64".to_owned();
        let manifests =
            vec![PlatformManifest { platform, digest: digest.clone(), media_type: media_type.clone() }];
        let (reference, left_out) = ("registry.example/team/app:v1".to_owned(), 0);
        let (materialize, pin) = (Materialize::Image, false);
        (
            folder,
            RevisionImage { reference, digest, media_type, manifests, left_out, access, materialize, pin },
        )
    }

    fn tagged(shelf: &Shelf) -> Option<String> {
        let repository = Repository::new("registry.example", "team/app").unwrap();
        let manifest = shelf.manifest(&repository, &"v1".parse().unwrap())?;
        Some(manifest.digest().to_string())
    }

    #[test]
    fn a_tag_is_that_of_the_image_that_came_last_and_of_the_other_when_it_goes() {
        let shelf = Arc::<Shelf>::default();
        let [(one, first), (two, second)] = ["a", "b"].map(|layer| layout(layer, ImageAccess::Cluster));
        let one = shelf.put(&first, one.path(), None, true).unwrap();
        let two = shelf.put(&second, two.path(), None, true).unwrap();
        assert_eq!(tagged(&shelf).as_ref(), Some(&second.digest));
        assert!(one.layers() != two.layers() && shelf.blob(&Digest::of(b"a")).is_some());
        drop(two);
        assert_eq!(tagged(&shelf).as_ref(), Some(&first.digest));
        assert!(shelf.blob(&Digest::of(b"b")).is_none());
        drop(one);
        assert_eq!(tagged(&shelf), None);
    }

    #[test]
    fn a_tag_is_that_of_the_image_that_is_current_whenever_it_was_put_here() {
        let shelf = Arc::<Shelf>::default();
        let [(one, first), (two, second)] = ["a", "b"].map(|layer| layout(layer, ImageAccess::Cluster));
        let two = shelf.put(&second, two.path(), None, true).unwrap();
        // As after a restart.
        let one = shelf.put(&first, one.path(), None, false).unwrap();
        assert_eq!(tagged(&shelf).as_ref(), Some(&second.digest));
        assert!(shelf.blob(&Digest::of(b"a")).is_some(), "by its digest all of it is there");
        two.set_current(false);
        one.set_current(true);
        assert_eq!(tagged(&shelf).as_ref(), Some(&first.digest));
        drop(one);
        assert_eq!(tagged(&shelf).as_ref(), Some(&second.digest), "better than nothing");
    }

    #[test]
    fn t097_a_digest_that_somebody_writes_beside_a_tag_is_not_what_others_get_for_the_tag() {
        let shelf = Arc::<Shelf>::default();
        let (folder, mut image) = layout("a", ImageAccess::Cluster);
        image.reference = format!("{}@{}", image.reference, image.digest);
        let place = shelf.put(&image, folder.path(), None, true).unwrap();
        assert_eq!(tagged(&shelf), None);
        let repository = Repository::new("registry.example", "team/app").unwrap();
        let digest = image.digest.parse().unwrap();
        assert!(
            shelf.manifest(&repository, &Reference::Digest(digest)).is_some(),
            "by its digest it is there"
        );
        drop(place);
    }

    #[test]
    fn a_layer_is_served_from_where_it_is() {
        let shelf = Arc::<Shelf>::default();
        let (folder, image) = layout("a", ImageAccess::Cluster);
        let other = tempfile::tempdir().unwrap();
        let content = ContentStore::open(other.path().to_owned()).unwrap();
        let _place = shelf.put(&image, folder.path(), Some(&content), true).unwrap();
        let served = || match shelf.blob(&Digest::of(b"a"))? {
            Blob::Whole { path, length } => Some((path, length)),
            _ => None,
        };
        let layer =
            |folder: &Path| folder.join("blobs/sha256").join(hex::encode(Digest::of(b"a").as_bytes()));
        let (own, there) = (layer(folder.path()), layer(other.path()));
        fs::create_dir_all(there.parent().unwrap()).unwrap();
        fs::copy(&own, &there).unwrap();
        assert_eq!(served(), Some((own.clone(), 1)));
        fs::remove_file(own).unwrap();
        assert_eq!(served(), Some((there.clone(), 1)));
        fs::remove_file(there).unwrap();
        assert_eq!(served(), None, "and not from where it is not");
    }

    #[test]
    fn a_manifest_is_not_served_as_a_blob_and_a_damaged_one_not_at_all() {
        let shelf = Arc::<Shelf>::default();
        let (folder, image) = layout("a", ImageAccess::UpstreamManifests);
        let digest: Digest = image.digest.parse().unwrap();
        let place = shelf.put(&image, folder.path(), None, true).unwrap();
        assert!(shelf.blob(&digest).is_none());
        drop(place);
        let path = folder.path().join("blobs/sha256").join(hex::encode(digest.as_bytes()));
        fs::write(path, "{}").unwrap();
        assert!(matches!(shelf.put(&image, folder.path(), None, true), Err(LayoutError::Damaged(_))));
    }
}
