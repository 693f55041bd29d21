//! Frozen values, those of docs/identity.md. A change here means that the same bytes get other infohashes than before: version it
//! instead.

#[allow(dead_code)] // each test file uses a part of it
mod common;

use common::{Content, build, pattern};
use torrent::manifest::{MAX_BYTES, Manifest};
use torrent::{FileHasher, Limits, Metainfo, V1Mode, Version, piece_length_for};

const BLOB_SHA256: &str = "bd253fee37763b4c18c98e05037e0ae7b192f2e932730a3b7e5f69cb328a5fbd";

fn blob(version: Version) -> Metainfo {
    build(version, 1 << 20, &[("models/any name.bin".to_owned(), pattern(5_000_000))])
}

#[test]
fn hashes_of_the_blob() {
    let mut file = FileHasher::new(1 << 20, V1Mode::Alone);
    file.update(&pattern(5_000_000));
    let hashes = file.finish();
    assert_eq!(hex::encode(hashes.sha256), BLOB_SHA256);
    assert_eq!(
        hashes.pieces_root.map(hex::encode).as_deref(),
        Some("233cfcbe4f5a62db4d2c618781e712e4f726a7ecdbaee2cff8fdd0e797e7c23b")
    );
    assert_eq!(hashes.layer.len(), 5);
    assert_eq!(
        hex::encode(hashes.layer[4]),
        "c931447964ae854c3163ae831d4ea7e8f25b548665f2a84ac6ee6742e362f066"
    );
}

#[test]
fn infohashes_of_the_blob() {
    for (version, info_bytes, v1, v2) in [
        (Version::V1, 247, Some("428cf50de5cb7e78f54c92588ea814655dee3e0d"), None),
        (Version::V2, 295, None, Some("15875dec85945ef8bb6d11902045a0a77d744c0bf057ae1c539b8eb180573ab5")),
        (
            Version::Hybrid,
            424,
            Some("7b945ec183e7855d4b7f4ebdbda54baea1213b61"),
            Some("b5406a8c04b2328b442bb93e3722bace924cd8f659263336ca3936775db69b1c"),
        ),
    ] {
        let metainfo = blob(version);
        assert_eq!(metainfo.info_bytes().len(), info_bytes, "{version:?}");
        assert_eq!(metainfo.info_hash_v1().map(|hash| hash.to_string()).as_deref(), v1, "{version:?}");
        assert_eq!(metainfo.info_hash_v2().map(|hash| hash.to_string()).as_deref(), v2, "{version:?}");
        assert_eq!(metainfo.name(), format!("sha256-{BLOB_SHA256}"));
        assert_eq!(metainfo.content_digest().map(hex::encode).as_deref(), Some(BLOB_SHA256));
        assert!(metainfo.is_private() && metainfo.is_single_file());
        assert_eq!(metainfo.files()[0].path.as_str(), metainfo.name());
        assert_eq!(metainfo.total_size(), 5_000_000);
    }
}

/// Sorted by raw bytes of the components, with an empty file, a file of exactly one piece, a twin (same bytes, other
/// path), a name that is not ASCII, and files longer and shorter than a piece.
fn tree() -> Vec<Content> {
    [
        ("b/ü.txt", 100),
        ("a", 40_000),
        ("c.txt", 16_384),
        ("b/copy of a", 40_000),
        ("b/deep/er/empty", 0),
        ("piece", 32_768),
        ("large", 200_000),
    ]
    .map(|(name, len)| (name.to_owned(), pattern(len)))
    .to_vec()
}

/// Confirmed by libtorrent 2.1.1, which computes the same from the same files (e2e/tests/torrent_libtorrent.rs).
#[test]
fn infohashes_of_the_tree() {
    const NAME: &str = "sha256-1e10d5d196a3ca297c044f885e6e8c50644bf4fa77cb3da7ac5009238f0b0e44";
    for (version, v1, v2) in [
        (Version::V1, Some("0c233119a0f64047492aac4e88153586e1eae787"), None),
        (Version::V2, None, Some("876e23b97ed9ec74dd03bf98f2f42e0a5517837d5dd1476eb5b758768963e1e2")),
        (
            Version::Hybrid,
            Some("7431a41e437d8874221536ffa921a8ec73638d0e"),
            Some("f997ddde20ffe7124d35cb863a57533e8e1fe53f693097a24396683c71b15c60"),
        ),
    ] {
        let metainfo = build(version, 32_768, &tree());
        assert_eq!(metainfo.name(), NAME, "{version:?}");
        assert!(metainfo.content_digest().is_some());
        assert_eq!(metainfo.info_hash_v1().map(|hash| hash.to_string()).as_deref(), v1, "{version:?}");
        assert_eq!(metainfo.info_hash_v2().map(|hash| hash.to_string()).as_deref(), v2, "{version:?}");
        let paths: Vec<_> = metainfo.files().iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["a", "b/copy of a", "b/deep/er/empty", "b/ü.txt", "c.txt", "large", "piece"]);
    }
}

#[test]
fn order_of_the_files_given_does_not_matter() {
    let mut files = tree();
    let first = build(Version::Hybrid, 32_768, &files).encode();
    files.reverse();
    assert_eq!(build(Version::Hybrid, 32_768, &files).encode(), first);
}

#[test]
fn piece_lengths() {
    const MIB: u64 = 1 << 20;
    for (size, length) in [
        (0, MIB),
        (1, MIB),
        (4096 * MIB, MIB),
        (4096 * MIB + 1, 2 * MIB),
        (10_000_000_000, 4 * MIB),
        (50_000_000_000, 16 * MIB),
        (4096 * 16 * MIB + 1, 16 * MIB),
        (u64::MAX, 16 * MIB),
    ] {
        assert_eq!(piece_length_for(size), length, "{size}");
    }
}

#[test]
fn an_empty_file_and_a_tree_of_empty_files() {
    let one = vec![("nothing".to_owned(), Vec::new())];
    let two = vec![("a".to_owned(), Vec::new()), ("b/c".to_owned(), Vec::new())];
    for version in common::VERSIONS {
        for files in [&one, &two] {
            let metainfo = build(version, 1 << 20, files);
            let read = Metainfo::parse(&metainfo.encode(), &Limits::FOREIGN).unwrap();
            assert_eq!(read.files().len(), files.len());
            assert_eq!(read.total_size(), 0);
            assert_eq!(read.pieces().count(), 0);
            assert!(read.pieces().is_empty() && read.pieces().verifier(0).is_none());
            assert_eq!(read.pieces().of_file(0), 0..0);
            assert_eq!(read.wire_ids(), metainfo.wire_ids());
        }
        let name = "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(build(version, 1 << 20, &one).name(), name);
    }
}

/// Others build on that page.
#[test]
fn the_page_of_vectors_says_what_is_made() {
    const PAGE: &str = include_str!("../../docs/identity.md");
    let says = |value: &str| assert!(PAGE.contains(&format!("`{value}`")), "{value}");
    let mut file = FileHasher::new(1 << 20, V1Mode::Alone);
    file.update(&pattern(5_000_000));
    let hashes = file.finish();
    says(&hex::encode(hashes.sha256));
    says(&hex::encode(hashes.pieces_root.unwrap()));
    says(&hex::encode(hashes.layer[4]));
    for version in common::VERSIONS {
        for metainfo in [blob(version), build(version, 32_768, &tree())] {
            metainfo.info_hash_v1().iter().for_each(|hash| says(&hash.to_string()));
            metainfo.info_hash_v2().iter().for_each(|hash| says(&hash.to_string()));
        }
    }
    says(build(Version::V1, 32_768, &tree()).name());
    let json = PAGE.lines().find(|line| line.starts_with(r#"{"entries""#)).unwrap();
    let manifest = Manifest::parse(json.as_bytes(), MAX_BYTES).unwrap();
    says(&hex::encode(manifest.digest()));
}
