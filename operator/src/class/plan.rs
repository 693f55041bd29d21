//! What is to be done about one class. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::{ClassTrackerStatus, DistributionClass, DistributionClassStatus, FINALIZER, OperatorEndpoint};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use serde_json::Value;

use super::objects::{self, is_owned_by, tracker_name};
use super::tracker_url;
use crate::context::Settings;

/// All that decides about one class.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The class.
    pub class: Arc<DistributionClass>,
    /// Some `Distribution` names it.
    pub in_use: bool,
    /// Deployments with its label.
    pub deployments: Vec<Arc<Deployment>>,
    /// Services with its label.
    pub services: Vec<Arc<Service>>,
    /// Whether each tracker answers and has the registry.
    pub health: BTreeMap<String, bool>,
    /// What the operator was told.
    pub settings: Settings,
    /// The certificates that vouch for the operator's API; none until they are made.
    pub ca_bundle: Option<String>,
}

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Step {
    /// Put the finalizer on.
    AddFinalizer,
    /// Take the finalizer off.
    RemoveFinalizer,
    /// See that the Secret with the token is there; it is never overwritten.
    EnsureToken,
    /// Apply a Deployment. `ours` says that it is there and belongs to this class.
    ApplyDeployment(Value, bool),
    /// Apply a Service, alike.
    ApplyService(Value, bool),
    /// Delete a surplus Deployment.
    DeleteDeployment(Arc<Deployment>),
    /// Delete a surplus Service.
    DeleteService(Arc<Service>),
    /// Write the status.
    WriteStatus(Box<DistributionClassStatus>),
}

/// The steps from what is to what should be.
pub fn plan(observed: &Observed, now: Timestamp) -> Vec<Step> {
    let class = &observed.class;
    let held = class.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    let deleted = class.metadata.deletion_timestamp.is_some();
    if class.spec.retire.is_some() || (deleted && !observed.in_use) {
        return if held { vec![Step::RemoveFinalizer] } else { Vec::new() };
    }
    let mut steps = Vec::new();
    if !deleted && !held {
        steps.push(Step::AddFinalizer);
        return steps;
    }
    steps.push(Step::EnsureToken);
    let names: Vec<String> =
        (0..class.spec.trackers.replicas).map(|n| tracker_name(&class.name_any(), n)).collect();
    for name in &names {
        let service = objects::service(class, name, &observed.settings);
        let there = observed.services.iter().find(|there| there.name_any() == *name);
        if let Some(ours) = wanting(class, &service, there) {
            steps.push(Step::ApplyService(service, ours));
        }
        let deployment = objects::deployment(class, name, &observed.settings);
        let there = observed.deployments.iter().find(|there| there.name_any() == *name);
        if let Some(ours) = wanting(class, &deployment, there) {
            steps.push(Step::ApplyDeployment(deployment, ours));
        }
    }
    let surplus = |name: String| !names.contains(&name);
    let deployments = observed
        .deployments
        .iter()
        .filter(|there| surplus(there.name_any()) && is_owned_by(&***there, class));
    steps.extend(deployments.cloned().map(Step::DeleteDeployment));
    let services =
        observed.services.iter().filter(|there| surplus(there.name_any()) && is_owned_by(&***there, class));
    steps.extend(services.cloned().map(Step::DeleteService));
    let status = status(observed, &names, deleted, now);
    if class.status.as_ref() != Some(&status) {
        steps.push(Step::WriteStatus(Box::new(status)));
    }
    steps
}

/// Whether an object has to be applied, and then whether it is there and ours. One that belongs to an earlier class of the same
/// name is left to the garbage collector.
fn wanting<K>(class: &DistributionClass, wanted: &Value, there: Option<&Arc<K>>) -> Option<bool>
where
    K: ResourceExt + serde::Serialize,
{
    let Some(there) = there else { return Some(false) };
    if !is_owned_by(there.as_ref(), class) || there.meta().deletion_timestamp.is_some() {
        return None;
    }
    let is = serde_json::to_value(there.as_ref()).unwrap_or_default();
    (!covers(&is, wanted)).then_some(true)
}

/// Whether `is` has every field of `wanted`, with the same value. It may have more: what the API server fills in.
pub fn covers(is: &Value, wanted: &Value) -> bool {
    match (is, wanted) {
        (Value::Object(is), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| match is.get(key) {
                Some(is) => covers(is, value),
                // The typed objects do not carry their type.
                None => key == "apiVersion" || key == "kind" || is_unset(value),
            })
        }
        (Value::Array(is), Value::Array(wanted)) => {
            is.len() == wanted.len() && is.iter().zip(wanted).all(|(is, wanted)| covers(is, wanted))
        }
        _ => is == wanted,
    }
}

/// What the API server does not keep apart from nothing.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(_) | Value::String(_) | Value::Bool(true) => false,
    }
}

fn status(observed: &Observed, names: &[String], deleted: bool, now: Timestamp) -> DistributionClassStatus {
    let class = &observed.class;
    let old = class.status.clone().unwrap_or_default();
    let trackers: Vec<ClassTrackerStatus> = names
        .iter()
        .filter_map(|name| {
            let service = observed.services.iter().find(|service| service.name_any() == *name)?;
            let ready = observed.health.get(name).copied().unwrap_or_default();
            Some(ClassTrackerStatus { name: name.clone(), url: tracker_url(service)?, ready })
        })
        .collect();
    let operator = observed
        .ca_bundle
        .clone()
        .map(|ca_bundle| OperatorEndpoint { url: observed.settings.public_url.clone(), ca_bundle });
    let ready = trackers.iter().filter(|tracker| tracker.ready).count();
    let (holds, reason, message) = if deleted {
        (false, "ClassInUse", "it is deleted when the last Distribution that names it is gone".to_owned())
    } else if ready == names.len() {
        (true, "TrackersReady", String::new())
    } else {
        let message =
            format!("{ready} of {} trackers answer; look at their pods' logs if it stays so", names.len());
        (false, "TrackersNotReady", message)
    };
    let status = if holds { "True" } else { "False" };
    let before = old.conditions.iter().find(|old| old.type_ == "Ready" && old.status == status);
    let condition = Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: class.metadata.generation,
        last_transition_time: before.map_or_else(
            || Time(crate::plan::whole_seconds(now)),
            |before| before.last_transition_time.clone(),
        ),
    };
    DistributionClassStatus {
        observed_generation: class.metadata.generation,
        operator: operator.or(old.operator),
        trackers,
        conditions: vec![condition],
    }
}

#[cfg(test)]
mod tests {
    use crds::{DistributionClassSpec, Retire};
    use kube::Resource;
    use serde_json::json;

    use super::*;

    fn settings() -> Settings {
        Settings {
            namespace: "samara-system".into(),
            public_url: "https://samara-operator.samara-system.svc:8443".into(),
            image: "registry/samara:1".into(),
            image_pull_secrets: vec![],
            sidecar_service_account: "samara-sidecar".into(),
            identity: "me".into(),
            manage_crds: false,
            api_server: vec![],
        }
    }

    fn observed() -> Observed {
        let spec: DistributionClassSpec = serde_json::from_value(json!({"root": "/var/lib/samara"})).unwrap();
        let mut class = DistributionClass::new("default", spec);
        class.meta_mut().uid = Some("u1".into());
        class.meta_mut().generation = Some(1);
        class.meta_mut().finalizers = Some(vec![FINALIZER.into()]);
        Observed {
            class: Arc::new(class),
            in_use: false,
            deployments: vec![],
            services: vec![],
            health: BTreeMap::new(),
            settings: settings(),
            ca_bundle: Some("PEM".into()),
        }
    }

    fn settle(mut observed: Observed) -> Observed {
        for step in plan(&observed, Timestamp::UNIX_EPOCH) {
            match step {
                Step::ApplyDeployment(value, _) => {
                    observed.deployments.push(Arc::new(serde_json::from_value(value).unwrap()));
                }
                Step::ApplyService(mut value, _) => {
                    value["spec"]["clusterIP"] = json!(format!("10.0.0.{}", observed.services.len() + 1));
                    observed.services.push(Arc::new(serde_json::from_value(value).unwrap()));
                }
                Step::WriteStatus(status) => Arc::make_mut(&mut observed.class).status = Some(*status),
                _ => {}
            }
        }
        observed
    }

    #[test]
    fn it_settles_and_then_writes_nothing() {
        let settled = settle(settle(observed()));
        assert_eq!(settled.deployments.len(), 2);
        let status = settled.class.status.clone().unwrap();
        assert_eq!(status.trackers[0].url, "http://10.0.0.1:6969");
        let steps = plan(&settled, Timestamp::now());
        assert!(matches!(steps[..], [Step::EnsureToken]), "{steps:?}");
    }

    #[test]
    fn what_someone_changed_is_applied_again_and_what_the_server_adds_is_not() {
        let mut settled = settle(settle(observed()));
        let deployment = Arc::make_mut(&mut settled.deployments[0]);
        deployment.spec.as_mut().unwrap().progress_deadline_seconds = Some(600);
        assert_eq!(plan(&settled, Timestamp::now()).len(), 1);
        Arc::make_mut(&mut settled.deployments[0]).spec.as_mut().unwrap().replicas = Some(0);
        let steps = plan(&settled, Timestamp::now());
        assert!(matches!(steps[1], Step::ApplyDeployment(_, true)), "{steps:?}");
    }

    #[test]
    fn fewer_trackers_are_deleted_and_foreign_ones_are_not() {
        let mut settled = settle(settle(observed()));
        Arc::make_mut(&mut settled.class).spec.trackers.replicas = 1;
        let deletions = |observed: &Observed| {
            let steps = plan(observed, Timestamp::now());
            steps.iter().filter(|s| matches!(s, Step::DeleteDeployment(_) | Step::DeleteService(_))).count()
        };
        assert_eq!(deletions(&settled), 2);
        for deployment in &mut settled.deployments {
            Arc::make_mut(deployment).metadata.owner_references.as_mut().unwrap()[0].uid = "u0".into();
        }
        assert_eq!(deletions(&settled), 1);
        let steps = plan(&settled, Timestamp::now());
        assert!(
            !steps.iter().any(|step| matches!(step, Step::ApplyDeployment(..))),
            "no adoption: {steps:?}"
        );
    }

    #[test]
    fn retirement_and_deletion_let_go() {
        let mut retired = observed();
        Arc::make_mut(&mut retired.class).spec.retire = Some(Retire::Keep);
        assert!(matches!(plan(&retired, Timestamp::now())[..], [Step::RemoveFinalizer]));
        Arc::make_mut(&mut retired.class).metadata.finalizers = None;
        assert!(plan(&retired, Timestamp::now()).is_empty());
        let mut deleted = observed();
        Arc::make_mut(&mut deleted.class).metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert!(matches!(plan(&deleted, Timestamp::now())[..], [Step::RemoveFinalizer]));
        deleted.in_use = true;
        let steps = plan(&deleted, Timestamp::now());
        let Some(Step::WriteStatus(status)) = steps.last() else { panic!("{steps:?}") };
        assert_eq!(status.conditions[0].reason, "ClassInUse");
    }

    #[test]
    fn tracker_pods_have_no_more_rights_than_they_need() {
        let deployment = objects::deployment(&observed().class, "t", &settings());
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(container["readOnlyRootFilesystem"], true);
        assert_eq!(container["capabilities"]["drop"][0], "ALL");
        serde_json::from_value::<Deployment>(deployment).unwrap();
    }
}
