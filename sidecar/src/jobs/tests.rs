//! What is believed of a folder, cut everywhere; and a revision made whole beside another.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use sha2::{Digest, Sha256};
use swarm::Assume;
use tokio_util::sync::CancellationToken;
use torrent::RelPath;
use torrent::manifest::{Entry, Manifest};

use super::elsewhere::{Left, away, bring_back, leave, open_both};
use super::steps::{self, Place, Published};
use super::twin::{self, Twin};
use crate::contents::hex;
use crate::store::{
    ContentStore, Layout, Record, Root, clean_leftovers, doubt, publish, remove_sealed, retain, scan,
    shared_bytes, withdraw,
};

const FILES: &[(&str, &[u8])] = &[("a.bin", b"alpha"), ("sub/b.bin", b"beta"), ("leer", b"")];

fn root() -> (tempfile::TempDir, Root) {
    let temp = tempfile::tempdir().unwrap();
    let root = Root::open(temp.path()).unwrap();
    (temp, root)
}

fn manifest(files: &[(&str, &[u8])]) -> Manifest {
    let entry = |(path, bytes): &(&str, &[u8])| Entry {
        path: RelPath::parse(path).unwrap(),
        size: bytes.len() as u64,
        sha256: Sha256::digest(bytes).into(),
    };
    Manifest::new(files.iter().map(entry).collect()).unwrap()
}

/// A revision in `incoming/`, of which only the documents are there.
fn coming(layout: &Layout, revision: &str, files: &[(&str, &[u8])]) -> (Record, Manifest) {
    let (folder, manifest) = (layout.coming(revision), manifest(files));
    fs::create_dir_all(folder.data()).unwrap();
    fs::write(folder.manifest(), manifest.to_bytes()).unwrap();
    let record = Record {
        version: 1,
        revision: revision.into(),
        namespace: "ns".into(),
        name: revision.into(),
        current: true,
        info_hash_v2: Some("00".repeat(32)),
        manifest_digest: Some(hex(&manifest.digest())),
        ..Record::default()
    };
    record.save(&folder).unwrap();
    (record, manifest)
}

fn write(layout: &Layout, revision: &str, files: &[(&str, &[u8])]) {
    for (path, bytes) in files {
        let path = layout.coming(revision).data().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// A revision that this node fetched and published.
fn published(layout: &Layout, revision: &str, files: &[(&str, &[u8])]) -> (Record, Manifest) {
    let (mut record, manifest) = coming(layout, revision, files);
    write(layout, revision, files);
    record.fetched = true;
    publish(layout, &record).unwrap();
    (record, manifest)
}

/// What a process that has just started makes of it.
fn restart(layout: &Layout, revision: &str, manifest: &Manifest) -> Assume {
    let (place, mut record) = steps::find(layout, revision, None, None).unwrap();
    assert_eq!(place, Place::Incoming);
    steps::prepare(layout, &mut record, manifest, false).unwrap().assume
}

#[test]
fn what_was_fetched_is_not_hashed_again_until_it_is_doubted() {
    let (_temp, root) = root();
    let layout = root.layout();
    let (mut record, manifest) = coming(layout, "r1", FILES);
    write(layout, "r1", FILES);
    record.fetched = true;
    record.save(&layout.coming("r1")).unwrap();
    assert_eq!(restart(layout, "r1", &manifest), Assume::Complete);
    fs::write(layout.coming("r1").journal(), "the engine's").unwrap();
    assert_eq!(restart(layout, "r1", &manifest), Assume::Journal);
    doubt(&layout.coming("r1")).unwrap();
    assert_eq!(restart(layout, "r1", &manifest), Assume::Nothing);
}

#[test]
fn a_repair_that_was_cut_is_not_taken_for_a_fetch() {
    let (_temp, root) = root();
    let layout = root.layout();
    let (_, manifest) = published(layout, "r1", FILES);
    fs::remove_file(layout.published("r1").data().join("a.bin")).unwrap();
    withdraw(layout, "r1").unwrap();
    assert_eq!(restart(layout, "r1", &manifest), Assume::Nothing);
    // The engine has hashed the rest, and its first write makes the file as long as it will be.
    let (_, mut record) = steps::find(layout, "r1", None, None).unwrap();
    steps::proved(layout, &mut record).unwrap();
    fs::write(layout.coming("r1").journal(), "the engine's").unwrap();
    File::create(layout.coming("r1").data().join("a.bin")).unwrap().set_len(5).unwrap();
    assert_eq!(restart(layout, "r1", &manifest), Assume::Journal);
}

#[test]
fn a_mark_that_is_gone_takes_the_word_of_the_fetcher_with_it() {
    let (_temp, root) = root();
    let layout = root.layout();
    let (_, manifest) = published(layout, "r1", FILES);
    fs::remove_file(layout.published("r1").complete()).unwrap();
    scan(layout).unwrap();
    assert_eq!(restart(layout, "r1", &manifest), Assume::Nothing);
}

#[test]
fn a_withdrawal_that_was_cut_is_finished() {
    let (_temp, root) = root();
    let layout = root.layout();
    let (mut record, manifest) = published(layout, "r1", FILES);
    // Right behind its first step: the mark still says that all is well.
    record.unproven = true;
    record.save(&layout.published("r1")).unwrap();
    assert_eq!(restart(layout, "r1", &manifest), Assume::Nothing);
    assert!(!layout.published("r1").path().exists());
}

#[test]
fn hashing_that_was_cut_begins_again_whatever_the_journal_says() {
    let (_temp, root) = root();
    let layout = root.layout();
    published(layout, "r1", FILES);
    let (_, manifest) = coming(layout, "r2", FILES);
    assert_eq!(restart(layout, "r2", &manifest), Assume::Nothing, "all of it is linked, none of it hashed");
    fs::write(layout.coming("r2").journal(), "the engine's, of what it came to").unwrap();
    assert_eq!(restart(layout, "r2", &manifest), Assume::Nothing);
    let (_, mut record) = steps::find(layout, "r2", None, None).unwrap();
    steps::proved(layout, &mut record).unwrap();
    assert_eq!(restart(layout, "r2", &manifest), Assume::Journal);
}

#[test]
fn a_record_that_is_gone_takes_its_word_with_it() {
    let (_temp, root) = root();
    let layout = root.layout();
    let (mut record, manifest) = coming(layout, "r1", FILES);
    write(layout, "r1", FILES);
    record.fetched = true;
    fs::remove_file(layout.coming("r1").record()).unwrap();
    let (_, mut record) = steps::find(layout, "r1", None, Some(record)).unwrap();
    let prepared = steps::prepare(layout, &mut record, &manifest, false).unwrap();
    assert_eq!(prepared.assume, Assume::Nothing);
}

fn complete(layout: &Layout, record: &Record, manifest: &Manifest) -> Twin {
    twin::complete(layout, record, manifest, &CancellationToken::new()).unwrap()
}

#[test]
fn a_twin_waits_for_the_other_and_then_is_linked_and_hashed() {
    let (_temp, root) = root();
    let layout = root.layout();
    let (record, manifest) = coming(layout, "r2", FILES);
    assert_eq!(complete(layout, &record, &manifest), Twin::Waits);
    published(layout, "r1", FILES);
    // Half of a download that was going on before, and its journal.
    File::create(layout.coming("r2").data().join("a.bin")).unwrap().set_len(5).unwrap();
    fs::write(layout.coming("r2").journal(), "the engine's").unwrap();
    assert_eq!(complete(layout, &record, &manifest), Twin::Whole);
    for (path, bytes) in &FILES[..2] {
        assert_eq!(fs::read(layout.coming("r2").data().join(path)).unwrap(), *bytes);
    }
    assert!(!layout.coming("r2").journal().exists(), "it spoke of a file that is gone");
    let stop = CancellationToken::new();
    stop.cancel();
    assert_eq!(twin::complete(layout, &record, &manifest, &stop).unwrap(), Twin::Stopped);
}

#[test]
fn only_what_the_runtime_really_has_is_left_to_it() {
    let (temp, root) = root();
    let [good, rotten] = [b"good layer", b"bad layer!"].map(|bytes| (bytes, hex(&Sha256::digest(bytes))));
    let path = |(_, digest): &(_, String)| format!("blobs/sha256/{digest}");
    let paths = [path(&good), path(&rotten)];
    let files: Vec<(&str, &[u8])> = paths.iter().map(String::as_str).zip([&good.0[..], rotten.0]).collect();
    let there = temp.path().join("content");
    fs::create_dir_all(there.join("blobs/sha256")).unwrap();
    fs::write(there.join(&paths[0]), good.0).unwrap();
    fs::write(there.join(&paths[1]), b"bad lawyer").unwrap();
    let content = ContentStore::open(there).unwrap();
    let layout = &root.layout().clone().beside(Some(content.clone()));
    let (_, manifest) = published(layout, "r1", &files);
    let blobs: Vec<_> = manifest.entries().iter().cloned().enumerate().collect();
    let sizes = blobs.iter().map(|(_, entry)| (entry.path.clone(), entry.size)).collect();
    let data = layout.published("r1").data();
    let places = open_both(&data, &content, sizes, &BTreeSet::new()).unwrap().unwrap();
    let number = |path: &str| blobs.iter().find(|(_, entry)| entry.path.as_str() == path).unwrap().0;
    let (good, rotten) = (number(&paths[0]), number(&paths[1]));
    let left = leave(layout, "r1", &places, &blobs, &CancellationToken::new());
    assert_eq!(left, Left { files: 1, bytes: 10, refused: BTreeSet::from([rotten]) });
    assert!(places.is_elsewhere(good) && !data.join(&paths[0]).exists());
    assert!(!places.is_elsewhere(rotten) && data.join(&paths[1]).exists());
}

#[test]
fn a_twin_copies_what_the_other_has_left_to_the_runtime() {
    let (temp, root) = root();
    let path = format!("blobs/sha256/{}", hex(&Sha256::digest(b"layer")));
    let files: &[(&str, &[u8])] = &[("index.json", b"{}"), (&path, b"layer")];
    let there = temp.path().join("content").join(&path);
    fs::create_dir_all(there.parent().unwrap()).unwrap();
    fs::write(&there, "layer").unwrap();
    let content = ContentStore::open(temp.path().join("content")).unwrap();
    let layout = &root.layout().clone().beside(Some(content));
    let (other, _) = published(layout, "r1", files);
    remove_sealed(&layout.published("r1").data(), &RelPath::parse(&path).unwrap()).unwrap();
    assert!(fs::metadata(layout.published("r1").data().join("blobs/sha256")).unwrap().mode() & 0o222 == 0);
    assert_eq!(away(layout, "r1", &manifest(files)).into_iter().collect::<Vec<_>>(), [0], "blobs come first");
    let (mut record, manifest) = coming(layout, "r2", files);
    let here = layout.coming("r2").data().join(&path);
    assert_eq!(complete(layout, &record, &manifest), Twin::Waits, "a dataset gets nothing of the runtime's");
    assert!(!here.exists());
    let image = serde_json::json!({
        "reference": "r.example/a:1", "digest": "d", "mediaType": "a/b", "manifests": [],
        "access": "Cluster", "materialize": "Image", "pin": false,
    });
    record.image = Some(serde_json::from_value(image).unwrap());
    assert_eq!(complete(layout, &record, &manifest), Twin::Whole);
    assert_eq!(fs::read(here).unwrap(), b"layer");
    // What is given to the user is whole without the runtime.
    let (go, stopped) = (CancellationToken::new(), CancellationToken::new());
    stopped.cancel();
    bring_back(layout, &other, &stopped).unwrap();
    assert!(!away(layout, "r1", &manifest).is_empty(), "and is begun anew after a stop");
    bring_back(layout, &other, &go).unwrap();
    fs::remove_file(there).unwrap();
    assert_eq!(fs::read(layout.published("r1").data().join(&path)).unwrap(), b"layer");
    assert!(away(layout, "r1", &manifest).is_empty());
}

#[test]
fn a_twin_that_was_linked_before_is_whole_at_once() {
    let (_temp, root) = root();
    let layout = root.layout();
    published(layout, "r1", FILES);
    let (mut record, manifest) = coming(layout, "r2", FILES);
    let first = steps::prepare(layout, &mut record, &manifest, false).unwrap();
    let second = steps::prepare(layout, &mut record, &manifest, false).unwrap();
    assert_eq!((first.reused.files, second.reused.files), (2, 0));
    assert_eq!(complete(layout, &record, &manifest), Twin::Whole);
}

#[test]
fn a_twin_takes_what_is_wrong_out_of_the_store() {
    let (_temp, root) = root();
    let layout = root.layout();
    published(layout, "r1", FILES);
    rot(layout, "r1");
    let (record, manifest) = coming(layout, "r2", FILES);
    assert_eq!(complete(layout, &record, &manifest), Twin::Damaged("r1".into()));
    assert!(!layout.published("r1").complete().exists());
    assert!(!layout.coming("r2").data().join("a.bin").exists());
    assert_eq!(complete(layout, &record, &manifest), Twin::Waits);
}

#[test]
fn a_twin_leaves_alone_what_is_the_users() {
    let (_temp, root) = root();
    let layout = root.layout();
    published(layout, "r1", FILES);
    rot(layout, "r1");
    retain(layout, "r1").unwrap();
    let (mut record, manifest) = coming(layout, "r2", FILES);
    steps::prepare(layout, &mut record, &manifest, false).unwrap();
    assert_eq!(complete(layout, &record, &manifest), Twin::Unlike);
    assert!(layout.published("r1").complete().exists());
}

/// The same size, another byte.
fn rot(layout: &Layout, revision: &str) {
    let file = layout.published(revision).data().join("a.bin");
    fs::remove_file(&file).unwrap();
    fs::write(&file, b"alphA").unwrap();
}

#[test]
fn bytes_in_common_are_those_of_one_inode() {
    let (_temp, root) = root();
    let layout = root.layout();
    published(layout, "r1", FILES);
    let files: &[(&str, &[u8])] = &[("moved", b"alpha"), ("new", b"gamma"), ("sub/b.bin", b"beta")];
    let (mut record, manifest) = coming(layout, "r2", files);
    fs::create_dir_all(layout.coming("r2").data().join("sub")).unwrap();
    fs::write(layout.coming("r2").data().join("sub/b.bin"), "beta").unwrap();
    let prepared = steps::prepare(layout, &mut record, &manifest, false).unwrap();
    assert_eq!(prepared.shared, [("r1".to_owned(), 5)].into(), "a copy is not shared");
    assert_eq!(fs::metadata(layout.coming("r2").data().join("moved")).unwrap().nlink(), 2);
    let alone = steps::prepare(layout, &mut record, &manifest, true).unwrap();
    assert!(alone.shared.is_empty());
    assert!(shared_bytes(layout, "r1", &layout.published("r1").data(), &manifest).unwrap().is_empty());
}

#[test]
fn whoever_takes_over_a_name_says_who_had_to_go() {
    let (_temp, root) = root();
    let layout = root.layout();
    published(layout, "r1", FILES);
    retain(layout, "r1").unwrap();
    let (mut record, manifest) = coming(layout, "r2", FILES);
    record.name = "r1".into();
    write(layout, "r2", FILES);
    let Published::Linked(removed) = steps::publish_verified(layout, &record, &manifest).unwrap() else {
        panic!("nothing is in its way")
    };
    assert_eq!(removed, ["r1"]);
    assert!(clean_leftovers(layout, &record).unwrap().is_empty());
}
