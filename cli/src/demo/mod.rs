//! `samara demo`: the whole flow on one machine, without a cluster.
//!
//! The shipped operator, its trackers and N sidecars run in this process over an in-memory Kubernetes API, each on a
//! loopback address of its own. What is missing is what Kubernetes does: a few lines stand in for the kubelet.

mod cluster;
mod content;
mod daemons;
mod follow;
mod kubelet;
mod network;
mod origin;
mod plain;
mod random;
mod report;
mod verify;
mod view;
mod workdir;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use crds::Distribution;
use daemon::CancellationToken;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams},
};
use memory_api::MemoryApi;

use self::{
    cluster::DemoNode,
    content::Wanted,
    daemons::Daemons,
    follow::{Follow, NodeState},
    network::{MAX_NODES, Network},
    origin::Origin,
    plain::Expected,
    report::{NodeReport, Report},
    view::View,
    workdir::Workdir,
};
use crate::{output, units, units::parse_bytes};

/// How long the deletion of the Distribution may take at the end.
const DELETION: Duration = Duration::from_secs(30);

/// Distribute something to N nodes on this machine, without a cluster.
///
/// Operator, trackers and sidecars are the real ones, in one process over an in-memory Kubernetes API. Every file on every
/// node is hashed and compared with the origin's at the end. Nothing is left behind unless --keep says so.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samara demo
  samara demo --nodes 20 --size 1GiB --origin-rate 16M
  samara demo model.gguf
  samara demo https://example.org/file.iso
  samara demo -f distribution.yaml --keep out/ --json")]
pub struct DemoArgs {
    /// A file, a folder or a URL to distribute; made-up bytes if nothing is given
    #[arg(conflicts_with = "manifest", value_name = "FILE|FOLDER|URL")]
    what: Option<String>,
    /// A YAML file with a Distribution to apply
    #[arg(short = 'f', long = "file", value_name = "YAML")]
    manifest: Option<PathBuf>,
    /// How much to make up
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "256MiB", conflicts_with_all = ["what", "manifest"])]
    size: u64,
    /// How many nodes
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_NODES)))]
    nodes: u16,
    /// Bytes per second that the demo's own origin gives to all together; 0: as many as it can
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, default_value = "64M")]
    origin_rate: u64,
    /// Leave the nodes' data in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    timeout: u64,
}

/// Runs the demo; an error if a node did not get exactly the origin's bytes.
pub async fn run(args: DemoArgs, shutdown: CancellationToken) -> Result<()> {
    let stop = CancellationToken::new();
    let mut daemons = Daemons::new(stop.clone());
    let workdir = Workdir::new(args.keep.as_deref())?;
    let outcome = tokio::select! {
        outcome = flow(&args, &workdir, &mut daemons, &stop) => outcome,
        () = shutdown.cancelled() => Err(anyhow::anyhow!("interrupted")),
    };
    stop.cancel();
    daemons.ended().await;
    let report = outcome?;
    output::result(&if args.json { serde_json::to_string_pretty(&report)? } else { report.table() })?;
    if let Some(path) = workdir.kept() {
        output::say(&format!("kept: {}", path.display()));
    }
    if !report.verified {
        bail!("not every node has the origin's bytes");
    }
    Ok(())
}

async fn flow(
    args: &DemoArgs,
    workdir: &Workdir,
    daemons: &mut Daemons,
    stop: &CancellationToken,
) -> Result<Report> {
    let mut view = View::new();
    let (network, listener) = Network::claim().await?;
    let wanted = wanted(args, &format!("http://{}", listener.local_addr()?))?;
    workdir.check_space(wanted.size().saturating_mul(u64::from(args.nodes)))?;
    let rate = Some(args.origin_rate).filter(|rate| *rate > 0);
    let origin = Origin::start(listener, wanted.contents, rate, stop.clone())?;
    view.say(&format!("origin at {}; reading it once, plainly", origin.base()));
    let wanted = wanted.distribution;
    let expected = read_plainly(&wanted, &view).await?;
    let (api, nodes) = cluster(args, network, &wanted, workdir, daemons, &view).await?;
    let roots: Vec<_> = nodes.iter().map(|node| (node.name.clone(), workdir.root(&node.name))).collect();

    let before = origin.sent();
    let start = Instant::now();
    let distributions: Api<Distribution> = Api::namespaced(api.client(), &namespace(&wanted));
    let applied = distributions.create(&PostParams::default(), &wanted).await?;
    view.say(&format!("applied Distribution {}/{}", namespace(&wanted), applied.name_any()));
    let follow = Follow {
        client: api.client(),
        distribution: &applied,
        nodes: &roots,
        bytes: expected.bytes,
        start,
        timeout: Duration::from_secs(args.timeout),
    };
    let states = watch(follow, daemons, &mut view).await?;
    let given = if origin.sent() > before {
        origin.sent() - before
    } else {
        states.values().map(|s| s.origin_bytes).sum()
    };
    view.say("hashing every file on every node");
    let rows = verify_all(&roots, &states, &applied, &expected).await?;
    if workdir.kept().is_none() {
        delete(&distributions, &applied.name_any(), &view).await?;
    }
    Ok(Report::new(rows, expected.bytes, expected.files.len(), expected.time, given))
}

async fn read_plainly(wanted: &Distribution, view: &View) -> Result<Expected> {
    let expected = plain::read(wanted).await?;
    let (size, files) = (units::bytes(expected.bytes), expected.files.len());
    view.say(&format!("{size} in {files} file(s) took {:.1} s", expected.time.as_secs_f64()));
    Ok(expected)
}

/// Makes the API and its nodes, and runs all daemons on them.
async fn cluster(
    args: &DemoArgs,
    network: Network,
    wanted: &Distribution,
    workdir: &Workdir,
    daemons: &mut Daemons,
    view: &View,
) -> Result<(MemoryApi, Vec<DemoNode>)> {
    let class = &wanted.spec.class_name;
    let class_root = Path::new("/var/lib/samara");
    let (api, nodes) = cluster::build(network, class, &namespace(wanted), args.nodes, class_root)?;
    daemons.start(&api, network, class, class_root, &nodes, workdir).await?;
    daemons.ready(api.client(), class, nodes.len()).await?;
    view.say(&format!("the operator, its trackers and {} sidecars are running", nodes.len()));
    Ok((api, nodes))
}

/// Follows it with bars, until it is over or a daemon has failed.
async fn watch(
    follow: Follow<'_>,
    daemons: &mut Daemons,
    view: &mut View,
) -> Result<BTreeMap<String, NodeState>> {
    view.add_bars(follow.nodes.iter().map(|(name, _)| name.as_str()), follow.bytes);
    let followed = tokio::select! {
        states = follow.run(view) => states,
        error = daemons.failed() => Err(error),
    };
    view.end_bars();
    followed
}

fn namespace(distribution: &Distribution) -> String {
    distribution.namespace().unwrap_or_else(|| "default".to_owned())
}

fn wanted(args: &DemoArgs, base: &str) -> Result<Wanted> {
    match (&args.what, &args.manifest) {
        (Some(what), _) => Wanted::of_argument(what, base),
        (None, Some(manifest)) => Wanted::of_manifest(manifest),
        (None, None) => Wanted::random(args.size, base),
    }
}

async fn verify_all(
    roots: &[(String, PathBuf)],
    states: &BTreeMap<String, NodeState>,
    distribution: &Distribution,
    expected: &Expected,
) -> Result<Vec<NodeReport>> {
    let dataset = Path::new("datasets")
        .join(distribution.namespace().unwrap_or_default())
        .join(distribution.name_any());
    let mut rows = Vec::with_capacity(roots.len());
    for (node, root) in roots {
        let (dataset, files) = (root.join(&dataset), expected.files.clone());
        let verdict = tokio::task::spawn_blocking(move || verify::verify(&dataset, &files)).await?;
        let state = states.get(node).cloned().unwrap_or_default();
        let problem = verdict.as_ref().err().map(|error| {
            let said =
                state.problem.clone().map(|problem| format!(" (it said {problem})")).unwrap_or_default();
            format!("{error:#}{said}")
        });
        rows.push(NodeReport {
            node: node.clone(),
            origin_bytes: state.origin_bytes,
            peer_bytes: state.peer_bytes,
            seconds: state.ready_after.map(|after| after.as_secs_f64()),
            verified: verdict.is_ok(),
            problem,
        });
    }
    Ok(rows)
}

/// Deletes the Distribution and waits until the nodes have freed their disks and the finalizer is gone.
async fn delete(distributions: &Api<Distribution>, name: &str, view: &View) -> Result<()> {
    view.say("deleting the Distribution");
    distributions.delete(name, &DeleteParams::default()).await.context("cannot delete the Distribution")?;
    let start = Instant::now();
    while distributions.get_opt(name).await?.is_some() {
        if start.elapsed() > DELETION {
            bail!("the Distribution is still there {} s after it was deleted", DELETION.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    view.say(&format!("gone after {:.1} s", start.elapsed().as_secs_f64()));
    Ok(())
}
