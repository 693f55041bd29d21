use rand::SeedableRng;
use rand::rngs::StdRng;
use torrent::WireId;

use super::*;

fn ask(port: u16, left: u64) -> Announce {
    Announce {
        info_hash: WireId([1; 20]),
        peer_id: [port as u8; 20],
        port,
        left: Some(left),
        event: Event::None,
        num_want: 50,
        compact: true,
        no_peer_id: false,
        node: None,
    }
}

fn stranger(last: u8) -> Who {
    Who::Stranger(IpAddr::from([10, 0, 0, last]))
}

fn node(name: &str, zone: Option<&str>) -> Who {
    let address = Some(Ipv4Addr::new(10, 1, 0, name.len() as u8));
    Who::Node(Arc::new(Node { name: name.into(), v4: address, v6: None, zone: zone.map(Arc::from) }))
}

fn at(swarm: &mut Swarm, now: u32, who: Who, announce: &Announce) -> Reply {
    swarm.announce(who, announce, Name::Common, true, Seconds(now), &mut StdRng::seed_from_u64(1))
}

fn ports(reply: &Reply) -> Vec<u16> {
    let mut ports: Vec<u16> = reply.peers.iter().map(|peer| peer.port).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn nobody_is_told_of_itself() {
    let mut swarm = Swarm::default();
    assert!(ports(&at(&mut swarm, 0, stranger(1), &ask(2001, 9))).is_empty());
    assert!(ports(&at(&mut swarm, 0, stranger(1), &ask(2001, 9))).is_empty());
    assert_eq!(ports(&at(&mut swarm, 0, stranger(2), &ask(2002, 9))), [2001]);
    assert_eq!(ports(&at(&mut swarm, 0, stranger(1), &ask(2001, 9))), [2002]);
}

#[test]
fn a_new_peer_id_replaces_the_old_one() {
    let mut swarm = Swarm::default();
    at(&mut swarm, 0, stranger(1), &ask(2001, 9));
    at(&mut swarm, 0, stranger(1), &Announce { peer_id: [99; 20], ..ask(2001, 9) });
    assert_eq!(swarm.len(), 1);
    assert_eq!(at(&mut swarm, 0, stranger(2), &ask(2002, 9)).peers[0].peer_id, [99; 20]);
}

#[test]
fn t051_a_node_has_one_entry() {
    let mut swarm = Swarm::default();
    for port in 2000..3000 {
        at(&mut swarm, 0, node("a", None), &ask(port, 9));
    }
    assert_eq!(swarm.len(), 1);
    assert_eq!(ports(&at(&mut swarm, 0, stranger(1), &ask(2001, 9))), [2999]);
}

#[test]
fn who_stops_is_gone_and_gets_no_peers() {
    let mut swarm = Swarm::default();
    at(&mut swarm, 0, stranger(1), &ask(2001, 9));
    at(&mut swarm, 0, stranger(2), &ask(2002, 9));
    let reply = at(&mut swarm, 0, stranger(1), &Announce { event: Event::Stopped, ..ask(2001, 9) });
    assert!(reply.peers.is_empty());
    assert_eq!((reply.complete, reply.incomplete), (0, 1));
    assert!(ports(&at(&mut swarm, 0, stranger(2), &ask(2002, 9))).is_empty());
}

#[test]
fn counts_follow_left_both_ways() {
    let mut swarm = Swarm::default();
    at(&mut swarm, 0, stranger(1), &ask(2001, 9));
    let done = at(&mut swarm, 1, stranger(1), &Announce { event: Event::Completed, ..ask(2001, 0) });
    assert_eq!((done.complete, done.incomplete, swarm.downloaded()), (1, 0, 1));
    at(&mut swarm, 2, stranger(1), &Announce { event: Event::Completed, ..ask(2001, 0) });
    assert_eq!(swarm.downloaded(), 1, "nobody completes twice");
    let again = at(&mut swarm, 3, stranger(1), &ask(2001, 9));
    assert_eq!((again.complete, again.incomplete), (0, 1));
    let silent = at(&mut swarm, 4, stranger(2), &Announce { left: None, ..ask(2002, 0) });
    assert_eq!((silent.complete, silent.incomplete), (0, 2), "who does not say has not everything");
}

#[test]
fn intervals_are_short_at_first_for_nodes_and_long_for_strangers() {
    let mut swarm = Swarm::default();
    let intervals: Vec<u32> = (0..4)
        .map(|nth| at(&mut swarm, nth, node("a", None), &ask(2001, 100 - u64::from(nth))).interval)
        .collect();
    assert_eq!(intervals, [5, 10, 30, 30]);
    assert_eq!(at(&mut swarm, 9, node("a", None), &ask(2001, 0)).interval, 120);
    assert_eq!(at(&mut swarm, 9, stranger(1), &ask(2001, 5)).interval, 300);
}

#[test]
fn peers_expire_by_their_kind() {
    let kept = |who: Who, left: u64| {
        let mut swarm = Swarm::default();
        at(&mut swarm, 100, who, &ask(2001, left));
        (0..2000)
            .find(|after| swarm.expire(Seconds(100 + after)).len() + usize::from(swarm.is_empty()) > 0)
            .unwrap()
    };
    assert_eq!(kept(node("a", None), 9), 75);
    assert_eq!(kept(node("a", None), 0), 300);
    assert_eq!(kept(stranger(1), 9), 1260);
}

#[test]
fn places_stay_right_when_others_leave() {
    let mut swarm = Swarm::default();
    for last in 1..=100 {
        at(&mut swarm, u32::from(last), stranger(last), &ask(2000 + u16::from(last), u64::from(last % 3)));
    }
    assert_eq!(swarm.expire(Seconds(1260 + 50)).len(), 50);
    for last in (51..=100).rev().step_by(2) {
        at(
            &mut swarm,
            200,
            stranger(last),
            &Announce { event: Event::Stopped, ..ask(2000 + u16::from(last), 1) },
        );
    }
    assert_eq!(swarm.len(), 25);
    assert_eq!(swarm.strangers().count(), 25);
    for peer in swarm.peers() {
        assert_eq!(swarm.index[&peer.key()], {
            let bucket =
                swarm.buckets.iter().position(|b| b.peers.iter().any(|p| p.key() == peer.key())).unwrap();
            (bucket, swarm.buckets[bucket].peers.iter().position(|p| p.key() == peer.key()).unwrap())
        });
    }
}

#[test]
fn a_swarm_lists_only_so_many_strangers_but_all_nodes() {
    let mut swarm = Swarm::default();
    for nth in 0..MAX_STRANGERS_PER_SWARM + 10 {
        let who = Who::Stranger(IpAddr::from([10, 0, (nth >> 8) as u8, nth as u8]));
        let reply = at(&mut swarm, 0, who, &Announce { num_want: 1, ..ask(2000, 1) });
        assert_eq!(reply.listed, nth < MAX_STRANGERS_PER_SWARM);
        assert!(nth == 0 || !reply.peers.is_empty());
    }
    assert!(at(&mut swarm, 0, node("a", None), &ask(2001, 1)).listed);
}

#[test]
fn nodes_that_are_no_longer_registered_are_taken_out() {
    let mut swarm = Swarm::default();
    at(&mut swarm, 0, node("a", None), &ask(2001, 1));
    at(&mut swarm, 0, node("bb", None), &ask(2001, 1));
    at(&mut swarm, 0, stranger(1), &ask(2001, 1));
    swarm.retain_nodes(|name| name == "bb");
    assert_eq!(swarm.len(), 2);
}

#[test]
fn a_leecher_that_does_not_move_gets_one_list_from_everywhere() {
    let mut swarm = Swarm::default();
    for nth in 0..60 {
        at(
            &mut swarm,
            0,
            node(&"n".repeat(nth + 2), Some(if nth < 30 { "here" } else { "there" })),
            &ask(2001, 100),
        );
    }
    let remote: Vec<usize> = (0..5)
        .map(|_| {
            let reply =
                at(&mut swarm, 0, node("x", Some("here")), &Announce { num_want: 20, ..ask(2001, 100) });
            reply.peers.iter().filter(|peer| peer.v4.is_some_and(|address| address.octets()[3] > 31)).count()
        })
        .collect();
    assert_eq!([remote[0], remote[1], remote[3], remote[4]], [2; 4], "{remote:?}");
    assert!(remote[2] > 4, "{remote:?}");
}

#[test]
fn who_asks_under_the_v2_name_of_a_hybrid_is_told_only_of_those_who_know_it() {
    let mut swarm = Swarm::default();
    let mut rng = StdRng::seed_from_u64(1);
    let mut announce = |last: u8, name: Name| {
        let peers =
            swarm.announce(stranger(last), &ask(2000 + u16::from(last), 9), name, true, Seconds(0), &mut rng);
        ports(&peers)
    };
    announce(1, Name::Common);
    assert!(announce(2, Name::V2OfHybrid).is_empty(), "1 would close the connection");
    assert_eq!(announce(2, Name::Common), [2001]);
    assert_eq!(announce(3, Name::V2OfHybrid), [2002], "who has announced under both names once knows both");
    assert_eq!(announce(1, Name::Common), [2002, 2003], "who knows the v2 name of a hybrid knows the other");
    at(&mut swarm, 0, node("a", None), &ask(6881, 9));
    let reply = swarm.announce(stranger(4), &ask(2004, 9), Name::V2OfHybrid, true, Seconds(0), &mut rng);
    assert_eq!(ports(&reply), [2002, 2003, 6881]);
}

#[test]
fn a_peer_takes_no_more_memory_than_documented() {
    // A vector may be half empty, a table too; a table has a byte of control for each place.
    let peer = 2 * size_of::<Peer>() + 2 * (size_of::<(Key, (usize, usize))>() + 1);
    assert!(peer <= 300, "{peer} bytes");
}
