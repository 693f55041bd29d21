//! What the tracker says and hears besides BitTorrent: the registry that the operator keeps on it, the swarms that the
//! operator reads from it, and the paths under which metainfo and manifests lie.
//!
//! Everything here needs the class's tracker token as `Authorization: Bearer`, but for announces and scrapes.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// `GET` answers a [`RegistryStatus`]; `PUT` takes a [`Registry`] and replaces the whole of what was there.
pub const REGISTRY_PATH: &str = "/v1/registry";
/// `GET` answers the [`Registry`] as it was received; 404 before the first. A sibling that has just started reads it.
pub const REGISTRY_CONTENT_PATH: &str = "/v1/registry/content";
/// `GET` with `Upgrade` begins the stream over which a sibling hears what this tracker hears.
pub const REPLICATION_PATH: &str = "/v1/replication";
/// `GET` answers [`SwarmReport`]s; with `?infohash=<hex>` only that swarm.
pub const SWARMS_PATH: &str = "/v1/swarms";
/// `GET` with `?infohash=<hex>` answers a [`SwarmChange`] a line, for as long as the reader stays: the first with all peers, then one a
/// second in which something has changed.
pub const WATCH_PATH: &str = "/v1/swarms/watch";
/// `PUT|GET|HEAD <prefix><infohash>`: metainfo by hex infohash (v1: 40 digits, v2: 64 digits, or 40 of them cut);
/// `GET <prefix>sha256:<hex>` finds it by the content digest in its canonical name.
pub const METAINFO_PATH: &str = "/metainfo/";
/// `PUT|GET|HEAD <prefix><sha256 hex>`: content manifests by the digest of their bytes.
pub const MANIFESTS_PATH: &str = "/manifests/";
/// An announce that carries the token names its node in this query parameter; its address is then the registered one.
pub const NODE_PARAM: &str = "node";

/// The desired state of one tracker: all that it admits. At most 100,000 swarms and 10,000 nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// The swarms that the tracker serves; everything else is refused.
    pub swarms: Vec<RegisteredSwarm>,
    /// The nodes whose sidecars may announce by name.
    pub nodes: Vec<RegisteredNode>,
    /// Where clients that are no nodes are; of several that hold an address the longest prefix counts. At most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<RegisteredNetwork>,
}

/// A network all of whose addresses are in one zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegisteredNetwork {
    /// Its addresses.
    pub cidr: IpNet,
    /// Their zone, as of nodes.
    pub zone: String,
}

/// One swarm and the names it goes by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegisteredSwarm {
    /// The `DistributionRevision` that wants it, or several when their bytes are the same.
    pub revisions: Vec<String>,
    /// Hex infohashes: v1 as 40 digits, v2 as 64. Both names of a hybrid are one swarm. Empty while the content is still
    /// being fetched: nobody can announce yet, but the fetcher may already store metainfo of this revision.
    pub infohashes: Vec<String>,
    /// SHA-256 (hex) of the content manifest, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
}

/// A node, as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegisteredNode {
    /// The node's name.
    pub name: String,
    /// Where its sidecar listens: the addresses of the sidecar's pod, one per family.
    pub addresses: Vec<IpAddr>,
    /// `topology.kubernetes.io/zone`, if the node has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// What a tracker holds, so that the operator can see whether it must send the registry again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// Random per start of the tracker; also the `tracker id` of its announce answers.
    pub epoch: String,
    /// SHA-256 (hex) of the JSON of the registry as it was received; empty before the first.
    pub digest: String,
}

/// One swarm as the tracker sees it now. Nothing of it is stored anywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwarmReport {
    /// The names it goes by, as registered.
    pub infohashes: Vec<String>,
    /// The revisions that want it, as registered.
    pub revisions: Vec<String>,
    /// Peers with `left` = 0.
    pub seeders: u32,
    /// Peers with `left` > 0.
    pub leechers: u32,
    /// How often a peer said that it has just become complete.
    pub downloaded: u32,
    /// Bytes that peers have fetched since the tracker knows of the swarm, as far as they told this tracker.
    pub fetched_bytes: u64,
    /// Whether the metainfo lies here.
    pub metainfo: bool,
    /// Each peer that announced and has not expired.
    pub peers: Vec<PeerReport>,
}

/// How a swarm has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SwarmChange {
    /// Whether `peers` are all that there are, and whoever is not among them is gone. Else they are those that have announced since the
    /// line before.
    pub all: bool,
    /// Peers with `left` = 0.
    pub seeders: u32,
    /// Peers with `left` > 0.
    pub leechers: u32,
    /// How often a peer said that it has just become complete.
    pub downloaded: u32,
    /// Bytes that all leechers together still want.
    pub left_bytes: u64,
    /// See [`SwarmReport::fetched_bytes`].
    pub fetched_bytes: u64,
    /// What they fetched in a second, over the last minute. Peers tell it with each announce.
    pub bytes_per_second: u64,
    /// See `all`.
    pub peers: Vec<PeerReport>,
}

/// One peer of a swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerReport {
    /// The node, for sidecars; strangers have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Where it was said to listen, `ip:port`.
    pub address: String,
    /// Bytes it still wants, to the next 16 KiB; 0 only if it has everything.
    pub left: u64,
    /// Seconds since its last announce.
    pub age_seconds: u64,
}
