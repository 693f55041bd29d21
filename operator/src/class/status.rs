//! What people and sidecars are told of a class. Pure.

use crds::{ClassTrackerStatus, DistributionClassStatus, OperatorEndpoint};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;

use super::objects::tracker_names;
use super::plan::{Observed, has_status};
use super::tracker_url;
use crate::failure::Failure;

/// The status that is to be written, if it is another than the one that is there. `failure` is why a step was not done.
pub fn status(
    observed: &Observed,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<DistributionClassStatus> {
    if !has_status(observed, failure.is_some()) {
        return None;
    }
    let class = &observed.class;
    let old = class.status.clone().unwrap_or_default();
    let names = tracker_names(class);
    let trackers = trackers(observed, &names);
    let operator = observed
        .ca_bundle
        .clone()
        .map(|ca_bundle| OperatorEndpoint { url: observed.settings.public_url.clone(), ca_bundle });
    let status = DistributionClassStatus {
        observed_generation: class.metadata.generation,
        operator: operator.or(old.operator),
        conditions: vec![ready(observed, &trackers, names.len(), failure, &old.conditions, now)],
        trackers,
    };
    (class.status.as_ref() != Some(&status)).then_some(status)
}

fn trackers(observed: &Observed, names: &[String]) -> Vec<ClassTrackerStatus> {
    let trackers = names.iter().filter_map(|name| {
        let service = observed.services.iter().find(|service| service.name_any() == *name)?;
        let ready = observed.health.get(name).copied().unwrap_or_default();
        Some(ClassTrackerStatus { name: name.clone(), url: tracker_url(service)?, ready })
    });
    trackers.collect()
}

fn ready(
    observed: &Observed,
    trackers: &[ClassTrackerStatus],
    wanted: usize,
    failure: Option<&Failure>,
    old: &[Condition],
    now: Timestamp,
) -> Condition {
    let class = &observed.class.metadata;
    let answering = trackers.iter().filter(|tracker| tracker.ready).count();
    let (holds, reason, message) = if class.deletion_timestamp.is_some() {
        (false, "ClassInUse", "it is deleted when the last Distribution that names it is gone".to_owned())
    } else if let Some(failure) = failure {
        (false, failure.reason.as_str(), failure.message.clone())
    } else if answering == wanted {
        (true, "TrackersReady", String::new())
    } else {
        let message =
            format!("{answering} of {wanted} trackers answer; look at their pods' logs if it stays so");
        (false, "TrackersNotReady", message)
    };
    let status = if holds { "True" } else { "False" };
    let before = old.iter().find(|old| old.type_ == "Ready" && old.status == status);
    Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: class.generation,
        last_transition_time: before.map_or_else(
            || Time(crate::plan::whole_seconds(now)),
            |before| before.last_transition_time.clone(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::plan::tests::{observed, settle};
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn write(observed: &mut Observed, failure: Option<&Failure>, second: i64) -> Condition {
        let status = status(observed, failure, at(second)).unwrap();
        let condition = status.conditions[0].clone();
        Arc::make_mut(&mut observed.class).status = Some(status);
        condition
    }

    #[test]
    fn it_names_the_trackers_and_is_written_once() {
        let mut settled = settle(settle(observed()));
        assert_eq!(write(&mut settled, None, 1).reason, "TrackersNotReady");
        assert_eq!(settled.class.status.as_ref().unwrap().trackers[0].url, "http://10.0.0.1:6969");
        assert_eq!(status(&settled, None, at(2)), None);
    }

    #[test]
    fn what_could_not_be_done_is_told_until_it_is_done() {
        let mut failing = observed();
        let failure = Failure::new("TrackersNotApplied", "services is forbidden: exceeded quota");
        let told = write(&mut failing, Some(&failure), 1);
        assert_eq!((told.status.as_str(), told.reason.as_str()), ("False", "TrackersNotApplied"));
        assert!(told.message.contains("quota"));
        assert_eq!(status(&failing, Some(&failure), at(2)), None, "the same again is no news");
        let healed = write(&mut failing, None, 3);
        assert_eq!((healed.reason.as_str(), healed.last_transition_time.0), ("TrackersNotReady", at(1)));
    }

    #[test]
    fn before_the_finalizer_only_failures_are_told() {
        let mut bare = observed();
        Arc::make_mut(&mut bare.class).metadata.finalizers = None;
        assert_eq!(status(&bare, None, at(1)), None);
        assert!(status(&bare, Some(&Failure::new("TrackersNotApplied", "no")), at(1)).is_some());
        Arc::make_mut(&mut bare.class).metadata.deletion_timestamp = Some(Time(at(0)));
        bare.in_use = true;
        assert_eq!(write(&mut bare, Some(&Failure::new("X", "y")), 1).reason, "ClassInUse");
    }
}
