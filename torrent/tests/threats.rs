//! Bad metainfo and what it must get, by the number of the threat.

#[allow(dead_code)] // each test file uses a part of it
mod common;

use common::{Content, build, pattern};
use torrent::bencode::{self, DecodeError, Writer};
use torrent::{InfoHashV1, InfoHashV2, Limits, Metainfo, MetainfoError, Version};

const PIECE: u64 = 32_768;
const PIECE_INT: i64 = 32_768;

fn parse(bytes: &[u8]) -> Result<Metainfo, MetainfoError> {
    Metainfo::parse(bytes, &Limits::FOREIGN)
}

fn decode(bytes: &[u8]) -> Result<(), DecodeError> {
    bencode::decode(bytes, &Limits::FOREIGN.bencode).map(|_| ())
}

/// A .torrent whose `info` holds these entries, already encoded, sorted here.
fn torrent(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut sorted = entries.to_vec();
    sorted.sort();
    let mut writer = Writer::new();
    writer.dict(|top| {
        top.entry("info").dict(|info| sorted.iter().for_each(|(key, value)| info.entry(key).raw(value)));
    });
    writer.into_bytes()
}

fn int(int: i64) -> Vec<u8> {
    format!("i{int}e").into_bytes()
}

fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.bytes(bytes);
    writer.into_bytes()
}

/// `info` of a v1 file of one piece, with one entry replaced or added.
fn v1(key: &'static str, value: Vec<u8>) -> Vec<u8> {
    let mut entries = vec![
        ("length", int(100)),
        ("name", text("x")),
        ("piece length", int(PIECE_INT)),
        ("pieces", text([7; 20])),
    ];
    entries.retain(|(existing, _)| *existing != key);
    entries.push((key, value));
    torrent(&entries)
}

/// One entry of a v1 `files` list: length, path, attr.
type V1Entry<'a> = (i64, &'a [&'a str], &'a str);

fn v1_tree(files: &[V1Entry<'_>]) -> Vec<u8> {
    let mut list = Writer::new();
    list.list(|list| {
        for (length, path, attr) in files {
            list.dict(|file| {
                if !attr.is_empty() {
                    file.entry("attr").bytes(attr);
                }
                file.entry("length").int(*length);
                file.entry("path").list(|list| path.iter().for_each(|component| list.bytes(component)));
            });
        }
    });
    let total: i64 = files.iter().fold(0i64, |sum, (length, ..)| sum.saturating_add(*length));
    let pieces = usize::try_from(total).unwrap_or(0).min(1 << 20).div_ceil(PIECE as usize);
    torrent(&[
        ("files", list.into_bytes()),
        ("name", text("folder")),
        ("piece length", int(PIECE_INT)),
        ("pieces", text(vec![7; 20 * pieces])),
    ])
}

/// A v2 torrent with this file tree and these piece layers, both encoded.
fn v2(tree: &[u8], layers: Option<&[u8]>) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.dict(|top| {
        top.entry("info").dict(|info| {
            info.entry("file tree").raw(tree);
            info.entry("meta version").int(2);
            info.entry("name").bytes("folder");
            info.entry("piece length").uint(PIECE);
        });
        if let Some(layers) = layers {
            top.entry("piece layers").raw(layers);
        }
    });
    writer.into_bytes()
}

/// `{name: {"": {length, pieces root}}}` with a root of that byte repeated.
fn leaf(name: &str, length: i64, root: u8) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.dict(|tree| {
        tree.entry(name).dict(|node| {
            node.entry("").dict(|file| {
                file.entry("length").int(length);
                file.entry("pieces root").bytes([root; 32]);
            });
        });
    });
    writer.into_bytes()
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("the test knows its bytes");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn t001_deep_nesting_is_rejected() {
    let nested = |depth: usize| [vec![b'l'; depth], vec![b'e'; depth]].concat();
    assert_eq!(decode(&nested(100)), Ok(()));
    assert!(matches!(decode(&nested(101)), Err(DecodeError::TooDeep { limit: 100, .. })));
    assert!(matches!(decode(&vec![b'l'; 1_000_000]), Err(DecodeError::TooDeep { .. })));
}

#[test]
fn t002_string_lengths_beyond_the_input_are_rejected() {
    for bytes in [
        "99999999999999999999:",
        "9223372036854775807:x",
        "18446744073709551615:x",
        "5:abcd",
        "03:abc",
        "00:",
    ] {
        assert!(matches!(decode(bytes.as_bytes()), Err(DecodeError::BadLength { .. })), "{bytes}");
    }
    assert!(matches!(decode(b"12"), Err(DecodeError::Truncated { .. })));
    assert_eq!(decode(b"0:"), Ok(()));
}

#[test]
fn t003_integers_have_one_form() {
    for bytes in [
        "i-0e",
        "i03e",
        "ie",
        "i-e",
        "i--1e",
        "i+1e",
        "i 1e",
        "i1.0e",
        "i9223372036854775808e",
        "i-9223372036854775809e",
    ] {
        assert!(matches!(decode(bytes.as_bytes()), Err(DecodeError::BadInteger { .. })), "{bytes}");
    }
    for good in ["i0e", "i-1e", "i9223372036854775807e", "i-9223372036854775808e"] {
        assert_eq!(decode(good.as_bytes()), Ok(()), "{good}");
    }
    assert!(matches!(decode(b"i12"), Err(DecodeError::Truncated { .. })));
}

#[test]
fn t004_keys_ascend_and_are_unique() {
    assert!(matches!(decode(b"d1:bi1e1:ai2ee"), Err(DecodeError::KeyOrder { at: 7 })));
    assert!(matches!(decode(b"d1:ai1e1:ai2ee"), Err(DecodeError::KeyOrder { .. })));
    assert!(matches!(decode(b"d1:ai1e0:i2ee"), Err(DecodeError::KeyOrder { .. })));
    assert!(matches!(decode(b"d1:ae"), Err(DecodeError::MissingValue { .. })));
    assert!(matches!(decode(b"di1ei2ee"), Err(DecodeError::UnexpectedByte { .. })));
    assert_eq!(decode(b"d0:i1e1:ai2e2:aai3ee"), Ok(()));
}

#[test]
fn t005_nothing_follows_the_value() {
    assert_eq!(decode(b"i1e\n"), Err(DecodeError::TrailingBytes { at: 3 }));
    let (value, length) = bencode::decode_prefix(b"d1:ai1eedata", &Limits::FOREIGN.bencode).unwrap();
    assert_eq!((value.as_dict().and_then(|dict| dict.get("a")), length), (Some(bencode::Value::Int(1)), 8));
    assert!(decode(b"").is_err());
}

#[test]
fn t006_limits_are_kept() {
    let large = text(vec![0; 10_000_000]);
    assert!(matches!(decode(&large), Err(DecodeError::TooLarge { limit: 10_000_000, .. })));
    assert!(bencode::decode(&large, &Limits::OWN.bencode).is_ok());
    let many = |count: usize| [vec![b'l'], b"0:".repeat(count - 1), vec![b'e']].concat();
    assert_eq!(decode(&many(3_000_000)), Ok(()));
    assert!(matches!(decode(&many(3_000_001)), Err(DecodeError::TooManyTokens { .. })));
    // One piece more than 2^21: the sizes alone tell.
    let length = (1 << 21) * PIECE_INT + 1;
    let refused = parse(&v1("length", int(length)));
    assert_eq!(refused.unwrap_err(), MetainfoError::TooManyPieces { pieces: (1 << 21) + 1, limit: 1 << 21 });
}

/// In memory an entry is many times as large as in the file.
#[test]
fn t006_entries_outside_info_are_counted() {
    let valid = v1("length", int(100));
    let with = |key: &str, value: &[u8]| {
        let entry = [text(key), value.to_vec()].concat();
        [b"d", &entry[..], &valid[1..]].concat()
    };
    let urls = |count: usize| [&b"ll"[..], &b"1:a".repeat(count), b"ee"].concat();
    assert!(parse(&with("announce-list", &urls(9_999))).is_ok());
    let tiers = [&b"l"[..], &b"le".repeat(10_001), b"e"].concat();
    for many in [urls(10_000), tiers] {
        let refused = parse(&with("announce-list", &many)).unwrap_err();
        assert_eq!(refused, MetainfoError::TooMany { what: "URLs", limit: 10_000 });
    }
    let seeds = |count: usize| [&b"l"[..], &b"1:a".repeat(count), b"e"].concat();
    assert!(parse(&with("httpseeds", &seeds(10_000))).is_ok());
    assert!(matches!(parse(&with("httpseeds", &seeds(10_001))), Err(MetainfoError::TooMany { .. })));
    let keys: Vec<u8> = (0..1_001).flat_map(|key| [text(format!("a{key:04}")), int(0)].concat()).collect();
    let refused = parse(&[b"d", &keys[..], &valid[1..]].concat()).unwrap_err();
    assert_eq!(refused, MetainfoError::TooMany { what: "keys outside info", limit: 1_000 });
}

#[test]
fn t007_piece_lengths() {
    for bad in [0, -1, 1, 1000, 8192, 16_385, 1 << 27, i64::MAX, i64::MIN] {
        assert_eq!(parse(&v1("piece length", int(bad))).unwrap_err(), MetainfoError::PieceLength(bad));
    }
    for good in [16 << 10, 1 << 20, 64 << 20] {
        assert!(parse(&v1("piece length", int(good))).is_ok(), "{good}");
    }
}

#[test]
fn t008_sizes_do_not_overflow() {
    assert_eq!(parse(&v1("length", int(-1))).unwrap_err(), MetainfoError::Invalid { key: "length" });
    assert!(matches!(
        parse(&v1("length", b"i9223372036854775808e".to_vec())),
        Err(MetainfoError::Bencode(_))
    ));
    assert!(parse(&v1("length", int(i64::MAX))).is_err());
    let two = v1_tree(&[(i64::MAX, &["a"], ""), (i64::MAX, &["b"], "")]);
    assert_eq!(parse(&two).unwrap_err(), MetainfoError::TooLarge);
    let tree = [&leaf("a", i64::MAX, 1)[..], &leaf("b", i64::MAX, 1)].concat();
    let tree = replace(&tree, b"ed1:b", b"1:b");
    assert_eq!(parse(&v2(&tree, None)).unwrap_err(), MetainfoError::TooLarge);
    assert!(parse(&v2(&leaf("a", i64::MAX, 1), None)).is_err());
}

#[test]
fn t009_t011_paths_of_metainfo_are_checked() {
    for bad in ["..", ".", "", "a/b", "a\0", "/etc/passwd", "a\u{202e}b", &"x".repeat(256)] {
        assert!(matches!(parse(&v1("name", text(bad))), Err(MetainfoError::Path { .. })), "{bad:?}");
        assert!(
            matches!(parse(&v1_tree(&[(1, &["d", bad], "")])), Err(MetainfoError::Path { .. })),
            "{bad:?}"
        );
        assert!(parse(&v2(&leaf(bad, 1, 1), None)).is_err(), "{bad:?}");
    }
    assert!(matches!(parse(&v1("name", text(b"\xff"))), Err(MetainfoError::Path { .. })));
    assert!(matches!(parse(&v1_tree(&[(1, &[], "")])), Err(MetainfoError::Path { .. })));
    assert!(parse(&v1_tree(&[(1, &vec!["d"; 10_000], "")])).is_err());
}

#[test]
fn t010_odd_names_in_metainfo_are_accepted() {
    let long = "x".repeat(255);
    for good in ["foo... bar", "..foo", "...", &long] {
        assert_eq!(parse(&v1("name", text(good))).unwrap().name(), good);
        assert_eq!(parse(&v1_tree(&[(1, &[good], "")])).unwrap().files()[0].path.as_str(), good);
        assert_eq!(parse(&v2(&leaf(good, 1, 1), None)).unwrap().files()[0].path.as_str(), good);
    }
}

#[test]
fn t012_conflicting_paths_are_rejected() {
    for (a, b) in
        [(&["a"][..], &["a"][..]), (&["a"], &["A"]), (&["a"], &["a", "b"]), (&["\u{e9}"], &["e\u{301}"])]
    {
        let refused = parse(&v1_tree(&[(1, a, ""), (1, b, "")]));
        assert!(matches!(refused, Err(MetainfoError::Conflict(_))), "{a:?} {b:?}");
    }
    // A node that is a file and a directory, an empty directory, a file at the root of the tree.
    let node = replace(&leaf("a", 1, 1), b"eee", b"e1:bd0:d6:lengthi0eeeee");
    assert!(matches!(parse(&v2(&node, None)), Err(MetainfoError::FileTree { .. })));
    assert!(matches!(parse(&v2(b"d1:adee", None)), Err(MetainfoError::FileTree { .. })));
    assert!(matches!(parse(&v2(b"d0:d6:lengthi0eee", None)), Err(MetainfoError::FileTree { .. })));
    assert!(matches!(parse(&v2(b"d1:ai1ee", None)), Err(MetainfoError::FileTree { .. })));
    assert!(matches!(parse(&v2(b"de", None)), Err(MetainfoError::NoFiles)));
}

#[test]
fn t013_symbolic_links_are_rejected() {
    for attr in ["l", "xl", "lh"] {
        assert!(
            matches!(parse(&v1_tree(&[(0, &["a"], attr)])), Err(MetainfoError::Symlink { .. })),
            "{attr}"
        );
        assert!(matches!(parse(&v1("attr", text(attr))), Err(MetainfoError::Symlink { .. })), "{attr}");
    }
    assert!(matches!(parse(&v1("symlink path", b"l3:etce".to_vec())), Err(MetainfoError::Symlink { .. })));
    let tree = replace(&leaf("a", 1, 1), b"d6:length", b"d4:attr1:l6:length");
    assert!(matches!(parse(&v2(&tree, None)), Err(MetainfoError::Symlink { .. })));
}

#[test]
fn t014_attributes_and_padding() {
    let read =
        parse(&v1_tree(&[(1, &["a"], "x"), (PIECE_INT - 1, &[".pad", "1"], "p"), (5, &["b"], "h")])).unwrap();
    let files: Vec<_> =
        read.files().iter().map(|file| (file.path.as_str(), file.size, file.offset)).collect();
    assert_eq!(files, [("a", 1, 0), ("b", 5, PIECE)]);
    assert_eq!(read.total_size(), 6);
    assert_eq!((read.pieces().len(0), read.pieces().len(1)), (PIECE as u32, 5));
    let segments: Vec<_> = read.pieces().segments(0).map(|segment| (segment.file, segment.len)).collect();
    assert_eq!(segments, [(0, 1)]);

    let oversize = v1_tree(&[(1, &["a"], ""), (1 << 40, &[".pad", "1"], "p")]);
    assert_eq!(parse(&oversize).unwrap_err(), MetainfoError::PadFile { size: 1 << 40 });
    assert!(matches!(parse(&v1_tree(&[(1, &[".pad", "1"], "p")])), Err(MetainfoError::NoFiles)));
    let tree = replace(&leaf("a", 1, 1), b"d6:length", b"d4:attr1:p6:length");
    assert_eq!(parse(&v2(&tree, None)).unwrap_err(), MetainfoError::PadFile { size: 1 });
}

fn two_files() -> Vec<Content> {
    [("a", 100_000), ("b", 70_000)].map(|(path, len)| (path.to_owned(), pattern(len))).to_vec()
}

#[test]
fn t015_piece_layers_must_fit() {
    let made = build(Version::V2, PIECE, &two_files()[..1]);
    let bytes = made.encode();
    let root = made.files()[0].pieces_root.unwrap();
    let layer = made.layer(&root).unwrap().as_flattened();
    let entry = |root: &[u8], layer: &[u8]| [text(root), text(layer)].concat();
    let entry_good = entry(&root, layer);
    let with = |entry: &[u8]| parse(&replace(&bytes, &entry_good, entry)).map(|_| ());

    assert_eq!(with(&entry_good), Ok(()));
    assert!(matches!(with(b""), Err(MetainfoError::LayerMissing(_))));
    assert!(matches!(with(&entry(&root, &layer[..96])), Err(MetainfoError::LayerWrong(_))));
    assert!(matches!(with(&entry(&root, &layer[..127])), Err(MetainfoError::LayerWrong(_))));
    assert!(matches!(with(&entry(&root, b"")), Err(MetainfoError::LayerWrong(_))));
    assert!(matches!(with(&entry(&root[..31], layer)), Err(MetainfoError::LayerWrong(_))));
    let mut bent = layer.to_vec();
    bent[40] ^= 1;
    assert!(matches!(with(&entry(&root, &bent)), Err(MetainfoError::LayerWrong(_))));
    // Extra: genuine in itself, of a file that is not there; and of a file of one piece, which has none.
    let other = build(Version::V2, PIECE, &two_files()[1..]);
    let other_root = other.files()[0].pieces_root.unwrap();
    let other_entry = entry(&other_root, other.layer(&other_root).unwrap().as_flattened());
    let mut both = [entry_good.clone(), other_entry];
    both.sort();
    assert!(matches!(with(&both.concat()), Err(MetainfoError::LayerExtra(_))));
    let small = build(Version::V2, PIECE, &[("s".to_owned(), pattern(5))]);
    let small_root = small.files()[0].pieces_root.unwrap();
    let small = replace(
        &small.encode(),
        b"piece layersde",
        &[b"piece layersd", &entry(&small_root, &small_root)[..], b"e"].concat(),
    );
    assert!(matches!(parse(&small), Err(MetainfoError::LayerExtra(_))));
}

#[test]
fn t016_pieces_roots() {
    assert!(matches!(parse(&v2(&leaf("a", 1, 0), None)), Err(MetainfoError::PiecesRoot(_))));
    assert!(matches!(parse(&v2(&leaf("a", 0, 1), None)), Err(MetainfoError::PiecesRoot(_))));
    assert!(matches!(parse(&v2(b"d1:ad0:d6:lengthi1eeee", None)), Err(MetainfoError::PiecesRoot(_))));
    let short = replace(&leaf("a", 1, 1), &[b"32:", &[1; 32][..]].concat(), &[b"31:", &[1; 31][..]].concat());
    assert!(matches!(parse(&v2(&short, None)), Err(MetainfoError::PiecesRoot(_))));
    assert!(parse(&v2(b"d1:ad0:d6:lengthi0eeee", None)).is_ok());
}

#[test]
fn t017_the_sides_of_a_hybrid_must_agree() {
    let bytes = build(Version::Hybrid, PIECE, &two_files()).encode();
    assert!(parse(&bytes).is_ok());
    for (what, from, to) in [
        ("path", &b"4:pathl1:ae"[..], &b"4:pathl1:ce"[..]),
        ("size", b"6:lengthi100000e4:path", b"6:lengthi100001e4:path"),
        ("padding", b"6:lengthi31072e", b"6:lengthi31071e"),
        ("no padding", b"d4:attr1:p6:lengthi31072e4:pathl4:.pad5:31072ee", b""),
        ("padding is a file", b"4:attr1:p6:lengthi31072e", b"4:attr1:x6:lengthi31072e"),
    ] {
        let refused = parse(&replace(&bytes, from, to));
        let expected = matches!(refused, Err(MetainfoError::SidesDiffer(_) | MetainfoError::Conflict(_)));
        assert!(expected, "{what}: {refused:?}");
    }
    let single = build(Version::Hybrid, PIECE, &two_files()[..1]).encode();
    let shorter = replace(&single, b"e6:lengthi100000e12:meta", b"e6:lengthi99999e12:meta");
    assert!(matches!(parse(&shorter), Err(MetainfoError::SidesDiffer(_))));
}

#[test]
fn t017_padding_alone_makes_no_pieces_in_a_hybrid() {
    let empty = [("a".to_owned(), Vec::new()), ("b".to_owned(), Vec::new())];
    let bytes = build(Version::Hybrid, PIECE, &empty).encode();
    let padding = b"eed4:attr1:p6:lengthi16383e4:pathl4:.pad1:1eed6:lengthi0e4:pathl1:beee";
    let bytes = replace(&bytes, b"eed6:lengthi0e4:pathl1:beee", padding);
    let bytes = replace(&bytes, b"6:pieces0:", &[b"6:pieces20:", &[1; 20][..]].concat());
    assert!(matches!(parse(&bytes), Err(MetainfoError::SidesDiffer(_))), "{:?}", parse(&bytes));
}

#[test]
fn a_hybrid_without_padding_behind_its_last_file_is_read() {
    let bytes = build(Version::Hybrid, PIECE, &two_files()).encode();
    let bytes = replace(&bytes, b"d4:attr1:p6:lengthi28304e4:pathl4:.pad5:28304ee", b"");
    let read = parse(&bytes).unwrap();
    assert_eq!(read.pieces().padded_len(6), 4464);
    assert_eq!(read.pieces().len(6), 4464);
}

#[test]
fn t020_unknown_keys_stay_in_the_infohash() {
    let made = build(Version::Hybrid, PIECE, &two_files());
    let bytes = replace(&made.encode(), b"7:privatei1ee", b"7:privatei1e6:sourced3:anyl1:xi-5eeee");
    let read = parse(&bytes).unwrap();
    let info = read.info_bytes();
    assert_eq!(info.len(), made.info_bytes().len() + b"6:sourced3:anyl1:xi-5eee".len());
    assert_eq!(read.info_hash_v1(), Some(InfoHashV1::of(info)));
    assert_eq!(read.info_hash_v2(), Some(InfoHashV2::of(info)));
    assert_ne!(read.info_hash_v2(), made.info_hash_v2());
    assert_eq!(read.encode(), bytes);
}

#[test]
fn meta_versions_of_the_future_are_refused_first() {
    let mut bytes = v1("meta version", int(3));
    assert_eq!(parse(&bytes).unwrap_err(), MetainfoError::MetaVersion(3));
    bytes = torrent(&[("meta version", int(3))]);
    assert_eq!(parse(&bytes).unwrap_err(), MetainfoError::MetaVersion(3));
}

#[test]
fn missing_and_ill_typed_keys_are_named() {
    assert_eq!(parse(b"de").unwrap_err(), MetainfoError::Missing { key: "info" });
    assert_eq!(parse(b"le").unwrap_err(), MetainfoError::Invalid { key: "info" });
    assert_eq!(
        parse(&v1("pieces", text([0; 19]))).unwrap_err(),
        MetainfoError::PiecesLength { expected: 20, found: 19 }
    );
    assert_eq!(
        parse(&v1("pieces", text([0; 40]))).unwrap_err(),
        MetainfoError::PiecesLength { expected: 20, found: 40 }
    );
    assert_eq!(parse(&v1("pieces", int(1))).unwrap_err(), MetainfoError::Invalid { key: "pieces" });
    assert_eq!(parse(&v1("files", b"le".to_vec())).unwrap_err(), MetainfoError::Invalid { key: "files" });
    assert_eq!(parse(&v1("name", int(1))).unwrap_err(), MetainfoError::Invalid { key: "name" });
}

#[test]
fn trackers_come_in_tiers() {
    let plain = v1("private", int(1));
    let with = |trackers: &str| {
        parse(&replace(&plain, b"d4:info", &[b"d", trackers.as_bytes(), b"4:info"].concat()))
    };
    let tiers = |trackers: &str| with(trackers).unwrap().trackers().to_vec();
    assert_eq!(tiers(""), Vec::<Vec<String>>::new());
    assert_eq!(tiers("8:announce3:a/b"), [["a/b"]]);
    assert_eq!(tiers("8:announce1:z13:announce-listll1:a1:belel1:cee"), [vec!["a", "b"], vec!["c"]]);
    assert_eq!(tiers("8:announce1:z13:announce-listllee"), [["z"]]);
    assert_eq!(with("8:announcei1e").unwrap_err(), MetainfoError::Invalid { key: "announce" });
    assert!(with("").unwrap().is_private());
    assert!(!parse(&v1("private", int(0))).unwrap().is_private());
    assert!(!parse(&v1("length", int(1))).unwrap().is_private());
}
