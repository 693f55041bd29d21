use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::limits::MAX_UDP_ANSWER;
use crate::peer::Contact;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const TRANSACTION: Transaction = Transaction(*b"tran");

fn contacts(count: usize) -> Vec<Contact> {
    let contact = |nth: usize| Contact {
        v4: (!nth.is_multiple_of(3)).then_some(Ipv4Addr::from_bits(nth as u32)),
        v6: nth.is_multiple_of(2).then_some(Ipv6Addr::from_bits(nth as u128)),
        port: nth as u16,
    };
    (0..count).map(contact).collect()
}

fn announce_packet(fields: &[(usize, &[u8])]) -> [u8; ANNOUNCE_BYTES] {
    let mut packet = [0; ANNOUNCE_BYTES];
    packet[96..].copy_from_slice(&6881u16.to_be_bytes());
    for (at, bytes) in fields {
        packet[*at..at + bytes.len()].copy_from_slice(bytes);
    }
    packet
}

#[test]
fn t056_what_is_too_short_or_without_the_magic_number_is_no_request() {
    let connect = [&MAGIC.to_be_bytes()[..], &[0; 4], b"tran"].concat();
    assert_eq!(read(&connect), Some(Request::Connect(TRANSACTION)));
    for length in 0..16 {
        assert_eq!(read(&connect[..length]), None, "{length}");
    }
    let longer = [&connect[..], &[0; 500]].concat();
    assert_eq!(read(&longer), Some(Request::Connect(TRANSACTION)), "BEP 15: at least 16 bytes");
    for byte in 0..12 {
        let mut wrong = connect.clone();
        wrong[byte] ^= 0x10;
        assert_eq!(read(&wrong), None, "{byte}");
    }
    let announce = announce_packet(&[(8, &[0, 0, 0, 1])]);
    assert!(read(&announce).is_some());
    assert_eq!(read(&announce[..97]), None);
}

#[test]
fn an_announce_has_the_fields_of_bep_15() {
    let packet = announce_packet(&[
        (16, &[1; 20]),
        (36, &[2; 20]),
        (64, &77u64.to_be_bytes()),
        (80, &2u32.to_be_bytes()),
        (84, &[203, 0, 113, 9]),
        (92, &7u32.to_be_bytes()),
    ]);
    let announce = announce(&packet, V4).unwrap();
    assert_eq!((announce.info_hash.0, announce.peer_id), ([1; 20], [2; 20]));
    assert_eq!((announce.left, announce.event), (Some(77), Event::Started));
    assert_eq!((announce.num_want, announce.port), (7, 6881));
}

#[test]
fn an_announce_that_does_not_know_what_is_left_says_minus_one() {
    assert_eq!(announce(&announce_packet(&[(64, &[0xff; 8])]), V4).unwrap().left, None);
}

#[test]
fn t047_ports_that_no_peer_listens_on_are_refused() {
    for (port, taken) in [(0u16, false), (22, false), (1023, false), (1024, true), (65535, true)] {
        let packet = announce_packet(&[(96, &port.to_be_bytes())]);
        assert_eq!(announce(&packet, V4).is_some(), taken, "{port}");
    }
}

#[test]
fn t048_numwant_is_capped_to_what_fits() {
    for (wanted, v4, v6) in
        [(0, 0, 0), (7, 7, 7), (-1, 50, 50), (i32::MIN, 50, 50), (200, 200, 74), (i32::MAX, 200, 74)]
    {
        let packet = announce_packet(&[(92, &wanted.to_be_bytes())]);
        let wants = |source| announce(&packet, source).unwrap().num_want;
        assert_eq!((wants(V4), wants(V6)), (v4, v6), "{wanted}");
    }
}

#[test]
fn an_ipv4_address_on_a_socket_of_both_families_is_one() {
    let mapped = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().into(), 1);
    assert_eq!(canonical(mapped), V4);
    assert_eq!(canonical(SocketAddr::new(V6, 1)), V6);
}

proptest! {
    #[test]
    fn no_packet_panics_and_what_is_read_comes_from_it(
        head in prop::option::of((prop_oneof![Just(MAGIC), any::<u64>()], 0u32..5)),
        tail in prop::collection::vec(any::<u8>(), 0..1_600),
    ) {
        let mut packet: Vec<u8> = Vec::new();
        if let Some((connection, action)) = head {
            packet.extend(connection.to_be_bytes());
            packet.extend(action.to_be_bytes());
        }
        packet.extend(tail);
        match read(&packet) {
            None => {}
            Some(Request::Connect(transaction)) => prop_assert_eq!(&transaction.0, &packet[12..16]),
            Some(Request::Proven(id, transaction, asked)) => {
                prop_assert_eq!(&id.0.to_be_bytes(), &packet[..8]);
                prop_assert_eq!(&transaction.0, &packet[12..16]);
                match asked {
                    Asked::Announce(body) => drop(announce(body, V6)),
                    Asked::Scrape(hashes) => prop_assert_eq!(hashes.as_flattened(), &packet[16..16 + 20 * hashes.len()]),
                }
            }
        }
    }

    #[test]
    fn t060_no_answer_is_too_large_and_each_begins_with_action_and_transaction(
        count in 0usize..1_000, v4: bool, counts: [u32; 3], transaction: [u8; 4], hashes in prop::collection::vec(any::<[u8; 20]>(), 1..100),
    ) {
        let source = if v4 { V4 } else { V6 };
        let [interval, complete, incomplete] = counts;
        let reply = Reply {
            interval, complete: complete as usize, incomplete: incomplete as usize, peers: contacts(count), listed: true,
        };
        let mut out = Vec::new();
        write_announced(&mut out, Transaction(transaction), &reply, source);
        prop_assert!(out.len() <= MAX_UDP_ANSWER);
        prop_assert_eq!(&out[..8], &[&[0, 0, 0, 1][..], &transaction].concat()[..]);
        let said: Vec<u32> = out[8..20].chunks(4).map(|four| u32::from_be_bytes(four.try_into().unwrap())).collect();
        prop_assert_eq!(said, [interval, incomplete, complete]);
        let of_family = contacts(count).iter().filter(|peer| if v4 { peer.v4.is_some() } else { peer.v6.is_some() }).count();
        let (size, most) = if v4 { (6, 200) } else { (18, 74) };
        prop_assert_eq!(out.len() - 20, of_family.min(most) * size);

        out.clear();
        let hashes = scraped(&hashes);
        let entries: Vec<_> = hashes.iter().step_by(2).rev()
            .map(|&info_hash| ScrapeEntry { info_hash, complete: 1, incomplete: 3, downloaded: 2 }).collect();
        write_scraped(&mut out, Transaction(transaction), &hashes, &entries);
        prop_assert!(out.len() <= MAX_UDP_ANSWER);
        prop_assert_eq!(out.len(), 8 + 12 * hashes.len());
        for (nth, said) in out[8..].chunks(12).enumerate() {
            let numbers: Vec<u8> = said.chunks(4).map(|four| four[3]).collect();
            prop_assert_eq!(numbers, if nth % 2 == 0 { [1, 2, 3] } else { [0, 0, 0] });
        }
    }
}
