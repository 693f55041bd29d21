//! The main loop: observe, plan, act. It never waits for the network or the disk itself: jobs do.

mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use crds::{
    DistributionClass, DistributionRevision, DistributionRevisionSpec, NodeDistributionStatus, NodeEntry,
    NodePhase, Retire,
};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::class::ClassInfo;
use crate::config::SidecarConfig;
use crate::desired::{
    Action, ClassView, Data, Desired, Job, JobStatus, Local, Observed, entries, is_unselected, plan,
};
use crate::health::Watchdog;
use crate::jobs::{Context, JobHandle, JobState, remove_job, retain_job, share};
use crate::kubernetes::{Mirror, Report};
use crate::store::{Found, safe_name, scan_one};
use views::{desired, is_orphan, mirror_condition, node_view, place, root_condition, says_more};

/// The loop turns at least so often.
const TURN: Duration = Duration::from_secs(1);
/// Orphans that are asked about at the same time; the rest waits its turn.
const ORPHAN_QUEUE: usize = 64;
/// An orphan that was not confirmed is asked about again after this long.
const ORPHAN_RETRY: Duration = Duration::from_secs(30);
/// Jobs get so long to end when the process does.
const DRAIN: Duration = Duration::from_secs(10);

/// What the API server says, kept by watches.
pub struct Watches {
    /// The class.
    pub class: watch::Receiver<Mirror<DistributionClass>>,
    /// Its revisions.
    pub revisions: watch::Receiver<Mirror<DistributionRevision>>,
    /// The node.
    pub node: watch::Receiver<Mirror<Node>>,
}

/// A revision, and whether it is an orphan.
type Answer = (String, bool);

struct Running {
    job: Job,
    stop: CancellationToken,
    state: watch::Receiver<JobState>,
    spec: watch::Sender<Option<Arc<DistributionRevisionSpec>>>,
    task: JoinHandle<()>,
}

/// The loop's memory.
pub struct Manager {
    config: SidecarConfig,
    context: Arc<Context>,
    watches: Watches,
    class_info: watch::Sender<Option<Arc<ClassInfo>>>,
    report: watch::Sender<Option<Report>>,
    watchdog: Watchdog,
    wake: Arc<Notify>,
    began: Instant,
    found: BTreeMap<String, Found>,
    running: BTreeMap<String, Running>,
    missing: BTreeMap<String, Duration>,
    unselected: BTreeMap<String, Duration>,
    asked: BTreeMap<String, Duration>,
    orphans: BTreeSet<String>,
    orphan_answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    entries: Vec<NodeEntry>,
    purged: bool,
}

impl Manager {
    /// With what was found on the disk.
    pub fn new(
        config: SidecarConfig,
        context: Arc<Context>,
        watches: Watches,
        class_info: watch::Sender<Option<Arc<ClassInfo>>>,
        report: watch::Sender<Option<Report>>,
        watchdog: Watchdog,
        found: BTreeMap<String, Found>,
    ) -> Self {
        for (revision, found) in &found {
            context.ledger.note(revision, found.record.as_ref().map_or(0, |record| record.bytes));
        }
        Self {
            config,
            context,
            watches,
            class_info,
            report,
            watchdog,
            wake: Arc::new(Notify::new()),
            began: Instant::now(),
            found,
            running: BTreeMap::new(),
            missing: BTreeMap::new(),
            unselected: BTreeMap::new(),
            asked: BTreeMap::new(),
            orphans: BTreeSet::new(),
            orphan_answers: mpsc::channel(ORPHAN_QUEUE),
            entries: Vec::new(),
            purged: false,
        }
    }

    /// Turns until `shutdown`; then every job has ended.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let wake = Arc::clone(&self.wake);
        loop {
            self.watchdog.turn();
            self.turn();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(TURN) => {}
                () = wake.notified() => {}
                Some((revision, orphan)) = self.orphan_answers.1.recv() => self.answered(revision, orphan),
                Ok(()) = self.watches.class.changed() => {}
                Ok(()) = self.watches.revisions.changed() => {}
                Ok(()) = self.watches.node.changed() => {}
            }
        }
        for running in self.running.values() {
            running.stop.cancel();
        }
        let ends = self.running.into_values().map(|running| running.task);
        if tokio::time::timeout(DRAIN, futures::future::join_all(ends)).await.is_err() {
            tracing::warn!("a job did not end in time; its journal says how far it was");
        }
    }

    fn turn(&mut self) {
        self.reap();
        self.follow_class();
        self.follow_specs();
        let observed = self.observe();
        let actions = plan(&observed);
        for action in actions {
            self.act(action);
        }
        self.purge_rest(&observed);
        let observed = self.observe();
        self.tell(&observed);
    }

    /// Jobs that ended leave what is on the disk.
    fn reap(&mut self) {
        let ended: Vec<String> =
            self.running.iter().filter(|(_, r)| r.task.is_finished()).map(|(name, _)| name.clone()).collect();
        for name in ended {
            self.running.remove(&name);
            match scan_one(&self.context.layout, &name) {
                Some(found) => drop(self.found.insert(name, found)),
                None => drop(self.found.remove(&name)),
            }
        }
    }

    fn follow_class(&mut self) {
        let class = self.watches.class.borrow().objects.get(&self.config.class).cloned();
        let Some(info) = class.map(|class| ClassInfo::new(&class)) else { return };
        let changed = self.class_info.send_if_modified(|known| {
            let changed = known.as_deref() != Some(&info);
            *known = Some(Arc::new(info.clone()));
            changed
        });
        if changed && let Err(error) = info.save(&self.context.layout) {
            tracing::warn!(%error, "cannot keep a copy of the class; a start without the API server will know no trackers");
        }
    }

    fn follow_specs(&self) {
        let revisions = self.watches.revisions.borrow();
        for (name, running) in &self.running {
            let Some(revision) = revisions.objects.get(name) else { continue };
            running.spec.send_if_modified(|spec| {
                if spec.as_deref() == Some(&revision.spec) {
                    return false;
                }
                *spec = Some(Arc::new(revision.spec.clone()));
                true
            });
        }
    }

    fn observe(&mut self) -> Observed {
        let now = self.began.elapsed();
        let class = self.watches.class.borrow().objects.get(&self.config.class).cloned();
        let node = self.watches.node.borrow().objects.get(&self.config.node_name).cloned();
        let revisions = self.watches.revisions.borrow().clone();
        let mine = |revision: &DistributionRevision| revision.spec.class_name == self.config.class;
        let desired: BTreeMap<String, Desired> = revisions
            .objects
            .iter()
            .filter(|(name, revision)| mine(revision) && safe_name(name).is_ok())
            .map(|(name, revision)| (name.clone(), desired(revision, &self.config.node_name)))
            .collect();
        let names: BTreeSet<String> = self.found.keys().chain(self.running.keys()).cloned().collect();
        let here = |name: &String| desired.contains_key(name) || revisions.unreadable.contains(name);
        self.missing.retain(|name, _| names.contains(name) && !here(name));
        self.orphans.retain(|name| self.missing.contains_key(name));
        self.asked.retain(|name, _| self.missing.contains_key(name));
        if revisions.listed {
            for name in names.iter().filter(|name| !here(name)) {
                self.missing.entry(name.clone()).or_insert(now);
            }
        }
        if let Some(node) = &node {
            self.context.engine.set_place(place(node));
        }
        let node = node.map(|node| node_view(&node));
        let out = |name: &str| desired.get(name).is_some_and(|desired| is_unselected(node.as_ref(), desired));
        self.unselected.retain(|name, _| out(name));
        for name in names.iter().filter(|name| out(name)) {
            self.unselected.entry(name.clone()).or_insert(now);
        }
        let local = names.into_iter().map(|name| (name.clone(), self.local(&name))).collect();
        Observed {
            class: class.map(|class| ClassView {
                root_matches: class.spec.root.trim_end_matches('/')
                    == self.config.root_of_class().trim_end_matches('/'),
                retire: class.spec.retire,
            }),
            node,
            listed: revisions.listed,
            desired,
            unreadable: revisions.unreadable,
            local,
            now,
        }
    }

    fn local(&self, name: &str) -> Local {
        let found = self.found.get(name);
        let record = found.and_then(|found| found.record.as_ref());
        let mut local = Local {
            data: found.map_or(Data::None, |found| found.data),
            startable: found.is_some_and(|found| found.startable),
            linked: false,
            on_delete: record.map(|record| record.on_delete).unwrap_or_default(),
            job: None,
            missing_since: self.missing.get(name).copied(),
            unselected_since: self.unselected.get(name).copied(),
            orphan: self.orphans.contains(name),
        };
        if let Some(running) = self.running.get(name) {
            let state = running.state.borrow();
            (local.data, local.startable, local.linked) = (state.data, state.startable, state.linked);
            local.job = Some(running.job);
        }
        local
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start(name, job) => self.start(name, job),
            Action::Stop(name) => {
                if let Some(running) = self.running.get(&name) {
                    running.stop.cancel();
                }
            }
            Action::ConfirmOrphan(name) => self.ask(name),
        }
    }

    fn start(&mut self, name: String, job: Job) {
        let found = self.found.get(&name);
        let record = found.and_then(|found| found.record.as_ref());
        let state = JobState {
            status: JobStatus {
                origin_bytes: record.map_or(0, |record| record.origin_bytes),
                peer_bytes: record.map_or(0, |record| record.peer_bytes),
                ..JobStatus::default()
            },
            data: found.map_or(Data::None, |found| found.data),
            linked: false,
            startable: found.is_some_and(|found| found.startable),
        };
        let spec = self.watches.revisions.borrow().objects.get(&name).map(|r| Arc::new(r.spec.clone()));
        let (state_sender, state) = watch::channel(state);
        let (spec_sender, spec) = watch::channel(spec);
        let stop = CancellationToken::new();
        let handle = JobHandle {
            revision: name.clone(),
            spec,
            stop: stop.clone(),
            state: state_sender,
            wake: Arc::clone(&self.wake),
        };
        tracing::debug!(revision = name, ?job, "starting");
        let (context, wake) = (Arc::clone(&self.context), Arc::clone(&self.wake));
        let task = tokio::spawn(async move {
            match job {
                Job::Fetch => crate::fetch::fetch(context, handle).await,
                Job::Share => share(context, handle).await,
                Job::Remove => remove_job(context, handle).await,
                Job::Retain => retain_job(context, handle).await,
            }
            wake.notify_one();
        });
        self.running.insert(name, Running { job, stop, state, spec: spec_sender, task });
    }

    /// A fresh list that lacks it, and a class that does not say Keep: only then is it an orphan.
    fn ask(&mut self, name: String) {
        let now = self.began.elapsed();
        if self.asked.get(&name).is_some_and(|at| now.saturating_sub(*at) < ORPHAN_RETRY) {
            return;
        }
        self.asked.insert(name.clone(), now);
        let (client, class) = (self.config.client.clone(), self.config.class.clone());
        let answers = self.orphan_answers.0.clone();
        tokio::spawn(async move {
            let orphan = match is_orphan(client, &class, &name).await {
                Ok(orphan) => orphan,
                Err(error) => {
                    tracing::info!(revision = name, %error, "cannot tell whether it is an orphan; it stays");
                    false
                }
            };
            // Without a manager there is nobody to tell.
            answers.send((name, orphan)).await.ok();
        });
    }

    fn answered(&mut self, revision: String, orphan: bool) {
        if orphan && self.missing.contains_key(&revision) {
            tracing::info!(revision, "its revision is gone: removing what is left of it");
            self.orphans.insert(revision);
        }
    }

    /// After the last revision of a class that is purged goes what is left of the root.
    fn purge_rest(&mut self, observed: &Observed) {
        let purge =
            observed.class.is_some_and(|class| class.root_matches && class.retire == Some(Retire::Purge));
        if !purge {
            self.purged = false;
        } else if !self.purged && observed.local.is_empty() {
            self.context.layout.purge();
            self.purged = true;
        }
    }

    fn tell(&mut self, observed: &Observed) {
        let mut statuses = BTreeMap::new();
        for (name, running) in &self.running {
            statuses.insert(name.clone(), running.state.borrow().status.clone());
        }
        let now = Time(k8s_openapi::jiff::Timestamp::now());
        self.entries = entries(observed, &statuses, &self.entries, &now);
        self.measure(&statuses);
        let watched = self.watches.class.borrow().listed && self.watches.revisions.borrow().listed;
        let (true, Some(class), Some(node)) = (watched, observed.class, &observed.node) else { return };
        let report = Report {
            node_uid: node.uid.clone(),
            status: NodeDistributionStatus {
                revisions: self.entries.clone(),
                conditions: self.conditions(class.root_matches, now),
            },
        };
        self.report.send_if_modified(|known| {
            let news = known.as_ref().is_none_or(|known| says_more(known, &report));
            if news {
                *known = Some(report);
            }
            news
        });
    }

    fn conditions(&self, root_matches: bool, now: Time) -> Vec<Condition> {
        let root = root_condition(root_matches, &self.config, now.clone());
        let mirror = self.context.images.as_ref().map(|images| mirror_condition(&images.host.borrow(), now));
        iter::once(root).chain(mirror).collect()
    }

    fn measure(&self, statuses: &BTreeMap<String, JobStatus>) {
        let metrics = &self.context.metrics;
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        metrics.origin_bytes.set(signed(statuses.values().map(|status| status.origin_bytes).sum()));
        metrics.peer_bytes.set(signed(statuses.values().map(|status| status.peer_bytes).sum()));
        metrics
            .failed
            .set(signed(statuses.values().filter(|status| status.phase == NodePhase::Failed).count() as u64));
        metrics.revisions.set(signed(self.entries.len() as u64));
        metrics.stored_bytes.set(signed(self.context.ledger.used()));
    }
}
