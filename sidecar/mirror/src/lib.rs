//! A pull-only registry on loopback, for the node's container runtime (OCI distribution specification, "Pull").
//!
//! It serves manifests and blobs that are on this node, and blobs that are still arriving. Whatever it does not have is a 404 at once,
//! which makes a runtime ask upstream for that object, unless a [`Demand`] gets it. Manifests of private images it gives out by the
//! word of a [`Gate`], or not at all. It never dials anything, takes no pushes, and lets no byte out that was not verified: a
//! wrong byte fails a pull, while a body that ends early is resumed elsewhere at the same byte.
//!
//! ```no_run
//! # async fn example(images: std::sync::Arc<dyn mirror::Images>) -> Result<(), Box<dyn std::error::Error>> {
//! let mirror = mirror::Mirror::new(images, mirror::Options::default());
//! let listener = daemon::bind(([127, 0, 0, 1], 29_080).into())?;
//! mirror::Mirror::serve(listener, mirror.router(), daemon::CancellationToken::new()).await;
//! # Ok(())
//! # }
//! ```

mod answer;
mod bearer;
mod body;
mod canary;
mod images;
mod linger;
mod metrics;
mod name;
mod readers;
mod route;
mod server;

pub use canary::{CANARY_HOST, CANARY_REPOSITORY, Canary, canary_reference};
pub use images::{
    Access, Blob, Demand, Gate, Growing, Images, MAX_MANIFEST, Manifest, ManifestError, Verdict,
};
pub use metrics::Metrics;
pub use name::{Digest, NameError, Reference, Repository};
pub use server::{Helpers, Mirror, Options};
