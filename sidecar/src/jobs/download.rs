//! From metainfo to every byte in `incoming/`, verified: by the engine, or beside a revision that is the same torrent.

use std::collections::BTreeSet;
use std::sync::Arc;

use crds::NodePhase;
use operator_api::reason;
use swarm::{AddError, Assume, Phase, Trouble};

use super::documents::Documents;
use super::end::{End, RETRY, disk, problem_of};
use super::share::Sharing;
use super::steps::{self, Prepared};
use super::twin::{self, Twin};
use crate::desired::Problem;

impl Sharing {
    pub(super) async fn download(&mut self, documents: &Documents) -> Result<(), End> {
        let assume = self.prepare(documents).await?.assume;
        let folder = self.context.layout.coming(&self.job.revision);
        let journal = Some(folder.journal());
        match self.add(documents, folder.data(), journal, assume, BTreeSet::new()).await {
            Ok(()) => {
                let sizes = documents.metainfo.files().iter().map(|file| file.size);
                self.serve_what_comes(documents.metainfo.pieces(), documents.layout.iter().zip(sizes));
            }
            // The same bytes under another revision, whole here: that one seeds.
            Err(AddError::Duplicate) if assume == Assume::Complete => return Ok(()),
            Err(AddError::Duplicate) => return self.follow_twin(documents).await,
            Err(error) => return Err(self.not_added(&error)),
        }
        self.job.phase(NodePhase::Downloading);
        self.wait_complete().await
    }

    /// Links what is here already, and books the rest.
    async fn prepare(&mut self, documents: &Documents) -> Result<Prepared, End> {
        let (layout, mut record) = (self.context.layout.clone(), self.record().clone());
        let (manifest, alone) = (Arc::clone(&documents.manifest), self.alone);
        let prepared = disk(move || {
            let prepared = steps::prepare(&layout, &mut record, &manifest, alone)?;
            Ok((prepared, record))
        });
        let (prepared, record) = prepared.await?;
        *self.record() = record;
        let (revision, ledger) = (&self.job.revision, &self.context.ledger);
        ledger.shares(revision, &prepared.shared);
        let (root, quota) = (self.context.layout.root(), self.context.class().quota);
        ledger
            .book(root, revision, documents.manifest.total_size(), prepared.here, quota)
            .map_err(|error| End::Problem(Problem { reason: error.reason(), message: error.to_string() }))?;
        let reused = prepared.reused;
        if reused.files > 0 {
            let (files, bytes) = (reused.files, reused.bytes);
            tracing::info!(revision, files, bytes, "linked from other revisions");
            self.context.metrics.reused_bytes.inc_by(bytes);
        }
        if prepared.is_open {
            let bytes = self.copy_from_runtime(documents).await?;
            if bytes > 0 {
                tracing::info!(revision = self.job.revision, bytes, "copied from the container runtime");
                self.context.metrics.reused_bytes.inc_by(bytes);
            }
        }
        Ok(prepared)
    }

    /// The engine has the same torrent already, for another revision: whole once that one is, and hashed.
    async fn follow_twin(&mut self, documents: &Documents) -> Result<(), End> {
        // It writes nothing itself.
        self.context.ledger.rests(&self.job.revision);
        self.waits("another revision of this node has the same bytes and gets them: when it is whole, this one is linked to it");
        let (layout, record) = (self.context.layout.clone(), self.record().clone());
        let (manifest, stop) = (Arc::clone(&documents.manifest), self.job.stop.clone());
        match disk(move || twin::complete(&layout, &record, &manifest, &stop)).await? {
            Twin::Whole => self.account(documents, self.context.layout.coming(&self.job.revision)).await,
            Twin::Stopped => Err(End::Stopped),
            Twin::Waits => Err(self.not_added(&AddError::Duplicate)),
            Twin::Unlike => {
                // Else the same file would be linked, and hashed, again and again.
                self.alone = true;
                Err(self.not_added(&AddError::Duplicate))
            }
            Twin::Damaged(other) => {
                tracing::warn!(
                    revision = self.job.revision,
                    other,
                    "its bytes are not what they must be: they are got again"
                );
                Err(End::Wait(RETRY))
            }
        }
    }

    fn waits(&self, message: &str) {
        let problem = Problem { reason: reason::SAME_BYTES_COMING, message: message.to_owned() };
        self.job.update(|state| {
            state.status.phase = NodePhase::Downloading;
            state.status.problem = Some(problem);
        });
    }

    /// Follows the engine until everything is here.
    pub(super) async fn wait_complete(&mut self) -> Result<(), End> {
        let Some(handle) = self.handle.clone() else { return Ok(()) };
        let mut stats = handle.changed();
        let (mut class, mut token) = (self.context.class.clone(), self.context.session.watch());
        let mut unproven = self.record().unproven;
        loop {
            let now = stats.borrow_and_update().clone();
            self.follow(&now, false);
            if let (Some(Trouble::Disk(_)), false) = (&now.trouble, self.alone) {
                // It may be a linked file that is damaged and that the engine rightly does not write to.
                self.alone = true;
                self.damaged = true;
                return Err(End::Wait(RETRY));
            }
            if now.phase != Phase::Checking && std::mem::take(&mut unproven) {
                self.proved().await;
            }
            if now.phase == Phase::Complete {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.job.stop.cancelled() => return Err(End::Stopped),
                changed = stats.changed() => if changed.is_err() { return Err(End::Wait(RETRY)) },
                Ok(()) = class.changed() => handle.set_trackers(self.context.tracker_specs()),
                Ok(()) = token.changed() => handle.set_trackers(self.context.tracker_specs()),
            }
        }
    }

    /// The engine has hashed what was here. If that cannot be written down, the next start hashes once more.
    async fn proved(&mut self) {
        let (layout, mut record) = (self.context.layout.clone(), self.record().clone());
        let saved = disk(move || steps::proved(&layout, &mut record).map(|()| record));
        if let Ok(record) = saved.await {
            *self.record() = record;
        }
    }

    /// Shows how far a torrent is. `fetching`: the phase is that of a reader.
    pub(super) fn follow(&mut self, stats: &swarm::Stats, fetching: bool) {
        // A torrent that is added anew counts from 0.
        self.context.metrics.far_bytes.inc_by(stats.downloaded_far.saturating_sub(self.far_bytes));
        self.far_bytes = stats.downloaded_far;
        let peer_bytes = self.peer_bytes + stats.downloaded.saturating_sub(stats.wasted);
        self.job.update(|state| state.status.peer_bytes = peer_bytes);
        if stats.phase != Phase::Checking {
            // What is taken of the disk is not free any more, whether it has come or not.
            self.context.ledger.arrived(&self.job.revision, stats.total - stats.ahead);
        }
        match &stats.trouble {
            Some(Trouble::Faulty(_)) if fetching => {}
            Some(trouble) => self.job.problem(problem_of(trouble)),
            None if stats.phase != Phase::Complete && !fetching => self.job.phase(NodePhase::Downloading),
            None => {}
        }
    }
}
