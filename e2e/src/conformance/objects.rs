//! Single objects: made, read, written, deleted.

use anyhow::{Context, Result, ensure};
use crds::{Distribution, DistributionRevision};
use k8s_openapi::api::{
    authentication::v1::TokenReview,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Service},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

use super::{Scope, config_map, distribution, json_of, object, refused};

pub(super) async fn made_read_listed_and_deleted(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    let post = PostParams::default();
    let mut first = config_map("first", "1")?;
    first.labels_mut().insert("pick".into(), "me".into());
    let made = maps.create(&post, &first).await?;
    ensure!(made.uid().is_some() && made.creation_timestamp().is_some() && made.resource_version().is_some());
    maps.create(&post, &config_map("second", "2")?).await?;
    refused(maps.create(&post, &first).await, 409, "AlreadyExists")?;
    let mut versioned = config_map("third", "3")?;
    versioned.metadata.resource_version = made.resource_version();
    ensure!(maps.create(&post, &versioned).await.is_err(), "a new object cannot have a resourceVersion");

    ensure!(maps.get("first").await? == made);
    refused(maps.get("none").await, 404, "NotFound")?;
    for (params, names) in [
        (ListParams::default().labels("pick=me"), vec!["first"]),
        (
            ListParams::default().labels("pick notin (me),!other").fields("metadata.name!=kube-root-ca.crt"),
            vec!["second"],
        ),
        (ListParams::default().fields("metadata.name=second"), vec!["second"]),
        (ListParams::default().labels("pick in (me,you)").fields("metadata.name=second"), vec![]),
    ] {
        let list = maps.list(&params).await?;
        ensure!(list.metadata.resource_version.is_some(), "a list without a resourceVersion");
        let found: Vec<String> = list.items.iter().map(ResourceExt::name_any).collect();
        ensure!(found == names, "{params:?} found {found:?}");
    }
    maps.delete("first", &DeleteParams::default()).await?;
    refused(maps.get("first").await, 404, "NotFound")?;
    refused(maps.delete("first", &DeleteParams::default()).await.map(drop), 404, "NotFound")
}

pub(super) async fn names_are_checked_and_generated(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    let post = PostParams::default();
    for bad in ["Upper", "under_score", "-dash", "dot."] {
        refused(maps.create(&post, &config_map(bad, "")?).await, 422, "Invalid")?;
    }
    let nameless = object::<ConfigMap>(json!({"metadata": {}}))?;
    refused(maps.create(&post, &nameless).await, 422, "Invalid")?;
    let prefix = object::<ConfigMap>(json!({"metadata": {"generateName": "some-"}}))?;
    let (one, two) = (maps.create(&post, &prefix).await?, maps.create(&post, &prefix).await?);
    ensure!(one.name_any().starts_with("some-") && one.name_any() != two.name_any());
    Ok(())
}

pub(super) async fn a_missing_namespace_is_not_found(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(scope.client.clone(), &scope.name("none"));
    refused(maps.create(&PostParams::default(), &config_map("a", "1")?).await, 404, "NotFound")?;
    ensure!(maps.list(&ListParams::default()).await?.items.is_empty());
    Ok(())
}

pub(super) async fn stale_writes_conflict(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    let post = PostParams::default();
    let old = maps.create(&post, &config_map("a", "1")?).await?;
    let mut new = old.clone();
    new.data = config_map("a", "2")?.data;
    let new = maps.replace("a", &post, &new).await?;
    ensure!(new.resource_version() != old.resource_version() && new.uid() == old.uid());
    let mut stale = old.clone();
    stale.data = config_map("a", "3")?.data;
    refused(maps.replace("a", &post, &stale).await, 409, "Conflict")?;
    let patch = json!({"metadata": {"resourceVersion": old.resource_version()}, "data": {"key": "3"}});
    refused(maps.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await, 409, "Conflict")?;
    let mut other = new.clone();
    other.metadata.uid = Some("11111111-2222-3333-4444-555555555555".into());
    refused(maps.replace("a", &post, &other).await, 409, "Conflict")?;
    refused(maps.replace("none", &post, &config_map("none", "1")?).await, 404, "NotFound")?;

    let dists: Api<Distribution> = scope.api();
    dists.create(&post, &distribution("d")?).await?;
    refused(dists.replace("d", &post, &distribution("d")?).await, 422, "Invalid")
}

pub(super) async fn a_write_that_changes_nothing_is_none(scope: Scope) -> Result<()> {
    let dists: Api<Distribution> = scope.api();
    let made = dists.create(&PostParams::default(), &distribution("d")?).await?;
    let same = dists.replace("d", &PostParams::default(), &made).await?;
    ensure!(same.resource_version() == made.resource_version());
    let patch = Patch::Merge(json!({"spec": {"className": "default"}}));
    let same = dists.patch("d", &PatchParams::default(), &patch).await?;
    ensure!(same.resource_version() == made.resource_version());
    Ok(())
}

pub(super) async fn generation_counts_changes_of_the_spec(scope: Scope) -> Result<()> {
    let dists: Api<Distribution> = scope.api();
    let params = PatchParams::default();
    ensure!(dists.create(&PostParams::default(), &distribution("d")?).await?.metadata.generation == Some(1));
    for (patch, expected) in [
        (json!({"metadata": {"labels": {"a": "b"}}}), 1),
        (json!({"spec": {"retention": {"onDelete": "Retain"}}}), 2),
        (json!({"metadata": {"annotations": {"a": "b"}}}), 2),
    ] {
        let seen = dists.patch("d", &params, &Patch::Merge(&patch)).await?.metadata.generation;
        ensure!(seen == Some(expected), "{patch} made it {seen:?}");
    }
    let status = json!({"status": {"size": "1Ki"}});
    let seen = dists.patch_status("d", &params, &Patch::Merge(status)).await?;
    ensure!(seen.metadata.generation == Some(2) && seen.status.is_some());

    let revisions: Api<DistributionRevision> = scope.cluster();
    let name = scope.name("r");
    let revision = json!({
        "apiVersion": "samara.dev/v1alpha1", "kind": "DistributionRevision", "metadata": {"name": name},
        "spec": {
            "distribution": {"namespace": "n", "name": "d", "uid": "u"}, "className": "default",
            "content": {"pin": "0".repeat(64), "bytes": 1, "files": 1}, "policy": {"current": true},
        },
    });
    let made = revisions.create(&PostParams::default(), &object(revision)?).await?;
    let patch = Patch::Merge(json!({"spec": {"policy": {"fetchers": ["n1"]}}}));
    let patched = revisions.patch(&name, &params, &patch).await;
    revisions.delete(&name, &DeleteParams::default()).await?;
    ensure!(made.metadata.generation == Some(1) && patched?.metadata.generation == Some(2));
    Ok(())
}

pub(super) async fn status_has_its_own_path(scope: Scope) -> Result<()> {
    let dists: Api<Distribution> = scope.api();
    let params = PatchParams::default();
    let mut wanted = distribution("d")?;
    wanted.status = Some(object(json!({"size": "1Ki"}))?);
    ensure!(dists.create(&PostParams::default(), &wanted).await?.status.is_none(), "create kept a status");
    let both = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"retention": {"onDelete": "Retain"}}, "status": {"size": "2Ki"}});
    let seen = dists.patch_status("d", &params, &Patch::Merge(&both)).await?;
    ensure!(seen.spec == wanted.spec, "the status path wrote the spec");
    ensure!(seen.status.as_ref().is_some_and(|s| s.size.as_deref() == Some("2Ki")));
    let seen = dists.patch("d", &params, &Patch::Merge(json!({"status": {"size": "3Ki"}}))).await?;
    ensure!(
        seen.status.as_ref().is_some_and(|s| s.size.as_deref() == Some("2Ki")),
        "the main path wrote the status"
    );
    let mut seen = seen;
    seen.status = None;
    let seen = dists.replace("d", &PostParams::default(), &seen).await?;
    ensure!(seen.status.is_some(), "a replace on the main path removed the status");
    let mut stale = seen.clone();
    stale.metadata.resource_version = Some("1".into());
    stale.status = Some(object(json!({"size": "4Ki"}))?);
    refused(dists.replace_status("d", &PostParams::default(), &stale).await, 409, "Conflict")
}

pub(super) async fn merge_patch_removes_nulls(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    let map = object::<ConfigMap>(json!({"metadata": {"name": "a"}, "data": {"x": "1", "y": "2"}}))?;
    maps.create(&PostParams::default(), &map).await?;
    let patch = Patch::Merge(json!({"data": {"x": null, "z": "3"}}));
    let seen = maps.patch("a", &PatchParams::default(), &patch).await?;
    ensure!(json_of(&seen.data)? == json!({"y": "2", "z": "3"}), "{:?}", seen.data);
    refused(maps.patch("none", &PatchParams::default(), &patch).await, 404, "NotFound")
}

pub(super) async fn json_patch_is_all_or_nothing(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    let made = maps.create(&PostParams::default(), &config_map("a", "1")?).await?;
    let patch = |expected: &str| -> Result<Patch<ConfigMap>> {
        Ok(Patch::Json(serde_json::from_value(json!([
            {"op": "replace", "path": "/data/key", "value": "2"},
            {"op": "test", "path": "/metadata/name", "value": expected},
            {"op": "add", "path": "/metadata/finalizers", "value": ["e2e.samara.dev/hold"]},
            {"op": "remove", "path": "/metadata/finalizers/0"},
        ]))?))
    };
    refused(maps.patch("a", &PatchParams::default(), &patch("b")?).await, 422, "Invalid")?;
    ensure!(maps.get("a").await?.resource_version() == made.resource_version());
    let seen = maps.patch("a", &PatchParams::default(), &patch("a")?).await?;
    ensure!(seen.data == config_map("a", "2")?.data);
    Ok(())
}

pub(super) async fn preconditions_of_a_delete(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    let made = maps.create(&PostParams::default(), &config_map("a", "1")?).await?;
    let params = |uid: Option<String>| DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version: None }),
        ..DeleteParams::default()
    };
    let wrong = params(Some("11111111-2222-3333-4444-555555555555".into()));
    refused(maps.delete("a", &wrong).await.map(drop), 409, "Conflict")?;
    maps.delete("a", &params(made.uid())).await?;
    refused(maps.get("a").await, 404, "NotFound")
}

pub(super) async fn a_collection_is_deleted_by_label(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    for (name, label) in [("a", "go"), ("b", "go"), ("c", "stay")] {
        let mut map = config_map(name, "")?;
        map.labels_mut().insert("what".into(), label.into());
        maps.create(&PostParams::default(), &map).await?;
    }
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("what=go")).await?;
    let left = maps.list(&ListParams::default().labels("what")).await?;
    ensure!(left.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>() == ["c"]);
    Ok(())
}

pub(super) async fn a_service_gets_an_address_and_keeps_it(scope: Scope) -> Result<()> {
    let services: Api<Service> = scope.api();
    let service = |port: i32| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
            "spec": {"selector": {"a": "b"}, "ports": [{"name": "http", "port": port}]},
        })
    };
    let apply = PatchParams::apply("e2e").force();
    let address = |service: &Service| service.spec.as_ref().and_then(|s| s.cluster_ip.clone());
    let made = services.patch("s", &apply, &Patch::Apply(service(6969))).await?;
    let first = address(&made).context("no clusterIP")?;
    first.parse::<std::net::IpAddr>()?;
    let again = services.patch("s", &apply, &Patch::Apply(service(6970))).await?;
    ensure!(address(&again).as_ref() == Some(&first));
    let ports = again.spec.and_then(|s| s.ports).unwrap_or_default();
    ensure!(ports.len() == 1 && ports[0].port == 6970, "{ports:?}");
    let other = object::<Service>(json!({"metadata": {"name": "t"}, "spec": {"ports": [{"port": 1}]}}))?;
    let other = services.create(&PostParams::default(), &other).await?;
    ensure!(address(&other).is_some_and(|a| a != first));
    Ok(())
}

pub(super) async fn a_lease_is_updated_by_version_only(scope: Scope) -> Result<()> {
    let leases: Api<Lease> = scope.api();
    let lease = |holder: &str| {
        object::<Lease>(json!({
            "metadata": {"name": "l"},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"},
        }))
    };
    let made = leases.create(&PostParams::default(), &lease("a")?).await?;
    refused(leases.replace("l", &PostParams::default(), &lease("b")?).await, 422, "Invalid")?;
    let mut next = lease("b")?;
    next.metadata.resource_version = made.resource_version();
    leases.replace("l", &PostParams::default(), &next).await?;
    refused(leases.replace("l", &PostParams::default(), &next).await, 409, "Conflict")
}

pub(super) async fn an_unknown_token_is_not_authenticated(scope: Scope) -> Result<()> {
    let reviews: Api<TokenReview> = scope.cluster();
    let review = json!({"metadata": {}, "spec": {"token": "nobody's", "audiences": ["samara.dev"]}});
    let status =
        reviews.create(&PostParams::default(), &object(review)?).await?.status.context("no status")?;
    ensure!(status.authenticated != Some(true) && status.error.is_some());
    Ok(())
}

pub(super) async fn only_metadata_when_asked(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    let made = maps.create(&PostParams::default(), &config_map("a", "1")?).await?;
    let meta = maps.get_metadata("a").await?;
    ensure!(meta.metadata.uid == made.uid());
    let list = maps.list_metadata(&ListParams::default().fields("metadata.name=a")).await?;
    ensure!(list.items.len() == 1 && list.items[0].metadata.uid == made.uid());
    Ok(())
}
