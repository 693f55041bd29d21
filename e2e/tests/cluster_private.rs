//! Private images on a real cluster: pods with and without the secret that opens them, under both policies of the kubelet for images that
//! are on its node already (KEP-2535), and what becomes of the credentials.
#![allow(clippy::unwrap_used, clippy::panic, reason = "of a test's file that is shared")]

#[path = "../../operator/tests/registry/signer.rs"]
mod signer;
#[path = "cluster_private/tokens.rs"]
mod tokens;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::cluster::process::output;
use e2e::cluster::{Cluster, DATA_ROOT};
use e2e::installed::{self, NAMESPACE, USERS, distribution, wait_mirror, wait_ready};
use e2e::registry::{Answered, Layer, Registry};
use e2e::suite::{Needs, Suite, eventually};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};
use tokens::{PASSWORD, REPOSITORY, Tokens, USER, basic};

const MIB: usize = 1 << 20;
/// What manifests and a small configuration come to.
const SMALL: u64 = 64 * 1024;
/// A kubelet tries at once, and again after ten seconds.
const SOON: Duration = Duration::from_mins(1);
/// The kubelets of both: as it comes, and with a look at the credentials for every image, whoever has pulled it.
const TRUSTING: usize = 2;
const VERIFYING: usize = 3;

/// Registry and token server of all scenarios; they end with the cluster.
static PRIVATE: OnceLock<(Registry, Tokens)> = OnceLock::new();

fn main() -> ExitCode {
    if let Some(served) = tokens::serve() {
        return served;
    }
    Suite::new("private", 3)
        .setup(|c| Box::pin(install(c)))
        .scenario(
            "a private image is for pods whose secret opens it, and for those its registry gives manifests alone",
            Needs::OwnNodes,
            |c| Box::pin(upstream_manifests(c)),
        )
        .scenario(
            "with relay its registry is asked whether, and gives pods nothing",
            Needs::OwnNodes,
            |c| Box::pin(relay(c)),
        )
        .scenario("what opens it lies and is said nowhere", Needs::OwnNodes, |c| Box::pin(nowhere(c)))
        .run()
}

async fn install(cluster: &mut Cluster) -> Result<()> {
    let dir = cluster.dir()?.to_owned();
    let mut tokens = None;
    let registry = cluster
        .private_registry(async |network, address| {
            let (server, auth) = Tokens::start(network, address, &dir).await?;
            tokens = Some(server);
            Ok(auth)
        })
        .await?;
    cluster.name_registry(&registry.host, &format!("http://{}", registry.host))?;
    let secret = json!({ "auths": { &registry.host: { "username": USER, "password": PASSWORD } } });
    cluster
        .apply(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "pull", "namespace": USERS },
            "type": "kubernetes.io/dockerconfigjson", "stringData": { ".dockerconfigjson": secret.to_string() },
        }))
        .await?;
    PRIVATE.get_or_init(|| (registry, tokens.expect("the registry has asked for it")));
    let classes = json!([{
        "name": "default", "root": DATA_ROOT, "origin": { "plainHTTP": ["10.0.0.0/8"] }, "images": { "enabled": true },
    }]);
    let classes = format!("classes={classes}");
    let namespaces = format!("operator.pullSecretNamespaces={{{USERS}}}");
    // As much is said as anybody ever asks for: none of it may be a credential.
    let options = ["--set-json", &classes, "--set", &namespaces, "--set", "log.filter=debug"];
    installed::install(cluster, &options).await?;
    for node in cluster.nodes()? {
        wait_mirror(cluster, &node.name()).await?;
    }
    // Now, since it would not let our own image be used either: nobody has pulled that.
    cluster.node(VERIFYING)?.change_kubelet(&json!({
        "featureGates": { "KubeletEnsureSecretPulledImages": true },
        "imagePullCredentialsVerificationPolicy": "AlwaysVerify",
    }))
}

fn private() -> Result<&'static (Registry, Tokens)> {
    PRIVATE.get().context("the setup starts the registry")
}

async fn upstream_manifests(cluster: &mut Cluster) -> Result<()> {
    for answer in by_secret(cluster, "manifests", None).await? {
        let is_manifest = answer.path.contains("/manifests/");
        ensure!(is_manifest, "a pod's pull has got more than manifests from the registry: {answer:?}");
    }
    Ok(())
}

async fn relay(cluster: &mut Cluster) -> Result<()> {
    let given = by_secret(cluster, "relay", Some("Relay")).await?;
    ensure!(given.is_empty(), "pods' pulls have got something from the registry: {given:?}");
    Ok(())
}

/// An image for whoever has the secret, and pods with and without it; answers what its registry gave the nodes after they had it.
async fn by_secret(cluster: &mut Cluster, name: &str, access: Option<&str>) -> Result<Vec<Answered>> {
    let (registry, _) = private()?;
    let layers = [Layer::program()?, Layer::noise(name.len() as u64, 8 * MIB)?];
    let reference = registry.push(REPOSITORY, name, &layers).await?.reference;
    let mut image = json!({ "reference": reference, "pullSecrets": [{ "name": "pull" }] });
    if let Some(access) = access {
        image["access"] = access.into();
    }
    cluster.apply(distribution(name, &json!({ "image": image }))).await?;
    wait_ready(cluster, name, Duration::from_mins(3)).await?;
    let before = registry.answered()?.len();
    for number in [TRUSTING, VERIFYING] {
        let pod = |who: &str, policy| Sample { name: format!("{name}-{who}-{number}"), number, policy };
        pod("stranger", "IfNotPresent").is_refused(cluster, &reference).await?;
        pod("owner", "IfNotPresent").runs(cluster, &reference, true).await?;
        // KEP-2535: an image that is there is for every pod, unless the kubelet looks.
        let late = pod("late", "IfNotPresent");
        if number == TRUSTING {
            late.runs(cluster, &reference, false).await?;
        } else {
            late.is_refused(cluster, &reference).await?;
        }
        pod("again", "Always").is_refused(cluster, &reference).await?;
        pod("owner-again", "Always").runs(cluster, &reference, true).await?;
    }
    let given = registry.answered()?.split_off(before);
    let given: Vec<Answered> =
        given.into_iter().filter(|answer| answer.method == "GET" && answer.status < 300).collect();
    let bytes: u64 = given.iter().map(|answer| answer.bytes).sum();
    eprintln!("{name}: {} answers of the registry to pods' pulls, {bytes} bytes", given.len());
    ensure!(bytes <= SMALL, "the registry gave {bytes} bytes: {given:#?}");
    Ok(given)
}

/// A pod of the image.
struct Sample {
    name: String,
    /// Its node's.
    number: usize,
    policy: &'static str,
}

impl Sample {
    async fn start(&self, cluster: &Cluster, image: &str, with_secret: bool) -> Result<()> {
        let secrets = if with_secret { json!([{ "name": "pull" }]) } else { json!([]) };
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": self.name, "namespace": USERS },
            "spec": {
                "nodeName": format!("node{}", self.number), "terminationGracePeriodSeconds": 0, "imagePullSecrets": secrets,
                "containers": [{ "name": "app", "image": image, "imagePullPolicy": self.policy }],
            },
        });
        cluster.apply(pod).await
    }

    async fn runs(&self, cluster: &Cluster, image: &str, with_secret: bool) -> Result<()> {
        self.start(cluster, image, with_secret).await?;
        eventually(&format!("{} runs", self.name), SOON, || async {
            let pod = self.state(cluster).await?;
            ensure!(pod["phase"] == "Running", "{pod}");
            Ok(true)
        })
        .await?;
        self.end(cluster).await
    }

    /// Without the secret it does not start, and says why.
    async fn is_refused(&self, cluster: &Cluster, image: &str) -> Result<()> {
        self.start(cluster, image, false).await?;
        eventually(&format!("{} is refused", self.name), SOON, || async {
            let pod = self.state(cluster).await?;
            if pod["phase"] == "Running" {
                bail!("it runs");
            }
            let waiting = &pod["containerStatuses"][0]["state"]["waiting"];
            let failed = waiting["reason"] == "ErrImagePull" || waiting["reason"] == "ImagePullBackOff";
            ensure!(failed, "{waiting}");
            let why = waiting["message"].as_str().unwrap_or_default();
            ensure!(why.contains("401") || why.contains("uthoriz") || why.contains("denied"), "{why}");
            Ok(true)
        })
        .await?;
        self.end(cluster).await
    }

    async fn state(&self, cluster: &Cluster) -> Result<Value> {
        let pods: Api<Pod> = Api::namespaced(cluster.kube(), USERS);
        Ok(serde_json::to_value(pods.get(&self.name).await?.status)?)
    }

    async fn end(&self, cluster: &Cluster) -> Result<()> {
        let delete = ["delete", "pod", &self.name, "--namespace", USERS, "--wait=false"];
        cluster.kubectl(&delete).await.map(drop)
    }
}

async fn nowhere(cluster: &mut Cluster) -> Result<()> {
    let (_, tokens) = private()?;
    let given = tokens.given()?;
    ensure!(given.len() >= 8, "only {} tokens were given", given.len());
    // The signature alone, too: the rest of a token is no secret.
    let signatures = given.iter().filter_map(|token| token.rsplit('.').next().map(str::to_owned));
    let secrets: Vec<String> = [PASSWORD.to_owned(), basic()].into_iter().chain(signatures).collect();
    let folder = tempfile::tempdir()?;
    let list = folder.path().join("secrets");
    std::fs::write(&list, secrets.join("\n"))?;
    ensure!(!found(&list, &tokens.file()).await?.is_empty(), "what is searched for is not found where it is");

    let mut places: Vec<PathBuf> = Vec::new();
    for node in cluster.nodes()? {
        for place in [DATA_ROOT, "/etc/containerd", "/var/log/pods"] {
            places.push(node.path(place)?);
        }
    }
    let ours = "distributions,distributionrevisions,nodedistributions,distributionclasses";
    let kinds = format!("{ours},events,pods,deployments,daemonsets,configmaps,leases");
    let said = folder.path().join("said");
    std::fs::create_dir(&said)?;
    let objects = cluster.kubectl(&["get", &kinds, "--all-namespaces", "--output", "json"]).await?;
    ensure!(objects.contains(REPOSITORY), "the objects say which image it is");
    std::fs::write(said.join("objects"), objects)?;
    let own = cluster.kubectl(&["get", "secrets", "--namespace", NAMESPACE, "--output", "json"]).await?;
    std::fs::write(said.join("own-secrets"), own)?;
    let swarms = installed::tracker_swarms(cluster, NAMESPACE).await?;
    std::fs::write(said.join("trackers"), format!("{swarms:?}"))?;
    places.push(said);
    for place in places {
        let files = found(&list, &place).await?;
        ensure!(files.is_empty(), "credentials of a private image in {files}");
    }
    Ok(())
}

/// The files below `place` in which one of the lines of `list` stands.
async fn found(list: &Path, place: &Path) -> Result<String> {
    let mut grep = Command::new("grep");
    grep.args(["--recursive", "--fixed-strings", "--files-with-matches", "--text", "--file"])
        .arg(list)
        .arg(place);
    let found = output(grep, SOON).await?;
    // One says that there is nothing, two that it could not look everywhere.
    ensure!(found.stderr.is_empty(), "{}", found.stderr);
    Ok(found.stdout)
}
