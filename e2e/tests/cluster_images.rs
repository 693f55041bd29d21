//! Images on a real cluster: from a registry to the container runtimes of all nodes, and pods that start from there.
//!
//! `-- --nodes N` is how many nodes; `SAMARA_E2E_MIB` how large the image of the first scenario is.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::cluster::Cluster;
use e2e::installed::{self, NAMESPACE, distribution, wait_ready};
use e2e::registry::{Layer, Registry, image_size};
use e2e::suite::{Needs, Suite, eventually};
use serde_json::json;

const MIB: usize = 1 << 20;
/// The registry's link.
const LINK: u64 = 16_000_000;
/// The image's size, where nobody says another.
const SIZE: usize = 128 * MIB;
/// Read once; frames and headers are counted too.
const ONCE: f64 = 1.05;
/// What requests, answers and manifests take.
const SMALL: u64 = 512 * 1024;

fn main() -> ExitCode {
    Suite::new("images", 3)
        .setup(|c| Box::pin(install(c)))
        .scenario(
            "an image is read once, is in all runtimes, and pods start without its registry",
            Needs::OwnNodes,
            |c| Box::pin(read_once(c)),
        )
        .scenario("layers that another image has are not read again", Needs::OwnNodes, |c| {
            Box::pin(shared_layers(c))
        })
        .scenario("blobs alone make a pull local", Needs::OwnNodes, |c| Box::pin(blobs_only(c)))
        .scenario(
            "a tag that stands for another image now gives that one to all nodes, pinned",
            Needs::OwnNodes,
            |c| Box::pin(moved_tag(c)),
        )
        .scenario("what was done to the hosts is undone at the end", Needs::OwnNodes, |c| Box::pin(undone(c)))
        .run()
}

async fn install(cluster: &mut Cluster) -> Result<()> {
    let classes = json!([{
        "name": "default", "root": e2e::cluster::DATA_ROOT,
        "origin": { "plainHTTP": ["10.0.0.0/8"] }, "images": { "enabled": true },
    }]);
    installed::install(cluster, &["--set-json", &format!("classes={classes}")]).await
}

async fn distribute(cluster: &Cluster, name: &str, image: serde_json::Value) -> Result<()> {
    cluster.apply(distribution(name, &json!({ "image": image }))).await?;
    eventually(&format!("{name} as it was applied"), Duration::from_mins(1), || async {
        let now = installed::get(cluster, name).await?;
        let seen = now.status.and_then(|status| status.observed_generation);
        Ok(seen == now.metadata.generation)
    })
    .await?;
    wait_ready(cluster, name, Duration::from_mins(10)).await
}

async fn read_once(cluster: &mut Cluster) -> Result<()> {
    let registry = cluster.registry().await?;
    let fifth = image_size(SIZE)? / 5;
    let noise = |seed| Layer::noise(seed, fifth);
    let layers = [Layer::other_program(10, fifth)?, noise(11)?, noise(12)?, noise(13)?, noise(14)?];
    let size: usize = layers.iter().map(|layer| layer.0.len()).sum();
    let reference = registry.push("team/app", "v1", &layers).await?.reference;
    registry.limit(Some(LINK)).await?;

    let (before, start) = (registry.traffic().await?.sent, Instant::now());
    distribute(cluster, "app", json!({ "reference": reference })).await?;
    let seconds = start.elapsed().as_secs_f64();
    let sent = registry.traffic().await?.sent - before;
    let (copies, ideal) = (sent as f64 / size as f64, size as f64 / LINK as f64);
    eprintln!(
        "{} MiB, {} nodes: {seconds:.1} s, over the link alone {ideal:.1} s; the registry sent {copies:.3} x the size",
        size / MIB,
        cluster.nodes()?.len()
    );
    ensure!(copies <= ONCE, "the registry sent {copies:.3} x the size");
    for node in cluster.nodes()? {
        let images =
            node.exec("ctr", &["--namespace", "k8s.io", "images", "list", "--quiet"]).await?.ok("ctr")?;
        ensure!(images.lines().any(|name| name == reference), "{} has only {images}", node.name());
        let leases =
            node.exec("ctr", &["--namespace", "k8s.io", "leases", "list", "--quiet"]).await?.ok("ctr")?;
        ensure!(leases.contains("samara."), "{} has the leases {leases}", node.name());
    }
    starts_everywhere(cluster, &registry, "app", &reference).await
}

/// A DaemonSet of the image is up, and its registry has not been asked for more than a manifest.
async fn starts_everywhere(
    cluster: &Cluster,
    registry: &Registry,
    name: &str,
    reference: &str,
) -> Result<()> {
    let before = registry.traffic().await?.sent;
    let took = installed::run_everywhere(cluster, name, reference).await?;
    let sent = registry.traffic().await?.sent - before;
    eprintln!(
        "{name}: pods on all nodes {:.1} s after they were applied, {sent} bytes from the registry",
        took.as_secs_f64()
    );
    ensure!(sent <= SMALL, "the registry sent {sent} bytes for pods of an image that is on their nodes");
    Ok(())
}

async fn shared_layers(cluster: &mut Cluster) -> Result<()> {
    let registry = cluster.registry().await?;
    let (base, own) = (Layer::noise(3, 24 * MIB)?, Layer::noise(4, 8 * MIB)?);
    let first = registry.push("team/one", "v1", &[Layer::program()?, base.clone()]).await?;
    let second = registry.push("team/two", "v1", &[Layer::program()?, base, own.clone()]).await?;
    distribute(cluster, "one", json!({ "reference": first.reference })).await?;
    let before = registry.traffic().await?.sent;
    distribute(cluster, "two", json!({ "reference": second.reference })).await?;
    let sent = registry.traffic().await?.sent - before;
    ensure!(
        sent <= own.0.len() as u64 * 11 / 10 + SMALL,
        "the registry sent {sent} bytes for one new layer of 8 MiB"
    );
    for node in cluster.nodes()? {
        let report = installed::node_report(cluster, &node.name()).await?;
        let status = report.and_then(|report| report.status).unwrap_or_default();
        let revision = installed::revision(cluster, "two").await?;
        let entry = status.revisions.into_iter().find(|entry| entry.revision == revision);
        let moved = entry.map_or(u64::MAX, |entry| (entry.peer_bytes + entry.origin_bytes) as u64);
        ensure!(
            moved <= own.0.len() as u64 + SMALL,
            "{}: {moved} bytes moved for one new layer of 8 MiB",
            node.name()
        );
        let mirrored = status.conditions.iter().any(|c| c.type_ == "ImageMirrorReady" && c.status == "True");
        ensure!(mirrored, "{}: {:?}", node.name(), status.conditions);
    }
    Ok(())
}

async fn blobs_only(cluster: &mut Cluster) -> Result<()> {
    let registry = cluster.registry().await?;
    let reference =
        registry.push("team/blobs", "v1", &[Layer::program()?, Layer::noise(5, 16 * MIB)?]).await?.reference;
    distribute(cluster, "blobs", json!({ "reference": reference, "materialize": "Blobs" })).await?;
    for node in cluster.nodes()? {
        let images =
            node.exec("ctr", &["--namespace", "k8s.io", "images", "list", "--quiet"]).await?.ok("ctr")?;
        ensure!(!images.contains("team/blobs"), "{} has pulled what was to lie there only", node.name());
    }
    starts_everywhere(cluster, &registry, "blobs", &reference).await
}

async fn moved_tag(cluster: &mut Cluster) -> Result<()> {
    let registry = cluster.registry().await?;
    let old = registry.push("team/moving", "v1", &[Layer::program()?, Layer::noise(6, MIB)?]).await?;
    distribute(cluster, "moving", json!({ "reference": old.reference })).await?;
    let new = registry.push("team/moving", "v1", &[Layer::program()?, Layer::noise(7, MIB)?]).await?;
    // With the tag as pods name it, then with the digest as well.
    for (reference, name) in [
        (new.reference.clone(), new.reference.clone()),
        (
            format!("{}@{}", new.reference, new.digest),
            format!("{}/team/moving@{}", registry.host, new.digest),
        ),
    ] {
        distribute(cluster, "moving", json!({ "reference": reference, "pin": true })).await?;
        for node in cluster.nodes()? {
            let listed = ["--namespace", "k8s.io", "images", "list", &format!("name=={name}")];
            let listed = node.exec("ctr", &listed).await?.ok("ctr")?;
            ensure!(
                listed.contains(&new.digest) && listed.contains("io.cri-containerd.pinned=pinned"),
                "{}, {name}: {listed}",
                node.name()
            );
        }
    }
    Ok(())
}

async fn undone(cluster: &mut Cluster) -> Result<()> {
    cluster.helm(&["uninstall", installed::RELEASE, "--namespace", NAMESPACE, "--wait"]).await?;
    for node in cluster.nodes()? {
        let place = node.path("/etc/containerd/certs.d")?;
        eventually(&format!("{}: hosts files as they were", node.name()), Duration::from_mins(1), || async {
            let left = std::fs::read_dir(&place)?
                .flatten()
                .map(|entry| entry.file_name())
                .filter(|name| name != ".keep");
            Ok(left.count() == 0)
        })
        .await?;
        let leases =
            node.exec("ctr", &["--namespace", "k8s.io", "leases", "list", "--quiet"]).await?.ok("ctr")?;
        ensure!(!leases.contains("samara."), "{} still has the leases {leases}", node.name());
    }
    Ok(())
}
