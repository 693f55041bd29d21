//! Install, upgrade, uninstall, and install again elsewhere: nothing hangs, and data is kept unless asked.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::{Cluster, DATA_ROOT};
use e2e::installed::{self, NAMESPACE, RELEASE, check_all, dataset, wait_ready};
use e2e::origin::Origin;
use e2e::suite::{Needs, Suite, eventually};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::Api;
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;
const PAYLOAD: u64 = 32 * MIB;
/// The field that the older CRD of these tests lacks.
const NEW_FIELD: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/expectedDigest";
/// Rules over several fields: those that name the new one came with it.
const RULES: &str = "/spec/versions/0/schema/openAPIV3Schema/x-kubernetes-validations";
const DISTRIBUTIONS: &str = "distributions.samara.dev";
/// The second release and its namespace.
const ELSEWHERE: &str = "elsewhere";
/// The hook may wait 60 s for nodes that do not answer; the rest is seconds.
const UNINSTALL_TIMEOUT: Duration = Duration::from_mins(2);

fn main() -> ExitCode {
    Suite::new("lifecycle", 3)
        .setup(|c| Box::pin(install_older(c)))
        .scenario("an upgrade brings a field that the CRD has gained", Needs::OwnNodes, |c| {
            Box::pin(upgrade(c))
        })
        .scenario("an uninstall keeps the data and leaves nothing that hangs", Needs::OwnNodes, |c| {
            Box::pin(uninstall_keep(c))
        })
        .scenario("another release in another namespace takes up what is there", Needs::OwnNodes, |c| {
            Box::pin(install_elsewhere(c))
        })
        .scenario(
            "an uninstall with Purge frees the nodes, and waits for no dead one",
            Needs::OwnNodes,
            |c| Box::pin(uninstall_purge(c)),
        )
        .run()
}

/// A cluster with the CRDs of an older version, and the chart on it.
async fn install_older(cluster: &mut Cluster) -> Result<()> {
    for crd in crds::all() {
        cluster.apply(older(&crd)?).await?;
    }
    installed::install(cluster, &["--set", "crds.manage=false"]).await?;
    let crd = served(cluster).await?;
    ensure!(crd.pointer(NEW_FIELD).is_none(), "helm has replaced a CRD that was there");
    Ok(())
}

/// The CRD as a version before this one may have had it.
fn older(crd: &CustomResourceDefinition) -> Result<Value> {
    let mut value = serde_json::to_value(crd)?;
    value["metadata"]["annotations"]["samara.dev/version"] = "0.0.1".into();
    if crd.name_any() == DISTRIBUTIONS {
        let (parent, field) = NEW_FIELD.rsplit_once('/').context("a path")?;
        let fields = value.pointer_mut(parent).and_then(Value::as_object_mut).context("the CRD's schema")?;
        fields.remove(field).context("the CRD has no such field to take out")?;
        let rules = value.pointer_mut(RULES).and_then(Value::as_array_mut).context("the CRD's rules")?;
        rules.retain(|rule| !rule.to_string().contains(field));
    }
    Ok(value)
}

/// The CRD of Distributions as the API server has it.
async fn served(cluster: &Cluster) -> Result<Value> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.kube());
    Ok(serde_json::to_value(api.get(DISTRIBUTIONS).await?)?)
}

/// A dataset that all nodes have.
async fn ready_dataset(cluster: &mut Cluster, name: &str, seed: u64) -> Result<(Origin, String)> {
    let origin = cluster.origin(None).await?;
    let sha256 = origin.put_random("/payload", seed, PAYLOAD).await?;
    cluster.apply(dataset(name, &[("payload", origin.url("/payload"))])).await?;
    wait_ready(cluster, name, Duration::from_mins(2)).await?;
    check_all(cluster, (name, "payload"), &sha256).await?;
    Ok((origin, sha256))
}

async fn upgrade(cluster: &mut Cluster) -> Result<()> {
    let (origin, sha256) = ready_dataset(cluster, "kept", 61).await?;
    origin.reset().await?;
    let digest = installed::get(cluster, "kept").await?.status.and_then(|status| status.revision);
    let digest = digest.and_then(|revision| revision.digest).context("a Ready revision has a digest")?;
    let mut expecting = dataset("expecting", &[("payload", origin.url("/payload"))]);
    expecting["spec"]["expectedDigest"] = digest.into();
    // Strict: a field that the API server does not know is refused, not dropped.
    ensure!(strict(cluster, &expecting).await.is_err(), "the older CRD knows the newer field");

    helm_upgrade(cluster, RELEASE, NAMESPACE, "crds.manage=true").await?;
    let crd = &*cluster;
    eventually("the field in the CRD", Duration::from_mins(1), || async {
        Ok(served(crd).await?.pointer(NEW_FIELD).is_some())
    })
    .await?;
    installed::wait_installed(cluster, NAMESPACE).await?;
    wait_ready(cluster, "kept", Duration::from_mins(2)).await?;
    check_all(cluster, ("kept", "payload"), &sha256).await?;
    let stats = origin.stats().await?;
    ensure!(stats.payload_bytes == 0, "the upgrade made somebody read the origin again: {stats:?}");

    // The API server may serve the older schema for a moment yet.
    let (crd, object) = (&*cluster, &expecting);
    eventually("the field accepted", Duration::from_secs(30), || async {
        Ok(strict(crd, object).await.is_ok())
    })
    .await?;
    wait_ready(cluster, "expecting", Duration::from_mins(2)).await?;
    check_all(cluster, ("expecting", "payload"), &sha256).await?;
    installed::delete(cluster, "expecting", Duration::from_secs(30)).await
}

/// `kubectl create` as people call it: unknown fields are errors.
async fn strict(cluster: &Cluster, object: &Value) -> Result<()> {
    let file = tempfile::Builder::new().suffix(".json").tempfile()?;
    serde_json::to_writer(&file, object)?;
    let path = file.path().to_str().context("the temporary folder's name is not UTF-8")?;
    cluster.kubectl(&["apply", "--validate=strict", "-f", path]).await.map(drop)
}

async fn helm_upgrade(cluster: &Cluster, release: &str, namespace: &str, value: &str) -> Result<()> {
    let chart = installed::chart();
    let chart = chart.to_str().context("the tree's path is not UTF-8")?;
    cluster
        .helm(&["upgrade", release, chart, "--namespace", namespace, "--reuse-values", "--set", value])
        .await
        .map(drop)
}

/// `helm uninstall`, and the namespace after it; answers how long the first took.
async fn uninstall(cluster: &Cluster, release: &str, namespace: &str) -> Result<Duration> {
    let start = Instant::now();
    let timeout = format!("--timeout={}s", UNINSTALL_TIMEOUT.as_secs());
    cluster.helm(&["uninstall", release, "--namespace", namespace, "--wait", &timeout]).await?;
    Ok(start.elapsed())
}

/// Nothing of the installation is left but what belongs to users.
async fn ensure_gone(cluster: &Cluster, namespace: &str) -> Result<()> {
    cluster.kubectl(&["delete", "namespace", namespace, "--timeout=60s"]).await?;
    let finalizers = "jsonpath={.items[*].metadata.finalizers}";
    for kind in ["distributions", "distributionrevisions", "nodedistributions", "distributionclasses"] {
        let held = cluster.kubectl(&["get", kind, "--all-namespaces", "-o", finalizers]).await?;
        ensure!(held.trim().is_empty(), "{kind} still have finalizers: {held}");
    }
    for kind in ["clusterroles", "clusterrolebindings", "validatingadmissionpolicies", "distributionclasses"]
    {
        let names = cluster.kubectl(&["get", kind, "-o", "name"]).await?;
        let left: Vec<_> = names.lines().filter(|name| name.contains("samara")).collect();
        // A class's name has its kind's group in it; the chart's own is called default.
        let left: Vec<_> = left.iter().filter(|name| !name.ends_with(".samara.dev")).collect();
        ensure!(left.is_empty(), "left over: {left:?}");
    }
    Ok(())
}

async fn uninstall_keep(cluster: &mut Cluster) -> Result<()> {
    let took = uninstall(cluster, RELEASE, NAMESPACE).await?;
    // Every node lives: the hook had nobody to wait for until its time was over.
    ensure!(took < Duration::from_mins(1), "the uninstall took {took:?} with all nodes alive");
    ensure_gone(cluster, NAMESPACE).await?;
    check_all(cluster, ("kept", "payload"), &installed_sha256()).await?;
    // Nobody is there to take a finalizer off, and nobody has to.
    cluster
        .apply(json!({
            "apiVersion": "samara.dev/v1alpha1", "kind": "Distribution",
            "metadata": { "name": "short-lived", "namespace": installed::USERS },
            "spec": { "source": { "http": { "files": [{ "path": "f", "url": "http://198.51.100.1/f" }] } } },
        }))
        .await?;
    installed::delete(cluster, "short-lived", Duration::from_secs(10)).await
}

/// The digest of the dataset `kept`.
fn installed_sha256() -> String {
    e2e::payload::sha256(61, PAYLOAD)
}

async fn install_elsewhere(cluster: &mut Cluster) -> Result<()> {
    let revision = installed::revision(cluster, "kept").await?;
    let before = inodes(cluster, &revision)?;
    installed::helm_install(cluster, ELSEWHERE, ELSEWHERE, &[]).await?;
    installed::wait_installed(cluster, ELSEWHERE).await?;
    // One that was not there before is served...
    ready_dataset(cluster, "second", 62).await?;
    // ... and the one that was is counted on all nodes, from the files that lay there.
    let seen = &*cluster;
    eventually("kept on three nodes", Duration::from_mins(1), || async {
        let status = installed::get(seen, "kept").await?.status.unwrap_or_default();
        Ok(status.nodes.is_some_and(|nodes| nodes.ready == 3 && nodes.desired == 3))
    })
    .await?;
    check_all(cluster, ("kept", "payload"), &installed_sha256()).await?;
    ensure!(inodes(cluster, &revision)? == before, "files that were there were written anew");
    installed::delete(cluster, "second", Duration::from_secs(30)).await
}

/// The identity of the revision's folder on each node: another one if it was made again.
fn inodes(cluster: &Cluster, revision: &str) -> Result<Vec<u64>> {
    use std::os::unix::fs::MetadataExt as _;
    let folder = |node: &e2e::cluster::Node| node.path(format!("{DATA_ROOT}/store/{revision}"));
    cluster.nodes()?.iter().map(|node| Ok(std::fs::metadata(folder(node)?)?.ino())).collect()
}

async fn uninstall_purge(cluster: &mut Cluster) -> Result<()> {
    let revision = installed::revision(cluster, "kept").await?;
    helm_upgrade(cluster, ELSEWHERE, ELSEWHERE, "uninstall.data=Purge").await?;
    installed::wait_installed(cluster, ELSEWHERE).await?;
    let dead = installed::without_operator(cluster, ELSEWHERE).await?;
    cluster.node(dead)?.kill()?;
    let took = uninstall(cluster, ELSEWHERE, ELSEWHERE).await?;
    ensure!(took < UNINSTALL_TIMEOUT, "the uninstall took {took:?}");
    for number in (1..=3).filter(|number| *number != dead) {
        let node = cluster.node(number)?;
        let left = node.disk_usage(format!("{DATA_ROOT}/store/{revision}")).await?;
        ensure!(left == 0, "node{number} still holds {left} bytes");
        let link = node.path(installed::published("kept", ""))?;
        ensure!(std::fs::symlink_metadata(&link).is_err(), "node{number} still has {}", link.display());
    }
    cluster.start_node(dead).await?;
    // Nobody asked that node while it was away: it keeps what it has.
    installed::check_node(cluster, dead, ("kept", "payload"), &installed_sha256()).await?;
    ensure_gone(cluster, ELSEWHERE).await?;
    installed::delete(cluster, "kept", Duration::from_secs(10)).await
}
