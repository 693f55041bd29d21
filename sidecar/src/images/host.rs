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

/// A version that has all defaults there are.
const NEWEST: &str = "2.2.0";
/// Nothing is known yet.
const STARTING: &str = "Starting";
/// Some registries are left without a mirror.
const HOSTS_FILES: &str = "HostsFiles";
/// The host is as it was: what an uninstall waits for.
const RETIRED: &str = crds::condition::RETIRED;

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

impl HostState {
    /// Whether it was looked at.
    pub fn is_known(&self) -> bool {
        self.reason != STARTING
    }

    fn says_the_same(&self, other: &Self) -> bool {
        let found = |state: &Self| state.runtime.is_some();
        (self.ready, self.reason, &self.message, found(self))
            == (other.ready, other.reason, &other.message, found(other))
    }
}

impl Default for HostState {
    fn default() -> Self {
        let (reason, message) = (STARTING, "the container runtime has not been looked at yet".to_owned());
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

    /// And that may be why.
    fn with(self, complaints: &[String]) -> Self {
        let Self { reason, message } = self;
        let all = std::iter::once(&message).chain(complaints).map(String::as_str).collect::<Vec<_>>();
        Self { reason, message: all.join("; ") }
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
        let result = if self.is_retired() { Err(self.retire().await) } else { self.point_and_ask().await };
        let runtime = self.runtime.clone();
        let state = match result {
            Ok(complaints) if complaints.is_empty() => {
                HostState { runtime, ready: true, reason: "MirrorUsed", message: String::new() }
            }
            Ok(complaints) => {
                HostState { runtime, ready: true, reason: HOSTS_FILES, message: complaints.join("; ") }
            }
            Err(Problem { reason, message }) => {
                self.sang = None;
                HostState { runtime, ready: false, reason, message }
            }
        };
        if !self.state.borrow().says_the_same(&state) {
            if state.ready {
                tracing::info!(state.message, "the container runtime pulls through the mirror");
            } else {
                tracing::warn!(state.reason, state.message, "pulls do not go through the mirror");
            }
            self.state.send_replace(state);
        }
    }

    /// Finds the runtime, edits its hosts files, and pulls the canary if that is due. Answers which registries are left without a mirror.
    async fn point_and_ask(&mut self) -> Result<Vec<String>, Problem> {
        let (mounted, place) = self.place()?;
        let runtime = self.connected(&at(&self.config.host, place.socket)).await?;
        let version = runtime.version().await;
        let version = version.map_err(|error| Problem::new("RuntimeUnavailable", error.to_string()))?;
        let path = config_path(&mounted, place, &version.version)?;
        let mut complaints = Vec::new();
        if self.config.hosts_files {
            let path = path.ok_or_else(|| no_config_path(place))?;
            complaints = self.apply(path).await?;
        }
        if self.sang.is_none_or(|at| at.elapsed() >= CANARY) {
            self.ask(&runtime).await.map_err(|problem| problem.with(&complaints))?;
            self.sang = Some(Instant::now());
        }
        Ok(complaints)
    }

    /// Whose runtime it is.
    fn place(&self) -> Result<(Mounted, &'static discovery::Place), Problem> {
        let mounted = Mounted(self.config.host.clone());
        let found = place_of(&mounted);
        let place = found.map_err(|error| Problem::new("RuntimeConfig", error.to_string()))?;
        Ok((mounted, place))
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

    /// Undoes what was done to the host: the hosts files first, which needs no runtime.
    async fn retire(&mut self) -> Problem {
        let left = match self.undo().await {
            Ok(left) => left,
            Err(problem) => vec![problem.message],
        };
        if left.is_empty() {
            return Problem::new(RETIRED, "the class is being retired, and the host is as it was");
        }
        Problem::new("Retiring", left.join("; "))
    }

    /// Answers what is left.
    async fn undo(&mut self) -> Result<Vec<String>, Problem> {
        let (mounted, place) = self.place()?;
        let mut left = Vec::new();
        let runtime = self.connected(&at(&self.config.host, place.socket)).await;
        let version = match &runtime {
            Ok(runtime) => runtime.version().await.map(|version| version.version).ok(),
            Err(_) => None,
        };
        // One that does not answer may be of any version: nothing but lines of ours is taken out anywhere.
        let path = config_path(&mounted, place, version.as_deref().unwrap_or(NEWEST))?;
        if let Some(path) = path.filter(|_| self.config.hosts_files) {
            let host = self.config.host.clone();
            let undone = tokio::task::spawn_blocking(move || Hosts::new(&host, &path).undo()).await;
            for report in undone.map_err(|error| Problem::new(HOSTS_FILES, error.to_string()))? {
                if let Outcome::Failed(error) = report.outcome {
                    left.push(format!("{} still names the mirror: {error}", report.path.display()));
                }
            }
        }
        match runtime {
            Ok(runtime) => {
                if let Err(error) = runtime.release_all_but(&self.owner, &[]).await {
                    left.push(format!("leases are left: {error}"));
                }
            }
            Err(problem) => left.push(problem.message),
        }
        Ok(left)
    }

    async fn apply(&self, config_path: String) -> Result<Vec<String>, Problem> {
        let (host, block) = (self.config.host.clone(), Block::on_port(self.config.mirror.port()));
        let applied =
            tokio::task::spawn_blocking(move || Hosts::new(&host, &config_path).apply(&block)).await;
        let mut complaints = Vec::new();
        for report in applied.map_err(|error| Problem::new(HOSTS_FILES, error.to_string()))? {
            let path = report.path.display();
            match report.outcome {
                Outcome::Changed => tracing::info!(%path, "the mirror is in this hosts file now"),
                Outcome::Failed(error) => {
                    complaints.push(format!("{path}: {error} (is it below one of images.hostPaths?)"));
                }
                Outcome::Certificates => {
                    complaints.push(format!(
                        "{path} has certificates and no hosts.toml that names them: no mirror"
                    ));
                }
                Outcome::Unchanged => {}
            }
        }
        Ok(complaints)
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

/// Where the runtime looks for hosts files. What it is where nothing is configured depends on its version.
fn config_path(
    mounted: &Mounted,
    place: &discovery::Place,
    version: &str,
) -> Result<Option<String>, Problem> {
    let found = discovery::discover(mounted, place);
    let found = found.map_err(|error| Problem::new("RuntimeConfig", error.to_string()))?;
    Ok(found.config_path_of(version).map(str::to_owned))
}

fn no_config_path(place: &discovery::Place) -> Problem {
    let message = format!(
        "{} has no registry.config_path: set it to \"/etc/containerd/certs.d\" in {} and restart it once",
        place.name, place.config
    );
    Problem::new("NoConfigPath", message)
}

/// Whose runtime it is. A containerd without a configuration has all defaults.
pub(super) fn place_of(mounted: &Mounted) -> Result<&'static discovery::Place, discovery::DiscoveryError> {
    Ok(discovery::place(mounted)?.unwrap_or(&discovery::KNOWN[discovery::KNOWN.len() - 1]))
}

/// A path of the host where it is mounted here.
pub(super) fn at(host: &Path, path: &str) -> std::path::PathBuf {
    host.join(path.trim_start_matches('/'))
}
