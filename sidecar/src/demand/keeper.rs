//! Which blobs there are: begun when somebody asks, gone when others need the room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mirror::{Digest, Repository};
use operator_api::{Held, HeldBlob, reason};
use prometheus_client::encoding::EncodeLabelSet;
use tokio::sync::{mpsc, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cache::{Begun, Cache, Space};
use super::claim::{Claim, Refused, claim, tell_ended};
use super::share::{Ended, Share};
use super::tell::tell;
use super::{Ask, State};
use crate::jobs::Context;
use crate::store::{Layout, disk_space, remove_tree};

/// How often the disk is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// A blob for which there is no room is not asked for again for so long.
const NO_ROOM: Duration = Duration::from_mins(1);

/// Nor is one whose task broke off.
const CUT: Duration = Duration::from_mins(5);

/// A label of the counter of demands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `reads`, `joins`, `refused`, `no_room`, `whole`, `failed`.
    pub result: &'static str,
}

enum Event {
    Answered(Digest, Result<Box<Claim>, Refused>),
    Ended(Digest, Ended),
}

struct Job {
    state: watch::Sender<State>,
    stop: CancellationToken,
    /// Bytes and epoch, once they are known.
    named: Option<(u64, u32)>,
    is_whole: bool,
}

struct Keeper {
    context: Arc<Context>,
    cache: Cache,
    jobs: BTreeMap<Digest, Job>,
    tasks: JoinSet<Event>,
    /// Which task is at which blob.
    at: BTreeMap<task::Id, Digest>,
    held: watch::Sender<Held>,
    /// Rings when a blob's state may be another.
    wake: Arc<tokio::sync::Notify>,
    /// So many percent of the disk are left alone.
    spare: u8,
    began: Instant,
}

/// Keeps blobs until `shutdown`; none is left then, nor is any taken over from before. `spare`: so many percent of the disk are left alone.
pub async fn keep(
    context: Arc<Context>,
    mut asks: mpsc::Receiver<Ask>,
    spare: u8,
    shutdown: CancellationToken,
) {
    clear(context.layout.clone()).await;
    let (held, telling) = watch::channel(Held::default());
    let telling = tokio::spawn(tell(context.clone(), telling));
    let (mut class, mut shortage) = (context.class.clone(), context.ledger.shortage());
    let mut look = tokio::time::interval(LOOK);
    let mut keeper = Keeper::new(context, held, spare);
    let wake = keeper.wake.clone();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(event) = keeper.tasks.join_next_with_id() => keeper.heard(event),
            () = wake.notified() => keeper.count_whole(),
            Ok(()) = class.changed() => keeper.follow_class(),
            Ok(()) = shortage.changed() => {
                let bytes = *shortage.borrow_and_update();
                keeper.give_way(bytes);
            }
            Some(ask) = asks.recv() => keeper.ask(ask),
            _ = look.tick() => keeper.look_at_disk(),
        }
    }
    keeper.stop_all();
    while keeper.tasks.join_next().await.is_some() {}
    clear(keeper.context.layout.clone()).await;
    drop(keeper);
    telling.abort();
}

/// What is there from another process is nobody's.
async fn clear(layout: Layout) {
    let cleared = tokio::task::spawn_blocking(move || remove_tree(&layout.demand())).await;
    if let Ok(Err(error)) = cleared {
        tracing::warn!(%error, "blobs of before are left behind");
    }
}

impl Keeper {
    fn new(context: Arc<Context>, held: watch::Sender<Held>, spare: u8) -> Self {
        Self {
            context,
            cache: Cache::default(),
            jobs: BTreeMap::new(),
            tasks: JoinSet::new(),
            at: BTreeMap::new(),
            held,
            wake: Arc::default(),
            spare,
            began: Instant::now(),
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn count(&self, result: &'static str) {
        self.context.metrics.demands.get_or_create(&Outcome { result }).inc();
    }

    fn ask(&mut self, ask: Ask) {
        let Ask { repository, digest, answer } = ask;
        let now = self.now();
        if let Some(job) = self.jobs.get(&digest) {
            self.cache.asked(&digest, now);
            answer.send(job.state.subscribe()).ok();
            return;
        }
        match self.cache.begin(digest, now) {
            Begun::Yes => {}
            Begun::Refused => return self.count("refused"),
            Begun::Full => return self.count("no_room"),
        }
        let job = Job {
            state: watch::Sender::new(State::Asked),
            stop: CancellationToken::new(),
            named: None,
            is_whole: false,
        };
        answer.send(job.state.subscribe()).ok();
        self.jobs.insert(digest, job);
        self.begin(repository, digest);
    }

    fn begin(&mut self, repository: Repository, digest: Digest) {
        let context = self.context.clone();
        let asking =
            async move { Event::Answered(digest, claim(&context, repository, digest).await.map(Box::new)) };
        let id = self.tasks.spawn(asking).id();
        self.at.insert(id, digest);
    }

    fn heard(&mut self, event: Result<(task::Id, Event), JoinError>) {
        let id = event.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let digest = self.at.remove(&id);
        match event.map(|(_, event)| event) {
            Ok(Event::Answered(digest, Ok(claim))) => self.share(digest, *claim),
            Ok(Event::Answered(digest, Err(Refused(pause)))) => {
                self.count("refused");
                self.forget(digest, Some(pause));
            }
            Ok(Event::Ended(digest, Ended::Stopped)) => self.forget(digest, None),
            Ok(Event::Ended(digest, Ended::Failed(pause))) => {
                self.count("failed");
                self.forget(digest, Some(pause));
            }
            Err(error) => {
                tracing::error!(%error, "a blob on demand was cut");
                if let Some(digest) = digest {
                    self.forget(digest, Some(CUT));
                }
            }
        }
        self.tell();
    }

    fn share(&mut self, digest: Digest, claim: Claim) {
        let size = claim.outline.total_size();
        let admitted = self.space().and_then(|space| self.cache.admit(digest, size, space));
        let Some(gone) = admitted else {
            tracing::info!(blob = %digest, size, "there is no room for a blob on demand");
            self.count("no_room");
            if claim.read.is_some() {
                // The others need not wait until its seat has lapsed.
                let context = self.context.clone();
                let message = "there is no room for it on this node".to_owned();
                tokio::spawn(async move { tell_ended(&context, &claim, reason::DISK_FULL, message).await });
            }
            return self.forget(digest, Some(NO_ROOM));
        };
        self.stop(&gone);
        let Some(job) = self.jobs.get_mut(&digest) else { return };
        if job.stop.is_cancelled() {
            return self.forget(digest, None);
        }
        job.named = Some((size, claim.outline.epoch()));
        let (context, state, stop) = (self.context.clone(), job.state.clone(), job.stop.clone());
        self.count(if claim.read.is_some() { "reads" } else { "joins" });
        let share = Share { context, claim, state, stop };
        self.watch(digest);
        let id = self.tasks.spawn(async move { Event::Ended(digest, share.run().await) }).id();
        self.at.insert(id, digest);
    }

    /// Rings when the blob is whole.
    fn watch(&self, digest: Digest) {
        let Some(mut state) = self.jobs.get(&digest).map(|job| job.state.subscribe()) else { return };
        let wake = self.wake.clone();
        tokio::spawn(async move {
            let over = |state: &State| matches!(state, State::Here(_) | State::Gone);
            state.wait_for(over).await.ok();
            wake.notify_one();
        });
    }

    fn count_whole(&mut self) {
        for (digest, job) in &mut self.jobs {
            if !job.is_whole && matches!(&*job.state.borrow(), State::Here(_)) {
                job.is_whole = true;
                self.cache.whole(digest);
                self.context.metrics.demands.get_or_create(&Outcome { result: "whole" }).inc();
            }
        }
        self.tell();
    }

    /// It is not here any more.
    fn forget(&mut self, digest: Digest, pause: Option<Duration>) {
        if let Some(job) = self.jobs.remove(&digest) {
            job.state.send_replace(State::Gone);
        }
        self.cache.remove(&digest);
        if self.jobs.is_empty() {
            // Only if nothing is in it.
            std::fs::remove_dir(self.context.layout.demand()).ok();
        }
        if let Some(pause) = pause {
            let now = self.now();
            self.cache.refuse(digest, now + pause, now);
        }
    }

    /// These end; they are forgotten when they have.
    fn stop(&mut self, blobs: &[Digest]) {
        for digest in blobs {
            if let Some(job) = self.jobs.get_mut(digest) {
                tracing::info!(blob = %digest, "a blob on demand makes room");
                job.is_whole = false;
                job.state.send_replace(State::Gone);
                job.stop.cancel();
            }
        }
        self.tell();
    }

    fn stop_all(&mut self) {
        let all: Vec<Digest> = self.jobs.keys().copied().collect();
        self.stop(&all);
    }

    /// Nothing is shared on demand any more, or less of it.
    fn follow_class(&mut self) {
        let class = self.context.class();
        if class.retired || class.runtime.registries.is_empty() {
            return self.stop_all();
        }
        self.give_way(self.cache.bytes().saturating_sub(class.runtime.cache_bytes()));
    }

    fn give_way(&mut self, bytes: u64) {
        if bytes > 0 {
            let gone = self.cache.give_way(bytes);
            self.stop(&gone);
        }
    }

    fn look_at_disk(&mut self) {
        if let Some(space) = self.space() {
            self.give_way(space.spare.saturating_sub(space.free));
        }
    }

    fn space(&self) -> Option<Space> {
        let (free, all) = disk_space(self.context.layout.root()).ok()?;
        Some(Space {
            limit: self.context.class().runtime.cache_bytes(),
            free,
            spare: all / 100 * u64::from(self.spare),
        })
    }

    /// What is held goes to the operator.
    fn tell(&self) {
        let whole = self.jobs.iter().filter(|(_, job)| job.is_whole);
        let blobs = whole.filter_map(|(digest, job)| {
            let (size, epoch) = job.named?;
            Some(HeldBlob { digest: digest.to_string(), size, epoch })
        });
        let held = Held { blobs: blobs.collect() };
        self.held.send_if_modified(|known| {
            let changed = *known != held;
            *known = held;
            changed
        });
        self.context.metrics.demand_bytes.set(i64::try_from(self.cache.bytes()).unwrap_or(i64::MAX));
    }
}
