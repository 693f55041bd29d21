//! The `samara` command as a user runs it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod origin;

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// What it remembers goes to a folder of the tests.
pub fn samara(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samara"));
    command.args(args).stdin(Stdio::null()).env("XDG_STATE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

pub fn output(args: &[&str]) -> Output {
    samara(args).output().unwrap()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with some files, and the torrent of it.
pub fn folder() -> (TempDir, PathBuf, PathBuf) {
    let temp = TempDir::new().unwrap();
    let data = temp.path().join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::write(data.join("empty"), "").unwrap();
    fs::write(data.join("sub/big"), (0..3_000_000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>())
        .unwrap();
    fs::write(data.join("small"), "s").unwrap();
    let torrent = temp.path().join("data.torrent");
    let made = output(&[
        "torrent",
        "create",
        text(&data),
        "-o",
        text(&torrent),
        "-a",
        "http://127.0.0.1:9/announce",
    ]);
    assert!(made.status.success(), "{made:?}");
    (temp, data, torrent)
}

/// A seeder, killed when it goes out of scope, and its address. Its further events fit into the pipe for longer than any test takes.
pub struct Seeder(Running, pub String);

impl Drop for Seeder {
    fn drop(&mut self) {
        self.0.child.kill().ok();
        self.0.child.wait().ok();
    }
}

/// A seeder on a free port of loopback that has all its torrents ready.
pub fn seed(args: &[&str]) -> Seeder {
    seed_with_events(args).0
}

/// The same, with its events up to the last torrent.
pub fn seed_with_events(args: &[&str]) -> (Seeder, Vec<Value>) {
    let mut running =
        Running::start(&[&["seed"], args, &["--bind", "127.0.0.1", "--port", "0", "--json"]].concat());
    let mut events = running.until(|event| event["event"] == "progress");
    events.pop();
    let address = events[0]["address"].as_str().expect("a seeder says where it listens").to_owned();
    (Seeder(running, address), events)
}

/// A command whose events are followed.
pub struct Running {
    pub child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// All events so far.
    pub seen: Vec<Value>,
}

impl Running {
    pub fn start(args: &[&str]) -> Self {
        let mut child = samara(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, seen: Vec::new() }
    }

    /// All events up to one that is as wanted, or to the last.
    pub fn until(&mut self, is_last: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut events = Vec::new();
        for line in self.lines.by_ref() {
            let event: Value = serde_json::from_str(&line.unwrap()).expect("each line is an event");
            self.seen.push(event.clone());
            events.push(event);
            if events.last().is_some_and(&is_last) {
                break;
            }
        }
        events
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its exit code, and what it said to standard error.
    pub fn end(self) -> (Option<i32>, String) {
        let ended = self.child.wait_with_output().unwrap();
        (ended.status.code(), said(&ended))
    }
}
