//! All that belongs to an image: its documents, and the blobs that they name.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{Descriptor, Document, Manifest, config_platform, parse};
use super::platform::list;
use super::{Digest, Platform, Platforms, Registry, RegistryError};

/// How deep indexes may lie in each other.
const MAX_DEPTH: usize = 4;
/// The most documents of one image.
const MAX_DOCUMENTS: usize = 64;
/// And what they come to together, in bytes.
const MAX_DOCUMENT_BYTES: usize = 16 << 20;
/// The most manifests that are chosen of an index: what a revision holds.
const MAX_CHOSEN: usize = 64;
/// The largest configuration that is read, in bytes.
const MAX_CONFIG: u64 = 8 << 20;

/// An image, pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Of what the reference stands for.
    pub digest: Digest,
    /// The media type of that.
    pub media_type: String,
    /// One for each platform, sorted.
    pub manifests: Vec<ImageManifest>,
    /// Indexes and manifests, whole, sorted by digest.
    pub documents: Vec<ImageDocument>,
    /// Configurations and layers: digest and size in bytes.
    pub blobs: BTreeMap<Digest, u64>,
    /// Layers that lie elsewhere or must not be passed on (T93).
    pub left_out: usize,
}

/// The manifest of a platform.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageManifest {
    /// For which.
    pub platform: Platform,
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
}

/// An index or a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageDocument {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// All of it.
    pub text: String,
}

/// What was gathered so far.
#[derive(Default)]
struct Gathered {
    documents: BTreeMap<Digest, ImageDocument>,
    bytes: usize,
    /// What was read because an index names it: under which size and type.
    pointed: BTreeMap<Digest, (u64, String)>,
    manifests: BTreeSet<ImageManifest>,
    blobs: BTreeMap<Digest, u64>,
    foreign: BTreeSet<Digest>,
}

impl Registry {
    /// Resolves the image: what its reference stands for, and all that belongs to it for these platforms.
    pub async fn image(&self, wanted: &Platforms) -> Result<Image, RegistryError> {
        self.image_of(self.digest().await?, wanted).await
    }

    /// The same where it is known already what the reference stands for.
    pub async fn image_of(&self, digest: Digest, wanted: &Platforms) -> Result<Image, RegistryError> {
        let mut gathered = Gathered::default();
        let (document, media_type) = self.read(&digest, None, &mut gathered).await?;
        match document {
            Document::Index(entries) => {
                let flat = self.flatten(entries, wanted, &mut gathered).await?;
                self.choose(&flat, wanted, &mut gathered).await?;
            }
            Document::Manifest(manifest) => {
                let platform = self.platform_of(&manifest).await?;
                if !wanted.has(&platform) {
                    return Err(self.no_platform(wanted, std::iter::once(&platform)));
                }
                let whole =
                    ImageManifest { platform, digest: digest.clone(), media_type: media_type.clone() };
                gathered.manifests.insert(whole);
                self.take(&manifest, &mut gathered)?;
            }
        }
        let Gathered { documents, manifests, blobs, foreign, .. } = gathered;
        let (manifests, documents) = (manifests.into_iter().collect(), documents.into_values().collect());
        Ok(Image { digest, media_type, manifests, documents, blobs, left_out: foreign.len() })
    }

    /// The manifests of an index, and of those in it.
    async fn flatten(
        &self,
        entries: Vec<Descriptor>,
        wanted: &Platforms,
        gathered: &mut Gathered,
    ) -> Result<Vec<(Platform, Descriptor)>, RegistryError> {
        let (mut flat, mut level) = (Vec::new(), entries);
        for _ in 1..MAX_DEPTH {
            let mut next = Vec::new();
            for entry in level {
                let outside = entry.platform.as_ref().is_some_and(|platform| !wanted.has(platform));
                match entry.platform.clone() {
                    _ if entry.is_index() && outside => {}
                    _ if entry.is_index() => match self.read_once(&entry, gathered).await? {
                        Some(Document::Index(entries)) => next.extend(entries),
                        Some(Document::Manifest(_)) => {
                            return Err(self.refuse(&entry.digest.to_string(), "it is no index"));
                        }
                        // Its entries are there.
                        None => {}
                    },
                    Some(platform) => flat.push((platform, entry)),
                    None => {}
                }
            }
            if next.is_empty() {
                return Ok(flat);
            }
            level = next;
        }
        if level.iter().any(Descriptor::is_index) {
            return Err(self.refuse("the index", "indexes lie more than 4 deep in it"));
        }
        flat.extend(level.into_iter().filter_map(|entry| entry.platform.clone().zip(Some(entry))));
        Ok(flat)
    }

    async fn choose(
        &self,
        entries: &[(Platform, Descriptor)],
        wanted: &Platforms,
        gathered: &mut Gathered,
    ) -> Result<(), RegistryError> {
        let chosen = wanted.choose(entries).map_err(|missing| RegistryError::Platform {
            image: self.image.to_string(),
            wanted: list(missing.into_iter()),
            has: list(entries.iter().map(|(platform, _)| platform)),
        })?;
        for (platform, entry) in chosen {
            match self.read_once(entry, gathered).await? {
                Some(Document::Manifest(manifest)) => self.take(&manifest, gathered)?,
                Some(Document::Index(_)) => {
                    return Err(self.refuse(&entry.digest.to_string(), "it is no manifest"));
                }
                // Its blobs are there: the same image under another platform.
                None => {}
            }
            let media_type =
                gathered.documents.get(&entry.digest).map_or("", |kept| kept.media_type.as_str()).to_owned();
            let (platform, digest) = (platform.clone(), entry.digest.clone());
            gathered.manifests.insert(ImageManifest { platform, digest, media_type });
            if gathered.manifests.len() > MAX_CHOSEN {
                let why =
                    format!("more than {MAX_CHOSEN} of its manifests are for these platforms: name variants");
                return Err(self.refuse("the index", &why));
            }
        }
        Ok(())
    }

    /// Reads what an index names; `None` if that was read before. What has one digest is one thing, however often it is named.
    async fn read_once(
        &self,
        entry: &Descriptor,
        gathered: &mut Gathered,
    ) -> Result<Option<Document>, RegistryError> {
        let said = (entry.size, entry.media_type.clone());
        if let Some(before) = gathered.pointed.get(&entry.digest) {
            let why = "it is named twice, with another size or media type";
            return if *before == said { Ok(None) } else { Err(self.refuse(&entry.digest.to_string(), why)) };
        }
        let (document, _) = self.read(&entry.digest, Some(entry), gathered).await?;
        gathered.pointed.insert(entry.digest.clone(), said);
        Ok(Some(document))
    }

    /// Reads a document, and keeps it.
    async fn read(
        &self,
        digest: &Digest,
        pointed: Option<&Descriptor>,
        gathered: &mut Gathered,
    ) -> Result<(Document, String), RegistryError> {
        let what = format!("manifest {digest}");
        if gathered.documents.len() >= MAX_DOCUMENTS {
            return Err(self.refuse(&what, "it has more than 64 indexes and manifests: name its platforms"));
        }
        let (bytes, said) = self.manifest(digest).await?;
        if let Some(pointed) = pointed.filter(|pointed| pointed.size != bytes.len() as u64) {
            let why = format!("it has {} bytes, and its index says {}", bytes.len(), pointed.size);
            return Err(self.refuse(&what, &why));
        }
        gathered.bytes += bytes.len();
        if gathered.bytes > MAX_DOCUMENT_BYTES {
            return Err(self.refuse(&what, "together with the others it has more than 16 MiB"));
        }
        let called = pointed.map(|pointed| pointed.media_type.as_str()).or(said.as_deref());
        let (document, media_type) = parse(&bytes, called).map_err(|why| self.refuse(&what, &why))?;
        let text = String::from_utf8(bytes.into()).map_err(|_| self.refuse(&what, "it is no UTF-8"))?;
        let kept = ImageDocument { digest: digest.clone(), media_type: media_type.clone(), text };
        gathered.documents.insert(digest.clone(), kept);
        Ok((document, media_type))
    }

    /// The platform of an image that stands in no index.
    async fn platform_of(&self, manifest: &Manifest) -> Result<Platform, RegistryError> {
        let Descriptor { digest, size, .. } = &manifest.config;
        let what = format!("config {digest}");
        if *size > MAX_CONFIG {
            return Err(self.refuse(&what, "it has more than 8 MiB"));
        }
        let bytes = self.blob(digest, *size).await?;
        config_platform(&bytes).map_err(|why| self.refuse(&what, &why))
    }

    /// Takes in the blobs of a manifest. Layers may be there several times, but not with several sizes.
    fn take(&self, manifest: &Manifest, gathered: &mut Gathered) -> Result<(), RegistryError> {
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            if blob.foreign {
                gathered.foreign.insert(blob.digest.clone());
                continue;
            }
            let known = *gathered.blobs.entry(blob.digest.clone()).or_insert(blob.size);
            let document = gathered.documents.get(&blob.digest).map(|document| document.text.len() as u64);
            if known != blob.size || document.is_some_and(|size| size != blob.size) {
                let why = format!("it has {} bytes here and {known} there", blob.size);
                return Err(self.refuse(&format!("blob {}", blob.digest), &why));
            }
        }
        Ok(())
    }

    fn no_platform<'a>(&self, wanted: &Platforms, has: impl Iterator<Item = &'a Platform>) -> RegistryError {
        let (Platforms::OfNodes(wanted) | Platforms::All(wanted)) = wanted;
        RegistryError::Platform { image: self.image.to_string(), wanted: list(wanted.iter()), has: list(has) }
    }
}
