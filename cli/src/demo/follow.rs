//! Watching the cluster until every node has it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use crds::{Distribution, NodeDistribution, NodePhase, condition};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher},
};

use super::view::View;

/// How often bars are drawn anew.
const REDRAW: Duration = Duration::from_millis(250);

/// How a node is getting on.
#[derive(Clone, Debug, Default)]
pub struct NodeState {
    /// What it said last.
    pub phase: Option<NodePhase>,
    /// Why it does not get on.
    pub problem: Option<String>,
    /// Payload bytes from the origin, as of its last report.
    pub origin_bytes: u64,
    /// Payload bytes from peers, as of its last report.
    pub peer_bytes: u64,
    /// When it was ready, from the start.
    pub ready_after: Option<Duration>,
}

/// What is followed.
pub struct Follow<'a> {
    /// The API.
    pub client: Client,
    /// The Distribution as it was applied.
    pub distribution: &'a Distribution,
    /// Names and data roots of the nodes.
    pub nodes: &'a [(String, PathBuf)],
    /// Payload bytes of one copy.
    pub bytes: u64,
    /// When it was applied.
    pub start: Instant,
    /// How long it may take.
    pub timeout: Duration,
}

impl Follow<'_> {
    /// Returns when the Distribution is Ready, or with what is known when the time is up.
    pub async fn run(self, view: &mut View) -> Result<BTreeMap<String, NodeState>> {
        let mut states: BTreeMap<_, _> =
            self.nodes.iter().map(|(name, _)| (name.clone(), NodeState::default())).collect();
        let mut nodes = self.node_changes();
        let mut distributions = self.distribution_changes();
        let (mut redraw, mut said) = (tokio::time::interval(REDRAW), Vec::new());
        let deadline = tokio::time::sleep(self.timeout.saturating_sub(self.start.elapsed()));
        tokio::pin!(deadline);
        let mut ready = false;
        while !(ready && states.values().all(|state| state.ready_after.is_some())) {
            tokio::select! {
                changed = nodes.next() => match changed {
                    Some(node) => self.take(&mut states, &node, view),
                    None => bail!("the in-memory API ended"),
                },
                changed = distributions.next() => match changed {
                    Some(distribution) => ready = judge(&distribution, &mut said, view),
                    None => bail!("the in-memory API ended"),
                },
                _ = redraw.tick() => self.draw(&states, view),
                () = &mut deadline => {
                    view.say(&format!("not finished after {} s", self.timeout.as_secs()));
                    break;
                }
            }
        }
        self.draw(&states, view);
        Ok(states)
    }

    fn node_changes(&self) -> impl Stream<Item = NodeDistribution> + Unpin + use<> {
        changes(Api::all(self.client.clone()), watcher::Config::default())
    }

    fn distribution_changes(&self) -> impl Stream<Item = Distribution> + Unpin + use<> {
        let namespace = self.distribution.namespace().unwrap_or_default();
        let name = format!("metadata.name={}", self.distribution.name_any());
        changes(Api::namespaced(self.client.clone(), &namespace), watcher::Config::default().fields(&name))
    }

    fn take(&self, states: &mut BTreeMap<String, NodeState>, node: &NodeDistribution, view: &View) {
        let name = node.name_any();
        // The demo has one Distribution, so there is one entry.
        let entry = node.status.as_ref().and_then(|status| status.revisions.first());
        let (Some(entry), Some(state)) = (entry, states.get_mut(&name)) else { return };
        let problem = entry.reason.as_ref().map(|reason| {
            let message = entry.message.as_deref().unwrap_or_default();
            format!("{reason}: {message}")
        });
        if problem != state.problem
            && let Some(problem) = &problem
        {
            view.say(&format!("{name}: {problem}"));
        }
        state.problem = problem;
        state.phase = Some(entry.phase);
        state.origin_bytes = u64::try_from(entry.origin_bytes).unwrap_or_default();
        state.peer_bytes = u64::try_from(entry.peer_bytes).unwrap_or_default();
        if entry.phase == NodePhase::Ready && state.ready_after.is_none() {
            state.ready_after = Some(self.start.elapsed());
            let ready = states.values().filter(|state| state.ready_after.is_some()).count();
            view.phase(&format!("{name} is ready ({ready}/{})", self.nodes.len()));
        }
    }

    fn draw(&self, states: &BTreeMap<String, NodeState>, view: &mut View) {
        if !view.has_bars() {
            return;
        }
        for (name, root) in self.nodes {
            let Some(state) = states.get(name) else { continue };
            let here =
                if state.ready_after.is_some() { self.bytes } else { bytes_on_disk(root).min(self.bytes) };
            let phase =
                state.phase.map_or_else(|| "waiting".to_owned(), |phase| format!("{phase:?}").to_lowercase());
            view.bar(name, here, &phase);
        }
    }
}

/// Says what is new about the Distribution; true if it is Ready.
fn judge(distribution: &Distribution, said: &mut Vec<(String, String, String)>, view: &View) -> bool {
    let Some(status) = &distribution.status else { return false };
    for seen in &status.conditions {
        let line = (seen.type_.clone(), seen.status.clone(), seen.message.clone());
        if said.contains(&line) {
            continue;
        }
        if seen.type_ == condition::STALLED && seen.status == "True" {
            view.say(&format!("stalled: {}: {}", seen.reason, seen.message));
        } else if seen.status == "True"
            && [condition::RESOLVED, condition::BUILT].contains(&seen.type_.as_str())
        {
            view.phase(if seen.type_ == condition::RESOLVED {
                "the source is resolved, one node reads it"
            } else {
                "the torrent is built, the others join"
            });
        }
        said.retain(|(kind, ..)| *kind != seen.type_);
        said.push(line);
    }
    let current = status.observed_generation == distribution.metadata.generation;
    current && status.conditions.iter().any(|c| c.type_ == condition::READY && c.status == "True")
}

/// The objects of a watch as they are and as they change; its errors are retried.
fn changes<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = K> + Unpin + use<K>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let stream = watcher(api, config).default_backoff().applied_objects();
    stream
        .inspect_err(|error| tracing::warn!(%error, "watching"))
        .filter_map(async |object| object.ok())
        .boxed()
}

/// What a node has so far. A file that is being fetched grows; one that peers send has its full length, and its space on the disk, from
/// the start.
fn bytes_on_disk(root: &Path) -> u64 {
    fn sum(folder: &Path) -> u64 {
        let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
        let size = |entry: std::fs::DirEntry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => sum(&entry.path()),
            Ok(_) => swarm::written(&entry.path()).unwrap_or_default(),
            Err(_) => 0,
        };
        entries.filter_map(Result::ok).map(size).sum()
    }
    let Ok(revisions) = std::fs::read_dir(root.join("incoming")) else { return 0 };
    revisions.filter_map(Result::ok).map(|revision| sum(&revision.path().join("data"))).sum()
}
