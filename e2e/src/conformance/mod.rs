//! What the in-memory Kubernetes API and a real API server have in common: one suite that runs against both.

mod applying;
mod objects;
mod ownership;
mod watching;

use std::{fmt::Debug, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, PostParams},
    core::{ClusterResourceScope, NamespaceResourceScope},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// How long anything that happens in the background may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A client, and a namespace of its own. Cluster-scoped objects have the namespace's name as a prefix.
#[derive(Clone)]
pub struct Scope {
    client: Client,
    namespace: String,
}

/// A named check.
pub struct Check {
    /// What it shows.
    pub name: &'static str,
    /// Whether it needs the controllers of kube-controller-manager, which a bare API server has not.
    pub controllers: bool,
    run: fn(Scope) -> BoxFuture<'static, Result<()>>,
}

macro_rules! checks {
    ($($module:ident :: { $($(#[$needs:ident])? $name:ident),* $(,)? }),* $(,)?) => {
        &[$($(Check {
            name: stringify!($name),
            controllers: checks!(@ $($needs)?),
            run: |scope| $module::$name(scope).boxed(),
        }),*),*]
    };
    (@ controllers) => { true };
    (@) => { false };
}

/// All of them.
pub const CHECKS: &[Check] = checks! {
    objects::{
        made_read_listed_and_deleted,
        names_are_checked_and_generated,
        a_missing_namespace_is_not_found,
        stale_writes_conflict,
        a_write_that_changes_nothing_is_none,
        generation_counts_changes_of_the_spec,
        status_has_its_own_path,
        merge_patch_removes_nulls,
        json_patch_is_all_or_nothing,
        preconditions_of_a_delete,
        a_collection_is_deleted_by_label,
        a_service_gets_an_address_and_keeps_it,
        a_lease_is_updated_by_version_only,
        an_unknown_token_is_not_authenticated,
        only_metadata_when_asked,
    },
    applying::{
        apply_makes_and_takes_back,
        managers_share_an_object,
        conflicts_need_force,
        conditions_merge_by_type,
        finalizers_are_a_set,
    },
    watching::{
        a_watch_resumes_after_a_list,
        a_watch_sees_objects_enter_and_leave_its_selector,
        a_reflector_follows,
        events_can_be_published,
    },
    ownership::{
        finalizers_hold_an_object,
        #[controllers] dependents_follow_their_owner,
        #[controllers] another_owner_holds_a_dependent,
    },
};

impl Check {
    /// Runs it in a namespace of its own, which goes afterwards.
    pub async fn run(&self, client: &Client) -> Result<()> {
        let spaces: Api<Namespace> = Api::all(client.clone());
        let wanted = object::<Namespace>(json!({"metadata": {"generateName": "samara-conformance-"}}))?;
        let made = spaces.create(&PostParams::default(), &wanted).await.context("cannot make a namespace")?;
        let namespace = made.metadata.name.context("a namespace without a name")?;
        let scope = Scope { client: client.clone(), namespace: namespace.clone() };
        let result = (self.run)(scope).await.with_context(|| format!("check {}", self.name));
        spaces.delete(&namespace, &DeleteParams::default()).await.context("cannot delete the namespace")?;
        result
    }
}

/// Whether the controllers of kube-controller-manager work here: one of them puts this ConfigMap into every namespace.
pub async fn has_controllers(client: &Client) -> Result<bool> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    Ok(maps.get_opt("kube-root-ca.crt").await?.is_some())
}

impl Scope {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn cluster<K>(&self) -> Api<K>
    where
        K: Resource<Scope = ClusterResourceScope, DynamicType = ()>,
    {
        Api::all(self.client.clone())
    }

    /// A name for a cluster-scoped object of this check.
    fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.namespace)
    }
}

/// An object from its JSON, without the type's ceremony.
fn object<K: DeserializeOwned>(value: Value) -> Result<K> {
    Ok(serde_json::from_value(value)?)
}

/// A ConfigMap with one key.
fn config_map(name: &str, value: &str) -> Result<ConfigMap> {
    object(json!({"metadata": {"name": name}, "data": {"key": value}}))
}

/// A `Distribution` that a schema accepts.
fn distribution(name: &str) -> Result<crds::Distribution> {
    object(json!({
        "apiVersion": "samara.dev/v1alpha1",
        "kind": "Distribution",
        "metadata": {"name": name},
        "spec": {
            "className": "default",
            "source": {"http": {"files": [{"url": "http://origin.example/a"}]}},
        },
    }))
}

/// The object as JSON.
fn json_of<K: Serialize>(object: &K) -> Result<Value> {
    Ok(serde_json::to_value(object)?)
}

/// Asserts that a call was refused with this code and reason.
fn refused<T: Debug>(result: kube::Result<T>, code: u16, reason: &str) -> Result<()> {
    match result {
        Err(kube::Error::Api(status)) => {
            ensure!(
                status.code == code && status.reason == reason,
                "expected {code} {reason}, got {status:?}"
            );
            ensure!(!status.message.is_empty(), "a refusal without a message");
            Ok(())
        }
        other => anyhow::bail!("expected {code} {reason}, got {other:?}"),
    }
}

/// Waits until `condition` holds.
async fn eventually<F>(what: &str, mut condition: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let poll = async {
        while !condition().await? {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, poll).await.with_context(|| format!("never happened: {what}"))?
}
