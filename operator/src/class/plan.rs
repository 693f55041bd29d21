//! What is to be done about one class. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::{DistributionClass, FINALIZER};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use serde_json::Value;

use super::objects::{self, is_owned_by, tracker_names};
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
}

fn is_held(class: &DistributionClass) -> bool {
    class.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// Nothing of ours may hold it back any more.
fn is_let_go(observed: &Observed) -> bool {
    let deleted = observed.class.metadata.deletion_timestamp.is_some();
    observed.class.spec.retire.is_some() || (deleted && !observed.in_use)
}

/// The steps from what is to what should be; the status comes after them, since it tells how they went.
pub fn plan(observed: &Observed) -> Vec<Step> {
    let class = &observed.class;
    let held = is_held(class);
    if is_let_go(observed) {
        return if held { vec![Step::RemoveFinalizer] } else { Vec::new() };
    }
    let mut steps = Vec::new();
    if class.metadata.deletion_timestamp.is_none() && !held {
        steps.push(Step::AddFinalizer);
        return steps;
    }
    steps.push(Step::EnsureToken);
    let names = tracker_names(class);
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
    steps
}

/// Whether anybody is to be told how the class is: not before our finalizer is on, unless that is what fails, and not on the way out.
pub fn has_status(observed: &Observed, failed: bool) -> bool {
    !is_let_go(observed) && (failed || is_held(&observed.class))
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

#[cfg(test)]
pub mod tests {
    use clap::Parser as _;
    use crds::{DistributionClassSpec, Retire};
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
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

    pub fn observed() -> Observed {
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

    pub fn settle(mut observed: Observed) -> Observed {
        for step in plan(&observed) {
            match step {
                Step::ApplyDeployment(value, _) => {
                    observed.deployments.push(Arc::new(serde_json::from_value(value).unwrap()));
                }
                Step::ApplyService(mut value, _) => {
                    value["spec"]["clusterIP"] = json!(format!("10.0.0.{}", observed.services.len() + 1));
                    observed.services.push(Arc::new(serde_json::from_value(value).unwrap()));
                }
                _ => {}
            }
        }
        observed
    }

    #[test]
    fn it_settles_and_then_writes_nothing() {
        let settled = settle(settle(observed()));
        assert_eq!(settled.deployments.len(), 2);
        let steps = plan(&settled);
        assert!(matches!(steps[..], [Step::EnsureToken]), "{steps:?}");
    }

    #[test]
    fn what_someone_changed_is_applied_again_and_what_the_server_adds_is_not() {
        let mut settled = settle(settle(observed()));
        let deployment = Arc::make_mut(&mut settled.deployments[0]);
        deployment.spec.as_mut().unwrap().progress_deadline_seconds = Some(600);
        assert_eq!(plan(&settled).len(), 1);
        Arc::make_mut(&mut settled.deployments[0]).spec.as_mut().unwrap().replicas = Some(0);
        let steps = plan(&settled);
        assert!(matches!(steps[1], Step::ApplyDeployment(_, true)), "{steps:?}");
    }

    #[test]
    fn fewer_trackers_are_deleted_and_foreign_ones_are_not() {
        let mut settled = settle(settle(observed()));
        Arc::make_mut(&mut settled.class).spec.trackers.replicas = 1;
        let deletions = |observed: &Observed| {
            let steps = plan(observed);
            steps.iter().filter(|s| matches!(s, Step::DeleteDeployment(_) | Step::DeleteService(_))).count()
        };
        assert_eq!(deletions(&settled), 2);
        for deployment in &mut settled.deployments {
            Arc::make_mut(deployment).metadata.owner_references.as_mut().unwrap()[0].uid = "u0".into();
        }
        assert_eq!(deletions(&settled), 1);
        let steps = plan(&settled);
        assert!(
            !steps.iter().any(|step| matches!(step, Step::ApplyDeployment(..))),
            "no adoption: {steps:?}"
        );
    }

    #[test]
    fn retirement_and_deletion_let_go() {
        let mut retired = observed();
        Arc::make_mut(&mut retired.class).spec.retire = Some(Retire::Keep);
        assert!(matches!(plan(&retired)[..], [Step::RemoveFinalizer]));
        Arc::make_mut(&mut retired.class).metadata.finalizers = None;
        assert!(plan(&retired).is_empty());
        let mut deleted = observed();
        Arc::make_mut(&mut deleted.class).metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert!(matches!(plan(&deleted)[..], [Step::RemoveFinalizer]));
        assert!(!has_status(&deleted, true), "it is gone in a moment");
        deleted.in_use = true;
        assert!(matches!(plan(&deleted)[0], Step::EnsureToken));
        assert!(has_status(&deleted, false));
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

    #[test]
    fn a_tracker_lingers_and_has_the_time_for_it() {
        let deployment = objects::deployment(&observed().class, "t", &settings());
        let pod = &deployment["spec"]["template"]["spec"];
        let args: Vec<&str> =
            pod["containers"][0]["args"].as_array().unwrap().iter().filter_map(|arg| arg.as_str()).collect();
        tracker::Args::try_parse_from([&["samara-tracker"], &args[..]].concat())
            .expect("it knows all of them");
        let linger = args.iter().find_map(|arg| arg.strip_prefix("--linger=")).unwrap();
        assert_eq!(linger, "5");
        let drain = tracker::ServeOptions::default().drain.as_secs();
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace > linger.parse::<u64>().unwrap() + drain, "{grace}");
    }

    #[test]
    fn a_tracker_is_in_step_with_the_others_of_its_class() {
        let mut class = (*observed().class).clone();
        class.spec.trackers.replicas = 3;
        let name = objects::tracker_name(&class.name_any(), 1);
        let deployment = objects::deployment(&class, &name, &settings());
        let args = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
        let siblings: Vec<_> = args
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|arg| arg.as_str()?.strip_prefix("--sibling="))
            .collect();
        let url =
            |number| format!("http://samara-tracker-default-{number}.{}.svc:6969", settings().namespace);
        assert_eq!(siblings, [url(0), url(2)]);
    }

    #[test]
    fn a_tracker_is_asked_over_http_and_udp_on_one_port() {
        let service = objects::service(&observed().class, "t", &settings());
        let deployment = objects::deployment(&observed().class, "t", &settings());
        let inside = &deployment["spec"]["template"]["spec"]["containers"][0]["ports"];
        for (nth, protocol) in ["TCP", "UDP"].into_iter().enumerate() {
            let outside = &service["spec"]["ports"][nth];
            assert_eq!((&outside["protocol"], &outside["port"]), (&json!(protocol), &json!(6969)));
            assert_eq!(
                (&inside[nth]["protocol"], &inside[nth]["containerPort"]),
                (&json!(protocol), &json!(6969))
            );
            assert_eq!(inside[nth]["name"], outside["targetPort"]);
        }
        serde_json::from_value::<Service>(service).unwrap();
    }
}
