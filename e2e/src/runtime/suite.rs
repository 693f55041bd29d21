//! The runner of scenarios with a container runtime: it runs the test program again in namespaces of its own, and there one scenario
//! after the other, each with a containerd that has seen nothing.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use runtime::hosts::{Block, Hosts, Outcome};

use super::containerd::{Containerd, Settings, Version};
use super::image::Image;
use super::log::Log;
use super::registry::Registry;
use super::{MIRROR, UPSTREAM};
use crate::cluster::process::line_blocking;
use crate::real::skip;

/// Tells the program that it is inside.
const INSIDE: &str = "SAMARA_E2E_INSIDE";
/// A scenario that takes longer has failed.
const SCENARIO_TIMEOUT: Duration = Duration::from_mins(3);

/// What a scenario has: a containerd, a registry that has `image`, and the requests of all.
#[derive(Debug)]
pub struct World {
    /// For further instances.
    pub version: Version,
    /// Everything of this scenario.
    pub folder: PathBuf,
    /// Started with the scenario's settings.
    pub containerd: Containerd,
    /// The registry of the images' references.
    pub upstream: Registry,
    /// All requests.
    pub log: Log,
    /// An image that upstream has.
    pub image: Image,
}

impl World {
    async fn start(version: &Version, settings: &Settings) -> Result<Self> {
        let folder = tempfile::tempdir()?.keep();
        // Overlays lie on no overlay, which a container's root may be.
        line_blocking(&format!("mount -t tmpfs tmpfs {}", folder.display()))?;
        let log = Log::default();
        let upstream = Registry::start("upstream", UPSTREAM, &log).await?;
        let image = Image::new("app", 1)?;
        upstream.add(&image);
        let containerd = Containerd::start(version, &folder, settings).await?;
        Ok(Self { version: version.clone(), folder, containerd, upstream, log, image })
    }

    /// containerd's hosts files.
    pub fn hosts(&self) -> Hosts {
        Hosts::new(std::path::Path::new("/"), &self.containerd.config_path)
    }

    /// Puts the mirror into them.
    pub fn use_mirror(&self) -> Result<()> {
        for report in self.hosts().apply(&Block::on_port(MIRROR)) {
            if let Outcome::Failed(error) = report.outcome {
                return Err(error).context(report.path.display().to_string());
            }
        }
        Ok(())
    }

    /// Pulls the image.
    pub async fn pull(&self) -> Result<String> {
        let (reference, digest) = (self.image.reference(), self.image.digest());
        Ok(self.containerd.runtime.pull(&reference, &digest).await?)
    }

    fn end(self) {
        let Self { containerd, upstream, folder, .. } = self;
        drop((containerd, upstream));
        // Snapshots may still be mounted in it; it goes with the namespace at the latest.
        drop(line_blocking(&format!("umount --lazy {}", folder.display())));
        drop(std::fs::remove_dir(&folder));
    }
}

/// What a scenario does; assertions may panic.
pub type Step = for<'a> fn(&'a World) -> BoxFuture<'a, Result<()>>;

struct Scenario {
    name: &'static str,
    settings: Settings,
    step: Step,
}

/// The scenarios of a test program.
#[derive(Default)]
pub struct Suite {
    scenarios: Vec<Scenario>,
}

impl Suite {
    /// Adds a scenario.
    #[must_use]
    pub fn scenario(self, name: &'static str, step: Step) -> Self {
        self.scenario_with(name, Settings::default(), step)
    }

    /// Adds a scenario with another configuration of containerd.
    #[must_use]
    pub fn scenario_with(mut self, name: &'static str, settings: Settings, step: Step) -> Self {
        self.scenarios.push(Scenario { name, settings, step });
        self
    }

    /// Runs what the command line asks for (parts of names; `--list`) with each of `versions`.
    pub fn run(self, program: &str, versions: impl FnOnce() -> Result<Vec<Version>>) -> ExitCode {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
        if args.iter().any(|arg| arg == "--list") {
            self.scenarios.iter().for_each(|scenario| say(&format!("{}: test", scenario.name)));
            return ExitCode::SUCCESS;
        }
        let outcome = if std::env::var_os(INSIDE).is_some() {
            versions().and_then(|versions| self.run_inside(&versions, &filters))
        } else {
            let missing = xtask::tools::missing_for_runtime();
            if missing.is_empty() {
                // They are built out here: inside there is no network to get modules from.
                versions().and_then(|_| enter(&args))
            } else {
                skip(program, &missing.join("; ")).map(|()| 0)
            }
        };
        match outcome {
            Ok(0) => ExitCode::SUCCESS,
            Ok(failed) => {
                say(&format!("{program}: {failed} failed"));
                ExitCode::FAILURE
            }
            Err(error) => {
                say(&format!("{program}: {error:#}"));
                ExitCode::FAILURE
            }
        }
    }

    fn run_inside(&self, versions: &[Version], filters: &[&String]) -> Result<usize> {
        line_blocking("ip link set lo up")?;
        let tokio = tokio::runtime::Runtime::new()?;
        let mut failed = 0;
        for version in versions {
            for scenario in &self.scenarios {
                let name = format!("containerd {}: {}", version.name, scenario.name);
                if scenario.settings.only.is_some_and(|only| only != version.name) {
                    continue;
                }
                if filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())) {
                    failed += usize::from(!tokio.block_on(attempt(&name, version, scenario)));
                }
            }
        }
        Ok(failed)
    }
}

/// Runs this program again where it can do no harm; answers how many have failed.
fn enter(args: &[String]) -> Result<usize> {
    let own = std::env::current_exe()?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--propagation", "private", "--"]).arg(own).args(args).env(INSIDE, "1");
    let status = command.status().context("unshare: cannot start")?;
    Ok(usize::from(!status.success()))
}

/// Runs one scenario and says how it went.
async fn attempt(name: &str, version: &Version, scenario: &Scenario) -> bool {
    let start = Instant::now();
    let outcome = match World::start(version, &scenario.settings).await {
        Err(error) => Err(error),
        Ok(world) => {
            let step = AssertUnwindSafe(tokio::time::timeout(SCENARIO_TIMEOUT, (scenario.step)(&world)));
            let outcome = match step.catch_unwind().await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(anyhow!("not finished after {SCENARIO_TIMEOUT:?}")),
                // The panic's message has been printed by the panic hook.
                Err(_) => Err(anyhow!("panicked")),
            };
            if outcome.is_err() {
                say(&std::fs::read_to_string(world.folder.join("containerd.log")).unwrap_or_default());
                say(&format!("{:#?}", world.log.by_object()));
            }
            world.end();
            outcome
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    match outcome {
        Ok(()) => say(&format!("test {name} ... ok ({seconds:.1} s)")),
        Err(ref error) => say(&format!("test {name} ... FAILED ({seconds:.1} s): {error:#}")),
    }
    outcome.is_ok()
}

/// The report is this program's standard output.
#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
}
