//! What is read is the same once it is written and read again, and both sides of a hybrid list the same files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent::bencode::{self, Writer};
use torrent::{File, Limits, Metainfo, Version};
use torrent_fuzz::write;

/// Pieces that are looked at one by one.
const WALKED_PIECES: u32 = 512;

fuzz_target!(|input: &[u8]| {
    let Ok(metainfo) = Metainfo::parse(input, &Limits::FOREIGN) else { return };
    let encoded = metainfo.encode();
    let again = Metainfo::parse(&encoded, &Limits::FOREIGN).expect("what is written can be read");
    assert_eq!(again.encode(), encoded);
    assert_same(&metainfo, &again);
    assert_eq!(again.info_hash_v1(), metainfo.info_hash_v1());
    assert_eq!(again.info_hash_v2(), metainfo.info_hash_v2());
    assert_eq!(again.trackers(), metainfo.trackers());
    assert_eq!(metainfo.info_hash_v1().is_some(), metainfo.version().has_v1());
    assert_eq!(metainfo.info_hash_v2().is_some(), metainfo.version().has_v2());
    check_pieces(&metainfo);
    if metainfo.version() == Version::Hybrid {
        check_sides(&encoded, &metainfo);
    }
});

fn assert_same(a: &Metainfo, b: &Metainfo) {
    assert_eq!(a.files(), b.files());
    assert_eq!((a.version(), a.name(), a.is_single_file()), (b.version(), b.name(), b.is_single_file()));
    assert_eq!((a.is_private(), a.piece_length()), (b.is_private(), b.piece_length()));
    assert_eq!(a.pieces().count(), b.pieces().count());
}

/// Every byte of every file lies in exactly one piece.
fn check_pieces(metainfo: &Metainfo) {
    let pieces = metainfo.pieces();
    if pieces.count() > WALKED_PIECES {
        return;
    }
    let mut reached = vec![0; metainfo.files().len()];
    for piece in 0..pieces.count() {
        let mut payload = 0;
        for segment in pieces.segments(piece) {
            assert_eq!(segment.offset_in_file, reached[segment.file], "a gap in a file");
            assert!(pieces.of_file(segment.file).contains(&piece));
            reached[segment.file] += u64::from(segment.len);
            payload += segment.len;
        }
        assert!(payload <= pieces.len(piece) && pieces.len(piece) <= pieces.padded_len(piece));
        assert!(u64::from(pieces.padded_len(piece)) <= pieces.piece_length());
        assert_eq!(pieces.v1_hash(piece).is_some(), metainfo.version().has_v1());
        assert!(pieces.verifier(piece).is_some());
        if metainfo.version().has_v2() {
            assert_eq!(payload, pieces.len(piece));
        }
    }
    let sizes: Vec<u64> = metainfo.files().iter().map(|file| file.size).collect();
    assert_eq!(reached, sizes);
    assert!(pieces.verifier(pieces.count()).is_none());
}

/// Each side of a hybrid, cut out and read alone.
fn check_sides(encoded: &[u8], hybrid: &Metainfo) {
    let v1 = without(encoded, &["file tree", "meta version"], false);
    let v2 = without(encoded, &["files", "length", "pieces"], true);
    assert_eq!((v1.version(), v2.version()), (Version::V1, Version::V2));
    assert_eq!(v2.files(), hybrid.files());
    // Where an empty file lies means nothing.
    let listed = |metainfo: &Metainfo| -> Vec<_> {
        let place = |file: &File| (file.path.clone(), file.size, if file.size > 0 { file.offset } else { 0 });
        metainfo.files().iter().map(place).collect()
    };
    assert_eq!(listed(&v1), listed(hybrid));
    assert_eq!(v1.pieces().count(), hybrid.pieces().count());
    assert_eq!(v2.pieces().count(), hybrid.pieces().count());
}

/// The torrent with some keys of `info` left out.
fn without(encoded: &[u8], keys: &[&str], layers: bool) -> Metainfo {
    let top = bencode::decode(encoded, &Limits::FOREIGN.bencode)
        .ok()
        .and_then(|top| top.as_dict())
        .expect("a dictionary");
    let info = top.get("info").and_then(|info| info.as_dict()).expect("a dictionary");
    let mut writer = Writer::new();
    writer.dict(|top_writer| {
        top_writer.entry("info").dict(|entries| {
            for (key, value) in info.iter().filter(|(key, _)| !keys.iter().any(|k| k.as_bytes() == *key)) {
                write(value, entries.entry(key));
            }
        });
        if let Some(value) = top.get("piece layers").filter(|_| layers) {
            write(value, top_writer.entry("piece layers"));
        }
    });
    Metainfo::parse(&writer.into_bytes(), &Limits::FOREIGN).expect("each side of a hybrid is a torrent")
}
