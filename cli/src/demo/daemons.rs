//! The operator, the trackers and the sidecars, as tasks of this process.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use crds::{DistributionClass, NodeDistribution, condition};
use daemon::CancellationToken;
use kube::{Api, Client, api::ListParams};
use memory_api::MemoryApi;
use operator::{OperatorConfig, Settings};
use sidecar::{SidecarConfig, TokenSource};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{
    cluster::{DemoNode, NAMESPACE, SIDECAR_ACCOUNT},
    kubelet,
    network::Network,
    workdir::Workdir,
};

/// How long they get to end.
const GRACE: Duration = Duration::from_secs(10);

/// How long they get to start.
const START: Duration = Duration::from_mins(1);
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(50);

/// All that runs besides the demo itself.
pub struct Daemons {
    tasks: JoinSet<Result<()>>,
    stop: CancellationToken,
}

impl Daemons {
    /// None yet. They end when `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), stop }
    }

    /// Starts everything.
    pub async fn start(
        &mut self,
        api: &MemoryApi,
        network: Network,
        class: &str,
        class_root: &Path,
        nodes: &[DemoNode],
        workdir: &Workdir,
    ) -> Result<()> {
        let kubelet = kubelet::run(api.client(), self.stop.clone());
        self.tasks.spawn(async move {
            kubelet.await;
            Ok(())
        });
        let operator = operator::run(operator_config(api, network).await?, self.stop.clone());
        self.tasks.spawn(async move {
            operator.await;
            Ok(())
        });
        for node in nodes {
            let root = workdir.root(&node.name);
            tokio::fs::create_dir_all(&root)
                .await
                .with_context(|| format!("cannot make {}", root.display()))?;
            let token = TokenSource::Fixed(node.token.clone());
            let mut config = SidecarConfig::new(api.client(), &node.name, class, root, token);
            config.class_root = Some(class_root.display().to_string());
            config.listen_peer = vec![(network.node(node.number), sidecar::PEER_PORT).into()];
            config.listen_health = Vec::new();
            let (name, sidecar) = (node.name.clone(), sidecar::run(config, self.stop.clone()));
            self.tasks.spawn(async move { sidecar.await.with_context(|| format!("the sidecar of {name}")) });
        }
        Ok(())
    }

    /// Waits until the trackers serve and every sidecar has made itself known: what a cluster is before anybody applies
    /// anything.
    pub async fn ready(&mut self, client: Client, class: &str, nodes: usize) -> Result<()> {
        let classes: Api<DistributionClass> = Api::all(client.clone());
        let known: Api<NodeDistribution> = Api::all(client);
        let ready = async {
            while !is_ready(&classes.get(class).await?)
                || known.list(&ListParams::default()).await?.items.len() < nodes
            {
                tokio::time::sleep(LOOK).await;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            outcome = tokio::time::timeout(START, ready) => outcome.context("trackers and sidecars did not start in time")?,
            error = self.failed() => Err(error),
        }
    }

    /// Why one of them ended before it was told to.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Ok(()))) => anyhow!("a daemon ended by itself"),
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => anyhow!(error).context("a daemon panicked"),
            None => std::future::pending().await,
        }
    }

    /// Waits until all have ended, for a while.
    pub async fn ended(&mut self) {
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(error = format!("{error:#}"), "while stopping"),
                    Err(error) => tracing::warn!(%error, "while stopping"),
                }
            }
        };
        if tokio::time::timeout(GRACE, all).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "some daemons did not end in {} s", GRACE.as_secs());
            self.tasks.abort_all();
        }
    }
}

fn is_ready(class: &DistributionClass) -> bool {
    let conditions = class.status.iter().flat_map(|status| &status.conditions);
    conditions.into_iter().any(|c| c.type_ == condition::READY && c.status == "True")
}

async fn operator_config(api: &MemoryApi, network: Network) -> Result<OperatorConfig> {
    let address = network.operator_api();
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let settings = Settings {
        namespace: NAMESPACE.to_owned(),
        public_url: format!("https://{address}"),
        image: "demo".to_owned(),
        image_pull_secrets: Vec::new(),
        sidecar_service_account: SIDECAR_ACCOUNT.to_owned(),
        identity: "demo".to_owned(),
        manage_crds: true,
        api_server: Vec::new(),
    };
    Ok(OperatorConfig { client: api.client(), settings, api: listener, health: None })
}
