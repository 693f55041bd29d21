//! From a source to pinned content: which files, how long, which validators, and one digest over all of it.

mod image;
mod listing;
mod manifest;
mod pin;

use std::sync::Arc;

use crds::{DistributionSpec, HttpSource, RevisionImage};
use futures::{StreamExt, TryStreamExt, stream};
use operator_api::{GrantedFile, reason};
use origin::registry::RegistryError;
use origin::{Origin, OriginError};

pub use image::{as_layout, lacking, platforms};
pub use pin::{revision_name, source_hash};

use self::listing::{Wanted, default_path};
use self::manifest::MAX_MANIFEST_BYTES;
use crate::failure::Failure;

/// So many files are asked for at a time.
const PROBES: usize = 8;
/// At most so many files of a manifest are asked for their size and validators; larger ones have to declare them.
const MAX_PROBED: usize = 256;

/// Why a source cannot be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The source itself, or its manifest, is not acceptable.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// The origin did not give what is needed.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// Nor did the registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl ResolveError {
    /// A refusal.
    pub fn refused(reason: &str, message: impl Into<String>) -> Self {
        Self::Refused(Failure::new(reason, message))
    }

    /// It in the words of a condition.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Refused(failure) => failure.clone(),
            Self::Origin(error) => Failure::new(error.reason(), error.to_string()),
            Self::Registry(error) => Failure::new(error.reason(), error.to_string()),
        }
    }

    /// How long the origin asked to be left alone.
    pub fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Refused(_) => None,
            Self::Origin(error) => error.retry_after(),
            Self::Registry(error) => error.retry_after(),
        }
    }
}

/// A source, pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// SHA-256 (hex) over the listing and the torrent's version.
    pub pin: String,
    /// Every file, sorted by path.
    pub files: Arc<Vec<GrantedFile>>,
    /// Payload bytes.
    pub bytes: u64,
    /// Whether the user, or what the user pointed to, said what the digest of a file is.
    pub declares: bool,
    /// What it is an image of.
    pub image: Option<RevisionImage>,
}

impl Resolved {
    /// So many files under this pin.
    pub fn new(pin: String, files: Vec<GrantedFile>, bytes: u64, image: Option<RevisionImage>) -> Self {
        let declares = files.iter().any(|file| file.sha256.is_some());
        Self { pin, files: Arc::new(files), bytes, declares, image }
    }

    /// Whether the digest of any of it is known beforehand, so that a second node has to confirm it.
    pub fn is_declared(&self, spec: &DistributionSpec) -> bool {
        self.declares || spec.expected_digest.is_some()
    }
}

/// Resolves files behind URLs: lists them, asks the origin for what is not declared, and pins the result.
pub async fn resolve(origin: &Origin, spec: &DistributionSpec) -> Result<Resolved, ResolveError> {
    let Some(http) = &spec.source.http else {
        return Err(ResolveError::refused(
            "InvalidSpec",
            "source has no member: set source.http or source.image",
        ));
    };
    let wanted = wanted(origin, http).await?;
    let inline = http.manifest_url.is_none();
    let mut files = probe_all(origin, wanted, inline).await?;
    files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    let bytes = listing::total(&files)?;
    let pin = pin::pin(&files, spec.torrent.version);
    Ok(Resolved::new(pin, files, bytes, None))
}

async fn wanted(origin: &Origin, http: &HttpSource) -> Result<Vec<Wanted>, ResolveError> {
    let wanted = match &http.manifest_url {
        Some(_) if !http.files.is_empty() => {
            return Err(ResolveError::refused(
                "InvalidSpec",
                "http has both files and manifestURL: keep one of them",
            ));
        }
        Some(url) => {
            let document = origin.get_small(url, MAX_MANIFEST_BYTES).await?;
            manifest::parse(url, &document)?
        }
        None => listing::inline(&http.files)?,
    };
    listing::check(&wanted)?;
    Ok(wanted)
}

/// Sizes and validators. Inline files are always asked for, so that what is missing shows at once; those of a manifest only
/// where it leaves something open.
async fn probe_all(
    origin: &Origin,
    wanted: Vec<Wanted>,
    inline: bool,
) -> Result<Vec<GrantedFile>, ResolveError> {
    let unsized_files = wanted.iter().filter(|file| file.size.is_none()).count();
    if unsized_files > MAX_PROBED {
        return Err(ResolveError::refused(
            reason::INVALID_MANIFEST,
            format!(
                "{unsized_files} files have no size: at most {MAX_PROBED} are asked for theirs, declare the others'"
            ),
        ));
    }
    let open = |file: &Wanted| file.size.is_none() || file.sha256.is_none();
    let probe_open = wanted.iter().filter(|file| open(file)).count() <= MAX_PROBED;
    let files = stream::iter(wanted.into_iter().map(|file| {
        let probed = inline || file.size.is_none() || (probe_open && open(&file));
        async move { if probed { probe(origin, file).await } else { Ok(unprobed(file)) } }
    }));
    files.buffer_unordered(PROBES).try_collect().await
}

async fn probe(origin: &Origin, file: Wanted) -> Result<GrantedFile, ResolveError> {
    let probe = origin.probe(&file.url).await?;
    let size = match (probe.size, file.size) {
        (Some(said), Some(declared)) if said != declared => {
            return Err(ResolveError::refused(
                reason::ORIGIN_LENGTH_MISMATCH,
                format!(
                    "{} has {said} bytes, and {declared} are declared: correct size, or the file at the origin",
                    origin::redact(&file.url)
                ),
            ));
        }
        (said, declared) => said.or(declared),
    };
    let Some(size) = size else {
        return Err(ResolveError::refused(
            reason::ORIGIN_UNAVAILABLE,
            format!("{} does not tell its length: declare size", origin::redact(&file.url)),
        ));
    };
    let Wanted { path, url, sha256, .. } = file;
    Ok(GrantedFile {
        path,
        url,
        text: None,
        size,
        sha256,
        etag: probe.etag,
        last_modified: probe.last_modified,
    })
}

fn unprobed(file: Wanted) -> GrantedFile {
    let Wanted { path, url, sha256, size } = file;
    GrantedFile {
        path,
        url,
        text: None,
        size: size.unwrap_or_default(),
        sha256,
        etag: None,
        last_modified: None,
    }
}
