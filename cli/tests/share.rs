//! `samara seed` and `samara get`, as processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to fail")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Running, Seeder, folder, output, said, samara, seed, seed_with_events, text};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// `get` from this seeder into a folder.
fn get<'a>(torrent: &'a Path, out: &'a Path, seeder: &'a Seeder, more: &[&'a str]) -> Vec<&'a str> {
    let get = ["get", text(torrent), "-o", text(out), "--peer", &seeder.1, "--bind", "127.0.0.1"];
    [&get[..], more].concat()
}

/// What lies in a folder, hidden files too.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

#[test]
fn only_what_is_selected_is_there() {
    let (temp, data, torrent) = folder();
    let seeder = seed(&[text(&torrent), "--data", text(&data)]);
    for (options, expected) in [
        (&["--select", "s*l"][..], &["small"][..]),
        (&["--index", "0,2"], &["empty", "sub"]),
        (&["--select", "*big", "--index", "1"], &["small", "sub"]),
    ] {
        let out = temp.path().join("out");
        let got = output(&get(&torrent, &out, &seeder, options));
        assert!(got.status.success(), "{got:?}");
        assert_eq!(names(&out), expected, "{options:?}");
        for path in String::from_utf8(got.stdout).unwrap().lines() {
            let below = Path::new(path).strip_prefix(&out).unwrap();
            assert_eq!(fs::read(path).unwrap(), fs::read(data.join(below)).unwrap(), "{path}");
        }
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn a_neighbour_in_the_same_piece_is_not_made() {
    let (temp, data, _) = folder();
    let (torrent, out) = (temp.path().join("v1.torrent"), temp.path().join("out"));
    fs::write(data.join("sub/next"), vec![7; 300_000]).unwrap();
    let create = ["torrent", "create", text(&data), "--v1", "-l", "1Mi", "-o", text(&torrent)];
    assert!(output(&create).status.success());
    let seeder = seed(&[text(&torrent), "--data", text(&data)]);
    let got = output(&get(&torrent, &out, &seeder, &["--select", "*next"]));
    assert!(got.status.success(), "{got:?}");
    assert_eq!(names(&out), ["sub"]);
    assert_eq!(names(&out.join("sub")), ["next"]);
    assert_eq!(fs::read(out.join("sub/next")).unwrap(), vec![7; 300_000]);
}

#[test]
fn an_interrupted_download_goes_on_where_it_was() {
    let (temp, data, torrent) = folder();
    let seeder = seed(&[text(&torrent), "--data", text(&data), "--upload-limit", "3M"]);
    let out = temp.path().join("out");
    let mut had = 0;
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut running = Running::start(&get(&torrent, &out, &seeder, &["--json"]));
        let events = running.until(|event| event["have"].as_u64().is_some_and(|have| have > had));
        assert!(!kinds(&events).contains(&"complete"), "{events:?}");
        running.signal(signal);
        let last = running.until(|_| false).pop().or(events.last().cloned()).unwrap();
        had = last["have"].as_u64().unwrap();
        let (exit, said) = running.end();
        assert_eq!(exit, Some(code), "{said}");
        assert!(said.contains("the same command goes on where it was"), "{said}");
        assert!(names(&out).iter().any(|name| name.ends_with(".samara-journal")));
    }
    let mut running = Running::start(&get(&torrent, &out, &seeder, &["--json"]));
    let events = running.until(|_| false);
    assert_eq!(running.end().0, Some(0));
    let last = events.iter().rfind(|event| event["event"] == "progress").unwrap();
    let fetched = last["downloaded"].as_u64().unwrap();
    assert!(fetched + had <= 12_000_001, "{fetched} bytes were fetched, though {had} were there");
    assert_eq!(fs::read(out.join("sub/big")).unwrap(), fs::read(data.join("sub/big")).unwrap());
    assert_eq!(names(&out), ["empty", "small", "sub"], "the journal is gone");
}

#[test]
fn every_line_of_json_is_an_event() {
    let (temp, data, torrent) = folder();
    let (seeder, seeding) = seed_with_events(&[text(&torrent), "--data", text(&data)]);
    assert_eq!(kinds(&seeding), ["listening", "torrent"]);
    assert!(seeding[1]["magnet"].as_str().unwrap().contains(&format!("x.pe={}", seeder.1)), "{seeding:?}");
    let out = temp.path().join("out");
    let mut running = Running::start(&get(&torrent, &out, &seeder, &["--json"]));
    let events = running.until(|_| false);
    assert_eq!(running.end().0, Some(0));
    let kinds: Vec<&str> = kinds(&events).into_iter().filter(|kind| *kind != "error").collect();
    assert_eq!((kinds[0], kinds[1], kinds[kinds.len() - 1]), ("torrent", "listening", "complete"));
    assert!(kinds[2..kinds.len() - 1].iter().all(|kind| *kind == "progress"), "{kinds:?}");
    assert_eq!(events[0]["infoHash"], seeding[1]["infoHash"]);
    assert_eq!(events.last().unwrap()["files"].as_array().unwrap().len(), 3);
}

#[test]
fn two_paths_and_a_tracker_are_all_that_others_need() {
    let (temp, data, _) = folder();
    let (file, torrents) = (temp.path().join("one.bin"), temp.path().join("torrents"));
    fs::write(&file, vec![9; 2_000_000]).unwrap();
    fs::create_dir(&torrents).unwrap();
    let (_seeder, events) = seed_with_events(&[
        text(&file),
        text(&data),
        "--run-tracker=127.0.0.1:0",
        "--write-torrent",
        text(&torrents),
    ]);
    assert_eq!(names(&torrents), ["data.torrent", "one.bin.torrent"]);
    for event in events.iter().filter(|event| event["event"] == "torrent") {
        let out = temp.path().join("out").join(event["name"].as_str().unwrap());
        let torrent = event["torrent"].as_str().unwrap();
        let got = output(&["get", torrent, "-o", text(&out), "--bind", "127.0.0.1"]);
        assert!(got.status.success(), "{got:?}");
    }
    assert_eq!(fs::read(temp.path().join("out/one.bin/one.bin")).unwrap(), vec![9; 2_000_000]);
    assert_eq!(
        fs::read(temp.path().join("out/data/sub/big")).unwrap(),
        fs::read(data.join("sub/big")).unwrap()
    );
}

#[test]
fn no_torrent_is_written_over_another_of_the_same_start() {
    let temp = TempDir::new().unwrap();
    let [one, other] = ["one", "other"].map(|folder| temp.path().join(folder).join("data"));
    for file in [&one, &other] {
        fs::create_dir(file.parent().unwrap()).unwrap();
        fs::write(file, text(file)).unwrap();
    }
    let written = temp.path().join("data.torrent");
    fs::write(&written, "of another start").unwrap();
    let refused =
        output(&["seed", text(&one), text(&other), "--port", "0", "--write-torrent", text(temp.path())]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(said(&refused).contains("same name"), "{refused:?}");
    assert!(output(&["torrent", "verify", text(&written), "--data", text(&one)]).status.success());
}

/// The bytes that a start of the seeder hashes.
fn hashed(args: &[&str]) -> u64 {
    let (_seeder, events) = seed_with_events(args);
    events.last().unwrap()["hashed"].as_u64().unwrap()
}

#[test]
fn what_is_known_is_not_hashed_again() {
    let (temp, data, torrent) = folder();
    let state = temp.path().join("state");
    let made = [text(&data), "--state", text(&state)];
    let given = [text(&torrent), "--data", text(&data), "--state", text(&state)];
    for args in [&made[..], &given] {
        assert_eq!(hashed(args), 12_000_001);
        assert_eq!(hashed(args), 0, "nothing has changed");
        assert_eq!(hashed(&[args, &["--check"]].concat()), 12_000_001);
    }
    fs::write(data.join("small"), "t").unwrap();
    assert_eq!(hashed(&made), 12_000_001, "a file has changed");
    let refused = output(&[&["seed"], &given[..], &["--port", "0"]].concat());
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("torrent verify"), "{refused:?}");
}

#[test]
fn a_folder_of_two_names_is_remembered_under_both() {
    let (temp, data, _) = folder();
    let (link, state) = (temp.path().join("link"), temp.path().join("state"));
    std::os::unix::fs::symlink(&data, &link).unwrap();
    for expected in [12_000_001, 0] {
        for (path, name) in [(&data, "data"), (&link, "link")] {
            let (_seeder, events) = seed_with_events(&[text(path), "--state", text(&state)]);
            assert_eq!(events[1]["name"], name);
            assert_eq!(events[1]["hashed"], expected, "{name}");
        }
    }
    assert_eq!(hashed(&[text(&data), "--state", text(&state), "--canonical"]), 12_000_001);
    assert_eq!(hashed(&[text(&link), "--state", text(&state), "--canonical"]), 0, "the name is not in it");
}

#[test]
fn a_state_that_cannot_be_read_means_hashing_and_a_word() {
    let (temp, data, _) = folder();
    let state = temp.path().join("state");
    let args = [text(&data), "--state", text(&state)];
    hashed(&args);
    for entry in fs::read_dir(state.join("seed")).unwrap() {
        fs::write(entry.unwrap().path(), "{\"version\":0}\n").unwrap();
    }
    let mut running =
        Running::start(&[&["seed"], &args[..], &["--bind", "127.0.0.1", "--port", "0", "--json"]].concat());
    let events = running.until(|event| event["event"] == "torrent");
    assert_eq!(events.last().unwrap()["hashed"], 12_000_001);
    running.signal(Signal::TERM);
    running.until(|_| false);
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "a signal is how a seeder ends");
    assert!(said.contains("another version"), "{said}");
}

#[test]
fn files_lie_beside_their_torrent_and_in_a_folder_of_its_name() {
    let (temp, data, torrent) = folder();
    let (_seeder, events) = seed_with_events(&[text(&torrent)]);
    assert_eq!(kinds(&events), ["listening", "torrent"]);
    let out = temp.path().join("out");
    let (seeder, _) = seed_with_events(&[text(&torrent), "--data", text(temp.path())]);
    let got = output(&get(&torrent, &out, &seeder, &[]));
    assert!(got.status.success(), "{got:?}");
    assert_eq!(fs::read(out.join("small")).unwrap(), fs::read(data.join("small")).unwrap());
}

#[test]
fn who_shares_for_a_ratio_ends_when_it_is_reached() {
    let (temp, data, torrent) = folder();
    let (first, second) = (temp.path().join("first"), temp.path().join("second"));
    let seeder = seed(&[text(&torrent), "--data", text(&data)]);
    let mut middle = Running::start(&get(&torrent, &first, &seeder, &["--seed-ratio", "1", "--json"]));
    let events = middle.until(|event| event["event"] == "complete");
    drop(seeder);
    let address = events[1]["addresses"][0].as_str().unwrap();
    let got = output(&["get", text(&torrent), "-o", text(&second), "--peer", address, "--bind", "127.0.0.1"]);
    assert!(got.status.success(), "{got:?}");
    middle.until(|_| false);
    assert_eq!(middle.end().0, Some(0));
    assert_eq!(names(&first), ["empty", "small", "sub"]);
}

#[test]
fn who_shares_for_a_time_or_is_stopped_then_has_succeeded() {
    let (temp, data, torrent) = folder();
    let seeder = seed(&[text(&torrent), "--data", text(&data)]);
    let began = Instant::now();
    let timed = output(&get(&torrent, &temp.path().join("a"), &seeder, &["--seed-after=1s"]));
    assert!(timed.status.success(), "{timed:?}");
    assert!(began.elapsed() >= Duration::from_secs(1), "it shared for no more than {:?}", began.elapsed());
    let out = temp.path().join("b");
    let mut endless = Running::start(&get(&torrent, &out, &seeder, &["--seed-after", "--json"]));
    endless.until(|event| event["event"] == "complete");
    endless.signal(Signal::INT);
    endless.until(|_| false);
    assert_eq!(endless.end().0, Some(0));
    assert_eq!(names(&out), ["empty", "small", "sub"]);
}

#[test]
fn files_without_a_journal_are_hashed_and_what_is_good_is_kept() {
    let (temp, data, torrent) = folder();
    let seeder = seed(&[text(&torrent), "--data", text(&data)]);
    let out = temp.path().join("out");
    fs::create_dir_all(out.join("sub")).unwrap();
    fs::copy(data.join("sub/big"), out.join("sub/big")).unwrap();
    damage(&out.join("sub/big"), 7_000_000);
    let mut running = Running::start(&get(&torrent, &out, &seeder, &["--json"]));
    let events = running.until(|_| false);
    assert_eq!(running.end().0, Some(0));
    let last = events.iter().rfind(|event| event["event"] == "progress").unwrap();
    assert!(last["downloaded"].as_u64().unwrap() < 2_000_000, "one bad piece, and the small file: {last}");
    assert_eq!(fs::read(out.join("sub/big")).unwrap(), fs::read(data.join("sub/big")).unwrap());
}

/// Another bit, with the same size and the same time.
fn damage(path: &Path, at: usize) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn check_finds_what_the_journal_does_not() {
    let (temp, data, _) = folder();
    let (torrent, out) = (temp.path().join("small.torrent"), temp.path().join("out"));
    let create = ["torrent", "create", text(&data), "-l", "16Ki", "-o", text(&torrent)];
    assert!(output(&create).status.success());
    let seeder = seed(&[text(&torrent), "--data", text(&data)]);
    let (good, got) = (data.join("sub/big"), out.join("sub/big"));
    // Each is killed when it has everything, so that the journal stays.
    let to_the_end = |more: &[&str]| {
        let mut running = Running::start(&get(&torrent, &out, &seeder, more));
        running.until(|event| event["event"] == "complete");
        running.signal(Signal::KILL);
        running.end();
        fs::read(&got).unwrap() == fs::read(&good).unwrap()
    };
    let share = ["--seed-after", "--json"];
    assert!(to_the_end(&share));
    // Between two of the pieces that are looked at in any case.
    damage(&got, 5 << 14);
    assert!(!to_the_end(&share), "the journal is believed");
    assert!(to_the_end(&[&share[..], &["--check"]].concat()));
}

#[test]
fn what_fails_is_said_once_and_a_tracker_without_its_path() {
    let (temp, data, _) = folder();
    let torrent = temp.path().join("it.torrent");
    assert!(output(&["torrent", "create", text(&data), "-o", text(&torrent)]).status.success());
    let seeder = seed(&[text(&torrent), "--data", text(&data), "--upload-limit", "3M"]);
    for (option, url, expected) in [
        ("--tracker", "http://127.0.0.1:9/passkey/announce", "tracker 127.0.0.1:9: "),
        ("--web-seed", "http://127.0.0.1:9/files/", "web seed http://127.0.0.1:9/files/: "),
    ] {
        let out = temp.path().join(option);
        let got = output(&get(&torrent, &out, &seeder, &[option, url]));
        assert!(got.status.success(), "{got:?}");
        let said = said(&got);
        assert!(said.contains(expected) && !said.contains("passkey"), "{said}");
        assert_eq!(
            said.lines().count(),
            1,
            "neither a log beside it nor progress without a terminal: {said}"
        );
    }
}

/// Answers one request.
fn web_server(status: &'static str, body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        assert!(connection.read(&mut [0; 4096]).unwrap() > 0);
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        connection.write_all(head.as_bytes()).unwrap();
        connection.write_all(&body).unwrap();
    });
    format!("http://{address}/it.torrent?token=secret")
}

#[test]
fn a_torrent_comes_from_a_web_server_or_standard_input() {
    let (temp, data, torrent) = folder();
    let seeder = seed(&[text(&torrent), "--data", text(&data)]);
    let out = temp.path().join("out");
    let url = web_server("200 OK", fs::read(&torrent).unwrap());
    let got = output(&get(Path::new(&url), &out, &seeder, &["--select", "small"]));
    assert!(got.status.success(), "{got:?}");
    let file = fs::File::open(&torrent).unwrap();
    let piped = samara(&get(Path::new("-"), &out, &seeder, &["--select", "small"]))
        .stdin(Stdio::from(file))
        .output()
        .unwrap();
    assert!(piped.status.success(), "{piped:?}");

    for (status, body, expected) in [
        ("404 Not Found", "", "404"),
        ("500 Oops", "", "answered 500"),
        ("200 OK", "<html>", "usable torrent"),
    ] {
        let url = web_server(status, body.into());
        let failed = output(&get(Path::new(&url), &out, &seeder, &[]));
        assert_eq!(failed.status.code(), Some(1));
        assert!(said(&failed).contains(expected) && !said(&failed).contains("secret"), "{failed:?}");
    }
}

#[test]
fn what_cannot_be_is_exit_code_2_and_what_failed_is_1() {
    let (temp, data, torrent) = folder();
    let none = temp.path().join("none.torrent");
    assert!(output(&["torrent", "create", text(&data), "-o", text(&none)]).status.success());
    let (missing, out) = (temp.path().join("missing.torrent"), temp.path().join("out"));
    let (data, torrent, none, missing, out) =
        (text(&data), text(&torrent), text(&none), text(&missing), text(&out));
    for (args, code, expected) in [
        (&["get", none][..], 2, "--peer"),
        (&["get", torrent, "--select", "nothing"], 2, "show --files"),
        (&["get", torrent, "--index", "3"], 2, "no file 3"),
        (&["get", torrent, "--index", "2-1"], 2, "range"),
        (&["get", torrent, "--seed-ratio", "x"], 2, "ratio"),
        (&["get", torrent, "--max-peers", "0"], 2, "max-peers"),
        (&["get", torrent, "--download-limit", "0"], 2, "limit of 0"),
        (&["seed", data, "--upload-limit", "0"], 2, "limit of 0"),
        (&["seed", data, "--download-limit", "1M"], 2, "--download-limit"),
        (&["get", missing, "-o", out], 1, "missing.torrent"),
        (&["seed", missing, "--port", "0"], 1, "missing.torrent"),
        (&["seed", data, torrent, "--write-torrent", out, "--port", "0"], 2, "folder"),
        (&["seed", data, data, "--port", "0"], 1, "same torrent"),
        (&["seed", data, "--write-torrent", "-", "--port", "0"], 2, "standard output"),
    ] {
        let ended = output(args);
        assert_eq!(ended.status.code(), Some(code), "{args:?}: {ended:?}");
        assert!(said(&ended).contains(expected), "{args:?}: {}", said(&ended));
    }
    assert!(!Path::new(out).exists(), "nothing was begun");
}

#[test]
fn a_printed_magnet_link_is_all_that_others_need() {
    let (temp, data, _) = folder();
    let (_seeder, events) = seed_with_events(&[text(&data)]);
    let link = events[1]["magnet"].as_str().unwrap();
    let out = temp.path().join("out");
    let mut running = Running::start(&["get", link, "-o", text(&out), "--bind", "127.0.0.1", "--json"]);
    let got = running.until(|_| false);
    assert_eq!(running.end(), (Some(0), String::new()));
    assert_eq!(got[0]["infoHash"], events[1]["infoHash"]);
    assert_eq!(names(&out), ["empty", "small", "sub"]);
    assert_eq!(fs::read(out.join("sub/big")).unwrap(), fs::read(data.join("sub/big")).unwrap());
    // BEP 53: the second file.
    let some = temp.path().join("some");
    let got = output(&["get", &format!("{link}&so=1"), "-o", text(&some), "--bind", "127.0.0.1"]);
    assert!(got.status.success(), "{got:?}");
    assert_eq!(names(&some), ["small"]);
}

#[test]
fn a_link_that_leads_nowhere_is_told_from_one_that_is_none() {
    let (temp, ..) = folder();
    let out = text(temp.path());
    let hash = "0".repeat(40);
    for (link, part) in [
        ("magnet:?dn=x".to_owned(), "no infohash"),
        (format!("magnet:?xt=urn:btih:{hash}"), "no tracker and no peer"),
    ] {
        let got = output(&["get", &link, "-o", out]);
        assert_eq!(got.status.code(), Some(2), "{got:?}");
        assert!(said(&got).contains(part), "{}", said(&got));
    }
    let dead = format!("magnet:?xt=urn:btih:{hash}&x.pe=127.0.0.1:9&tr=http://127.0.0.1:9/passkey/announce");
    let mut running = Running::start(&["get", &dead, "-o", out, "--bind", "127.0.0.1", "--json"]);
    let events = running.until(|event| event["event"] == "error");
    let last = events.last().expect("the tracker's failure is an event");
    assert!(last["message"].as_str().unwrap().starts_with("tracker 127.0.0.1:9: "), "{last}");
    assert_eq!(last["infoHash"], hash);
    running.signal(Signal::INT);
    running.until(|_| false);
    let (code, said) = running.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.starts_with("magnet link: tracker 127.0.0.1:9: ") && !said.contains("passkey"), "{said}");
}
