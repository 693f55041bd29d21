//! One wrong byte, or a missing end: every way in which there can be one in some small valid .torrents, over a million.
//!
//! Reading a .torrent allocates at most three times its size, whatever is in it. The tests here take turns: they count what the
//! process allocates.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to fail")]

#[allow(dead_code)] // each test file uses a part of it
mod common;

use std::ops::Range;
use std::sync::Mutex;

use common::{VERSIONS, build, path, pattern};
use peak_alloc::PeakAlloc;
use torrent::{Builder, Limits, Metainfo, MetainfoError, PieceHashes, RelPath, Version, merkle};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Times the file that reading it may allocate,
const TIMES: usize = 3;
/// and what a small one may cost beside that: tables that have room for some entries before there is one.
const FIXED: usize = 2048;
/// How often a measurement that is over the bound is repeated.
const MEASURED_AGAIN: usize = 3;

/// Tables of the files of a large one.
const PER_FILE: usize = 96;

static TURN: Mutex<()> = Mutex::new(());

/// Torrents of one file, of several and of an empty one, with all that may lie outside `info`.
fn valid() -> Vec<Metainfo> {
    let per_version = VERSIONS.map(|version| {
        let one = [("f".to_owned(), pattern(70_000))];
        let several = [
            ("a/one".to_owned(), pattern(20_000)),
            ("a/two".to_owned(), vec![]),
            ("b".to_owned(), pattern(16_384)),
        ];
        let tiers = vec![vec!["http://a/".to_owned(), "http://b/".to_owned()], vec!["udp://c".to_owned()]];
        [
            build(version, 16 * 1024, &one)
                .with_trackers(vec![vec!["http://a/announce".to_owned()]])
                .with_web_seeds(vec!["http://w/".to_owned()])
                .with_comment(Some("ü".to_owned()))
                .with_creation_date(Some(1_700_000_000)),
            build(version, 16 * 1024, &several).with_trackers(tiers),
            build(version, 16 * 1024, &[("empty".to_owned(), vec![])]),
        ]
    });
    per_version.into_iter().flatten().collect()
}

/// What a torrent says to peers and of files.
fn meaning(torrent: &Metainfo) -> impl PartialEq + use<> {
    let pieces = torrent.pieces();
    let hashes = (0..pieces.count()).map(|piece| pieces.expected(piece, pieces.sides()));
    let shape = (torrent.version(), torrent.is_single_file(), torrent.is_private(), torrent.piece_length());
    (torrent.name().to_owned(), torrent.files().to_vec(), hashes.collect::<Vec<_>>(), shape)
}

/// Parses, and holds what it allocates at most against the size of the whole file. The harness allocates beside it now and then: what is
/// too much is too much each time.
fn parse(bytes: &[u8], whole: usize) -> Result<Metainfo, MetainfoError> {
    let measured = || {
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let parsed = Metainfo::parse(bytes, &Limits::OWN);
        (MEMORY.peak_usage().saturating_sub(before), parsed)
    };
    let bound = |parsed: &Result<Metainfo, MetainfoError>| {
        TIMES * whole + PER_FILE * parsed.as_ref().map_or(0, |torrent| torrent.files().len()) + FIXED
    };
    let (mut allocated, mut parsed) = measured();
    for _ in 0..MEASURED_AGAIN {
        if allocated <= bound(&parsed) {
            return parsed;
        }
        (allocated, parsed) = measured();
    }
    assert!(
        allocated <= bound(&parsed),
        "{allocated} bytes for a file of {whole}: {}...",
        bytes[..whole.min(1000)].escape_ascii()
    );
    parsed
}

/// Where the raw `info` lies.
fn info_range(torrent: &Metainfo, bytes: &[u8]) -> Range<usize> {
    let info = torrent.info_bytes();
    let start = bytes.windows(info.len()).position(|window| window == &info[..]);
    let start = start.expect("a .torrent holds its info");
    start..start + info.len()
}

#[test]
fn no_wrong_byte_or_missing_end_is_accepted_with_another_meaning_or_costs_memory() {
    let _turn = TURN.lock().unwrap();
    let (mut tried, mut accepted) = (0u32, 0u32);
    for torrent in valid() {
        let valid = torrent.encode();
        let (info, expected) = (info_range(&torrent, &valid), meaning(&torrent));
        for end in 0..valid.len() {
            assert!(parse(&valid[..end], valid.len()).is_err(), "{}", valid[..end].escape_ascii());
            tried += 1;
        }
        let mut bytes = valid.clone();
        for at in 0..valid.len() {
            for other in (0..=u8::MAX).filter(|byte| *byte != valid[at]) {
                bytes[at] = other;
                tried += 1;
                let Ok(read) = parse(&bytes, valid.len()) else { continue };
                accepted += 1;
                assert!(read.encode() == bytes, "written otherwise than read: {}", bytes.escape_ascii());
                let ids = [
                    read.info_hash_v1().map(|id| id.0.to_vec()),
                    read.info_hash_v2().map(|id| id.0.to_vec()),
                ];
                let old = [
                    torrent.info_hash_v1().map(|id| id.0.to_vec()),
                    torrent.info_hash_v2().map(|id| id.0.to_vec()),
                ];
                if info.contains(&at) {
                    let differs = ids.iter().zip(&old).all(|(new, old)| new.is_none() || new != old);
                    assert!(differs, "another info under an old infohash: {}", bytes.escape_ascii());
                } else {
                    assert!(ids == old, "another infohash for the same info: {}", bytes.escape_ascii());
                    assert!(meaning(&read) == expected, "another meaning: {}", bytes.escape_ascii());
                }
            }
            bytes[at] = valid[at];
        }
    }
    println!("{tried} changed files, {accepted} of them torrents");
    assert!(tried > 1_000_000, "only {tried}");
}

/// A torrent of files of a few bytes and a large one, with hashes of nothing.
fn large(version: Version, files: u64, pieces: u64) -> Metainfo {
    const PIECE: u64 = 16 * 1024;
    let small = (0..files).map(|index| (path(&format!("folder {:04}/file {index:06}", index / 100)), 7));
    let one = (path("large"), (pieces - files) * PIECE);
    let plan = Builder::new(version, PIECE).unwrap().named("large").unwrap();
    let plan = plan.plan(small.chain([one]).collect::<Vec<(RelPath, u64)>>()).unwrap();
    let hashes: Vec<PieceHashes> = (0..plan.pieces().count())
        .map(|index| {
            let node = merkle::leaf(&index.to_le_bytes());
            PieceHashes { v1: node.first_chunk().copied(), v2: Some(node) }
        })
        .collect();
    plan.finish(&hashes, None).unwrap()
}

#[test]
fn a_hundred_thousand_files_and_a_million_pieces_are_read_in_bounded_memory() {
    let _turn = TURN.lock().unwrap();
    for version in VERSIONS {
        for (files, pieces) in [(100_000, 1_000_000), (100_000, 100_001), (1, 1_000_000)] {
            let bytes = large(version, files, pieces).encode();
            let before = MEMORY.current_usage();
            let read = parse(&bytes, bytes.len()).unwrap();
            let (most, after) = (MEMORY.peak_usage() - before, MEMORY.current_usage() - before);
            assert_eq!(read.files().len() as u64, files + 1);
            assert!(read.encode() == bytes);
            println!(
                "{version:?}, {files} files, {pieces} pieces: {} bytes, {most} at most while reading, {after} after",
                bytes.len()
            );
        }
    }
}
