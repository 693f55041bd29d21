//! Finalizers and owners.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{Scope, config_map, eventually, refused};

const HOLD: &str = "e2e.samara.dev/hold";

async fn set_finalizers(maps: &Api<ConfigMap>, name: &str, finalizers: &[&str]) -> kube::Result<ConfigMap> {
    let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    maps.patch(name, &PatchParams::default(), &patch).await
}

pub(super) async fn finalizers_hold_an_object(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    let delete = DeleteParams::default();
    maps.create(&PostParams::default(), &config_map("a", "1")?).await?;
    set_finalizers(&maps, "a", &[HOLD, "e2e.samara.dev/other"]).await?;
    let pending =
        maps.delete("a", &delete).await?.left().context("it was deleted although it has finalizers")?;
    let since = pending.metadata.deletion_timestamp.context("no deletionTimestamp")?;
    maps.delete("a", &delete).await?;
    ensure!(maps.get("a").await?.metadata.deletion_timestamp == Some(since));
    refused(maps.create(&PostParams::default(), &config_map("a", "2")?).await, 409, "AlreadyExists")?;
    refused(set_finalizers(&maps, "a", &[HOLD, "e2e.samara.dev/new"]).await, 422, "Invalid")?;
    set_finalizers(&maps, "a", &[HOLD]).await?;
    set_finalizers(&maps, "a", &[]).await?;
    refused(maps.get("a").await, 404, "NotFound")
}

async fn owned(maps: &Api<ConfigMap>, name: &str, owners: &[&ConfigMap]) -> Result<ConfigMap> {
    let mut map = config_map(name, "")?;
    map.metadata.owner_references = owners.iter().map(|o| o.owner_ref(&())).collect();
    Ok(maps.create(&PostParams::default(), &map).await?)
}

async fn goes(maps: &Api<ConfigMap>, name: &str) -> Result<()> {
    eventually(&format!("{name} is collected"), || async { Ok(maps.get_opt(name).await?.is_none()) }).await
}

pub(super) async fn dependents_follow_their_owner(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    let owner = maps.create(&PostParams::default(), &config_map("owner", "")?).await?;
    let child = owned(&maps, "child", &[&owner]).await?;
    owned(&maps, "grandchild", &[&child]).await?;
    maps.delete("owner", &DeleteParams::default()).await?;
    goes(&maps, "child").await?;
    goes(&maps, "grandchild").await?;
    owned(&maps, "late", &[&owner]).await?;
    goes(&maps, "late").await
}

pub(super) async fn another_owner_holds_a_dependent(scope: Scope) -> Result<()> {
    let maps: Api<ConfigMap> = scope.api();
    let one = maps.create(&PostParams::default(), &config_map("one", "")?).await?;
    let two = maps.create(&PostParams::default(), &config_map("two", "")?).await?;
    owned(&maps, "child", &[&one, &two]).await?;
    maps.delete("one", &DeleteParams::default()).await?;
    eventually("the reference to the gone owner is removed", || async {
        Ok(maps.get("child").await?.owner_references().len() == 1)
    })
    .await?;
    maps.delete("two", &DeleteParams::default()).await?;
    goes(&maps, "child").await
}
