//! The host's container runtime: found, pointed at the mirror, and asked again and again whether it really asks there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mirror::{Mirror, canary_reference};
use rand::Rng as _;
use runtime::discovery::{self, Mounted};
use runtime::hosts::{Block, Hosts, Outcome};
use runtime::{Canary, Runtime};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ImagesConfig;
use crate::class::ClassInfo;
use crate::jobs::stoppable;

/// How often the hosts files are looked at: others write them too.
const LOOK: Duration = Duration::from_mins(1);
/// How often the canary is pulled while it sings.
const CANARY: Duration = Duration::from_mins(10);
/// Letters of a canary's tag.
const NONCE: usize = 24;

/// What is known of the runtime.
#[derive(Clone, Debug)]
pub struct HostState {
    /// The runtime, if there is one.
    pub runtime: Option<Runtime>,
    /// For the node's condition `ImageMirrorReady`: whether pulls go through the mirror.
    pub ready: bool,
    /// A condition's reason.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl Default for HostState {
    fn default() -> Self {
        let (reason, message) = ("Starting", "the container runtime has not been looked at yet".to_owned());
        Self { runtime: None, ready: false, reason, message }
    }
}

/// Why pulls do not go through the mirror.
struct Problem {
    reason: &'static str,
    message: String,
}

impl Problem {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// The task.
pub(super) struct Host {
    pub config: ImagesConfig,
    pub owner: String,
    /// Revisions on this disk at the start: leases of others are left over.
    pub kept: Vec<String>,
    pub mirror: Mirror,
    pub class: watch::Receiver<Option<Arc<ClassInfo>>>,
    pub state: watch::Sender<HostState>,
    /// None before it was found.
    pub runtime: Option<Runtime>,
    /// When the canary sang last, if it did the last time.
    pub sang: Option<Instant>,
}

impl Host {
    pub async fn run(mut self, shutdown: CancellationToken) {
        while stoppable(&shutdown, self.look()).await.is_ok() {
            let wait = async {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    Ok(()) = self.class.changed() => {}
                }
            };
            if stoppable(&shutdown, wait).await.is_err() {
                return;
            }
        }
    }

    async fn look(&mut self) {
        let result = self.point_and_ask().await;
        let runtime = self.runtime.clone();
        let before = self.state.borrow().reason;
        let state = match result {
            Ok(()) => HostState { runtime, ready: true, reason: "MirrorUsed", message: String::new() },
            Err(Problem { reason, message }) => {
                self.sang = None;
                HostState { runtime, ready: false, reason, message }
            }
        };
        match (state.ready, before == state.reason) {
            (_, true) => {}
            (true, false) => tracing::info!("the container runtime pulls through the mirror"),
            (false, false) => {
                tracing::warn!(state.reason, state.message, "pulls do not go through the mirror");
            }
        }
        self.state.send_replace(state);
    }

    /// Finds the runtime, edits its hosts files, and pulls the canary if that is due.
    async fn point_and_ask(&mut self) -> Result<(), Problem> {
        let mounted = Mounted(self.config.host.clone());
        let found = discovery::place(&mounted);
        let found = found.map_err(|error| Problem::new("RuntimeConfig", error.to_string()))?;
        // A containerd without a configuration has all defaults.
        let place = found.unwrap_or(&discovery::KNOWN[discovery::KNOWN.len() - 1]);
        let runtime = self.connected(&at(&self.config.host, place.socket)).await?;
        let version = runtime.version().await;
        let version = version.map_err(|error| Problem::new("RuntimeUnavailable", error.to_string()))?;
        let found = discovery::discover(&mounted, place);
        let found = found.map_err(|error| Problem::new("RuntimeConfig", error.to_string()))?;
        let path = found.config_path_of(&version.version).map(str::to_owned);
        if self.is_retired() {
            self.retire(&runtime, path.as_deref()).await;
            return Err(Problem::new("Retired", "the class is being retired"));
        }
        if self.config.hosts_files {
            let path = path.ok_or_else(|| no_config_path(place))?;
            self.apply(path).await?;
        }
        if self.sang.is_none_or(|at| at.elapsed() >= CANARY) {
            self.ask(&runtime).await?;
            self.sang = Some(Instant::now());
        }
        Ok(())
    }

    /// The runtime; connected to when it is found first. It connects again by itself.
    async fn connected(&mut self, socket: &Path) -> Result<Runtime, Problem> {
        if let Some(runtime) = &self.runtime {
            return Ok(runtime.clone());
        }
        let runtime = self.connect(socket).await?;
        self.runtime = Some(runtime.clone());
        Ok(runtime)
    }

    async fn connect(&self, socket: &Path) -> Result<Runtime, Problem> {
        let unavailable = |error: runtime::Error| Problem::new("RuntimeUnavailable", error.to_string());
        let runtime = Runtime::connect(socket).await.map_err(unavailable)?;
        let released = runtime.release_all_but(&self.owner, &self.kept).await.map_err(unavailable)?;
        for revision in released {
            tracing::info!(revision, "let go of the layers of a revision that is not here any more");
        }
        Ok(runtime)
    }

    fn is_retired(&self) -> bool {
        self.class.borrow().as_ref().is_some_and(|class| class.retired)
    }

    /// Undoes what was done to the host.
    async fn retire(&self, runtime: &Runtime, config_path: Option<&str>) {
        if let Err(error) = runtime.release_all_but(&self.owner, &[]).await {
            tracing::warn!(%error, "leases are left at the container runtime");
        }
        let Some(path) = config_path.filter(|_| self.config.hosts_files).map(str::to_owned) else { return };
        let host = self.config.host.clone();
        let undone = tokio::task::spawn_blocking(move || Hosts::new(&host, &path).undo()).await;
        for report in undone.unwrap_or_default() {
            if let Outcome::Failed(error) = report.outcome {
                tracing::error!(path = %report.path.display(), %error, "the mirror stays in a hosts file");
            }
        }
    }

    async fn apply(&self, config_path: String) -> Result<(), Problem> {
        let (host, block) = (self.config.host.clone(), Block::on_port(self.config.mirror.port()));
        let applied =
            tokio::task::spawn_blocking(move || Hosts::new(&host, &config_path).apply(&block)).await;
        let mut failed = Vec::new();
        for report in applied.unwrap_or_default() {
            let path = report.path.display();
            match report.outcome {
                Outcome::Changed => tracing::info!(%path, "the mirror is in this hosts file now"),
                Outcome::Failed(error) => failed.push(format!("{path}: {error}")),
                Outcome::Unchanged | Outcome::Certificates => {}
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(Problem::new("HostsFiles", failed.join("; "))) }
    }

    /// Whether the runtime asks the mirror for an image that nobody else has.
    async fn ask(&self, runtime: &Runtime) -> Result<(), Problem> {
        let letters = rand::rng().sample_iter(rand::distr::Alphanumeric).take(NONCE);
        let nonce: String = letters.map(char::from).collect();
        self.mirror.canary().arm(&nonce);
        match runtime.canary(&canary_reference(&nonce)).await {
            Ok(Canary::Sings) => Ok(()),
            Ok(Canary::Silent(error)) => Err(Problem::new(
                "MirrorNotUsed",
                format!("a pull that only the mirror can answer went past it: {error}"),
            )),
            Err(error) => Err(Problem::new("RuntimeUnavailable", error.to_string())),
        }
    }
}

fn no_config_path(place: &discovery::Place) -> Problem {
    let message = format!(
        "{} has no registry.config_path: set it to \"/etc/containerd/certs.d\" in {} and restart it once",
        place.name, place.config
    );
    Problem::new("NoConfigPath", message)
}

/// A path of the host where it is mounted here.
fn at(host: &Path, path: &str) -> std::path::PathBuf {
    host.join(path.trim_start_matches('/'))
}
