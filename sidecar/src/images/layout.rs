//! A published OCI image layout, as the mirror serves it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crds::{ImageAccess, RevisionImage};
use mirror::{Access, Digest, MAX_MANIFEST, Manifest, ManifestError, NameError, Repository};
use origin::registry::{Contents, Reference, ReferenceError};

use crate::store::ContentStore;

/// Where blobs lie in a layout, and in the content store.
const BLOBS: &str = "blobs/sha256";

/// An image that is here.
#[derive(Debug)]
pub struct Layout {
    pub repository: Repository,
    /// The tag that was looked up.
    pub tag: Option<String>,
    /// What the reference stands for.
    pub digest: Digest,
    /// That, and the manifests of the platforms that are here.
    pub manifests: Vec<Manifest>,
    /// Configs and layers.
    pub blobs: Vec<Blob>,
    /// The layers, as leases name them.
    pub layers: Vec<String>,
}

/// A config or a layer.
#[derive(Debug)]
pub struct Blob {
    pub digest: Digest,
    pub length: u64,
    /// Where it lies, and where it may lie instead: the runtime's content store has it too by then.
    places: [Option<PathBuf>; 2],
}

impl Blob {
    fn in_one_of(digest: Digest, places: [Option<PathBuf>; 2]) -> Option<Self> {
        let length = places.iter().flatten().find_map(|path| fs::symlink_metadata(path).ok())?.len();
        Some(Self { digest, length, places })
    }

    /// Where it lies now.
    pub fn path(&self) -> Option<&Path> {
        self.places.iter().flatten().map(PathBuf::as_path).find(|path| path.exists())
    }
}

/// Why a published image cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The revision does not say which image it is.
    #[error("the revision names its image wrongly: {0}")]
    Reference(#[from] ReferenceError),
    /// So does a digest or a registry.
    #[error("the revision names its image wrongly: {0}")]
    Name(#[from] NameError),
    /// A manifest is not there or cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's word.
        error: std::io::Error,
    },
    /// A manifest is not what its name says.
    #[error("{} is not what its name says", .0.display())]
    Damaged(PathBuf),
    /// A manifest that is none.
    #[error("{}: {why}", path.display())]
    Manifest {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Layout {
    /// Reads the layout below `data`, of which blobs may lie in `content`. What the image lacks (layers that were left out) is not in it.
    pub fn read(
        image: &RevisionImage,
        data: &Path,
        content: Option<&ContentStore>,
    ) -> Result<Self, LayoutError> {
        let reference = Reference::parse(&image.reference)?;
        let folder = data.join(BLOBS);
        let access = match image.access {
            ImageAccess::Cluster => Access::Node,
            ImageAccess::UpstreamManifests => Access::UpstreamManifests,
        };
        let mut layout = Self {
            repository: Repository::new(reference.registry(), reference.repository())?,
            // Beside a digest a tag is no more than a remark: nobody has asked the registry whether it stands for that, and whoever asks
            // for the tag is to get what the registry says (T97).
            tag: reference.tag().filter(|_| reference.digest().is_none()).map(str::to_owned),
            digest: image.digest.parse()?,
            manifests: Vec::new(),
            blobs: Vec::new(),
            layers: Vec::new(),
        };
        let mut names = BTreeSet::new();
        for platform in &image.manifests {
            let digest = platform.digest.parse()?;
            let manifest = manifest(&folder, digest, &platform.media_type, access)?;
            let path = folder.join(hex::encode(digest.as_bytes()));
            let said = Contents::read(manifest.bytes(), &platform.media_type);
            let said = said.map_err(|why| LayoutError::Manifest { path, why })?;
            layout.layers.extend(said.layers.iter().map(ToString::to_string));
            names.extend(said.layers.into_iter().chain([said.config]));
            layout.manifests.push(manifest);
        }
        if !layout.manifests.iter().any(|manifest| manifest.digest() == layout.digest) {
            layout.manifests.push(manifest(&folder, layout.digest, &image.media_type, access)?);
        }
        for name in names {
            let folders = [Some(folder.clone()), content.map(|content| content.folder().join(BLOBS))];
            let places = folders.map(|folder| folder.map(|folder| folder.join(name.hex())));
            // What was left out is upstream's.
            layout.blobs.extend(Blob::in_one_of(name.to_string().parse()?, places));
        }
        layout.layers.sort();
        layout.layers.dedup();
        Ok(layout)
    }
}

fn manifest(
    folder: &Path,
    digest: Digest,
    media_type: &str,
    access: Access,
) -> Result<Manifest, LayoutError> {
    let path = folder.join(hex::encode(digest.as_bytes()));
    let read = crate::store::read_file_capped(&path, MAX_MANIFEST as u64);
    let bytes = read.map_err(|error| LayoutError::Manifest { path: path.clone(), why: error.to_string() })?;
    let missing = || LayoutError::Read { path: path.clone(), error: std::io::ErrorKind::NotFound.into() };
    let bytes = bytes.ok_or_else(missing)?;
    let made = Manifest::new(media_type, bytes.into(), access);
    let manifest = made.map_err(|error: ManifestError| LayoutError::Manifest {
        path: path.clone(),
        why: error.to_string(),
    })?;
    if manifest.digest() == digest { Ok(manifest) } else { Err(LayoutError::Damaged(path)) }
}
