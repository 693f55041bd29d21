//! The registry as the operator sends it, checked and turned into what the tracker looks things up in.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use torrent::{InfoHashV1, InfoHashV2, WireId};
use tracker_api::{RegisteredNetwork, RegisteredNode, RegisteredSwarm, Registry};

use crate::limits::{
    MAX_NAMES, MAX_NETWORKS, MAX_NODE_ADDRESSES, MAX_REGISTERED_NODES, MAX_REGISTERED_SWARMS,
};
use crate::swarm::Name;

/// Why a registry was refused; nothing of it is taken then.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Not the JSON of a registry.
    #[error("not a registry: {0}")]
    Json(String),
    /// Over one of the limits.
    #[error("{count} {what}, at most {max} are taken")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        count: usize,
        /// How much may be.
        max: usize,
    },
    /// A hash that is none.
    #[error("`{0}` is not a hash: 40 hexadecimal digits for v1, 64 for v2 and for manifests")]
    Hash(String),
    /// An address that no peer can have.
    #[error("{address} cannot be the address of node `{node}`")]
    Address {
        /// Whose.
        node: String,
        /// Which.
        address: IpAddr,
    },
    /// The same node twice.
    #[error("node `{0}` is registered twice")]
    Node(String),
}

/// Whether a registry is taken in where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// It replaces what is there: it is the operator's word.
    Replace,
    /// Only if there is none: a sibling's, which the operator may have overtaken meanwhile.
    OnlyFirst,
}

/// A node whose sidecar may announce by name.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Where its sidecar listens, IPv4.
    pub v4: Option<Ipv4Addr>,
    /// Where its sidecar listens, IPv6.
    pub v6: Option<Ipv6Addr>,
    /// Its zone.
    pub zone: Option<Arc<str>>,
}

/// A swarm as registered: what it is called, and by whom it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwarmNames {
    /// Hex infohashes as registered.
    pub infohashes: Vec<String>,
    /// The same as they come in announces.
    pub wire: Vec<WireId>,
    /// The revisions that want it.
    pub revisions: Vec<String>,
}

impl SwarmNames {
    /// What the name `id` tells about the client that uses it.
    pub fn name(&self, id: WireId) -> Name {
        let is_v2 = |hex: &String| hex.len() == 64;
        let hybrid = self.infohashes.iter().any(is_v2) && !self.infohashes.iter().all(is_v2);
        let used = self.wire.iter().zip(&self.infohashes).find(|(known, _)| **known == id);
        match used {
            Some((_, hex)) if hybrid && is_v2(hex) => Name::V2OfHybrid,
            _ => Name::Common,
        }
    }
}

/// What a registry admits.
#[derive(Debug, Default)]
pub struct Admission {
    /// Swarms that can be announced, no two of them with a name in common.
    pub swarms: Vec<SwarmNames>,
    /// Nodes by name.
    pub nodes: HashMap<Arc<str>, Arc<Node>>,
    /// Where clients that are no nodes are.
    pub networks: Networks,
    /// Revisions that may store metainfo and manifests.
    pub revisions: HashSet<String>,
    /// Digests of the manifests that are known.
    pub manifests: HashSet<[u8; 32]>,
}

/// Zones by address.
#[derive(Debug, Default)]
pub struct Networks(Vec<(IpNet, Arc<str>)>);

impl Networks {
    fn new(networks: Vec<RegisteredNetwork>) -> Result<Self, RegistryError> {
        limit("networks", networks.len(), MAX_NETWORKS)?;
        let mut zones: Vec<_> =
            networks.into_iter().map(|network| (network.cidr, Arc::from(network.zone))).collect();
        // The first that holds an address counts.
        zones.sort_by_key(|(cidr, _)| std::cmp::Reverse(cidr.prefix_len()));
        Ok(Networks(zones))
    }

    /// The zone of an address, if one is known.
    pub fn zone(&self, address: IpAddr) -> Option<Arc<str>> {
        self.0.iter().find(|(cidr, _)| cidr.contains(&address)).map(|(_, zone)| Arc::clone(zone))
    }
}

impl Admission {
    /// Checks a registry.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub fn new(registry: Registry) -> Result<Self, RegistryError> {
        limit("swarms", registry.swarms.len(), MAX_REGISTERED_SWARMS)?;
        limit("nodes", registry.nodes.len(), MAX_REGISTERED_NODES)?;
        let mut admission = Admission { networks: Networks::new(registry.networks)?, ..Admission::default() };
        let mut taken = HashMap::new();
        for swarm in registry.swarms {
            admission.add_swarm(swarm, &mut taken)?;
        }
        for node in registry.nodes {
            let node = check_node(node)?;
            if let Some(twice) = admission.nodes.insert(Arc::clone(&node.name), Arc::new(node)) {
                return Err(RegistryError::Node(twice.name.to_string()));
            }
        }
        Ok(admission)
    }

    /// Adds a swarm; one that shares a name with an earlier one is the same swarm.
    fn add_swarm(
        &mut self,
        swarm: RegisteredSwarm,
        taken: &mut HashMap<WireId, usize>,
    ) -> Result<(), RegistryError> {
        limit("infohashes of a swarm", swarm.infohashes.len(), MAX_NAMES)?;
        limit("revisions of a swarm", swarm.revisions.len(), MAX_NAMES)?;
        if let Some(manifest) = &swarm.manifest {
            self.manifests.insert(digest(manifest)?);
        }
        self.revisions.extend(swarm.revisions.iter().cloned());
        let wire: Vec<WireId> =
            swarm.infohashes.iter().map(|name| wire_id(name)).collect::<Result<_, _>>()?;
        let Some(&first) = wire.first() else { return Ok(()) };
        let place = wire.iter().find_map(|id| taken.get(id).copied()).unwrap_or_else(|| {
            self.swarms.push(SwarmNames::default());
            self.swarms.len() - 1
        });
        taken.entry(first).or_insert(place);
        let names = &mut self.swarms[place];
        for (id, hex) in wire.into_iter().zip(swarm.infohashes) {
            // A name that another swarm has already stays with that one.
            if *taken.entry(id).or_insert(place) == place && !names.wire.contains(&id) {
                names.wire.push(id);
                names.infohashes.push(hex);
            }
        }
        for revision in swarm.revisions {
            if !names.revisions.contains(&revision) {
                names.revisions.push(revision);
            }
        }
        Ok(())
    }
}

/// Reads an infohash as it stands in paths and registries: 40 or 64 hexadecimal digits.
///
/// # Errors
/// [`RegistryError::Hash`]
pub fn wire_id(hex: &str) -> Result<WireId, RegistryError> {
    match hex.len() {
        40 => hex.parse::<InfoHashV1>().map(WireId::from),
        _ => hex.parse::<InfoHashV2>().map(WireId::from),
    }
    .map_err(|_| RegistryError::Hash(shortened(hex)))
}

/// Reads the 64 hexadecimal digits of a SHA-256.
///
/// # Errors
/// [`RegistryError::Hash`]
pub fn digest(text: &str) -> Result<[u8; 32], RegistryError> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).map_err(|_| RegistryError::Hash(shortened(text)))?;
    Ok(digest)
}

/// No message repeats all of a megabyte.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

fn check_node(node: RegisteredNode) -> Result<Node, RegistryError> {
    limit("addresses of a node", node.addresses.len(), MAX_NODE_ADDRESSES)?;
    let (mut v4, mut v6) = (None, None);
    for address in node.addresses {
        if address.is_unspecified() || address.is_multicast() {
            return Err(RegistryError::Address { node: node.name, address });
        }
        match address.to_canonical() {
            IpAddr::V4(address) => v4 = v4.or(Some(address)),
            IpAddr::V6(address) => v6 = v6.or(Some(address)),
        }
    }
    Ok(Node {
        name: node.name.into(),
        v4,
        v6,
        zone: node.zone.filter(|zone| !zone.is_empty()).map(Arc::from),
    })
}

fn limit(what: &'static str, count: usize, max: usize) -> Result<(), RegistryError> {
    if count > max { Err(RegistryError::TooMany { what, count, max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swarm(revision: &str, infohashes: &[&str]) -> RegisteredSwarm {
        RegisteredSwarm {
            revisions: vec![revision.to_owned()],
            infohashes: infohashes.iter().map(|&hash| hash.to_owned()).collect(),
            manifest: None,
        }
    }

    fn swarm_of_v2() -> RegisteredSwarm {
        swarm("a", &[&"22".repeat(32)])
    }

    fn node(name: &str, addresses: &[&str]) -> RegisteredNode {
        RegisteredNode {
            name: name.to_owned(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            zone: None,
        }
    }

    fn admit(swarms: Vec<RegisteredSwarm>, nodes: Vec<RegisteredNode>) -> Result<Admission, RegistryError> {
        Admission::new(Registry { swarms, nodes, networks: vec![] })
    }

    #[test]
    fn an_address_is_in_the_zone_of_the_smallest_network_that_holds_it() {
        let network =
            |cidr: &str, zone: &str| RegisteredNetwork { cidr: cidr.parse().unwrap(), zone: zone.to_owned() };
        let networks =
            vec![network("10.0.0.0/8", "wide"), network("10.1.0.0/16", "near"), network("fd00::/8", "six")];
        let admission = Admission::new(Registry { networks, ..Registry::default() }).unwrap();
        let zone = |address: &str| admission.networks.zone(address.parse().unwrap());
        assert_eq!(zone("10.1.2.3").as_deref(), Some("near"));
        assert_eq!(zone("10.2.2.3").as_deref(), Some("wide"));
        assert_eq!((zone("fd00::1").as_deref(), zone("11.0.0.1")), (Some("six"), None));
    }

    #[test]
    fn both_names_of_a_hybrid_are_one_swarm() {
        let (v1, v2) = ("11".repeat(20), "22".repeat(32));
        let admission = admit(vec![swarm("a", &[&v2, &v1])], vec![]).unwrap();
        let swarm = &admission.swarms[0];
        assert_eq!(swarm.wire, [WireId([0x22; 20]), WireId([0x11; 20])]);
        assert_eq!(swarm.name(WireId([0x22; 20])), Name::V2OfHybrid);
        assert_eq!(swarm.name(WireId([0x11; 20])), Name::Common);
        let only_v2 = admit(vec![swarm_of_v2()], vec![]).unwrap();
        assert_eq!(only_v2.swarms[0].name(WireId([0x22; 20])), Name::Common);
    }

    #[test]
    fn revisions_of_the_same_bytes_share_a_swarm() {
        let (v1, v2) = ("11".repeat(20), "22".repeat(32));
        let admission =
            admit(vec![swarm("a", &[&v1]), swarm("b", &[&v2, &v1]), swarm("c", &[])], vec![]).unwrap();
        assert_eq!(admission.swarms.len(), 1);
        assert_eq!(admission.swarms[0].revisions, ["a", "b"]);
        assert_eq!(admission.swarms[0].wire.len(), 2);
        assert_eq!(admission.revisions.len(), 3, "one that is still being fetched may store metainfo");
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for bad in ["", "11", &"1".repeat(39), &"g".repeat(40), &"11".repeat(33)] {
            assert!(matches!(admit(vec![swarm("a", &[bad])], vec![]), Err(RegistryError::Hash(_))), "{bad}");
        }
    }

    #[test]
    fn a_node_has_one_address_per_family() {
        let admission = admit(vec![], vec![node("n", &["10.0.0.1", "fd00::1", "10.0.0.2"])]).unwrap();
        let node = &admission.nodes["n"];
        assert_eq!((node.v4, node.v6), (Some("10.0.0.1".parse().unwrap()), Some("fd00::1".parse().unwrap())));
    }

    #[test]
    fn addresses_that_no_peer_has_are_refused() {
        for bad in ["0.0.0.0", "::", "224.0.0.1", "ff02::1"] {
            assert!(
                matches!(admit(vec![], vec![node("n", &[bad])]), Err(RegistryError::Address { .. })),
                "{bad}"
            );
        }
        assert_eq!(
            admit(vec![], vec![node("n", &[]), node("n", &[])]).unwrap_err(),
            RegistryError::Node("n".to_owned())
        );
    }

    #[test]
    fn limits_hold() {
        let many = vec![swarm("a", &[]); MAX_REGISTERED_SWARMS + 1];
        assert!(matches!(admit(many, vec![]), Err(RegistryError::TooMany { what: "swarms", .. })));
    }
}
