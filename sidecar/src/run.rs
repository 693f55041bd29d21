//! Putting a sidecar together.

use std::sync::Arc;
use std::time::Duration;

use ::mirror::Helpers;
use crds::{CLASS_LABEL, NodeDistributionStatus};
use daemon::Health;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::Api;
use kube::runtime::watcher;
use operator_api::reason;
use swarm::{Engine, EngineConfig, EngineError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use torrent::ingest::SigningKey;

use crate::class::ClassInfo;
use crate::clients::{OperatorLine, Trackers, keep_session};
use crate::config::SidecarConfig;
use crate::demand::{self, Desk};
use crate::desired::Data;
use crate::health::{self, Metrics, Watchdog};
use crate::images::{Images, MirrorError, Relay, SPARE, content_store};
use crate::jobs::{Context, stoppable};
use crate::kubernetes::{Report, Reporter, mirror};
use crate::manager::{Manager, Watches};
use crate::store::{Ledger, Root, StoreError, scan};

/// How often an unfit root is looked at again.
const ROOT_RETRY: Duration = Duration::from_secs(5);

/// A sidecar cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// Health cannot be served.
    #[error("health and metrics: {0}; is another process using the port?")]
    Health(#[from] daemon::BindError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The HTTP client.
    #[error("cannot set up the HTTP client for trackers: {0}")]
    Http(#[from] reqwest::Error),
    /// The image mirror.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Runs a sidecar until `shutdown`. All that it has started has ended when this returns.
pub async fn run(config: SidecarConfig, shutdown: CancellationToken) -> Result<(), SidecarError> {
    let health = Health::new("sidecar");
    let watchdog = Watchdog::default();
    let router = health::router(&health, watchdog.clone());
    health::serve(&config.listen_health, &router, &shutdown)?;

    let watches = watches(&config, &shutdown);
    let (report, reports) = watch::channel(None);
    let reporter = Reporter::new(config.client.clone(), &config.node_name, &config.class);
    let reporter = tokio::spawn(reporter.run(reports, shutdown.clone()));
    let Some(root) = fit_root(&config, &watches, &report, &watchdog, &shutdown).await? else { return Ok(()) };

    let images = config.images.clone();
    let blobs = blocking(move || Ok(images.as_ref().and_then(content_store))).await?;
    let layout = root.layout().clone().beside(blobs);
    let (to_scan, to_load) = (layout.clone(), layout.clone());
    let (found, known) = blocking(move || Ok((scan(&to_scan)?, known_class(&to_load)))).await?;
    let (class_info, class) = watch::channel(known);
    let engine = Engine::start(EngineConfig {
        listen: config.listen_peer.clone(),
        upload_limit: config.upload_limit,
        download_limit: config.download_limit,
        ..EngineConfig::default()
    })
    .await?;
    let (desk, asks) = Desk::new(class.clone());
    let spare = config.images.as_ref().map_or(SPARE, |images| images.spare);
    let images = match &config.images {
        None => None,
        Some(images) => {
            let shared = found.iter().filter(|(_, found)| found.data != Data::Retained);
            let kept = shared.map(|(revision, _)| revision.clone()).collect();
            let relay = Relay::new(class.clone(), config.denied_origins.clone());
            let helpers = Helpers { demand: Some(Arc::new(desk)), gate: Some(Arc::new(relay)) };
            let started =
                Images::start(images, &config.class, kept, helpers, class.clone(), &health, &shutdown)?;
            Some(Arc::new(started))
        }
    };
    let session = keep_session(class.clone(), config.token.clone(), shutdown.clone());
    let context = Arc::new(Context {
        node: config.node_name.clone(),
        class_name: config.class.clone(),
        layout,
        ledger: Ledger::default(),
        engine: engine.clone(),
        class,
        operator: OperatorLine::default(),
        trackers: Trackers::new(session.clone())?,
        session,
        token: config.token.clone(),
        fetcher_key: SigningKey::from_seed(&rand::random()),
        denied_origins: config.denied_origins.clone(),
        metrics: Metrics::register(&health),
        images,
    });
    tracing::info!(node = config.node_name, class = config.class, revisions = found.len(), "ready");
    health.readiness().set(true);
    let keeping = tokio::spawn(demand::keep(context.clone(), asks, spare, shutdown.clone()));
    let manager = Manager::new(config, context, watches, class_info, report, watchdog, found);
    manager.run(shutdown).await;
    health.readiness().set(false);
    // It too has ended with the shutdown.
    keeping.await.ok();
    engine.shutdown().await;
    // It has ended with the shutdown.
    reporter.await.ok();
    drop(root);
    Ok(())
}

fn watches(config: &SidecarConfig, shutdown: &CancellationToken) -> Watches {
    let named =
        |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}")).any_semantic();
    let labelled =
        watcher::Config::default().labels(&format!("{CLASS_LABEL}={}", config.class)).any_semantic();
    let client = &config.client;
    Watches {
        class: mirror(Api::all(client.clone()), named(&config.class), shutdown.clone()),
        revisions: mirror(Api::all(client.clone()), labelled, shutdown.clone()),
        node: mirror(Api::all(client.clone()), named(&config.node_name), shutdown.clone()),
    }
}

/// Waits for a root that is fit to be one, saying what is wrong with it meanwhile (T65). One that another sidecar holds is an
/// error (T77).
async fn fit_root(
    config: &SidecarConfig,
    watches: &Watches,
    report: &watch::Sender<Option<Report>>,
    watchdog: &Watchdog,
    shutdown: &CancellationToken,
) -> Result<Option<Root>, SidecarError> {
    loop {
        watchdog.turn();
        let path = config.root.clone();
        let error = match blocking(move || Root::open(&path)).await {
            Ok(root) => return Ok(Some(root)),
            Err(error @ StoreError::Locked { .. }) => return Err(error.into()),
            Err(error) => error,
        };
        tracing::error!(%error, "nothing is done until the root is fit");
        let node = watches.node.borrow().objects.get(&config.node_name).cloned();
        if let Some(uid) = node.and_then(|node| node.metadata.uid.clone()) {
            let status = unfit(&error);
            report.send_replace(Some(Report { node_uid: uid, status }));
        }
        if stoppable(shutdown, tokio::time::sleep(ROOT_RETRY)).await.is_err() {
            return Ok(None);
        }
    }
}

fn unfit(error: &StoreError) -> NodeDistributionStatus {
    let condition = Condition {
        type_: "RootReady".to_owned(),
        status: "False".to_owned(),
        reason: match error {
            StoreError::Root { .. } => "RootUnfit",
            other if other.reason() == reason::DISK_FULL => reason::DISK_FULL,
            _ => reason::DISK_ERROR,
        }
        .to_owned(),
        message: error.to_string(),
        last_transition_time: Time(k8s_openapi::jiff::Timestamp::now()),
        observed_generation: None,
    };
    NodeDistributionStatus { revisions: Vec::new(), conditions: vec![condition] }
}

fn known_class(layout: &crate::store::Layout) -> Option<Arc<ClassInfo>> {
    ClassInfo::load(layout).unwrap_or_else(|error| {
        tracing::warn!(%error, "the copy of the class is of no use");
        None
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.expect("the work on the disk does not panic")
}
