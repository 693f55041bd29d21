//! What the operator reads, and sizes for metrics.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use torrent::WireId;
use tracker_api::{PeerReport, SwarmChange, SwarmReport};

use super::shard::{SHARDS, Slot};
use super::{Directory, lock};
use crate::peer::{Peer, State};
use crate::registry::Node;
use crate::swarm::Shelf;
use crate::tick::Tick;

impl Directory {
    /// Reports of all swarms, registered ones first and in the order of the registry, or of the one with this name. `stored` says
    /// whether metainfo of any of the names lies here.
    pub fn report(
        &self,
        only: Option<WireId>,
        now: Tick,
        stored: impl Fn(&[WireId]) -> bool,
    ) -> Vec<SwarmReport> {
        let names = match only {
            Some(name) => vec![name],
            None => self.all_names(),
        };
        let mut reports = Vec::new();
        for name in names {
            let canonical = lock(self.shard(name)).canonical(name);
            let mut shard = lock(self.shard(canonical));
            let Some(slot) = shard.slot(canonical) else { continue };
            let mut report = report(canonical, slot, now);
            let wire = slot.names.as_ref().map_or_else(|| vec![canonical], |names| names.wire.clone());
            // The store asks this directory while it is locked, so it is asked only after the lock here is gone.
            drop(shard);
            report.metainfo = stored(&wire);
            reports.push(report);
        }
        reports
    }

    /// How a swarm is, with the peers that have announced at `since` or later, by this tracker's clock; none if it is not served. No
    /// rate is in it yet.
    pub fn change(&self, name: WireId, since: Tick, now: Tick) -> Option<SwarmChange> {
        let (mut shard, canonical) = self.find(name);
        let slot = shard.slot(canonical)?;
        let lefts = [left::<Arc<Node>>(slot), left::<Ipv4Addr>(slot), left::<Ipv6Addr>(slot)];
        Some(SwarmChange {
            all: since == Tick(0),
            seeders: slot.swarm.count(State::Seeding) as u32,
            leechers: slot.swarm.count(State::Leeching) as u32,
            downloaded: slot.swarm.downloaded(),
            left_bytes: lefts.into_iter().fold(0, u64::saturating_add),
            fetched_bytes: slot.swarm.fetched(),
            bytes_per_second: 0,
            peers: peers_since(slot, since, now),
        })
    }

    fn all_names(&self) -> Vec<WireId> {
        let admitted = self.admitted.load();
        let mut names: Vec<WireId> =
            admitted.swarms.iter().filter_map(|names| names.wire.iter().min().copied()).collect();
        for shard in 0..SHARDS {
            let shard = lock(&self.shards[shard]);
            names.extend(shard.slots().filter(|(_, slot)| slot.names.is_none()).map(|(name, _)| name));
        }
        // A registry may come in between: then one that was registered is now only public.
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(*name));
        names
    }
}

fn report(name: WireId, slot: &Slot, now: Tick) -> SwarmReport {
    let (infohashes, revisions) = match &slot.names {
        Some(names) => (names.infohashes.clone(), names.revisions.clone()),
        None => (vec![name.to_string()], Vec::new()),
    };
    SwarmReport {
        infohashes,
        revisions,
        seeders: slot.swarm.count(State::Seeding) as u32,
        leechers: slot.swarm.count(State::Leeching) as u32,
        downloaded: slot.swarm.downloaded(),
        fetched_bytes: slot.swarm.fetched(),
        metainfo: false,
        peers: peers_since(slot, Tick(0), now),
    }
}

/// Those that have announced at `since` or later, by our clock.
fn peers_since(slot: &Slot, since: Tick, now: Tick) -> Vec<PeerReport> {
    let mut peers = Vec::new();
    add::<Arc<Node>>(slot, since, now, &mut peers);
    add::<Ipv4Addr>(slot, since, now, &mut peers);
    add::<Ipv6Addr>(slot, since, now, &mut peers);
    peers
}

fn left<P: Shelf + 'static>(slot: &Slot) -> u64 {
    let here = slot.swarm.peers::<P>().filter(|peer| peer.state() == State::Leeching);
    here.map(|peer| peer.status().left).fold(0, u64::saturating_add)
}

fn add<P: Shelf + 'static>(slot: &Slot, since: Tick, now: Tick, peers: &mut Vec<PeerReport>) {
    let here = slot.swarm.peers::<P>().filter(|peer| peer.state() != State::Gone && peer.seen >= since);
    peers.extend(here.map(|peer: &Peer<P>| PeerReport {
        node: peer.place().node().map(|node| node.name.to_string()),
        address: peer.contact().addresses().next().map(|address| address.to_string()).unwrap_or_default(),
        left: peer.status().left,
        age_seconds: u64::from(now.seconds_since(peer.seen)),
    }));
}
