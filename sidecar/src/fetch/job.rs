//! The elected node's job: grant, bytes, metainfo at the trackers, word to the operator.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crds::NodePhase;
use operator_api::{Completed, Failed, GRANT_SECONDS, Grant, Progress};
use origin::{Options, Origin};
use torrent::manifest::Manifest;
use torrent::{InfoHashV1, InfoHashV2, Metainfo};

use super::{Counters, FetchError, Whole, check_grant, read_all};
use crate::clients::{OperatorClient, OperatorError};
use crate::contents::{self, hex};
use crate::desired::{Data, Problem};
use crate::jobs::{Context, JobHandle, stoppable};
use crate::store::{Folder, Record, allocated, write_durably};

/// How often the operator hears of it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// Pause after anything that did not work and that nobody named a pause for.
const PAUSE: Duration = Duration::from_secs(3);
/// The longest pause that the operator can ask for.
const MAX_RETRY: Duration = Duration::from_mins(10);

/// How an attempt ended.
enum End {
    /// The operator has taken it.
    Complete,
    /// Not ours, or nobody to ask.
    NoGrant(OperatorError),
    /// The grant went while it was read.
    Lost,
    /// Told to stop.
    Stopped,
    /// It went wrong; the operator was told, and said when to try again.
    Failed(FetchError, Duration),
}

/// Fetches until the operator has taken it, then waits to be stopped: the torrents are in the revision then.
pub async fn fetch(context: Arc<Context>, job: JobHandle) {
    loop {
        let wait = match attempt(&context, &job).await {
            End::Complete => {
                job.stop.cancelled().await;
                return;
            }
            End::Stopped => return,
            End::NoGrant(error) => {
                tracing::info!(revision = job.revision, %error, "no grant yet");
                job.update(|state| {
                    if state.status.problem.is_none() {
                        state.status.phase = NodePhase::Pending;
                    }
                });
                PAUSE
            }
            End::Lost => {
                tracing::info!(revision = job.revision, "the grant is lost; what was read is kept");
                job.phase(NodePhase::Pending);
                PAUSE
            }
            End::Failed(error, wait) => {
                job.problem(Problem { reason: error.reason(), message: error.to_string() });
                wait.min(MAX_RETRY)
            }
        };
        if stoppable(&job.stop, tokio::time::sleep(wait)).await.is_err() {
            return;
        }
    }
}

/// One grant's worth of work.
struct Work<'a> {
    context: &'a Context,
    job: &'a JobHandle,
    operator: OperatorClient,
    grant: Grant,
    /// The id changes when the grant is taken up anew after the operator has moved.
    id: Mutex<String>,
    counters: Counters,
    /// Bytes from the origin in earlier attempts.
    before: u64,
}

async fn attempt(context: &Context, job: &JobHandle) -> End {
    let Some(endpoint) = context.class().operator.clone() else {
        let why = OperatorError::Unreachable("the class's status names no operator yet".into());
        return End::NoGrant(why);
    };
    let asked = async {
        let operator = OperatorClient::new(&endpoint, context.token.clone())?;
        let grant = operator.grant(&job.revision).await?;
        Ok((operator, grant))
    };
    let (operator, grant) = match stoppable(&job.stop, asked).await {
        Err(_) => return End::Stopped,
        Ok(Err(error)) => return End::NoGrant(error),
        Ok(Ok(granted)) => granted,
    };
    job.phase(NodePhase::Fetching);
    let id = Mutex::new(grant.id.clone());
    let before = job.state.borrow().status.origin_bytes;
    let work = Work { context, job, operator, grant, id, counters: Counters::default(), before };
    let end = work.run().await;
    if !matches!(end, End::Complete) {
        work.remember().await;
    }
    end
}

impl Work<'_> {
    async fn run(&self) -> End {
        let halt = self.job.stop.child_token();
        let mut doing = std::pin::pin!(self.read_and_tell(&halt));
        let result = tokio::select! {
            result = &mut doing => result,
            () = self.stay_alive() => {
                halt.cancel();
                // Nothing may write any more when another node reads.
                drop(doing.await);
                self.count();
                return if self.job.stop.is_cancelled() { End::Stopped } else { End::Lost };
            }
        };
        self.count();
        match result {
            Ok(()) => End::Complete,
            Err(FetchError::Stopped) if self.job.stop.is_cancelled() => End::Stopped,
            Err(error) => self.report(error).await,
        }
    }

    async fn report(&self, error: FetchError) -> End {
        let (grant, reason) = (self.id(), error.reason().to_owned());
        let failed = Failed { grant, reason, message: error.to_string() };
        match stoppable(&self.job.stop, self.operator.failed(&self.job.revision, &failed)).await {
            Err(_) => End::Stopped,
            Ok(Ok(retry)) => End::Failed(error, Duration::from_secs(retry.after_seconds)),
            Ok(Err(_)) => End::Failed(error, PAUSE),
        }
    }

    async fn read_and_tell(&self, halt: &tokio_util::sync::CancellationToken) -> Result<(), FetchError> {
        let folder = self.context.layout.coming(&self.job.revision);
        let (metainfo, manifest) = if let Some(whole) = self.fetched_before(&folder).await {
            whole
        } else {
            let whole = self.read(&folder, halt).await?;
            (whole.metainfo, whole.manifest)
        };
        self.job.update(|state| state.startable = true);
        let tell = async {
            self.store(&metainfo, &manifest).await?;
            self.complete(&metainfo, &manifest).await
        };
        stoppable(halt, tell).await.unwrap_or(Err(FetchError::Stopped))
    }

    /// A fetch that was cut between its last byte and the operator's word.
    async fn fetched_before(&self, folder: &Folder) -> Option<(Metainfo, Manifest)> {
        let (folder, expected) = (folder.clone(), self.grant.expected_digest.clone());
        let look = move || {
            let record = Record::load(&folder).ok()??;
            let digest = record.manifest_digest.clone().filter(|_| record.fetched)?;
            if expected.is_some_and(|expected| expected != digest) {
                return None;
            }
            let metainfo = contents::load_metainfo(&folder, &record).ok()?;
            let manifest = contents::load_manifest(&folder, &digest).ok()?;
            crate::jobs::whole(&folder.data(), &manifest).then_some((metainfo, manifest))
        };
        let whole = tokio::task::spawn_blocking(look).await.ok().flatten()?;
        self.counters.on_disk.store(whole.1.total_size(), Ordering::Relaxed);
        Some(whole)
    }

    async fn read(
        &self,
        folder: &Folder,
        halt: &tokio_util::sync::CancellationToken,
    ) -> Result<Whole, FetchError> {
        check_grant(&self.grant)?;
        self.make_room(folder).await?;
        self.job.update(|state| state.data = Data::Incoming);
        let options = Options { denied: self.context.denied_origins.clone(), ..Options::default() };
        let origin = Origin::new(&self.grant.origin_policy, options)?;
        let layout = &self.context.layout;
        let mut whole =
            read_all(layout, &self.job.revision, &self.grant, origin, &self.counters, halt).await?;
        whole.metainfo = self.context.with_trackers(whole.metainfo);
        self.count();
        self.save(folder, &whole).await?;
        Ok(whole)
    }

    async fn make_room(&self, folder: &Folder) -> Result<(), FetchError> {
        let total = self.grant.files.iter().map(|file| file.size).sum();
        let (folder, spec) = (folder.clone(), self.job.spec());
        let revision = self.job.revision.clone();
        let (layout, origin_bytes) = (self.context.layout.clone(), self.before);
        let here = blocking(move || {
            layout.ensure()?;
            std::fs::create_dir_all(folder.path())
                .map_err(crate::store::StoreError::io("make", folder.path()))?;
            if let Some(spec) = spec {
                let old = Record::load(&folder).ok().flatten();
                let mut record = old.unwrap_or_else(|| Record::new(&revision, &spec));
                record.update(&spec);
                record.fetched = false;
                record.origin_bytes = origin_bytes;
                record.save(&folder)?;
            }
            Ok(allocated(&folder.data()))
        })
        .await?;
        let (root, quota) = (self.context.layout.root(), self.context.class().quota);
        Ok(self.context.ledger.book(root, &self.job.revision, total, here, quota)?)
    }

    /// From here on a restart needs neither the origin nor a hash.
    async fn save(&self, folder: &Folder, whole: &Whole) -> Result<(), FetchError> {
        let (metainfo, manifest) = (whole.metainfo.encode(), whole.manifest.to_bytes());
        let (v1, v2) = infohashes(&whole.metainfo);
        let digest = hex(&whole.manifest.digest());
        let origin_bytes = self.job.state.borrow().status.origin_bytes;
        let (folder, revision) = (folder.clone(), self.job.revision.clone());
        blocking(move || {
            write_durably(&folder.manifest(), &manifest)?;
            write_durably(&folder.metainfo(), &metainfo)?;
            let mut record = Record::load(&folder)?.unwrap_or_default();
            record.revision = revision;
            (record.info_hash_v1, record.info_hash_v2) = (v1, v2);
            record.manifest_digest = Some(digest);
            record.fetched = true;
            record.origin_bytes = origin_bytes;
            record.save(&folder)
        })
        .await
    }

    /// What was read counts, also if it was for nothing.
    async fn remember(&self) {
        let folder = self.context.layout.coming(&self.job.revision);
        let origin_bytes = self.job.state.borrow().status.origin_bytes;
        let save = blocking(move || {
            let Some(mut record) = Record::load(&folder)? else { return Ok(()) };
            record.origin_bytes = origin_bytes;
            record.save(&folder)
        });
        if let Err(error) = save.await {
            tracing::debug!(revision = self.job.revision, %error, "the count of origin bytes is not kept");
        }
    }

    /// At least one tracker must have it; the others get it while it is seeded.
    async fn store(&self, metainfo: &Metainfo, manifest: &Manifest) -> Result<(), FetchError> {
        let name = infohash(metainfo);
        let digest = hex(&manifest.digest());
        let (metainfo, manifest) = (metainfo.encode().into(), manifest.to_bytes().into());
        let trackers = self.context.class().trackers.clone();
        let began = Instant::now();
        loop {
            let metainfo: (&str, bytes::Bytes) = (&name, bytes::Bytes::clone(&metainfo));
            let manifest: (&str, bytes::Bytes) = (&digest, bytes::Bytes::clone(&manifest));
            let missing =
                self.context.trackers.store_at_all(&trackers, &self.job.revision, metainfo, manifest).await;
            if missing.len() < trackers.len() {
                return Ok(());
            }
            // The registry may be on its way to a tracker that has just started.
            if began.elapsed() > Duration::from_secs(GRANT_SECONDS) {
                let why =
                    missing.into_iter().map(|(_, error)| error.to_string()).collect::<Vec<_>>().join("; ");
                return Err(FetchError::Trackers(why));
            }
            tokio::time::sleep(PAUSE / 3).await;
        }
    }

    async fn complete(&self, metainfo: &Metainfo, manifest: &Manifest) -> Result<(), FetchError> {
        let (info_hash_v1, info_hash_v2) = infohashes(metainfo);
        loop {
            let completed = Completed {
                grant: self.id(),
                info_hash_v1: info_hash_v1.clone(),
                info_hash_v2: info_hash_v2.clone(),
                manifest_digest: hex(&manifest.digest()),
                bytes: manifest.total_size(),
                files: manifest.entries().len() as u64,
                origin_bytes: self.job.state.borrow().status.origin_bytes,
            };
            match self.operator.complete(&self.job.revision, &completed).await {
                Ok(()) => return Ok(()),
                Err(OperatorError::Refused { status: status @ (400 | 413 | 422), message }) => {
                    return Err(FetchError::Refused(format!("{status}: {message}")));
                }
                // Unreachable, moving, or with another grant: the signs of life find out which.
                Err(error) => tracing::info!(revision = self.job.revision, %error, "telling it again"),
            }
            tokio::time::sleep(PAUSE / 3).await;
        }
    }

    /// Returns when the grant is no longer ours.
    async fn stay_alive(&self) {
        let lease = |seconds: u64| Instant::now() + Duration::from_secs(seconds.min(10 * GRANT_SECONDS));
        let mut until = lease(self.grant.expires_in_seconds);
        loop {
            tokio::time::sleep(SIGN_OF_LIFE).await;
            self.count();
            let progress = Progress {
                grant: self.id(),
                bytes: self.counters.on_disk.load(Ordering::Relaxed),
                origin_bytes: self.counters.origin.load(Ordering::Relaxed),
                worked: self.counters.worked.load(Ordering::Relaxed),
            };
            // Whatever the answer would be, it comes too late after that.
            let told = self.operator.progress(&self.job.revision, &progress);
            let Ok(answer) = tokio::time::timeout_at(until.into(), told).await else { return };
            match answer {
                Ok(renewed) => until = lease(renewed.expires_in_seconds),
                Err(error) if error.is_lost() => match self.operator.grant(&self.job.revision).await {
                    // Another leader, who knows nothing of the grants of the last one.
                    Ok(again) if again.files == self.grant.files => {
                        until = lease(again.expires_in_seconds);
                        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = again.id;
                    }
                    Err(error) if !error.is_lost() => {}
                    _ => return,
                },
                Err(error) => {
                    tracing::info!(revision = self.job.revision, %error, "no sign of life went through");
                }
            }
            if Instant::now() >= until {
                return;
            }
        }
    }

    fn id(&self) -> String {
        self.id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self) {
        let read = self.counters.origin.load(Ordering::Relaxed);
        self.context.ledger.arrived(&self.job.revision, self.counters.on_disk.load(Ordering::Relaxed));
        self.job.update(|state| state.status.origin_bytes = self.before + read);
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::store::StoreError> + Send + 'static,
) -> Result<T, FetchError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(FetchError::Stopped),
    }
}

fn infohashes(metainfo: &Metainfo) -> (Option<String>, Option<String>) {
    (
        metainfo.info_hash_v1().as_ref().map(InfoHashV1::to_string),
        metainfo.info_hash_v2().as_ref().map(InfoHashV2::to_string),
    )
}

/// The name under which metainfo is stored: v2 if there is one.
fn infohash(metainfo: &Metainfo) -> String {
    let (v1, v2) = infohashes(metainfo);
    v2.or(v1).expect("a torrent has a v1 or a v2 side")
}
