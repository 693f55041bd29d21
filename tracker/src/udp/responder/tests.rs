use std::net::Ipv4Addr;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::directory::Room;
use crate::limits::MAX_UDP_ANSWER;
use crate::pressure::Pressure;

const NOW: Clock = Clock { unix: 1_800_000_000, now: Tick::START };
const MAGIC: u64 = 0x0417_2710_1980;

fn source(nth: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), nth))
}

/// Of any length, and with a first part that often is nearly right.
fn packet(rng: &mut impl Rng) -> Vec<u8> {
    let mut packet = vec![0; rng.random_range(0..160)];
    rng.fill(&mut packet[..]);
    if let Some(connection) = packet.first_chunk_mut::<8>()
        && rng.random_bool(0.3)
    {
        *connection = MAGIC.to_be_bytes();
    }
    if let Some(action) = packet.get_mut(8..12)
        && rng.random_bool(0.8)
    {
        action.copy_from_slice(&rng.random_range(0u32..4).to_be_bytes());
    }
    packet
}

#[test]
fn t058_no_more_goes_out_than_came_in_for_a_million_random_packets() {
    let (key, directory) = (Key::new([7; 32]), Directory::new("epoch".to_owned(), true, Room::default()));
    let responder = Responder { key: &key, directory: &directory };
    let mut rng = SmallRng::seed_from_u64(58);
    let (mut bytes_in, mut bytes_out, mut answered) = (0, 0, 0);
    let mut out = Vec::new();
    for nth in 0..1_000_000u32 {
        let packet = packet(&mut rng);
        let outcome = responder.answer(&packet, source(nth as u16), NOW, &mut rng, &mut out);
        assert!(out.len() <= packet.len(), "{outcome:?} for {packet:?}");
        assert_eq!(out.is_empty(), outcome != Outcome::Connected, "{outcome:?} for {packet:?}");
        answered += usize::from(!out.is_empty());
        bytes_in += packet.len();
        bytes_out += out.len();
    }
    assert_eq!(bytes_out, 16 * answered);
    assert!(answered > 10_000 && bytes_out <= bytes_in, "{answered} {bytes_out} {bytes_in}");
    assert_eq!(directory.sweep(NOW.now).swarms, 0, "and nothing is stored");
}

#[test]
fn nothing_is_answered_to_port_0() {
    let (key, directory) = (Key::new([7; 32]), Directory::new("epoch".to_owned(), true, Room::default()));
    let responder = Responder { key: &key, directory: &directory };
    let connect = [&MAGIC.to_be_bytes()[..], &[0; 8]].concat();
    let (mut out, mut rng) = (b"old".to_vec(), SmallRng::seed_from_u64(0));
    assert_eq!(responder.answer(&connect, source(0), NOW, &mut rng, &mut out), Outcome::Malformed);
    assert!(out.is_empty());
    assert_eq!(responder.answer(&connect, source(1), NOW, &mut rng, &mut out), Outcome::Connected);
    assert_eq!(out.len(), 16);
}

#[test]
fn a_worker_never_needs_a_larger_buffer() {
    let (key, directory) = (Key::new([7; 32]), Directory::new("epoch".to_owned(), true, Room::default()));
    let responder = Responder { key: &key, directory: &directory };
    let (mut out, mut rng) = (Vec::with_capacity(MAX_UDP_ANSWER), SmallRng::seed_from_u64(0));
    let capacity = out.capacity();
    let id = key.issue(source(1).ip(), NOW.unix);
    for port in 2_000..2_300u16 {
        let mut announce = vec![0; 98];
        announce[..8].copy_from_slice(&id.0.to_be_bytes());
        announce[11] = 1;
        announce[71] = 1;
        announce[92..96].copy_from_slice(&200u32.to_be_bytes());
        announce[96..].copy_from_slice(&port.to_be_bytes());
        responder.answer(&announce, source(1), NOW, &mut rng, &mut out);
    }
    assert_eq!((out.len(), out.capacity()), (20 + 200 * 6, capacity));
}

#[test]
fn a_busy_tracker_says_so() {
    let (key, directory) = (Key::new([7; 32]), Directory::new("epoch".to_owned(), true, Room::default()));
    directory.press(Pressure { stretch: 4, refused: 1.0 });
    let responder = Responder { key: &key, directory: &directory };
    let (mut out, mut rng) = (Vec::new(), SmallRng::seed_from_u64(0));
    let mut announce = vec![0; 98];
    announce[..8].copy_from_slice(&key.issue(source(1).ip(), NOW.unix).0.to_be_bytes());
    announce[11] = 1;
    announce[96..].copy_from_slice(&2001u16.to_be_bytes());
    let outcome = responder.answer(&announce, source(1), NOW, &mut rng, &mut out);
    assert_eq!(outcome, Outcome::Refused(Refusal::Busy));
    assert_eq!(out, b"\0\0\0\x03\0\0\0\0this tracker is busy; try again later");
}
