//! A published OCI image layout, as the mirror serves it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crds::{ImageAccess, PlatformManifest, RevisionImage};
use mirror::{Access, Digest, MAX_MANIFEST, Manifest, ManifestError, NameError, Repository};
use origin::registry::{Contents, Platform, Reference, ReferenceError};

use crate::store::ContentStore;

/// Where blobs lie in a layout.
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
        let this = Platform::new(std::env::consts::OS, std::env::consts::ARCH, None);
        Self::read_for(image, data, content, this.as_ref())
    }

    /// The same on a node of this kind.
    fn read_for(
        image: &RevisionImage,
        data: &Path,
        content: Option<&ContentStore>,
        this: Option<&Platform>,
    ) -> Result<Self, LayoutError> {
        let reference = Reference::parse(&image.reference)?;
        let folder = data.join(BLOBS);
        let access = match image.access {
            ImageAccess::Cluster => Access::Node,
            ImageAccess::UpstreamManifests => Access::UpstreamManifests,
            ImageAccess::Relay => Access::Relay,
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
        let (mut names, mut needs) = (BTreeSet::new(), Needs::new());
        for platform in &image.manifests {
            let digest = platform.digest.parse()?;
            let manifest = manifest(&folder, digest, &platform.media_type, access)?;
            let path = folder.join(hex::encode(digest.as_bytes()));
            let said = Contents::read(manifest.bytes(), &platform.media_type);
            let said = said.map_err(|why| LayoutError::Manifest { path, why })?;
            layout.layers.extend(said.layers.iter().map(ToString::to_string));
            let said: Vec<_> = said.layers.into_iter().chain([said.config]).collect();
            let parsed = said.iter().map(|name| name.to_string().parse());
            needs.insert(digest, parsed.collect::<Result<_, NameError>>()?);
            names.extend(said);
            layout.manifests.push(manifest);
        }
        if !layout.manifests.iter().any(|manifest| manifest.digest() == layout.digest) {
            layout.manifests.push(manifest(&folder, layout.digest, &image.media_type, access)?);
        }
        for name in names {
            let digest: Digest = name.to_string().parse()?;
            let places =
                [Some(folder.join(name.hex())), content.map(|content| content.place(digest.as_bytes()))];
            // What was left out is upstream's.
            layout.blobs.extend(Blob::in_one_of(digest, places));
        }
        layout.layers.sort();
        layout.layers.dedup();
        layout.mark_whole(image, &needs, this);
        Ok(layout)
    }

    /// Finds out which manifests a pull on this node may begin with that gets the rest here too, or fails.
    fn mark_whole(&mut self, image: &RevisionImage, needs: &Needs, this: Option<&Platform>) {
        let here: BTreeSet<Digest> = self.blobs.iter().map(|blob| blob.digest).collect();
        let complete = |digest: &Digest| needs.get(digest).is_some_and(|needs| needs.is_subset(&here));
        let fits = |platform: &PlatformManifest| {
            Platform::parse(&platform.platform)
                .zip(this)
                .is_some_and(|(platform, this)| platform.is_like(this))
        };
        let fitting = image.manifests.iter().filter(|platform| fits(platform));
        let fitting: Vec<Digest> = fitting.filter_map(|platform| platform.digest.parse().ok()).collect();
        for manifest in &mut self.manifests {
            let digest = manifest.digest();
            let whole = if needs.contains_key(&digest) {
                complete(&digest)
            } else {
                let named = named_by(manifest);
                !fitting.is_empty() && fitting.iter().all(|one| complete(one) && named.contains(one))
            };
            *manifest = manifest.clone().whole(whole);
        }
    }
}

/// Configuration and layers of each manifest.
type Needs = BTreeMap<Digest, BTreeSet<Digest>>;

/// What an index names itself: an index in it is another request, which nobody answers here.
fn named_by(index: &Manifest) -> BTreeSet<Digest> {
    let index: serde_json::Value = serde_json::from_slice(index.bytes()).unwrap_or_default();
    let entries = index["manifests"].as_array().into_iter().flatten();
    entries.filter_map(|entry| entry["digest"].as_str()?.parse().ok()).collect()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";

    fn put(folder: &Path, bytes: &str) -> String {
        let digest = Digest::of(bytes.as_bytes());
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(hex::encode(digest.as_bytes())), bytes).unwrap();
        digest.to_string()
    }

    /// An image for amd64, whose index names an image for arm64 too, which is not here. `inner`: the index names it in another index.
    fn image(folder: &Path, inner: bool) -> RevisionImage {
        let described =
            |digest: &str, media_type: &str| json!({"mediaType": media_type, "digest": digest, "size": 2});
        let config = described(&put(folder, "{}"), "application/vnd.oci.image.config.v1+json");
        let layer = described(&put(folder, "layer"), "application/vnd.oci.image.layer.v1.tar");
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        let manifest = put(folder, &manifest.to_string());
        let index = |entry: &serde_json::Value| {
            let other = described(&Digest::of(b"arm").to_string(), MANIFEST);
            json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry, other]}).to_string()
        };
        let mut top = put(folder, &index(&described(&manifest, MANIFEST)));
        if inner {
            top = put(folder, &index(&described(&top, INDEX)));
        }
        let image = json!({
            "reference": "registry.example/team/app:1", "digest": top, "mediaType": INDEX,
            "manifests": [{"platform": "linux/amd64", "digest": manifest, "mediaType": MANIFEST}],
            "access": "Cluster", "materialize": "Blobs", "pin": false,
        });
        serde_json::from_value(image).unwrap()
    }

    /// Whether index and manifest are whole for a node of this kind.
    fn whole(image: &RevisionImage, folder: &Path, this: &str) -> [bool; 2] {
        let layout = Layout::read_for(image, folder, None, Platform::parse(this).as_ref()).unwrap();
        let of =
            |digest: &str| layout.manifests.iter().find(|one| one.digest().to_string() == digest).unwrap();
        [of(&image.digest).is_whole(), of(&image.manifests[0].digest).is_whole()]
    }

    #[test]
    fn an_image_is_whole_where_a_node_of_this_kind_finds_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), false);
        assert_eq!(whole(&image, folder.path(), "linux/amd64"), [true, true]);
        assert_eq!(whole(&image, folder.path(), "linux/arm64"), [false, true], "its manifest is not here");
        let layer = hex::encode(Digest::of(b"layer").as_bytes());
        fs::remove_file(folder.path().join("blobs/sha256").join(layer)).unwrap();
        assert_eq!(whole(&image, folder.path(), "linux/amd64"), [false, false], "a layer that was left out");
    }

    #[test]
    fn an_index_that_is_not_here_itself_is_a_gap() {
        let folder = tempfile::tempdir().unwrap();
        let image = image(folder.path(), true);
        assert_eq!(whole(&image, folder.path(), "linux/amd64"), [false, true]);
    }
}
