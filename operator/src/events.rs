//! Events on a `Distribution`: few, by reason, only at turns of its conditions.

use std::sync::Arc;

use crds::Distribution;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Resource, ResourceExt};

use crate::context::{Context, FIELD_MANAGER};
use crate::plan::Note;

/// Writes the Event in the background: that nobody was told must not keep anything from being done.
pub fn tell(context: &Arc<Context>, distribution: &Distribution, note: Note) {
    let namespace = distribution.namespace().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(context.client.clone(), &namespace);
    let event = event(distribution, note, Timestamp::now());
    tokio::spawn(async move {
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::debug!(%error, "an Event could not be written");
        }
    });
}

fn event(distribution: &Distribution, note: Note, now: Timestamp) -> Event {
    let name = distribution.name_any();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", name.chars().take(200).collect::<String>(), now.as_nanosecond())),
            namespace: distribution.namespace(),
            ..ObjectMeta::default()
        },
        involved_object: distribution.object_ref(&()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        reason: Some(note.reason),
        message: Some(note.message),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        source: Some(EventSource { component: Some(FIELD_MANAGER.to_owned()), host: None }),
        reporting_component: Some(FIELD_MANAGER.to_owned()),
        ..Event::default()
    }
}
