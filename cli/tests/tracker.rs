//! `samara tracker` as a user runs it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to fail")]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use common::{output, said, samara, text};
use tempfile::TempDir;

#[test]
fn its_configuration_is_read_and_what_is_wrong_with_it_is_said() {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("tracker.toml");
    fs::write(&config, "public = true\nport = 7\n").unwrap();
    let wrong = output(&["tracker", "--config", text(&config)]);
    assert_eq!(said(&wrong), format!("error: {}, line 2: `port` is no option\n", config.display()));
    assert_eq!(wrong.status.code(), Some(1));

    fs::write(&config, "public = true\nlisten = '127.0.0.1:0'\nlog-format = 'json'\n").unwrap();
    let mut tracker = samara(&["tracker", "--config", text(&config)]).stderr(Stdio::piped()).spawn().unwrap();
    let line = BufReader::new(tracker.stderr.take().unwrap()).lines().next().unwrap();
    tracker.kill().unwrap();
    tracker.wait().unwrap();
    let event: serde_json::Value = serde_json::from_str(&line.unwrap()).expect("the file wants JSON");
    assert_eq!((&event["message"], &event["public"]), (&"listening".into(), &true.into()));
}
