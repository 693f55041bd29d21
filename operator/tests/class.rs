//! The ways of a class, over the in-memory API.

#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use common::World;
use kube::api::PostParams;
use memory_api::ApiError;
use serde_json::json;

/// The condition Ready of the class: reason and message.
async fn ready(world: &World) -> (String, String) {
    let status = world.classes().get("default").await.unwrap().status.unwrap_or_default();
    let condition = status.conditions.into_iter().find(|condition| condition.type_ == "Ready");
    condition.map(|condition| (condition.reason, condition.message)).unwrap_or_default()
}

#[tokio::test]
async fn trackers_that_cannot_be_made_are_a_condition_and_heal() {
    for (number, refused) in [(131, "/secrets"), (132, "/services/"), (133, "/distributionclasses/default")] {
        let world = World::start(number, &[]).await;
        world.api.intercept(move |call| {
            let written = matches!(call.verb, "create" | "patch");
            let refuse = written && call.path.contains(refused) && !call.path.ends_with("/status");
            if refuse { Err(ApiError::forbidden("exceeded quota: of tests")) } else { Ok(()) }
        });
        let class =
            common::parse(json!({"metadata": {"name": "default"}, "spec": {"root": "/var/lib/samara"}}));
        world.classes().create(&PostParams::default(), &class).await.unwrap();
        world.until("it says why", async || ready(&world).await.0 == "TrackersNotApplied").await;
        assert!(ready(&world).await.1.contains("exceeded quota: of tests"), "{:?}", ready(&world).await);
        world.api.intercept(|_| Ok(()));
        world.until("it heals", async || ready(&world).await.0 == "TrackersReady").await;
    }
}
