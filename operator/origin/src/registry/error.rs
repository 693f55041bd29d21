//! What can go wrong at a registry.

use std::time::Duration;

use operator_api::reason;

use super::{KeyringError, ReferenceError};
use crate::error::OriginError;

/// An image could not be resolved, or its repository not opened. Messages carry no secret.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The way there, or an answer that is none.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The reference cannot be read.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A pull secret cannot be read.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// There is no such image.
    #[error("{image} is not in its registry: {what}")]
    NotFound {
        /// In full.
        image: String,
        /// What to do.
        what: &'static str,
    },
    /// The registry does not let us pull.
    #[error("the registry does not let {image} be pulled: {why}")]
    Unauthorized {
        /// In full.
        image: String,
        /// With or without which credentials, and what to do.
        why: String,
    },
    /// The registry sends whoever wants a token to a place that is not asked, or not shown credentials.
    #[error("the registry of {image} names the token server {realm}, which is refused: {why}")]
    Realm {
        /// In full.
        image: String,
        /// Redacted.
        realm: String,
        /// Why, and what to do.
        why: &'static str,
    },
    /// An index or a manifest is not acceptable.
    #[error("{what} of {image} is refused: {why}")]
    Document {
        /// In full.
        image: String,
        /// Which: `manifest sha256:...`.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The image is not there for what is wanted.
    #[error("{image} is not there for {wanted}; it has {has}")]
    Platform {
        /// In full.
        image: String,
        /// The platforms that are missing.
        wanted: String,
        /// Those that are there.
        has: String,
    },
}

impl RegistryError {
    /// The reason that conditions give: one of [`operator_api::reason`].
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Origin(error) => error.reason(),
            Self::Reference(_) => "InvalidSpec",
            Self::Keyring(_) => reason::SECRET_UNAVAILABLE,
            Self::NotFound { .. } => reason::ORIGIN_NOT_FOUND,
            Self::Unauthorized { .. } => reason::ORIGIN_UNAUTHORIZED,
            Self::Realm { .. } => reason::ORIGIN_DENIED,
            Self::Document { .. } => reason::INVALID_MANIFEST,
            Self::Platform { .. } => reason::NO_SUCH_PLATFORM,
        }
    }

    /// Whether the answer is the same in a moment: it is not there, not for everyone, or not allowed.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Origin(error) => !error.is_transient(),
            _ => true,
        }
    }

    /// How long the registry asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Origin(error) => error.retry_after(),
            _ => None,
        }
    }
}
