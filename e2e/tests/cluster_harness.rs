//! The harness itself: nodes, pods, DNS, faults and that nothing of it stays behind.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;
use e2e::cluster::process::output;
use e2e::cluster::{Cluster, TOOLBOX, leftovers};
use e2e::origin::{Content, Faults};
use e2e::suite::{Needs, Suite, eventually};
use serde_json::json;

fn main() -> ExitCode {
    Suite::new("harness", 3)
        .data_disk(64 << 20)
        .scenario("a DaemonSet with a hostPath runs on every node", Needs::OwnNodes, |c| {
            Box::pin(daemon_set(c))
        })
        .scenario("a Service has a name and an address from pods and nodes", Needs::OwnNodes, |c| {
            Box::pin(service(c))
        })
        .scenario("a node's disk is its own and has the size asked for", Needs::OwnNodes, |c| {
            Box::pin(disk(c))
        })
        .scenario("an origin counts, limits and fails as told", Needs::OwnNodes, |c| Box::pin(origin(c)))
        .scenario("a killed node is NotReady and comes back", Needs::OwnNodes, |c| Box::pin(kill(c)))
        .scenario("a node joins, and one is deleted", Needs::OwnNodes, |c| Box::pin(join_and_delete(c)))
        .scenario("a killed harness leaves nothing for the next", Needs::OwnNodes, |c| {
            Box::pin(killed_harness(c))
        })
        .run()
}

async fn daemon_set(cluster: &mut Cluster) -> Result<()> {
    let container = json!({
        "name": "writer", "image": TOOLBOX, "imagePullPolicy": "Never",
        "args": ["write", "/data/hello", "hello from a pod"],
        "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
    });
    cluster
        .apply(json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "writer", "namespace": "default" },
            "spec": {
                "selector": { "matchLabels": { "app": "writer" } },
                "template": {
                    "metadata": { "labels": { "app": "writer" } },
                    "spec": {
                        "containers": [container], "terminationGracePeriodSeconds": 1,
                        "tolerations": [{ "operator": "Exists" }],
                        "volumes": [{ "name": "data", "hostPath": { "path": "/var/lib/samara", "type": "Directory" } }],
                    },
                },
            },
        }))
        .await?;
    cluster.kubectl(&["rollout", "status", "daemonset/writer", "--timeout=60s"]).await?;
    for number in 1..=3 {
        let node = cluster.node(number)?;
        eventually("the pod's file", Duration::from_secs(10), || async {
            Ok(node.read("/var/lib/samara/hello").is_ok_and(|text| text == b"hello from a pod"))
        })
        .await?;
    }
    Ok(())
}

fn pod(name: &str, args: &[&str], host_network: bool) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "labels": { "app": name } },
        "spec": {
            "hostNetwork": host_network,
            "dnsPolicy": if host_network { "ClusterFirstWithHostNet" } else { "ClusterFirst" },
            "restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 1,
            "containers": [{ "name": "main", "image": TOOLBOX, "imagePullPolicy": "Never", "args": args }],
        },
    })
}

async fn service(cluster: &mut Cluster) -> Result<()> {
    cluster.apply(pod("web", &["serve", ":8080", "hello from a service"], false)).await?;
    cluster
        .apply(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "default" },
            "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
        }))
        .await?;
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]).await?;
    for (name, host_network) in [("from-pod", false), ("from-node", true)] {
        cluster.apply(pod(name, &["get", "http://web.default.svc.cluster.local/"], host_network)).await?;
        cluster
            .kubectl(&[
                "wait",
                "--for=jsonpath={.status.phase}=Succeeded",
                &format!("pod/{name}"),
                "--timeout=60s",
            ])
            .await?;
        assert_eq!(cluster.kubectl(&["logs", name]).await?, "hello from a service");
    }
    assert_eq!(
        cluster
            .kubectl(&["exec", "web", "--", "/toolbox", "lookup", "web.default.svc.cluster.local"])
            .await?
            .trim(),
        cluster.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]).await?,
    );
    cluster.kubectl(&["delete", "pod", "web", "from-pod", "from-node", "--timeout=60s"]).await.map(drop)
}

async fn disk(cluster: &mut Cluster) -> Result<()> {
    let node = cluster.node(1)?;
    let full = node.exec("dd", &["if=/dev/zero", "of=/var/lib/samara/big", "bs=1M", "count=100"]).await?;
    assert!(!full.success && full.stderr.contains("No space left"), "{full:?}");
    let used = node.disk_usage("/var/lib/samara/big").await?;
    assert!((32 << 20..64 << 20).contains(&used), "{used}");
    assert!(cluster.node(2)?.read("/var/lib/samara/big").is_err(), "node2 sees node1's disk");
    cluster.node(1)?.exec("rm", &["/var/lib/samara/big"]).await?.ok("rm").map(drop)
}

async fn origin(cluster: &mut Cluster) -> Result<()> {
    const SIZE: u64 = 8 << 20;
    let origin = cluster.origin(Some(4 << 20)).await?;
    let digest = origin.put_random("a b/ü", 1, SIZE).await?;
    let url = origin.url("a%20b/%C3%BC");
    let seconds = origin.plain_get("a%20b/%C3%BC").await?;
    assert!((1.5..4.0).contains(&seconds), "8 MiB at 4 MiB/s took {seconds} s");
    let stats = origin.stats().await?;
    assert_eq!((stats.requests, stats.payload_bytes), (1, SIZE));

    origin.limit(None).await?;
    let node = cluster.node(2)?;
    let fetch = format!("curl -sf --max-time 20 -o /var/lib/samara/f '{url}'");
    node.exec("sh", &["-c", &fetch]).await?.ok("fetch")?;
    assert_eq!(node.sha256("/var/lib/samara/f").await?, digest);
    origin.fault(Faults { wrong_byte_at: Some(1000), ..Faults::default() }).await?;
    node.exec("sh", &["-c", &fetch]).await?.ok("fetch")?;
    assert_ne!(node.sha256("/var/lib/samara/f").await?, digest);
    for faults in [
        Faults { status: Some(404), ..Faults::default() },
        Faults { drop_after: Some(1 << 20), ..Faults::default() },
        Faults { length_off_by: 5, drop_after: Some(SIZE), ..Faults::default() },
    ] {
        origin.fault(faults.clone()).await?;
        assert!(!node.exec("sh", &["-c", &fetch]).await?.success, "{faults:?}");
    }
    origin.fault(Faults::default()).await?;
    origin.put("small", Content::Bytes(b"0123456789".to_vec())).await?;
    let range = format!("curl -sf -r 2-4 '{}'", origin.url("small"));
    assert_eq!(node.exec("sh", &["-c", &range]).await?.ok("range")?, "234");
    node.exec("rm", &["/var/lib/samara/f"]).await?.ok("rm").map(drop)
}

async fn kill(cluster: &mut Cluster) -> Result<()> {
    cluster.node(3)?.kill()?;
    cluster.wait_node("node3", false).await?;
    cluster.start_node(3).await?;
    assert_eq!(cluster.node(3)?.read("/var/lib/samara/hello")?, b"hello from a pod");
    // Without its network it is NotReady too, though it runs.
    cluster.node(3)?.cut_network(true).await?;
    cluster.wait_node("node3", false).await?;
    cluster.node(3)?.cut_network(false).await?;
    cluster.wait_node("node3", true).await
}

async fn join_and_delete(cluster: &mut Cluster) -> Result<()> {
    let number = cluster.add_node().await?;
    assert_eq!(number, 4);
    let node = cluster.node(number)?;
    eventually("the DaemonSet's pod on the new node", Duration::from_secs(30), || async {
        Ok(node.read("/var/lib/samara/hello").is_ok())
    })
    .await?;
    cluster.delete_node(number).await?;
    assert!(!cluster.kubectl(&["get", "nodes"]).await?.contains("node4"));
    Ok(())
}

/// The slot of a second cluster beside the suite's own.
const OTHER_SLOT: &str = "7";

/// `e2e-cluster up` in [`OTHER_SLOT`], in a process that can be killed.
fn second_harness() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_e2e-cluster"));
    command.args(["up", "--nodes", "1"]).env("SAMARA_E2E_SLOT", OTHER_SLOT);
    command
}

async fn killed_harness(_: &mut Cluster) -> Result<()> {
    let slot = OTHER_SLOT.parse()?;
    assert_eq!(leftovers(slot)?, Vec::<String>::new());
    let mut first = second_harness().spawn()?;
    eventually("the first node's runtime", Duration::from_mins(1), || async {
        let found = leftovers(slot)?;
        Ok(found.iter().any(|line| line.starts_with("control group")))
    })
    .await?;
    first.kill()?;
    first.wait()?;
    assert!(leftovers(slot)?.len() > 4, "the kill came too late or found nothing: {:?}", leftovers(slot)?);

    output(second_harness(), Duration::from_mins(3)).await?.ok("the second start")?;
    let found = leftovers(slot)?;
    assert!(found.iter().any(|line| line == "namespace smr7-n1"), "{found:?}");
    let mut down = Command::new(env!("CARGO_BIN_EXE_e2e-cluster"));
    down.args(["down", "--slot", OTHER_SLOT]);
    output(down, Duration::from_mins(1)).await?.ok("down")?;
    assert_eq!(leftovers(slot)?, Vec::<String>::new());
    Ok(())
}
