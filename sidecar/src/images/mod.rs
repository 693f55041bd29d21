//! Images on this node: what of them the mirror serves, and the container runtime that pulls through it.
//!
//! An image is content like any other until it is published, as an OCI image layout. Then the mirror serves it, and the runtime is made to
//! pull it from there: unpacking, names and garbage collection stay the runtime's.

mod host;
mod layout;
mod materialize;
mod shelf;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crds::RevisionImage;
use mirror::{Mirror, Options};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::class::ClassInfo;
use host::Host;
pub use host::HostState;
pub use layout::LayoutError;
pub use materialize::{Materialized, materialize};
pub use shelf::{Place, Shelf};

/// How a sidecar has to do with images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagesConfig {
    /// Where the mirror listens: on loopback.
    pub mirror: SocketAddr,
    /// Where the host's folders are mounted: its `/etc/containerd` is `<host>/etc/containerd`.
    pub host: PathBuf,
    /// Whether the mirror is written into the runtime's hosts files; else somebody else does that.
    pub hosts_files: bool,
}

/// Images on this node.
#[derive(Debug)]
pub struct Images {
    /// What the mirror serves.
    pub shelf: Arc<Shelf>,
    /// The runtime, and whether it asks the mirror.
    pub host: watch::Receiver<HostState>,
    /// Whose leases are ours.
    pub owner: String,
}

/// The mirror cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("the image mirror: {0}; is another process using the port? --mirror-port takes another")]
pub struct MirrorError(#[from] daemon::BindError);

impl Images {
    /// Starts the mirror, and what keeps the runtime pointed at it, until `shutdown`. `kept`: the revisions on this disk.
    pub fn start(
        config: &ImagesConfig,
        owner: &str,
        kept: Vec<String>,
        class: watch::Receiver<Option<Arc<ClassInfo>>>,
        health: &daemon::Health,
        shutdown: &CancellationToken,
    ) -> Result<Self, MirrorError> {
        let shelf = Arc::<Shelf>::default();
        let mirror = Mirror::new(shelf.clone(), Options::default());
        health.metrics(|registry| mirror.metrics().register(registry));
        let listener = daemon::bind(config.mirror)?;
        tokio::spawn(Mirror::serve(listener, mirror.router(), shutdown.clone()));
        let (state, host) = watch::channel(HostState::default());
        let work = Host {
            config: config.clone(),
            owner: owner.to_owned(),
            kept,
            mirror,
            class,
            state,
            runtime: None,
            sang: None,
        };
        tokio::spawn(work.run(shutdown.clone()));
        Ok(Self { shelf, host, owner: owner.to_owned() })
    }

    /// Lets the runtime do with an image as it does with any: its layers and its name are kept for nobody any more.
    pub async fn forget(&self, revision: &str, image: Option<&RevisionImage>) {
        let (Some(image), Some(runtime)) = (image, self.host.borrow().runtime.clone()) else { return };
        let forgotten = async {
            runtime.release(revision).await?;
            if image.pin {
                runtime.unpin(&image.reference).await?;
            }
            Ok::<_, runtime::Error>(())
        };
        if let Err(error) = forgotten.await {
            tracing::warn!(revision, %error, "the container runtime still keeps the image; the next start lets go of it");
        }
    }
}
