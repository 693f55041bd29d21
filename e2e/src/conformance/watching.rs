//! Watches, and what kube-runtime builds on them.

use std::pin::pin;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{core::v1::ConfigMap, events::v1::Event as K8sEvent};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
    runtime::{
        WatchStreamExt,
        events::{Event, EventType, Recorder, Reporter},
        reflector, watcher,
    },
};
use serde_json::json;

use super::{PATIENCE, Scope, config_map, eventually};

const ONLY: &str = "watched=yes";

fn labelled(name: &str, value: &str) -> Result<ConfigMap> {
    let mut map = config_map(name, value)?;
    map.labels_mut().insert("watched".into(), "yes".into());
    Ok(map)
}

/// The next events, as `TYPE name value`, bookmarks left out.
async fn next(
    stream: impl futures::Stream<Item = kube::Result<WatchEvent<ConfigMap>>>,
    count: usize,
) -> Result<Vec<String>> {
    let mut stream = pin!(stream);
    let mut seen = Vec::new();
    while seen.len() < count {
        let event = tokio::time::timeout(PATIENCE, stream.try_next())
            .await
            .with_context(|| format!("only {seen:?} came"))??;
        let (kind, map) = match event.context("the watch ended")? {
            WatchEvent::Added(map) => ("ADDED", map),
            WatchEvent::Modified(map) => ("MODIFIED", map),
            WatchEvent::Deleted(map) => ("DELETED", map),
            WatchEvent::Bookmark(_) => continue,
            WatchEvent::Error(status) => anyhow::bail!("{status:?}"),
        };
        let value = map.data.as_ref().and_then(|d| d.get("key").cloned()).unwrap_or_default();
        seen.push(format!("{kind} {} {value}", map.name_any()));
    }
    Ok(seen)
}

pub(super) async fn a_watch_resumes_after_a_list(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    let post = PostParams::default();
    maps.create(&post, &labelled("before", "0")?).await?;
    let version = maps
        .list(&ListParams::default().labels(ONLY))
        .await?
        .metadata
        .resource_version
        .context("no version")?;
    let made = maps.create(&post, &labelled("a", "1")?).await?;
    let params = WatchParams::default().labels(ONLY);
    let stream = maps.watch(&params, &version).await?;
    let mut changed = made.clone();
    changed.data = labelled("a", "2")?.data;
    maps.replace("a", &post, &changed).await?;
    maps.delete("a", &DeleteParams::default()).await?;
    let all = ["ADDED a 1", "MODIFIED a 2", "DELETED a 2"];
    ensure!(next(stream, 3).await? == all);
    let resumed = maps.watch(&params, &made.resource_version().context("no version")?).await?;
    ensure!(next(resumed, 2).await? == all[1..]);
    let whole = maps.watch(&params, "0").await?;
    ensure!(next(whole, 1).await? == ["ADDED before 0"]);
    Ok(())
}

pub(super) async fn a_watch_sees_objects_enter_and_leave_its_selector(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    let version = maps.list(&ListParams::default()).await?.metadata.resource_version.context("no version")?;
    let stream = maps.watch(&WatchParams::default().labels(ONLY), &version).await?;
    maps.create(&PostParams::default(), &config_map("a", "1")?).await?;
    for label in [json!("yes"), json!("no")] {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"watched": label}}}));
        maps.patch("a", &PatchParams::default(), &patch).await?;
    }
    ensure!(next(stream, 2).await? == ["ADDED a 1", "DELETED a 1"]);
    Ok(())
}

pub(super) async fn a_reflector_follows(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    let post = PostParams::default();
    maps.create(&post, &labelled("a", "1")?).await?;
    let (reader, writer) = reflector::store::<ConfigMap>();
    let config = watcher::Config::default().labels(ONLY);
    let stream = watcher(maps.clone(), config).default_backoff().reflect(writer).applied_objects();
    let follower = tokio::spawn(stream.for_each(|_| futures::future::ready(())));
    let sees = async |expected: &[&str]| -> Result<()> {
        eventually(&format!("the reflector has {expected:?}"), || async {
            let mut names: Vec<String> = reader.state().iter().map(|m| m.name_any()).collect();
            names.sort();
            Ok(names == expected)
        })
        .await
    };
    sees(&["a"]).await?;
    maps.create(&post, &labelled("b", "1")?).await?;
    sees(&["a", "b"]).await?;
    maps.delete("a", &DeleteParams::default()).await?;
    sees(&["b"]).await?;
    follower.abort();
    Ok(())
}

pub(super) async fn events_can_be_published(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    let about = maps.create(&PostParams::default(), &config_map("a", "1")?).await?;
    let reporter = Reporter { controller: "e2e.samara.dev".into(), instance: Some("one".into()) };
    let recorder = Recorder::new(scope.client.clone(), reporter);
    let event = Event {
        type_: EventType::Normal,
        reason: "Tested".into(),
        note: Some("as it should be".into()),
        action: "Testing".into(),
        secondary: None,
    };
    for _ in 0..2 {
        recorder.publish(&event, &about.object_ref(&())).await?;
    }
    let events: Api<K8sEvent> = scope.api();
    let list = events.list(&ListParams::default()).await?;
    ensure!(
        list.items.len() == 1 && list.items[0].series.is_some(),
        "the second is counted: {:?}",
        list.items
    );
    Ok(())
}
