//! Doing what was planned, step by step; the first that fails ends it, and the next plan begins from what is then seen.
//!
//! Our own kinds are written whole with the resource version they were planned from: a plan made from an old view, or by an
//! operator that slept through the loss of its lease, fails with a conflict instead of undoing what came after it.

use std::sync::Arc;

use crds::{Distribution, DistributionRevision, DistributionStatus, FINALIZER};
use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;

use super::source::Surroundings;
use super::{outline, source};
use crate::context::{Context, FIELD_MANAGER};
use crate::events;
use crate::outline::{Name, Outlined};
use crate::plan::{Note, Observed, Plan, Step, pinned_digest, wanted_platforms};
use crate::queue::Key;

/// The API server's cause where an apply would take fields that another manager owns: no old view, and not over by itself.
const FIELD_CONFLICT: &str = "FieldManagerConflict";

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server refused or did not answer.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// Another operator leads.
    #[error("the lease is lost: another operator acts")]
    NotLeading,
    /// A revision of this name belongs to someone else.
    #[error("the revision {0} is there and belongs to another Distribution: it is left alone")]
    Foreign(String),
    /// The Secret with the trackers' token holds none.
    #[error("the Secret {0} has no token: delete it, and restart the trackers")]
    NoToken(String),
    /// A look panicked; the panic's own message is in the log before it.
    #[error("a look broke off: this is a defect of the operator, please report it")]
    Defect,
}

impl ApplyError {
    /// Whether the view was old: ordinary, and over as soon as the watch has caught up.
    pub fn is_conflict(&self) -> bool {
        let Self::Api(kube::Error::Api(status)) = self else { return false };
        let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
        status.code == 409 && !causes.iter().any(|cause| cause.reason == FIELD_CONFLICT)
    }

    /// Whether the API server was there to say it, so that it may well do something else.
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(_)) | Self::NoToken(_))
    }
}

/// Does the steps.
pub async fn apply(
    context: &Arc<Context>,
    key: &Key,
    observed: &Observed,
    plan: Plan,
) -> Result<(), ApplyError> {
    for step in plan.steps {
        if !context.leadership.holds() {
            return Err(ApplyError::NotLeading);
        }
        match (step, &observed.distribution) {
            (Step::DeleteOrphan(revision), _) => delete_orphan(context, &revision).await?,
            (Step::CreateRevision(revision), _) => create(context, *revision).await?,
            (Step::UpdateRevision(revision), _) => update(context, *revision).await?,
            (Step::DeleteRevision { name, uid, version }, _) => delete(context, &name, uid, version).await?,
            (Step::Elect { revision, fetchers, witness }, _) => {
                tracing::info!(%key, %revision, ?fetchers, witness, "elected");
                let now = Timestamp::now();
                let alone = {
                    let mut ledger = context.ledger();
                    let election = ledger.grants.of(&revision);
                    election.elect(&fetchers, now);
                    election.appoint(witness.as_deref(), now)
                };
                if alone {
                    tell_of_one_word(context, observed, &revision);
                }
            }
            (Step::Resolve, Some(distribution)) => {
                if let Some(class) = &observed.class {
                    let surroundings = Surroundings {
                        nodes: wanted_platforms(observed, distribution, Timestamp::now()),
                        pinned: pinned_digest(observed, distribution),
                    };
                    source::begin(context, key, distribution, class, surroundings);
                }
            }
            (Step::Check(known), Some(distribution)) => {
                if let Some(class) = &observed.class {
                    let nodes = wanted_platforms(observed, distribution, Timestamp::now());
                    source::check(context, key, distribution, class, nodes, *known);
                }
            }
            (Step::Outline { revision, epoch, key: ingest_key }, Some(distribution)) => {
                if let Some(resolved) = observed.resolution.resolved.clone() {
                    let outlined = Outlined { epoch, key: ingest_key, name: Name::Pending };
                    outline::begin(context, key, distribution, resolved, outlined, revision);
                }
            }
            (Step::AddFinalizer, Some(distribution)) => set_finalizer(context, distribution, true).await?,
            (Step::RemoveFinalizer, Some(distribution)) => {
                set_finalizer(context, distribution, false).await?;
            }
            (Step::WriteStatus(status), Some(distribution)) => {
                write_status(context, distribution, *status).await?;
            }
            (Step::Tell(note), Some(distribution)) => events::tell(context, distribution.as_ref(), note),
            (
                Step::Resolve
                | Step::Check(_)
                | Step::Outline { .. }
                | Step::AddFinalizer
                | Step::RemoveFinalizer
                | Step::WriteStatus(_)
                | Step::Tell(_),
                None,
            ) => tracing::error!(%key, "a step without its Distribution was planned: this is a defect"),
        }
    }
    Ok(())
}

/// Nobody could confirm what was declared.
fn tell_of_one_word(context: &Arc<Context>, observed: &Observed, revision: &str) {
    tracing::warn!(revision, "no second node could confirm the declared digests: the fetcher's word counts");
    let message = "no node that did not read the source could confirm the declared digests: the fetcher's word alone counts";
    let note = Note { warning: false, reason: "DigestsUnconfirmed".to_owned(), message: message.to_owned() };
    if let Some(distribution) = &observed.distribution {
        events::tell(context, distribution.as_ref(), note);
    }
}

fn revisions(client: &Client) -> Api<DistributionRevision> {
    Api::all(client.clone())
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

async fn create(context: &Context, revision: DistributionRevision) -> Result<(), ApplyError> {
    let api = revisions(&context.client);
    let created = match api.create(&params(), &revision).await {
        Ok(created) => {
            tracing::info!(revision = %created.name_any(), "revision made");
            created
        }
        Err(kube::Error::Api(status)) if status.code == 409 => api.get(&revision.name_any()).await?,
        Err(error) => return Err(error.into()),
    };
    if created.spec.distribution != revision.spec.distribution {
        return Err(ApplyError::Foreign(revision.name_any()));
    }
    context.assume_created(created);
    Ok(())
}

async fn update(context: &Context, revision: DistributionRevision) -> Result<(), ApplyError> {
    let name = revision.name_any();
    let updated = revisions(&context.client).replace(&name, &params(), &revision).await?;
    context.assume(updated);
    Ok(())
}

async fn delete(
    context: &Context,
    name: &str,
    uid: String,
    resource_version: Option<String>,
) -> Result<(), ApplyError> {
    let preconditions = Some(Preconditions { uid: Some(uid), resource_version });
    let params = DeleteParams { preconditions, ..DeleteParams::default() };
    match revisions(&context.client).delete(name, &params).await {
        Ok(_) => tracing::info!(revision = name, "revision deleted"),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => return Err(error.into()),
    }
    context.ledger().forget(name);
    Ok(())
}

/// Asks the API server itself: an index may be old, or unable to read what is there.
async fn delete_orphan(context: &Context, revision: &DistributionRevision) -> Result<(), ApplyError> {
    let owner = &revision.spec.distribution;
    let api: Api<Distribution> = Api::namespaced(context.client.clone(), &owner.namespace);
    let there = api.get_metadata_opt(&owner.name).await?;
    if there.is_some_and(|there| there.metadata.uid.as_deref() == Some(owner.uid.as_str())) {
        return Ok(());
    }
    tracing::info!(revision = %revision.name_any(), "its Distribution is gone");
    delete(context, &revision.name_any(), revision.uid().unwrap_or_default(), None).await
}

async fn set_finalizer(context: &Context, distribution: &Distribution, on: bool) -> Result<(), ApplyError> {
    let api: Api<Distribution> =
        Api::namespaced(context.client.clone(), &distribution.namespace().unwrap_or_default());
    let written = write_finalizer(&api, distribution, on).await?;
    // Taken off, the object may be gone by now, and would be there again.
    if let Some(written) = written.filter(|_| on) {
        context.assume(written);
    }
    if !on {
        context.ledger().distributions.remove(&distribution.uid().unwrap_or_default());
    }
    Ok(())
}

/// Puts our finalizer on or takes it off, with the resource version it was seen at. None if the object is gone.
pub async fn write_finalizer<K>(api: &Api<K>, object: &K, on: bool) -> Result<Option<K>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut finalizers = object.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    if on {
        finalizers.push(FINALIZER.to_owned());
    }
    let patch = json!({
        "metadata": {"finalizers": finalizers, "resourceVersion": object.resource_version(), "uid": object.uid()}
    });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(&object.name_any(), &params, &Patch::Merge(patch)).await {
        Ok(written) => Ok(Some(written)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

async fn write_status(
    context: &Context,
    distribution: &Distribution,
    status: DistributionStatus,
) -> Result<(), ApplyError> {
    let api: Api<Distribution> =
        Api::namespaced(context.client.clone(), &distribution.namespace().unwrap_or_default());
    let mut written = distribution.clone();
    written.status = Some(status);
    let written = api.replace_status(&distribution.name_any(), &params(), &written).await?;
    context.assume(written);
    Ok(())
}
