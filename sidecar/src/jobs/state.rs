//! What jobs share with each other and with the manager.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use crds::{DistributionRevisionSpec, NodePhase};
use swarm::{Engine, TrackerSpec};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use torrent::Metainfo;
use torrent::ingest::SigningKey;

use crate::class::ClassInfo;
use crate::clients::{OperatorLine, Session, TokenSource, Trackers};
use crate::desired::{Data, JobStatus, Problem};
use crate::health::Metrics;
use crate::images::Images;
use crate::store::{Layout, Ledger};

/// The world of a job.
#[derive(Debug)]
pub struct Context {
    /// The node's name, for announces.
    pub node: String,
    /// Its class's.
    pub class_name: String,
    /// Where everything lies.
    pub layout: Layout,
    /// Who takes how much.
    pub ledger: Ledger,
    /// The engine.
    pub engine: Engine,
    /// What the class says now.
    pub class: watch::Receiver<Option<Arc<ClassInfo>>>,
    /// The token for the trackers.
    pub session: Session,
    /// The operator, for what asks it often.
    pub operator: OperatorLine,
    /// The trackers' stores.
    pub trackers: Trackers,
    /// What is shown to the operator.
    pub token: TokenSource,
    /// Vouches for what this node reads at origins; made anew at each start.
    pub fetcher_key: SigningKey,
    /// Never an origin.
    pub denied_origins: Vec<IpAddr>,
    /// What is counted.
    pub metrics: Metrics,
    /// The image mirror and the container runtime, where this sidecar has to do with them.
    pub images: Option<Arc<Images>>,
}

impl Context {
    /// The class as it is now.
    pub fn class(&self) -> Arc<ClassInfo> {
        self.class.borrow().clone().unwrap_or_default()
    }

    /// All trackers, for announces.
    pub fn tracker_specs(&self) -> Vec<TrackerSpec> {
        let bearer = self.session.token().map(|token| token.0.to_string());
        let spec = |url: String| TrackerSpec {
            url,
            bearer: bearer.clone(),
            // Without the token a tracker takes nobody's word for a node's name.
            node: bearer.as_ref().map(|_| self.node.clone()),
        };
        self.announce_urls().into_iter().map(spec).collect()
    }

    /// The torrent with all trackers in it, each in a tier of its own (BEP 12), for clients that have nothing but the .torrent. Most of
    /// them ask only the first: which one that is depends on the torrent, so that the trackers share the work.
    pub fn with_trackers(&self, metainfo: Metainfo) -> Metainfo {
        let mut tiers: Vec<_> = self.announce_urls().into_iter().map(|url| vec![url]).collect();
        let first = metainfo.wire_ids().first().map_or(0, |id| usize::from(id.0[0]));
        let first = first.checked_rem(tiers.len()).unwrap_or_default();
        tiers.rotate_left(first);
        metainfo.with_trackers(tiers)
    }

    fn announce_urls(&self) -> Vec<String> {
        let url = |tracker: &String| format!("{}/announce", tracker.trim_end_matches('/'));
        self.class().trackers.iter().map(url).collect()
    }
}

/// What a job says of its revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobState {
    /// For the report.
    pub status: JobStatus,
    /// How much is on the disk.
    pub data: Data,
    /// The dataset's name leads to it.
    pub linked: bool,
    /// Metainfo and manifest are there.
    pub startable: bool,
}

/// The job's end of the line to the manager.
#[derive(Clone, Debug)]
pub struct JobHandle {
    /// The revision's name.
    pub revision: String,
    /// The revision as the API has it, if it does.
    pub spec: watch::Receiver<Option<Arc<DistributionRevisionSpec>>>,
    /// Stop.
    pub stop: CancellationToken,
    /// What the manager sees.
    pub state: watch::Sender<JobState>,
    /// Rings when it changed.
    pub wake: Arc<Notify>,
}

impl JobHandle {
    /// Changes what the manager sees.
    pub fn update(&self, change: impl FnOnce(&mut JobState)) {
        let changed = self.state.send_if_modified(|state| {
            let before = state.clone();
            change(state);
            *state != before
        });
        if changed {
            self.wake.notify_one();
        }
    }

    /// It gets on.
    pub fn phase(&self, phase: NodePhase) {
        self.update(|state| {
            state.status.phase = phase;
            state.status.problem = None;
        });
    }

    /// It does not get on.
    pub fn problem(&self, problem: Problem) {
        let state = self.state.borrow().clone();
        if state.status.problem.as_ref().map(|known| known.reason) != Some(problem.reason) {
            tracing::warn!(revision = self.revision, reason = problem.reason, "{}", problem.message);
        }
        self.update(|state| {
            state.status.phase = NodePhase::Failed;
            state.status.problem = Some(problem);
        });
    }

    /// The revision as the API has it, if it does.
    pub fn spec(&self) -> Option<Arc<DistributionRevisionSpec>> {
        self.spec.borrow().clone()
    }
}

/// The job was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// Waits for something, or for the stop. Only for what may be dropped half-way.
pub async fn stoppable<T>(stop: &CancellationToken, wait: impl Future<Output = T>) -> Result<T, Stopped> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(Stopped),
        value = wait => Ok(value),
    }
}
