//! All swarms of a tracker, and what the registry admits to them.
//!
//! Swarms are spread over [`SHARDS`] parts, each behind a lock of its own that is held for one announce; no lock stands before all.

mod admit;
mod news;
mod replica;
mod report;
mod shard;
mod sources;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use rand::Rng;
use tokio::sync::watch;
use torrent::WireId;
use tracker_api::RegistryStatus;

pub use self::news::At;
pub use self::replica::Digest;
pub use self::shard::SHARDS;

use self::news::{Item, News};
use self::shard::{Entry, Found, Shard, Slot};
use self::sources::Sources;
use crate::limits::{MAX_PUBLIC_SWARMS, MAX_STRANGERS, MAX_STRANGERS_PER_SOURCE, MAX_STRANGERS_PER_SWARM};
use crate::lists::Lists;
use crate::peer::State;
use crate::pressure::Pressure;
use crate::query::{Announce, Event};
use crate::registry::{Admission, SwarmNames};
use crate::swarm::{Name, Outcome, Reply, Visit, Who};
use crate::tick::Tick;

/// Why an announce was refused. The text goes to the client as `failure reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody registered this infohash.
    #[error("this tracker does not serve this torrent")]
    UnknownTorrent,
    /// The operator has not registered this node (yet).
    #[error("this tracker does not know this node")]
    UnknownNode,
    /// The operator registered the node without an address.
    #[error("the node has no address yet")]
    NoAddress,
    /// A public tracker that serves as many torrents as it can.
    #[error("this tracker has no room for another torrent")]
    Full,
    /// A public tracker that lists as many peers of one address as it may, so that it opens no further torrent for it.
    #[error("this tracker lists as many peers of one address as it may (--max-peers-per-address)")]
    Crowded,
    /// More comes than the tracker can answer, though all have been told to come less often.
    #[error("this tracker is busy; try again later")]
    Busy,
}

/// Who says that it announces; a node is looked up in the registry.
#[derive(Clone, Copy, Debug)]
pub enum Claim<'a> {
    /// A node, proved by the token.
    Node(&'a str),
    /// Any other client, by the address of its connection.
    Stranger(IpAddr),
}

/// What one scrape says about a torrent (BEP 48).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrapeEntry {
    /// The name under which it was asked for.
    pub info_hash: WireId,
    /// Peers that have everything.
    pub complete: usize,
    /// Peers that do not.
    pub incomplete: usize,
    /// How often somebody became complete.
    pub downloaded: u32,
}

/// Sizes, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Swarms, with and without peers.
    pub swarms: usize,
    /// Registered nodes.
    pub nodes: usize,
    /// Peers that are sidecars, in all swarms.
    pub sidecars: usize,
    /// Peers that are not.
    pub strangers: usize,
}

/// How much a directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Strangers in all swarms together.
    pub strangers: usize,
    /// Strangers in one swarm.
    pub per_swarm: usize,
    /// Strangers from one IPv4 address or IPv6 /64.
    pub per_source: u32,
    /// Swarms that nobody registered, if the tracker is public or a list allows them.
    pub public_swarms: usize,
}

impl Default for Room {
    fn default() -> Self {
        Room {
            strangers: MAX_STRANGERS,
            per_swarm: MAX_STRANGERS_PER_SWARM,
            per_source: MAX_STRANGERS_PER_SOURCE,
            public_swarms: MAX_PUBLIC_SWARMS,
        }
    }
}

/// All swarms.
#[derive(Debug)]
pub struct Directory {
    public: bool,
    epoch: String,
    room: Room,
    admitted: ArcSwap<Admitted>,
    /// As they were read; held while anything of what is admitted changes.
    lists: Mutex<Arc<Lists>>,
    /// What of them is asked for each torrent that is new.
    in_force: ArcSwap<Lists>,
    shards: Box<[Mutex<Shard>]>,
    sources: Sources,
    public_swarms: AtomicIsize,
    /// Whether anybody wants to hear of news.
    replicated: AtomicBool,
    siblings: AtomicU32,
    stretch: AtomicU32,
    /// Of 2^32 announces of strangers, how many are refused.
    refused: AtomicU32,
    refusals: AtomicU64,
    /// Counts the registries and lists that were taken in.
    changes: watch::Sender<u64>,
}

/// What the operator has registered.
#[derive(Debug, Default)]
struct Admitted {
    /// Without its swarms.
    admission: Admission,
    swarms: Vec<Arc<SwarmNames>>,
    digest: String,
    body: Bytes,
}

impl Directory {
    /// An empty one without lists. `epoch` names this start of the tracker; `public`: swarms that nobody registered are served too.
    pub fn new(epoch: String, public: bool, room: Room) -> Self {
        Directory {
            public,
            epoch,
            room,
            admitted: ArcSwap::default(),
            lists: Mutex::default(),
            in_force: ArcSwap::default(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            sources: Sources::new(room.strangers, room.per_source),
            public_swarms: AtomicIsize::new(0),
            replicated: AtomicBool::new(false),
            siblings: AtomicU32::new(0),
            stretch: AtomicU32::new(1),
            refused: AtomicU32::new(0),
            refusals: AtomicU64::new(0),
            changes: watch::Sender::default(),
        }
    }

    /// Names this start of the tracker.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// What the operator compares to see whether it must send the registry.
    pub fn status(&self) -> RegistryStatus {
        RegistryStatus { epoch: self.epoch.clone(), digest: self.admitted.load().digest.clone() }
    }

    /// The registry as it was received; empty before the first.
    pub fn registry(&self) -> Bytes {
        self.admitted.load().body.clone()
    }

    /// Changes with what is served: with each registry, and when lists were read.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Says what is asked of clients from now on.
    pub fn press(&self, pressure: Pressure) {
        self.stretch.store(pressure.stretch, Ordering::Relaxed);
        // Rounded down, and saturating: a share of 1 is nearly everybody.
        self.refused.store((pressure.refused * f64::from(u32::MAX)) as u32, Ordering::Relaxed);
    }

    /// Announces so far, refused ones too.
    pub fn announces(&self) -> u64 {
        let taken_in: u64 = self.shards.iter().map(|shard| lock(shard).announces).sum();
        taken_in + self.refusals.load(Ordering::Relaxed)
    }

    /// Takes in an announce and answers it.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing is stored then.
    pub fn announce(
        &self,
        claim: Claim<'_>,
        announce: &Announce,
        now: Tick,
        rng: &mut impl Rng,
    ) -> Result<Reply, Refusal> {
        let answer = self.answer(claim, announce, now, rng);
        if answer.is_err() {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    fn answer(
        &self,
        claim: Claim<'_>,
        announce: &Announce,
        now: Tick,
        rng: &mut impl Rng,
    ) -> Result<Reply, Refusal> {
        if self.is_too_much(claim, announce.event, rng) {
            return Err(Refusal::Busy);
        }
        let who = self.who(claim)?;
        let mut name = announce.info_hash;
        loop {
            let mut shard = lock(self.shard(name));
            match shard.look(name) {
                Found::Swarm(slot, news) => {
                    return Ok(self.visit((name, slot, news), who, announce, now, rng));
                }
                // Never two at a time. It ends: each name leads to a smaller one.
                Found::Alias(canonical) => name = canonical,
                Found::Nothing if announce.event != Event::Stopped && self.opens(name) => {
                    self.add_public(&mut shard, name, claim)?;
                }
                Found::Nothing => return Err(Refusal::UnknownTorrent),
            }
        }
    }

    /// Takes in an announce for a swarm, which stands under its canonical name.
    fn visit(
        &self,
        (canonical, slot, news): (WireId, &mut Slot, &mut News),
        who: Who,
        announce: &Announce,
        now: Tick,
        rng: &mut impl Rng,
    ) -> Reply {
        let visit = Visit {
            announce,
            name: slot.names.as_ref().map_or(Name::Common, |names| names.name(announce.info_hash)),
            now,
            stretch: self.stretch.load(Ordering::Relaxed),
            replicated: self.replicated.load(Ordering::Relaxed),
        };
        let at = At::of(&who);
        let room_in_swarm = slot.swarm.strangers() < self.room.per_swarm;
        let room = || room_in_swarm && address(&at).is_none_or(|address| self.sources.enter(address));
        let Outcome { reply, freed, news: is_news, completed } = slot.swarm.announce(who, visit, room, rng);
        if freed && let Some(address) = address(&at) {
            self.sources.leave(address);
        }
        if visit.replicated && is_news {
            news.note(Item { swarm: canonical, at, port: announce.port, completed });
        }
        reply
    }

    /// What a scrape says about those of `hashes` that are served.
    pub fn scrape(&self, hashes: &[WireId]) -> Vec<ScrapeEntry> {
        let entry = |&info_hash: &WireId| {
            let (mut shard, canonical) = self.find(info_hash);
            let swarm = &shard.slot(canonical)?.swarm;
            Some(ScrapeEntry {
                info_hash,
                complete: swarm.count(State::Seeding),
                incomplete: swarm.count(State::Leeching),
                downloaded: swarm.downloaded(),
            })
        };
        hashes.iter().filter_map(entry).collect()
    }

    /// Whether this revision may store things.
    pub fn has_revision(&self, revision: &str) -> bool {
        self.admitted.load().admission.revisions.contains(revision)
    }

    /// Whether this infohash is served by registration.
    pub fn has_registered(&self, name: &WireId) -> bool {
        let (mut shard, canonical) = self.find(*name);
        shard.slot(canonical).is_some_and(|slot| slot.names.is_some())
    }

    /// Whether a list says that this infohash is never served.
    pub fn denies(&self, name: &WireId) -> bool {
        self.in_force.load().denied.contains(name)
    }

    /// Whether a registered swarm has this manifest.
    pub fn has_manifest(&self, digest: &[u8; 32]) -> bool {
        self.admitted.load().admission.manifests.contains(digest)
    }

    /// Takes out expired peers, and public swarms that have none left.
    pub fn sweep(&self, now: Tick) -> Census {
        let mut census = Census { nodes: self.admitted.load().admission.nodes.len(), ..Census::default() };
        for shard in &self.shards {
            lock(shard).retain(|_, entry| {
                let Entry::Swarm(slot) = entry else { return true };
                slot.swarm.expire(now, |address| self.sources.leave(address));
                if slot.names.is_none() && slot.swarm.is_empty() {
                    self.count_public(-1);
                    return false;
                }
                census.swarms += 1;
                census.sidecars += slot.swarm.sidecars();
                census.strangers += slot.swarm.strangers();
                true
            });
        }
        census
    }

    /// Whether this announce is one of those that are refused. Who leaves is always heard, and so are nodes.
    fn is_too_much(&self, claim: Claim<'_>, event: Event, rng: &mut impl Rng) -> bool {
        let refused = self.refused.load(Ordering::Relaxed);
        refused > 0
            && matches!(claim, Claim::Stranger(_))
            && event != Event::Stopped
            && rng.random::<u32>() <= refused
    }

    fn who(&self, claim: Claim<'_>) -> Result<Who, Refusal> {
        let admitted = self.admitted.load();
        let name = match claim {
            Claim::Stranger(address) => {
                return Ok(Who::Stranger(address, admitted.admission.networks.zone(address)));
            }
            Claim::Node(name) => name,
        };
        let node = admitted.admission.nodes.get(name).ok_or(Refusal::UnknownNode)?;
        if node.v4.is_none() && node.v6.is_none() {
            return Err(Refusal::NoAddress);
        }
        Ok(Who::Node(Arc::clone(node)))
    }

    fn shard(&self, name: WireId) -> &Mutex<Shard> {
        &self.shards[shard::number(name)]
    }

    /// The part in which the swarm of this name stands, locked, and the name under which it stands there.
    fn find(&self, name: WireId) -> (MutexGuard<'_, Shard>, WireId) {
        let mut name = name;
        loop {
            let shard = lock(self.shard(name));
            let canonical = shard.canonical(name);
            if canonical == name {
                return (shard, name);
            }
            // Never two at a time. It ends: each name leads to a smaller one.
            drop(shard);
            name = canonical;
        }
    }

    /// Whether a swarm of this name may be added though nobody registered it.
    fn opens(&self, name: WireId) -> bool {
        let lists = self.in_force.load();
        (self.public || lists.allowed.contains(&name)) && !lists.denied.contains(&name)
    }

    /// Adds a swarm that nobody registered, for a client that would be listed in it.
    fn add_public(&self, shard: &mut Shard, name: WireId, claim: Claim<'_>) -> Result<(), Refusal> {
        let room = match claim {
            Claim::Stranger(address) => self.sources.has_room(address),
            Claim::Node(_) => true,
        };
        let swarms = usize::try_from(self.public_swarms.load(Ordering::Relaxed)).unwrap_or(0);
        if swarms >= self.room.public_swarms {
            return Err(Refusal::Full);
        }
        if !room {
            return Err(Refusal::Crowded);
        }
        self.count_public(1);
        drop(shard.insert(name, Entry::Swarm(Box::<Slot>::default())));
        Ok(())
    }

    fn count_public(&self, change: isize) {
        self.public_swarms.fetch_add(change, Ordering::Relaxed);
    }
}

impl At {
    fn of(who: &Who) -> Self {
        match who {
            Who::Node(node) => At::Node(Arc::clone(&node.name)),
            Who::Stranger(IpAddr::V4(address), _) => At::V4(*address),
            Who::Stranger(IpAddr::V6(address), _) => At::V6(*address),
        }
    }
}

fn address(at: &At) -> Option<IpAddr> {
    match at {
        At::V4(address) => Some((*address).into()),
        At::V6(address) => Some((*address).into()),
        At::Node(_) => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
