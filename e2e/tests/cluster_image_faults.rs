//! What breaks while images are pulled: sidecars, peers, trackers, registries, disks, the runtime. Pods run in the end, by the mirror or by
//! the registry, and no runtime is given a wrong byte.
//!
//! Each scenario says what the registry has sent, and which pulls failed on the way; the kubelet tries those again.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::cluster::{Cluster, DATA_ROOT, Node};
use e2e::installed::{self, NAMESPACE, SIDECAR, renew_sidecar, signal_sidecar, wait_answering, wait_mirror};
use e2e::pulls::{Pull, SIZE, WAYS, Way, start_registries};
use e2e::suite::{Needs, Suite, eventually};
use rustix::process::Signal;
use serde_json::json;

const MIB: u64 = 1 << 20;
const NODES: usize = 3;
/// Of every node's data root.
const DISK: u64 = 1 << 30;
/// A quarter of the image: the middle of a pull.
const MIDDLE: u64 = SIZE as u64 / 4;
/// What a registry sends for manifests and small things where it gives no layer.
const SMALL: f64 = 0.05;
/// With this label a node has no sidecar.
const BARE: &str = "e2e-bare";
/// With this one it is among those that have an image first.
const FIRST: &str = "e2e-first";

fn main() -> ExitCode {
    Suite::new("image_faults", NODES)
        .data_disk(DISK)
        .setup(|c| Box::pin(install(c)))
        .scenario("a sidecar is killed while it reads an image that is named", Needs::OwnNodes, |c| {
            Box::pin(signalled(c, Way::Named, Signal::KILL))
        })
        .scenario("a sidecar is killed while it reads an image on demand", Needs::OwnNodes, |c| {
            Box::pin(signalled(c, Way::OnDemand, Signal::KILL))
        })
        .scenario("a sidecar is stopped while it reads an image that is named", Needs::OwnNodes, |c| {
            Box::pin(signalled(c, Way::Named, Signal::STOP))
        })
        .scenario("a sidecar is stopped while it reads an image on demand", Needs::OwnNodes, |c| {
            Box::pin(signalled(c, Way::OnDemand, Signal::STOP))
        })
        .scenario("a node without a sidecar, whose runtime still asks there first", Needs::OwnNodes, |c| {
            Box::pin(missing_sidecar(c))
        })
        .scenario("t073 every node that has an image has it wrong on its disk", Needs::OwnNodes, |c| {
            Box::pin(all_wrong(c))
        })
        .scenario("no tracker runs", Needs::OwnNodes, |c| Box::pin(no_trackers(c)))
        .scenario("the registry goes when one node has all of a named image", Needs::OwnNodes, |c| {
            Box::pin(registry_gone(c))
        })
        .scenario("a node's data root is full", Needs::OwnNodes, |c| Box::pin(full_disk(c)))
        .scenario("t101 containerd dies in the middle of pulls, and starts anew", Needs::OwnNodes, |c| {
            Box::pin(runtime_dies(c))
        })
        .scenario(
            "t099 an image that garbage collection took is Evicted, and pods there start",
            Needs::OwnNodes,
            |c| Box::pin(evicted(c)),
        )
        .run()
}

async fn install(cluster: &mut Cluster) -> Result<()> {
    let listed = start_registries(cluster).await?;
    let classes = json!([{
        "name": "default", "root": DATA_ROOT, "origin": { "plainHTTP": ["10.0.0.0/8"] },
        "images": { "enabled": true, "registries": [listed] },
    }]);
    let unless_bare = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{ "matchExpressions": [{ "key": BARE, "operator": "DoesNotExist" }] }],
    } } });
    let (classes, affinity) = (format!("classes={classes}"), format!("sidecar.affinity={unless_bare}"));
    installed::install(cluster, &["--set-json", &classes, "--set-json", &affinity]).await?;
    for node in cluster.nodes()? {
        wait_mirror(cluster, &node.name()).await?;
    }
    Ok(())
}

/// Ways of both kinds at a time.
async fn begin_both(cluster: &Cluster, name: &str, number: u64) -> Result<[Pull; 2]> {
    let [named, on_demand] = WAYS;
    let named = Pull::begin(cluster, name, named, number).await?;
    Ok([named, Pull::begin(cluster, name, on_demand, number + 1).await?])
}

async fn signalled(cluster: &mut Cluster, way: Way, signal: Signal) -> Result<()> {
    let (name, number) = if signal == Signal::KILL { ("killed", 10) } else { ("stopped", 12) };
    let pull = Pull::begin(cluster, name, way, number + u64::from(way == Way::OnDemand)).await?;
    let reader = pull.reader(cluster).await?;
    pull.underway(MIDDLE).await?;
    signal_sidecar(cluster, reader, signal)?;
    pull.end(cluster, NODES).await?;
    renew_sidecar(cluster, reader).await
}

async fn missing_sidecar(cluster: &mut Cluster) -> Result<()> {
    cluster.kubectl(&["label", "nodes", "node3", &format!("{BARE}=yes")]).await?;
    let node = &*cluster.node(3)?;
    eventually("node3 without a sidecar", Duration::from_mins(1), || async {
        Ok(node.pids_of(SIDECAR).is_empty())
    })
    .await?;
    let hosts = String::from_utf8(node.read("/etc/containerd/certs.d/_default/hosts.toml")?)?;
    ensure!(hosts.contains("127.0.0.1:6883"), "its runtime asks no mirror: {hosts}");
    for pull in begin_both(cluster, "missing", 20).await? {
        let copies = pull.end(cluster, NODES).await?;
        ensure!(copies <= 2.3, "{copies:.3} copies: one for the node itself, one for all others");
    }
    cluster.kubectl(&["label", "nodes", "node3", &format!("{BARE}-")]).await?;
    installed::wait_installed(cluster, NAMESPACE).await?;
    wait_answering(cluster.node(3)?).await
}

/// Two nodes get the images, and then their disks have other bytes, in every piece. All three start pods of them then.
async fn all_wrong(cluster: &mut Cluster) -> Result<()> {
    let first = json!({ FIRST: "yes" });
    cluster.kubectl(&["label", "nodes", "node1", "node2", &format!("{FIRST}=yes")]).await?;
    let named = Pull::push("wrong", Way::Named, 30).await?;
    named.distribute(cluster, &first).await?;
    let mut on_demand = Pull::push("wrong", Way::OnDemand, 31).await?;
    on_demand.start(cluster, &first).await?;
    installed::wait_ready(cluster, &named.name, Duration::from_mins(1)).await?;
    installed::wait_pods(cluster, &on_demand.name, 2, Duration::from_mins(1)).await?;
    for number in [1, 2] {
        for (folder, pull) in [("store", &named), ("demand", &on_demand)] {
            let spoilt = spoil(cluster.node(number)?, &format!("{DATA_ROOT}/{folder}"), pull)?;
            ensure!(spoilt == pull.layers.len(), "node{number} has {spoilt} layers below {folder}");
        }
    }
    cluster.kubectl(&["label", "nodes", "node3", &format!("{FIRST}=yes")]).await?;
    let mut pulls = [named, on_demand];
    for pull in &mut pulls {
        pull.start(cluster, &json!({})).await?;
    }
    for pull in pulls {
        pull.end(cluster, NODES).await?;
    }
    cluster.kubectl(&["label", "nodes", "--all", &format!("{FIRST}-")]).await.map(drop)
}

/// Writes other bytes into the files of an image's layers; answers how many there were.
fn spoil(node: &Node, folder: &str, pull: &Pull) -> Result<usize> {
    use std::os::unix::fs::FileExt as _;
    let mut files = Vec::new();
    walk(&node.path(folder)?, &mut files)?;
    let names = pull.layers.each_ref().map(|layer| layer.digest().replace("sha256:", ""));
    files.retain(|file| names.iter().any(|hex| file.to_string_lossy().contains(hex)));
    files.retain(|file| file.metadata().is_ok_and(|meta| pull.layers.iter().any(|l| l.size() == meta.len())));
    for file in &files {
        let open = std::fs::File::options().write(true).read(true).open(file)?;
        for at in (1000..open.metadata()?.len()).step_by(256 << 10) {
            let mut byte = [0];
            open.read_exact_at(&mut byte, at)?;
            open.write_all_at(&[!byte[0]], at)?;
        }
    }
    Ok(files.len())
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// The trackers' pods go, and no node takes new ones. The sidecars' and those of the test are of DaemonSets, which do not mind.
async fn no_trackers(cluster: &mut Cluster) -> Result<()> {
    cluster.kubectl(&["cordon", "node1", "node2", "node3"]).await?;
    let label = "app.kubernetes.io/component=tracker";
    cluster.kubectl(&["delete", "pods", "-n", NAMESPACE, "-l", label, "--grace-period=0", "--force"]).await?;
    let nodes = cluster.nodes()?;
    eventually("no tracker", Duration::from_secs(30), || async {
        Ok(nodes.iter().all(|node| node.pids_of("/samara-tracker").is_empty()))
    })
    .await?;
    for pull in begin_both(cluster, "no-trackers", 40).await? {
        pull.end(cluster, NODES).await?;
    }
    cluster.kubectl(&["uncordon", "node1", "node2", "node3"]).await?;
    installed::wait_installed(cluster, NAMESPACE).await
}

async fn registry_gone(cluster: &mut Cluster) -> Result<()> {
    let first = json!({ FIRST: "yes" });
    cluster.kubectl(&["label", "nodes", "node1", &format!("{FIRST}=yes")]).await?;
    let mut pull = Pull::push("gone", Way::Named, 50).await?;
    pull.distribute(cluster, &first).await?;
    installed::wait_ready(cluster, &pull.name, Duration::from_mins(1)).await?;
    let registry = Way::Named.registry()?;
    registry.cut(true).await?;
    let before = pull.sent().await?;
    cluster.kubectl(&["label", "nodes", "node2", "node3", &format!("{FIRST}=yes")]).await?;
    for number in [2, 3] {
        let blobs = format!("{DATA_ROOT}/datasets/{}/{}/blobs", installed::USERS, pull.name);
        let node = &*cluster.node(number)?;
        let there = || async { Ok(node.path(&blobs)?.exists()) };
        eventually(&format!("the image on node{number}"), Duration::from_mins(1), there).await?;
    }
    pull.start(cluster, &json!({})).await?;
    let sent = pull.sent().await? - before;
    ensure!(sent < MIB, "{sent} bytes came from a registry whose cable is out");
    let copies = pull.end(cluster, NODES).await?;
    registry.cut(false).await?;
    cluster.kubectl(&["label", "nodes", "--all", &format!("{FIRST}-")]).await?;
    ensure!(copies <= 1.0 + SMALL * 2.0, "{copies:.3} copies");
    Ok(())
}

async fn full_disk(cluster: &mut Cluster) -> Result<()> {
    fill(cluster.node(3)?).await?;
    let pulls = begin_both(cluster, "full", 60).await?;
    installed::wait_trouble(cluster, &pulls[0].name, &["DiskFull"], Duration::from_mins(1)).await?;
    for pull in pulls {
        let copies = pull.end(cluster, NODES).await?;
        ensure!(copies <= 2.3, "{copies:.3} copies: one for the full node, one for all others");
    }
    let free = format!("rm {DATA_ROOT}/not-ours-*");
    cluster.node(3)?.exec("sh", &["-c", &free]).await?.ok("rm").map(drop)
}

/// Leaves a few MiB free, also of what our own cache gives back when it sees that there is little.
async fn fill(node: &Node) -> Result<()> {
    let (mut files, mut quiet) = (0, 0);
    while quiet < 8 {
        let seen = rustix::fs::statvfs(node.path(DATA_ROOT)?)?;
        let free = seen.f_bavail * seen.f_frsize;
        quiet = if free > 8 * MIB { 0 } else { quiet + 1 };
        if quiet == 0 {
            files += 1;
            ensure!(files < 100, "there is ever more room: {free} bytes");
            let (most, file) = ((free - 2 * MIB).to_string(), format!("{DATA_ROOT}/not-ours-{files}"));
            node.exec("fallocate", &["--length", &most, &file]).await?.ok("fallocate")?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

async fn runtime_dies(cluster: &mut Cluster) -> Result<()> {
    let pulls = begin_both(cluster, "runtime", 70).await?;
    for pull in &pulls {
        pull.underway(MIDDLE).await?;
    }
    cluster.node(2)?.restart_runtime().await?;
    for pull in pulls {
        pull.end(cluster, NODES).await?;
    }
    wait_mirror(cluster, "node2").await
}

async fn evicted(cluster: &mut Cluster) -> Result<()> {
    let mut pull = Pull::push("evicted", Way::Named, 80).await?;
    let image = json!({ "reference": pull.reference, "materialize": "Image" });
    cluster.apply(installed::distribution(&pull.name, &json!({ "image": image }))).await?;
    installed::wait_ready(cluster, &pull.name, Duration::from_mins(1)).await?;
    // As the kubelet's garbage collection does it.
    cluster.node(2)?.runtime().await?.remove_image(&pull.reference).await?;
    installed::wait_trouble(cluster, &pull.name, &["ImageEvicted"], Duration::from_secs(30)).await?;
    let before = pull.sent().await?;
    pull.start(cluster, &json!({})).await?;
    installed::wait_pods(cluster, &pull.name, NODES, Duration::from_mins(1)).await?;
    let more = (pull.sent().await? - before) as f64 / SIZE as f64;
    eprintln!("evicted: {more:.3} x the image more from the registry, for the node that had lost it");
    ensure!(more <= 1.0 + SMALL * 2.0, "{more:.3} copies for one node");
    // The pod's pull ends the wait: the node has it again, and shares it.
    installed::wait_ready(cluster, &pull.name, Duration::from_mins(1)).await?;
    pull.end(cluster, NODES).await.map(drop)
}
