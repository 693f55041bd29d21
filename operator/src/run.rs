//! A whole operator in one call: what the binary does, and what `samara demo` runs in its own process.

use std::net::IpAddr;
use std::sync::Arc;

use daemon::{CancellationToken, Health, ServeOptions};
use futures::future::{join, join_all, join3};
use kube::Client;
use tokio::net::TcpListener;

use crate::context::{Context, Settings};
use crate::lease::Elector;
use crate::metrics::Metrics;
use crate::queue::Urgency;
use crate::{api, schema, tls, trackers, watch, worker};

/// What an operator needs.
pub struct OperatorConfig {
    /// The API server.
    pub client: Client,
    /// What it is told.
    pub settings: Settings,
    /// Where sidecars ask, over TLS. [`Settings::public_url`] has to lead here.
    pub api: TcpListener,
    /// Where `/healthz`, `/readyz` and `/metrics` are, if anywhere.
    pub health: Option<TcpListener>,
}

/// The address of the API server as pods see it, from the environment that the kubelet gives every container.
pub fn api_server_addresses() -> Vec<IpAddr> {
    let host = std::env::var("KUBERNETES_SERVICE_HOST").unwrap_or_default();
    host.parse().into_iter().collect()
}

/// Runs until `shutdown`, and gives the lease back then.
pub async fn run(config: OperatorConfig, shutdown: CancellationToken) {
    let OperatorConfig { client, settings, api: listener, health: health_listener } = config;
    let health = Health::new("operator");
    let metrics = Metrics::new(&health);
    let context = Arc::new(Context::new(settings, client, metrics, watch::WATCHES));
    let watching = async {
        let watches = join_all(watch::all(&context));
        tokio::select! {
            _ = watches => {}
            () = shutdown.cancelled() => {}
        }
    };
    let serving = async {
        let api = api::serve(context.clone(), listener, shutdown.clone());
        let shown = async {
            if let Some(listener) = health_listener {
                daemon::serve(listener, health.router(), ServeOptions::default(), shutdown.clone()).await;
            }
        };
        join3(api, shown, show_readiness(&context, &health, &shutdown)).await;
    };
    let leading = async {
        let identity = context.settings.identity.clone();
        let elector =
            Elector::new(context.client.clone(), &context.settings.namespace, &identity, &context.leadership);
        elector.run(|lost| lead(context.clone(), lost), &shutdown).await;
    };
    let certificates = tls::keep(context.clone(), shutdown.clone());
    join(Box::pin(join(watching, serving)), Box::pin(join(leading, certificates))).await;
}

/// What only the leader does. It begins from nothing but what it sees.
async fn lead(context: Arc<Context>, lost: CancellationToken) {
    *context.ledger() = crate::ledger::Ledger::default();
    context.queue.clear();
    context.metrics.leading.set(1);
    context.certificate_wanted.notify_one();
    let (manage_crds, client, end) = (context.settings.manage_crds, context.client.clone(), lost.clone());
    let schema = async {
        if manage_crds {
            schema::bring_up_to_date(client, end).await;
        }
    };
    let work = work(context.clone(), lost);
    join(schema, work).await;
    context.metrics.leading.set(0);
    context.metrics.grants.set(0);
}

/// Looks at everything once all of it was seen, and then at what changes.
async fn work(context: Arc<Context>, lost: CancellationToken) {
    tokio::select! {
        () = context.synced() => {}
        () = lost.cancelled() => return,
    }
    let keys = context.index().all_keys();
    context.queue.touch(keys.into_iter().map(|key| (key, Urgency::Now)));
    join(worker::run(context.clone(), lost.clone()), trackers::run(context.clone(), lost)).await;
}

/// Ready is an operator that has seen everything and has a certificate; one that waits for the lease is, too: it takes over
/// within seconds, and a rollout must not wait for it.
async fn show_readiness(context: &Context, health: &Health, shutdown: &CancellationToken) {
    while !shutdown.is_cancelled() {
        health.readiness().set(context.is_synced() && context.serving.ca_bundle().is_some());
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_millis(500)) => {}
            () = shutdown.cancelled() => {}
        }
    }
    health.readiness().set(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_can_be_spawned() {
        fn spawnable<T: Send>(_: impl Fn(OperatorConfig, CancellationToken) -> T) {}
        spawnable(run);
    }
}
