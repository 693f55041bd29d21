//! What a mirror asks the rest of the sidecar for.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::name::{Digest, Reference, Repository};

/// The largest manifest in bytes: what registries take (distribution-spec, "Pushing manifests"), and T92.
pub const MAX_MANIFEST: usize = 4 << 20;

/// The images that are here or on their way. Both answers come at once and from memory: a runtime waits for them before it asks
/// upstream.
pub trait Images: Send + Sync + 'static {
    /// A manifest or index. A tag is known only where a revision names that very reference; it is never looked up elsewhere.
    fn manifest(&self, repository: &Repository, reference: &Reference) -> Option<Manifest>;

    /// The bytes of a config or a layer, whichever image it belongs to. Never those of a manifest: with
    /// [`Access::UpstreamManifests`] and [`Access::Relay`] who knows a manifest may have the blobs.
    fn blob(&self, digest: &Digest) -> Option<Blob>;
}

/// Blobs that are not here and that the rest of the sidecar may get from elsewhere. The mirror itself never dials.
#[async_trait]
pub trait Demand: Send + Sync + 'static {
    /// A blob of this repository, whole or as it arrives; none, at once, where the registry's blobs are not fetched on demand. The call is
    /// dropped when it has taken as long as the mirror waits.
    async fn blob(&self, repository: &Repository, digest: &Digest) -> Option<Blob>;
}

/// Asks registries what they would say to whoever asks here. The mirror itself never dials.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// What the image's registry says to a request for this manifest that shows this Bearer token, or nothing. The token is the client's:
    /// nobody but that registry gets to see it. The call is dropped when it has taken as long as the mirror waits.
    async fn ask(&self, repository: &Repository, digest: &Digest, token: Option<&str>) -> Verdict;
}

/// What a registry says to a client, as far as it is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It gives it the manifest.
    Given,
    /// It wants a Bearer token; this is its `WWW-Authenticate`.
    Challenge(String),
    /// The client is to hear it from the registry: it refuses, it does not answer, or what it asks for is not passed on.
    Elsewhere,
}

/// Who may have an image's manifests from this mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nobody: the runtime asks upstream with the pod's own credentials, and gets only the blobs here. Their digests, which cannot be
    /// guessed, are the permission.
    UpstreamManifests,
    /// Whom the image's registry would give them, by the word of a [`Gate`]. The blobs are as with `UpstreamManifests`.
    Relay,
    /// Whoever asks on this node.
    Node,
}

/// A manifest or an index, with the digest that its bytes have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    media_type: String,
    digest: Digest,
    bytes: Bytes,
    access: Access,
    whole: bool,
}

/// A manifest that no registry would hand out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`MAX_MANIFEST`].
    #[error("a manifest of {0} bytes; at most {MAX_MANIFEST} are served")]
    TooLarge(usize),
    /// A media type that cannot stand in a header.
    #[error("{0:?} is not a media type")]
    MediaType(String),
}

impl Manifest {
    /// From its bytes; the digest is taken from them.
    pub fn new(media_type: &str, bytes: Bytes, access: Access) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(ManifestError::TooLarge(bytes.len()));
        }
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+/".contains(&byte);
        if media_type.len() > 255 || !media_type.contains('/') || !media_type.bytes().all(token) {
            return Err(ManifestError::MediaType(media_type.chars().take(64).collect()));
        }
        Ok(Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(&bytes),
            bytes,
            access,
            whole: false,
        })
    }

    /// The same, where a pull that begins with it finds all that it can need on this node.
    #[must_use]
    pub fn whole(self, whole: bool) -> Self {
        Self { whole, ..self }
    }

    /// Its media type.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The digest of its bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether a pull that begins with it finds all that it can need on this node. CRI-O gets everything from where the first manifest
    /// came from, and fails where something is missing.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Who may have it.
    pub fn access(&self) -> Access {
        self.access
    }
}

/// The bytes of a config or a layer.
#[derive(Clone)]
pub enum Blob {
    /// In memory: for what is small.
    Bytes(Bytes),
    /// A file that was verified whole and does not change any more.
    Whole {
        /// Where it lies.
        path: PathBuf,
        /// Its length in bytes; a file of another length is not served.
        length: u64,
    },
    /// Still arriving.
    Growing(Arc<dyn Growing>),
}

/// A blob that is still arriving. Only what was verified is ever handed out.
#[async_trait]
pub trait Growing: Send + Sync {
    /// Its length in bytes, known from the manifest.
    fn length(&self) -> u64;

    /// How many bytes in a row, from offset `from` on, are verified and can be read now; 0 if that byte is missing.
    fn verified(&self, from: u64) -> u64;

    /// Whether the byte at `from` is here, though it may have to be looked at before it counts as verified. Such a byte is waited for, however
    /// often somebody has waited for it in vain before it was here.
    fn is_here(&self, from: u64) -> bool {
        self.verified(from) > 0
    }

    /// Waits until the byte at `from` is verified. Where the caller waits is where bytes are needed next. An error says that they will
    /// not come. The call is dropped when the reader goes away or has waited long enough.
    async fn wait(&self, from: u64) -> io::Result<()>;

    /// Reads bytes `from..from + length`, which [`verified`](Self::verified) has named; fewer only with an error.
    async fn read(&self, from: u64, length: usize) -> io::Result<Bytes>;
}
