//! Layers that the container runtime has too: they are read in its content store, and the own copies go.
//!
//! Nothing is written down of it. A blob that is not below the data root and is in the content store lies there, after a restart as before;
//! one that is in neither is missing, as any file that somebody has deleted.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crds::RevisionImage;
use runtime::Runtime;
use swarm::AddError;
use swarm::net::storage::{Disk, Elsewhere, Storage as _};
use tokio_util::sync::CancellationToken;
use torrent::RelPath;
use torrent::manifest::{Entry, Manifest};

use super::documents::Documents;
use super::end::{End, disk};
use super::share::Sharing;
use super::state::stoppable;
use super::steps::stands;
use crate::images::{Images, is_in, runtime_name};
use crate::store::{Content, ContentStore, Layout, Record, StoreError, is_blob, remove_sealed};

/// Blobs of a revision, each with its number in the torrent.
type Blobs = Vec<(usize, Entry)>;

/// What has become of blobs that were to be left to the runtime.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) files: usize,
    pub(super) bytes: u64,
    /// The content store's are not what their names say.
    pub(super) refused: BTreeSet<usize>,
}

impl Sharing {
    /// The storage of a torrent in `folder` of which the files `there` lie in the content store; none if nothing of it ever can.
    pub(super) async fn find_places(
        &mut self,
        folder: &Path,
        files: Vec<(RelPath, u64)>,
        there: BTreeSet<usize>,
    ) -> Result<Option<Arc<Elsewhere>>, AddError> {
        let content = self.context.layout.content().filter(|_| self.known_image().is_some());
        let (content, own) = (content.cloned(), folder.to_owned());
        let open = move || content.map_or(Ok(None), |content| open_both(&own, &content, files, &there));
        let opened = tokio::task::spawn_blocking(open).await.map_err(|_| AddError::ShutDown)?;
        self.places = opened.map_err(|source| AddError::Storage { path: folder.to_owned(), source })?;
        Ok(self.places.clone())
    }

    /// The runtime has the image. What its content store has of the layers is read there from here on, and leased before.
    pub(super) async fn leave_layers(
        &mut self,
        images: &Images,
        runtime: &Runtime,
        documents: &Documents,
    ) -> Result<(), End> {
        let Some(places) = self.places.clone() else { return Ok(()) };
        let found = self.layers_in_both(&places, documents).await?;
        if found.is_empty() && !self.is_any_elsewhere(documents) {
            return Ok(());
        }
        if !self.lease(images, runtime).await? {
            return Ok(());
        }
        let mut sure = Vec::new();
        for (index, entry) in found {
            // A file that garbage collection is about to remove may be seen still; what containerd names is kept by the lease.
            match stoppable(&self.job.stop, runtime.content(&digest(&entry))).await? {
                Ok(Some(size)) if size == entry.size => sure.push((index, entry)),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(revision = self.job.revision, %error, "the own copies of layers stay");
                    return Ok(());
                }
            }
        }
        if sure.is_empty() {
            return Ok(());
        }
        // Hashing has its turns, as pulls have: after an update all images of a node may be left at once.
        let Ok(_turn) = stoppable(&self.job.stop, images.pulls.acquire()).await? else { return Ok(()) };
        self.leave(places, sure, documents).await
    }

    async fn leave(
        &mut self,
        places: Arc<Elsewhere>,
        blobs: Blobs,
        documents: &Documents,
    ) -> Result<(), End> {
        let (layout, revision) = (self.context.layout.clone(), self.job.revision.clone());
        let stop = self.job.stop.clone();
        let left = disk(move || Ok(leave(&layout, &revision, &places, &blobs, &stop))).await?;
        let (revision, files, bytes) = (&self.job.revision, left.files, left.bytes);
        if files > 0 {
            tracing::info!(
                revision,
                files,
                bytes,
                "layers are read in the container runtime's content store now"
            );
        }
        self.image.refused.extend(left.refused);
        self.note_published(documents);
        self.account(documents, self.context.layout.published(&self.job.revision)).await
    }

    /// Layers that are here and in the content store.
    async fn layers_in_both(&self, places: &Arc<Elsewhere>, documents: &Documents) -> Result<Blobs, End> {
        let Some(content) = self.context.layout.content().cloned() else { return Ok(Vec::new()) };
        let layers: BTreeSet<String> = self.image.layers().iter().cloned().collect();
        let (manifest, places) = (Arc::clone(&documents.manifest), Arc::clone(places));
        let refused = self.image.refused.clone();
        let is_in_both = move |index: usize, entry: &Entry| {
            is_blob(entry)
                && !places.is_elsewhere(index)
                && !refused.contains(&index)
                && layers.contains(&digest(entry))
                && content.file(&content_of(entry)).is_some()
        };
        let find = move || {
            let entries = manifest.entries().iter().cloned().enumerate();
            Ok(entries.filter(|(index, entry)| is_in_both(*index, entry)).collect())
        };
        disk(find).await
    }

    async fn lease(&mut self, images: &Images, runtime: &Runtime) -> Result<bool, End> {
        if !self.image.is_leased {
            let (revision, layers) = (self.job.revision.clone(), self.image.layers().to_vec());
            match stoppable(&self.job.stop, runtime.lease(&images.owner, &revision, &layers)).await? {
                Ok(()) => self.image.is_leased = true,
                Err(error) => tracing::debug!(revision, %error, "the own copies of layers stay"),
            }
        }
        Ok(self.image.is_leased)
    }

    /// An image that the kubelet pulls and removes as it likes: while the runtime has it, it keeps the layers.
    pub(super) async fn follow_kubelet(
        &mut self,
        images: &Images,
        image: &RevisionImage,
        documents: &Documents,
    ) -> Result<(), End> {
        let runtime = images.host.borrow().runtime.clone();
        let (Some(_), Some(runtime)) = (&self.places, runtime) else { return Ok(()) };
        let there = stoppable(&self.job.stop, runtime.image(&runtime_name(image))).await?;
        match there {
            Ok(Some(there)) if is_in(&there, image) => {
                return self.leave_layers(images, &runtime, documents).await;
            }
            Ok(_) if self.is_any_elsewhere(documents) => {}
            Ok(_) => return Ok(()),
            Err(error) => {
                tracing::debug!(revision = self.job.revision, %error, "the runtime does not say what it has");
                return Ok(());
            }
        }
        self.release(&runtime).await?;
        if self.has_lost_layers(documents).await? {
            tracing::info!(
                revision = self.job.revision,
                "the kubelet has removed the image: its layers are got again"
            );
            self.damaged = true;
            return Err(End::Wait(Duration::ZERO));
        }
        Ok(())
    }

    /// Lets go of the layers: else the disk stays full of what was removed to free it.
    pub(super) async fn release(&mut self, runtime: &Runtime) -> Result<(), End> {
        self.image.is_leased = false;
        let released = stoppable(&self.job.stop, runtime.release(&self.job.revision)).await?;
        if let Err(error) = released {
            tracing::warn!(revision = self.job.revision, %error, "the container runtime keeps the layers");
        }
        Ok(())
    }

    /// Whether layers that lay in the content store are not there any more.
    pub(super) async fn has_lost_layers(&self, documents: &Documents) -> Result<bool, End> {
        let Some(places) = self.places.clone() else { return Ok(false) };
        let manifest = Arc::clone(&documents.manifest);
        let is_lost = move |(index, entry): (usize, &Entry)| {
            places.is_elsewhere(index) && !lies_there(&places, index, entry)
        };
        disk(move || Ok(manifest.entries().iter().enumerate().any(is_lost))).await
    }

    /// Whether a published revision lacks files that the content store does not have either.
    pub(super) async fn is_incomplete(&self, documents: &Documents) -> Result<bool, End> {
        let (layout, manifest) = (self.context.layout.clone(), Arc::clone(&documents.manifest));
        let data = layout.published(&self.job.revision).data();
        let is_missing =
            move |entry: &Entry| !stands(&data, entry) && file_in(layout.content(), entry).is_none();
        disk(move || Ok(manifest.entries().iter().any(is_missing))).await
    }

    fn is_any_elsewhere(&self, documents: &Documents) -> bool {
        let files = 0..documents.manifest.entries().len();
        self.places.as_ref().is_some_and(|places| files.into_iter().any(|file| places.is_elsewhere(file)))
    }

    /// Tells the ledger what a published revision takes of the data root.
    pub(super) fn note_published(&self, documents: &Documents) {
        let is_there = |index| self.places.as_ref().is_some_and(|places| places.is_elsewhere(index));
        let entries = documents.manifest.entries().iter().enumerate();
        let own = entries.filter(|(index, _)| !is_there(*index)).map(|(_, entry)| entry.size).sum();
        self.context.ledger.note(&self.job.revision, own);
    }
}

/// The files of a torrent in `own`, but those that lie `there`; none if the content store cannot be opened.
pub(super) fn open_both(
    own: &Path,
    content: &ContentStore,
    files: Vec<(RelPath, u64)>,
    there: &BTreeSet<usize>,
) -> io::Result<Option<Arc<Elsewhere>>> {
    let (paths, sizes): (Vec<_>, Vec<_>) = files.into_iter().unzip();
    let open = |folder: &Path| Disk::open(folder, sizes.iter().copied(), &paths);
    let folder = content.folder();
    // Blobs have the same path in a layout and in the content store. Nothing is made there.
    match if folder.is_dir() { open(folder) } else { Err(io::ErrorKind::NotFound.into()) } {
        Ok(other) => Ok(Some(Arc::new(Elsewhere::new(open(own)?, other, there)))),
        Err(error) => {
            tracing::debug!(folder = %folder.display(), %error, "layers are not read there");
            Ok(None)
        }
    }
}

/// Leaves these blobs to the content store, those of which it has every byte.
pub(super) fn leave(
    layout: &Layout,
    revision: &str,
    places: &Elsewhere,
    blobs: &Blobs,
    stop: &CancellationToken,
) -> Left {
    let (data, mut left) = (layout.published(revision).data(), Left::default());
    for (index, entry) in blobs {
        // Once, while there is another copy: what the disk has made of it since containerd has checked it, nobody knows.
        match layout.content().and_then(|content| content.prove(&content_of(entry), stop)) {
            Some(true) => {}
            Some(false) => {
                tracing::warn!(revision, blob = %entry.path, "the own copy of a layer stays");
                left.refused.insert(*index);
                continue;
            }
            None => return left,
        }
        places.leave(*index);
        if let Err(error) = remove_sealed(&data, &entry.path) {
            tracing::warn!(revision, %error, "a layer stays on the disk twice");
        }
        left.files += 1;
        left.bytes += entry.size;
    }
    left
}

/// Files of a published revision that are in the content store only.
pub(super) fn away(layout: &Layout, revision: &str, manifest: &Manifest) -> BTreeSet<usize> {
    let data = layout.published(revision).data();
    let is_absent = |entry: &Entry| {
        let looked = fs::symlink_metadata(data.join(entry.path.as_str()));
        looked.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let entries = manifest.entries().iter().enumerate();
    let away = entries.filter(|(_, entry)| file_in(layout.content(), entry).is_some() && is_absent(entry));
    away.map(|(index, _)| index).collect()
}

/// Copies what lies in the content store only into the folder of a published revision: what is given to the user is whole.
pub(super) fn bring_back(
    layout: &Layout,
    record: &Record,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    let folder = layout.published(&record.revision);
    let (Some(content), Some(digest)) = (layout.content(), &record.manifest_digest) else { return Ok(()) };
    let Ok(manifest) = crate::contents::load_manifest(&folder, digest) else { return Ok(()) };
    let away = away(layout, &record.revision, &manifest);
    if away.is_empty() {
        return Ok(());
    }
    let data = folder.data();
    crate::store::unseal(&data)?;
    for entry in away.into_iter().map(|index| &manifest.entries()[index]) {
        // Under its name it is whole.
        let (copy, to) = (folder.path().join(".copy"), data.join(entry.path.as_str()));
        crate::store::remove_tree(&copy)?;
        if content.copy(&content_of(entry), &copy, stop)? {
            fs::rename(&copy, &to).map_err(StoreError::io("rename", &copy))?;
        } else if !stop.is_cancelled() {
            tracing::warn!(revision = record.revision, blob = %entry.path, "what is given to the user lacks a layer");
        }
    }
    crate::store::seal(&data)?;
    crate::store::sync_tree(&data)
}

/// Copies into a folder in `incoming/` what of it the content store has: then nobody is asked for it. Answers the bytes.
pub(super) fn copy_here(
    layout: &Layout,
    revision: &str,
    manifest: &Manifest,
    stop: &CancellationToken,
) -> Result<u64, StoreError> {
    let Some(content) = layout.content() else { return Ok(0) };
    let data = layout.coming(revision).data();
    let mut copied = 0;
    for entry in manifest.entries().iter().filter(|entry| is_blob(entry) && !stands(&data, entry)) {
        if content.file(&content_of(entry)).is_none() {
            continue;
        }
        let to: PathBuf = data.join(entry.path.as_str());
        // Half a copy, which a crash has left.
        crate::store::remove_tree(&to)?;
        copied += if content.copy(&content_of(entry), &to, stop)? { entry.size } else { 0 };
    }
    Ok(copied)
}

/// Whether a file that lies elsewhere is there with its size.
pub(super) fn lies_there(places: &Elsewhere, index: usize, entry: &Entry) -> bool {
    matches!(places.size(index), Ok(Some(size)) if size == entry.size)
}

fn file_in(content: Option<&ContentStore>, entry: &Entry) -> Option<PathBuf> {
    content.filter(|_| is_blob(entry))?.file(&content_of(entry))
}

fn content_of(entry: &Entry) -> Content {
    (entry.sha256, entry.size)
}

/// As the runtime names it.
fn digest(entry: &Entry) -> String {
    format!("sha256:{}", hex::encode(entry.sha256))
}
