//! Doing what was planned for a class.

use std::sync::Arc;

use crds::{CLASS_LABEL, DistributionClass, DistributionClassStatus};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use serde_json::Value;

use super::objects::{TOKEN_KEY, tracker_secret_name};
use super::plan::{Observed, Step};
use crate::context::{Context, FIELD_MANAGER};
use crate::distribution::{ApplyError, write_finalizer};
use crate::failure::Failure;

/// Random bytes of a tracker token.
const TOKEN_BYTES: usize = 32;
/// The condition's reason when trackers, their token or the finalizer could not be written.
const TRACKERS_NOT_APPLIED: &str = "TrackersNotApplied";

/// Does the steps. One that the API server refuses does not hold back the others: a quota on Services says nothing about the rest.
/// The first refusal is the result.
pub async fn apply(context: &Arc<Context>, observed: &Observed, steps: Vec<Step>) -> Result<(), ApplyError> {
    let mut result = Ok(());
    for step in steps {
        if !context.leadership.holds() {
            return Err(ApplyError::NotLeading);
        }
        let done = apply_step(context, &observed.class, step).await;
        match done {
            Err(error) if !error.is_answer() => return result.and(Err(error)),
            done => result = result.and(done),
        }
    }
    result
}

async fn apply_step(
    context: &Arc<Context>,
    class: &Arc<DistributionClass>,
    step: Step,
) -> Result<(), ApplyError> {
    match step {
        Step::AddFinalizer => {
            let classes: Api<DistributionClass> = Api::all(context.client.clone());
            if let Some(written) = write_finalizer(&classes, class.as_ref(), true).await? {
                context.assume(written);
            }
            Ok(())
        }
        Step::RemoveFinalizer => {
            // The answer is not taken in: the object may be gone by now, and would be there again.
            let classes: Api<DistributionClass> = Api::all(context.client.clone());
            write_finalizer(&classes, class.as_ref(), false).await?;
            Ok(())
        }
        Step::EnsureToken => ensure_token(context, class).await,
        Step::ApplyDeployment(value, ours) => apply_object::<Deployment>(context, value, ours).await,
        Step::ApplyService(value, ours) => apply_object::<Service>(context, value, ours).await,
        Step::DeleteDeployment(object) => delete(context, object.as_ref()).await,
        Step::DeleteService(object) => delete(context, object.as_ref()).await,
    }
}

/// Writes the status.
pub async fn write_status(
    context: &Context,
    class: &DistributionClass,
    status: DistributionClassStatus,
) -> Result<(), ApplyError> {
    if !context.leadership.holds() {
        return Err(ApplyError::NotLeading);
    }
    let classes: Api<DistributionClass> = Api::all(context.client.clone());
    let mut written = class.clone();
    written.status = Some(status);
    let written = classes.replace_status(&class.name_any(), &params(), &written).await?;
    context.assume(written);
    Ok(())
}

/// What a class's condition says of an error; nothing of one that is over with the next look.
pub fn failure(error: &ApplyError) -> Option<Failure> {
    let what = match error {
        _ if error.is_conflict() => return None,
        ApplyError::Api(kube::Error::Api(status)) => status.message.clone(),
        ApplyError::NoToken(_) | ApplyError::Api(_) => error.to_string(),
        ApplyError::NotLeading | ApplyError::Foreign(_) | ApplyError::Defect => return None,
    };
    Some(Failure::new(TRACKERS_NOT_APPLIED, format!("not done, and tried again: {what}")))
}

fn params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

fn namespaced<K>(context: &Context) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(context.client.clone(), &context.settings.namespace)
}

/// Server-side apply: other managers keep their fields. By force only where the object is ours already.
async fn apply_object<K>(context: &Context, value: Value, ours: bool) -> Result<(), ApplyError>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut params = PatchParams::apply(FIELD_MANAGER);
    params.force = ours;
    namespaced::<K>(context).patch(&name, &params, &Patch::Apply(value)).await?;
    tracing::info!(kind = %K::kind(&()), %name, "applied");
    Ok(())
}

async fn delete<K>(context: &Context, object: &K) -> Result<(), ApplyError>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let preconditions = Some(Preconditions { uid: object.uid(), resource_version: None });
    let params = DeleteParams { preconditions, ..DeleteParams::background() };
    match namespaced::<K>(context).delete(&object.name_any(), &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reads the token, or makes one. It is never replaced: trackers and sidecars would lose each other.
async fn ensure_token(context: &Context, class: &DistributionClass) -> Result<(), ApplyError> {
    let api: Api<Secret> = namespaced(context);
    let name = tracker_secret_name(&class.name_any());
    let secret = match api.get_opt(&name).await? {
        Some(secret) => secret,
        None => match api.create(&params(), &new_secret(class, &name)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => api.get(&name).await?,
            created => created?,
        },
    };
    let token = secret.data.as_ref().and_then(|data| data.get(TOKEN_KEY));
    let token = token.and_then(|token| std::str::from_utf8(&token.0).ok()).map(str::trim).unwrap_or_default();
    if token.is_empty() {
        return Err(ApplyError::NoToken(name));
    }
    context.ledger().tokens.insert(class.name_any(), token.to_owned());
    Ok(())
}

fn new_secret(class: &DistributionClass, name: &str) -> Secret {
    let token = hex::encode(rand::random::<[u8; TOKEN_BYTES]>());
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([(CLASS_LABEL.to_owned(), class.name_any())].into()),
            owner_references: class.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some([(TOKEN_KEY.to_owned(), ByteString(token.into_bytes()))].into()),
        ..Secret::default()
    }
}
