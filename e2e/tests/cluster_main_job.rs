//! The main job on a real cluster: install, apply, wait, and every node has the bytes that the origin gave once.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use e2e::cluster::{Cluster, DATA_ROOT};
use e2e::installed::{self, NAMESPACE, check_all, check_node, dataset, wait_ready};
use e2e::suite::{Needs, Suite, eventually};

const MIB: u64 = 1 << 20;
/// The origin's link.
const LINK: u64 = 16_000_000;
const PAYLOAD: u64 = 256 * MIB;

fn main() -> ExitCode {
    Suite::new("main job", 3)
        .setup(|c| Box::pin(installed::install(c, &[])))
        .scenario("the same bytes on all nodes, read from the origin once", Needs::OwnNodes, |c| {
            Box::pin(same_bytes(c))
        })
        .scenario("a node that joins later gets them from peers", Needs::OwnNodes, |c| {
            Box::pin(joins_later(c))
        })
        .scenario("a node whose data was deleted gets them again", Needs::OwnNodes, |c| {
            Box::pin(deleted_data(c))
        })
        .scenario("deletion frees disks, trackers and the name", Needs::OwnNodes, |c| Box::pin(deletion(c)))
        .scenario("deletion does not wait for a dead origin and a dead node", Needs::OwnNodes, |c| {
            Box::pin(deletion_among_the_dead(c))
        })
        .run()
}

async fn same_bytes(cluster: &mut Cluster) -> Result<()> {
    let origin = cluster.origin(Some(LINK)).await?;
    let sha256 = origin.put_random("/model.bin", 1, PAYLOAD).await?;
    let plain = origin.plain_get("/model.bin").await?;
    origin.reset().await?;

    let start = Instant::now();
    cluster.apply(dataset("model", &[("weights/model.bin", origin.url("/model.bin"))])).await?;
    wait_ready(cluster, "model", Duration::from_mins(3)).await?;
    let seconds = start.elapsed().as_secs_f64();
    check_all(cluster, ("model", "weights/model.bin"), &sha256).await?;

    let given = origin.stats().await?.payload_bytes;
    let (time, bytes) = (seconds / plain, given as f64 / PAYLOAD as f64);
    eprintln!(
        "256 MiB, {} nodes: {seconds:.1} s, one plain GET {plain:.1} s, ratio {time:.2}; origin bytes / size {bytes:.3}",
        cluster.nodes()?.len()
    );
    assert!(bytes <= 1.05, "the origin served {bytes:.3} x the size");
    assert!(time <= 1.6, "{time:.2} x one plain GET");
    Ok(())
}

async fn joins_later(cluster: &mut Cluster) -> Result<()> {
    let mut origin = cluster.origin(None).await?;
    let sha256 = origin.put_random("/late.bin", 2, 64 * MIB).await?;
    cluster.apply(dataset("late", &[("late.bin", origin.url("/late.bin"))])).await?;
    wait_ready(cluster, "late", Duration::from_mins(2)).await?;
    // An origin that is gone can give nothing.
    origin.stop_server();

    let number = cluster.add_node().await?;
    let path = installed::published("late", "late.bin");
    let node = &*cluster.node(number)?;
    eventually("the dataset on the node that joined", Duration::from_mins(3), || async {
        Ok(node.path(&path).is_ok_and(|file| file.exists()))
    })
    .await?;
    check_node(cluster, number, ("late", "late.bin"), &sha256).await?;
    cluster.delete_node(number).await
}

async fn deleted_data(cluster: &mut Cluster) -> Result<()> {
    let mut origin = cluster.origin(None).await?;
    let sha256 = origin.put_random("/again.bin", 3, 64 * MIB).await?;
    cluster.apply(dataset("again", &[("again.bin", origin.url("/again.bin"))])).await?;
    wait_ready(cluster, "again", Duration::from_mins(2)).await?;
    origin.stop_server();

    let revision = installed::revision(cluster, "again").await?;
    let node = &*cluster.node(2)?;
    node.exec("rm", &["-rf", &format!("{DATA_ROOT}/store/{revision}")]).await?.ok("rm")?;
    let path = installed::published("again", "again.bin");
    eventually("the dataset on node2 again", Duration::from_mins(2), || async {
        Ok(node.path(&path).is_ok_and(|file| file.exists()))
    })
    .await?;
    check_node(cluster, 2, ("again", "again.bin"), &sha256).await
}

async fn deletion(cluster: &mut Cluster) -> Result<()> {
    let origin = cluster.origin(None).await?;
    origin.put_random("/gone.bin", 4, 64 * MIB).await?;
    cluster.apply(dataset("gone", &[("gone.bin", origin.url("/gone.bin"))])).await?;
    wait_ready(cluster, "gone", Duration::from_mins(2)).await?;
    let revision = installed::revision(cluster, "gone").await?;

    installed::delete(cluster, "gone", Duration::from_secs(30)).await?;
    for node in cluster.nodes()? {
        let left = node.disk_usage(format!("{DATA_ROOT}/store/{revision}")).await?;
        assert_eq!(left, 0, "{} still holds {left} bytes", node.name());
        assert!(!node.path(installed::published("gone", ""))?.exists(), "{} still has the link", node.name());
    }
    assert_unknown_to_trackers(cluster, &revision).await
}

async fn deletion_among_the_dead(cluster: &mut Cluster) -> Result<()> {
    let mut origin = cluster.origin(Some(LINK)).await?;
    origin.put_random("/dead.bin", 5, 64 * MIB).await?;
    cluster.apply(dataset("dead", &[("dead.bin", origin.url("/dead.bin"))])).await?;
    wait_ready(cluster, "dead", Duration::from_mins(2)).await?;
    let revision = installed::revision(cluster, "dead").await?;

    origin.stop_server();
    let dead = installed::without_operator(cluster, NAMESPACE).await?;
    cluster.node(dead)?.kill()?;
    installed::delete(cluster, "dead", Duration::from_secs(30)).await?;
    for number in (1..=3).filter(|number| *number != dead) {
        let left = cluster.node(number)?.disk_usage(format!("{DATA_ROOT}/store/{revision}")).await?;
        assert_eq!(left, 0, "node{number} still holds {left} bytes");
    }
    cluster.start_node(dead).await?;
    let node = &*cluster.node(dead)?;
    eventually("the disk of the node that was away", Duration::from_mins(2), || async {
        Ok(node.disk_usage(format!("{DATA_ROOT}/store/{revision}")).await? == 0)
    })
    .await
}

/// No tracker lists a swarm of `revision`.
async fn assert_unknown_to_trackers(cluster: &mut Cluster, revision: &str) -> Result<()> {
    let trackers = installed::tracker_swarms(cluster, NAMESPACE).await?;
    assert_eq!(trackers.len(), 2, "trackers that answer");
    for (tracker, swarms) in trackers {
        assert!(!swarms.contains(revision), "{tracker} still has {revision}: {swarms}");
    }
    Ok(())
}
