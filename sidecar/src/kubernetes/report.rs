//! The node's `NodeDistribution`: one writer, seldom.

use std::time::Duration;

use crds::{NodeDistribution, NodeDistributionSpec, NodeDistributionStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use rand::Rng;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;

/// Who writes.
const MANAGER: &str = "samara-sidecar";
/// What is found at the start gets so long to settle: a restart that changes nothing writes nothing.
const SETTLE: Duration = Duration::from_secs(2);
/// Whether the object is still there is looked up about so often: nobody else writes it, but anybody may delete it.
const LOOK: Duration = Duration::from_mins(10);
/// First pause after a failed write; it doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// What is true now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The Node's UID, once known: it owns the object.
    pub node_uid: String,
    /// What the object's status is to say.
    pub status: NodeDistributionStatus,
}

/// Writes reports to the API server.
pub struct Reporter {
    api: Api<NodeDistribution>,
    node: String,
    class: String,
    gate: Gate,
    /// What the API server has; `None` if it has no object, or one that the Node of today does not own.
    written: Option<NodeDistributionStatus>,
    /// The Node's UID when that was looked up.
    owner: String,
}

impl Reporter {
    /// For the object of this node.
    pub fn new(client: kube::Client, node: &str, class: &str) -> Self {
        let (node, class) = (node.to_owned(), class.to_owned());
        Self {
            api: Api::all(client),
            node,
            class,
            gate: Gate::default(),
            written: None,
            owner: String::new(),
        }
    }

    /// Writes until `shutdown`, or until nobody reports any more. Nothing is written before the first report.
    pub async fn run(mut self, mut reports: watch::Receiver<Option<Report>>, shutdown: CancellationToken) {
        let writing = async {
            if reports.wait_for(Option::is_some).await.is_err() {
                return;
            }
            tokio::time::sleep(SETTLE).await;
            self.follow(reports).await;
        };
        tokio::select! {
            () = writing => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Looks up what is there: of an earlier process of this node, or nothing any more.
    async fn read(&mut self, owner: &str) {
        let ours = |object: &NodeDistribution| {
            object.spec.class_name == self.class
                && object.owner_references().iter().any(|reference| reference.uid == owner)
        };
        let mut pause = FIRST_PAUSE;
        loop {
            match self.api.get_opt(&self.node).await {
                Ok(object) => {
                    self.written = object.filter(ours).map(|object| object.status.unwrap_or_default());
                    owner.clone_into(&mut self.owner);
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot read this node's NodeDistribution; trying again");
                }
            }
            back_off(&mut pause).await;
        }
    }

    async fn follow(&mut self, mut reports: watch::Receiver<Option<Report>>) {
        let began = Instant::now();
        let (mut pause, mut look) = (FIRST_PAUSE, began);
        loop {
            let report = reports.borrow_and_update().clone().unwrap_or_default();
            if Instant::now() >= look || report.node_uid != self.owner {
                self.read(&report.node_uid).await;
                look = Instant::now() + rand::rng().random_range(LOOK / 2..LOOK);
            }
            let jitter = rand::rng().random_range(Duration::ZERO..Duration::from_secs(1));
            let nothing = NodeDistributionStatus::default();
            let written = self.written.as_ref().unwrap_or(&nothing);
            self.gate.offer(began.elapsed(), written, &report.status, jitter);
            let due = self.gate.due(began.elapsed());
            if due.is_some_and(|at| at <= began.elapsed()) {
                match self.write(&report).await {
                    Ok(status) => {
                        self.gate.written(began.elapsed(), &status);
                        self.written = Some(status);
                        pause = FIRST_PAUSE;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot write this node's NodeDistribution; trying again");
                        back_off(&mut pause).await;
                    }
                }
                continue;
            }
            let due = due.map_or(look, |at| look.min(began + at));
            tokio::select! {
                changed = reports.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    async fn write(&mut self, report: &Report) -> Result<NodeDistributionStatus, kube::Error> {
        let mut status = report.status.clone();
        if let Some(written) = &self.written {
            keep_times(&mut status, written);
        } else {
            self.create(report).await?;
        }
        let patch = Patch::Merge(json!({ "status": status }));
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match self.api.patch_status(&self.node, &params, &patch).await {
            Err(kube::Error::Api(error)) if error.code == 404 => {
                // Somebody has deleted it: it is made again.
                self.create(report).await?;
                self.api.patch_status(&self.node, &params, &patch).await?;
            }
            other => drop(other?),
        }
        Ok(status)
    }

    async fn create(&self, report: &Report) -> Result<(), kube::Error> {
        let spec = NodeDistributionSpec { class_name: self.class.clone() };
        let mut object = NodeDistribution::new(&self.node, spec);
        object.owner_references_mut().push(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.node.clone(),
            uid: report.node_uid.clone(),
            ..OwnerReference::default()
        });
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match self.api.create(&params, &object).await {
            Err(kube::Error::Api(error)) if error.code == 409 => {
                // It exists, but was another class's, or appeared just now.
                let owners = object.owner_references().to_vec();
                let spec =
                    json!({ "metadata": { "ownerReferences": owners }, "spec": { "className": self.class } });
                let params =
                    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
                self.api.patch(&self.node, &params, &Patch::Merge(spec)).await.map(drop)
            }
            other => other.map(drop),
        }
    }
}

/// A phase that was already reported keeps its time, also over restarts.
fn keep_times(status: &mut NodeDistributionStatus, written: &NodeDistributionStatus) {
    for entry in &mut status.revisions {
        let before =
            written.revisions.iter().find(|b| b.revision == entry.revision && b.phase == entry.phase);
        if let Some(before) = before {
            entry.since = before.since.clone();
        }
    }
    for condition in &mut status.conditions {
        let before =
            written.conditions.iter().find(|b| b.type_ == condition.type_ && b.status == condition.status);
        if let Some(before) = before {
            condition.last_transition_time = before.last_transition_time.clone();
        }
    }
}

async fn back_off(pause: &mut Duration) {
    let wait = rand::rng().random_range(*pause / 2..*pause);
    tokio::time::sleep(wait).await;
    *pause = (*pause * 2).min(MAX_PAUSE);
}
