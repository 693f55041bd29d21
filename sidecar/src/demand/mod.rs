//! Images on demand: blobs that the container runtime asks the mirror for, of registries that the class lists, and that no revision has.
//!
//! The mirror asks the [`Desk`], the desk asks the keeper, and the keeper has a task for each blob: it asks the operator, which says whether
//! the blob is public and which node reads it, shares it under the name that it goes by, holds it against its digest when all of it is here,
//! and seeds it until it has to make room. Nothing of it outlives the process.
//!
//! | file | what |
//! |---|---|
//! | `keeper` | which blobs there are, and which of them go |
//! | `cache` | the same in numbers: pure |
//! | `claim` | what the operator says of a blob |
//! | `share` | one blob, from the first byte to the last reader |
//! | `reading` | this node reads it at the registry |
//! | `withheld` | what of a blob may be given out before it is proved |

mod cache;
mod claim;
mod keeper;
mod reading;
mod share;
mod tell;
mod withheld;

use std::sync::Arc;

use async_trait::async_trait;
use mirror::{Blob, Digest, Repository};
use tokio::sync::{mpsc, oneshot, watch};

use crate::class::ClassInfo;
use crate::images::{Arriving, Checked};

pub use keeper::{Outcome, keep};

/// Requests that wait for the keeper.
const WAITING: usize = 64;

/// What has become of a blob.
#[derive(Clone)]
enum State {
    /// The operator is asked.
    Asked,
    /// It is on its way.
    Coming(Blob),
    /// It is here.
    Here(Arc<Arriving>),
    /// It is not shared here, or not any more.
    Gone,
}

/// A request for a blob.
#[derive(Debug)]
pub struct Ask {
    repository: Repository,
    digest: Digest,
    answer: oneshot::Sender<watch::Receiver<State>>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Asked => "Asked",
            Self::Coming(_) => "Coming",
            Self::Here(_) => "Here",
            Self::Gone => "Gone",
        })
    }
}

/// Where the mirror asks.
#[derive(Debug)]
pub struct Desk {
    class: watch::Receiver<Option<Arc<ClassInfo>>>,
    asks: mpsc::Sender<Ask>,
}

impl Desk {
    /// With what the class says, and what the keeper ([`keep`]) hears.
    pub fn new(class: watch::Receiver<Option<Arc<ClassInfo>>>) -> (Self, mpsc::Receiver<Ask>) {
        let (asks, heard) = mpsc::channel(WAITING);
        (Self { class, asks }, heard)
    }

    fn lists(&self, registry: &str) -> bool {
        self.class.borrow().as_ref().is_some_and(|class| !class.retired && class.runtime.lists(registry))
    }
}

#[async_trait]
impl mirror::Demand for Desk {
    async fn blob(&self, repository: &Repository, digest: &Digest) -> Option<Blob> {
        if !self.lists(repository.host()) {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        // With so many waiting, this one goes upstream.
        self.asks.try_send(Ask { repository: repository.clone(), digest: *digest, answer }).ok()?;
        let mut state = answered.await.ok()?;
        match &*state.wait_for(|state| !matches!(state, State::Asked)).await.ok()? {
            State::Coming(blob) => Some(blob.clone()),
            State::Here(blob) => Some(Blob::Growing(Arc::new(Checked::new(blob.clone(), None)))),
            State::Asked | State::Gone => None,
        }
    }
}
