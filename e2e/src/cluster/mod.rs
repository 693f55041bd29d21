//! Real Kubernetes clusters on one Linux machine, each node with its own network, mounts, disk and container runtime.
//!
//! Needs root, Debian's `containerd runc containernetworking-plugins iptables iproute2 e2fsprogs util-linux`, and the Go programs of
//! `cargo xtask tools`. What a cluster makes on the machine carries its slot's name and is found again by it: a start first
//! removes what a harness that was killed has left.

mod cgroup;
mod control_plane;
mod dump;
mod hosts;
mod image;
mod net;
mod node;
mod node_files;
mod pki;
pub mod process;
mod settings;
mod slot;
mod teardown;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, DeleteParams};
use serde_json::Value;
use xtask::tools::Tools;

pub use hosts::Hosts;
pub use image::TOOLBOX;
pub use net::{Namespace, Traffic};
pub use node::Node;
pub use node_files::DATA_ROOT;
pub use process::{Output, until};
pub use slot::Slot;
pub use teardown::{down, leftovers, status};

use crate::origin::Origin;
use crate::registry::{Auth, Registry};
use process::Daemon;

/// From power-on to Ready. Measured: 4 s for three nodes on an idle machine.
const NODE_READY_TIMEOUT: Duration = Duration::from_mins(2);
/// The longest a `helm` or `kubectl` may take; both have their own, shorter timeouts.
const CLIENT_TIMEOUT: Duration = Duration::from_mins(10);

/// How a cluster is to be.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Nodes at the start; more can be added.
    pub nodes: usize,
    /// Gives each node an ext4 disk of that many bytes for its data root, instead of a folder.
    pub data_disk: Option<u64>,
}

/// A cluster: one of our own, or a user's, whose nodes cannot be touched.
pub struct Cluster {
    client: kube::Client,
    kubeconfig: PathBuf,
    tools: Tools,
    own: Option<Own>,
}

/// What only a cluster of our own has. Fields end in this order.
struct Own {
    slot: Arc<Slot>,
    options: Options,
    nodes: Vec<Node>,
    control_plane: Vec<Daemon>,
    images: Vec<PathBuf>,
    /// Names and URLs of registries that runtimes would not find by themselves.
    registries: Vec<(String, String)>,
    origins: usize,
    /// Whether it outlives this process.
    detached: bool,
}

impl Cluster {
    /// Starts a cluster with `nodes` nodes and waits until all are Ready.
    pub async fn start(nodes: usize) -> Result<Self> {
        Self::start_with(Options { nodes, ..Options::default() }).await
    }

    /// Starts a cluster and waits until all nodes are Ready. Programs that are missing are built first.
    pub async fn start_with(options: Options) -> Result<Self> {
        let tools = tokio::task::spawn_blocking(Tools::build).await??;
        teardown::sweep()?;
        let slot = Arc::new(Slot::claim_any()?);
        std::fs::create_dir_all(&slot.dir)?;
        let started = Self::boot(slot.clone(), options, tools).await;
        if started.is_err() {
            // The error that matters is the first.
            drop(teardown::clean(&slot));
        }
        started
    }

    async fn boot(slot: Arc<Slot>, options: Options, tools: Tools) -> Result<Self> {
        net::create_bridge(&slot).await?;
        let toolbox = image::write_toolbox(&slot, &tools)?;
        let (client, control_plane) = control_plane::start(&slot, &tools).await?;
        let kubeconfig = slot.kubeconfig();
        let (nodes, count) = (Vec::new(), options.nodes);
        let (images, registries) = (vec![toolbox], Vec::new());
        let own =
            Own { slot, options, nodes, control_plane, images, registries, origins: 0, detached: false };
        let mut cluster = Self { client, kubeconfig, tools, own: Some(own) };
        cluster.add_nodes(count).await?;
        Ok(cluster)
    }

    /// The user's cluster that `KUBECONFIG` names. Nodes and origins are not ours there.
    pub async fn of_user() -> Result<Self> {
        let path = std::env::var_os("KUBECONFIG").context("--use-cluster needs KUBECONFIG")?;
        let client = kube::Client::try_default().await?;
        Ok(Self { client, kubeconfig: path.into(), tools: Tools::locate(), own: None })
    }

    fn own(&self) -> Result<&Own> {
        self.own.as_ref().context("a user's cluster has no nodes that tests may control")
    }

    fn own_mut(&mut self) -> Result<&mut Own> {
        self.own.as_mut().context("a user's cluster has no nodes that tests may control")
    }

    /// Whether nodes can be controlled.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// A client with an admin's rights.
    pub fn kube(&self) -> kube::Client {
        self.client.clone()
    }

    /// The admin's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The folder with the cluster's state and logs.
    pub fn dir(&self) -> Result<&Path> {
        Ok(&self.own()?.slot.dir)
    }

    /// Node `number`, counted from 1.
    pub fn node(&mut self, number: usize) -> Result<&mut Node> {
        let nodes = &mut self.own_mut()?.nodes;
        nodes
            .iter_mut()
            .find(|node| node.number == number)
            .with_context(|| format!("there is no node{number}"))
    }

    /// All nodes, in the order of their numbers.
    pub fn nodes(&self) -> Result<&[Node]> {
        Ok(&self.own()?.nodes)
    }

    /// Adds one node, waits until it is Ready, and answers its number.
    pub async fn add_node(&mut self) -> Result<usize> {
        self.add_nodes(1).await?;
        Ok(self.own()?.nodes.last().map_or(0, |node| node.number))
    }

    async fn add_nodes(&mut self, count: usize) -> Result<()> {
        let tools = self.tools.clone();
        let own = self.own_mut()?;
        let first = own.nodes.last().map_or(1, |node| node.number + 1);
        if first + count - 1 > slot::MAX_NODES {
            bail!("a cluster has at most {} nodes", slot::MAX_NODES);
        }
        for number in first..first + count {
            let node = Node::create(&own.slot, &tools, number, own.options.data_disk).await?;
            own.registries.iter().try_for_each(|(name, url)| node.name_registry(name, url))?;
            own.nodes.push(node);
        }
        let (images, new) = (&own.images, own.nodes.iter_mut().filter(|node| node.number >= first));
        try_join_all(new.map(|node| node.start(images))).await?;
        let names: Vec<_> = (first..first + count).map(|number| format!("node{number}")).collect();
        try_join_all(names.iter().map(|name| self.wait_node(name, true))).await.map(drop)
    }

    /// Turns node `number` on again after [`Node::kill`] and waits until it is Ready.
    pub async fn start_node(&mut self, number: usize) -> Result<()> {
        let images = self.own()?.images.clone();
        let node = self.node(number)?;
        let name = node.name();
        node.start(&images).await?;
        self.wait_node(&name, true).await
    }

    /// Ends node `number` for good and deletes its Node object, as a cloud does.
    pub async fn delete_node(&mut self, number: usize) -> Result<()> {
        let node = self.node(number)?;
        let name = node.name();
        node.destroy()?;
        self.own_mut()?.nodes.retain(|node| node.number != number);
        Api::<core::Node>::all(self.kube()).delete(&name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits until the Node object's condition Ready is True, or is not.
    pub async fn wait_node(&self, name: &str, ready: bool) -> Result<()> {
        let api: Api<core::Node> = Api::all(self.kube());
        until(&format!("{name} with Ready={ready}"), NODE_READY_TIMEOUT, || async {
            let conditions =
                api.get_opt(name).await?.and_then(|node| node.status?.conditions).unwrap_or_default();
            let is_ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
            Ok((is_ready == ready).then_some(()))
        })
        .await
    }

    /// Gives the images of an OCI archive to every node, also to those that come later.
    pub async fn import_image(&mut self, archive: &Path) -> Result<()> {
        let own = self.own_mut()?;
        try_join_all(own.nodes.iter().map(|node| node.import_image(archive))).await?;
        own.images.push(archive.to_path_buf());
        Ok(())
    }

    /// An origin server in a network of its own whose link carries at most `rate` bytes per second each way.
    pub async fn origin(&mut self, rate: Option<u64>) -> Result<Origin> {
        let (namespace, address) = self.outside().await?;
        namespace.limit(rate, rate).await?;
        Origin::start(namespace, address, &self.own()?.slot.dir).await
    }

    /// A docker-registry outside the cluster, without a limit.
    pub async fn registry(&mut self) -> Result<Registry> {
        let (namespace, address) = self.outside().await?;
        Registry::start(namespace, address, &self.own()?.slot.dir, Auth::default()).await
    }

    /// One that asks to be shown what `auth` says, which hears where it is first.
    pub async fn private_registry(
        &mut self,
        auth: impl AsyncFnOnce(&Namespace, std::net::Ipv4Addr) -> Result<Auth>,
    ) -> Result<Registry> {
        let (namespace, address) = self.outside().await?;
        let auth = auth(&namespace, address).await?;
        Registry::start(namespace, address, &self.own()?.slot.dir, auth).await
    }

    /// Makes the runtimes of all nodes, also of those that come later, ask the registry at `url` for images whose names begin with `name`.
    pub fn name_registry(&mut self, name: &str, url: &str) -> Result<()> {
        let own = self.own_mut()?;
        own.nodes.iter().try_for_each(|node| node.name_registry(name, url))?;
        own.registries.push((name.to_owned(), url.to_owned()));
        Ok(())
    }

    /// A network of its own on the bridge, with its address.
    async fn outside(&mut self) -> Result<(net::Namespace, std::net::Ipv4Addr)> {
        let own = self.own_mut()?;
        own.origins += 1;
        let number = own.origins;
        if number > slot::MAX_NODES {
            bail!("a cluster has at most {} origins and registries", slot::MAX_NODES);
        }
        let address = own.slot.origin(number);
        Ok((net::Namespace::create(&own.slot, &format!("o{number}"), address).await?, address))
    }

    /// `helm` with this cluster's kubeconfig: what it printed, or an error with what it said.
    pub async fn helm(&self, args: &[&str]) -> Result<String> {
        self.client_program("helm", args).await
    }

    /// `kubectl` with this cluster's kubeconfig: what it printed, or an error with what it said.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.client_program("kubectl", args).await
    }

    /// Server-side apply of any object, of a custom kind too.
    pub async fn apply(&self, object: Value) -> Result<()> {
        let file = tempfile::Builder::new().suffix(".json").tempfile()?;
        serde_json::to_writer(&file, &object)?;
        let path = file.path().to_str().context("the temporary folder's name is not UTF-8")?;
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", path]).await.map(drop)
    }

    async fn client_program(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut command = Command::new(self.tools.path(program));
        command.env("KUBECONFIG", &self.kubeconfig).args(args);
        let what = format!("{program} {}", args.join(" "));
        process::output(command, CLIENT_TIMEOUT).await?.ok(&what)
    }

    /// What to look at after a failure: pods, events, our objects, the logs of our pods.
    pub async fn dump(&self) -> String {
        dump::dump(self).await
    }

    /// Lets the cluster live on when this value is dropped, until [`down`].
    pub fn detach(mut self) -> Result<PathBuf> {
        let own = self.own_mut()?;
        own.detached = true;
        std::fs::write(own.slot.detached_mark(), "")?;
        Ok(self.kubeconfig.clone())
    }

    /// Ends the cluster and removes all that it made, and says what could not be removed. Dropping does the same silently.
    pub async fn stop(mut self) -> Result<()> {
        let own = self.own.take();
        tokio::task::spawn_blocking(move || own.map_or(Ok(()), |mut own| own.end())).await?
    }
}

impl Own {
    fn end(&mut self) -> Result<()> {
        if self.detached {
            return Ok(());
        }
        // Marked first: dropping after `stop` must not tear down what has taken the slot since.
        self.detached = true;
        let result = teardown::clean(&self.slot);
        for node in &mut self.nodes {
            node.reap();
        }
        for daemon in &mut self.control_plane {
            daemon.kill();
        }
        result
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("teardown of {}: {error:#}", self.slot.prefix());
        }
    }
}
