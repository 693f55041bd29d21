//! A real API server takes the good objects and refuses the bad ones, for the reason that the schema gives.

#![allow(clippy::unwrap_used, clippy::struct_field_names, clippy::unused_self)] // a test fails by panicking; a case names itself
use anyhow::{Context, Result, bail, ensure};
use e2e::real::{self, Real};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// One object of the YAML files beside this test.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    kind: String,
    /// Without it the API server makes one.
    name: Option<String>,
    spec: Value,
    status: Option<Value>,
    to: Option<Value>,
    says: Option<String>,
}

fn cases(yaml: &str) -> Vec<Case> {
    let mut document: serde_yaml::Value = serde_yaml::from_str(yaml).unwrap();
    document.apply_merge().unwrap();
    serde_yaml::from_value(document).unwrap()
}

impl Case {
    fn api(&self, client: &Client) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(crds::GROUP, crds::VERSION, &self.kind));
        match self.kind.as_str() {
            "Distribution" => Api::namespaced_with(client.clone(), "default", &resource),
            _ => Api::all_with(client.clone(), &resource),
        }
    }

    fn object(&self) -> Result<DynamicObject> {
        Ok(serde_json::from_value(json!({
            "apiVersion": format!("{}/{}", crds::GROUP, crds::VERSION),
            "kind": self.kind,
            "metadata": {"name": self.name, "generateName": "crd-validation-"},
            "spec": self.spec,
        }))?)
    }

    /// Makes the object, changes it if the case says so, and removes it again.
    async fn run(&self, client: &Client) -> Result<()> {
        let api = self.api(client);
        let made = api.create(&PostParams::default(), &self.object()?).await;
        let (Ok(made), refusal) = (&made, self.says.as_deref().filter(|_| self.to.is_none())) else {
            return self.judge(made.map(drop), self.says.as_deref().filter(|_| self.to.is_none()));
        };
        let name = made.metadata.name.clone().context("a name was generated")?;
        let later = self.change(&api, &name).await;
        api.delete(&name, &DeleteParams::default()).await?;
        ensure!(refusal.is_none(), "it was accepted");
        self.judge(later, self.says.as_deref())
    }

    async fn change(&self, api: &Api<DynamicObject>, name: &str) -> kube::Result<()> {
        let params = PatchParams::default();
        if let Some(status) = &self.status {
            api.patch_status(name, &params, &Patch::Merge(json!({"status": status}))).await?;
        }
        if let Some(to) = &self.to {
            api.patch(name, &params, &Patch::Merge(json!({"spec": to}))).await?;
        }
        Ok(())
    }

    fn judge(&self, outcome: kube::Result<()>, says: Option<&str>) -> Result<()> {
        match (outcome, says) {
            (Ok(()), None) => Ok(()),
            (Ok(()), Some(_)) => bail!("it was accepted"),
            (Err(kube::Error::Api(status)), Some(says)) => {
                ensure!(status.code == 422, "not a refusal of the object: {status:?}");
                ensure!(status.message.contains(says), "it does not say {says:?}: {}", status.message);
                Ok(())
            }
            (Err(error), _) => bail!("refused: {error}"),
        }
    }
}

#[tokio::test]
async fn good_objects_are_accepted_and_bad_ones_refused() {
    let all: Vec<Case> = [
        include_str!("crd/accepted.yaml"),
        include_str!("crd/refused.yaml"),
        include_str!("crd/changed.yaml"),
    ]
    .iter()
    .flat_map(|yaml| cases(yaml))
    .collect();
    let Real::Server(client) = real::client("CRD validation").await.unwrap() else { return };
    real::install_crds(&client).await.unwrap();
    let mut failures = Vec::new();
    for case in &all {
        if let Err(error) = case.run(&client).await {
            failures.push(format!("{} {:?}: {error:#}", case.kind, case.case));
        }
    }
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), all.len(), failures.join("\n"));
}
