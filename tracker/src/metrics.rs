//! What a tracker counts. docs/tracker.md explains each name.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::directory::Census;
use crate::udp::{Counters, Shared};

/// Label of metrics that tell sidecars from other clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Client {
    kind: &'static str,
}

/// Label of refusals.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    reason: &'static str,
}

/// Label of what was tried.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Attempt {
    result: &'static str,
}

/// The metrics of a tracker. Clones share the values.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    announces: Announces,
    rejected: Family<Reason, Counter>,
    unlisted: Counter,
    pub(crate) scrapes: Counter,
    pub(crate) registrations: Counter,
    reloads: Family<Attempt, Counter>,
    peers: Family<Client, Gauge>,
    swarms: Gauge,
    nodes: Gauge,
    stretch: Gauge,
    metainfo: Gauge,
    manifests: Gauge,
    store_bytes: Gauge,
    pub(crate) replication: Arc<Replication>,
    pub(crate) udp: Counters,
}

/// What goes between siblings.
#[derive(Debug, Default)]
pub(crate) struct Replication {
    pub connected: Gauge,
    pub listeners: Gauge,
    pub sent: Counter,
    pub received: Counter,
    pub words: Counter,
    pub parts_sent_again: Counter,
}

impl Replication {
    fn register(&self, registry: &mut Registry) {
        let Replication { connected, listeners, sent, received, words, parts_sent_again } = self;
        registry.register("siblings_heard", "Siblings that this tracker listens to", connected.clone());
        registry.register("siblings_told", "Siblings that listen to this tracker", listeners.clone());
        registry.register("replication_sent_bytes", "Bytes sent to siblings", sent.clone());
        registry.register("replication_received_bytes", "Bytes that came from siblings", received.clone());
        registry.register("replication_peers", "Times that a sibling told of a peer", words.clone());
        registry.register(
            "replication_parts_sent_again",
            "Parts of the swarms that a sibling had otherwise",
            parts_sent_again.clone(),
        );
    }
}

/// Announces by kind, with both members at hand: finding one takes a lock and a hash, too much for each announce.
#[derive(Clone, Debug)]
struct Announces {
    all: Family<Client, Counter>,
    sidecars: Counter,
    strangers: Counter,
}

impl Default for Announces {
    fn default() -> Self {
        let all = Family::default();
        let (sidecars, strangers) =
            (all.get_or_create_owned(&client(true)), all.get_or_create_owned(&client(false)));
        Announces { all, sidecars, strangers }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let announces = Announces::default();
        let rejected = Family::<Reason, Counter>::default();
        let reloads = Family::default();
        for result in ["ok", "error"] {
            // From the start, so that an alarm sees the first one.
            drop(reloads.get_or_create_owned(&Attempt { result }));
        }
        let (unlisted, scrapes) = (Counter::default(), Counter::default());
        let reason = |reason| rejected.get_or_create_owned(&Reason { reason });
        let udp = Counters::new(Shared {
            announces: announces.strangers.clone(),
            unlisted: unlisted.clone(),
            scrapes: scrapes.clone(),
            rejected_query: reason("query"),
            rejected_torrent: reason("torrent"),
            rejected_full: reason("full"),
            rejected_busy: reason("busy"),
        });
        Metrics {
            announces,
            rejected,
            unlisted,
            scrapes,
            registrations: Counter::default(),
            reloads,
            peers: Family::default(),
            swarms: Gauge::default(),
            nodes: Gauge::default(),
            stretch: Gauge::default(),
            metainfo: Gauge::default(),
            manifests: Gauge::default(),
            store_bytes: Gauge::default(),
            replication: Arc::default(),
            udp,
        }
    }
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Metrics {
            announces,
            rejected,
            unlisted,
            scrapes,
            registrations,
            reloads,
            peers,
            swarms,
            nodes,
            stretch,
            metainfo,
            manifests,
            store_bytes,
            replication,
            udp,
        } = self.clone();
        replication.register(registry);
        registry.register("announces", "Announces that were answered with peers", announces.all);
        registry.register("rejected", "Requests that were refused", rejected);
        registry.register("unlisted", "Announces of strangers for whom there was no room", unlisted);
        registry.register("scrapes", "Scrapes that were answered", scrapes);
        registry.register("registrations", "Registries taken from the operator", registrations);
        registry.register("reloads", "Times that the lists were to be read again", reloads);
        registry.register("peers", "Peers in all swarms", peers);
        registry.register("swarms", "Swarms that are served", swarms);
        registry.register("nodes", "Nodes that are registered", nodes);
        registry.register(
            "stretch",
            "How many times longer intervals are because the tracker is busy",
            stretch,
        );
        registry.register("metainfo", "Metainfo in the store", metainfo);
        registry.register("manifests", "Manifests in the store", manifests);
        registry.register("store_bytes", "Bytes in the store", store_bytes);
        udp.register(registry);
    }

    pub(crate) fn announced(&self, sidecar: bool, listed: bool) {
        let kind = if sidecar { &self.announces.sidecars } else { &self.announces.strangers };
        kind.inc();
        if !listed {
            self.unlisted.inc();
        }
    }

    pub(crate) fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn stretched(&self, stretch: u32) {
        set(&self.stretch, stretch.into());
    }

    pub(crate) fn reloaded(&self, taken: bool) {
        self.reloads.get_or_create(&Attempt { result: if taken { "ok" } else { "error" } }).inc();
    }

    pub(crate) fn census(&self, census: Census, (metainfo, manifests, bytes): (usize, usize, u64)) {
        set(&self.swarms, census.swarms as u64);
        set(&self.nodes, census.nodes as u64);
        set(&self.metainfo, metainfo as u64);
        set(&self.manifests, manifests as u64);
        set(&self.store_bytes, bytes);
        // One statement each: a member of a family is a read guard, and making another one needs the write guard.
        set(&self.peers.get_or_create(&client(true)), census.sidecars as u64);
        set(&self.peers.get_or_create(&client(false)), census.strangers as u64);
    }
}

fn client(sidecar: bool) -> Client {
    Client { kind: if sidecar { "sidecar" } else { "stranger" } }
}

fn set(gauge: &Gauge, count: u64) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}
