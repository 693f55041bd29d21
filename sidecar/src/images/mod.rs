//! Images on this node: what of them the mirror serves, and the container runtime that pulls through it.
//!
//! An image is content like any other until it is published, as an OCI image layout. Then the mirror serves it, and the runtime is made to
//! pull it from there: unpacking, names and garbage collection stay the runtime's.

mod arriving;
mod checked;
mod content;
mod events;
mod host;
mod layout;
mod materialize;
mod names;
mod relay;
#[cfg(test)]
mod relay_tests;
mod shelf;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crds::RevisionImage;
use mirror::{Helpers, Mirror, Options};
use runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::class::ClassInfo;
pub use arriving::Arriving;
pub use checked::Checked;
pub use content::content_store;
use events::Events;
pub use events::Touched;
use host::Host;
pub use host::HostState;
pub use layout::LayoutError;
pub use materialize::{Materialized, Wanted, is_in, materialize, runtime_name};
pub use names::Names;
pub use relay::Relay;
pub use shelf::{Coming, Place, Shelf};

/// How a sidecar has to do with images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagesConfig {
    /// Where the mirror listens: on loopback.
    pub mirror: SocketAddr,
    /// Where the host's folders are mounted: its `/etc/containerd` is `<host>/etc/containerd`.
    pub host: PathBuf,
    /// Whether the mirror is written into the runtime's hosts files; else somebody else does that.
    pub hosts_files: bool,
    /// So many percent of the disk are left alone by blobs on demand.
    pub spare: u8,
    /// Whether layers are read in the runtime's content store, where that is mounted, and not kept a second time.
    pub content_store: bool,
}

/// A little more than what a kubelet wants: it evicts pods when a tenth of the disk is free.
pub const SPARE: u8 = 12;

/// Images on this node.
#[derive(Debug)]
pub struct Images {
    /// What the mirror serves.
    pub shelf: Arc<Shelf>,
    /// The runtime, and whether it asks the mirror.
    pub host: watch::Receiver<HostState>,
    /// Whose leases are ours.
    pub owner: String,
    /// Which revisions want which names there.
    pub names: Names,
    /// Images that the runtime unpacks, or whose layers are hashed to be left to it, at a time.
    pub pulls: Semaphore,
    events: Events,
}

/// Images that are pulled at a time.
const PULLS: usize = 2;
/// How long the end of a revision waits for the runtime.
const PATIENCE: Duration = Duration::from_secs(10);

/// The mirror cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("the image mirror: {0}; is another process using the port? --mirror-port takes another")]
pub struct MirrorError(#[from] daemon::BindError);

impl Images {
    /// Starts the mirror, and what keeps the runtime pointed at it, until `shutdown`. `kept`: the revisions on this disk that are shared.
    /// `helpers`: who has blobs that are not here, and who asks registries.
    pub fn start(
        config: &ImagesConfig,
        owner: &str,
        kept: Vec<String>,
        helpers: Helpers,
        class: watch::Receiver<Option<Arc<ClassInfo>>>,
        health: &daemon::Health,
        shutdown: &CancellationToken,
    ) -> Result<Self, MirrorError> {
        let shelf = Arc::<Shelf>::default();
        let mirror = Mirror::with_helpers(shelf.clone(), helpers, Options::default());
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
        let events = Events::listen(host.clone(), shutdown.clone());
        let (names, pulls) = (Names::default(), Semaphore::new(PULLS));
        Ok(Self { shelf, host, owner: owner.to_owned(), names, pulls, events })
    }

    /// What happens to this image from now on.
    pub fn touched(&self, image: &RevisionImage) -> Touched {
        self.events.of(image)
    }

    /// Lets the runtime do with an image as it does with any: its layers and its name are kept for nobody any more.
    pub async fn forget(&self, revision: &str, image: Option<&RevisionImage>) {
        let released = self.release(revision).await;
        // Only now: the one that replaces it may have come meanwhile.
        let others = image.is_some_and(|image| self.names.release(revision, image));
        let (Some(runtime), Some(image)) = (released, image.filter(|image| image.pin && !others)) else {
            return;
        };
        if let Err(error) = unpin(&runtime, image).await {
            tracing::warn!(revision, image = image.reference, %error, "the container runtime keeps the image pinned");
        }
    }

    /// Lets go of its layers, and answers where.
    async fn release(&self, revision: &str) -> Option<Runtime> {
        // Shortly after a start it may not have been found yet.
        let mut host = self.host.clone();
        let found = host.wait_for(|state| state.runtime.is_some());
        let found = tokio::time::timeout(PATIENCE, found).await.ok().and_then(Result::ok);
        let Some(runtime) = found.and_then(|state| state.runtime.clone()) else {
            tracing::warn!(
                revision,
                "no container runtime to let go of the image; the next start lets go of its layers"
            );
            return None;
        };
        if let Err(error) = runtime.release(revision).await {
            tracing::warn!(revision, %error, "the container runtime keeps the layers; the next start lets go of them");
        }
        Some(runtime)
    }
}

/// Takes the pin off an image, unless its name is that of another by now: that one's pin is not ours.
async fn unpin(runtime: &Runtime, image: &RevisionImage) -> Result<(), runtime::Error> {
    let name = runtime_name(image);
    if runtime.image(&name).await?.is_some_and(|there| is_in(&there, image)) {
        runtime.unpin(&name).await?;
    }
    Ok(())
}
