use rand::SeedableRng;
use rand::rngs::StdRng;
use tracker_api::{PeerReport, RegisteredNode, RegisteredSwarm, Registry};

use super::*;
use crate::registry::Registration;

const V1: WireId = WireId([0x11; 20]);
const V2: WireId = WireId([0x22; 20]);

fn registry(infohashes: &[&str], nodes: &[&str]) -> Admission {
    let swarm = RegisteredSwarm {
        revisions: vec!["rev".to_owned()],
        infohashes: infohashes.iter().map(|&hash| hash.to_owned()).collect(),
        manifest: None,
    };
    let node = |&name: &&str| RegisteredNode {
        name: name.to_owned(),
        addresses: vec!["10.1.0.1".parse().unwrap()],
        zone: None,
    };
    Admission::new(Registry {
        swarms: vec![swarm],
        nodes: nodes.iter().map(node).collect(),
        networks: vec![],
    })
    .unwrap()
}

fn hybrid() -> Admission {
    registry(&[&"22".repeat(32), &"11".repeat(20)], &["a"])
}

fn ask(info_hash: WireId, port: u16) -> Announce {
    Announce {
        info_hash,
        peer_id: [0; 20],
        port,
        left: Some(1),
        event: Event::None,
        num_want: 50,
        compact: true,
        only: None,
        node: None,
    }
}

fn from(directory: &Directory, address: &str, announce: &Announce) -> Result<Reply, Refusal> {
    let claim = Claim::Stranger(address.parse().unwrap());
    directory.announce(claim, announce, Tick::START.plus_seconds(0), &mut StdRng::seed_from_u64(1))
}

#[test]
fn both_names_of_a_hybrid_lead_to_the_same_peers() {
    let directory = Directory::new("e".to_owned(), false, Room::default());
    directory.admit(hybrid(), String::new(), Bytes::new(), Registration::Replace);
    from(&directory, "10.0.0.1", &ask(V2, 2001)).unwrap();
    assert_eq!(from(&directory, "10.0.0.2", &ask(V1, 2002)).unwrap().peers[0].port, 2001);
    let scraped = directory.scrape(&[V1, V2, WireId([9; 20])]);
    assert_eq!(scraped.iter().map(|entry| entry.incomplete).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn t049_what_nobody_registered_leaves_nothing_behind() {
    let directory = Directory::new("e".to_owned(), false, Room::default());
    directory.admit(hybrid(), String::new(), Bytes::new(), Registration::Replace);
    for nth in 0..100_000u32 {
        let mut name = [0; 20];
        name[..4].copy_from_slice(&nth.to_be_bytes());
        assert_eq!(
            from(&directory, "10.0.0.1", &ask(WireId(name), 2001)).unwrap_err(),
            Refusal::UnknownTorrent
        );
    }
    assert_eq!(
        directory.sweep(Tick::START.plus_seconds(0)),
        Census { swarms: 1, nodes: 1, sidecars: 0, strangers: 0 }
    );
    assert_eq!(directory.sources.total(), 0);
}

#[test]
fn t049_one_client_fills_no_more_of_a_public_tracker_than_its_share() {
    const NAMES: u32 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    let directory = Directory::new("e".to_owned(), true, Room::default());
    let name = |nth: u32| {
        let mut name = [0xee; 20];
        // In all parts.
        name[..4].copy_from_slice(&nth.to_le_bytes());
        WireId(name)
    };
    let (mut v4, mut v6) = (0, 0);
    for nth in 0..NAMES {
        // The second moves about in its /64.
        for (address, served) in [("10.0.0.1", &mut v4), (&format!("2001:db8::{:x}", nth % 1000), &mut v6)] {
            match from(&directory, address, &ask(name(nth), 2001)) {
                Ok(reply) => *served += u32::from(reply.listed),
                Err(refusal) => assert_eq!(refusal, Refusal::Crowded),
            }
        }
    }
    assert_eq!((v4, v6), (MAX_STRANGERS_PER_SOURCE, MAX_STRANGERS_PER_SOURCE));
    let (peers, swarms) = (2 * MAX_STRANGERS_PER_SOURCE as usize, MAX_STRANGERS_PER_SOURCE as usize);
    assert_eq!(
        directory.sweep(Tick::START.plus_seconds(0)),
        Census { swarms, nodes: 0, sidecars: 0, strangers: peers }
    );
    assert_eq!(directory.sources.total(), peers);
    assert!(from(&directory, "10.0.0.2", &ask(name(NAMES), 2001)).unwrap().listed, "others are served");
    assert_eq!(from(&directory, "10.0.0.3", &ask(name(0), 2001)).unwrap().peers.len(), 2);
    directory.sweep(Tick::START.plus_seconds(2000));
    assert_eq!(directory.public_swarms.load(Ordering::Relaxed), 0, "nothing is left of it");
}

#[test]
fn t051_one_source_of_strangers_is_bounded() {
    let directory = Directory::new("e".to_owned(), false, Room::default());
    directory.admit(hybrid(), String::new(), Bytes::new(), Registration::Replace);
    for port in 2000..5000 {
        let reply = from(&directory, "10.0.0.1", &ask(V1, port)).unwrap();
        assert_eq!(reply.listed, port < 2000 + MAX_STRANGERS_PER_SOURCE as u16);
    }
    assert!(from(&directory, "10.0.0.2", &ask(V1, 2000)).unwrap().listed, "others are not affected");
    from(&directory, "10.0.0.1", &Announce { event: Event::Stopped, ..ask(V1, 2000) }).unwrap();
    assert!(
        from(&directory, "10.0.0.1", &ask(V1, 4999)).unwrap().listed,
        "a place that was left is free again"
    );
    for last in 0..2000 {
        let reply = from(&directory, &format!("2001:db8::{last:x}"), &ask(V1, 2000)).unwrap();
        assert_eq!(reply.listed, last < MAX_STRANGERS_PER_SOURCE, "a /64 is one source");
    }
    directory.sweep(Tick::START.plus_seconds(5000));
    assert_eq!(directory.sources.total(), 0);
}

#[test]
fn a_swarm_keeps_its_peers_when_it_gains_a_name_and_loses_them_with_its_last() {
    let directory = Directory::new("e".to_owned(), false, Room::default());
    directory.admit(registry(&[&"11".repeat(20)], &[]), "1".to_owned(), Bytes::new(), Registration::Replace);
    from(&directory, "10.0.0.1", &ask(V1, 2001)).unwrap();
    directory.admit(hybrid(), "2".to_owned(), Bytes::new(), Registration::Replace);
    assert_eq!(directory.status(), RegistryStatus { epoch: "e".to_owned(), digest: "2".to_owned() });
    assert_eq!(from(&directory, "10.0.0.2", &ask(V1, 2002)).unwrap().peers.len(), 1);
    directory.admit(registry(&[], &[]), "3".to_owned(), Bytes::new(), Registration::Replace);
    assert_eq!(from(&directory, "10.0.0.2", &ask(V2, 2002)).unwrap_err(), Refusal::UnknownTorrent);
    assert_eq!(directory.sources.total(), 0);
}

#[test]
fn a_node_announces_from_where_it_is_registered_or_not_at_all() {
    let directory = Directory::new("e".to_owned(), false, Room::default());
    directory.admit(hybrid(), String::new(), Bytes::new(), Registration::Replace);
    let announce = |name| {
        directory.announce(
            Claim::Node(name),
            &ask(V1, 6881),
            Tick::START.plus_seconds(0),
            &mut StdRng::seed_from_u64(1),
        )
    };
    announce("a").unwrap();
    assert_eq!(announce("b").unwrap_err(), Refusal::UnknownNode);
    let report = &directory.report(Some(V2), Tick::START.plus_seconds(7), |_| true)[0];
    assert_eq!(
        (report.leechers, report.metainfo, report.revisions.clone()),
        (1, true, vec!["rev".to_owned()])
    );
    let peer = PeerReport {
        node: Some("a".to_owned()),
        address: "10.1.0.1:6881".to_owned(),
        left: 16 << 10,
        age_seconds: 7,
    };
    assert_eq!(report.peers, [peer]);
    directory.admit(registry(&[&"11".repeat(20)], &[]), String::new(), Bytes::new(), Registration::Replace);
    assert_eq!(
        directory.sweep(Tick::START.plus_seconds(0)).sidecars,
        0,
        "a node that is gone is handed out no more"
    );
}

#[test]
fn a_public_tracker_serves_everything_and_forgets_what_is_empty() {
    let directory = Directory::new("e".to_owned(), true, Room::default());
    from(&directory, "10.0.0.1", &ask(V1, 2001)).unwrap();
    assert_eq!(directory.report(None, Tick::START.plus_seconds(0), |_| false).len(), 1);
    directory.admit(registry(&[&"22".repeat(32)], &[]), String::new(), Bytes::new(), Registration::Replace);
    assert_eq!(
        from(&directory, "10.0.0.2", &ask(V1, 2002)).unwrap().peers.len(),
        1,
        "a registry does not disturb it"
    );
    assert_eq!(directory.sweep(Tick::START.plus_seconds(0)).swarms, 2);
    assert_eq!(directory.sweep(Tick::START.plus_seconds(2000)).swarms, 1, "the registered one stays");
    assert_eq!(directory.public_swarms.load(Ordering::Relaxed), 0);
}

fn lists(allowed: &[WireId], denied: &[WireId]) -> Lists {
    Lists { allowed: allowed.iter().copied().collect(), denied: denied.iter().copied().collect() }
}

#[test]
fn what_a_list_allows_is_served_and_nothing_else_that_nobody_registered() {
    let directory = Directory::new("e".to_owned(), false, Room::default());
    directory.restrict(lists(&[WireId([7; 20])], &[]));
    from(&directory, "10.0.0.1", &ask(WireId([7; 20]), 2001)).unwrap();
    assert_eq!(from(&directory, "10.0.0.1", &ask(V1, 2001)).unwrap_err(), Refusal::UnknownTorrent);
    directory.admit(hybrid(), String::new(), Bytes::new(), Registration::Replace);
    from(&directory, "10.0.0.1", &ask(V1, 2001)).unwrap();
    assert_eq!(from(&directory, "10.0.0.2", &ask(WireId([7; 20]), 2002)).unwrap().peers.len(), 1);

    directory.restrict(lists(&[WireId([8; 20])], &[]));
    let gone = from(&directory, "10.0.0.2", &ask(WireId([7; 20]), 2002)).unwrap_err();
    assert_eq!(gone, Refusal::UnknownTorrent, "it is allowed no more");
    assert_eq!(
        from(&directory, "10.0.0.2", &ask(V1, 2002)).unwrap().peers.len(),
        1,
        "the registered one stays"
    );
    assert_eq!((directory.sources.total(), directory.public_swarms.load(Ordering::Relaxed)), (2, 0));
}

#[test]
fn what_is_denied_is_denied_under_all_of_its_names_whoever_registered_it() {
    let directory = Directory::new("e".to_owned(), true, Room::default());
    assert_eq!(directory.admit(hybrid(), "1".to_owned(), Bytes::new(), Registration::Replace), Some(0));
    from(&directory, "10.0.0.1", &ask(V1, 2001)).unwrap();
    from(&directory, "10.0.0.1", &ask(WireId([7; 20]), 2001)).unwrap();
    assert_eq!(directory.restrict(lists(&[], &[V1, WireId([7; 20])])), 1);
    for name in [V1, V2, WireId([7; 20])] {
        assert_eq!(from(&directory, "10.0.0.2", &ask(name, 2002)).unwrap_err(), Refusal::UnknownTorrent);
        assert!(directory.denies(&name) && directory.scrape(&[name]).is_empty());
    }
    assert!(!directory.has_registered(&V1));
    assert_eq!(
        (directory.sources.total(), directory.sweep(Tick::START).swarms),
        (0, 0),
        "its peers are gone"
    );
    assert_eq!(
        directory.admit(hybrid(), "2".to_owned(), Bytes::new(), Registration::Replace),
        Some(1),
        "it stays denied"
    );
    assert_eq!(from(&directory, "10.0.0.2", &ask(V2, 2002)).unwrap_err(), Refusal::UnknownTorrent);

    assert_eq!(directory.restrict(Lists::default()), 0);
    assert_eq!(from(&directory, "10.0.0.2", &ask(V2, 2002)).unwrap().peers.len(), 0);
    assert!(directory.has_registered(&V1) && !directory.denies(&V2), "it is served again, from nothing");
}

#[test]
fn what_is_denied_before_it_is_allowed_is_denied() {
    let directory = Directory::new("e".to_owned(), false, Room::default());
    directory.restrict(lists(&[V1], &[V1]));
    assert_eq!(from(&directory, "10.0.0.2", &ask(V1, 2002)).unwrap_err(), Refusal::UnknownTorrent);
}

#[test]
fn when_it_is_too_much_strangers_are_refused_and_nodes_and_who_leaves_are_not() {
    let directory = Directory::new("e".to_owned(), false, Room::default());
    directory.admit(hybrid(), String::new(), Bytes::new(), Registration::Replace);
    from(&directory, "10.0.0.1", &ask(V1, 2001)).unwrap();
    directory.press(Pressure { stretch: 4, refused: 1.0 });
    assert_eq!(from(&directory, "10.0.0.2", &ask(V1, 2002)).unwrap_err(), Refusal::Busy);
    let rng = &mut StdRng::seed_from_u64(1);
    let node = directory.announce(Claim::Node("a"), &ask(V1, 6881), Tick::START, rng).unwrap();
    assert_eq!(node.peers.len(), 1, "who was refused stays listed");
    from(&directory, "10.0.0.1", &Announce { event: Event::Stopped, ..ask(V1, 2001) }).unwrap();
    assert_eq!(directory.sweep(Tick::START).strangers, 0);

    directory.press(Pressure { stretch: 4, refused: 0.25 });
    let refused = |_: &u32| {
        let claim = Claim::Stranger([10, 0, 0, 3].into());
        directory.announce(claim, &ask(V1, 2003), Tick::START, rng).is_err()
    };
    let refused = (0..10_000).filter(refused).count();
    assert!((2_300..2_700).contains(&refused), "{refused} of 10,000");
    directory.press(Pressure::default());
    let interval = from(&directory, "10.0.0.2", &ask(V1, 2002)).unwrap().interval;
    assert!(interval <= 330, "{interval}");
}
