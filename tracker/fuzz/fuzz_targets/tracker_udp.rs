//! A conversation of packets with one tracker. Before each stand two bytes: who sends it, and how long it is (in 8 bytes). Of every second
//! sender the connection id is put in, since no fuzzer guesses one.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tracker::directory::{Directory, Room};
use tracker::limits::MAX_UDP_ANSWER;
use tracker::tick::Tick;
use tracker::udp::connection_id::Key;
use tracker::udp::responder::{Clock, Outcome, Responder};

fuzz_target!(|bytes: &[u8]| {
    let (key, directory) = (Key::new([7; 32]), Directory::new(String::new(), true, Room::default()));
    let responder = Responder { key: &key, directory: &directory };
    let (mut rng, mut out) = (SmallRng::seed_from_u64(0), Vec::new());
    let mut rest = bytes;
    while let [sender, length, tail @ ..] = rest {
        let (packet, tail) = tail.split_at(tail.len().min(usize::from(*length) * 8));
        rest = tail;
        let clock = Clock { unix: 1_800_000_000, now: Tick::START };
        let source = source(*sender);
        let proven = sender % 2 == 1;
        let mut packet = packet.to_vec();
        if let (true, Some(id)) = (proven, packet.first_chunk_mut()) {
            *id = key.issue(source.ip().to_canonical(), clock.unix).0.to_be_bytes();
        }
        let outcome = responder.answer(&packet, source, clock, &mut rng, &mut out);
        check(outcome, &packet, &out, proven);
    }
});

/// Of both families, one seen through a socket of both, and one whose port is 0.
fn source(sender: u8) -> SocketAddr {
    let v4 = Ipv4Addr::new(192, 0, 2, sender / 8);
    let ip = match sender / 2 % 4 {
        0 => IpAddr::from(v4),
        1 => v4.to_ipv6_mapped().into(),
        _ => Ipv6Addr::from_bits(u128::from(sender)).into(),
    };
    SocketAddr::new(ip, if sender == 0xff { 0 } else { 6881 })
}

fn check(outcome: Outcome, packet: &[u8], out: &[u8], proven: bool) {
    let action = match outcome {
        Outcome::Malformed | Outcome::Unproven => {
            assert!(out.is_empty());
            return;
        }
        Outcome::Connected => {
            assert!(out.len() == 16 && packet.len() >= 16);
            0
        }
        Outcome::Announced { .. } => 1,
        Outcome::Scraped => 2,
        Outcome::Rejected | Outcome::Refused(_) => {
            assert!(std::str::from_utf8(&out[8..]).is_ok_and(|words| !words.is_empty()));
            3
        }
    };
    assert!(proven || action == 0, "{outcome:?} without a connection id");
    assert!(out.len() <= MAX_UDP_ANSWER, "{} bytes", out.len());
    assert_eq!((&out[..4], &out[4..8]), (&[0, 0, 0, action][..], &packet[12..16]));
    assert!(action == 3 || action == packet[11], "{outcome:?}");
}
