//! The runner of cluster scenarios: one cluster for all scenarios of a test program, one scenario after the other.
//!
//! ```no_run
//! use e2e::suite::{Needs, Suite};
//!
//! fn main() -> std::process::ExitCode {
//!     Suite::new("example", 3)
//!         .scenario("nodes are listed", Needs::AnyCluster, |cluster| {
//!             Box::pin(async move {
//!                 assert!(cluster.kubectl(&["get", "nodes"]).await?.contains("node3"));
//!                 Ok(())
//!             })
//!         })
//!         .run()
//! }
//! ```
//!
//! Arguments: parts of names to run only those, `--list`, `--keep` (leave the cluster up), `--use-cluster` (run on the cluster that
//! `KUBECONFIG` names what needs no control over nodes), `--nodes N` (a cluster of another size). Those of cargo's own runner are accepted and ignored.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::cluster::{Cluster, Options};

/// A scenario that takes longer has failed.
const SCENARIO_TIMEOUT: Duration = Duration::from_mins(15);

/// A step on the cluster; assertions may panic.
pub type Step = for<'a> fn(&'a mut Cluster) -> BoxFuture<'a, Result<()>>;

/// On which clusters a scenario can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Also on a user's.
    AnyCluster,
    /// Only on one of our own: it kills nodes, reads their disks, limits their links.
    OwnNodes,
}

/// Name, where it can run, what it does.
type Scenario = (&'static str, Needs, Step);

/// The scenarios of a test program.
pub struct Suite {
    name: &'static str,
    options: Options,
    setup: Option<Step>,
    scenarios: Vec<Scenario>,
}

#[derive(Debug, Default)]
struct Args {
    filters: Vec<String>,
    list: bool,
    keep: bool,
    use_cluster: bool,
    nodes: Option<usize>,
}

impl Suite {
    /// A suite on a cluster with `nodes` nodes.
    pub fn new(name: &'static str, nodes: usize) -> Self {
        Self { name, options: Options { nodes, ..Options::default() }, setup: None, scenarios: Vec::new() }
    }

    /// Gives each node a disk of its own for the data root.
    #[must_use]
    pub fn data_disk(mut self, bytes: u64) -> Self {
        self.options.data_disk = Some(bytes);
        self
    }

    /// What to do once before the scenarios; if it fails, all of them have failed.
    #[must_use]
    pub fn setup(mut self, step: Step) -> Self {
        self.setup = Some(step);
        self
    }

    /// Adds a scenario.
    #[must_use]
    pub fn scenario(mut self, name: &'static str, needs: Needs, step: Step) -> Self {
        self.scenarios.push((name, needs, step));
        self
    }

    /// Runs what the command line asks for.
    pub fn run(mut self) -> ExitCode {
        let args = match Args::parse(std::env::args().skip(1)) {
            Ok(args) => args,
            Err(error) => {
                say(&format!("{}: {error:#}", self.name));
                return ExitCode::from(2);
            }
        };
        self.options.nodes = args.nodes.unwrap_or(self.options.nodes);
        let (wanted, other): (Vec<&Scenario>, Vec<&Scenario>) =
            self.scenarios.iter().partition(|(name, needs, _): &&Scenario| {
                (args.filters.is_empty() || args.filters.iter().any(|filter| name.contains(filter.as_str())))
                    && !(args.use_cluster && *needs == Needs::OwnNodes)
            });
        if args.list {
            for (name, ..) in &wanted {
                say(&format!("{name}: test"));
            }
            return ExitCode::SUCCESS;
        }
        if wanted.is_empty() {
            say(&format!("{}: 0 passed, 0 failed, {} not run", self.name, other.len()));
            return ExitCode::SUCCESS;
        }
        if !args.use_cluster {
            let missing = xtask::tools::missing();
            if !missing.is_empty() {
                return skip(self.name, &missing);
            }
        }
        let runtime = tokio::runtime::Runtime::new().expect("the machine can start threads");
        let outcome = runtime.block_on(async {
            tokio::select! {
                outcome = self.execute(&wanted, &args) => outcome,
                _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
            }
        });
        match outcome {
            Ok(failed) => {
                let (name, passed) = (self.name, wanted.len() - failed);
                say(&format!("{name}: {passed} passed, {failed} failed, {} not run", other.len()));
                ExitCode::from(u8::from(failed > 0))
            }
            Err(error) => {
                say(&format!("{}: {error:#}", self.name));
                ExitCode::FAILURE
            }
        }
    }

    async fn execute(&self, wanted: &[&Scenario], args: &Args) -> Result<usize> {
        let start = Instant::now();
        let mut cluster = if args.use_cluster {
            Cluster::of_user().await?
        } else {
            Cluster::start_with(self.options.clone()).await?
        };
        say(&format!("{}: cluster ready in {:.1} s", self.name, start.elapsed().as_secs_f64()));
        let mut failed = 0;
        let ready = match self.setup {
            Some(step) => attempt("setup", step, &mut cluster).await,
            None => true,
        };
        for (name, _, step) in wanted {
            failed += usize::from(!(ready && attempt(name, *step, &mut cluster).await));
        }
        if args.keep && cluster.is_own() {
            say(&format!(
                "kept: KUBECONFIG={}; end it with `cargo xtask cluster down`",
                cluster.detach()?.display()
            ));
        } else {
            cluster.stop().await?;
        }
        Ok(failed)
    }
}

/// Runs one step, says how it went, and dumps the cluster if it failed.
async fn attempt(name: &str, step: Step, cluster: &mut Cluster) -> bool {
    let start = Instant::now();
    let guarded = AssertUnwindSafe(tokio::time::timeout(SCENARIO_TIMEOUT, step(cluster))).catch_unwind();
    let result = match guarded.await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(anyhow!("not finished after {SCENARIO_TIMEOUT:?}")),
        // The panic's message has been printed by the panic hook.
        Err(_) => Err(anyhow!("panicked")),
    };
    let seconds = start.elapsed().as_secs_f64();
    match result {
        Ok(()) => {
            say(&format!("test {name} ... ok ({seconds:.1} s)"));
            true
        }
        Err(error) => {
            say(&format!("test {name} ... FAILED ({seconds:.1} s): {error:#}\n{}", cluster.dump().await));
            false
        }
    }
}

fn skip(name: &str, missing: &[String]) -> ExitCode {
    let why = missing.join("; ");
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    say(&format!(
        "{name}: {}: {why}",
        if ci { "cannot run, and with CI=true nothing is skipped" } else { "skipped" }
    ));
    ExitCode::from(u8::from(ci))
}

/// The report is this program's standard output.
#[allow(clippy::print_stdout)]
fn say(line: &str) {
    println!("{line}");
}

impl Args {
    fn parse(args: impl Iterator<Item = String>) -> Result<Self> {
        let mut this = Self::default();
        let mut args = args.peekable();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--list" => this.list = true,
                "--keep" => this.keep = true,
                "--use-cluster" => this.use_cluster = true,
                "--nodes" => {
                    let count = args.next().and_then(|count| count.parse().ok());
                    this.nodes = Some(count.context("--nodes takes a number")?);
                }
                // cargo's own options that have a value.
                "--test-threads" | "--format" | "--color" | "--skip" => drop(args.next()),
                option if option.starts_with('-') => {}
                _ => this.filters.push(arg),
            }
        }
        Ok(this)
    }
}

/// Fails unless `condition` holds within `timeout`: for scenarios that wait for a state.
pub async fn eventually<F, Fut>(what: &str, timeout: Duration, mut condition: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<bool>>,
{
    let answer = crate::cluster::until(what, timeout, || {
        let condition = condition();
        async move { condition.await.map(|holds| holds.then_some(())) }
    });
    match answer.await {
        Ok(()) => Ok(()),
        Err(error) => bail!("{error:#}"),
    }
}
