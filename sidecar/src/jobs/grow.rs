//! From an outline to the torrent: content that is shared while it is still being read, by this node or by others.

use std::collections::BTreeSet;
use std::sync::Arc;

use crds::NodePhase;
use operator_api::reason;
use rand::Rng;
use swarm::{GraduateError, GrowTorrent, TorrentHandle};
use tokio::time::{Duration, Instant};
use torrent::IngestId;
use torrent::ingest::Outline;

use super::documents::Documents;
use super::end::{End, RETRY, disk};
use super::roles::{Asked, Roles};
use super::share::Sharing;
use super::state::stoppable;
use super::steps::{self, Place};
use crate::desired::Problem;
use crate::fetch::{Found, Reuse, granted_outline};

/// An outline that cannot be had is a problem after this long.
const PATIENCE: Duration = Duration::from_secs(15);
/// The first pause before the trackers are asked again for an outline; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl Sharing {
    /// Shares the content of an ingest until the revision names its torrent; then all is as if it had been known from the start.
    pub(super) async fn grow(&mut self, ingest: &crds::Ingest) -> Result<Documents, End> {
        let outline = self.outline(ingest).await?;
        self.prepare_growth(&outline).await?;
        let folder = self.context.layout.coming(&self.job.revision);
        let (layout, revision) = (self.context.layout.clone(), self.job.revision.clone());
        let of = outline.clone();
        let found = disk(move || Ok(Found::look(&layout, &revision, &of))).await?;
        let grow = GrowTorrent {
            outline: outline.clone(),
            folder: folder.data(),
            journal: folder.journal(),
            trackers: self.context.tracker_specs(),
            peers: Vec::new(),
            held: found.pieces(),
        };
        let plan = outline.plan();
        let places = self.find_places(&grow.folder, plan.files().to_vec(), BTreeSet::new()).await;
        let grown = match places {
            Ok(Some(places)) => self.context.engine.grow_with(&grow, places).await,
            Ok(None) => self.context.engine.grow(&grow).await,
            Err(error) => Err(error),
        };
        let handle = grown.map_err(|error| self.not_added(&error))?;
        self.handle = Some(handle.clone());
        self.serve_what_comes(plan.pieces(), plan.files().iter().map(|(path, size)| (path, *size)));
        self.job.phase(NodePhase::Downloading);
        let mut reuse = Reuse::begin(found, &self.job, &handle);
        let (context, job) = (self.context.clone(), self.job.clone());
        let mut roles = Roles::new(context, job, handle.clone(), Arc::new(outline), reuse.shared());
        let named = self.until_named(ingest, &handle, &mut roles).await;
        // Nothing may read on when this ends.
        roles.end().await;
        let grown = match named {
            Ok(()) => self.become_torrent(&handle, &mut reuse).await,
            Err(end) => Err(end),
        };
        // Nothing may be linked any more when this ends.
        reuse.end().await;
        grown
    }

    async fn become_torrent(&mut self, handle: &TorrentHandle, reuse: &mut Reuse) -> Result<Documents, End> {
        let documents = self.named_documents().await?;
        self.graduate(handle, &documents).await?;
        stoppable(&self.job.stop, reuse.done()).await?;
        Ok(documents)
    }

    /// The outline that has this name: from the folder, from a tracker, or made of the grant by a node that reads.
    async fn outline(&mut self, ingest: &crds::Ingest) -> Result<Outline, End> {
        let id: IngestId = ingest.id.parse().map_err(|_| malformed(&ingest.id))?;
        let folder = self.context.layout.coming(&self.job.revision);
        if let Some(outline) = disk(move || steps::outline_of(&folder, id)).await? {
            return Ok(outline);
        }
        let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let why = match self.ask_for_outline(id).await? {
                Ok(outline) => return self.keep_outline(outline).await,
                Err(why) => why,
            };
            if began.elapsed() > PATIENCE {
                let message = format!("the outline of the content cannot be had: {why}");
                self.job.problem(Problem { reason: reason::METAINFO_UNAVAILABLE, message });
            }
            let jittered = rand::rng().random_range(pause / 2..pause);
            stoppable(&self.job.stop, tokio::time::sleep(jittered)).await?;
            if self.growing().is_none_or(|now| now.id != ingest.id) {
                return Err(End::Wait(Duration::ZERO));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn ask_for_outline(&self, id: IngestId) -> Result<Result<Outline, String>, End> {
        if Asked::of(&self.job, &self.context.node).fetcher {
            let granted = granted_outline(&self.context, &self.job, &self.job.stop).await;
            match granted {
                Ok(Some(outline)) if outline.id() == id => return Ok(Ok(Outline::clone(&outline))),
                Ok(_) => {}
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
        let trackers = self.context.class().trackers.clone();
        let name = id.to_string();
        let asked = stoppable(&self.job.stop, self.context.trackers.manifest(&trackers, &name)).await?;
        let bytes = match asked {
            Ok(bytes) if IngestId::of(&bytes) == id => bytes,
            Ok(_) => return Ok(Err("a tracker has something else under its name".to_owned())),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let parsed = tokio::task::spawn_blocking(move || Outline::parse(&bytes)).await;
        Ok(parsed.map_err(|_| End::Stopped)?.map_err(|error| error.to_string()))
    }

    async fn keep_outline(&self, outline: Outline) -> Result<Outline, End> {
        let folder = self.context.layout.coming(&self.job.revision);
        disk(move || steps::begin_outline(&folder, &outline).map(|()| outline)).await
    }

    /// Makes the folder ready, and books the bytes.
    async fn prepare_growth(&mut self, outline: &Outline) -> Result<(), End> {
        let folder = self.context.layout.coming(&self.job.revision);
        let plan = outline.plan().clone();
        let here = disk(move || steps::prepare_growth(&folder, &plan)).await?;
        let (root, quota) = (self.context.layout.root(), self.context.class().quota);
        let booked = self.context.ledger.book(root, &self.job.revision, outline.total_size(), here, quota);
        booked.map_err(|error| End::Problem(Problem { reason: error.reason(), message: error.to_string() }))
    }

    /// Follows the torrent, and does what the policy asks of this node, until the revision names its torrents.
    async fn until_named(
        &mut self,
        ingest: &crds::Ingest,
        handle: &TorrentHandle,
        roles: &mut Roles,
    ) -> Result<(), End> {
        let (mut stats, mut spec) = (handle.changed(), self.job.spec.clone());
        let (mut class, mut token) = (self.context.class.clone(), self.context.session.watch());
        loop {
            let now = stats.borrow_and_update().clone();
            self.follow(&now, roles.fetches());
            if spec.borrow_and_update().as_ref().is_some_and(|spec| !spec.torrents.is_empty()) {
                return Ok(());
            }
            if self.ingest_now().is_some_and(|now| now.id != ingest.id) {
                return Err(End::Wait(Duration::ZERO));
            }
            let (before, asked) = (roles.fetches(), Asked::of(&self.job, &self.context.node));
            roles.play(asked).await;
            if before && !asked.fetcher {
                self.job.phase(NodePhase::Downloading);
            }
            tokio::select! {
                biased;
                () = self.job.stop.cancelled() => return Err(End::Stopped),
                changed = stats.changed() => if changed.is_err() { return Err(End::Wait(RETRY)) },
                Ok(()) = spec.changed() => {}
                Ok(()) = class.changed() => handle.set_trackers(self.context.tracker_specs()),
                Ok(()) = token.changed() => handle.set_trackers(self.context.tracker_specs()),
            }
        }
    }

    /// Metainfo and manifest that the revision names by now.
    async fn named_documents(&mut self) -> Result<Documents, End> {
        let Some(spec) = self.job.spec() else { return Err(End::Wait(RETRY)) };
        let folder = self.context.layout.coming(&self.job.revision);
        let mut record = self.record().clone();
        let saved = disk(move || {
            // A fetcher has written to it meanwhile.
            record = crate::store::Record::load(&folder)?.unwrap_or(record);
            record.update(&spec);
            record.save(&folder)?;
            Ok(record)
        });
        *self.record() = saved.await?;
        self.documents(Place::Incoming).await
    }

    async fn graduate(&mut self, handle: &TorrentHandle, documents: &Documents) -> Result<(), End> {
        match handle.graduate(Arc::clone(&documents.metainfo)).await {
            // The same bytes under another revision: that one is what others find. This one gets what it lacks all the same.
            Ok(()) | Err(GraduateError::Duplicate) => Ok(()),
            Err(error @ GraduateError::Another) => {
                tracing::warn!(revision = self.job.revision, %error, "hashing what is here");
                self.damaged = true;
                Err(End::Wait(Duration::ZERO))
            }
        }
    }

    fn ingest_now(&self) -> Option<crds::Ingest> {
        self.job.spec().and_then(|spec| spec.policy.ingest.clone())
    }
}

fn malformed(id: &str) -> End {
    let message = format!("the revision's ingest id {id:?} is no SHA-256");
    End::Problem(Problem { reason: reason::METAINFO_UNAVAILABLE, message })
}
