//! The main job on any cluster, also on a user's: what a person with `helm` and `kubectl` does, and nothing else.
//!
//! On a user's cluster (`-- --use-cluster`) two variables say what it can reach: `SAMARA_E2E_IMAGE`, the image in a registry or on its
//! nodes, and `SAMARA_E2E_URL`, any file that it may download.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use e2e::cluster::Cluster;
use e2e::installed;
use e2e::suite::{Needs, Suite};
use serde_json::json;

/// Release and namespace are the test's own: it deletes both.
const NAME: &str = "samara-e2e";

fn main() -> ExitCode {
    Suite::new("any cluster", 2)
        .scenario("install, apply, wait, delete, uninstall", Needs::AnyCluster, |c| Box::pin(whole_way(c)))
        .run()
}

async fn whole_way(cluster: &mut Cluster) -> Result<()> {
    if cluster.kubectl(&["get", "distributionclass", "default"]).await.is_ok() {
        bail!(
            "this cluster has a DistributionClass `default`: Samara is installed, and the test will not touch it"
        );
    }
    if !cluster.is_own() {
        let options = image_options()?;
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        return way(cluster, &options, &variable("SAMARA_E2E_URL")?).await;
    }
    installed::import(cluster).await?;
    let origin = cluster.origin(None).await?;
    origin.put_random("file", 1, 8 << 20).await?;
    way(cluster, &[], &origin.url("file")).await
}

/// The chart's values for the image that the user named.
fn image_options() -> Result<Vec<String>> {
    let image = variable("SAMARA_E2E_IMAGE")?;
    let (repository, tag) = image.rsplit_once(':').context("SAMARA_E2E_IMAGE has no tag")?;
    Ok(["--set-string".into(), format!("image.repository={repository},image.tag={tag}")].into())
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("--use-cluster needs {name}"))
}

/// Whatever goes wrong in the middle, the cluster is left as it was.
async fn way(cluster: &Cluster, options: &[&str], url: &str) -> Result<()> {
    let used = use_it(cluster, options, url).await;
    if used.is_err() {
        // For the report: after the uninstall there is nothing to look at.
        eprintln!("{}", cluster.dump().await);
    }
    let removed = remove(cluster).await;
    used.and(removed)
}

async fn use_it(cluster: &Cluster, options: &[&str], url: &str) -> Result<()> {
    installed::helm_install(cluster, NAME, NAME, options).await?;
    installed::wait_installed(cluster, NAME).await?;
    cluster
        .apply(json!({
            "apiVersion": "samara.dev/v1alpha1", "kind": "Distribution",
            "metadata": { "name": NAME, "namespace": NAME },
            "spec": { "source": { "http": { "files": [{ "path": "file", "url": url }] } } },
        }))
        .await?;
    let distribution = format!("distribution/{NAME}");
    cluster.kubectl(&["wait", "-n", NAME, "--for=condition=Ready", &distribution, "--timeout=180s"]).await?;
    let nodes =
        cluster.kubectl(&["get", "-n", NAME, &distribution, "-o", "jsonpath={.status.nodes}"]).await?;
    let nodes: serde_json::Value = serde_json::from_str(&nodes)?;
    assert!(nodes["desired"].as_u64() > Some(0) && nodes["ready"] == nodes["desired"], "{nodes}");
    cluster.kubectl(&["delete", "-n", NAME, &distribution, "--timeout=60s"]).await.map(drop)
}

async fn remove(cluster: &Cluster) -> Result<()> {
    let uninstalled = match cluster.helm(&["status", NAME, "-n", NAME]).await {
        Ok(_) => {
            cluster.helm(&["uninstall", NAME, "-n", NAME, "--wait", "--timeout", "120s"]).await.map(drop)
        }
        Err(_) => Ok(()),
    };
    let deleted =
        cluster.kubectl(&["delete", "namespace", NAME, "--ignore-not-found", "--timeout=120s"]).await;
    uninstalled.and(deleted.map(drop))
}
