//! How a round of sharing ends.

use std::time::Duration;

use operator_api::reason;
use swarm::{AddError, Trouble};

use super::state::Stopped;
use crate::desired::Problem;
use crate::store::{StoreError, is_full};

/// Pause after something that did not work.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// Why a round ended.
pub(super) enum End {
    /// Told to stop.
    Stopped,
    /// Try again after this.
    Wait(Duration),
    /// It does not get on.
    Problem(Problem),
}

impl From<Stopped> for End {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<StoreError> for End {
    fn from(error: StoreError) -> Self {
        Self::Problem(Problem { reason: error.reason(), message: error.to_string() })
    }
}

/// What to do about a torrent that the engine does not take, where hashing what is here does not help.
pub(super) fn not_added(error: &AddError) -> End {
    let problem = |reason| End::Problem(Problem { reason, message: error.to_string() });
    match error {
        AddError::Duplicate => End::Wait(RETRY / 2),
        AddError::ShutDown => End::Stopped,
        AddError::Storage { source, .. } | AddError::Journal { source, .. } if is_full(source) => {
            problem(reason::DISK_FULL)
        }
        AddError::Layout { .. } | AddError::Selection { .. } => problem(reason::METAINFO_UNAVAILABLE),
        AddError::Storage { .. }
        | AddError::Journal { .. }
        | AddError::InUse { .. }
        | AddError::Incomplete { .. } => problem(reason::DISK_ERROR),
    }
}

/// For the node's entry.
pub(super) fn problem_of(trouble: &Trouble) -> Problem {
    let reason = match trouble {
        Trouble::DiskFull => reason::DISK_FULL,
        Trouble::Disk(_) => reason::DISK_ERROR,
        Trouble::Faulty(_) => reason::FETCHER_FAULTY,
    };
    Problem { reason, message: trouble.to_string() }
}

/// Runs work on the disk to its end, whatever happens meanwhile.
pub(super) async fn disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, End> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        // The runtime is going down.
        Err(_) => Err(End::Stopped),
    }
}
