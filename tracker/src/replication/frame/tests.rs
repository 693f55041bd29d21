use proptest::prelude::*;

use super::*;
use crate::peer::{COUNTED, State, Status};

fn words() -> impl Strategy<Value = Word> {
    let at = prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| At::V4(octets.into())),
        any::<[u8; 16]>().prop_map(|octets| At::V6(octets.into())),
        "[a-z0-9.-]{1,253}".prop_map(|name| At::Node(name.into())),
    ];
    let state = prop_oneof![Just(State::Leeching), Just(State::Seeding), Just(State::Gone)];
    (at, state, any::<(u16, u32, u32, bool)>(), 0..=COUNTED).prop_map(
        |(at, state, (port, seen, left, completed), announces)| {
            let status = Status {
                state,
                left: u64::from(left),
                v2: completed,
                announces,
                still: announces,
                kept: 300,
            };
            Word { at, peer: Peer::new((), port, Tick(seen), status), completed }
        },
    )
}

fn told() -> impl Strategy<Value = Told> {
    (any::<[u8; 20]>(), 1u32.., prop::collection::vec(words(), 0..20))
        .prop_map(|(name, downloaded, words)| Told { name: WireId(name), downloaded, words })
}

fn frames() -> impl Strategy<Value = Frame> {
    let kind = prop_oneof![Just(StoredKind::Metainfo), Just(StoredKind::Manifest)];
    let stored = (kind, "[0-9a-f]{64}", any::<([u8; 32], u64)>(), prop::collection::vec("[a-z]{1,20}", 0..5))
        .prop_map(|(kind, name, (digest, bytes), revisions)| Stored { kind, name, digest, bytes, revisions });
    prop_oneof![
        any::<(u64, u32, bool)>().prop_map(|(epoch, now, ready)| Frame::Hello {
            epoch,
            now: Tick(now),
            ready
        }),
        (any::<u64>(), any::<u64>()).prop_map(|(stored, part)| Frame::Have(Box::new(Have {
            stored,
            swarms: Digest([part; SHARDS])
        }))),
        any::<[u8; 32]>().prop_map(Frame::Registry),
        prop::collection::vec(told(), 0..5).prop_map(Frame::Swarms),
        prop::collection::vec(stored, 0..5).prop_map(Frame::Stored),
        Just(Frame::Current),
        any::<u32>().prop_map(|now| Frame::Alive(Tick(now))),
    ]
}

proptest! {
    #[test]
    fn frames_are_read_as_they_were_written_however_they_are_cut(frames in prop::collection::vec(frames(), 0..5), cut in 1..200usize) {
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.encode().to_vec()).collect();
        let (mut come, mut read) = (BytesMut::new(), Vec::new());
        for part in bytes.chunks(cut) {
            come.extend_from_slice(part);
            while let Some(frame) = Frame::take(&mut come).unwrap() {
                read.push(frame);
            }
        }
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, kind in 0..9u8) {
        let mut come = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = Frame::take(&mut come) {}
        let mut come = BytesMut::from(&framed(kind, &bytes)[..]);
        while let Ok(Some(_)) = Frame::take(&mut come) {}
    }

    #[test]
    fn swarms_are_written_as_they_are_told(all in prop::collection::vec(told(), 0..10)) {
        let mut swarms = Swarms::default();
        for told in &all {
            swarms.open(told.name, told.downloaded);
            told.words.iter().for_each(|word| swarms.push(word));
        }
        let mut come: BytesMut = swarms.finish().iter().flat_map(|frame| frame.to_vec()).collect();
        let mut read = Vec::new();
        while let Some(frame) = Frame::take(&mut come).unwrap() {
            let Frame::Swarms(told) = frame else { unreachable!() };
            read.extend(told);
        }
        prop_assert_eq!(read, all);
    }
}

#[test]
fn a_large_swarm_takes_several_frames_of_bounded_size() {
    let status = Status { state: State::Seeding, left: 0, v2: false, announces: 1, still: 0, kept: 300 };
    let peer = Peer::new((), 1, Tick(1), status);
    let mut swarms = Swarms::default();
    swarms.open(WireId([7; 20]), 0);
    for nth in 0..100_000u32 {
        swarms.push(&Word { at: At::V4(Ipv4Addr::from_bits(nth)), peer: peer.clone(), completed: false });
    }
    swarms.open(WireId([8; 20]), 0);
    let frames = swarms.finish();
    assert!(frames.len() > 20 && frames.iter().all(|frame| frame.len() < FULL + 1_000));
    let mut words = 0;
    for frame in frames {
        let Some(Frame::Swarms(told)) = Frame::take(&mut BytesMut::from(&frame[..])).unwrap() else {
            unreachable!()
        };
        assert!(
            told.iter().all(|told| told.name == WireId([7; 20])),
            "of the other there was nothing to say"
        );
        words += told.iter().map(|told| told.words.len()).sum::<usize>();
    }
    assert_eq!(words, 100_000);
}

#[test]
fn many_stored_things_for_many_revisions_take_frames_of_bounded_size() {
    let stored = Stored {
        kind: StoredKind::Metainfo,
        name: "a".repeat(64),
        digest: [1; 32],
        bytes: 7,
        revisions: vec!["r".repeat(253); MAX_REVISIONS],
    };
    let frames = stored_frames(&vec![stored.clone(); 50]);
    let mut read = Vec::new();
    for frame in &frames {
        assert!(frame.len() < MAX_FRAME);
        let Some(Frame::Stored(stored)) = Frame::take(&mut BytesMut::from(&frame[..])).unwrap() else {
            unreachable!()
        };
        read.extend(stored);
    }
    assert_eq!(read, vec![stored; 50]);
}

#[test]
fn what_is_no_frame_is_said() {
    let take = |bytes: &[u8]| Frame::take(&mut BytesMut::from(bytes));
    assert_eq!(take(&[0, 0]), Ok(None));
    assert_eq!(take(&[0, 0, 0, 0]), Err(FrameError::End), "a frame has a kind");
    assert_eq!(take(&[0x7f, 0, 0, 0]), Err(FrameError::TooLong(0x7f00_0000)));
    assert_eq!(take(&framed(99, &[])), Err(FrameError::Kind(99)));
    assert_eq!(take(&framed(kind::CURRENT, &[0])), Err(FrameError::End));
    assert_eq!(take(&framed(kind::HELLO, &[0; 12])), Err(FrameError::End));
}

#[test]
fn a_name_that_would_not_be_written_is_not_read() {
    let named = |length: u8| {
        let word =
            [&[NODE, 0, 1, 0x1a, 0xe1][..], &[0; 8], &[length], &vec![b'a'; usize::from(length)]].concat();
        let told = [&[7; 20][..], &[0, 0, 0, 0, 0, 1], &word].concat();
        framed(kind::SWARMS, &told)
    };
    let read = Frame::take(&mut BytesMut::from(&named(253)[..])).unwrap().unwrap();
    assert_eq!(read.encode(), named(253));
    let refused = Frame::take(&mut BytesMut::from(&named(254)[..]));
    assert_eq!(refused, Err(FrameError::Value("length of a name")));
}
