//! A grant that this node holds: kept alive while something is done under it, given back with a result or a failure.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crds::NodePhase;
use operator_api::{Authorization, Completed, Failed, GRANT_SECONDS, Grant, Lease, Progress};
use origin::{Access, Options, Origin, Pace};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use torrent::manifest::Manifest;
use torrent::{InfoHashV1, InfoHashV2, Metainfo};

use super::stripes::Seat;
use super::{Counters, FetchError};
use crate::clients::{OperatorClient, OperatorError};
use crate::contents::hex;
use crate::desired::Problem;
use crate::jobs::{Context, JobHandle, stoppable};
use crate::store::{Record, write_durably};

/// How often the operator hears of it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// Pause after anything that did not work and that nobody named a pause for.
pub(super) const PAUSE: Duration = Duration::from_secs(3);
/// The longest pause that the operator can ask for.
const MAX_RETRY: Duration = Duration::from_mins(10);

/// How an attempt ended.
pub(super) enum End {
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

/// Says how an attempt has ended, and waits until the next one is due. It breaks off when there is to be none: `true` if the
/// operator has taken the result.
pub(super) async fn rest(job: &JobHandle, stop: &CancellationToken, end: End) -> ControlFlow<bool> {
    let wait = match end {
        End::Complete => return ControlFlow::Break(true),
        End::Stopped => return ControlFlow::Break(false),
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
    match stoppable(stop, tokio::time::sleep(wait)).await {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(false),
    }
}

/// A grant that this node holds.
pub(super) struct Hold {
    pub(super) context: Arc<Context>,
    pub(super) job: JobHandle,
    operator: OperatorClient,
    pub(super) grant: Arc<Grant>,
    /// The id changes when the grant is taken up anew after the operator has moved.
    id: Mutex<String>,
    pub(super) seat: watch::Sender<Seat>,
    pace: Arc<Pace>,
    access: Arc<Access>,
    pub(super) counters: Counters,
    /// Bytes from the origin in earlier attempts.
    pub(super) before: u64,
}

impl Hold {
    /// Asks the operator for the grant of a revision.
    pub async fn open(
        context: &Arc<Context>,
        job: &JobHandle,
        stop: &CancellationToken,
    ) -> Result<Self, End> {
        let Some(endpoint) = context.class().operator.clone() else {
            let why = OperatorError::Unreachable("the class's status names no operator yet".into());
            return Err(End::NoGrant(why));
        };
        let asked = async {
            let operator = OperatorClient::new(&endpoint, context.token.clone())?;
            let grant = operator.grant(&job.revision, context.fetcher_key.public()).await?;
            Ok((operator, grant))
        };
        let (operator, grant) = match stoppable(stop, asked).await {
            Err(_) => return Err(End::Stopped),
            Ok(Err(error)) => return Err(End::NoGrant(error)),
            Ok(Ok(granted)) => granted,
        };
        let (id, before) = (Mutex::new(grant.id.clone()), job.state.borrow().status.origin_bytes);
        let seat =
            grant.ingest.as_ref().map_or(Seat { index: 0, of: 1 }, |granted| seat(granted.index, granted.of));
        let (context, job, grant) = (Arc::clone(context), job.clone(), Arc::new(grant));
        let (seat, counters) = (watch::Sender::new(seat), Counters::default());
        let pace = Arc::new(Pace::default());
        pace.set(grant.bandwidth_per_second);
        let access = Arc::new(Access::new(grant.authorization.as_ref()));
        Ok(Self { context, job, operator, grant, id, seat, pace, access, counters, before })
    }

    /// Does something under the grant, for as long as it is ours. `halt` ends it; it is cancelled when the grant is lost.
    pub async fn under(
        &self,
        halt: &CancellationToken,
        work: impl Future<Output = Result<(), FetchError>>,
    ) -> End {
        let mut work = std::pin::pin!(work);
        let result = tokio::select! {
            result = &mut work => result,
            () = self.stay_alive() => {
                let stopped = halt.is_cancelled();
                halt.cancel();
                // Nothing may write any more when another node reads.
                drop(work.await);
                self.count();
                self.remember().await;
                return if stopped { End::Stopped } else { End::Lost };
            }
        };
        self.count();
        match result {
            Ok(()) => End::Complete,
            Err(error) => {
                self.remember().await;
                match error {
                    FetchError::Stopped if halt.is_cancelled() => End::Stopped,
                    error => self.report(error, halt).await,
                }
            }
        }
    }

    /// A client for the origin, as the grant allows.
    pub fn origin(&self) -> Result<Origin, FetchError> {
        let denied = self.context.denied_origins.clone();
        let (pace, access) = (self.pace.clone(), self.access.clone());
        Ok(Origin::new(&self.grant.origin_policy, Options { denied, pace, access, ..Options::default() })?)
    }

    async fn report(&self, error: FetchError, stop: &CancellationToken) -> End {
        let (grant, reason) = (self.id(), error.reason().to_owned());
        let failed = Failed { grant, reason, message: error.to_string(), accused: error.accused() };
        match stoppable(stop, self.operator.failed(&self.job.revision, &failed)).await {
            Err(_) => End::Stopped,
            Ok(Ok(retry)) => End::Failed(error, Duration::from_secs(retry.after_seconds)),
            Ok(Err(_)) => End::Failed(error, PAUSE),
        }
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

    /// Writes both into the revision's folder: from here on a restart needs neither the origin nor, if all was `fetched` in one go, a
    /// hash.
    pub async fn save(
        &self,
        metainfo: &Metainfo,
        manifest: &Manifest,
        fetched: bool,
    ) -> Result<(), FetchError> {
        let (bytes, listed) = (metainfo.encode(), manifest.to_bytes());
        let ((v1, v2), digest) = (infohashes(metainfo), hex(&manifest.digest()));
        let origin_bytes = self.job.state.borrow().status.origin_bytes;
        let (folder, revision) = (self.context.layout.coming(&self.job.revision), self.job.revision.clone());
        blocking(move || {
            write_durably(&folder.manifest(), &listed)?;
            write_durably(&folder.metainfo(), &bytes)?;
            let mut record = Record::load(&folder)?.unwrap_or_default();
            record.revision = revision;
            (record.info_hash_v1, record.info_hash_v2) = (v1, v2);
            record.manifest_digest = Some(digest);
            record.fetched |= fetched;
            record.origin_bytes = origin_bytes;
            record.save(&folder)
        })
        .await
    }

    /// At least one tracker must have it; the others get it while it is seeded.
    pub async fn store(&self, metainfo: &Metainfo, manifest: &Manifest) -> Result<(), FetchError> {
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

    /// Tells the operator what has become of it, until it is taken.
    pub async fn complete(&self, metainfo: &Metainfo, manifest: &Manifest) -> Result<(), FetchError> {
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
                Ok(renewed) => {
                    until = lease(renewed.expires_in_seconds);
                    self.pace.set(renewed.bandwidth_per_second);
                    self.show(renewed.authorization.as_ref());
                    self.take_seat(&renewed);
                }
                Err(error) if error.is_lost() => match self.again().await {
                    // Another leader, who knows nothing of the grants of the last one.
                    Ok(again) if again.files == self.grant.files && same_ingest(&again, &self.grant) => {
                        until = lease(again.expires_in_seconds);
                        self.show(again.authorization.as_ref());
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

    async fn again(&self) -> Result<Grant, OperatorError> {
        self.operator.grant(&self.job.revision, self.context.fetcher_key.public()).await
    }

    /// What the origin is shown from now on.
    fn show(&self, authorization: Option<&Authorization>) {
        if let Some(authorization) = authorization {
            self.access.renew(authorization);
        }
    }

    fn take_seat(&self, lease: &Lease) {
        if lease.of == 0 {
            return;
        }
        self.seat.send_if_modified(|held| {
            let now = seat(lease.index, lease.of);
            let changed = *held != now;
            *held = now;
            changed
        });
    }

    fn id(&self) -> String {
        self.id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Shows how far it is.
    pub fn count(&self) {
        let read = self.counters.origin.load(Ordering::Relaxed);
        self.context.ledger.arrived(&self.job.revision, self.counters.on_disk.load(Ordering::Relaxed));
        self.job.update(|state| state.status.origin_bytes = self.before + read);
    }
}

fn seat(index: u32, of: u32) -> Seat {
    Seat { index: index.min(of.max(1) - 1), of: of.max(1) }
}

fn same_ingest(a: &Grant, b: &Grant) -> bool {
    a.ingest.as_ref().map(|ingest| &ingest.id) == b.ingest.as_ref().map(|ingest| &ingest.id)
}

/// Runs work on the disk to its end.
pub(super) async fn blocking<T: Send + 'static>(
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
