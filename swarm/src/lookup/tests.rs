use std::collections::VecDeque;
use std::sync::Arc;

use torrent::Version;

use super::*;
use crate::hashes::{Answer, Trees};
use crate::test_torrent;
use crate::wire::metadata::{Metadata, part};
use crate::wire::{Capabilities, Decoded, ExtensionHandshake, Message, UT_METADATA, decode};

const NOW: Duration = Duration::from_secs(100);
const PIECE: u64 = 16 << 10;

/// Files of which one has more than one chunk of hashes.
fn torrent(version: Version) -> Arc<Metainfo> {
    let files: Vec<Vec<u8>> =
        [700 * PIECE as usize, 10, 3 * PIECE as usize].map(|size| vec![5; size]).to_vec();
    test_torrent::of(version, PIECE, &files)
}

fn wanted(metainfo: &Metainfo) -> Wanted {
    Wanted { v1: metainfo.info_hash_v1(), v2: metainfo.info_hash_v2() }
}

const ALL: Capabilities = Capabilities { fast: true, extended: true, v2: true };

/// A peer that has the torrent; `spoil` may change what it sends.
struct Peer<'a> {
    metainfo: Arc<Metainfo>,
    trees: Trees,
    spoil: &'a dyn Fn(&mut Vec<u8>),
}

impl Peer<'_> {
    fn answer(&self, message: Message<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        match message {
            Message::Extended { id: 0, payload } => {
                let theirs = ExtensionHandshake::decode(payload).unwrap();
                assert_eq!(theirs.ut_metadata, Some(UT_METADATA));
                let size = Some(self.metainfo.info_bytes().len() as u32);
                let payload =
                    ExtensionHandshake { ut_metadata: Some(77), metadata_size: size, ..theirs }.encode();
                Message::Extended { id: 0, payload: &payload }.encode(&mut out);
            }
            Message::Extended { id: 77, payload } => {
                let Metadata::Request(wanted) = Metadata::decode(payload).unwrap() else { panic!() };
                let info = self.metainfo.info_bytes();
                let mut data = part(info, wanted).unwrap().to_vec();
                (self.spoil)(&mut data);
                let answer = Metadata::Data { part: wanted, total: info.len() as u32, data: &data };
                Message::Extended { id: UT_METADATA, payload: &answer.encode() }.encode(&mut out);
            }
            Message::HashRequest(request) => {
                assert!(request.is_sane() && request.length <= 512);
                let Answer::Hashes(hashes) = self.trees.answer(&request) else { panic!("{request:?}") };
                let mut hashes = hashes.as_flattened().to_vec();
                (self.spoil)(&mut hashes);
                Message::Hashes { request, hashes: &hashes }.encode(&mut out);
            }
            Message::HaveNone => {}
            other => panic!("{other:?}"),
        }
        out
    }
}

fn messages(bytes: &[u8], mut each: impl FnMut(Message<'_>)) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let Decoded::Message(message, len) = decode(rest).unwrap() else { panic!("cut off") };
        each(message);
        rest = &rest[len..];
    }
}

/// Lets an inquiry and a peer talk until nothing more is said.
fn talk(inquiry: &mut Inquiry, lookup: &mut Lookup, peer: &Peer<'_>) -> Result<(), End> {
    let mut out = Vec::new();
    inquiry.greet(None, &mut out);
    let mut waiting = VecDeque::from([out]);
    while let Some(ours) = waiting.pop_front() {
        let mut theirs = Vec::new();
        messages(&ours, |message| theirs.extend(peer.answer(message)));
        let mut answers = Vec::new();
        let mut ended = Ok(());
        messages(&theirs, |message| {
            if ended.is_ok() {
                ended = inquiry.handle(message, lookup, NOW, &mut answers);
            }
        });
        ended?;
        if !answers.is_empty() {
            waiting.push_back(answers);
        }
    }
    Ok(())
}

fn peer(metainfo: &Arc<Metainfo>) -> Peer<'static> {
    Peer { metainfo: metainfo.clone(), trees: Trees::new(metainfo.clone()), spoil: &|_| {} }
}

#[test]
fn a_link_becomes_the_torrent() {
    for version in [Version::V1, Version::V2, Version::Hybrid] {
        let metainfo = torrent(version);
        let mut lookup = Lookup::new(wanted(&metainfo), Limits::OWN);
        let ended = talk(&mut Inquiry::new(1, ALL, true, NOW), &mut lookup, &peer(&metainfo));
        assert_eq!(ended, Err(End::Done), "{version:?}");
        assert_eq!(lookup.take_outcome().unwrap().unwrap().encode(), metainfo.encode());
        assert!(lookup.take_outcome().is_none());
    }
}

#[test]
fn a_hybrid_known_by_its_v1_hash_gets_its_layers_under_the_v2_id() {
    let metainfo = torrent(Version::Hybrid);
    let v1 = Wanted { v1: metainfo.info_hash_v1(), v2: None };
    let mut lookup = Lookup::new(v1, Limits::OWN);
    assert_eq!(lookup.wire_ids(), [metainfo.info_hash_v1().unwrap().into()]);
    assert_eq!(talk(&mut Inquiry::new(1, ALL, false, NOW), &mut lookup, &peer(&metainfo)), Err(End::NoUse));
    assert_eq!(lookup.wire_ids(), [metainfo.info_hash_v2().unwrap().into()]);
    assert_eq!(talk(&mut Inquiry::new(2, ALL, true, NOW), &mut lookup, &peer(&metainfo)), Err(End::Done));
    assert_eq!(lookup.take_outcome().unwrap().unwrap().encode(), metainfo.encode());
}

#[test]
fn a_hybrid_whose_layers_nobody_has_is_done_without_and_a_v2_torrent_waits() {
    for (version, done) in [(Version::Hybrid, true), (Version::V2, false)] {
        let metainfo = torrent(version);
        let mut lookup = Lookup::new(wanted(&metainfo), Limits::OWN);
        let v1_only = Capabilities { v2: false, ..ALL };
        let ended = talk(&mut Inquiry::new(1, v1_only, false, NOW), &mut lookup, &peer(&metainfo));
        assert_eq!(ended, Err(End::NoUse));
        lookup.tick(NOW + LAYER_PATIENCE);
        assert!(lookup.take_outcome().is_none());
        lookup.tick(NOW + LAYER_PATIENCE + Duration::from_secs(1));
        let outcome = lookup.take_outcome().map(Result::unwrap);
        assert_eq!(outcome.is_some(), done);
        assert!(outcome.is_none_or(|found| found.wire_ids() == metainfo.wire_ids()));
    }
}

#[test]
fn t034_who_sends_wrong_info_or_hashes_is_found_and_others_are_believed() {
    let metainfo = torrent(Version::V2);
    let mut lookup = Lookup::new(wanted(&metainfo), Limits::OWN);
    let liar = Peer { spoil: &|bytes| bytes[0] ^= 1, ..peer(&metainfo) };
    let ended = talk(&mut Inquiry::new(1, ALL, true, NOW), &mut lookup, &liar);
    assert_eq!(ended, Err(End::WrongInfo));
    assert!(End::WrongInfo.is_its_fault());
    // An honest peer until the hashes are asked for; and one that leaves the proof out.
    for spoil in [|bytes: &mut Vec<u8>| bytes[31] ^= 1, |bytes: &mut Vec<u8>| bytes.truncate(512 * 32)] {
        let liar = Peer {
            spoil: &|bytes| {
                if bytes.len() >= 512 * 32 && bytes.len() % 32 == 0 && bytes.len() < PIECE as usize * 2 {
                    spoil(bytes);
                }
            },
            ..peer(&metainfo)
        };
        let ended = talk(&mut Inquiry::new(2, ALL, true, NOW), &mut lookup, &liar);
        assert_eq!(ended, Err(End::WrongHashes));
        lookup.gone(2);
    }
    let ended = talk(&mut Inquiry::new(3, ALL, true, NOW), &mut lookup, &peer(&metainfo));
    assert_eq!(ended, Err(End::Done));
    assert_eq!(lookup.take_outcome().unwrap().unwrap().encode(), metainfo.encode());
}

#[test]
fn t036_t037_what_nobody_asked_for_ends_the_inquiry() {
    let metainfo = torrent(Version::V2);
    let mut lookup = Lookup::new(wanted(&metainfo), Limits::OWN);
    let mut inquiry = Inquiry::new(1, ALL, true, NOW);
    let mut out = Vec::new();
    let said = ExtensionHandshake {
        ut_metadata: Some(9),
        metadata_size: Some(40_000),
        ..ExtensionHandshake::default()
    };
    inquiry.handle(Message::Extended { id: 0, payload: &said.encode() }, &mut lookup, NOW, &mut out).unwrap();
    for bad in [
        Metadata::Data { part: 0, total: 40_001, data: &[0; 16 << 10] },
        Metadata::Data { part: 0, total: 40_000, data: &[0; 100] },
        Metadata::Data { part: 3, total: 40_000, data: &[] },
        Metadata::Data { part: u32::MAX, total: 40_000, data: &[] },
    ] {
        let payload = bad.encode();
        let message = Message::Extended { id: UT_METADATA, payload: &payload };
        assert!(
            matches!(inquiry.handle(message, &mut lookup, NOW, &mut out), Err(End::Violation(_))),
            "{bad:?}"
        );
    }
    let request = HashRequest { root: [1; 32], base: 0, index: 0, length: 2, proofs: 0 };
    let unasked = Message::Hashes { request, hashes: &[0; 64] };
    assert!(matches!(inquiry.handle(unasked, &mut lookup, NOW, &mut out), Err(End::Violation(_))));
}

#[test]
fn a_silent_peer_is_left_and_its_chunks_are_asked_of_others() {
    let metainfo = torrent(Version::V2);
    let mut lookup = Lookup::new(wanted(&metainfo), Limits::OWN);
    assert!(lookup.may_fetch(1, 0, NOW) && lookup.info_came(1, metainfo.info_bytes(), NOW));
    let mut asked = Vec::new();
    while let Some(request) = lookup.next_request(1, NOW) {
        asked.push(request);
    }
    assert_eq!(asked.len(), 3, "two chunks of 700, one of 3");
    assert_eq!(lookup.next_request(2, NOW), None);
    assert!(lookup.next_request(2, NOW + Duration::from_secs(11)).is_some());
    lookup.gone(1);
    assert!(lookup.next_request(3, NOW).is_some());
    let mut silent = Inquiry::new(4, ALL, true, NOW);
    assert_eq!(silent.tick(&mut lookup, NOW + Duration::from_secs(21), &mut Vec::new()), Err(End::Silent));
}

#[test]
fn who_is_asked_for_nothing_is_not_silent() {
    let metainfo = torrent(Version::V2);
    let mut lookup = Lookup::new(wanted(&metainfo), Limits::OWN);
    assert!(lookup.may_fetch(1, 0, NOW) && lookup.info_came(1, metainfo.info_bytes(), NOW));
    let mut out = Vec::new();
    let (mut busy, mut idle) = (Inquiry::new(1, ALL, true, NOW), Inquiry::new(2, ALL, true, NOW));
    busy.tick(&mut lookup, NOW, &mut out).unwrap();
    for second in 0..9 {
        idle.tick(&mut lookup, NOW + Duration::from_secs(second), &mut out).unwrap();
    }
    // Its chunks are late, and the other is asked for them: it has as long as anyone.
    for second in 11..=28 {
        idle.tick(&mut lookup, NOW + Duration::from_secs(second), &mut out).unwrap();
    }
    assert_eq!(idle.tick(&mut lookup, NOW + Duration::from_secs(29), &mut out), Err(End::Silent));
}

#[test]
fn info_is_fetched_from_few_peers_at_a_time() {
    let metainfo = torrent(Version::V1);
    let mut lookup = Lookup::new(wanted(&metainfo), Limits::OWN);
    assert!((0..FETCHERS as u64).all(|id| lookup.may_fetch(id, 1, NOW)));
    assert!(!lookup.may_fetch(9, 1, NOW));
    lookup.gone(0);
    assert!(lookup.may_fetch(9, 1, NOW));
}

#[test]
fn who_is_slow_with_info_makes_room_for_who_waits() {
    let metainfo = torrent(Version::V1);
    let mut lookup = Lookup::new(wanted(&metainfo), Limits::OWN);
    let size = 6 << 20;
    let said = ExtensionHandshake { ut_metadata: Some(9), metadata_size: Some(size), ..Default::default() };
    let payload = said.encode();
    let mut slow: Vec<Inquiry> = (0..FETCHERS as u64).map(|id| Inquiry::new(id, ALL, true, NOW)).collect();
    let mut out = Vec::new();
    for inquiry in &mut slow {
        inquiry.handle(Message::Extended { id: 0, payload: &payload }, &mut lookup, NOW, &mut out).unwrap();
    }
    // A part comes every ten seconds: nobody is silent. 6 MiB may take 20 s and 96 s.
    for number in 0..12 {
        let now = NOW + Duration::from_secs(10 * u64::from(number));
        let data = Metadata::Data { part: number, total: size, data: &[0; 16 << 10] }.encode();
        for inquiry in &mut slow {
            let message = Message::Extended { id: UT_METADATA, payload: &data };
            inquiry.handle(message, &mut lookup, now, &mut out).unwrap();
        }
        assert!(!lookup.may_fetch(9, size, now));
    }
    let late = NOW + Duration::from_secs(117);
    slow[0].tick(&mut lookup, late, &mut out).unwrap();
    assert!(lookup.may_fetch(9, size, late));
    let ended: Vec<End> =
        slow.iter_mut().filter_map(|one| one.tick(&mut lookup, late, &mut out).err()).collect();
    assert_eq!(ended, [End::TooSlow]);
}

#[test]
fn info_that_is_meant_and_malformed_ends_the_lookup() {
    let info = b"d4:name1:xe";
    let v1 = InfoHashV1::of(info);
    let mut lookup = Lookup::new(Wanted { v1: Some(v1), v2: None }, Limits::OWN);
    assert!(lookup.info_came(1, info, NOW));
    assert!(matches!(lookup.take_outcome(), Some(Err(LookupError::Refused(_)))));
}
