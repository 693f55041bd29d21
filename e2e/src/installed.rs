//! Samara on a cluster of the tests: the image, the release, datasets, and what the nodes have of them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use crds::{Distribution, DistributionClass, NodeDistribution};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1 as core;
use kube::api::Api;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::cluster::{Cluster, DATA_ROOT, Node, until};
use crate::suite::eventually;

/// The release's name.
pub const RELEASE: &str = "samara";
/// The namespace it lies in.
pub const NAMESPACE: &str = "samara";
/// The namespace that the tests' datasets lie in.
pub const USERS: &str = "default";
/// What its processes are called.
pub const SIDECAR: &str = "/samara-sidecar";
/// Where the chart has the mirror listen.
const MIRROR_PORT: u16 = 6883;
/// Images lie on the nodes already, so pods start within seconds; beside a compiler they may take a minute.
const INSTALL_TIMEOUT: Duration = Duration::from_mins(3);
/// Ten nodes that all read 96 MiB over one link of 16 MB/s take more than one minute.
const RUN_TIMEOUT: Duration = Duration::from_mins(5);

/// Builds the image (a no-op when nothing changed), gives it to the nodes, and installs the chart with `options`.
pub async fn install(cluster: &mut Cluster, options: &[&str]) -> Result<()> {
    import(cluster).await?;
    helm_install(cluster, RELEASE, NAMESPACE, options).await?;
    wait_installed(cluster, NAMESPACE).await
}

/// Builds the image and gives it to all nodes, also to those that come later.
pub async fn import(cluster: &mut Cluster) -> Result<()> {
    let archive = tokio::task::spawn_blocking(xtask::image::build_default).await??;
    cluster.import_image(&archive).await
}

/// `helm install`, into a namespace that is made and labelled for it.
pub async fn helm_install(cluster: &Cluster, release: &str, namespace: &str, options: &[&str]) -> Result<()> {
    cluster
        .apply(json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": namespace, "labels": { "pod-security.kubernetes.io/enforce": "privileged" } },
        }))
        .await?;
    let chart = chart();
    let chart = chart.to_str().context("the tree's path is not UTF-8")?;
    let mut args = vec!["install", release, chart, "--namespace", namespace];
    args.extend(options);
    cluster.helm(&args).await.map(drop)
}

/// Where the chart lies.
pub fn chart() -> PathBuf {
    xtask::tools::workspace().join("charts/samara")
}

/// Waits until operator, trackers and every sidecar are ready.
pub async fn wait_installed(cluster: &Cluster, namespace: &str) -> Result<()> {
    let timeout = format!("--timeout={}s", INSTALL_TIMEOUT.as_secs());
    let of = ["--namespace", namespace, timeout.as_str()];
    cluster.kubectl(&[&["rollout", "status", "deployment/samara-operator"], &of[..]].concat()).await?;
    cluster.kubectl(&[&["rollout", "status", "daemonset/samara-sidecar-default"], &of[..]].concat()).await?;
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "distributionclass/default", timeout.as_str()])
        .await
        .map(drop)
}

/// A `Distribution` named `name` of `files`: path below the dataset and URL.
pub fn dataset(name: &str, files: &[(&str, String)]) -> Value {
    let files: Vec<Value> = files.iter().map(|(path, url)| json!({ "path": path, "url": url })).collect();
    distribution(name, &json!({ "http": { "files": files } }))
}

/// A `Distribution` named `name` of `source`.
pub fn distribution(name: &str, source: &Value) -> Value {
    json!({
        "apiVersion": "samara.dev/v1alpha1", "kind": "Distribution",
        "metadata": { "name": name, "namespace": USERS },
        "spec": { "source": source },
    })
}

/// Waits as a user does, with `kubectl wait`.
pub async fn wait_ready(cluster: &Cluster, name: &str, timeout: Duration) -> Result<()> {
    wait_condition(cluster, name, "Ready=True", timeout).await
}

/// `kubectl wait --for=condition=<condition>`, with `Type=Status`.
pub async fn wait_condition(cluster: &Cluster, name: &str, condition: &str, timeout: Duration) -> Result<()> {
    let (what, condition) = (format!("distribution/{name}"), format!("--for=condition={condition}"));
    let timeout = format!("--timeout={}s", timeout.as_secs());
    cluster.kubectl(&["wait", "--namespace", USERS, &condition, &what, &timeout]).await.map(drop)
}

/// Waits until a condition or a group of failures of `name` gives one of `reasons`, and answers its message, which must not
/// be empty. Fails if it becomes Ready instead.
pub async fn wait_trouble(
    cluster: &Cluster,
    name: &str,
    reasons: &[&str],
    timeout: Duration,
) -> Result<String> {
    let message = until(&format!("{name} in trouble: {}", reasons.join(" or ")), timeout, || async {
        let status = get(cluster, name).await?.status.unwrap_or_default();
        if status.conditions.iter().any(|c| c.type_ == crds::condition::READY && c.status == "True") {
            bail!("{name} is Ready although it should not be");
        }
        let conditions = status.conditions.into_iter().map(|c| (c.reason, c.message));
        let failures = status.failures.into_iter().map(|group| (group.reason, group.message));
        Ok(conditions
            .chain(failures)
            .find(|(reason, _)| reasons.contains(&reason.as_str()))
            .map(|(_, message)| message))
    })
    .await?;
    if message.trim().is_empty() {
        bail!("{name}: {} says nothing about what to do", reasons.join(" or "));
    }
    Ok(message)
}

/// The `Distribution` as it is now.
pub async fn get(cluster: &Cluster, name: &str) -> Result<Distribution> {
    Ok(Api::namespaced(cluster.kube(), USERS).get(name).await?)
}

/// The name of its current revision.
pub async fn revision(cluster: &Cluster, name: &str) -> Result<String> {
    let status = get(cluster, name).await?.status.unwrap_or_default();
    Ok(status.revision.with_context(|| format!("{name} has no revision yet"))?.id)
}

/// What `node` reported.
pub async fn node_report(cluster: &Cluster, node: &str) -> Result<Option<NodeDistribution>> {
    Ok(Api::all(cluster.kube()).get_opt(node).await?)
}

/// Where the file `path` of the dataset `name` stands on every node.
pub fn published(name: &str, path: &str) -> String {
    format!("{DATA_ROOT}/datasets/{USERS}/{name}/{path}")
}

/// Fails unless node `number` has `path` of `name` with these bytes.
pub async fn check_node(
    cluster: &mut Cluster,
    number: usize,
    (name, path): (&str, &str),
    sha256: &str,
) -> Result<()> {
    let found = cluster.node(number)?.sha256(published(name, path)).await?;
    if found != sha256 {
        bail!("node{number}: {path} of {name} has sha256 {found} instead of {sha256}");
    }
    Ok(())
}

/// Fails unless all nodes have `path` of `name` with these bytes.
pub async fn check_all(cluster: &mut Cluster, file: (&str, &str), sha256: &str) -> Result<()> {
    let numbers: Vec<_> = cluster.nodes()?.iter().map(|node| node.number).collect();
    for number in numbers {
        check_node(cluster, number, file, sha256).await?;
    }
    Ok(())
}

/// Runs a pod of `image` on every node and takes them away again; answers how long it took from applying it until all ran.
pub async fn run_everywhere(cluster: &Cluster, name: &str, image: &str) -> Result<Duration> {
    let start = Instant::now();
    start_pods(cluster, name, image, &json!({})).await?;
    let (what, timeout) = (format!("daemonset/{name}"), format!("--timeout={}s", RUN_TIMEOUT.as_secs()));
    cluster.kubectl(&["rollout", "status", &what, "--namespace", USERS, &timeout]).await?;
    let took = start.elapsed();
    remove_pods(cluster, name).await?;
    Ok(took)
}

/// A DaemonSet of `image` on the nodes with these labels.
pub async fn start_pods(cluster: &Cluster, name: &str, image: &str, nodes: &Value) -> Result<()> {
    let labels = json!({ "app": name });
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": name, "namespace": USERS },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "nodeSelector": nodes, "terminationGracePeriodSeconds": 0,
                    "containers": [{ "name": "app", "image": image, "imagePullPolicy": "IfNotPresent" }],
                },
            },
        },
    });
    cluster.apply(set).await
}

/// Waits until the DaemonSet has `count` pods, and all of them run.
pub async fn wait_pods(cluster: &Cluster, name: &str, count: usize, timeout: Duration) -> Result<()> {
    let api: Api<DaemonSet> = Api::namespaced(cluster.kube(), USERS);
    eventually(&format!("{count} pods of {name}"), timeout, || async {
        let status = api.get(name).await?.status.unwrap_or_default();
        let (wanted, ready) = (status.desired_number_scheduled, status.number_ready);
        ensure!(usize::try_from(wanted) == Ok(count) && ready == wanted, "{ready} of {wanted} run");
        Ok(true)
    })
    .await
}

/// Takes the DaemonSet away, with its pods.
pub async fn remove_pods(cluster: &Cluster, name: &str) -> Result<()> {
    let what = format!("daemonset/{name}");
    let args = ["delete", &what, "--namespace", USERS, "--wait=true", "--timeout=60s"];
    cluster.kubectl(&args).await.map(drop)
}

/// Sends a signal to the sidecar's process on node `number`.
pub fn signal_sidecar(cluster: &mut Cluster, number: usize, signal: Signal) -> Result<()> {
    let pids = cluster.node(number)?.pids_of(SIDECAR);
    let pid = pids.first().with_context(|| format!("no sidecar runs on node{number}"))?;
    Ok(kill_process(*pid, signal)?)
}

/// A pod in place of the sidecar's on node `number`, and the wait for its mirror: one whose container has ended a few times waits longer
/// each time until it starts again.
pub async fn renew_sidecar(cluster: &mut Cluster, number: usize) -> Result<()> {
    let pod = pod_on(cluster, "sidecar", &format!("node{number}")).await?;
    cluster.kubectl(&["delete", "--namespace", NAMESPACE, &pod, "--grace-period=5", "--timeout=60s"]).await?;
    wait_installed(cluster, NAMESPACE).await?;
    wait_answering(cluster.node(number)?).await
}

/// Waits until something answers where the node's runtime asks first.
pub async fn wait_answering(node: &Node) -> Result<()> {
    let url = format!("http://127.0.0.1:{MIRROR_PORT}/v2/");
    eventually(&format!("{}: a mirror that answers", node.name()), INSTALL_TIMEOUT, || async {
        Ok(node.exec("curl", &["--silent", "--fail", "--max-time", "2", &url]).await?.success)
    })
    .await
}

/// Waits until pulls of `node` go through its mirror.
pub async fn wait_mirror(cluster: &Cluster, node: &str) -> Result<()> {
    eventually(&format!("{node}: pulls through the mirror"), INSTALL_TIMEOUT, || async {
        let status = node_report(cluster, node).await?.and_then(|report| report.status).unwrap_or_default();
        let ready = status.conditions.iter().any(|c| c.type_ == "ImageMirrorReady" && c.status == "True");
        ensure!(ready, "{:?}", status.conditions);
        Ok(true)
    })
    .await
}

/// `kubectl delete`, and the wait for the finalizer, as a user does.
pub async fn delete(cluster: &Cluster, name: &str, timeout: Duration) -> Result<()> {
    let timeout = format!("--timeout={}s", timeout.as_secs());
    cluster.kubectl(&["delete", "--namespace", USERS, "distribution", name, &timeout]).await.map(drop)
}

/// The name of the pod of `component` on `node`.
pub async fn pod_on(cluster: &Cluster, component: &str, node: &str) -> Result<String> {
    let label = format!("app.kubernetes.io/component={component}");
    let field = format!("spec.nodeName={node}");
    let args = ["get", "pods", "-n", NAMESPACE, "-l", &label, "--field-selector", &field, "-o", "name"];
    let names = cluster.kubectl(&args).await?;
    names.lines().next().map(str::to_owned).with_context(|| format!("no {component} pod on {node}"))
}

/// The number of a node that does not run the operator: what is promised of a dead node is promised of this one. When the operator's
/// own dies, Kubernetes needs most of a minute to start it elsewhere.
pub async fn without_operator(cluster: &Cluster, namespace: &str) -> Result<usize> {
    let label = "app.kubernetes.io/component=operator";
    let node = "jsonpath={.items[*].spec.nodeName}";
    let nodes = cluster.kubectl(&["get", "pods", "-n", namespace, "-l", label, "-o", node]).await?;
    let free = cluster.nodes()?.iter().rev().find(|node| !nodes.split(' ').any(|name| name == node.name()));
    Ok(free.context("the operator runs on every node")?.number)
}

/// Waits until node `number` has at least `bytes` on its disk for any dataset: a transfer is under way.
pub async fn wait_transfer(
    cluster: &mut Cluster,
    number: usize,
    bytes: u64,
    timeout: Duration,
) -> Result<()> {
    let node = &*cluster.node(number)?;
    eventually(&format!("{bytes} bytes on node{number}"), timeout, || async {
        Ok(node.written(format!("{DATA_ROOT}/incoming")).await? >= bytes)
    })
    .await
}

/// What every tracker of the class says of its swarms, by the tracker's name: JSON, asked for from node 1.
pub async fn tracker_swarms(cluster: &Cluster, namespace: &str) -> Result<Vec<(String, String)>> {
    let header = tracker_header(cluster, namespace).await?;
    let class: DistributionClass = Api::all(cluster.kube()).get(crds::DEFAULT_CLASS).await?;
    let node = cluster.nodes()?.first().context("a cluster has a node")?;
    let mut answers = Vec::new();
    for tracker in class.status.unwrap_or_default().trackers {
        let url = format!("{}/v1/swarms", tracker.url);
        let curl = ["--silent", "--show-error", "--fail", "--max-time", "10", "--header", &header, &url];
        answers.push((tracker.name.clone(), node.exec("curl", &curl).await?.ok(&tracker.name)?));
    }
    Ok(answers)
}

/// The URLs of the class's trackers.
pub async fn tracker_urls(cluster: &Cluster) -> Result<Vec<String>> {
    let class: DistributionClass = Api::all(cluster.kube()).get(crds::DEFAULT_CLASS).await?;
    Ok(class.status.unwrap_or_default().trackers.into_iter().map(|tracker| tracker.url).collect())
}

/// The HTTP header that opens the trackers' API.
pub async fn tracker_header(cluster: &Cluster, namespace: &str) -> Result<String> {
    let secrets: Api<core::Secret> = Api::namespaced(cluster.kube(), namespace);
    let secret = secrets.get("samara-tracker-default").await?.data.unwrap_or_default();
    let token = secret.get("token").context("the trackers' Secret has no token")?;
    Ok(format!("Authorization: Bearer {}", String::from_utf8_lossy(&token.0)))
}
