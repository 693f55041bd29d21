//! What holds for any tree of files.

#[allow(dead_code)] // each test file uses a part of it
mod common;

use common::{Content, VERSIONS, build, pattern, piece};
use proptest::prelude::*;
use torrent::{FileHasher, Limits, Metainfo, V1Mode, Version, check_paths, merkle};

const BLOCK: usize = 16 * 1024;

/// Sizes around the borders of blocks and pieces.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        Just(0),
        Just(1),
        1..200usize,
        Just(BLOCK - 1),
        Just(BLOCK),
        Just(BLOCK + 1),
        Just(2 * BLOCK),
        Just(4 * BLOCK),
        0..10 * BLOCK,
    ]
}

/// Trees without conflicts, of up to 12 files.
fn tree() -> impl Strategy<Value = Vec<Content>> {
    let name =
        "[a-cé.]{1,3}( [0-9])?".prop_filter("names of directories", |name| name != "." && name != "..");
    let path = prop::collection::vec(name, 1..4).prop_map(|components| components.join("/"));
    let file = (path, size(), any::<u8>()).prop_map(|(path, size, salt)| {
        let bytes = (0..size).map(|i| (i / 3) as u8 ^ (i >> 9) as u8 ^ salt).collect();
        (path, bytes)
    });
    prop::collection::vec(file, 1..12).prop_map(|files| {
        let mut kept: Vec<Content> = Vec::new();
        for file in files {
            let paths: Vec<_> = kept.iter().chain([&file]).map(|(path, _)| common::path(path)).collect();
            if check_paths(&paths).is_ok() {
                kept.push(file);
            }
        }
        kept
    })
}

fn piece_length() -> impl Strategy<Value = u64> {
    prop_oneof![Just(BLOCK as u64), Just(2 * BLOCK as u64), Just(4 * BLOCK as u64), Just(1 << 20)]
}

fn files(metainfo: &Metainfo) -> Vec<(String, u64)> {
    metainfo.files().iter().map(|file| (file.path.to_string(), file.size)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn create_parse_encode_is_the_identity(tree in tree(), length in piece_length()) {
        for version in VERSIONS {
            let made = build(version, length, &tree)
                .with_trackers(vec![vec!["http://a/announce".into()], vec!["http://b/announce".into()]]);
            let bytes = made.encode();
            let read = Metainfo::parse(&bytes, &Limits::FOREIGN).unwrap();
            prop_assert_eq!(read.encode(), bytes);
            prop_assert_eq!(files(&read), files(&made));
            prop_assert_eq!(read.wire_ids(), made.wire_ids());
            prop_assert_eq!(read.trackers(), made.trackers());
            prop_assert_eq!(read.version(), version);
            prop_assert!(read.content_digest().is_some());
        }
    }

    #[test]
    fn all_versions_describe_the_same_files(tree in tree(), length in piece_length()) {
        let hybrid = build(Version::Hybrid, length, &tree);
        let mut expected: Vec<(String, u64)> =
            tree.iter().map(|(path, bytes)| (path.clone(), bytes.len() as u64)).collect();
        expected.sort_by_key(|(path, _)| common::path(path));
        if tree.len() == 1 {
            expected[0].0 = hybrid.name().to_owned();
        }
        for version in VERSIONS {
            let other = build(version, length, &tree);
            prop_assert_eq!(files(&other), expected.clone());
            prop_assert_eq!(other.name(), hybrid.name());
        }
    }

    #[test]
    fn every_piece_verifies_and_no_changed_byte_does(tree in tree(), length in piece_length(), at in any::<prop::sample::Index>()) {
        for version in VERSIONS {
            let metainfo = build(version, length, &tree);
            let map = metainfo.pieces();
            for index in 0..map.count() {
                let bytes = piece(&metainfo, &tree, index);
                let payload = &bytes[..map.len(index) as usize];
                prop_assert!(!payload.is_empty());
                let verify = |bytes: &[u8]| {
                    let mut verifier = map.verifier(index).unwrap();
                    verifier.feed(0, bytes).unwrap();
                    verifier.finish()
                };
                prop_assert!(verify(payload));
                let mut bent = payload.to_vec();
                bent[at.index(payload.len())] ^= 1;
                prop_assert!(!verify(&bent));
                if let Some(mut v1) = map.v1_verifier(index) {
                    v1.feed(0, payload).unwrap();
                    prop_assert!(v1.finish());
                }
            }
            prop_assert!(map.verifier(map.count()).is_none());
            prop_assert_eq!(map.segments(map.count()).count(), 0);
        }
    }

    #[test]
    fn blocks_verify_in_any_order_and_only_all_of_them(order in Just((0..7usize).collect::<Vec<_>>()).prop_shuffle()) {
        let bytes = pattern(7 * BLOCK as u64 - 5);
        let tree = vec![("x".to_owned(), bytes.clone())];
        let metainfo = build(Version::V2, 1 << 20, &tree);
        let mut verifier = metainfo.pieces().verifier(0).unwrap();
        for (fed, block) in order.iter().enumerate() {
            prop_assert!(!verifier.clone().finish(), "verified with {} of 7 blocks", fed);
            let start = block * BLOCK;
            verifier.feed(start as u32, &bytes[start..bytes.len().min(start + BLOCK)]).unwrap();
        }
        prop_assert!(verifier.finish());
    }

    #[test]
    fn hashes_do_not_depend_on_how_bytes_arrive(len in 0usize..200_000, chunk in 1usize..40_000) {
        let bytes = pattern(len as u64);
        let whole = |chunk: usize| {
            let mut hasher = FileHasher::new(2 * BLOCK as u64, V1Mode::Padded);
            bytes.chunks(chunk).for_each(|chunk| hasher.update(chunk));
            hasher.finish()
        };
        let hashes = whole(chunk);
        prop_assert_eq!(&hashes, &whole(200_000));
        let leaves: Vec<_> = bytes.chunks(BLOCK).map(merkle::leaf).collect();
        prop_assert_eq!(hashes.pieces_root, (len > 0).then(|| merkle::root(&leaves, 0)));
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Metainfo::parse(&bytes, &Limits::FOREIGN).is_err());
    }

    #[test]
    fn bytes_that_look_like_bencode_are_answered(text in "[ilde0-9:a-c-]{0,200}") {
        if let Ok(value) = torrent::bencode::decode(text.as_bytes(), &Limits::FOREIGN.bencode) {
            let mut writer = torrent::bencode::Writer::new();
            rewrite(&mut writer, value);
            prop_assert_eq!(writer.into_bytes(), text.into_bytes());
        }
    }
}

/// What is read, written again: strict reading means there is one form only.
fn rewrite(writer: &mut torrent::bencode::Writer, value: torrent::bencode::Value<'_>) {
    use torrent::bencode::Value;
    match value {
        Value::Int(int) => writer.int(int),
        Value::Bytes(bytes) => writer.bytes(bytes),
        Value::List(list) => writer.list(|writer| list.iter().for_each(|value| rewrite(writer, value))),
        Value::Dict(dict) => writer.dict(|writer| {
            dict.iter().for_each(|(key, value)| rewrite(writer.entry(key), value));
        }),
    }
}

/// Flips and truncations of valid files: an answer each time, and no other meaning under the same infohashes.
#[test]
fn flips_and_truncations_never_panic_nor_change_the_meaning() {
    let tree: Vec<Content> = [("a/b", 70_000), ("a/c", 5), ("d", 0), ("e", BLOCK as u64)]
        .map(|(path, len)| (path.to_owned(), pattern(len)))
        .to_vec();
    for version in VERSIONS {
        let made = build(version, BLOCK as u64, &tree).with_trackers(vec![vec!["http://t/announce".into()]]);
        let bytes = made.encode();
        for at in 0..bytes.len() {
            assert!(Metainfo::parse(&bytes[..at], &Limits::FOREIGN).is_err(), "{version:?}, cut at {at}");
            for flip in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80] {
                let mut bent = bytes.clone();
                bent[at] ^= flip;
                let Ok(read) = Metainfo::parse(&bent, &Limits::FOREIGN) else { continue };
                if read.info_bytes() == made.info_bytes() {
                    assert_eq!(files(&read), files(&made));
                    for file in made.files() {
                        let root = file.pieces_root.unwrap_or_default();
                        assert_eq!(read.layer(&root), made.layer(&root), "{version:?}, {flip} at {at}");
                    }
                } else {
                    assert_ne!(read.wire_ids(), made.wire_ids(), "{version:?}, {flip} at {at}");
                }
            }
        }
    }
}
