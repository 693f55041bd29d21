//! `samara get URL` of files that are no torrents: several processes, a real tracker, a real web server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on is to fail")]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use common::origin::Origin;
use common::{Running, output, said, samara, text};
use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const MIB: usize = 1 << 20;

/// Bytes that no compressor or hole finds a pattern in.
fn payload(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| word().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

/// `samara tracker --public`, ended with this.
struct Tracker(Child, String);

impl Tracker {
    fn start() -> Self {
        let mut child = samara(&[
            "tracker",
            "--public",
            "--listen",
            "127.0.0.1:0",
            "--udp",
            "off",
            "--log-format",
            "json",
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        // What it says later goes nowhere.
        std::thread::spawn(move || lines.for_each(drop));
        let address = first["address"].as_str().unwrap_or_else(|| panic!("{first}")).to_owned();
        Self(child, format!("http://{address}/announce"))
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

struct Site {
    temp: TempDir,
    tracker: Tracker,
    origin: Origin,
    bytes: Vec<u8>,
}

impl Site {
    fn new(len: usize, rate: u64, parts: bool) -> Self {
        let bytes = payload(len);
        let origin = Origin::start(bytes.clone(), rate, parts);
        Self { temp: TempDir::new().unwrap(), tracker: Tracker::start(), origin, bytes }
    }

    fn out(&self, machine: usize) -> PathBuf {
        self.temp.path().join(machine.to_string())
    }

    fn start(&self, machine: usize, more: &[&str]) -> Running {
        let (url, out) = (self.origin.url("model.bin"), self.out(machine));
        let get =
            ["get", &url, "-o", text(&out), "--tracker", &self.tracker.1, "--bind", "127.0.0.1", "--json"];
        Running::start(&[&get[..], more].concat())
    }

    fn sha256(&self) -> String {
        hex::encode(Sha256::digest(&self.bytes))
    }

    /// Each of these machines has the file and nothing else.
    fn check(&self, machines: impl IntoIterator<Item = usize>) {
        for machine in machines {
            assert_eq!(names(&self.out(machine)), ["model.bin"], "machine {machine}");
            assert!(
                fs::read(self.out(machine).join("model.bin")).unwrap() == self.bytes,
                "machine {machine}"
            );
        }
    }

    /// Bytes that the origin gave over those that it has.
    fn copies(&self) -> f64 {
        self.origin.sent() as f64 / self.bytes.len() as f64
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Its events, and that it ended well.
fn all_events(mut running: Running) -> Vec<Value> {
    let events = running.until(|_| false);
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}{events:#?}");
    events
}

fn event<'a>(events: &'a [Value], kind: &str) -> &'a Value {
    events.iter().find(|event| event["event"] == kind).unwrap_or_else(|| panic!("no {kind} in {events:#?}"))
}

#[test]
fn several_machines_read_the_origin_once_and_all_have_the_file() {
    let site = Site::new(48 * MIB + 12_345, 16_000_000, true);
    let running: Vec<_> = (0..4).map(|machine| site.start(machine, &["--sha256", &site.sha256()])).collect();
    let events: Vec<_> = running.into_iter().map(all_events).collect();
    site.check(0..4);
    assert!(site.copies() <= 1.01, "the origin gave {} times the file", site.copies());
    let readers =
        events.iter().filter(|events| event(events, "complete")["originBytes"].as_u64() > Some(0)).count();
    assert_eq!(readers, 1);
    let ids: Vec<_> = events.iter().map(|events| event(events, "torrent")["infoHash"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "all have made the same torrent");
}

#[test]
fn one_machine_alone_downloads_and_goes_on_after_kill_9() {
    let site = Site::new(32 * MIB, 8_000_000, true);
    let mut running = site.start(0, &[]);
    running.until(|event| event["have"].as_u64() > Some(12 * MIB as u64));
    running.kill();
    let first = site.origin.sent();
    assert!(
        names(&site.out(0)).iter().all(|name| name.starts_with('.')),
        "nothing that looks like the file is there"
    );
    all_events(site.start(0, &[]));
    site.check([0]);
    assert!(first < site.bytes.len() as u64);
    let again = site.origin.sent() - site.bytes.len() as u64;
    assert!(again <= 12_000_000, "{again} bytes were read again: more than came in the second before");
}

#[test]
fn when_the_reader_is_killed_another_reads_what_nobody_has() {
    let site = Site::new(48 * MIB, 12_000_000, true);
    let mut running: Vec<_> = (0..3).map(|machine| site.start(machine, &[])).collect();
    for machine in &mut running {
        machine.until(|event| event["have"].as_u64() > Some(8 * MIB as u64));
    }
    let reader = (0..3).find(|machine| is_reading(&running[*machine])).expect("one reads");
    running.remove(reader).kill();
    let events: Vec<_> = running.into_iter().map(all_events).collect();
    site.check((0..3).filter(|machine| *machine != reader));
    assert!(site.copies() <= 1.5, "the origin gave {} times the file: {events:#?}", site.copies());
}

/// Whether a process has a connection that brings bytes of the origin, as far as its events have said.
fn is_reading(running: &Running) -> bool {
    running.seen.iter().rfind(|event| event["event"] == "origin").is_some_and(|event| event["reads"] == true)
}

#[test]
fn wrong_bytes_are_kept_by_nobody() {
    let site = Site::new(6 * MIB, 16_000_000, true);
    let wrong = "0".repeat(64);
    let mut running: Vec<_> = (0..2).map(|machine| site.start(machine, &["--sha256", &wrong])).collect();
    for machine in &mut running {
        let events = machine.until(|_| false);
        let message = event(&events, "error")["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&wrong) && message.contains(&site.sha256()), "{message}");
    }
    for (machine, running) in running.into_iter().enumerate() {
        assert_eq!(running.end().0, Some(1));
        assert!(names(&site.out(machine)).is_empty(), "{:?}", names(&site.out(machine)));
    }
}

#[test]
fn an_origin_that_gives_no_parts_is_read_by_one_machine() {
    let site = Site::new(24 * MIB, 12_000_000, false);
    let running: Vec<_> = (0..3).map(|machine| site.start(machine, &["--fetchers", "3"])).collect();
    running.into_iter().map(all_events).for_each(drop);
    site.check(0..3);
    assert!(site.copies() <= 1.01, "the origin gave {} times the file", site.copies());
}

#[test]
fn several_that_read_read_different_parts() {
    // Stripes: each reader has one of its own.
    let site = Site::new(128 * MIB, 12_000_000, true);
    let running: Vec<_> = (0..3).map(|machine| site.start(machine, &["--fetchers", "2"])).collect();
    let events: Vec<_> = running.into_iter().map(all_events).collect();
    site.check(0..3);
    let read = |events: &Vec<Value>| event(events, "complete")["originBytes"].as_u64().unwrap();
    let much = events.iter().filter(|events| read(events) > 32 * MIB as u64).count();
    assert_eq!(much, 2, "{:?}", events.iter().map(read).collect::<Vec<_>>());
    // At the end two may begin the same stripe, and one loses what was on its way (decision 016).
    assert!(site.copies() <= 1.2, "the origin gave {} times the file", site.copies());
}

#[test]
fn machines_with_a_secret_do_not_take_the_word_of_those_without() {
    let site = Site::new(8 * MIB, 16_000_000, true);
    let secret = site.temp.path().join("secret");
    fs::write(&secret, "sixteen bytes or more").unwrap();
    let with = ["--secret-file", text(&secret)];
    let running = [site.start(0, &with), site.start(1, &with), site.start(2, &[])];
    let events = running.map(all_events);
    site.check(0..3);
    let ids: Vec<_> = events.iter().map(|events| event(events, "ingest")["ingest"].clone()).collect();
    assert!(ids[0] == ids[1] && ids[1] != ids[2], "{ids:?}");
    assert!(events.iter().flatten().all(|event| !event.to_string().contains("sixteen bytes")));
    assert!((1.99..2.02).contains(&site.copies()), "two swarms read {} times the file", site.copies());
}

#[test]
fn who_comes_late_reads_nothing() {
    let site = Site::new(32 * MIB, 8_000_000, true);
    let mut first = site.start(0, &[]);
    first.until(|event| event["have"].as_u64() > Some(4 * MIB as u64));
    let late: Vec<_> = (1..4).map(|machine| site.start(machine, &[])).collect();
    for events in late.into_iter().map(all_events) {
        assert_eq!(event(&events, "complete")["originBytes"], 0);
    }
    all_events(first);
    site.check(0..4);
    assert!(site.copies() <= 1.01, "the origin gave {} times the file", site.copies());
}

#[test]
fn what_was_read_is_a_torrent_like_any_other() {
    let site = Site::new(5 * MIB, 50_000_000, true);
    let torrent = site.temp.path().join("it.torrent");
    let mut first = site.start(0, &["--seed-after", "--write-torrent", text(&torrent)]);
    let events = first.until(|event| event["event"] == "complete");
    let link = event(&events, "torrent")["magnet"].as_str().unwrap();
    for (machine, what) in [(1, link), (2, text(&torrent))] {
        let out = site.out(machine);
        let got = output(&["get", what, "-o", text(&out), "--bind", "127.0.0.1"]);
        assert!(got.status.success(), "{}", said(&got));
        let path = String::from_utf8(got.stdout).unwrap();
        assert!(fs::read(path.trim()).unwrap() == site.bytes);
    }
    first.signal(Signal::INT);
    assert_eq!(first.end().0, Some(0));
    site.check([0]);
    assert!(site.copies() <= 1.01);
}

#[test]
fn an_interrupted_download_goes_on_and_says_so() {
    let site = Site::new(24 * MIB, 8_000_000, true);
    let mut running = site.start(0, &[]);
    running.until(|event| event["have"].as_u64() > Some(8 * MIB as u64));
    running.signal(Signal::INT);
    running.until(|_| false);
    let (code, said) = running.end();
    assert_eq!(code, Some(130), "{said}");
    all_events(site.start(0, &[]));
    site.check([0]);
    assert!(site.copies() <= 1.2, "the origin gave {} times the file", site.copies());
}

#[test]
fn an_origin_that_is_gone_for_good_is_given_up_and_the_same_command_goes_on_when_it_is_back() {
    let site = Site::new(96 * MIB, 8_000_000, true);
    let mut running: Vec<_> = (0..2).map(|machine| site.start(machine, &[])).collect();
    for machine in &mut running {
        machine.until(|event| event["have"].as_u64() > Some(8 * MIB as u64));
    }
    site.origin.is_down(true);
    let mut given_up = 0;
    for mut machine in running {
        let events = machine.until(|_| false);
        let message = events.last().unwrap()["message"].as_str().unwrap().to_owned();
        assert!(message.contains("answered 503"), "{message}");
        given_up += usize::from(message.contains("given up after 6 tries"));
        let (code, said) = machine.end();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("the same command goes on"), "{said}");
    }
    assert!(given_up > 0, "one of them may find itself alone");
    site.origin.is_down(false);
    (0..2)
        .map(|machine| site.start(machine, &[]))
        .collect::<Vec<_>>()
        .into_iter()
        .map(all_events)
        .for_each(drop);
    site.check(0..2);
    assert!(site.copies() <= 1.3, "the origin gave {} times the file", site.copies());
}

#[test]
fn what_came_of_a_version_that_is_gone_does_not_stay() {
    // Three requests, of which the second comes after eight seconds: it is seen at the next one that the file is another.
    let site = Site::new(160 * MIB, 8_000_000, true);
    let mut running: Vec<_> = (0..2).map(|machine| site.start(machine, &[])).collect();
    for machine in &mut running {
        machine.until(|event| event["have"].as_u64() > Some(8 * MIB as u64));
    }
    site.origin.changes();
    for (machine, mut running) in running.into_iter().enumerate() {
        running.until(|_| false);
        let (code, said) = running.end();
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("has changed while it was read") && said.contains("nothing of it is kept"),
            "{said}"
        );
        assert!(names(&site.out(machine)).is_empty(), "{:?}", names(&site.out(machine)));
    }
    all_events(site.start(0, &[]));
    site.check([0]);
}

#[test]
fn a_server_that_is_busy_at_the_start_is_asked_again_when_it_says() {
    let site = Site::new(MIB, 50_000_000, true);
    site.origin.is_busy_for(3);
    let mut running = site.start(0, &[]);
    running.until(|_| false);
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("answered 429; it is asked again in 1 s"), "{said}");
    site.check([0]);
}

#[test]
fn a_server_that_does_not_say_how_long_the_file_is_is_told_from_a_torrent_that_is_none() {
    let site = Site::new(MIB, 50_000_000, true);
    site.origin.hides_length();
    let refused = output(&["get", &site.origin.url("model.bin"), "-o", text(&site.out(0))]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("does not say how long it is"), "{}", said(&refused));
}

#[test]
fn what_cannot_be_is_said_before_anything_is_read() {
    let site = Site::new(MIB, 50_000_000, true);
    let short = site.temp.path().join("short");
    fs::write(&short, "0123456789").unwrap();
    let url = site.origin.url("model.bin");
    for (options, part) in [
        (&["--secret-file", text(&short)][..], "16 bytes"),
        (&["--select", "*"], "--select"),
        (&["--web-seed", "http://127.0.0.1:9/"], "--web-seed"),
        (&["--check"], "--check"),
        (&["--fetchers", "9"], "1 to 8"),
        (&["--sha256", "12"], "64 hexadecimal digits"),
    ] {
        let out = site.out(0);
        let refused = output(&[&["get", &url, "-o", text(&out)], options].concat());
        assert_eq!(refused.status.code(), Some(2), "{options:?}: {}", said(&refused));
        assert!(said(&refused).contains(part), "{options:?}: {}", said(&refused));
        assert!(!said(&refused).contains("0123456789"));
    }
    let nowhere = output(&["get", &site.origin.url(""), "-o", text(&site.out(0))]);
    assert_eq!(nowhere.status.code(), Some(2), "{}", said(&nowhere));
    fs::create_dir(site.out(1)).unwrap();
    fs::write(site.out(1).join("model.bin"), "mine").unwrap();
    let refused = output(&["get", &url, "-o", text(&site.out(1))]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("is there already"), "{}", said(&refused));
    assert_eq!(fs::read(site.out(1).join("model.bin")).unwrap(), b"mine");
    assert!(site.origin.sent() <= 1000, "{} bytes were read", site.origin.sent());
}
