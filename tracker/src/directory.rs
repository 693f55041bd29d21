//! All swarms of a tracker, and what the registry admits to them. A short lock finds the swarm, then its own is taken.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rand::Rng;
use torrent::WireId;
use tracker_api::{PeerReport, RegistryStatus, SwarmReport};

use crate::limits::{MAX_PUBLIC_SWARMS, MAX_STRANGERS, MAX_STRANGERS_PER_SOURCE};
use crate::query::{Announce, Event};
use crate::registry::{Admission, SwarmNames};
use crate::swarm::{Reply, Seconds, Swarm, Who};

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

/// All swarms.
#[derive(Debug)]
pub struct Directory {
    public: bool,
    epoch: String,
    inner: RwLock<Inner>,
    sources: Mutex<Sources>,
}

#[derive(Debug, Default)]
struct Inner {
    admission: Admission,
    digest: String,
    by_name: HashMap<WireId, Arc<Slot>>,
    /// Each swarm once, in the order of the registry; then the public ones.
    slots: Vec<Arc<Slot>>,
    /// How many of them nobody registered.
    public: usize,
}

#[derive(Debug)]
struct Slot {
    names: SwarmNames,
    /// False for a public tracker's swarms that nobody registered.
    registered: bool,
    swarm: Arc<Mutex<Swarm>>,
}

impl Directory {
    /// An empty one. `epoch` names this start of the tracker.
    pub fn new(epoch: String, public: bool) -> Self {
        Directory { public, epoch, inner: RwLock::default(), sources: Mutex::default() }
    }

    /// Names this start of the tracker.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// What the operator compares to see whether it must send the registry.
    pub fn status(&self) -> RegistryStatus {
        RegistryStatus { epoch: self.epoch.clone(), digest: self.read().digest.clone() }
    }

    /// Takes in an announce and answers it.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing is stored then.
    pub fn announce(
        &self,
        claim: Claim<'_>,
        announce: &Announce,
        now: Seconds,
        rng: &mut impl Rng,
    ) -> Result<Reply, Refusal> {
        // Held to the end, so that no swarm is thrown away between being found and being changed.
        let mut inner = self.read();
        let who = who(&inner, claim)?;
        if self.public && !inner.by_name.contains_key(&announce.info_hash) && announce.event != Event::Stopped
        {
            drop(inner);
            self.add_public(announce.info_hash, claim)?;
            inner = self.read();
        }
        let slot = inner.by_name.get(&announce.info_hash).ok_or(Refusal::UnknownTorrent)?;
        let name = slot.names.name(announce.info_hash);
        let mut swarm = lock(&slot.swarm);
        let Who::Stranger(address) = who else {
            return Ok(swarm.announce(who, announce, name, true, now, rng));
        };
        let listed_before = swarm.lists(&who, announce.port);
        let entered =
            !listed_before && announce.event != Event::Stopped && lock(&self.sources).enter(address);
        let reply = swarm.announce(who.clone(), announce, name, entered, now, rng);
        let listed_after = swarm.lists(&who, announce.port);
        if (listed_before || entered) && !listed_after {
            lock(&self.sources).leave(address);
        }
        Ok(reply)
    }

    /// What a scrape says about those of `hashes` that are served.
    pub fn scrape(&self, hashes: &[WireId]) -> Vec<ScrapeEntry> {
        let inner = self.read();
        let entry = |&info_hash: &WireId| {
            let swarm = lock(&inner.by_name.get(&info_hash)?.swarm);
            let complete = swarm.complete();
            Some(ScrapeEntry {
                info_hash,
                complete,
                incomplete: swarm.len() - complete,
                downloaded: swarm.downloaded(),
            })
        };
        hashes.iter().filter_map(entry).collect()
    }

    /// Replaces what is admitted. Swarms that stay keep their peers; nodes that are gone leave theirs.
    pub fn admit(&self, mut admission: Admission, digest: String) {
        let mut inner = self.write();
        let mut old = std::mem::take(&mut *inner);
        let (mut by_name, mut slots) = (HashMap::new(), Vec::new());
        for names in std::mem::take(&mut admission.swarms) {
            let known =
                names.wire.iter().find_map(|name| old.by_name.get(name)).map(|slot| Arc::clone(&slot.swarm));
            let swarm = known.unwrap_or_default();
            lock(&swarm).retain_nodes(|node| admission.nodes.contains_key(node));
            let slot = Arc::new(Slot { names, registered: true, swarm });
            slot.names.wire.iter().for_each(|&name| drop(by_name.insert(name, Arc::clone(&slot))));
            slots.push(slot);
        }
        let kept: HashSet<_> = slots.iter().map(|slot| Arc::as_ptr(&slot.swarm)).collect();
        let mut public = 0;
        for slot in old.slots.drain(..) {
            let name = slot.names.wire[0];
            if kept.contains(&Arc::as_ptr(&slot.swarm)) {
                continue;
            }
            if self.public && !slot.registered && !by_name.contains_key(&name) {
                by_name.insert(name, Arc::clone(&slot));
                slots.push(slot);
                public += 1;
            } else {
                // Taken, not only dropped: a sweep that still holds the swarm must not find the peers again.
                let gone = std::mem::take(&mut *lock(&slot.swarm));
                let mut sources = lock(&self.sources);
                gone.strangers().for_each(|address| sources.leave(address));
            }
        }
        *inner = Inner { admission, digest, by_name, slots, public };
    }

    /// Whether this revision may store things.
    pub fn has_revision(&self, revision: &str) -> bool {
        self.read().admission.revisions.contains(revision)
    }

    /// Whether this infohash is served by registration.
    pub fn has_registered(&self, name: &WireId) -> bool {
        self.read().by_name.get(name).is_some_and(|slot| slot.registered)
    }

    /// Whether a registered swarm has this manifest.
    pub fn has_manifest(&self, digest: &[u8; 32]) -> bool {
        self.read().admission.manifests.contains(digest)
    }

    /// Reports of all swarms, or of the one with this name. `stored` says whether metainfo of any of the names lies here.
    pub fn report(
        &self,
        only: Option<WireId>,
        now: Seconds,
        stored: impl Fn(&[WireId]) -> bool,
    ) -> Vec<SwarmReport> {
        let inner = self.read();
        let found = match only {
            Some(name) => inner.by_name.get(&name).cloned().into_iter().collect(),
            None => inner.slots.clone(),
        };
        // The store asks this directory while it is locked, so it is asked only after the lock here is gone.
        drop(inner);
        found.iter().map(|slot| report(slot, now, stored(&slot.names.wire))).collect()
    }

    /// Takes out expired peers, and public swarms that have none left.
    pub fn sweep(&self, now: Seconds) -> Census {
        let mut census = Census::default();
        let mut empty = false;
        let slots = self.read().slots.clone();
        for slot in &slots {
            let mut swarm = lock(&slot.swarm);
            let gone = swarm.expire(now);
            if !gone.is_empty() {
                let mut sources = lock(&self.sources);
                for address in gone {
                    sources.leave(address);
                }
            }
            let strangers = swarm.strangers().count();
            census.strangers += strangers;
            census.sidecars += swarm.len() - strangers;
            empty |= swarm.is_empty() && !slot.registered;
        }
        if empty {
            self.drop_empty_public();
        }
        let inner = self.read();
        Census { swarms: inner.slots.len(), nodes: inner.admission.nodes.len(), ..census }
    }

    fn add_public(&self, name: WireId, claim: Claim<'_>) -> Result<(), Refusal> {
        if let Claim::Stranger(address) = claim
            && !lock(&self.sources).has_room(address)
        {
            return Err(Refusal::Full);
        }
        let mut inner = self.write();
        if inner.by_name.contains_key(&name) {
            return Ok(());
        }
        if inner.public >= MAX_PUBLIC_SWARMS {
            return Err(Refusal::Full);
        }
        let names =
            SwarmNames { infohashes: vec![name.to_string()], wire: vec![name], revisions: Vec::new() };
        let slot = Arc::new(Slot { names, registered: false, swarm: Arc::default() });
        inner.by_name.insert(name, Arc::clone(&slot));
        inner.slots.push(slot);
        inner.public += 1;
        Ok(())
    }

    fn drop_empty_public(&self) {
        let mut inner = self.write();
        let inner = &mut *inner;
        inner.slots.retain(|slot| {
            let kept = slot.registered || !lock(&slot.swarm).is_empty();
            if !kept {
                inner.by_name.remove(&slot.names.wire[0]);
                inner.public -= 1;
            }
            kept
        });
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn who(inner: &Inner, claim: Claim<'_>) -> Result<Who, Refusal> {
    let name = match claim {
        Claim::Stranger(address) => return Ok(Who::Stranger(address)),
        Claim::Node(name) => name,
    };
    let node = inner.admission.nodes.get(name).ok_or(Refusal::UnknownNode)?;
    if node.v4.is_none() && node.v6.is_none() {
        return Err(Refusal::NoAddress);
    }
    Ok(Who::Node(Arc::clone(node)))
}

fn report(slot: &Slot, now: Seconds, metainfo: bool) -> SwarmReport {
    let swarm = lock(&slot.swarm);
    let peers: Vec<PeerReport> = swarm
        .peers()
        .map(|peer| PeerReport {
            node: peer.node().map(|node| node.name.to_string()),
            address: peer.contact().addresses().next().map(|address| address.to_string()).unwrap_or_default(),
            left: peer.left(),
            age_seconds: u64::from(now.0.saturating_sub(peer.seen().0)),
        })
        .collect();
    let seeders = swarm.complete();
    SwarmReport {
        infohashes: slot.names.infohashes.clone(),
        revisions: slot.names.revisions.clone(),
        seeders: seeders as u32,
        leechers: (peers.len() - seeders) as u32,
        metainfo,
        peers,
    }
}

/// How many strangers are listed from each source.
#[derive(Debug, Default)]
struct Sources {
    counts: HashMap<IpAddr, u32>,
    total: usize,
}

impl Sources {
    fn has_room(&self, address: IpAddr) -> bool {
        let count = self.counts.get(&source(address)).copied().unwrap_or(0);
        count < MAX_STRANGERS_PER_SOURCE && self.total < MAX_STRANGERS
    }

    fn enter(&mut self, address: IpAddr) -> bool {
        let room = self.has_room(address);
        if room {
            *self.counts.entry(source(address)).or_insert(0) += 1;
            self.total += 1;
        }
        room
    }

    fn leave(&mut self, address: IpAddr) {
        if let Some(count) = self.counts.get_mut(&source(address)) {
            *count -= 1;
            self.total -= 1;
            if *count == 0 {
                self.counts.remove(&source(address));
            }
        }
    }
}

/// What one party has of addresses: an IPv4 address, or a /64 of IPv6.
fn source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
