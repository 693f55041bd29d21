//! `samara torrent` beside the other programs that make .torrent files: it reads and verifies what mktorrent,
//! transmission-create and torf make, and they, rtorrent and webtorrent read what it makes, all with one infohash.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::clients::{Client, Job, is_installed};
use e2e::{node, python, real, samara};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The release that loads our hybrids; later ones need a native part.
const WEBTORRENT: &str = "webtorrent@1.9.7";

/// A folder `data` of files, and where torrents of it go.
struct Place {
    temp: TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let temp = TempDir::new()?;
        let data = temp.path().join("data");
        fs::create_dir_all(data.join("sub"))?;
        fs::write(data.join("a.txt"), "short")?;
        fs::write(data.join("sub/ü b"), (0..90_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>())?;
        fs::write(data.join("sub/exact"), vec![7; 1 << 17])?;
        Ok(Self { temp })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn samara(&self, args: &[&str]) -> Result<Value> {
        let said = self.run(&samara::binary()?, &[&["torrent"], args].concat())?;
        serde_json::from_str(&said).with_context(|| said.clone())
    }

    /// Runs a program here and answers its standard output.
    fn run(&self, program: &Path, args: &[&str]) -> Result<String> {
        let output = Command::new(program).args(args).current_dir(self.temp.path()).output();
        let output = output.with_context(|| format!("{} does not start", program.display()))?;
        ensure!(output.status.success(), "{} {args:?}: {output:?}", program.display());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Whether the programs are there; if not the test is skipped aloud.
fn needs(what: &str, programs: &[&str]) -> Result<bool> {
    let missing: Vec<&str> = programs.iter().copied().filter(|program| !is_installed(program)).collect();
    if !missing.is_empty() {
        real::skip(what, &format!("these programs are needed: {missing:?}"))?;
    }
    Ok(missing.is_empty())
}

/// What transmission-show says.
fn transmission_hash(place: &Place, torrent: &str) -> Result<String> {
    let said = place.run(Path::new("transmission-show"), &[torrent])?;
    let hash = said.lines().find_map(|line| line.trim().strip_prefix("Hash: "));
    hash.map(str::to_owned).with_context(|| format!("no hash in {said}"))
}

#[test]
fn what_mktorrent_and_transmission_make_is_read_with_their_infohash_and_verifies() -> Result<()> {
    let what = "what_mktorrent_and_transmission_make_is_read_with_their_infohash_and_verifies";
    if !needs(what, &["mktorrent", "transmission-create", "transmission-show"])? {
        return Ok(());
    }
    let mktorrent =
        ["-d", "-p", "-l", "16", "-a", "http://a/x", "-a", "http://b/x,http://c/x", "-w", "http://seed/"];
    for payload in ["data", "data/sub/exact"] {
        let place = Place::new()?;
        let _made =
            place.run(Path::new("mktorrent"), &[&mktorrent, &["-o", "m.torrent", payload][..]].concat())?;
        let _made =
            place.run(Path::new("transmission-create"), &["-t", "http://a/x", "-o", "t.torrent", payload])?;
        for torrent in ["m.torrent", "t.torrent"] {
            let shown = place.samara(&["show", torrent, "--json"])?;
            ensure!(shown["infoHashV1"] == transmission_hash(&place, torrent)?, "{torrent}: {shown}");
            let data = if payload == "data" { "." } else { payload };
            let report = place.samara(&["verify", torrent, "--data", data, "--json"])?;
            ensure!(report["ok"] == true, "{torrent} of {payload}: {report}");
        }
        let shown = place.samara(&["show", "m.torrent", "--json"])?;
        ensure!(shown["trackers"] == json!([["http://a/x"], ["http://b/x", "http://c/x"]]), "{shown}");
        ensure!(shown["webSeeds"] == json!(["http://seed/"]) && shown["private"] == true, "{shown}");
    }
    Ok(())
}

/// The options that mean the same make the same `info`, byte for byte.
#[test]
fn mktorrent_and_samara_make_the_same_torrent_of_the_same_options() -> Result<()> {
    let what = "mktorrent_and_samara_make_the_same_torrent_of_the_same_options";
    if !needs(what, &["mktorrent"])? {
        return Ok(());
    }
    let place = Place::new()?;
    let common =
        ["-a", "http://a/x", "-a", "http://b/x", "-w", "http://seed/", "-n", "name", "-c", "words", "-p"];
    let theirs = [&common, &["-d", "-l", "16", "-s", "LAN", "-o", "theirs.torrent", "data"][..]].concat();
    let _made = place.run(Path::new("mktorrent"), &theirs)?;
    let ours = [
        &["create"],
        &common[..],
        &["-l", "64Ki", "--v1", "-s", "LAN", "-o", "ours.torrent", "--json", "data"],
    ];
    let ours = place.samara(&ours.concat())?;
    let theirs = place.samara(&["show", "theirs.torrent", "--json"])?;
    for key in
        ["infoHashV1", "name", "trackers", "webSeeds", "comment", "source", "private", "pieceLength", "size"]
    {
        ensure!(ours[key] == theirs[key], "{key}: {ours} {theirs}");
    }
    Ok(())
}

#[test]
fn torf_and_samara_read_what_the_other_makes() -> Result<()> {
    let Some(python) = python::torf("torf_and_samara_read_what_the_other_makes", scratch())? else {
        return Ok(());
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/torf_torrent.py");
    let place = Place::new()?;
    let torf = |job: Value| -> Result<Value> {
        Ok(serde_json::from_str(&place.run(&python, &[script, &job.to_string()])?)?)
    };
    let made =
        torf(json!({ "do": "create", "path": place.path("data"), "out": place.path("torf.torrent") }))?;
    let shown = place.samara(&["show", "torf.torrent", "--json"])?;
    ensure!(shown["infoHashV1"] == made["infohash"], "{shown}");
    ensure!(
        shown["source"] == "LAN" && shown["comment"] == "a comment" && shown["private"] == true,
        "{shown}"
    );
    ensure!(shown["trackers"] == json!([["http://a/x", "http://b/x"], ["http://c/x"]]), "{shown}");
    ensure!(place.samara(&["verify", "torf.torrent", "--json"])?["ok"] == true);

    for side in ["--v1", "--hybrid"] {
        let ours = place.samara(&["create", "data", side, "-f", "-o", "ours.torrent", "--json"])?;
        let read = torf(json!({ "do": "show", "torrent": place.path("ours.torrent") }))?;
        ensure!(read["infohash"] == ours["infoHashV1"], "{side}: {read} {ours}");
    }
    Ok(())
}

#[test]
fn transmission_reads_our_v1_torrents() -> Result<()> {
    if !needs("transmission_reads_our_v1_torrents", &["transmission-show"])? {
        return Ok(());
    }
    let place = Place::new()?;
    for payload in ["data", "data/sub/exact"] {
        let ours = place.samara(&[
            "create",
            payload,
            "--v1",
            "-f",
            "-o",
            "o.torrent",
            "-a",
            "http://a/x",
            "--json",
        ])?;
        ensure!(ours["infoHashV1"] == transmission_hash(&place, "o.torrent")?, "{ours}");
    }
    Ok(())
}

/// The file tree of BEP 52 does not tell a file from a folder with nothing but it: libtorrent drops the folder, unless there is a v1 side.
fn takes_for_one_file(payload: &str, side: &str) -> bool {
    (payload, side) == ("alone", "--v2")
}

/// The canonical torrents of a cluster are the matter of `torrent_libtorrent`; these have names, sources and folders of their own.
#[test]
fn libtorrent_opens_and_checks_what_the_command_line_makes() -> Result<()> {
    let what = "libtorrent_opens_and_checks_what_the_command_line_makes";
    let Some(python) = python::libtorrent(what, scratch())? else { return Ok(()) };
    let place = Place::new()?;
    fs::create_dir(place.path("alone"))?;
    fs::write(place.path("alone/in a folder"), vec![9; 70_000])?;
    let (mut made, mut jobs) = (Vec::new(), Vec::new());
    for payload in ["data", "alone", "data/sub/exact"] {
        for side in ["--v1", "--v2", "--hybrid"] {
            let out = format!("{}{side}.torrent", payload.replace('/', "-"));
            let options =
                ["-l", "32Ki", "-s", "LAN", "-a", "http://a/x", "-w", "http://w/", "-c", "ü", "--json"];
            made.push(place.samara(&[&["create", payload, side, "-o", &out], &options[..]].concat())?);
            let folder = if takes_for_one_file(payload, side) {
                place.path(payload)
            } else {
                place.path(payload).parent().context("a payload lies in a folder")?.to_owned()
            };
            jobs.push(json!({ "do": "show", "torrent": place.path(&out) }));
            jobs.push(json!({ "do": "check", "torrent": place.path(&out), "folder": folder }));
        }
    }
    let answers = python::ask_libtorrent(&python, &jobs)?;
    ensure!(answers.len() == jobs.len(), "{answers:?}");
    for (ours, theirs) in made.iter().zip(answers.chunks(2)) {
        let (shown, checked) = (&theirs[0], &theirs[1]);
        for (key, here) in [("v1", "infoHashV1"), ("v2", "infoHashV2"), ("pieces", "pieces")] {
            ensure!(shown[key] == ours[here], "{key}: {ours} {shown}");
        }
        let side = format!("--{}", ours["version"].as_str().unwrap_or_default());
        let dropped = takes_for_one_file(ours["name"].as_str().unwrap_or_default(), &side);
        let name = if dropped { &ours["files"][0]["path"] } else { &ours["name"] };
        ensure!(shown["name"] == *name, "name: {ours} {shown}");
        ensure!(checked["complete"] == true, "{ours} {checked}");
    }
    Ok(())
}

/// That it also downloads and seeds them is the matter of `swarm_clients` and `cluster_clients`.
#[test]
fn rtorrent_loads_our_hybrids() -> Result<()> {
    if !needs("rtorrent_loads_our_hybrids", &["rtorrent"])? {
        return Ok(());
    }
    let place = Place::new()?;
    // It refuses torrents without trackers.
    let tracker = "http://127.0.0.1:9/announce";
    let ours = place.samara(&["create", "data", "-a", tracker, "-o", "o.torrent", "--json"])?;
    let hash = ours["infoHashV1"].as_str().context("a hybrid has a v1 side")?.to_uppercase();
    let running = Client::Rtorrent.start(&Job {
        address: Ipv4Addr::LOCALHOST.into(),
        torrent: &place.path("o.torrent"),
        folder: place.temp.path(),
        scratch: &place.path("scratch"),
        python: Path::new(""),
        trackers: &[],
        network: None,
    })?;
    // What it has loaded lies in its session, under the infohash that it computed.
    let session = place.path(&format!("scratch/session/{hash}.torrent"));
    let deadline = Instant::now() + Duration::from_mins(1);
    while !session.exists() {
        ensure!(Instant::now() < deadline, "rtorrent says: {}", running.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

#[test]
fn webtorrent_loads_our_hybrids() -> Result<()> {
    let what = "webtorrent_loads_our_hybrids";
    if !needs(what, &["node", "npm"])? {
        return Ok(());
    }
    let modules = node::with_package(scratch(), WEBTORRENT)?.join("node_modules");
    let place = Place::new()?;
    for payload in ["data", "data/sub/exact"] {
        let ours = place.samara(&["create", payload, "-f", "-o", "o.torrent", "--json"])?;
        let folder = if payload == "data" { place.temp.path().to_owned() } else { place.path("data/sub") };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/webtorrent.js");
        let output = Command::new("node")
            .env("NODE_PATH", &modules)
            .args([Path::new(script), &place.path("o.torrent"), &folder])
            .output()?;
        ensure!(output.status.success(), "{output:?}");
        let loaded: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(loaded["infohash"] == ours["infoHashV1"], "{payload}: {loaded} {ours}");
        // It takes padding for files, which are not there; a single file has none.
        ensure!(payload == "data" || loaded["progress"] == 1, "{payload}: {loaded}");
    }
    Ok(())
}
