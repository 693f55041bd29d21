//! Server-side apply.

use anyhow::{Context, Result, ensure};
use crds::Distribution;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{Scope, distribution, json_of, refused};

async fn apply(maps: &Api<ConfigMap>, manager: &str, data: Value) -> kube::Result<ConfigMap> {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
    maps.patch("a", &PatchParams::apply(manager), &Patch::Apply(map)).await
}

fn data(map: &ConfigMap) -> Result<Value> {
    json_of(&map.data.clone().unwrap_or_default())
}

pub(super) async fn apply_makes_and_takes_back(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    let made = apply(&maps, "one", json!({"x": "1", "y": "2"})).await?;
    let same = apply(&maps, "one", json!({"x": "1", "y": "2"})).await?;
    ensure!(made.uid().is_some() && same.resource_version() == made.resource_version());
    maps.patch("a", &PatchParams::default(), &Patch::Merge(json!({"data": {"z": "3"}}))).await?;
    let seen = apply(&maps, "one", json!({"x": "9"})).await?;
    ensure!(data(&seen)? == json!({"x": "9", "z": "3"}), "{:?}", seen.data);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let nobody = PatchParams { force: true, ..PatchParams::default() };
    ensure!(maps.patch("a", &nobody, &Patch::Apply(map)).await.is_err(), "an apply needs a manager");
    Ok(())
}

pub(super) async fn managers_share_an_object(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    apply(&maps, "one", json!({"x": "1", "shared": "s"})).await?;
    let seen = apply(&maps, "two", json!({"y": "2", "shared": "s"})).await?;
    ensure!(data(&seen)? == json!({"x": "1", "y": "2", "shared": "s"}));
    let seen = apply(&maps, "one", json!({})).await?;
    ensure!(data(&seen)? == json!({"y": "2", "shared": "s"}), "{:?}", seen.data);
    Ok(())
}

pub(super) async fn conflicts_need_force(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    apply(&maps, "one", json!({"x": "1"})).await?;
    refused(apply(&maps, "two", json!({"x": "2"})).await, 409, "Conflict")?;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"x": "2"}});
    let seen = maps.patch("a", &PatchParams::apply("two").force(), &Patch::Apply(map)).await?;
    ensure!(data(&seen)? == json!({"x": "2"}));
    refused(apply(&maps, "one", json!({"x": "1"})).await, 409, "Conflict")?;
    let seen = apply(&maps, "two", json!({})).await?;
    ensure!(data(&seen)? == json!({}), "what was taken by force is the taker's: {:?}", seen.data);
    Ok(())
}

pub(super) async fn conditions_merge_by_type(scope: Scope) -> Result<()> {
    let dists: Api<Distribution> = scope.api();
    dists.create(&PostParams::default(), &distribution("d")?).await?;
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "Because", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let apply = async |manager: &str, conditions: Value| -> Result<Vec<String>> {
        let body = json!({
            "apiVersion": "samara.dev/v1alpha1", "kind": "Distribution", "metadata": {"name": "d"},
            "status": {"conditions": conditions},
        });
        let seen = dists.patch_status("d", &PatchParams::apply(manager), &Patch::Apply(body)).await?;
        let seen = seen.status.context("no status")?.conditions;
        Ok(seen.iter().map(|c| format!("{}={}", c.type_, c.status)).collect())
    };
    apply("one", json!([condition("Ready", "False"), condition("Built", "True")])).await?;
    let seen = apply("two", json!([condition("Stalled", "False")])).await?;
    ensure!(seen == ["Ready=False", "Built=True", "Stalled=False"], "{seen:?}");
    let seen = apply("one", json!([condition("Ready", "True")])).await?;
    ensure!(seen == ["Ready=True", "Stalled=False"], "{seen:?}");
    Ok(())
}

pub(super) async fn finalizers_are_a_set(scope: Scope) -> Result<()> {
    let dists: Api<Distribution> = scope.api();
    let apply = async |manager: &str, finalizers: Value| -> Result<Vec<String>> {
        let mut body = json_of(&distribution("d")?)?;
        body["metadata"]["finalizers"] = finalizers;
        let seen = dists.patch("d", &PatchParams::apply(manager).force(), &Patch::Apply(body)).await?;
        Ok(seen.finalizers().to_vec())
    };
    apply("one", json!(["e2e.samara.dev/one"])).await?;
    let seen = apply("two", json!(["e2e.samara.dev/two"])).await?;
    ensure!(seen == ["e2e.samara.dev/one", "e2e.samara.dev/two"], "{seen:?}");
    let seen = apply("one", json!([])).await?;
    ensure!(seen == ["e2e.samara.dev/two"], "{seen:?}");
    ensure!(apply("two", json!([])).await?.is_empty());
    Ok(())
}
