//! What the plan needs to see of the objects of the API server, and what they are told.

use crds::{CLASS_LABEL, DistributionClass, DistributionRevision, Retire};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Api;
use kube::api::ListParams;
use operator_api::reason;
use swarm::near::Place;

use crate::config::SidecarConfig;
use crate::desired::{Desired, NodeView};
use crate::images::HostState;
use crate::kubernetes::Report;

/// A fresh list lacks it, it cannot be had by its name either, and the class does not say Keep.
pub(super) async fn is_orphan(client: kube::Client, class: &str, name: &str) -> Result<bool, kube::Error> {
    let revisions: Api<DistributionRevision> = Api::all(client.clone());
    let selected = ListParams::default().labels(&format!("{CLASS_LABEL}={class}"));
    let listed = revisions.list_metadata(&selected).await?;
    if listed.items.iter().any(|revision| revision.metadata.name.as_deref() == Some(name)) {
        return Ok(false);
    }
    // It may only have lost its label.
    if revisions.get_metadata_opt(name).await?.is_some() {
        return Ok(false);
    }
    let classes: Api<DistributionClass> = Api::all(client);
    Ok(classes.get(class).await?.spec.retire != Some(Retire::Keep))
}

/// What of a revision decides.
pub(super) fn desired(revision: &DistributionRevision, node: &str) -> Desired {
    let (spec, policy) = (&revision.spec, &revision.spec.policy);
    Desired {
        distribution_uid: spec.distribution.uid.clone(),
        torrents: !spec.torrents.is_empty(),
        ingest: policy.ingest.is_some(),
        current: policy.current,
        deleting: policy.deleting,
        on_delete: policy.on_delete,
        selector: policy.node_selector.clone(),
        tolerations: policy.tolerations.clone(),
        fetch_here: policy.fetchers.iter().any(|fetcher| fetcher == node),
    }
}

/// What of a Node decides.
pub(super) fn node_view(node: &Node) -> NodeView {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    NodeView {
        uid: node.metadata.uid.clone().unwrap_or_default(),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        taints: taints.into_iter().map(crds::Taint::from).collect(),
    }
}

/// Where a Node is, by the labels that cloud providers and people set. There is none for racks.
pub(super) fn place(node: &Node) -> Place {
    let label = |name: &str| node.metadata.labels.as_ref()?.get(name).map(String::as_str);
    let [region, zone] =
        ["region", "zone"].map(|part| label(&format!("topology.kubernetes.io/{part}")).unwrap_or_default());
    Place::new(region, zone, "")
}

/// Whether this sidecar has the root that its class names.
pub(super) fn root_condition(matches: bool, config: &SidecarConfig, now: Time) -> Condition {
    let (status, why, message) = if matches {
        ("True", "RootReady", String::new())
    } else {
        let root = config.root_of_class();
        ("False", reason::ROOT_MISMATCH, format!("this sidecar has the root {root}, its class names another"))
    };
    condition("RootReady", status, why, message, now)
}

/// Whether the node's container runtime pulls through the mirror.
pub(super) fn mirror_condition(host: &HostState, now: Time) -> Condition {
    let status = if host.ready { "True" } else { "False" };
    condition(crds::condition::IMAGE_MIRROR, status, host.reason, host.message.clone(), now)
}

fn condition(type_: &str, status: &str, reason: &str, message: String, now: Time) -> Condition {
    let (type_, status, reason) = (type_.to_owned(), status.to_owned(), reason.to_owned());
    Condition { type_, status, reason, message, last_transition_time: now, observed_generation: None }
}

/// Whether a report says what the one before does not. When a condition was looked at says nothing.
pub(super) fn says_more(before: &Report, now: &Report) -> bool {
    let (old, new) = (&before.status, &now.status);
    let said = |c: &Condition| (c.status.clone(), c.reason.clone(), c.message.clone());
    before.node_uid != now.node_uid
        || old.revisions != new.revisions
        || old.conditions.iter().map(said).ne(new.conditions.iter().map(said))
}
