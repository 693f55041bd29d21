//! Why a fetch ends without a torrent.

use operator_api::reason;
use origin::OriginError;
use swarm::Fault;
use torrent::manifest::ManifestError;
use torrent::{BuildError, PathConflict, PathError};

use crate::store::{SpaceError, StoreError};

/// A fetch did not end well. Messages are made for conditions: what failed, on what, what to do.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The origin.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The class's rules for origins cannot be read.
    #[error("the class's origin rules cannot be used: {0}")]
    Policy(#[from] origin::PolicyError),
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No room.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// A path in the grant.
    #[error("the path {path:?} is refused: {source}")]
    Path {
        /// As it was given.
        path: String,
        /// What is wrong with it.
        source: PathError,
    },
    /// Two paths in the grant.
    #[error("the paths do not fit together: {0}")]
    Conflict(#[from] PathConflict),
    /// The bytes are not those that were declared.
    #[error("{what} has sha256 {found}, declared is {expected}: correct the declaration or the origin")]
    Digest {
        /// Which file, or the content manifest.
        what: String,
        /// Hex.
        expected: String,
        /// Hex.
        found: String,
    },
    /// No torrent can be made of it.
    #[error("no torrent can be made of it: {0}")]
    Build(#[from] BuildError),
    /// No manifest can be made of it.
    #[error("no content manifest can be made of it: {0}")]
    Manifest(#[from] ManifestError),
    /// No tracker took the metainfo.
    #[error("no tracker takes the metainfo: {0}; look at the tracker pods of the class")]
    Trackers(String),
    /// The operator does not take it.
    #[error("the operator does not take it: {0}; it is read again")]
    Refused(String),
    /// A piece that was read cannot be taken into the torrent.
    #[error(transparent)]
    Put(#[from] swarm::PutError),
    /// What the fetchers have read does not fit together.
    #[error("{}", .0.what)]
    Faulty(Fault),
    /// The grant is one for content that is shared when it is whole.
    #[error("the operator grants no reading of content that is shared meanwhile: it is asked again")]
    NoIngest,
    /// It was told to stop.
    #[error("the fetch was stopped")]
    Stopped,
}

impl FetchError {
    /// The fetchers that have signed what is wrong.
    pub fn accused(&self) -> Vec<String> {
        match self {
            Self::Faulty(fault) => fault.fetchers.clone(),
            Self::Put(swarm::PutError::Hashes(error)) => Fault::from(error).fetchers,
            _ => Vec::new(),
        }
    }

    /// The reason that conditions and entries give.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Origin(error) => error.reason(),
            Self::Policy(_) => reason::ORIGIN_DENIED,
            Self::Store(error) => error.reason(),
            Self::Space(error) => error.reason(),
            Self::Path { .. } | Self::Conflict(_) | Self::Build(_) => reason::INVALID_PATH,
            Self::Manifest(_) => reason::INVALID_MANIFEST,
            Self::Digest { .. } => reason::DIGEST_MISMATCH,
            Self::Put(swarm::PutError::Changed { .. }) => reason::SOURCE_CHANGED,
            Self::Put(swarm::PutError::Hashes(_)) | Self::Faulty(_) => reason::FETCHER_FAULTY,
            Self::Put(_) => reason::DISK_ERROR,
            Self::NoIngest | Self::Trackers(_) | Self::Refused(_) => reason::METAINFO_UNAVAILABLE,
            Self::Stopped => reason::ORIGIN_UNAVAILABLE,
        }
    }
}
