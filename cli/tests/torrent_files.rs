//! `samara torrent` as the people use it who come from mktorrent.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to fail")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A folder `data` with files, and one to work in.
struct Place {
    temp: TempDir,
}

impl Place {
    fn new() -> Self {
        let temp = TempDir::new().unwrap();
        let data = temp.path().join("data");
        fs::create_dir_all(data.join("sub/empty folder")).unwrap();
        fs::write(data.join("empty"), "").unwrap();
        fs::write(data.join("notes.tmp"), "not for others").unwrap();
        fs::write(data.join("sub/big"), (0..100_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>())
            .unwrap();
        fs::write(data.join("tiny"), "t").unwrap();
        Self { temp }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn torrent(&self, args: &[&str]) -> Output {
        self.torrent_of(args, b"")
    }

    /// Runs it in the folder, with `input` on standard input.
    fn torrent_of(&self, args: &[&str], input: &[u8]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_samara"));
        command.arg("torrent").args(args).current_dir(self.temp.path());
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        // A command that needs no input may have ended already.
        let _written = child.stdin.take().unwrap().write_all(input).is_ok();
        child.wait_with_output().unwrap()
    }

    fn done(&self, args: &[&str]) -> String {
        let output = self.torrent(args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.done(args)).unwrap()
    }

    /// Runs what must fail, and answers the exit code and what was said.
    fn refused(&self, args: &[&str]) -> (i32, String) {
        let output = self.torrent(args);
        assert!(!output.status.success(), "{args:?}: {output:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

#[test]
fn two_runs_make_the_same_file_and_the_second_does_not_replace_the_first() {
    let place = Place::new();
    place.done(&["create", "data", "-a", "http://a/announce"]);
    place.done(&["create", "data", "-a", "http://a/announce", "-o", "again.torrent"]);
    assert_eq!(read(&place.path("data.torrent")), read(&place.path("again.torrent")));
    let (_, said) = place.refused(&["create", "data"]);
    assert!(said.contains("data.torrent is there already"), "{said}");
    place.done(&["create", "data", "-f"]);
    assert_ne!(read(&place.path("data.torrent")), read(&place.path("again.torrent")));
    let to_stdout = place.torrent(&["create", "data", "-a", "http://a/announce", "-o", "-"]);
    assert_eq!(to_stdout.stdout, read(&place.path("again.torrent")));
}

#[test]
fn every_option_of_create_shows_in_the_torrent() {
    let place = Place::new();
    let made = place.json(&[
        "create",
        "data",
        "-o",
        "it.torrent",
        "--json",
        "-a",
        "http://a/x,http://b/x",
        "-a",
        "http://c/x",
        "-w",
        "http://seed/",
        "-l",
        "64Ki",
        "--v1",
        "-n",
        "name",
        "-p",
        "-c",
        "a comment",
        "-s",
        "LAN",
        "-e",
        "*.tmp",
        "-d",
    ]);
    let shown = place.json(&["show", "it.torrent", "--json"]);
    for key in ["infoHashV1", "name", "files", "trackers", "magnet"] {
        assert_eq!(made[key], shown[key], "{key}");
    }
    assert_eq!(made["file"], "it.torrent");
    assert_eq!(shown["trackers"], serde_json::json!([["http://a/x", "http://b/x"], ["http://c/x"]]));
    assert_eq!(shown["webSeeds"], serde_json::json!(["http://seed/"]));
    assert_eq!((&shown["version"], &shown["pieceLength"]), (&"v1".into(), &65536.into()));
    assert_eq!((&shown["name"], &shown["private"]), (&"name".into(), &true.into()));
    assert_eq!((&shown["comment"], &shown["source"]), (&"a comment".into(), &"LAN".into()));
    assert!(shown["creationDate"].as_i64().unwrap() > 1_700_000_000);
    assert!(shown["createdBy"].as_str().unwrap().starts_with("samara "));
    let paths: Vec<&str> =
        shown["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["empty", "sub/big", "tiny"]);
}

#[test]
fn canonical_torrents_depend_on_the_bytes_alone() {
    let place = Place::new();
    fs::copy(place.path("data/sub/big"), place.path("renamed")).unwrap();
    for (one, other) in [("data/sub/big", "renamed"), ("data", "moved")] {
        if other == "moved" {
            assert!(
                Command::new("cp")
                    .arg("-r")
                    .args([place.path(one), place.path(other)])
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let hash = |path| {
            place.json(&["create", path, "--canonical", "-f", "-o", "c", "--json"])["infoHashV2"].clone()
        };
        assert_eq!(hash(one), hash(other), "{one}");
    }
    let name = place.json(&["show", "c", "--json"])["name"].clone();
    assert!(name.as_str().unwrap().starts_with("sha256-"), "{name}");
}

#[test]
fn who_makes_a_v2_torrent_of_a_folder_with_one_file_hears_that_others_drop_the_folder() {
    let place = Place::new();
    fs::create_dir(place.path("alone")).unwrap();
    fs::write(place.path("alone/file"), "x").unwrap();
    for (args, dropped) in [
        (["alone", "--v2"], true),
        (["alone", "--v1"], false),
        (["alone", "--hybrid"], false),
        (["alone/file", "--v2"], false),
        (["data", "--v2"], false),
    ] {
        let output = place.torrent(&[&["create", "-f"], &args[..]].concat());
        assert!(output.status.success(), "{args:?}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.contains("without its folder"), dropped, "{args:?}: {said}");
    }
}

#[test]
fn verify_says_which_pieces_of_which_files_differ() {
    let place = Place::new();
    place.done(&["create", "data", "-l", "16Ki"]);
    // The folder itself, and the one that holds it under the torrent's name.
    for data in ["data", "."] {
        assert_eq!(place.json(&["verify", "data.torrent", "--data", data, "--json"])["ok"], true);
    }
    let mut bytes = read(&place.path("data/sub/big"));
    for at in [20_000, 40_000, 100_000] {
        bytes[at] ^= 1;
    }
    fs::write(place.path("data/sub/big"), bytes).unwrap();
    fs::remove_file(place.path("data/tiny")).unwrap();
    fs::write(place.path("data/notes.tmp"), "not for others, and longer").unwrap();
    for side in [&[][..], &["--v1"], &["--v2"], &["--v1", "--v2"]] {
        let output = place.torrent(&[&["verify", "data.torrent", "--json"], side].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let states: Vec<&Value> =
            report["files"].as_array().unwrap().iter().map(|file| &file["state"]).collect();
        assert_eq!(states, ["ok", "wrongSize", "bad", "missing"]);
        // notes.tmp is piece 0, so the 25 pieces of sub/big start at 1.
        assert_eq!(report["files"][2]["badPieces"], serde_json::json!([[2, 3], [7, 7]]));
    }
    let only = place.torrent(&["verify", "data.torrent", "--only", "empty", "--only", "nothing"]);
    assert_eq!(only.status.code(), Some(0), "{only:?}");
    for bad in [
        &["verify", "data.torrent", "--only", "nothing"][..],
        &["verify", "no.torrent"],
        &["verify", "data.torrent", "--no-such-option"],
    ] {
        assert_eq!(place.refused(bad).0, 2, "{bad:?}");
    }
    place.done(&["create", "data", "--v2", "-o", "v2.torrent"]);
    let (code, said) = place.refused(&["verify", "v2.torrent", "--v1"]);
    assert!(code == 2 && said.contains("no v1 side"), "{said}");
}

#[test]
fn edits_leave_the_infohash_and_all_else() {
    let place = Place::new();
    let torrent = place.torrent(&["create", "data", "-a", "http://a/x", "-c", "old", "-d", "-o", "-"]).stdout;
    // What no program of ours writes stays too.
    let text = b"4:infod";
    let at = torrent.windows(text.len()).position(|window| window == text).unwrap();
    let torrent = [&torrent[..at], b"8:e-letteri7e", &torrent[at..]].concat();
    fs::write(place.path("it.torrent"), &torrent).unwrap();
    let before = place.json(&["show", "it.torrent", "--json"]);

    place.done(&["edit", "it.torrent", "--add-announce", "http://b/x", "-w", "http://seed/", "-c", "new"]);
    let after = place.json(&["show", "it.torrent", "--json"]);
    assert_eq!(after["trackers"], serde_json::json!([["http://a/x"], ["http://b/x"]]));
    assert_eq!((&after["comment"], &after["webSeeds"][0]), (&"new".into(), &"http://seed/".into()));
    for key in ["infoHashV1", "infoHashV2", "creationDate", "files"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    assert!(read(&place.path("it.torrent")).windows(13).any(|window| window == b"8:e-letteri7e"));

    place.done(&["edit", "it.torrent", "--remove-announce", "http://b/x", "--no-web-seeds", "-c", "old"]);
    assert_eq!(read(&place.path("it.torrent")), torrent, "the way back");
    let (_, said) = place.refused(&["edit", "it.torrent", "--remove-announce", "http://b/x"]);
    assert!(said.contains("no such tracker"), "{said}");
    let piped = place.torrent_of(&["edit", "-", "--no-announce", "-o", "-"], &torrent);
    assert!(
        piped.status.success() && !piped.stdout.windows(8).any(|window| window == b"announce"),
        "{piped:?}"
    );
}

#[test]
fn magnet_links_go_both_ways() {
    let place = Place::new();
    place.done(&["create", "data", "-a", "http://a/x?k=1&l=2"]);
    let plain = place.done(&["magnet", "data.torrent"]);
    assert_eq!(plain, place.done(&["show", "--magnet", "data.torrent"]));
    let link = place.done(&["magnet", "data.torrent", "--peer", "10.0.0.1:6881", "--select", "0,2-3"]);
    let (torrent, shown) =
        (place.json(&["show", "data.torrent", "--json"]), place.json(&["show", link.trim(), "--json"]));
    for key in ["name", "infoHashV1", "infoHashV2", "size"] {
        assert_eq!(torrent[key], shown[key], "{key}");
    }
    assert_eq!(shown["trackers"], serde_json::json!(["http://a/x?k=1&l=2"]));
    assert_eq!(
        (&shown["peers"][0], &shown["select"]),
        (&"10.0.0.1:6881".into(), &serde_json::json!([[0, 0], [2, 3]]))
    );
    let (_, said) = place.refused(&["magnet", "data.torrent", "--select", "3-1"]);
    assert!(said.contains("3-1"), "{said}");
}

#[test]
fn an_exponent_for_a_piece_length_is_explained() {
    let place = Place::new();
    let (code, said) = place.refused(&["create", "data", "-l", "20"]);
    assert!(code == 2 && said.contains("1Mi"), "{said}");
    let (_, said) = place.refused(&["create", "data", "-l", "1000000"]);
    assert!(said.contains("power of two"), "{said}");
}

#[test]
fn a_folder_without_files_makes_no_torrent_and_an_empty_file_does() {
    let place = Place::new();
    let (_, said) = place.refused(&["create", "data/sub/empty folder"]);
    assert!(said.contains("holds no files"), "{said}");
    let made = place.json(&["create", "data/empty", "--json"]);
    assert_eq!((&made["size"], &made["pieces"]), (&0.into(), &0.into()));
    assert_eq!(place.json(&["verify", "empty.torrent", "--data", "data/empty", "--json"])["ok"], true);
}

#[test]
fn holes_are_hashed_as_the_zeros_that_they_are() {
    let place = Place::new();
    let (sparse, full) = (place.path("sparse"), place.path("full"));
    let mut file = fs::File::create(&sparse).unwrap();
    file.set_len(5 << 20).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start((2 << 20) + 5)).unwrap();
    file.write_all(b"something").unwrap();
    fs::write(&full, read(&sparse)).unwrap();
    let hash =
        |path| place.json(&["create", path, "-n", "x", "-l", "256Ki", "-f", "--json"])["infoHashV2"].clone();
    assert_eq!(hash("sparse"), hash("full"));
    assert_eq!(place.json(&["verify", "x.torrent", "--data", "sparse", "--json"])["ok"], true);
    // Two tebibytes of nothing take no time worth speaking of.
    fs::File::create(place.path("huge")).unwrap().set_len(2 << 40).unwrap();
    let huge = place.json(&["create", "huge", "--json"]);
    assert_eq!((&huge["pieces"], &huge["pieceLength"]), (&131_072.into(), &(16 << 20).into()));
}

#[test]
fn completions_name_the_commands() {
    let output = Command::new(env!("CARGO_BIN_EXE_samara")).args(["completions", "bash"]).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("samara__subcmd__torrent"));
}
