use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use torrent::WireId;

use super::*;
use crate::limits::STRANGER_KEPT;
use crate::query::Family;

fn ask(port: u16, left: u64) -> Announce {
    Announce {
        info_hash: WireId([1; 20]),
        peer_id: [port as u8; 20],
        port,
        left: Some(left),
        event: Event::None,
        num_want: 50,
        compact: true,
        only: None,
        node: None,
    }
}

fn stranger(last: u8) -> Who {
    Who::Stranger(IpAddr::from([10, 0, 0, last]), None)
}

fn node(name: &str, zone: Option<&str>) -> Who {
    let address = Some(Ipv4Addr::new(10, 1, 0, name.len() as u8));
    Who::Node(Arc::new(Node { name: name.into(), v4: address, v6: None, zone: zone.map(Arc::from) }))
}

/// `now` in seconds.
fn visit(now: u32, announce: &Announce) -> Visit<'_> {
    let now = Tick::START.plus_seconds(now);
    Visit { announce, name: Name::Common, now, stretch: 1, replicated: false }
}

fn outcome(swarm: &mut Swarm, who: Who, visit: Visit<'_>) -> Outcome {
    swarm.announce(who, visit, || true, &mut StdRng::seed_from_u64(1))
}

fn at(swarm: &mut Swarm, now: u32, who: Who, announce: &Announce) -> Reply {
    outcome(swarm, who, visit(now, announce)).reply
}

fn len(swarm: &Swarm) -> usize {
    swarm.strangers() + swarm.sidecars()
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
    assert_eq!(len(&swarm), 1);
    assert_eq!(ports(&at(&mut swarm, 0, stranger(2), &ask(2002, 9))), [2001]);
}

#[test]
fn t051_a_node_has_one_entry() {
    let mut swarm = Swarm::default();
    for port in 2000..3000 {
        at(&mut swarm, 0, node("a", None), &ask(port, 9));
    }
    assert_eq!(len(&swarm), 1);
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
fn peers_expire_by_their_kind() {
    let kept = |who: Who| {
        let mut swarm = Swarm::default();
        at(&mut swarm, 100, who, &ask(2001, 9));
        let expires = |after: &u32| {
            let mut gone = 0;
            swarm.expire(Tick::START.plus_seconds(100 + after), |_| gone += 1);
            gone > 0 || swarm.is_empty()
        };
        (0..2000).find(expires).unwrap()
    };
    assert_eq!(kept(node("a", None)), 75);
    assert_eq!(kept(stranger(1)), 1260);
}

#[test]
fn a_seed_of_ours_is_kept_for_two_and_a_half_intervals() {
    let mut swarm = Swarm::default();
    let reply = at(&mut swarm, 0, node("a", None), &ask(2001, 0));
    assert!((108..=132).contains(&reply.interval), "{}", reply.interval);
    let at_end = |seconds| Tick::START.plus_seconds(seconds);
    swarm.expire(at_end(299), |_| ());
    assert_eq!(swarm.sidecars(), 1);
    swarm.expire(at_end(300), |_| ());
    assert_eq!(swarm.sidecars(), 0);
}

#[test]
fn seeds_of_what_nobody_wants_come_less_often_until_somebody_does() {
    let mut swarm = Swarm::default();
    at(&mut swarm, 0, stranger(1), &ask(2001, 9));
    let mut interval = |now, who, left| at(&mut swarm, now, who, &ask(2002, left)).interval;
    assert!(interval(COLD_AFTER - 1, node("a", None), 0) <= 132);
    assert!(interval(COLD_AFTER, node("a", None), 0) >= 540, "cold");
    assert!(interval(COLD_AFTER + 1, node("bb", None), 5) <= 5, "somebody wants it");
    assert!(interval(COLD_AFTER + 2, node("a", None), 0) <= 132, "warm again");
}

#[test]
fn who_finds_no_room_gets_peers_and_is_not_handed_out() {
    let mut swarm = Swarm::default();
    at(&mut swarm, 0, stranger(1), &ask(2001, 9));
    let announce = ask(2002, 9);
    let reply =
        swarm.announce(stranger(2), visit(0, &announce), || false, &mut StdRng::seed_from_u64(1)).reply;
    assert!(!reply.listed);
    assert_eq!(ports(&reply), [2001]);
    assert_eq!(len(&swarm), 1);
    let again = swarm.announce(stranger(1), visit(1, &ask(2001, 9)), || false, &mut StdRng::seed_from_u64(1));
    assert!(again.reply.listed, "who is listed stays so");
    let node = swarm.announce(node("a", None), visit(1, &announce), || false, &mut StdRng::seed_from_u64(1));
    assert!(node.reply.listed, "there is always room for nodes");
}

#[test]
fn nodes_are_where_they_are_registered_or_taken_out() {
    let mut swarm = Swarm::default();
    at(&mut swarm, 0, node("a", None), &ask(2001, 1));
    at(&mut swarm, 0, node("bb", None), &ask(2001, 1));
    at(&mut swarm, 0, stranger(1), &ask(2001, 1));
    let elsewhere =
        Arc::new(Node { name: "bb".into(), v4: Some([10, 9, 9, 9].into()), v6: None, zone: None });
    swarm.renew_nodes(&[(Arc::clone(&elsewhere.name), elsewhere)].into());
    assert_eq!(len(&swarm), 2);
    let told = at(&mut swarm, 0, stranger(2), &ask(2001, 1)).peers;
    let addresses: Vec<_> = told.iter().filter_map(|peer| peer.v4).collect();
    assert!(
        addresses.contains(&[10, 9, 9, 9].into()),
        "it is handed out where it is registered now: {addresses:?}"
    );
}

#[test]
fn a_leecher_that_does_not_move_gets_one_list_from_everywhere() {
    let mut swarm = Swarm::default();
    for nth in 0..60 {
        at(
            &mut swarm,
            0,
            node(&"n".repeat(nth + 2), Some(if nth < 30 { "here" } else { "there" })),
            &ask(2001, 1 << 20),
        );
    }
    let remote: Vec<usize> = (0..5)
        .map(|_| {
            let reply =
                at(&mut swarm, 0, node("x", Some("here")), &Announce { num_want: 20, ..ask(2001, 1 << 20) });
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
        let asked = ask(2000 + u16::from(last), 9);
        let visit = Visit { name, ..visit(0, &asked) };
        ports(&swarm.announce(stranger(last), visit, || true, &mut rng).reply)
    };
    announce(1, Name::Common);
    assert!(announce(2, Name::V2OfHybrid).is_empty(), "1 would close the connection");
    assert_eq!(announce(2, Name::Common), [2001]);
    assert_eq!(announce(3, Name::V2OfHybrid), [2002], "who has announced under both names once knows both");
    assert_eq!(announce(1, Name::Common), [2002, 2003], "who knows the v2 name of a hybrid knows the other");
    at(&mut swarm, 0, node("a", None), &ask(6881, 9));
    let asked = ask(2004, 9);
    let visit = Visit { name: Name::V2OfHybrid, ..visit(0, &asked) };
    let reply = swarm.announce(stranger(4), visit, || true, &mut rng).reply;
    assert_eq!(ports(&reply), [2002, 2003, 6881]);
}

/// What a tracker knows of a swarm, as far as others must agree.
fn known(swarm: &Swarm) -> BTreeSet<(Ipv4Addr, u16, Tick, State)> {
    swarm.peers::<Ipv4Addr>().map(|peer| (*peer.place(), peer.port, peer.seen, peer.state())).collect()
}

#[derive(Clone, Copy, Debug)]
struct Said {
    last: u8,
    at: u32,
    state: State,
}

fn said() -> impl Strategy<Value = Said> {
    let state = prop_oneof![Just(State::Leeching), Just(State::Seeding), Just(State::Gone)];
    (0..4u8, 0..6u32, state).prop_map(|(last, at, state)| Said { last, at, state })
}

fn merge(swarm: &mut Swarm, said: Said) {
    let status = Status { state: said.state, left: 1, v2: false, announces: 1, still: 0, kept: 600 };
    let now = Tick::START;
    let peer = Peer::new(Ipv4Addr::new(10, 0, 0, said.last), 2001, Tick(now.0 - 10 + said.at), status);
    swarm.merge(None, peer, false, now, || true);
}

proptest! {
    #[test]
    fn siblings_come_to_know_the_same_in_whatever_order_they_hear_it_and_however_often(all in prop::collection::vec(said(), 0..20), order: u64) {
        use rand::seq::SliceRandom;
        let (mut one, mut other) = (Swarm::default(), Swarm::default());
        for &said in &all {
            merge(&mut one, said);
        }
        let mut mixed = [all.clone(), all].concat();
        mixed.shuffle(&mut StdRng::seed_from_u64(order));
        for &said in &mixed {
            merge(&mut other, said);
        }
        prop_assert_eq!(known(&one), known(&other));
    }
}

/// An announce at a tracker that has siblings.
fn replicated(announce: &Announce) -> Visit<'_> {
    Visit { replicated: true, ..visit(100, announce) }
}

#[test]
fn a_late_word_does_not_bring_back_who_has_left() {
    let mut swarm = Swarm::default();
    outcome(&mut swarm, stranger(1), replicated(&ask(2001, 9)));
    let stopped =
        outcome(&mut swarm, stranger(1), replicated(&Announce { event: Event::Stopped, ..ask(2001, 9) }));
    assert!(stopped.news && !stopped.freed, "siblings hear of it, and it is remembered");
    assert_eq!((stopped.reply.complete, stopped.reply.incomplete), (0, 0));
    merge(&mut swarm, Said { last: 1, at: 0, state: State::Leeching });
    assert!(ports(&at(&mut swarm, 101, stranger(2), &ask(2002, 9))).is_empty());
    assert_eq!(
        ports(&outcome(&mut swarm, stranger(1), replicated(&ask(2001, 9))).reply),
        [2002],
        "it comes back itself"
    );
    let mut freed = Vec::new();
    swarm.expire(Tick::START.plus_seconds(10_000), |address| freed.push(address));
    assert_eq!((freed.len(), swarm.is_empty()), (2, true));
}

#[test]
fn who_leaves_before_a_sibling_has_told_of_it_does_not_come_back() {
    let mut swarm = Swarm::default();
    let stopped = Announce { event: Event::Stopped, ..ask(2001, 9) };
    let left = outcome(&mut swarm, stranger(1), replicated(&stopped));
    assert!(left.news, "the sibling hears of it");
    merge(&mut swarm, Said { last: 1, at: 0, state: State::Leeching });
    assert_eq!(swarm.count(State::Leeching), 0);
}

#[test]
fn of_two_words_in_one_tick_siblings_know_the_second() {
    let (mut here, mut there) = (Swarm::default(), Swarm::default());
    for (event, left) in [(Event::Started, 0), (Event::Stopped, 0), (Event::Started, 9)] {
        outcome(&mut here, stranger(1), replicated(&Announce { event, ..ask(2001, left) }));
        let peer = here.peers::<Ipv4Addr>().next().unwrap().clone();
        let state = peer.state();
        there.merge(None, peer, false, Tick::START.plus_seconds(100), || true);
        assert_eq!(there.count(state), 1, "{event:?}");
    }
}

#[test]
fn siblings_hear_of_changes_and_otherwise_no_more_often_than_they_need() {
    let mut swarm = Swarm::default();
    let mut news = |now, left| outcome(&mut swarm, stranger(1), visit(now, &ask(2001, left))).news;
    assert!(news(0, 9), "it is new");
    let told: Vec<u32> = (1..=20).map(|nth| nth * 300).filter(|&now| news(now, 9)).collect();
    assert!(told.len() < 12, "{told:?}");
    let gaps = [0].iter().chain(&told).zip(&told).map(|(before, after)| after - before).max();
    assert!(gaps.unwrap() < STRANGER_KEPT, "it would have expired there: {told:?}");
    assert!(news(6_100, 0), "it has become complete");
    assert!(!news(6_101, 0));
}

#[test]
fn who_completes_is_counted_once_by_all_siblings_together() {
    let (mut here, mut there) = (Swarm::default(), Swarm::default());
    let completed = Announce { event: Event::Completed, ..ask(2001, 0) };
    at(&mut here, 0, stranger(1), &ask(2001, 9));
    let outcome = outcome(&mut here, stranger(1), visit(1, &completed));
    assert!(outcome.completed);
    let peer = here.peers::<Ipv4Addr>().next().unwrap().clone();
    let now = Tick::START.plus_seconds(1);
    there.merge(None, peer.clone(), true, now, || true);
    there.merge(None, peer, true, now, || true);
    at(&mut there, 2, stranger(1), &completed);
    assert_eq!((here.downloaded(), there.downloaded()), (1, 1));
    there.merge_downloaded(7);
    there.merge_downloaded(3);
    assert_eq!(there.downloaded(), 7);
    there.merge_downloaded(u32::MAX);
    at(&mut there, 3, stranger(2), &ask(2001, 9));
    at(&mut there, 4, stranger(2), &completed);
    assert_eq!(there.downloaded(), u32::MAX, "it counts no further");
}

#[test]
fn who_can_be_told_of_one_family_gets_a_full_list_of_it() {
    let mut swarm = Swarm::default();
    for nth in 0..100u16 {
        let address = IpAddr::V6(Ipv6Addr::from_bits(u128::from(nth)));
        let who = if nth % 10 == 0 { Who::Stranger(address, None) } else { stranger(nth as u8) };
        at(&mut swarm, 0, who, &ask(2000 + nth, 9));
    }
    let mut told = |only, want| {
        let announce = Announce { only: Some(only), num_want: want, event: Event::None, ..ask(3000, 9) };
        at(&mut swarm, 1, stranger(200), &announce).peers
    };
    let v6 = told(Family::V6, 10);
    assert!(v6.len() == 10 && v6.iter().all(|peer| peer.v6.is_some()), "all there are: {v6:?}");
    let v4 = told(Family::V4, 50);
    assert!(v4.len() == 50 && v4.iter().all(|peer| peer.v4.is_some()), "{v4:?}");
}

#[test]
fn a_peer_takes_no_more_memory_than_documented() {
    // A large swarm: a vector has a quarter to spare, a table may be 7/16 full, and has a byte of control for each place.
    let peer = 16 * 5 / 4 + (8 + 1) * 16 / 7;
    assert!(peer <= 40, "{peer} bytes");
}
