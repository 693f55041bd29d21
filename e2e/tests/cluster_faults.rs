//! What breaks while bytes move: sidecars, trackers, the operator, fetchers, nodes. Nothing is lost but time.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::cluster::{Cluster, DATA_ROOT};
use e2e::installed::{
    self, NAMESPACE, SIDECAR, check_all, check_node, dataset, signal_sidecar, wait_ready, wait_transfer,
};
use e2e::origin::Origin;
use e2e::suite::{Needs, Suite, eventually};
use rustix::process::Signal;
use tracker_api::SwarmReport;

const MIB: u64 = 1 << 20;
/// Slow enough for a fault to hit the middle of a transfer.
const LINK: u64 = 8_000_000;
const PAYLOAD: u64 = 96 * MIB;
/// What one node may receive from its peers in the scenarios that cut into the exchange between peers.
const NODE_LINK: u64 = 8_000_000;

fn main() -> ExitCode {
    Suite::new("faults", 3)
        .setup(|c| Box::pin(installed::install(c, &[])))
        .scenario("a fetcher that is killed goes on where its disk is", Needs::OwnNodes, |c| {
            Box::pin(killed_fetcher(c))
        })
        .scenario("a leecher that is killed goes on where its disk is", Needs::OwnNodes, |c| {
            Box::pin(killed_leecher(c))
        })
        .scenario("a stopped sidecar is restarted by its probe", Needs::OwnNodes, |c| Box::pin(stopped(c)))
        .scenario(
            "trackers and operator deleted in mid-transfer change nothing but time",
            Needs::OwnNodes,
            |c| Box::pin(deleted_pods(c)),
        )
        .scenario(
            "a tracker's node is drained and another's dies, and one tracker always knows everybody",
            Needs::OwnNodes,
            |c| Box::pin(lost_trackers(c)),
        )
        .scenario("another node fetches when the fetching node dies", Needs::OwnNodes, |c| {
            Box::pin(dead_fetcher(c))
        })
        .scenario("one dead node does not keep Ready from the rest", Needs::OwnNodes, |c| {
            Box::pin(dead_node(c))
        })
        .run()
}

/// A dataset of `PAYLOAD` bytes behind a slow link, applied.
async fn apply_slow(cluster: &mut Cluster, name: &str, seed: u64) -> Result<(Origin, String)> {
    let origin = cluster.origin(Some(LINK)).await?;
    let sha256 = origin.put_random("/payload", seed, PAYLOAD).await?;
    cluster.apply(dataset(name, &[("payload", origin.url("/payload"))])).await?;
    Ok((origin, sha256))
}

/// The number of the node that was elected to fetch.
async fn fetcher(cluster: &Cluster, name: &str) -> Result<usize> {
    let api: kube::Api<crds::DistributionRevision> = kube::Api::all(cluster.kube());
    let elected = e2e::cluster::until("an elected fetcher", Duration::from_secs(30), || async {
        let revision = match installed::revision(cluster, name).await {
            Ok(revision) => api.get_opt(&revision).await?,
            Err(_) => None,
        };
        Ok(revision.and_then(|revision| revision.spec.policy.fetchers.first().cloned()))
    })
    .await?;
    elected.trim_start_matches("node").parse().with_context(|| format!("not a node of ours: {elected}"))
}

async fn killed_fetcher(cluster: &mut Cluster) -> Result<()> {
    let (origin, sha256) = apply_slow(cluster, "killed-fetcher", 11).await?;
    let number = fetcher(cluster, "killed-fetcher").await?;
    wait_transfer(cluster, number, 32 * MIB, Duration::from_mins(1)).await?;
    signal_sidecar(cluster, number, Signal::KILL)?;

    wait_ready(cluster, "killed-fetcher", Duration::from_mins(3)).await?;
    check_all(cluster, ("killed-fetcher", "payload"), &sha256).await?;
    // What was not durable is at most what one second and the connection's buffers held.
    let given = origin.stats().await?.payload_bytes;
    assert!(given <= PAYLOAD + 3 * LINK, "the origin served {given} bytes for {PAYLOAD}");
    Ok(())
}

async fn killed_leecher(cluster: &mut Cluster) -> Result<()> {
    cluster.node(3)?.limit_bandwidth(None, Some(NODE_LINK)).await?;
    let origin = cluster.origin(None).await?;
    let sha256 = origin.put_random("/payload", 12, PAYLOAD).await?;
    let mut dataset = dataset("killed-leecher", &[("payload", origin.url("/payload"))]);
    // Node 3 is not to be the fetcher: it joins when the others have it.
    dataset["spec"]["placement"]["nodeSelector"]["e2e"] = "leecher".into();
    cluster.kubectl(&["label", "nodes", "node1", "node2", "e2e=leecher"]).await?;
    cluster.apply(dataset).await?;
    wait_ready(cluster, "killed-leecher", Duration::from_mins(2)).await?;
    cluster.kubectl(&["label", "nodes", "node3", "e2e=leecher"]).await?;

    wait_transfer(cluster, 3, 40 * MIB, Duration::from_mins(1)).await?;
    signal_sidecar(cluster, 3, Signal::KILL)?;
    let before = cluster.node(3)?.network().traffic().await?.received;
    let path = installed::published("killed-leecher", "payload");
    let node = &*cluster.node(3)?;
    eventually("the dataset on node3", Duration::from_mins(3), || async {
        Ok(node.path(&path).is_ok_and(|file| file.exists()))
    })
    .await?;
    let after = cluster.node(3)?.network().traffic().await?.received - before;
    check_node(cluster, 3, ("killed-leecher", "payload"), &sha256).await?;
    cluster.node(3)?.limit_bandwidth(None, None).await?;
    cluster.kubectl(&["label", "nodes", "--all", "e2e-"]).await?;
    // 40 MiB were on disk; a second's worth may not have been durable, and frames and status cost a little.
    let most = PAYLOAD - 40 * MIB + 3 * NODE_LINK;
    assert!(after <= most, "{after} bytes came in after the kill, at most {most} were missing");
    Ok(())
}

async fn stopped(cluster: &mut Cluster) -> Result<()> {
    let before = cluster.node(2)?.pids_of(SIDECAR);
    signal_sidecar(cluster, 2, Signal::STOP)?;
    let node = &*cluster.node(2)?;
    eventually("another sidecar process on node2", Duration::from_mins(2), || async {
        let now = node.pids_of(SIDECAR);
        Ok(!now.is_empty() && now.iter().all(|pid| !before.contains(pid)))
    })
    .await?;
    installed::wait_installed(cluster, NAMESPACE).await
}

async fn deleted_pods(cluster: &mut Cluster) -> Result<()> {
    let (origin, sha256) = apply_slow(cluster, "deleted-pods", 13).await?;
    let number = fetcher(cluster, "deleted-pods").await?;
    wait_transfer(cluster, number, 16 * MIB, Duration::from_mins(1)).await?;
    for component in ["tracker", "operator"] {
        let label = format!("app.kubernetes.io/component={component}");
        cluster
            .kubectl(&["delete", "pods", "-n", NAMESPACE, "-l", &label, "--grace-period=0", "--force"])
            .await?;
    }
    wait_ready(cluster, "deleted-pods", Duration::from_mins(3)).await?;
    check_all(cluster, ("deleted-pods", "payload"), &sha256).await?;
    let given = origin.stats().await?.payload_bytes;
    assert!(given <= PAYLOAD + PAYLOAD / 20, "the origin served {given} bytes for {PAYLOAD}");
    installed::wait_installed(cluster, NAMESPACE).await
}

/// Trackers move from a node that is drained and from one that has died; the sidecars' announces are answered all the time.
async fn lost_trackers(cluster: &mut Cluster) -> Result<()> {
    let origin = cluster.origin(None).await?;
    let sha256 = origin.put_random("/payload", 17, 32 * MIB).await?;
    cluster.apply(dataset("lost-trackers", &[("payload", origin.url("/payload"))])).await?;
    wait_ready(cluster, "lost-trackers", Duration::from_mins(2)).await?;
    let known = known_by_trackers(cluster).await?;
    assert!(known.len() == 2 && known.iter().all(|nodes| nodes.len() == 3), "{known:?}");
    for number in 1..=3 {
        for pid in cluster.node(number)?.pids_of("/samara-tracker") {
            let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
            let ids = status.lines().find(|line| line.starts_with("Uid:")).unwrap_or_default();
            assert!(ids.split_whitespace().skip(1).all(|id| id == "65532"), "a tracker runs as {ids}");
        }
    }

    // The one whose node is drained starts anew elsewhere, and copies the other before it is ready.
    let drained = tracker_node(cluster, 0).await?;
    let node = format!("node{drained}");
    let flags = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s"];
    cluster.kubectl(&[&["drain", &node], &flags[..]].concat()).await?;
    for _ in 0..20 {
        let known = known_by_trackers(cluster).await?;
        assert!(known.iter().any(|nodes| nodes.len() == 3), "no tracker knows all nodes: {known:?}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    installed::wait_installed(cluster, NAMESPACE).await?;
    eventually("both trackers that know all nodes", Duration::from_mins(1), || async {
        Ok(known_by_trackers(cluster).await?.iter().filter(|nodes| nodes.len() == 3).count() == 2)
    })
    .await?;
    cluster.kubectl(&["uncordon", &node]).await?;

    // The other's node dies without a word. Node 1 is asked from, so it stays.
    let dead = tracker_node(cluster, 1).await?;
    if dead != 1 {
        cluster.node(dead)?.kill()?;
        for _ in 0..20 {
            let known = known_by_trackers(cluster).await?;
            assert!(
                known.iter().any(|nodes| nodes.len() >= 2),
                "no tracker knows the nodes that live: {known:?}"
            );
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        cluster.start_node(dead).await?;
    }
    installed::wait_installed(cluster, NAMESPACE).await?;
    check_all(cluster, ("lost-trackers", "payload"), &sha256).await
}

/// The nodes that each tracker knows as peers of any swarm; of one that does not answer, none.
async fn known_by_trackers(cluster: &Cluster) -> Result<Vec<BTreeSet<String>>> {
    let header = installed::tracker_header(cluster, NAMESPACE).await?;
    let node = cluster.nodes()?.first().context("a cluster has a node")?;
    let mut known = Vec::new();
    for url in installed::tracker_urls(cluster).await? {
        let url = format!("{url}/v1/swarms");
        let curl = ["--silent", "--fail", "--max-time", "2", "--header", &header, &url];
        let answer = node.exec("curl", &curl).await?;
        let reports: Vec<SwarmReport> = serde_json::from_str(&answer.stdout).unwrap_or_default();
        let peers = reports.into_iter().flat_map(|report| report.peers);
        known.push(peers.filter_map(|peer| peer.node).collect());
    }
    Ok(known)
}

/// The number of the node that a tracker runs on.
async fn tracker_node(cluster: &Cluster, number: usize) -> Result<usize> {
    let label = format!("app.kubernetes.io/instance=samara-tracker-default-{number}");
    let path = "-o=jsonpath={.items[0].spec.nodeName}";
    let node = cluster.kubectl(&["get", "pods", "-n", NAMESPACE, "-l", &label, path]).await?;
    node.trim_start_matches("node").parse().with_context(|| format!("not a node of ours: {node}"))
}

async fn dead_fetcher(cluster: &mut Cluster) -> Result<()> {
    let (_origin, sha256) = apply_slow(cluster, "dead-fetcher", 14).await?;
    let dead = fetcher(cluster, "dead-fetcher").await?;
    wait_transfer(cluster, dead, 16 * MIB, Duration::from_mins(1)).await?;
    cluster.node(dead)?.kill()?;

    let alive: Vec<_> = (1..=3).filter(|number| *number != dead).collect();
    for number in &alive {
        let path = installed::published("dead-fetcher", "payload");
        let node = &*cluster.node(*number)?;
        eventually("the dataset on a node that lives", Duration::from_mins(4), || async {
            Ok(node.path(&path).is_ok_and(|file| file.exists()))
        })
        .await?;
        check_node(cluster, *number, ("dead-fetcher", "payload"), &sha256).await?;
    }
    cluster.start_node(dead).await?;
    installed::wait_installed(cluster, NAMESPACE).await?;
    wait_ready(cluster, "dead-fetcher", Duration::from_mins(3)).await?;
    check_all(cluster, ("dead-fetcher", "payload"), &sha256).await
}

async fn dead_node(cluster: &mut Cluster) -> Result<()> {
    cluster.node(3)?.kill()?;
    cluster.wait_node("node3", false).await?;
    let origin = cluster.origin(None).await?;
    let sha256 = origin.put_random("/payload", 15, 32 * MIB).await?;
    cluster.apply(dataset("dead-node", &[("payload", origin.url("/payload"))])).await?;
    wait_ready(cluster, "dead-node", Duration::from_mins(4)).await?;
    for number in [1, 2] {
        check_node(cluster, number, ("dead-node", "payload"), &sha256).await?;
    }
    let nodes = installed::get(cluster, "dead-node").await?.status.and_then(|status| status.nodes);
    assert_eq!(nodes.map(|nodes| (nodes.ready, nodes.unreachable)), Some((2, 1)));

    cluster.start_node(3).await?;
    let path = installed::published("dead-node", "payload");
    let node = &*cluster.node(3)?;
    eventually("the dataset on the node that came back", Duration::from_mins(3), || async {
        Ok(node.path(&path).is_ok_and(|file| file.exists()))
    })
    .await?;
    let left = cluster.node(3)?.disk_usage(format!("{DATA_ROOT}/incoming")).await?;
    assert!(left < MIB, "{left} bytes lie in incoming/");
    check_node(cluster, 3, ("dead-node", "payload"), &sha256).await
}
