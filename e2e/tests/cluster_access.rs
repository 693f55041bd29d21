//! Who gets a grant: the elected node, with the token of its own sidecar, and nobody else.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use crds::DistributionClass;
use e2e::cluster::{Cluster, until};
use e2e::installed::{self, NAMESPACE, USERS, dataset, pod_on};
use e2e::suite::{Needs, Suite, eventually};
use kube::api::Api;
use serde_json::json;

const MIB: u64 = 1 << 20;
const AUDIENCE: &str = "samara.dev";
const ACCOUNT: &str = "samara-sidecar";

fn main() -> ExitCode {
    Suite::new("access", 3)
        .setup(|c| Box::pin(installed::install(c, &[])))
        .scenario("only the elected node's own token opens a grant", Needs::OwnNodes, |c| Box::pin(grants(c)))
        .scenario("trackers give nothing away without their token", Needs::OwnNodes, |c| {
            Box::pin(trackers(c))
        })
        .run()
}

/// A token of the account `account` in `namespace`, bound to the pod there if one is named.
async fn token(
    cluster: &Cluster,
    (namespace, account): (&str, &str),
    audience: &str,
    pod: Option<&str>,
) -> Result<String> {
    let mut args = vec!["create", "token", account, "--namespace", namespace, "--audience", audience];
    let name = pod.map(|pod| pod.trim_start_matches("pod/").to_owned());
    if let Some(name) = &name {
        args.extend(["--bound-object-kind", "Pod", "--bound-object-name", name]);
    }
    Ok(cluster.kubectl(&args).await?.trim().to_owned())
}

/// Asks the operator for a grant as a sidecar does, from node 1: the status code.
async fn ask(cluster: &mut Cluster, revision: &str, token: Option<&str>) -> Result<u16> {
    let class: DistributionClass = Api::all(cluster.kube()).get(crds::DEFAULT_CLASS).await?;
    let operator = class.status.and_then(|status| status.operator).context("the class names no operator")?;
    // The node itself does not ask the cluster's DNS.
    let service = ["get", "service", "-n", NAMESPACE, "samara-operator", "-o", "jsonpath={.spec.clusterIP}"];
    let resolve = format!("samara-operator.{NAMESPACE}.svc:8443:{}", cluster.kubectl(&service).await?);
    let node = cluster.node(1)?;
    let folder = tempfile::tempdir()?;
    let (ca, answer) = (folder.path().join("ca.pem"), folder.path().join("answer"));
    std::fs::write(&ca, &operator.ca_bundle)?;
    let url = format!("{}/v1/grants/{revision}", operator.url);
    let header = format!("Authorization: Bearer {}", token.unwrap_or_default());
    let (ca, answer) = (ca.display().to_string(), answer.display().to_string());
    let mut curl = vec!["--silent", "--show-error", "--max-time", "20", "--request", "POST", "--cacert", &ca];
    curl.extend(["--resolve", &resolve, "--output", &answer, "--write-out", "%{http_code}"]);
    if token.is_some() {
        curl.extend(["--header", &header]);
    }
    curl.push(&url);
    let code = node.exec("curl", &curl).await?.ok("curl")?;
    code.trim().parse().with_context(|| format!("no status code: {code}"))
}

async fn grants(cluster: &mut Cluster) -> Result<()> {
    let origin = cluster.origin(Some(MIB)).await?;
    origin.put_random("/payload", 71, 256 * MIB).await?;
    cluster.apply(dataset("guarded", &[("payload", origin.url("/payload"))])).await?;
    let revisions: Api<crds::DistributionRevision> = Api::all(cluster.kube());
    let (revision, elected) = until("an elected fetcher", Duration::from_secs(30), || async {
        let Ok(name) = installed::revision(cluster, "guarded").await else { return Ok(None) };
        let elected = revisions.get_opt(&name).await?.and_then(|r| r.spec.policy.fetchers.first().cloned());
        Ok(elected.map(|elected| (name, elected)))
    })
    .await?;
    let other = ["node1", "node2", "node3"].into_iter().find(|node| *node != elected).context("a node")?;
    let (own_pod, other_pod) =
        (pod_on(cluster, "sidecar", &elected).await?, pod_on(cluster, "sidecar", other).await?);

    let sidecars = (NAMESPACE, ACCOUNT);
    let wrong_audience =
        token(cluster, sidecars, "https://kubernetes.default.svc", Some(own_pod.as_str())).await?;
    let unbound = token(cluster, sidecars, AUDIENCE, None).await?;
    let not_elected = token(cluster, sidecars, AUDIENCE, Some(other_pod.as_str())).await?;
    let own = token(cluster, sidecars, AUDIENCE, Some(own_pod.as_str())).await?;
    let impostor = impostor(cluster).await?;
    let operators = pod_of_operator(cluster).await?;
    let other_account =
        token(cluster, (NAMESPACE, "samara-operator"), AUDIENCE, Some(operators.as_str())).await?;
    for (what, token, wanted) in [
        ("no token", None, 401),
        ("a token that is none", Some("eyJhbGciOiJub25lIn0.e30."), 401),
        ("the wrong audience", Some(wrong_audience.as_str()), 401),
        ("a token without a pod", Some(unbound.as_str()), 401),
        ("a pod of the same account's name in another namespace", Some(impostor.as_str()), 403),
        ("another account of the release", Some(other_account.as_str()), 403),
        ("a node that is not elected", Some(not_elected.as_str()), 403),
    ] {
        let code = ask(cluster, &revision, token).await?;
        ensure!(code == wanted, "{what}: {code} instead of {wanted}");
    }
    // The control: the same request with the right token is granted.
    let code = ask(cluster, &revision, Some(&own)).await?;
    ensure!(code == 200, "the elected node's own token: {code}");

    // A pod that is gone takes its tokens with it.
    let pod = own_pod.trim_start_matches("pod/");
    cluster.kubectl(&["delete", "pod", "-n", NAMESPACE, pod, "--grace-period=0", "--force"]).await?;
    let mut last = 0;
    let refused = async {
        // What was reviewed is believed for seconds, and the pod's end has to reach the operator.
        for _ in 0..60 {
            last = ask(cluster, &revision, Some(&own)).await?;
            if last == 401 || last == 403 {
                return Ok::<_, anyhow::Error>(true);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        Ok(false)
    };
    ensure!(refused.await?, "the token of a deleted pod: {last}");
    installed::wait_installed(cluster, NAMESPACE).await?;
    installed::delete(cluster, "guarded", Duration::from_secs(30)).await
}

async fn pod_of_operator(cluster: &Cluster) -> Result<String> {
    let label = "app.kubernetes.io/component=operator";
    let names = cluster.kubectl(&["get", "pods", "-n", NAMESPACE, "-l", label, "-o", "name"]).await?;
    names.lines().next().map(str::to_owned).context("no pod of the operator")
}

/// A token of a pod that looks like a sidecar, in a namespace of a user.
async fn impostor(cluster: &Cluster) -> Result<String> {
    cluster
        .apply(json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": ACCOUNT, "namespace": USERS },
        }))
        .await?;
    cluster
        .apply(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "impostor", "namespace": USERS,
                "labels": {
                    "app.kubernetes.io/name": "samara", "app.kubernetes.io/component": "sidecar",
                    "samara.dev/class": "default",
                },
            },
            "spec": {
                "serviceAccountName": ACCOUNT, "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main", "image": e2e::cluster::TOOLBOX, "imagePullPolicy": "Never",
                    "args": ["serve", ":8080", "hello"],
                }],
            },
        }))
        .await?;
    cluster.kubectl(&["wait", "-n", USERS, "--for=condition=Ready", "pod/impostor", "--timeout=60s"]).await?;
    token(cluster, (USERS, ACCOUNT), AUDIENCE, Some("impostor")).await
}

async fn trackers(cluster: &mut Cluster) -> Result<()> {
    let origin = cluster.origin(None).await?;
    origin.put_random("/payload", 72, MIB).await?;
    cluster.apply(dataset("listed", &[("payload", origin.url("/payload"))])).await?;
    installed::wait_ready(cluster, "listed", Duration::from_mins(2)).await?;
    let revision = installed::revision(cluster, "listed").await?;
    // The control: with the token the swarm is there, at both.
    let seen = &*cluster;
    eventually("the swarm at both trackers", Duration::from_secs(30), || async {
        let trackers = installed::tracker_swarms(seen, NAMESPACE).await?;
        Ok(trackers.len() == 2 && trackers.iter().all(|(_, swarms)| swarms.contains(&revision)))
    })
    .await?;
    let class: DistributionClass = Api::all(cluster.kube()).get(crds::DEFAULT_CLASS).await?;
    let revisions: Api<crds::DistributionRevision> = Api::all(cluster.kube());
    let torrent = revisions.get(&revision).await?.spec.torrents.into_iter().next().context("a torrent")?;
    let infohash = torrent.info_hash_v2.or(torrent.info_hash_v1).context("an infohash")?;
    for tracker in class.status.unwrap_or_default().trackers {
        for (method, path) in [
            ("GET", "/v1/swarms".to_owned()),
            ("GET", "/v1/registry".to_owned()),
            ("PUT", "/v1/registry".to_owned()),
            ("GET", format!("/metainfo/{infohash}")),
            ("PUT", format!("/metainfo/{infohash}")),
        ] {
            for header in ["Accept: */*", "Authorization: Bearer wrong"] {
                let url = format!("{}{path}", tracker.url);
                let curl = ["--silent", "--max-time", "10", "--output", "/dev/null", "--header", header];
                let curl = [&curl[..], &["--write-out", "%{http_code}", "--request", method, &url]].concat();
                let code = cluster.node(1)?.exec("curl", &curl).await?.ok(&url)?;
                ensure!(code == "401", "{method} {url} with {header:?}: {code}");
            }
        }
    }
    installed::delete(cluster, "listed", Duration::from_secs(30)).await
}
