//! Container images: what a reference stands for, and what opens a repository.
//!
//! After the OCI distribution, image and image-layout specifications, and Docker's token authentication. Nothing is believed that has
//! a digest and was not held against it; what a registry calls by two meanings is refused (T90-T95).
//!
//! | file | what |
//! |---|---|
//! | `reference`, `digest` | `docker.io/library/alpine:3.20@sha256:...` |
//! | `document`, `strict` | indexes and manifests, read strictly |
//! | `platform` | which manifests of an index are wanted |
//! | `credentials` | docker's configuration in Secrets, matched as the kubelet does |
//! | `challenge`, `realm` | what a registry asks to be shown, and who may be asked for it |
//! | `client`, `image`, `budget` | a registry, asked, and how much of it |
//! | `porter` | whether a registry takes somebody else's token |

mod budget;
mod challenge;
mod client;
mod credentials;
mod digest;
mod document;
mod error;
mod image;
mod platform;
mod porter;
mod realm;
mod reference;
mod strict;
#[cfg(test)]
mod tests;

pub use client::{Opened, Registry, RegistryOptions};
pub use credentials::{Keyring, KeyringError, Login};
pub use digest::Digest;
pub use document::Contents;
pub use error::RegistryError;
pub use image::{Image, ImageDocument, ImageManifest};
pub use platform::{Platform, Platforms};
pub use porter::{Porter, Verdict};
pub use reference::{Reference, ReferenceError};
