//! What a kubelet and a kube-proxy do for the trackers: every tracker Deployment becomes a running tracker at the address of
//! its Service.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use crds::{CLASS_LABEL, TRACKER_COMPONENT};
use daemon::CancellationToken;
use futures::StreamExt as _;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Secret, Service},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracker::Tracker;

use super::cluster::NAMESPACE;

/// How long to wait until what a Deployment needs (Service, Secret) is there, between two looks.
const RETRY: Duration = Duration::from_millis(50);

/// Runs trackers until `shutdown`, and ends them with it.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let config =
        watcher::Config::default().labels(&format!("app.kubernetes.io/component={TRACKER_COMPONENT}"));
    let mut events = watcher(deployments, config).default_backoff().boxed();
    let (mut running, mut tasks) = (HashMap::new(), JoinSet::new());
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => break,
            event = events.next() => event,
        };
        match event {
            Some(Ok(watcher::Event::Apply(deployment) | watcher::Event::InitApply(deployment))) => {
                running.entry(deployment.name_any()).or_insert_with(|| {
                    let stop = shutdown.child_token();
                    tasks.spawn(keep(client.clone(), deployment, stop.clone()));
                    stop
                });
            }
            Some(Ok(watcher::Event::Delete(deployment))) => {
                if let Some(stop) = running.remove(&deployment.name_any()) {
                    stop.cancel();
                }
            }
            Some(Ok(watcher::Event::Init | watcher::Event::InitDone)) => {}
            Some(Err(error)) => tracing::warn!(%error, "watching tracker Deployments"),
            None => break,
        }
    }
    while tasks.join_next().await.is_some() {}
}

async fn keep(client: Client, deployment: Deployment, stop: CancellationToken) {
    let name = deployment.name_any();
    loop {
        let error = tokio::select! {
            () = stop.cancelled() => return,
            result = tracker(&client, &deployment, &stop) => match result {
                Ok(()) => return,
                Err(error) => error,
            },
        };
        tracing::debug!(tracker = name, error = format!("{error:#}"), "not started yet");
        tokio::time::sleep(RETRY).await;
    }
}

/// Starts one tracker, says that it is available, and serves until it is stopped.
async fn tracker(client: &Client, deployment: &Deployment, stop: &CancellationToken) -> Result<()> {
    let address = address(client, &deployment.name_any()).await?;
    let class = deployment.labels().get(CLASS_LABEL).context("a tracker without class")?;
    let mut siblings = Vec::new();
    for name in siblings_of(deployment) {
        siblings.push(format!("http://{}", self::address(client, &name).await?));
    }
    let token = Some(token(client, class).await?);
    let config = tracker::Config { token, siblings, ..tracker::Config::default() };
    let tracker = Tracker::new(config)?;
    let listener = TcpListener::bind(address).await?;
    report_available(client, deployment).await?;
    tracker.serve(listener, stop.clone()).await;
    Ok(())
}

/// Where a Service leads to.
async fn address(client: &Client, name: &str) -> Result<SocketAddr> {
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let service = services.get(name).await.context("its Service")?.spec.context("a Service without spec")?;
    let address: IpAddr = service.cluster_ip.context("a Service without address")?.parse()?;
    let port = service
        .ports
        .and_then(|ports| ports.first().map(|port| port.port))
        .context("a Service without port")?;
    Ok(SocketAddr::new(address, u16::try_from(port)?))
}

/// The Services of the trackers that this one is to be in step with, as its command line names them. There is no DNS here.
fn siblings_of(deployment: &Deployment) -> Vec<String> {
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let args =
        pod.iter().flat_map(|pod| &pod.containers).filter_map(|container| container.args.as_ref()).flatten();
    let urls = args.filter_map(|arg| arg.strip_prefix("--sibling=http://"));
    urls.filter_map(|url| url.split('.').next()).map(str::to_owned).collect()
}

async fn token(client: &Client, class: &str) -> Result<tracker::Token> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let secret = secrets.get(&format!("samara-tracker-{class}")).await.context("its Secret")?;
    let token = secret.data.and_then(|mut data| data.remove("token")).context("a Secret without token")?;
    Ok(tracker::Token::new(std::str::from_utf8(&token.0)?)?)
}

async fn report_available(client: &Client, deployment: &Deployment) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    let status = json!({"status": {
        "observedGeneration": deployment.metadata.generation,
        "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
        "conditions": [{
            "type": "Available", "status": "True", "reason": "MinimumReplicasAvailable",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z", "lastUpdateTime": "2026-01-01T00:00:00Z",
        }],
    }});
    deployments.patch_status(&deployment.name_any(), &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}
