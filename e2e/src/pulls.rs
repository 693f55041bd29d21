//! Pods of a new image on all nodes while something breaks: what they have to come to, whatever it is.
//!
//! There are two registries behind limited links: one that the class lists, whose images nobody names, and one of images that a
//! `Distribution` names. Neither way helps the other then.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Node};
use crate::installed::{self, USERS, distribution, start_pods};
use crate::registry::{Layer, Registry};
use crate::suite::eventually;

/// The registries' links, in bytes per second.
const LINK: u64 = 8_000_000;
/// An image, in two layers.
pub const SIZE: usize = 32 << 20;
/// Above what containerd waits for a byte that does not come, and above the kubelet's pauses after a pull that failed.
const RUN_TIMEOUT: Duration = Duration::from_mins(3);
/// Where containerd keeps what it has pulled.
const CONTENT: &str = "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256";

/// The registries of all scenarios. They end with the cluster, which ends whatever runs in its networks.
static REGISTRIES: OnceLock<[Registry; 2]> = OnceLock::new();

/// How an image comes to be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A `Distribution` names it.
    Named,
    /// A pod needs it.
    OnDemand,
}

/// Both.
pub const WAYS: [Way; 2] = [Way::Named, Way::OnDemand];

impl Way {
    /// The registry of its images.
    pub fn registry(self) -> Result<&'static Registry> {
        let registries = REGISTRIES.get().context("the setup starts the registries")?;
        Ok(&registries[usize::from(self == Self::OnDemand)])
    }

    fn word(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::OnDemand => "on-demand",
        }
    }
}

/// Starts the registries and makes runtimes speak to them without TLS; answers the name of the one that the class is to list.
pub async fn start_registries(cluster: &mut Cluster) -> Result<String> {
    let registries = [cluster.registry().await?, cluster.registry().await?];
    for registry in &registries {
        registry.limit(Some(LINK)).await?;
        cluster.name_registry(&registry.host, &format!("http://{}", registry.host))?;
    }
    let listed = registries[1].host.clone();
    REGISTRIES.set(registries).ok().context("the registries are there already")?;
    Ok(listed)
}

/// An image that pods are started of.
#[derive(Debug)]
pub struct Pull {
    /// Of the pods, and of the `Distribution`.
    pub name: String,
    way: Way,
    /// As pods name it.
    pub reference: String,
    /// What it consists of.
    pub layers: [Layer; 2],
    before: u64,
    start: Instant,
}

impl Pull {
    /// Pushes an image that no node has a byte of. `number`: another for each image.
    pub async fn push(name: &str, way: Way, number: u64) -> Result<Self> {
        let registry = way.registry()?;
        let layers = [Layer::other_program(number * 2, SIZE / 2)?, Layer::noise(number * 2 + 1, SIZE / 2)?];
        let name = format!("{name}-{}", way.word());
        let reference = registry.push(&format!("team/{name}"), "v1", &layers).await?.reference;
        let before = registry.traffic().await?.sent;
        Ok(Self { name, way, reference, layers, before, start: Instant::now() })
    }

    /// The same, and starts its pods on all nodes. One that is to be named is on its way by then: else its pods would have it from the registry.
    pub async fn begin(cluster: &Cluster, name: &str, way: Way, number: u64) -> Result<Self> {
        let mut pull = Self::push(name, way, number).await?;
        if way == Way::Named {
            pull.distribute(cluster, &json!({})).await?;
            pull.underway(1 << 20).await?;
        }
        pull.start(cluster, &json!({})).await?;
        Ok(pull)
    }

    /// Names it for the nodes with these labels: blobs, which the kubelet pulls.
    pub async fn distribute(&self, cluster: &Cluster, nodes: &Value) -> Result<()> {
        let image = json!({ "reference": self.reference, "materialize": "Blobs", "access": "Cluster" });
        let mut object = distribution(&self.name, &json!({ "image": image }));
        object["spec"]["placement"]["nodeSelector"] = nodes.clone();
        cluster.apply(object).await
    }

    /// Starts its pods on the nodes with these labels.
    pub async fn start(&mut self, cluster: &Cluster, nodes: &Value) -> Result<()> {
        self.start = Instant::now();
        start_pods(cluster, &self.name, &self.reference, nodes).await
    }

    /// What its registry has sent since it was pushed: frames, manifests and all.
    pub async fn sent(&self) -> Result<u64> {
        Ok(self.way.registry()?.traffic().await?.sent - self.before)
    }

    /// Waits until its registry has sent so much: it is in the middle of it.
    pub async fn underway(&self, bytes: u64) -> Result<()> {
        let what = format!("{bytes} bytes of {} from its registry", self.name);
        eventually(&what, Duration::from_mins(1), || async { Ok(self.sent().await? >= bytes) }).await
    }

    /// The number of a node that reads it at its registry.
    pub async fn reader(&self, cluster: &Cluster) -> Result<usize> {
        let (registry, nodes) = (self.way.registry()?, cluster.nodes()?);
        let what = format!("a node that reads {}", self.name);
        crate::cluster::until(&what, Duration::from_secs(20), || async {
            let readers = registry.readers().await?;
            Ok(nodes.iter().find(|node| readers.contains(&node.address())).map(|node| node.number))
        })
        .await
    }

    /// Waits until a pod runs on each of `count` nodes; says what it took; takes all of it away. Answers how many times the registry has
    /// given the image.
    pub async fn end(self, cluster: &Cluster, count: usize) -> Result<f64> {
        let ran = installed::wait_pods(cluster, &self.name, count, RUN_TIMEOUT).await;
        let seconds = self.start.elapsed().as_secs_f64();
        let failed = failed_pulls(cluster, &self.name).await?;
        let times: i32 = failed.iter().map(|(count, _)| count).sum();
        let copies = self.sent().await? as f64 / SIZE as f64;
        eprintln!(
            "{}: pods on {count} nodes after {seconds:.1} s; the registry sent {:.1} MiB, {copies:.3} x the image; \
             {times} pulls failed on the way",
            self.name,
            copies * SIZE as f64 / f64::from(1 << 20)
        );
        for (count, message) in failed {
            eprintln!("  {count} x {message}");
        }
        ran?;
        // Each runtime goes upstream once at most, and the nodes read it once between them; where one takes over, a little twice.
        ensure!(copies <= count as f64 + 1.5, "the registry has given {} {copies:.3} times", self.name);
        for node in cluster.nodes()? {
            self.ensure_right(node).await?;
        }
        installed::remove_pods(cluster, &self.name).await?;
        if self.way == Way::Named {
            installed::delete(cluster, &self.name, Duration::from_mins(1)).await?;
        }
        Ok(copies)
    }

    /// containerd was never given a byte that is wrong, and has none.
    async fn ensure_right(&self, node: &Node) -> Result<()> {
        let log = node.runtime_log()?;
        let refused: Vec<&str> =
            log.lines().filter(|line| line.contains("unexpected commit digest")).collect();
        ensure!(refused.is_empty(), "{}: its runtime was given wrong bytes: {refused:?}", node.name());
        for layer in &self.layers {
            let hex = layer.digest().trim_start_matches("sha256:").to_owned();
            let place = format!("{CONTENT}/{hex}");
            if node.path(&place)?.exists() {
                let found = node.sha256(&place).await?;
                ensure!(found == hex, "{}: layer {hex} has the bytes of {found}", node.name());
            }
        }
        Ok(())
    }
}

/// The kubelets' words of pulls that failed for the pods of a set, and how often they said them.
async fn failed_pulls(cluster: &Cluster, name: &str) -> Result<Vec<(i32, String)>> {
    let api: Api<core::Event> = Api::namespaced(cluster.kube(), USERS);
    let events = api.list(&ListParams::default().fields("reason=Failed")).await?;
    let of_these = |event: &core::Event| {
        event.involved_object.name.as_ref().is_some_and(|pod| pod.starts_with(&format!("{name}-")))
    };
    let said = events.into_iter().filter(of_these).filter_map(|event| {
        let message = event.message.filter(|message| message.starts_with("Failed to pull image"))?;
        Some((event.count.unwrap_or(1), message))
    });
    Ok(said.collect())
}
