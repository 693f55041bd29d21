//! What a sibling sends, whatever it is: it is read the same however it is cut, written again it is the same bytes, and what it says of
//! the swarms finds no more room than there is. Another directory that is told of what was taken in then holds the same.
#![no_main]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use torrent::WireId;
use tracker::directory::{At, Directory, Room, SHARDS};
use tracker::registry::{Admission, Registration};
use tracker::replication::frame::{Frame, FrameError, MAX_FRAME, Swarms, Told};
use tracker::tick::Tick;
use tracker_api::{RegisteredNode, RegisteredSwarm, Registry};

const NOW: Tick = Tick::START;
/// So little that a few words fill it.
const ROOM: Room = Room { strangers: 6, per_swarm: 3, per_source: 2, public_swarms: 4 };
/// The only node that is registered.
const NODE: &str = "n";
/// There is one more tracker: what that lists finds room beside our own.
const SIBLINGS: u32 = 1;
/// So many times the room is there for what siblings say.
const TIMES: usize = 1 + SIBLINGS as usize;
const REGISTERED_SWARMS: usize = 1;

// The first byte says how long the parts are that the rest comes in.
fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, bytes)) = bytes.split_first() else { return };
    let (frames, end) = take(bytes, usize::from(cut) + 1);
    assert_eq!(take(bytes, MAX_FRAME), (frames.clone(), end), "however it is cut");
    let again: Vec<u8> = frames.iter().flat_map(|frame| frame.encode().to_vec()).collect();
    assert!(bytes.starts_with(&again), "what was read is written as it came");

    let here = directory();
    for frame in frames {
        if let Frame::Swarms(told) = frame {
            merge(&here, told);
        }
    }
    let mut written = Swarms::default();
    (0..SHARDS).for_each(|part| here.write_part(part, &mut written));
    let written: Vec<u8> = written.finish().concat();
    let (frames, end) = take(&written, MAX_FRAME);
    assert_eq!(end, None, "what we write is read");
    let told: Vec<Told> = frames.into_iter().flat_map(swarms).collect();
    within_room(&here, &told);

    let there = directory();
    merge(&there, told);
    assert_eq!(here.digest(), there.digest());
});

/// The frames in bytes that come in parts of this length, and what ended the stream before its end.
fn take(bytes: &[u8], part: usize) -> (Vec<Frame>, Option<FrameError>) {
    let (mut come, mut frames) = (BytesMut::new(), Vec::new());
    for part in bytes.chunks(part) {
        come.extend_from_slice(part);
        loop {
            match Frame::take(&mut come) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fn swarms(frame: Frame) -> Vec<Told> {
    if let Frame::Swarms(told) = frame { told } else { unreachable!("only swarms were written: {frame:?}") }
}

/// A public one in which a hybrid and a node are registered.
fn directory() -> Directory {
    let directory = Directory::new(String::new(), true, ROOM);
    directory.replicate(true);
    directory.siblings(SIBLINGS);
    let swarm = RegisteredSwarm {
        revisions: vec![],
        infohashes: vec!["11".repeat(20), "22".repeat(32)],
        manifest: None,
    };
    let node = RegisteredNode {
        name: NODE.to_owned(),
        addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))],
        zone: None,
    };
    let registry = Registry { swarms: vec![swarm], nodes: vec![node], networks: vec![] };
    let admission = Admission::new(registry).expect("it is a registry");
    directory.admit(admission, String::new(), Bytes::new(), Registration::Replace);
    directory
}

/// As a subscriber does.
fn merge(directory: &Directory, told: Vec<Told>) {
    for Told { name, downloaded, words } in told {
        words.into_iter().for_each(|word| directory.merge(name, word, NOW));
        directory.merge_downloaded(name, downloaded);
    }
}

/// Those that have left take room too.
fn within_room(directory: &Directory, told: &[Told]) {
    let mut sources: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let mut by_swarm: BTreeMap<WireId, usize> = BTreeMap::new();
    for told in told {
        for word in &told.words {
            let source = match &word.at {
                At::V4(address) => address.octets().to_vec(),
                At::V6(address) => address.octets()[..8].to_vec(),
                At::Node(name) => {
                    assert_eq!(&**name, NODE, "no other is registered");
                    continue;
                }
            };
            *sources.entry(source).or_default() += 1;
            *by_swarm.entry(told.name).or_default() += 1;
        }
    }
    assert!(sources.values().all(|&peers| peers <= ROOM.per_source * TIMES as u32), "{sources:?}");
    assert!(by_swarm.values().all(|&peers| peers <= ROOM.per_swarm * TIMES), "{by_swarm:?}");
    let strangers: usize = by_swarm.values().sum();
    assert!(strangers <= ROOM.strangers * TIMES, "{by_swarm:?}");

    assert!(directory.report(None, NOW, |_| false).len() <= ROOM.public_swarms + REGISTERED_SWARMS);
    let census = directory.sweep(NOW);
    assert_eq!(census.strangers, strangers, "{by_swarm:?}");
    assert!(census.swarms <= ROOM.public_swarms + REGISTERED_SWARMS, "{census:?}");
}
