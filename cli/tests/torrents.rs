//! `samara torrent`, `seed` and `get` as a user runs them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to fail")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Seeder, folder, output, samara, seed, text};
use tempfile::TempDir;

#[test]
fn create_show_and_verify() {
    let (temp, data, torrent) = folder();
    let shown = output(&["torrent", "show", text(&torrent), "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["version"], "hybrid");
    assert_eq!(shown["size"], 12_000_001);
    assert_eq!(shown["files"].as_array().unwrap().len(), 3);
    assert_eq!(shown["trackers"][0][0], "http://127.0.0.1:9/announce");
    let again = output(&["torrent", "create", text(&data), "--v1", "-o", "-"]);
    fs::write(temp.path().join("v1.torrent"), again.stdout).unwrap();
    let v1 = output(&["torrent", "show", text(&temp.path().join("v1.torrent"))]);
    let v1 = String::from_utf8(v1.stdout).unwrap();
    assert!(v1.contains("version       v1") && !v1.contains("infohash v2"), "{v1}");

    for torrent in [&torrent, &temp.path().join("v1.torrent")] {
        let good = output(&["torrent", "verify", text(torrent), "--data", text(&data)]);
        assert!(good.status.success(), "{good:?}");
    }
    let mut bytes = fs::read(data.join("sub/big")).unwrap();
    bytes[7_000_000] ^= 1;
    fs::write(data.join("sub/big"), bytes).unwrap();
    fs::remove_file(data.join("small")).unwrap();
    let bad = output(&["torrent", "verify", text(&torrent), "--data", text(&data)]);
    let said = String::from_utf8(bad.stdout).unwrap();
    assert!(!bad.status.success() && said.contains("pieces 7") && said.contains("missing"), "{said}");
}

#[test]
fn a_torrent_is_not_for_everything() {
    let (temp, data, torrent) = folder();
    std::os::unix::fs::symlink("small", data.join("link")).unwrap();
    let linked = output(&["torrent", "create", text(&data), "-o", text(&torrent)]);
    assert!(
        !linked.status.success()
            && String::from_utf8_lossy(&linked.stderr).contains("neither a file nor a folder")
    );
    fs::write(temp.path().join("no.torrent"), "garbage").unwrap();
    let garbage = output(&["torrent", "show", text(&temp.path().join("no.torrent"))]);
    assert!(
        !garbage.status.success()
            && String::from_utf8_lossy(&garbage.stderr).contains("not a usable torrent")
    );
}

#[test]
fn what_is_seeded_can_be_got() {
    let (temp, data, torrent) = folder();
    let seeder = seed(&[text(&torrent), "--data", text(&data)]);
    let out = temp.path().join("out");
    let got = samara(&["get", text(&torrent), "-o", text(&out), "--peer", &seeder.1, "--bind", "127.0.0.1"])
        .output()
        .unwrap();
    assert!(got.status.success(), "{got:?}");
    for file in ["empty", "small", "sub/big"] {
        assert_eq!(fs::read(data.join(file)).unwrap(), fs::read(out.join(file)).unwrap(), "{file}");
    }
    let printed = String::from_utf8(got.stdout).unwrap();
    assert_eq!(printed.lines().count(), 3, "{printed}");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 3, "the journal is gone");
}

#[test]
fn a_file_is_seeded_without_a_torrent() {
    let (temp, data, _) = folder();
    let torrent = temp.path().join("made.torrent");
    let big = data.join("sub/big");
    let seeder = seed(&[text(&big), "--write-torrent", text(&torrent)]);
    let out = temp.path().join("out");
    let got = output(&["get", text(&torrent), "-o", text(&out), "--peer", &seeder.1, "--bind", "127.0.0.1"]);
    assert!(got.status.success(), "{got:?}");
    let file = fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read(file).unwrap(), fs::read(big).unwrap());
}

/// Gets the torrent from the seeder; answers the bytes of its one file.
fn got(temp: &TempDir, torrent: &Path, seeder: &Seeder) -> Vec<u8> {
    let out = temp.path().join("out");
    let got = output(&["get", text(torrent), "-o", text(&out), "--peer", &seeder.1, "--bind", "127.0.0.1"]);
    assert!(got.status.success(), "{got:?}");
    let printed = String::from_utf8(got.stdout).unwrap();
    fs::read(printed.trim()).unwrap()
}

#[test]
fn the_only_file_of_a_folder_is_seeded_under_its_own_name() {
    let temp = TempDir::new().unwrap();
    let (data, torrent) = (temp.path().join("data"), temp.path().join("made.torrent"));
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::write(data.join("sub/only"), "the only one").unwrap();
    let seeder = seed(&[text(&data), "--write-torrent", text(&torrent)]);
    assert_eq!(got(&temp, &torrent, &seeder), b"the only one");
}

#[test]
fn a_file_is_seeded_for_its_torrent_whatever_it_is_called() {
    let temp = TempDir::new().unwrap();
    let (file, torrent) = (temp.path().join("renamed"), temp.path().join("it.torrent"));
    fs::write(&file, "whatever").unwrap();
    assert!(output(&["torrent", "create", text(&file), "-o", text(&torrent)]).status.success());
    let seeder = seed(&[text(&torrent), "--data", text(&file)]);
    assert_eq!(got(&temp, &torrent, &seeder), b"whatever");
}

#[test]
fn what_differs_is_not_seeded_and_not_touched() {
    let (_temp, data, torrent) = folder();
    fs::write(data.join("small"), "another").unwrap();
    let refused = output(&["seed", text(&torrent), "--data", text(&data), "--port", "0"]);
    assert!(!refused.status.success(), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("torrent verify"), "{refused:?}");
    assert_eq!(fs::read(data.join("small")).unwrap(), b"another");
}

#[test]
fn more_files_than_a_process_may_open_are_verified() {
    let temp = TempDir::new().unwrap();
    let (data, torrent) = (temp.path().join("data"), temp.path().join("it.torrent"));
    fs::create_dir(&data).unwrap();
    for number in 0..300 {
        fs::write(data.join(format!("{number}")), format!("{number}")).unwrap();
    }
    assert!(output(&["torrent", "create", text(&data), "-o", text(&torrent)]).status.success());
    let verified = Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_samara")])
        .args(["torrent", "verify", text(&torrent), "--data", text(&data)])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

#[test]
fn without_peers_or_trackers_it_says_so() {
    let temp = TempDir::new().unwrap();
    fs::write(temp.path().join("a"), "a").unwrap();
    let torrent = temp.path().join("a.torrent");
    assert!(
        output(&["torrent", "create", text(&temp.path().join("a")), "-o", text(&torrent)]).status.success()
    );
    let got = output(&["get", text(&torrent), "-o", text(&temp.path().join("out"))]);
    assert!(!got.status.success() && String::from_utf8_lossy(&got.stderr).contains("--peer"), "{got:?}");
}
