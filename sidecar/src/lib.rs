//! The daemon on each node: fetch, share, verify, publish, seed, report.
//!
//! | module | what |
//! |---|---|
//! | [`desired`] | the pure half: from what is wanted and what is here to the next steps |
//! | [`store`] | the folder on the disk: steps that can be cut anywhere |
//! | [`fetch`] | reading an origin once |
//! | [`images`] | the image mirror, and the container runtime that pulls through it |
//! | [`demand`] | blobs of images that no revision has, shared between the nodes |
//! | [`jobs`] | what is being done with each revision |
//! | [`kubernetes`] | watches, and the node's report |
//! | [`clients`] | the operator, and the trackers' stores |
//!
//! The main loop observes, plans and starts or stops jobs. Everything goes on without the operator and without the API server
//! with what is known; data is removed only on word from a revision, or after a fresh list says that there is none.

mod brief;
mod class;
mod config;
mod contents;
mod health;
mod manager;
mod run;

pub mod clients;
pub mod demand;
pub mod desired;
pub mod fetch;
pub mod images;
pub mod jobs;
pub mod kubernetes;
pub mod store;

pub use class::ClassInfo;
pub use clients::TokenSource;
pub use config::{HEALTH_PORT, PEER_PORT, SidecarConfig};
pub use health::{Metrics, Watchdog};
pub use images::ImagesConfig;
pub use run::{SidecarError, run};
