//! Publishing, cut everywhere; removing, retaining, reusing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};
use torrent::RelPath;
use torrent::manifest::{Entry, Manifest};

use super::*;
use crate::contents::hex;
use crate::desired::Data;

const FILES: &[(&str, &[u8])] = &[("a.bin", b"alpha"), ("sub/b c.bin", b"beta"), ("sub/leer", b"")];

fn manifest(files: &[(&str, &[u8])]) -> Manifest {
    let entry = |(path, bytes): &(&str, &[u8])| Entry {
        path: RelPath::parse(path).unwrap(),
        size: bytes.len() as u64,
        sha256: Sha256::digest(bytes).into(),
    };
    Manifest::new(files.iter().map(entry).collect()).unwrap()
}

fn record(revision: &str, manifest: &Manifest) -> Record {
    Record {
        version: 1,
        revision: revision.into(),
        namespace: "ns".into(),
        name: "set".into(),
        current: true,
        info_hash_v2: Some("00".repeat(32)),
        manifest_digest: Some(hex(&manifest.digest())),
        ..Record::default()
    }
}

/// A revision in `incoming/` with all its bytes.
fn incoming(layout: &Layout, revision: &str, files: &[(&str, &[u8])]) -> Record {
    let folder = layout.coming(revision);
    for (path, bytes) in files {
        let path = folder.data().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let manifest = manifest(files);
    fs::write(folder.manifest(), manifest.to_bytes()).unwrap();
    fs::write(folder.metainfo(), "torrent").unwrap();
    fs::write(folder.journal(), "journal").unwrap();
    let record = record(revision, &manifest);
    record.save(&folder).unwrap();
    record
}

fn root() -> (tempfile::TempDir, Root) {
    let temp = tempfile::tempdir().unwrap();
    let root = Root::open(temp.path()).unwrap();
    (temp, root)
}

fn assert_published(layout: &Layout, revision: &str) {
    let folder = layout.published(revision);
    assert!(folder.complete().exists());
    assert!(!layout.coming(revision).path().exists());
    for (path, bytes) in FILES {
        let through_link = layout.link("ns", "set").join(path);
        assert_eq!(fs::read(&through_link).unwrap(), *bytes);
        assert_eq!(fs::metadata(&through_link).unwrap().permissions().mode() & 0o7777, 0o444);
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&folder.data()), 0o555);
    assert_eq!(mode(&folder.data().join("sub")), 0o555);
    assert!(!folder.journal().exists());
    let found = scan(layout).unwrap();
    assert_eq!(found[revision].data, Data::Published);
    assert!(found[revision].startable);
}

#[test]
fn publishing_recovers_from_a_cut_after_every_step() {
    for cut in 0..=publish_steps().len() {
        let (_temp, root) = root();
        let layout = root.layout();
        let record = incoming(layout, "r1", FILES);
        for step in &publish_steps()[..cut] {
            step.apply(layout, &record).unwrap();
        }
        // A restart: what is found says how it goes on, and going on ends in the same place.
        let found = scan(layout).unwrap();
        let expected = if cut >= 5 { Data::Published } else { Data::Incoming };
        assert_eq!(found["r1"].data, expected, "cut after {cut} steps");
        assert!(found["r1"].startable, "cut after {cut} steps");
        publish(layout, &record).unwrap();
        assert_published(layout, "r1");
        publish(layout, &record).unwrap();
        assert_published(layout, "r1");
    }
}

#[test]
fn nothing_is_visible_before_it_is_complete() {
    let (_temp, root) = root();
    let layout = root.layout();
    let record = incoming(layout, "r1", FILES);
    for step in &publish_steps()[..6] {
        assert_eq!(link_state(layout, "ns", "set").unwrap(), LinkState::Absent);
        step.apply(layout, &record).unwrap();
    }
}

#[test]
fn a_folder_in_the_store_without_its_mark_goes_back() {
    let (_temp, root) = root();
    let layout = root.layout();
    let record = incoming(layout, "r1", FILES);
    publish(layout, &record).unwrap();
    fs::remove_file(layout.published("r1").complete()).unwrap();
    let found = scan(layout).unwrap();
    assert_eq!(found["r1"].data, Data::Incoming);
    let data = layout.coming("r1").data();
    assert_eq!(fs::metadata(data.join("a.bin")).unwrap().permissions().mode() & 0o777, 0o644);
    publish(layout, &record).unwrap();
    assert_published(layout, "r1");
}

#[test]
fn an_occupied_name_leaves_the_revision_in_the_store_and_heals() {
    let (_temp, root) = root();
    let layout = root.layout();
    let record = incoming(layout, "r1", FILES);
    let place = layout.link("ns", "set");
    fs::create_dir_all(place.join("mine")).unwrap();
    assert!(matches!(publish(layout, &record), Err(StoreError::Occupied { .. })));
    assert!(layout.published("r1").complete().exists());
    fs::remove_dir_all(&place).unwrap();
    publish(layout, &record).unwrap();
    assert_published(layout, "r1");
}

#[test]
fn a_removed_revision_leaves_nothing() {
    let (temp, root) = root();
    let layout = root.layout();
    let record = incoming(layout, "r1", FILES);
    publish(layout, &record).unwrap();
    remove(layout, "r1", Some(&record)).unwrap();
    assert!(scan(layout).unwrap().is_empty());
    assert!(!temp.path().join("datasets/ns").exists());
    assert_eq!(fs::read_dir(layout.store()).unwrap().count(), 0);
    remove(layout, "r1", Some(&record)).unwrap();
    layout.purge();
    drop(root);
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn a_retained_revision_stays_until_its_name_is_anothers() {
    let (_temp, root) = root();
    let layout = root.layout();
    let old = incoming(layout, "r1", FILES);
    publish(layout, &old).unwrap();
    retain(layout, "r1").unwrap();
    assert_eq!(scan(layout).unwrap()["r1"].data, Data::Retained);
    assert_eq!(fs::read(layout.link("ns", "set").join("a.bin")).unwrap(), b"alpha");

    let new = incoming(layout, "r2", &[("a.bin", b"new")]);
    publish(layout, &new).unwrap();
    assert_eq!(clean_leftovers(layout, &new).unwrap(), ["r1"]);
    assert_eq!(fs::read(layout.link("ns", "set").join("a.bin")).unwrap(), b"new");
    assert!(!scan(layout).unwrap().contains_key("r1"));
}

#[test]
fn files_that_another_revision_holds_are_linked() {
    let (_temp, root) = root();
    let layout = root.layout();
    let old = incoming(layout, "r1", FILES);
    publish(layout, &old).unwrap();

    let wanted = manifest(&[("renamed/a", b"alpha"), ("other", b"gamma"), ("leer", b"")]);
    let wanted: Vec<_> =
        wanted.entries().iter().map(|entry| (entry.path.clone(), (entry.sha256, entry.size))).collect();
    let reused = reuse_files(layout, "r2", &wanted).unwrap();
    assert_eq!((reused.files, reused.bytes), (1, 5));
    let linked = layout.coming("r2").data().join("renamed/a");
    let original = layout.published("r1").data().join("a.bin");
    assert_eq!(fs::metadata(&linked).unwrap().ino(), fs::metadata(&original).unwrap().ino());
    assert_eq!(reuse_files(layout, "r2", &wanted).unwrap().files, 0, "what is there stays");

    // What is linked must never be written through.
    let data = fs::File::open(layout.coming("r2").data()).unwrap();
    let path = RelPath::parse("renamed/a").unwrap();
    let write = open_beneath(&data, &path, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CREATE);
    assert!(matches!(write, Err(StoreError::Occupied { .. })));
    unseal(&layout.coming("r2").data()).unwrap();
    assert_eq!(fs::metadata(&original).unwrap().permissions().mode() & 0o777, 0o444);
}

#[test]
fn a_donor_of_the_wrong_size_is_none() {
    let (_temp, root) = root();
    let layout = root.layout();
    let old = incoming(layout, "r1", FILES);
    publish(layout, &old).unwrap();
    let original = layout.published("r1").data().join("a.bin");
    fs::set_permissions(&original, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&original, "alph").unwrap();
    let wanted = manifest(FILES);
    let wanted: Vec<_> = wanted.entries().iter().map(|e| (e.path.clone(), (e.sha256, e.size))).collect();
    assert_eq!(reuse_files(layout, "r2", &wanted).unwrap().files, 1, "only b");
}

#[test]
fn t64_t66_no_link_is_followed_and_no_device_opened() {
    let temp = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), temp.path().join("dir")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("x"), temp.path().join("file")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        temp.path().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let folder = fs::File::open(temp.path()).unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CREATE;
    for path in ["dir/x", "dir/deep/x", "file", "fifo"] {
        assert!(open_beneath(&folder, &RelPath::parse(path).unwrap(), flags).is_err(), "{path}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    open_beneath(&folder, &RelPath::parse("new/deep/x").unwrap(), flags).unwrap();
}
