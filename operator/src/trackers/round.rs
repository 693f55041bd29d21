//! The rounds with the trackers: every few seconds, and at once when what they should hold has changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crds::DistributionRevision;
use crds::condition::READY;
use futures::future::join_all;
use jiff::Timestamp;
use kube::ResourceExt;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{At, TrackerError};
use super::registry;
use crate::class::{tracker_name, tracker_url};
use crate::context::Context;
use crate::index::{Index, ObjectId, owner_key};
use crate::metrics::count;
use crate::plan::SwarmView;
use crate::queue::{Key, Urgency};

/// Between two rounds when nothing changes.
const EVERY: Duration = Duration::from_secs(3);
/// Changes are collected for so long.
const SETTLE: Duration = Duration::from_millis(100);
/// A tracker that fails so often in a row is not ready.
const FAILURES: u32 = 2;

/// A revision that nodes share, and the name of its swarm.
pub(super) struct Work {
    pub(super) revision: Arc<DistributionRevision>,
    pub(super) infohash: String,
}

/// One class as the round needs it.
struct Class {
    name: String,
    token: String,
    trackers: Vec<(String, String)>,
    registry: Bytes,
    digest: String,
    /// Shared and not yet everywhere.
    work: Vec<Work>,
}

/// How a visit ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    /// It had the registry.
    Same,
    /// It had another one.
    Sent,
    /// It did not answer, or not well.
    Failed,
}

/// Goes round until the end.
pub async fn run(context: Arc<Context>, end: CancellationToken) {
    // In a row, by tracker.
    let mut failures = BTreeMap::new();
    let mut next_look = Instant::now();
    while !end.is_cancelled() {
        let looks = Instant::now() >= next_look;
        if context.is_acting() {
            round(&context, &mut failures, looks).await;
        }
        // From the end of the round: trackers that hang are not asked without a pause.
        if looks {
            next_look = Instant::now() + EVERY;
        }
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep_until(next_look) => {}
            () = context.registry_changed.notified() => tokio::time::sleep(SETTLE).await,
        }
    }
}

/// The trackers of a class that have an address: name and URL.
pub fn urls(index: &Index, class: &str, namespace: &str) -> Vec<(String, String)> {
    let replicas = index.classes.named(class).map_or(0, |class| class.spec.trackers.replicas);
    let names = (0..replicas).map(|number| tracker_name(class, number));
    let with_url = names.filter_map(|name| {
        let id = ObjectId { namespace: namespace.to_owned(), name: name.clone() };
        Some((name, tracker_url(index.services.by_id(&id)?)?))
    });
    with_url.collect()
}

/// None until the class has a token.
fn class(context: &Context, name: String) -> Option<Class> {
    let index = context.index();
    let ledger = context.ledger();
    let registry = serde_json::to_vec(&registry(&index, &ledger, &name, Timestamp::now())).ok()?;
    Some(Class {
        token: ledger.tokens.get(&name)?.clone(),
        trackers: urls(&index, &name, &context.settings.namespace),
        digest: hex::encode(Sha256::digest(&registry)),
        registry: registry.into(),
        work: shared(&index, &name).into_iter().filter(|work| is_at_work(&index, work)).collect(),
        name,
    })
}

/// Gives the trackers of a class their registry now. One that cannot be reached gets it in a later round.
pub async fn register(context: &Context, name: &str) {
    let turn = context.registering(name);
    let _one_at_a_time = turn.lock().await;
    let Some(class) = class(context, name.to_owned()) else { return };
    let syncs = class.trackers.iter().map(|(_, url)| sync(context, &class, At { url, token: &class.token }));
    for failed in join_all(syncs).await.into_iter().filter_map(Result::err) {
        tracing::debug!(error = %failed, "not in step");
    }
}

fn shared(index: &Index, class: &str) -> Vec<Work> {
    let shared = index.revisions_of(class).filter_map(|revision| {
        let infohash = name_of(revision)?;
        Some(Work { revision: revision.clone(), infohash })
    });
    shared.collect()
}

/// Whether the nodes are still at it. When all is at rest, nobody asks after it.
fn is_at_work(index: &Index, work: &Work) -> bool {
    let owner = &work.revision.spec.distribution;
    let id = ObjectId { namespace: owner.namespace.clone(), name: owner.name.clone() };
    let status = index.distributions.by_id(&id).and_then(|distribution| distribution.status.as_ref());
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == READY && condition.status == "True");
    work.revision.spec.policy.current && !ready
}

/// The first of its infohashes; what it goes by while it is read, until there are any.
fn name_of(revision: &DistributionRevision) -> Option<String> {
    match revision.spec.torrents.first() {
        Some(torrent) => torrent.info_hash_v2.clone().or(torrent.info_hash_v1.clone()),
        None => revision.spec.policy.ingest.as_ref().map(|ingest| ingest.id.clone()),
    }
}

/// One round with all trackers. `looks`: also ask how far the nodes are. That is as much to read as there are nodes at work, and does not
/// come with every change.
async fn round(context: &Context, failures: &mut BTreeMap<String, u32>, looks: bool) {
    let names: Vec<String> = context.index().classes.iter().map(|class| class.name_any()).collect();
    let visited = join_all(names.into_iter().map(|name| visit(context, name))).await;
    let visited: Vec<(Class, Vec<Visit>)> = visited.into_iter().flatten().collect();
    for (class, visits) in &visited {
        note_health(context, failures, class, visits);
    }
    if looks {
        join_all(visited.iter().map(|(class, visits)| look_at(context, class, visits))).await;
    }
}

/// Gives the trackers of a class their registry: how each visit ended.
async fn visit(context: &Context, name: String) -> Option<(Class, Vec<Visit>)> {
    let turn = context.registering(&name);
    let _one_at_a_time = turn.lock().await;
    let class = class(context, name)?;
    let visits = class.trackers.iter().map(async |(name, url)| {
        let visit = sync(context, &class, At { url, token: &class.token }).await;
        let result = if visit.is_ok() { "ok" } else { "failed" };
        count(&context.metrics.tracker_rounds, "registry", result);
        visit.unwrap_or_else(|error| {
            tracing::debug!(tracker = %name, %error, "not in step");
            Visit::Failed
        })
    });
    let visits = join_all(visits).await;
    Some((class, visits))
}

/// How far the nodes of a class are, from the trackers that were reached.
async fn look_at(context: &Context, class: &Class, visits: &[Visit]) {
    let trackers = class.trackers.iter().zip(visits);
    let reached = trackers.filter(|(_, visit)| **visit != Visit::Failed);
    let reached: Vec<At<'_>> = reached.map(|((_, url), _)| At { url, token: &class.token }).collect();
    join_all(class.work.iter().map(|work| look(context, &reached, work))).await;
}

/// Gives the tracker the registry unless it has it.
async fn sync(context: &Context, class: &Class, at: At<'_>) -> Result<Visit, TrackerError> {
    let status = context.trackers.registry_status(&at).await?;
    if status.digest == class.digest {
        return Ok(Visit::Same);
    }
    context.trackers.put_registry(&at, class.registry.clone()).await?;
    tracing::debug!(url = at.url, digest = %class.digest, "registry sent");
    Ok(Visit::Sent)
}

/// How far the nodes are with one revision, from all trackers: the best that anyone says.
async fn look(context: &Context, trackers: &[At<'_>], work: &Work) {
    let answers = join_all(trackers.iter().map(|at| context.trackers.swarm(at, &work.infohash))).await;
    let mut view = SwarmView::default();
    let mut heard = false;
    for report in answers {
        let Ok(Some(report)) = report else { continue };
        heard = true;
        view.seeders = view.seeders.max(report.seeders);
        for peer in report.peers {
            let Some(node) = peer.node else { continue };
            let left = view.left.entry(node).or_insert(peer.left);
            *left = peer.left.min(*left);
        }
    }
    if !heard {
        return;
    }
    let name = work.revision.name_any();
    let before = context.ledger().swarms.insert(name, view.clone());
    if before != Some(view) {
        context.queue.touch([(owner_key(&work.revision), Urgency::Soon)]);
    }
}

fn note_health(context: &Context, failures: &mut BTreeMap<String, u32>, class: &Class, visits: &[Visit]) {
    for ((tracker, _), visit) in class.trackers.iter().zip(visits) {
        let well = *visit != Visit::Failed;
        let failed = failures.entry(tracker.clone()).or_default();
        *failed = if well { 0 } else { failed.saturating_add(1) };
        let known = context.ledger().trackers.get(tracker).copied();
        let ready = well || (known == Some(true) && *failed < FAILURES);
        if known != Some(ready) {
            context.ledger().trackers.insert(tracker.clone(), ready);
            context.queue.touch([(Key::Class(class.name.clone()), Urgency::Now)]);
        }
    }
}
