use std::collections::BTreeMap;

use super::*;
use crate::{Builder, FileHasher, IngestId, Limits, Metainfo, PieceHashes, RelPath, Version};

const PIECE: u64 = 32 * 1024;
const OPENER: [u8; 32] = [1; 32];
const FETCHER: [u8; 32] = [2; 32];

fn opener() -> SigningKey {
    SigningKey::from_seed(&OPENER)
}

fn contents() -> Vec<(RelPath, Vec<u8>)> {
    let file = |path, len: usize| {
        (RelPath::parse(path).unwrap(), (0..len).map(|i| (i * 31 / 7 + len) as u8).collect())
    };
    vec![
        file("b/long", 3 * PIECE as usize + 5),
        file("a", 20_000),
        file("empty", 0),
        file("b/piece", PIECE as usize),
    ]
}

fn outline(version: Version, files: &[(RelPath, Vec<u8>)]) -> Outline {
    let files = files.iter().map(|(path, bytes)| (path.clone(), bytes.len() as u64)).collect();
    Outline::new("models/bert-1", 0, opener().public(), version, PIECE, files).unwrap()
}

fn hashes(outline: &Outline, files: &[(RelPath, Vec<u8>)]) -> Vec<PieceHashes> {
    let (plan, map) = (outline.plan(), outline.plan().pieces());
    let bytes = |file: usize| &files.iter().find(|(path, _)| *path == plan.files()[file].0).unwrap().1;
    let hash = |piece| {
        let mut hasher = map.hasher(piece, map.sides());
        for segment in map.segments(piece) {
            let start = segment.offset_in_file as usize;
            hasher.update(&bytes(segment.file)[start..start + segment.len as usize]);
        }
        hasher.finish()
    };
    (0..map.count()).map(hash).collect()
}

fn warrant(ingest: IngestId) -> Warrant {
    Warrant::new(&opener(), ingest, "node-7", SigningKey::from_seed(&FETCHER).public()).unwrap()
}

fn batch(ingest: IngestId, first: u32, hashes: &[PieceHashes]) -> Batch {
    Batch::sign(&SigningKey::from_seed(&FETCHER), &warrant(ingest), ingest, first, hashes.to_vec()).unwrap()
}

/// The torrent as it is made of whole files.
fn built(version: Version, files: &[(RelPath, Vec<u8>)]) -> Metainfo {
    let builder = Builder::new(version, PIECE).unwrap();
    let hashed = files.iter().map(|(path, bytes)| {
        let mut hasher: FileHasher = builder.file_hasher(files.len());
        hasher.update(bytes);
        (path.clone(), hasher.finish())
    });
    builder.build(hashed.collect()).unwrap()
}

#[test]
fn hashes_in_any_order_make_the_torrent_that_whole_files_make() {
    use sha2::Digest as _;
    for version in [Version::Hybrid, Version::V2] {
        for files in [contents(), contents()[..1].to_vec()] {
            let outline = outline(version, &files);
            let (id, all) = (outline.id(), hashes(&outline, &files));
            let mut table = HashTable::new(outline.plan().clone());
            let digest = (files.len() == 1).then(|| sha2::Sha256::digest(&files[0].1).into());
            for first in (0..all.len()).rev() {
                assert!(!table.is_complete() && table.finish(digest).is_err());
                let batch = batch(id, first as u32, &all[first..=first]);
                assert!(batch.is_of(id, outline.key()) && !table.knows(&batch));
                assert_eq!(table.accept(&batch).unwrap(), [first as u32]);
                assert!(table.knows(&batch) && table.accept(&batch).unwrap().is_empty());
                assert_eq!(table.signer(first as u32), Some("node-7"));
            }
            let expected = built(version, &files);
            assert_eq!(table.finish(digest).unwrap().encode(), expected.encode());
            assert!(table.agrees(&expected));
            for piece in 0..all.len() as u32 {
                assert_eq!(table.v2_hash(piece), expected.pieces().v2_hash(piece), "piece {piece}");
            }
        }
    }
}

#[test]
fn two_that_read_the_same_in_step_are_both_seen() {
    let files = contents();
    let outline = outline(Version::Hybrid, &files);
    let (id, all) = (outline.id(), hashes(&outline, &files));
    let by = |name: &str| {
        let key = SigningKey::from_seed(&[9; 32]);
        let warrant = Warrant::new(&opener(), id, name, key.public()).unwrap();
        Batch::sign(&key, &warrant, id, 0, vec![all[0]]).unwrap()
    };
    let (first, second) = (by("first"), by("second"));
    let mut table = HashTable::new(outline.plan().clone());
    assert_eq!(table.news(&first), News::Hashes);
    table.accept(&first).unwrap();
    assert_eq!((table.news(&second), table.news(&first)), (News::Echo, News::Nothing));
    for _ in 0..2 {
        table.repeats(&second).unwrap();
        assert_eq!(table.news(&second), News::Nothing, "once for each piece");
    }
    assert_eq!(table.fetchers().collect::<Vec<_>>(), [("first", 1), ("second", 1)]);
    assert_eq!((table.known(), table.signer(0)), (1, Some("first")));
}

#[test]
fn an_outline_is_read_as_it_was_written_and_in_no_other_form() {
    let outline = outline(Version::Hybrid, &contents());
    let bytes = outline.encode();
    let read = Outline::parse(&bytes).unwrap();
    assert_eq!(
        (read.encode(), read.id(), read.total_size()),
        (bytes.clone(), outline.id(), outline.total_size())
    );
    assert_eq!((read.about(), read.epoch(), read.key()), ("models/bert-1", 0, opener().public()));
    let text = String::from_utf8_lossy(&bytes).into_owned();
    for (from, to) in [
        ("5:epochi0e", "5:epochi-1e"),
        ("outline 1", "outline 2"),
        ("6:hybrid", "6:hybrod"),
        ("lengthi32768e", "lengthi32769e"),
    ] {
        assert!(text.contains(from), "{from}");
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let changed = [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat();
        assert!(Outline::parse(&changed).is_err(), "{to}");
    }
    let twice = [&bytes[..bytes.len() - 1], b"1:zi0ee"].concat();
    assert_eq!(Outline::parse(&twice).unwrap_err(), OutlineError::NotCanonical);
    for cut in 0..bytes.len() {
        assert!(Outline::parse(&bytes[..cut]).is_err());
    }
}

#[test]
fn an_outline_that_would_leave_its_folder_is_refused() {
    let outline = outline(Version::Hybrid, &[(RelPath::parse("a/bb").unwrap(), vec![1])]);
    let bytes = outline.encode();
    let at = bytes.windows(4).position(|window| window == b"a/bb").unwrap();
    for bad in [b"../b", b"/a/b", b"a//b"] {
        let changed = [&bytes[..at], bad, &bytes[at + 4..]].concat();
        assert!(matches!(Outline::parse(&changed), Err(OutlineError::Path { .. })), "{bad:?}");
    }
}

#[test]
fn v1_only_content_has_no_outline() {
    let files = vec![(RelPath::parse("a").unwrap(), 1)];
    let made = Outline::new("", 0, opener().public(), Version::V1, PIECE, files);
    assert_eq!(made.unwrap_err(), OutlineError::V1Only);
}

#[test]
fn the_id_tells_apart_what_is_read_for_another_purpose_or_anew() {
    let files = || vec![(RelPath::parse("a").unwrap(), 1)];
    let id = |about, epoch, seed: [u8; 32]| {
        let key = SigningKey::from_seed(&seed).public();
        Outline::new(about, epoch, key, Version::V2, PIECE, files()).unwrap().id()
    };
    let ids = [id("a", 0, OPENER), id("b", 0, OPENER), id("a", 1, OPENER), id("a", 0, FETCHER)];
    for (at, one) in ids.iter().enumerate() {
        assert!(!ids[..at].contains(one));
    }
}

#[test]
fn declared_digests_are_part_of_the_name_and_stay_with_their_files() {
    let plain = outline(Version::Hybrid, &contents());
    let path = |path| RelPath::parse(path).unwrap();
    let declared = BTreeMap::from([(path("b/long"), [7; 32]), (path("not there"), [8; 32])]);
    let declaring = plain.clone().declaring(&declared);
    let read = Outline::parse(&declaring.encode()).unwrap();
    assert!(read.id() == declaring.id() && read.id() != plain.id());
    for (file, (path, _)) in read.plan().files().iter().enumerate() {
        assert_eq!(read.digest(file), declared.get(path).copied(), "{path}");
    }
    assert!(!Outline::parse(&plain.encode()).unwrap().declares_digests());
    assert_eq!(plain.clone().declaring(&BTreeMap::new()).id(), plain.id());
}

#[test]
fn no_changed_byte_of_a_batch_is_believed() {
    let files = contents();
    let outline = outline(Version::Hybrid, &files);
    let (id, sides) = (outline.id(), outline.plan().pieces().sides());
    let bytes = batch(id, 1, &hashes(&outline, &files)[1..3]).encode();
    assert!(Batch::decode(&bytes, sides).unwrap().is_of(id, outline.key()));
    for at in (0..bytes.len()).step_by(5) {
        let mut changed = bytes.clone();
        changed[at] ^= 4;
        let believed = Batch::decode(&changed, sides).is_ok_and(|batch| batch.is_of(id, outline.key()));
        assert!(!believed, "byte {at}");
    }
    for cut in 0..bytes.len() {
        assert!(Batch::decode(&bytes[..cut], sides).is_err());
    }
    assert!(Batch::decode(&[&bytes[..], &[0]].concat(), sides).is_err());
}

#[test]
fn a_warrant_of_another_ingest_or_of_nobody_is_worth_nothing() {
    let files = contents();
    let outline = outline(Version::Hybrid, &files);
    let (id, all) = (outline.id(), hashes(&outline, &files));
    let key = SigningKey::from_seed(&FETCHER);
    let of = |warrant: &Warrant| Batch::sign(&key, warrant, id, 0, all[..1].to_vec()).unwrap();
    assert!(of(&warrant(id)).is_of(id, outline.key()));
    assert!(!of(&warrant(IngestId([9; 32]))).is_of(id, outline.key()));
    let by_itself = Warrant::new(&key, id, "node-7", key.public()).unwrap();
    assert!(!of(&by_itself).is_of(id, outline.key()));
    let other = Warrant::new(&opener(), id, "node-7", opener().public()).unwrap();
    assert!(!of(&other).is_of(id, outline.key()), "signed with a key that the warrant does not name");
    assert_eq!(Warrant::decode(&warrant(id).encode()).unwrap(), warrant(id));
    assert!(Warrant::new(&opener(), id, &"n".repeat(254), key.public()).is_err());
}

#[test]
fn a_contradiction_names_both_fetchers_and_changes_nothing() {
    let files = contents();
    let outline = outline(Version::Hybrid, &files);
    let (id, all) = (outline.id(), hashes(&outline, &files));
    let mut table = HashTable::new(outline.plan().clone());
    table.accept(&batch(id, 1, &all[1..2])).unwrap();
    let other = SigningKey::from_seed(&[3; 32]);
    let warrant = Warrant::new(&opener(), id, "node-9", other.public()).unwrap();
    let mut wrong = all[..2].to_vec();
    wrong[1].v1 = Some([0; 20]);
    let error = table.accept(&Batch::sign(&other, &warrant, id, 0, wrong).unwrap()).unwrap_err();
    let (before, now) = ("node-7".to_owned(), "node-9".to_owned());
    assert_eq!(error, IngestError::Contradiction { piece: 1, before, now });
    assert_eq!((table.known(), table.get(0), table.get(1)), (1, None, Some(all[1])));
    let behind = batch(id, all.len() as u32 - 1, &[all[0], all[0]]);
    assert_eq!(table.accept(&behind).unwrap_err(), IngestError::NoSuchPiece);
}

#[test]
fn a_torrent_of_other_bytes_does_not_agree() {
    let files = contents();
    let outline = outline(Version::Hybrid, &files);
    let all = hashes(&outline, &files);
    let mut table = HashTable::new(outline.plan().clone());
    table.accept(&batch(outline.id(), 0, &all[..1])).unwrap();
    let mut changed = files.clone();
    changed[0].1[70_000] ^= 1;
    assert!(table.agrees(&built(Version::Hybrid, &changed)), "that piece is not known");
    table.accept(&batch(outline.id(), 0, &all)).unwrap();
    assert!(!table.agrees(&built(Version::Hybrid, &changed)));
    assert!(!table.agrees(&built(Version::V2, &files)));
    assert!(!table.agrees(&built(Version::Hybrid, &files[1..])));
    let read = Metainfo::parse(&built(Version::Hybrid, &files).encode(), &Limits::OWN).unwrap();
    assert!(table.agrees(&read));
}
