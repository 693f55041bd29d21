//! From metainfo to a published, seeded dataset, and back when somebody damages it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crds::NodePhase;
use operator_api::reason;
use rand::Rng;
use swarm::net::storage::Elsewhere;
use swarm::{AddError, AddTorrent, Assume, TorrentHandle, Trouble};
use tokio::sync::watch;
use tokio::time::Instant;

use super::documents::Documents;
use super::elsewhere::away;
use super::end::{End, RETRY, disk, not_added};
use super::image::{ImageState, happened};
use super::keeper::Keeper;
use super::state::{Context, JobHandle, stoppable};
use super::steps::{self, Look, Place, Published};
use crate::desired::{Data, Problem};
use crate::images::HostState;
use crate::store::{Folder, Record, doubt, is_full, shared_bytes, withdraw};

/// Metainfo that cannot be had is a problem after this long.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often a published revision is looked after.
const LOOK: Duration = Duration::from_secs(10);
/// How many of its files are looked at each time.
const LOOK_FILES: usize = 1024;

/// A revision being shared.
pub(super) struct Sharing {
    pub(super) context: Arc<Context>,
    pub(super) job: JobHandle,
    record: Option<Record>,
    pub(super) handle: Option<TorrentHandle>,
    keeper: Keeper,
    /// What is on the disk proved wrong, which the disk is still to be told: then it is out of the store, and hashed.
    pub(super) damaged: bool,
    /// Files that other revisions share were not what they should be: this one gets its own.
    pub(super) alone: bool,
    /// Bytes from peers before this handle.
    pub(super) peer_bytes: u64,
    /// Of this engine's torrent, counted already in the metrics.
    pub(super) far_bytes: u64,
    /// Where the content is an image: what has become of it.
    pub(super) image: ImageState,
    /// And where its files lie, where some may lie in the runtime's content store.
    pub(super) places: Option<Arc<Elsewhere>>,
}

/// Shares a revision until it is told to stop.
pub async fn share(context: Arc<Context>, job: JobHandle) {
    let (ending, revision) = (Arc::clone(&context), job.revision.clone());
    share_until_stopped(context, job).await;
    ending.ledger.rests(&revision);
}

async fn share_until_stopped(context: Arc<Context>, job: JobHandle) {
    let keeper = Keeper::new(Arc::clone(&context));
    let (record, handle) = (None, None);
    let mut sharing = Sharing {
        context,
        job,
        record,
        handle,
        keeper,
        damaged: false,
        alone: false,
        peer_bytes: 0,
        far_bytes: 0,
        image: ImageState::default(),
        places: None,
    };
    loop {
        let Err(end) = sharing.round().await;
        sharing.image = sharing.image.for_next_round();
        sharing.places = None;
        if let Some(handle) = sharing.handle.take() {
            handle.remove().await;
        }
        let wait = match end {
            End::Stopped => return,
            End::Wait(wait) => wait,
            End::Problem(problem) => {
                sharing.job.problem(problem);
                RETRY
            }
        };
        if stoppable(&sharing.job.stop, tokio::time::sleep(wait)).await.is_err() {
            return;
        }
    }
}

impl Sharing {
    async fn round(&mut self) -> Result<Infallible, End> {
        let place = self.find().await?;
        if place == Place::Store {
            let documents = self.documents(place).await?;
            self.wait_while_evicted(&documents).await?;
            self.account(&documents, self.context.layout.published(&self.job.revision)).await?;
            self.open_published(&documents).await?;
            return self.seed(&documents).await;
        }
        let documents = if let Some(ingest) = self.growing() {
            let documents = self.grow(&ingest).await?;
            self.wait_complete().await?;
            documents
        } else {
            let documents = self.documents(place).await?;
            self.download(&documents).await?;
            documents
        };
        self.publish(&documents).await?;
        self.seed(&documents).await
    }

    /// The ingest to join, if the revision has no torrents yet.
    pub(super) fn growing(&self) -> Option<crds::Ingest> {
        let spec = self.job.spec()?;
        spec.policy.ingest.clone().filter(|_| spec.torrents.is_empty())
    }

    async fn find(&mut self) -> Result<Place, End> {
        let (layout, revision) = (self.context.layout.clone(), self.job.revision.clone());
        let (spec, known, damaged) = (self.job.spec(), self.record.clone(), self.damaged);
        let (place, record) = disk(move || {
            if damaged {
                withdraw(&layout, &revision)?;
                doubt(&layout.coming(&revision))?;
            }
            steps::find(&layout, &revision, spec.as_deref(), known)
        })
        .await?;
        self.damaged = false;
        self.peer_bytes = record.peer_bytes.max(self.job.state.borrow().status.peer_bytes);
        self.record = Some(record);
        self.job.update(|state| {
            state.data = if place == Place::Store { Data::Published } else { Data::Incoming };
            state.linked = false;
        });
        Ok(place)
    }

    pub(super) fn known_record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    pub(super) fn record(&mut self) -> &mut Record {
        self.record.as_mut().expect("a round begins with finding the record")
    }

    pub(super) async fn documents(&mut self, place: Place) -> Result<Documents, End> {
        let folder = match place {
            Place::Store => self.context.layout.published(&self.job.revision),
            Place::Incoming => self.context.layout.coming(&self.job.revision),
        };
        let record = self.record().clone();
        let began = Instant::now();
        let here = folder.clone();
        let local = disk({
            let record = record.clone();
            move || Ok(Documents::load(&here, &record).ok())
        });
        if let Some(documents) = local.await? {
            self.job.update(|state| state.startable = true);
            return Ok(documents);
        }
        loop {
            match stoppable(&self.job.stop, Documents::get(&self.context, &folder, &record)).await? {
                Ok(documents) => {
                    self.job.update(|state| state.startable = true);
                    return Ok(documents);
                }
                Err(why) if began.elapsed() > PATIENCE => {
                    let message = format!("metainfo or manifest cannot be had from any tracker: {why}");
                    self.job.problem(Problem { reason: reason::METAINFO_UNAVAILABLE, message });
                }
                Err(why) => tracing::debug!(revision = self.job.revision, why, "no metainfo yet"),
            }
            let pause = rand::rng().random_range(Duration::from_millis(500)..Duration::from_secs(2));
            stoppable(&self.job.stop, tokio::time::sleep(pause)).await?;
        }
    }

    pub(super) async fn add(
        &mut self,
        documents: &Documents,
        folder: std::path::PathBuf,
        journal: Option<std::path::PathBuf>,
        assume: Assume,
        there: BTreeSet<usize>,
    ) -> Result<(), AddError> {
        let sizes = documents.metainfo.files().iter().map(|file| file.size);
        let files = documents.layout.iter().cloned().zip(sizes).collect();
        let places = self.find_places(&folder, files, there).await?;
        let torrent = AddTorrent {
            metainfo: Arc::clone(&documents.metainfo),
            folder,
            layout: documents.layout.clone(),
            journal,
            trackers: self.context.tracker_specs(),
            assume,
            peers: Vec::new(),
            web_seeds: Vec::new(),
        };
        self.handle = Some(match places {
            Some(places) => self.context.engine.add_with(torrent, places).await?,
            None => self.context.engine.add(torrent).await?,
        });
        Ok(())
    }

    pub(super) fn not_added(&mut self, error: &AddError) -> End {
        let wait = match error {
            AddError::Incomplete { .. } => Duration::ZERO,
            AddError::Journal { source, .. } if !is_full(source) => RETRY,
            _ => return not_added(error),
        };
        tracing::warn!(revision = self.job.revision, %error, "hashing what is here");
        self.damaged = true;
        End::Wait(wait)
    }

    async fn publish(&mut self, documents: &Documents) -> Result<(), End> {
        self.job.phase(NodePhase::Publishing);
        let peer_bytes = self.job.state.borrow().status.peer_bytes;
        let spec = self.job.spec();
        let record = self.record();
        record.peer_bytes = peer_bytes;
        record.unproven = false;
        if let Some(spec) = spec {
            record.update(&spec);
        }
        let record = record.clone();
        let layout = self.context.layout.clone();
        let manifest = Arc::clone(&documents.manifest);
        match disk(move || steps::publish_verified(&layout, &record, &manifest)).await? {
            Published::Damaged => {
                self.damaged = true;
                return Err(End::Wait(Duration::ZERO));
            }
            published => self.published(published),
        }
        if let Some(handle) = &self.handle {
            handle.moved(self.context.layout.published(&self.job.revision).data());
        }
        tracing::info!(revision = self.job.revision, "published");
        self.context.metrics.published.inc();
        Ok(())
    }

    /// Says where the revision stands now that it is in the store.
    fn published(&self, published: Published) {
        let linked = matches!(published, Published::Linked(_));
        self.job.update(|state| {
            state.data = Data::Published;
            state.linked = linked;
        });
        match published {
            Published::Occupied(error) => {
                self.job.problem(Problem { reason: error.reason(), message: error.to_string() });
            }
            Published::Linked(removed) => {
                for revision in &removed {
                    self.context.ledger.free(revision);
                }
                if self.is_only_files() {
                    self.job.phase(NodePhase::Ready);
                }
            }
            Published::Damaged => {}
        }
    }

    /// Tells the ledger what of a folder's files other revisions have too.
    pub(super) async fn account(&self, documents: &Documents, folder: Folder) -> Result<(), End> {
        let (layout, revision) = (self.context.layout.clone(), self.job.revision.clone());
        let manifest = Arc::clone(&documents.manifest);
        let shared = disk(move || shared_bytes(&layout, &revision, &folder.data(), &manifest)).await?;
        self.context.ledger.shares(&self.job.revision, &shared);
        Ok(())
    }

    async fn open_published(&mut self, documents: &Documents) -> Result<(), End> {
        let (layout, revision) = (self.context.layout.clone(), self.job.revision.clone());
        let (data, manifest) = (layout.published(&revision).data(), Arc::clone(&documents.manifest));
        let there = disk(move || Ok(away(&layout, &revision, &manifest))).await?;
        let added = self.add(documents, data, None, Assume::Complete, there).await;
        self.note_published(documents);
        match added {
            Ok(()) | Err(AddError::Duplicate) => Ok(()),
            Err(error @ AddError::Storage { .. }) => {
                tracing::warn!(revision = self.job.revision, %error, "the published data is damaged");
                self.damaged = true;
                Err(End::Wait(Duration::ZERO))
            }
            Err(error) => Err(self.not_added(&error)),
        }
    }

    /// Seeds and looks after it for as long as it is sound.
    async fn seed(&mut self, documents: &Documents) -> Result<Infallible, End> {
        let (mut class, mut token) = (self.context.class.clone(), self.context.session.watch());
        let mut spec = self.job.spec.clone();
        let mut host = self.context.images.as_ref().map(|images| images.host.clone());
        let mut touched = self.touched();
        let mut from = 0;
        loop {
            let pause = self.look_after(documents, from).await?;
            let pause = self.look_after_image(documents, pause).await?;
            from += LOOK_FILES;
            if let Some(handle) = &self.handle {
                let stats = handle.stats();
                if let Some(Trouble::Disk(error)) = &stats.trouble {
                    tracing::warn!(revision = self.job.revision, error, "the published data cannot be read");
                    self.damaged = true;
                    return Err(End::Wait(RETRY));
                }
                let record = self.record.clone().expect("a round begins with finding the record");
                self.keeper.keep(&record, &stats.trackers, &self.context.layout.published(&record.revision));
            } else if self.open_published(documents).await.is_err() {
                return Err(End::Wait(RETRY));
            }
            tokio::select! {
                biased;
                () = self.job.stop.cancelled() => return Err(End::Stopped),
                () = tokio::time::sleep(pause) => {}
                Ok(()) = spec.changed() => {}
                Ok(()) = class.changed() => self.set_trackers(),
                Ok(()) = token.changed() => self.set_trackers(),
                () = changed(host.as_mut()) => {}
                () = happened(touched.as_mut()) => {}
            }
        }
    }

    fn set_trackers(&self) {
        if let Some(handle) = &self.handle {
            handle.set_trackers(self.context.tracker_specs());
        }
    }

    async fn look_after(&mut self, documents: &Documents, from: usize) -> Result<Duration, End> {
        let (layout, mut record) = (self.context.layout.clone(), self.record().clone());
        let (spec, manifest) = (self.job.spec(), Arc::clone(&documents.manifest));
        let places = self.places.clone();
        let (published, record) = disk(move || {
            let (spec, places) = (spec.as_deref(), places.as_deref());
            let look = Look { spec, from, count: LOOK_FILES, places };
            let published = steps::look_after(&layout, &mut record, &manifest, look)?;
            Ok((published, record))
        })
        .await?;
        self.record = Some(record);
        match published {
            Published::Damaged => {
                if let Some(problem) = self.went_with_image(documents).await? {
                    return Err(End::Problem(problem));
                }
                tracing::warn!(
                    revision = self.job.revision,
                    "published data is missing or was changed: getting it again"
                );
                self.damaged = true;
                Err(End::Wait(Duration::ZERO))
            }
            published @ Published::Occupied(_) => {
                self.published(published);
                Ok(RETRY)
            }
            published @ Published::Linked(_) => {
                self.published(published);
                Ok(LOOK)
            }
        }
    }
}

/// What is known of the container runtime has changed; never where there is none.
async fn changed(host: Option<&mut watch::Receiver<HostState>>) {
    if let Some(host) = host
        && host.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}
